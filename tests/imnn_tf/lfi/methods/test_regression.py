import numpy as np
import pytest

from imnn_tf.lfi import ApproximateBayesianComputation
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


@pytest.mark.parametrize("unit", 10.0 ** np.arange(-15, 16, 3))
@pytest.mark.parametrize(
    ("low", "high"), [(0, np.inf), (-np.inf, 20), (0, 20), (-np.inf, np.inf), (0, 1e9), (-1e9, 20)]
)
def test_adjustment_does_not_depend_on_units(unit, low, high):
    # A flat prior from 0 to 20 about an estimate of 10 with an error of 1: N(10, 1).
    rng = np.random.default_rng(4)
    theta = rng.uniform(0, 20, (40_000, 1))
    x = rng.normal(theta, 1)
    near = np.abs(x[:, 0] - 10) < 1
    theta, x, distances = theta[near], x[near], np.abs(x[near, 0] - 10)

    def adjusted(in_theta, in_x):
        bounds = {"low": np.array([low * in_theta]), "high": np.array([high * in_theta])}
        moved, weights = regression_adjusted(
            in_theta * theta, in_x * x, distances, np.array([10 * in_x]), 1.0, **bounds
        )
        mean = weights @ moved / in_theta
        return mean, np.sqrt(weights @ (moved / in_theta - mean) ** 2)

    mean, std = adjusted(unit, 1.0)
    assert abs(mean - 10) < 0.1
    assert abs(std - 1) < 0.1
    for other in ((1.0, unit), (unit, 1 / unit), (1.0, 1.0)):
        np.testing.assert_allclose(adjusted(*other), (mean, std), rtol=1e-6)


def test_estimates_of_very_different_scales_all_count():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(50, 2)) * [1e-15, 1e15]
    theta = 3 + x @ [[1e15, -2e15], [0.5e-15, 1e-15]]
    adjusted, _ = regression_adjusted(theta, x, rng.uniform(0, 1, 50), np.zeros(2), 2.0)
    np.testing.assert_allclose(adjusted, 3, atol=1e-12)


def test_a_sample_on_its_bound_goes_no_further_than_the_others():
    rng = np.random.default_rng(6)
    theta = 1e-20 * rng.uniform(1, 2, (100, 1))
    theta[0] = 0
    bounds = {"low": np.zeros(1), "high": np.array([np.inf])}
    still, _ = regression_adjusted(
        theta, np.zeros((100, 0)), np.ones(100), np.zeros(0), 2.0, **bounds
    )
    np.testing.assert_allclose(still[1:], theta[1:])
    assert still[0] == pytest.approx(theta[1:].min())


class Triangle:
    """U(theta_1 < theta_2) on the unit square."""

    event_shape = (2,)
    low, high = np.zeros(2), np.ones(2)

    def sample(self, n, seed=None):
        return np.sort(np.random.default_rng(seed).uniform(size=(n, 2)), axis=1)

    def log_prob(self, theta):
        return np.where(theta[..., 0] < theta[..., 1], np.log(2.0), -np.inf)


def test_samples_that_leave_the_support_are_dropped_and_counted(caplog):
    def simulator(theta, rng):
        return theta + 0.1 * rng.normal(size=theta.shape)

    abc = ApproximateBayesianComputation(
        np.array([[0.5, 0.5]]), Triangle(), np.eye(2) / 0.01, np.asarray, simulator, seed=1
    )
    abc(20_000)
    abc.accept_reject(3.0)
    plain, adjusted = abc.result(), abc.result(adjust=True)
    assert "% of the weight out of the support of the prior" in caplog.text
    assert Triangle().log_prob(adjusted.samples).min() > -np.inf
    assert 0.5 * len(plain) < len(adjusted) < len(plain)
    assert adjusted.weights.sum() == pytest.approx(1)
