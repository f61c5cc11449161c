"""Simulations that judge a fit although it was made on them."""

import numpy as np
import pytest
import reference

from imnn_tf import IMNN


def imnn_of(fiducial, derivative, validation, **options):
    return IMNN(
        θ_fid=reference.THETA_FID,
        δθ=reference.DELTA_THETA,
        fiducial=fiducial,
        derivative=derivative,
        validation_fiducial=validation[0],
        validation_derivative=validation[1],
        model=reference.dense_model(width=8),
        verbose=False,
        **options,
    )


@pytest.fixture
def sets():
    return reference.simulations(0, 60), reference.simulations(1, 60)


@pytest.mark.parametrize("options", [{}, {"cache": False}])
def test_a_validation_set_of_training_simulations_is_warned_of(sets, caplog, options):
    training, other = sets
    imnn_of(*training, other, **options)
    assert "had no part" not in caplog.text
    imnn_of(*training, training, **options)
    assert "`validation_fiducial` should hold simulations that had no part in the" in caplog.text
    assert "60 of 60 that were compared are in the training set too" in caplog.text
    assert "`validation_derivative` should hold" in caplog.text or options


def test_a_part_of_the_training_set_is_found_in_any_order(sets, caplog):
    training, other = sets
    mixed = np.concatenate([other[0][:40], training[0][50:20:-1]])
    imnn_of(*training, (mixed, other[1]))
    assert "30 of 70 that were compared" in caplog.text
    assert "`validation_derivative`" not in caplog.text


def test_simulations_of_few_values_may_repeat(caplog):
    rng = np.random.default_rng(0)
    sets = [
        (rng.integers(0, 2, (60, 3)) @ np.eye(3, 10), np.tile(rng.normal(size=10), (2, 2, 2, 1)))
        for _ in range(2)
    ]
    imnn_of(*sets[0], sets[1])
    assert "had no part" not in caplog.text
    imnn_of(*sets[0], sets[0])
    assert "60 of 60" in caplog.text


def test_information_of_simulations_that_were_fitted_is_warned_of(sets, caplog):
    training, other = sets
    imnn = imnn_of(*training, other)
    imnn.evaluate(*reference.simulations(2, 60))
    assert "had no part" not in caplog.text
    imnn.evaluate(*training)
    assert "`fiducial` should hold simulations that had no part in the fit" in caplog.text
    imnn.evaluate(*other)
    assert "60 of 60 that were compared are in the validation set too" in caplog.text
