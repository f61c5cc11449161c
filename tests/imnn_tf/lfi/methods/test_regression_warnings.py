"""Whether `adjust=True` says where its result is wrong, and only there."""

import numpy as np
import pytest

from imnn_tf.lfi.methods.regression import quality, regression_adjusted

SEEDS = range(5)


def adjusted(seed, n, tolerance, *, p=1, half_width=20.0, centre=0.0, summary=None):
    """Adjusts the first `n` accepted simulations; returns the weighted mean and width.

    The prior is uniform over `2 half_width` about zero, and the noise of the summary has variance
    one. The target is the noise-free simulation at `centre`.
    """
    summary = summary or (lambda theta: theta)
    rng, target = np.random.default_rng(seed), summary(np.full(p, centre))
    theta = np.empty((0, p))
    x = theta.copy()
    while len(theta) < n:
        drawn = rng.uniform(-half_width, half_width, (50_000, p))
        made = summary(drawn) + rng.normal(size=drawn.shape)
        near = np.linalg.norm(made - target, axis=1) < tolerance
        theta, x = np.concatenate([theta, drawn[near]]), np.concatenate([x, made[near]])
    theta, x = theta[:n], x[:n]
    distances = np.linalg.norm(x - target, axis=1)
    bounds = {"low": np.full(p, -half_width), "high": np.full(p, half_width)}
    samples, weights = regression_adjusted(theta, x, distances, target, tolerance, **bounds)
    mean = weights @ samples
    return mean, np.sqrt(weights @ (samples - mean) ** 2)


@pytest.mark.parametrize(
    ("n", "tolerance", "p", "half_width"),
    [
        (100, 1.0, 1, 20.0),
        (100, 2.0, 2, 20.0),
        (300, 2.0, 1, 20.0),
        (1000, 5.0, 1, 20.0),
        (1000, 2.0, 2, 20.0),
        (5000, 1.0, 2, 20.0),
        (100, 2.5, 5, 5.0),
        (1000, 2.5, 5, 5.0),
    ],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_said_where_the_posterior_is_right(caplog, seed, n, tolerance, p, half_width):
    mean, width = adjusted(seed, n, tolerance, p=p, half_width=half_width)
    assert np.abs(mean).max() < 5 / np.sqrt(n)
    assert np.abs(width - 1).max() < 0.05 + 5 / np.sqrt(2 * n)
    assert caplog.text == ""


@pytest.mark.parametrize("tolerance", [0.5, 1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_said_near_an_edge_of_the_prior(caplog, seed, tolerance):
    adjusted(seed, 1000, tolerance, p=2, half_width=5, centre=4.5)
    assert caplog.text == ""


@pytest.mark.parametrize("seed", SEEDS)
def test_few_samples_for_the_coefficients_are_told(caplog, seed):
    adjusted(seed, 10, 1.0, p=2)
    assert "fits 3 coefficients to" in caplog.text


def test_the_width_lost_to_the_coefficients_is_that_predicted():
    # Equal weights: the residuals have the share 1 - coefficients / n of the variance.
    rng, found = np.random.default_rng(0), []
    n, s, weights = 12, 2, np.full(12, 1 / 12)
    for _ in range(4000):
        x, noise = rng.normal(size=(n, s)), rng.normal(size=(n, 1))
        design = np.column_stack([np.ones(n), x])
        residuals = noise - design @ np.linalg.lstsq(design, noise, rcond=None)[0]
        found.append(weights @ residuals**2)
    measured = quality(x, residuals, weights)
    assert measured.narrowed**2 == pytest.approx(1 - (s + 1) / n)
    assert measured.effective == pytest.approx(n)
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - measured.narrowed**2) < 4 * error

    # Unequal weights, where the residuals are those of the same weights.
    weights, found = np.arange(1.0, n + 1) / 78, []
    root = np.sqrt(weights)[:, np.newaxis]
    for _ in range(4000):
        noise = rng.normal(size=(n, 1))
        residuals = noise - design @ np.linalg.lstsq(root * design, root * noise, rcond=None)[0]
        found.append(weights @ residuals**2)
    error = np.std(found) / np.sqrt(len(found))
    predicted = quality(x, residuals, weights).narrowed ** 2
    assert abs(np.mean(found) - predicted) < 4 * error


@pytest.mark.parametrize(("tolerance", "p"), [(7.0, 1), (26.0, 1), (11.0, 2)])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_target_outside_all_simulations_is_told(caplog, seed, tolerance, p):
    adjusted(seed, 300, tolerance, p=p, half_width=10, centre=15.0)
    assert "the estimate of the target lies" in caplog.text


@pytest.mark.parametrize(
    ("tolerance", "options"),
    [
        (10.0, {"half_width": 5}),  # the logit of a box
        (20.0, {"half_width": 5, "p": 2}),
        (20.0, {"half_width": 1.6, "summary": lambda theta: 10 * np.exp(theta)}),
        (5.0, {"half_width": 8, "summary": lambda theta: theta + 0.06 * theta**2}),
    ],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_tolerance_beyond_the_linear_range_is_told(caplog, seed, tolerance, options):
    adjusted(seed, 2000, tolerance, **options)
    assert "too wide for the linear regression" in caplog.text


def test_parameters_that_the_estimates_determine_are_not_noise(caplog):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(500, 2))
    theta = 3 + x @ [[1.0, -2.0], [0.5, 1.0]]
    regression_adjusted(theta, x, rng.uniform(0, 1, 500), np.zeros(2), 2.0)
    assert caplog.text == ""
