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


BOX, OPEN = (-3.0, 3.0), (-np.inf, np.inf)


def pairs(n, bounds, seed=0):
    """Inputs, and numbers from truncated Gaussians whose mean and width they tell."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    mean, std = 0.3 + 1.5 * x[:, 0], np.exp(-0.5 + 0.2 * x[:, 1])
    low, high = ((end - mean) / std for end in bounds)
    return stats.truncnorm.rvs(low, high, mean, std, random_state=rng), x


@pytest.mark.parametrize(("bounds", "most"), [(BOX, 0.06), (OPEN, 0.03)])
def test_a_regression_finds_means_and_widths(bounds, most):
    theta, x = pairs(10_000, bounds)
    found = regression.fit(theta, x, *bounds)
    mean, std = found(list(x.T))
    # Errors of coefficients are std / sqrt(n) = 0.006, and where a box cuts a few times as much.
    exact = 0.3 + 1.5 * x[:, 0], np.exp(-0.5 + 0.2 * x[:, 1])
    assert np.mean(np.abs(mean - exact[0]) / exact[1]) < most
    assert np.mean(np.abs(np.log(std / exact[1]))) < most
    # The density is that of scipy, at the means and widths found.
    low, high = ((end - mean) / std for end in bounds)
    density = stats.truncnorm.logpdf(theta, low, high, mean, std)
    np.testing.assert_allclose(found.log_prob(theta, list(x.T)), density, atol=1e-6)


@pytest.mark.parametrize("bounds", [BOX, OPEN, (-3.0, np.inf), (-np.inf, 3.0)])
def test_the_gradient_is_that_of_the_loss(bounds):
    theta, x = pairs(200, bounds)
    x = np.concatenate([np.ones((200, 1)), x], axis=1)
    likelihood = regression._Likelihood(*bounds)
    at = np.random.default_rng(1).normal(size=(2, 3)) / 3

    def loss(flat):
        return likelihood.loss(flat.reshape(at.shape), theta, x)[0]

    gradient = likelihood.loss(at, theta, x)[1]
    numerical = optimize.approx_fprime(at.ravel(), loss, 1e-6)
    np.testing.assert_allclose(gradient.ravel(), numerical, rtol=1e-4, atol=1e-4)


def test_inputs_that_tell_nothing_get_no_weight():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(300, 50))
    for _ in range(3):
        found = regression.fit(rng.uniform(-1, 1, 300), x, -1.0, 1.0)
        at = np.linspace(-1, 1, 21)
        density = found.log_prob(at[:, np.newaxis], list(rng.normal(size=(50, 1000))))
        # The slope of the logarithm has a standard error of sqrt(3 / 300) = 0.1, and so the ends of
        # the box differ by 0.2 from each other. The curvature adds as much.
        assert np.abs(density - np.log(0.5)).max() < 0.5


def test_widths_stay_within_what_the_pairs_have():
    theta, x = pairs(2000, BOX)
    found = regression.fit(theta, x, *BOX)
    known, far = found(list(x.T))[1], found([np.zeros(2), np.array([-100.0, 100.0])])[1]
    np.testing.assert_allclose(far, [known.min(), known.max()])
