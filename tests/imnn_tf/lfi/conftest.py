"""Problems with known answers."""

import numpy as np
import pytest
import tensorflow_probability as tfp

tfd = tfp.distributions


@pytest.fixture(scope="session")
def box_prior():
    """U(-10, 10) x U(0.1, 10): mean and variance of Gaussian draws."""
    return tfd.Blockwise([tfd.Uniform(-10.0, 10.0), tfd.Uniform(0.1, 10.0)])


@pytest.fixture(scope="session")
def mean_variance():
    """The estimator of the mean and variance of each row: `(n, draws)` to `(n, 2)`."""
    return lambda data: np.stack([np.mean(data, axis=1), np.var(data, axis=1)], axis=1)


@pytest.fixture
def gaussian_draws():
    """Ten draws from N(parameters[0], parameters[1]) for each row of parameters."""

    def simulator(parameters, rng):
        mean, variance = parameters[:, :1], parameters[:, 1:]
        return rng.normal(mean, np.sqrt(variance), (len(parameters), 10))

    return simulator


@pytest.fixture(scope="session")
def target():
    """Ten draws from N(3, 2) with the legacy generator's seed 37, `(1, 10)`."""
    legacy = np.random.RandomState(37)
    return legacy.normal([3.0], np.sqrt([2.0]), (10, 1)).T


@pytest.fixture(scope="session")
def other_target():
    """Ten draws from N(0, 1) with the legacy generator's seed 492, `(1, 10)`."""
    legacy = np.random.RandomState(492)
    return legacy.normal([0.0], np.sqrt([1.0]), (10, 1)).T
