"""Estimators whose answer for a simulation depends on others, or on none."""

import keras
import numpy as np
import pytest
import tensorflow_probability as tfp

from imnn_tf.lfi import (
    ApproximateBayesianComputation,
    GaussianApproximation,
    NeuralPosterior,
    PopulationMonteCarlo,
)

PRIOR = tfp.distributions.MultivariateNormalDiag(np.zeros(2), np.ones(2))
TARGET = np.array([[0.3, -0.2]])
SAID = "`get_estimate` must give a simulation the same estimate in any batch"


def simulator(parameters, seed):
    return parameters + np.random.default_rng(seed).normal(size=parameters.shape)


def plain(data):
    return np.asarray(data)


def centred(data):
    return data - np.mean(data, axis=0)


def standardised(data):
    return 1000 + data / (np.std(data, axis=0) + 1)


@pytest.fixture
def normalising():
    dense = keras.layers.Dense(2, kernel_initializer="ones")
    return keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization(), dense])


def abc_of(get_estimate, **options):
    return ApproximateBayesianComputation(
        TARGET, PRIOR, np.eye(2), get_estimate, simulator, seed=0, **options
    )


@pytest.mark.parametrize("get_estimate", [centred, standardised])
def test_an_estimate_that_depends_on_its_batch_is_refused(get_estimate):
    with pytest.raises(ValueError, match=SAID):
        abc_of(get_estimate).ABC(draws=50)
    pmc = PopulationMonteCarlo(TARGET, PRIOR, np.eye(2), get_estimate, simulator, seed=0)
    with pytest.raises(ValueError, match=SAID):
        pmc.PMC(draws=20, initial_draws=50, criterion=0.5)
    with pytest.raises(ValueError, match=SAID):
        NeuralPosterior(TARGET, PRIOR, get_estimate, simulator, seed=0).NPE(draws=100)
    with pytest.raises(ValueError, match=SAID):
        GaussianApproximation(np.eye(3, 2), PRIOR, np.eye(2), get_estimate)
    with pytest.raises(ValueError, match=SAID):
        abc_of(get_estimate).add(np.eye(2), data=np.eye(2))


def test_batch_normalisation_is_refused_in_training_alone(normalising, caplog):
    with pytest.raises(ValueError, match="with `training=False`"):
        abc_of(lambda data: normalising(data, training=True)).ABC(draws=50)
    abc_of(lambda data: normalising(data, training=False)).ABC(draws=50)
    assert "get_estimate" not in caplog.text


def test_estimates_of_any_scale_and_at_random_are_taken(caplog):
    rng = np.random.default_rng(0)
    for get_estimate in (
        plain,
        lambda data: 1e20 * np.asarray(data),
        lambda data: (1e4 + np.asarray(data, np.float32)).astype(np.float32),
        lambda data: np.asarray(data) + rng.normal(size=np.shape(data)),
        lambda data: np.round(data),
    ):
        abc_of(get_estimate).ABC(draws=50)
    assert "get_estimate" not in caplog.text


def test_the_estimator_may_work_in_place():
    def shifted(data):
        data += 1
        return data

    abc = ApproximateBayesianComputation(TARGET, PRIOR, np.eye(2), shifted, np.array, seed=0)
    abc.ABC(draws=50)
    np.testing.assert_allclose(abc.estimates, abc.parameters + 1)


def test_an_estimate_that_is_the_same_for_all_is_told(caplog):
    abc_of(lambda data: np.asarray(data) * [1, 0]).ABC(draws=50)
    assert caplog.text.count("gives all of 50 different simulations the same value as comp") == 1
    assert "component 1 of the estimate" in caplog.text
    caplog.clear()
    GaussianApproximation(np.zeros((20, 2)), PRIOR, np.eye(2), plain)
    assert caplog.text == ""


def test_estimates_of_which_the_square_is_no_number_are_taken():
    """The scatter of outliers beyond 1e154 is computed without their squares."""
    outliers = np.array([[0.3, -1e300], [0.1, 2e299], [0.2, 0.0]])
    method = NeuralPosterior(outliers, PRIOR, plain, simulator, seed=0)
    assert (method.estimate == outliers).all()
