"""Truncated Gaussians as standard normal numbers, and their regression on summaries."""

import numpy as np
import pytest
from scipy import optimize, stats

from imnn_tf.lfi.neural import regression, truncated_normal

BOUNDS = [(-np.inf, np.inf), (-0.5, 0.3), (-40.0, 60.0), (3.0, np.inf), (-np.inf, -7.0)]
BOUNDS += [(30.0, 31.0), (-31.0, -30.0), (1.0, 50.0), (-1e-3, 1e-3)]


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_probabilities_are_those_of_the_truncated_gaussian(low, high):
    normal = np.linspace(-6, 6, 25)
    units = truncated_normal.inverse(normal, low, high)
    assert ((units >= low) & (units <= high)).all()
    # Numbers of 30 are rounded to 4e-15, which is a share of 1e-5 of a tail of 1e-9.
    np.testing.assert_allclose(truncated_normal.forward(units, low, high), normal, atol=1e-4)
    exact = stats.truncnorm(low, high)
    np.testing.assert_allclose(exact.logcdf(units), stats.norm.logcdf(normal), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(exact.logsf(units), stats.norm.logsf(normal), rtol=1e-4, atol=1e-6)
    slope = truncated_normal.log_slope(units, normal, low, high)
    density = exact.logpdf(units) - stats.norm.logpdf(normal)
    np.testing.assert_allclose(slope, density, rtol=1e-5, atol=1e-4)


def test_without_bounds_nothing_changes():
    units = np.linspace(-8, 8, 33)
    np.testing.assert_allclose(truncated_normal.forward(units, -np.inf, np.inf), units, atol=1e-9)
    np.testing.assert_allclose(truncated_normal.inverse(units, -np.inf, np.inf), units, atol=1e-9)


LOW, HIGH = np.array([-3.0, -np.inf]), np.array([3.0, np.inf])


def pairs(n, seed=0):
    """Summaries, and parameters from truncated Gaussians whose mean and width they tell."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    mean, std = 0.3 + 1.5 * x[:, 0], np.exp(-0.5 + 0.2 * x[:, 1])
    bounded = stats.truncnorm.rvs((-3 - mean) / std, (3 - mean) / std, mean, std, random_state=rng)
    free = rng.normal(mean, std)
    return np.stack([bounded, free], axis=1), x


def test_a_regression_finds_means_and_widths():
    theta, x = pairs(10_000)
    mean, std = regression.fit(theta, x, LOW, HIGH)(x)
    # Errors of coefficients are std / sqrt(n) = 0.006, and where a box cuts a few times as much.
    exact = 0.3 + 1.5 * x[:, 0], np.exp(-0.5 + 0.2 * x[:, 1])
    error = np.stack([np.abs(mean[:, i] - exact[0]) / exact[1] for i in range(2)])
    assert (error.mean(axis=1) < [0.06, 0.03]).all()
    error = np.stack([np.abs(np.log(std[:, i] / exact[1])) for i in range(2)])
    assert (error.mean(axis=1) < [0.06, 0.03]).all()


def test_the_gradient_is_that_of_the_loss():
    theta, x = pairs(200)
    x = np.concatenate([np.ones((200, 1)), x], axis=1)
    likelihood = regression._Likelihood(LOW, HIGH)
    at = np.random.default_rng(1).normal(size=(2, 3, 2)) / 3

    def loss(flat):
        return likelihood.loss(flat.reshape(at.shape), theta, x)[0]

    gradient = likelihood.loss(at, theta, x)[1]
    numerical = optimize.approx_fprime(at.ravel(), loss, 1e-6)
    np.testing.assert_allclose(gradient.ravel(), numerical, rtol=1e-4, atol=1e-4)


def test_summaries_that_tell_nothing_get_no_weight():
    rng = np.random.default_rng(2)
    theta, x = rng.uniform(-1, 1, (300, 3)), rng.normal(size=(300, 50))
    found = regression.fit(theta, x, np.full(3, -1.0), np.full(3, 1.0))
    mean, std = found(rng.normal(size=(1000, 50)))
    # Gaussians that are about as wide as the box, which is flat up to the noise of 300 pairs.
    assert np.median(std) > 0.9
    assert np.median(np.abs(mean / std)) < 0.5


def test_widths_stay_within_what_the_pairs_have():
    theta, x = pairs(2000)
    found = regression.fit(theta, x, LOW, HIGH)
    known, far = found(x)[1], found(np.array([[0.0, -100.0], [0.0, 100.0]]))[1]
    np.testing.assert_allclose(far, [known.min(axis=0), known.max(axis=0)])
