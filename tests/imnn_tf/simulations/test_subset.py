"""Updates that see some of the simulations, chosen anew for each."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf

from imnn_tf import IMNN, information
from imnn_tf.fit.passes import Summariser

N_S, N_D, PART = 30, 12, 10
DELTA = np.array([0.1, 0.2])


def numbered(exact=False):
    """Simulations that say who they are: kind, number, side and parameter."""
    fiducial = np.zeros((N_S, 4))
    fiducial[:, 1] = np.arange(N_S)
    if exact:
        derivative = np.zeros((N_D, 4, 2))
        derivative[:, 0], derivative[:, 1] = 2, np.arange(N_D)[:, None]
        return fiducial, derivative
    derivative = np.ones((N_D, 2, 2, 4))
    derivative[..., 1] = np.arange(N_D)[:, None, None]
    derivative[..., 2] = np.arange(2)[:, None]
    derivative[..., 3] = np.arange(2)
    return fiducial, derivative


def subset(exact=False, n_s=PART, seed=0, **options):
    delta = None if exact else DELTA
    whole = reference.held(*numbered(exact), delta, dtype=tf.float64, **options)
    return whole.subset(n_s, seed)


@pytest.mark.parametrize("options", [{}, {"at_once": 7}])
def test_an_update_sees_different_simulations_with_matched_derivatives(options):
    part = subset(**options)
    assert (part.n_s, part.n_d, part.n_batches) == (PART, 4, 1)
    seen = []
    for update in range(20):
        batch = part.batches(update).at(0)
        fiducial, varied = np.split(batch.data.numpy(), [PART])
        assert set(fiducial[:, 0]) == {0}
        assert set(varied[:, 0]) == {1}
        numbers = fiducial[:, 1]
        assert len(set(numbers)) == PART
        # Below in each parameter, then above, each with the same simulations in the same order.
        varied, same = varied.reshape(2, 2, 4, 4), np.zeros((2, 2, 4))
        np.testing.assert_array_equal(varied[..., 1], np.tile(varied[0, 0, :, 1], (2, 2, 1)))
        assert len(set(varied[0, 0, :, 1])) == 4
        np.testing.assert_array_equal(varied[..., 2], np.arange(2)[:, None, None] + same)
        np.testing.assert_array_equal(varied[..., 3], np.arange(2)[:, None] + same)
        seen.append(numbers)
    counts = np.bincount(np.concatenate(seen).astype(int), minlength=N_S)
    # Binomial: 20 updates that each see a third, five standard deviations.
    assert abs(counts - 20 / 3).max() < 5 * np.sqrt(20 * 2 / 9)
    assert any(set(seen[0]) != set(other) for other in seen[1:])


def test_the_same_seed_and_update_give_the_same_simulations():
    first, second, other = subset(seed=1), subset(seed=1), subset(seed=2)
    for update in (0, 7):
        data = first.batches(update).at(0).data
        np.testing.assert_array_equal(data, second.batches(update).at(0).data)
        assert np.any(data != other.batches(update).at(0).data)


def test_exact_derivatives_stay_with_their_simulations():
    part = subset(exact=True)
    for update in range(10):
        batch = part.batches(update).at(0)
        known = np.any(batch.slope_weights != 0, axis=1)
        assert known.sum() == part.n_d == 4
        np.testing.assert_array_equal(batch.slope_weights[known], np.full((4, 2), 1 / 4))
        numbers = batch.data[:, 1].numpy()
        assert len(set(numbers)) == PART
        np.testing.assert_array_equal(batch.tangents[:, 1, 0].numpy()[known], numbers[known])


def test_the_statistics_are_right_on_average():
    simulations = reference.simulations(0, 200)
    whole = reference.held(*simulations, reference.DELTA_THETA, dtype=tf.float64)
    model = reference.dense_model(width=8, dtype="float64")
    summariser, part = Summariser(model, 2), whole.subset(50, 0)
    exact = summariser.statistics(whole)
    slopes, covariances = [], []
    for update in range(400):
        total = summariser.statistics(part, update=update)
        slopes.append(total.slope)
        covariances.append(information.covariance(total.moments))
    for found, true in (
        (slopes, exact.slope),
        (covariances, information.covariance(exact.moments)),
    ):
        error = np.std(found, axis=0) / np.sqrt(len(found))
        assert np.all(np.abs(np.mean(found, axis=0) - true) < 4.5 * error)


def imnn_with(batch_size=None, external=False, **options):
    train, test = reference.simulations(0, 300), reference.simulations(1, 300)
    given = {"validation_fiducial": test[0], "validation_derivative": test[1]}
    if external:
        for role, (fiducial, derivative) in (("", train), ("validation_", test)):
            given[f"{role}external_fiducial"] = fiducial[..., :1]
            given[f"{role}external_derivative"] = derivative[..., :1]
    return IMNN(
        θ_fid=reference.THETA_FID,
        δθ=reference.DELTA_THETA,
        fiducial=train[0],
        derivative=train[1],
        model=reference.dense_model(width=16),
        verbose=False,
        **(given | options),
    )


@pytest.mark.parametrize("external", [False, True])
def test_fits_stopped_between_updates_are_the_same_fit(external):
    weights = []
    for calls in ([20], [7, 13]):
        imnn = imnn_with(external=external)
        for updates in calls:
            imnn.fit(updates, batch_size=60)
        weights.append(imnn.history["det_F"])
        assert imnn.history["val_iteration"] == [5, 10, 15, 20]
    np.testing.assert_array_equal(*weights)


def test_patience_counts_passes_over_the_simulations():
    imnn = imnn_with(optimiser=keras.optimizers.SGD(0.0))
    imnn.fit(100, patience=4, batch_size=60)
    # The first validation is the best, because nothing changes.
    assert len(imnn.history["loss"]) == 5 + 4 * 5


@pytest.mark.parametrize("batch_size", [2, 301])
def test_a_part_must_be_a_part_and_enough_for_a_covariance(batch_size):
    with pytest.raises(ValueError, match=r"`batch_size` must be from 3, .* to 300"):
        imnn_with().fit(1, batch_size=batch_size)


def test_a_part_of_simulations_on_disk_is_refused(tmp_path):
    imnn = imnn_with(cache=False)
    with pytest.raises(ValueError, match="`batch_size` must be left out where simulations are not"):
        imnn.fit(1, batch_size=100)
    assert not imnn.history["loss"]
