import numpy as np
import pytest

from imnn_tf.lfi.methods.regression import regression_adjusted

# theta ~ N(0, 4), x | theta ~ N(theta, 1): theta | x = 1 is N(0.8, 0.8).
MEAN, VARIANCE = 0.8, 0.8


@pytest.fixture(scope="module")
def accepted():
    rng = np.random.default_rng(0)
    theta = rng.normal(0, 2, (200_000, 1))
    x = rng.normal(theta, 1)
    distance = np.abs(x[:, 0] - 1)
    near = distance < 3
    return theta[near], x[near], distance[near]


def test_adjustment_undoes_a_large_tolerance(accepted):
    theta, x, distances = accepted
    assert theta.var() > 1.3 * VARIANCE
    adjusted, weights = regression_adjusted(theta, x, distances, np.array([1.0]), 3.0)
    mean = weights @ adjusted[:, 0]
    variance = weights @ (adjusted[:, 0] - mean) ** 2
    ess = 1 / (weights**2).sum()
    assert abs(mean - MEAN) < 4 * np.sqrt(VARIANCE / ess)
    assert abs(variance - VARIANCE) < 4 * VARIANCE * np.sqrt(2 / ess)


def test_kernel_is_epanechnikovs_times_the_weights(accepted):
    theta, x, distances = (values[:1000] for values in accepted)
    given = np.random.default_rng(1).uniform(size=1000)
    _, weights = regression_adjusted(theta, x, distances, np.ones(1), 3.0, weights=given)
    expected = given * (1 - (distances / 3) ** 2)
    np.testing.assert_allclose(weights, expected / expected.sum())


def test_slope_is_that_of_weighted_least_squares():
    # Parameters that are linear in the estimates are all moved to one point.
    rng = np.random.default_rng(2)
    x = rng.normal(size=(50, 2))
    theta = 3 + x @ [[1.0, -2.0], [0.5, 1.0]]
    adjusted, _ = regression_adjusted(theta, x, rng.uniform(0, 1, 50), np.zeros(2), 2.0)
    np.testing.assert_allclose(adjusted, 3, atol=1e-12)


def test_bounds_hold_whatever_the_slope():
    rng = np.random.default_rng(3)
    theta = np.column_stack(
        [rng.uniform(0, 1, 500), rng.exponential(size=500), -rng.exponential(size=500)]
    )
    theta[0] = [0.0, 0.0, 0.0]
    x = theta + 0.1 * rng.normal(size=(500, 3))
    bounds = {"low": np.array([0, 0, -np.inf]), "high": np.array([1, np.inf, 0])}
    adjusted, _ = regression_adjusted(
        theta, x, rng.uniform(0, 2, 500), np.array([2.0, 9.0, -9.0]), 2.0, **bounds
    )
    assert np.isfinite(adjusted).all()
    assert ((adjusted >= bounds["low"]) & (adjusted <= bounds["high"])).all()
    # Without estimates there is no slope, so parameters must come back from the line unchanged.
    still, _ = regression_adjusted(
        theta[1:], np.zeros((499, 0)), np.ones(499), np.zeros(0), 2.0, **bounds
    )
    np.testing.assert_allclose(still, theta[1:], rtol=1e-9, atol=1e-9)


def test_too_few_samples():
    with pytest.raises(ValueError, match="must be more than 2"):
        regression_adjusted(np.ones((2, 1)), np.ones((2, 1)), np.zeros(2), np.zeros(1), 1.0)
