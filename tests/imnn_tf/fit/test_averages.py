"""Averages of the weights over updates, which an optimiser may keep."""

import keras
import numpy as np
import pytest
import reference

from imnn_tf import IMNN


def fitted(optimiser, *calls, **options):
    train, test = reference.simulations(0, 300), reference.simulations(1, 300)
    imnn = IMNN(
        θ_fid=reference.THETA_FID,
        δθ=reference.DELTA_THETA,
        fiducial=train[0],
        derivative=train[1],
        validation_fiducial=test[0],
        validation_derivative=test[1],
        model=reference.dense_model(width=16),
        optimiser=optimiser,
        verbose=False,
    )
    for updates in calls:
        imnn.fit(updates, **options)
    return imnn


def adam(momentum=0.8):
    return keras.optimizers.Adam(3e-3, use_ema=True, ema_momentum=momentum)


def test_the_average_is_validated_and_kept():
    """An independent average of the weights that plain Adam passes through."""
    plain = keras.optimizers.Adam(3e-3)
    record = []
    every = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: record.append(imnn_plain.model.get_weights())
    )
    imnn_plain = fitted(plain)
    imnn_plain.fit(12, callbacks=[every])
    average = record[0]
    for weights in record[1:]:
        average = [0.8 * a + 0.2 * w for a, w in zip(average, weights, strict=True)]
    imnn = fitted(adam(), 12)
    np.testing.assert_allclose(imnn.history["det_F"], imnn_plain.history["det_F"], rtol=1e-5)
    assert imnn._state.best.update == 12
    for got, expected in zip(imnn.model.get_weights(), average, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(imnn.F), imnn.history["val_det_F"][-1], rtol=1e-4)


def test_updates_go_on_from_the_weights_and_not_from_their_average():
    whole, parts = fitted(adam(), 20), fitted(adam(), 8, 12)
    np.testing.assert_array_equal(whole.history["val_det_F"], parts.history["val_det_F"])
    for ours, theirs in zip(whole.model.get_weights(), parts.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("updates_per_call", [1, 7])
def test_the_number_of_updates_in_a_call_does_not_matter(updates_per_call):
    one, other = fitted(adam(), 21), fitted(adam(), 21, steps_per_execution=updates_per_call)
    np.testing.assert_array_equal(one.history["val_det_F"], other.history["val_det_F"])
