"""The map of parameters onto the real line."""

import itertools

import numpy as np
import pytest
from scipy import integrate, stats

from imnn_tf.lfi.neural.parameter_space import ParameterSpace, spread

INFINITE = np.inf
# The bounds of a prior, and the prior.
PRIORS = {
    "box": (-10.0, 30.0, stats.uniform(-10, 40)),
    "narrow in its box": (0.0, 1.0, stats.beta(30, 900)),
    "above": (2.0, INFINITE, stats.gamma(0.7, loc=2, scale=3)),
    "log-normal": (0.0, INFINITE, stats.lognorm(2.0, scale=1e-9)),
    "below": (-INFINITE, 5.0, stats.truncnorm(-np.inf, 1, loc=3, scale=2)),
    "unbounded": (-INFINITE, INFINITE, stats.norm(4, 0.01)),
    "heavy": (-INFINITE, INFINITE, stats.cauchy(7, 3)),
}


def space_of(name, n=4000, unit=1.0):
    low, high, prior = PRIORS[name]
    draws = prior.rvs((n, 1), random_state=np.random.default_rng(0)) * unit
    return ParameterSpace(np.array([low * unit]), np.array([high * unit]), draws), draws, prior


@pytest.mark.parametrize("name", PRIORS)
def test_the_map_is_a_bijection_of_unit_spread(name):
    space, draws, _ = space_of(name)
    mapped = space.forward(draws)
    assert 0.7 < mapped.std() < 2.5
    assert np.abs(np.median(mapped)) < 0.2
    assert np.abs(mapped).max() < 20
    np.testing.assert_allclose(space.inverse(mapped), draws, rtol=1e-9)


@pytest.mark.parametrize("name", PRIORS)
def test_the_slope_is_that_of_the_map(name):
    space, draws, _ = space_of(name)
    points = np.quantile(draws, [0.01, 0.2, 0.5, 0.9, 0.99])[:, np.newaxis]
    step = 1e-6 * np.abs(points - PRIORS[name][2].median())
    step = np.maximum(step, 1e-7 * PRIORS[name][2].std() if name != "heavy" else 1e-6)
    step = np.minimum(step, 1e-4 * np.abs(points)) if name == "log-normal" else step
    slope = (space.forward(points + step) - space.forward(points - step)) / (2 * step)
    np.testing.assert_allclose(space.log_slope(points), np.log(slope[:, 0]), atol=1e-4)


@pytest.mark.parametrize("name", PRIORS)
def test_a_density_of_mapped_parameters_is_one_within_the_bounds(name):
    space = space_of(name)[0]

    def density(parameter):
        point = np.array([[parameter]])
        log_slope = space.log_slope(point)[0]
        return np.exp(stats.norm.logpdf(space.forward(point)[0, 0]) + log_slope)

    # Between the images of -3 and 3. Closer to an end of a box there are hardly any numbers.
    knots = space.inverse(np.linspace(-3, 3, 49)[:, np.newaxis])[:, 0]
    parts = [integrate.quad(density, *ends, limit=200)[0] for ends in itertools.pairwise(knots)]
    assert abs(sum(parts) - (2 * stats.norm.cdf(3) - 1)) < 1e-5
    assert knots[0] >= PRIORS[name][0]
    assert knots[-1] <= PRIORS[name][1]


def test_the_middle_of_a_box_stays_as_it_is():
    space, _, _ = space_of("box")
    points = np.linspace(-6, 26, 33)[:, np.newaxis]
    mapped = space.forward(points)
    assert np.ptp(np.diff(mapped, axis=0)) < 1e-12
    assert (
        np.diff(space.forward(np.array([[-9.9], [-9.8]])), axis=0) > 5 * np.diff(mapped[:2, 0]) / 10
    )


@pytest.mark.parametrize("unit", [1e-30, 1e9, 1e30])
@pytest.mark.parametrize("name", PRIORS)
def test_units_change_nothing(name, unit):
    (space, draws, _), (scaled, scaled_draws, _) = space_of(name), space_of(name, unit=unit)
    np.testing.assert_allclose(scaled.forward(scaled_draws), space.forward(draws), atol=1e-8)
    slopes = scaled.log_slope(scaled_draws) + np.log(unit)
    np.testing.assert_allclose(slopes, space.log_slope(draws), atol=1e-7)


@pytest.mark.parametrize("name", PRIORS)
def test_nothing_leaves_the_bounds(name):
    space, _, _ = space_of(name)
    low, high, _ = PRIORS[name]
    points = space.inverse(np.array([[-1e6], [-50.0], [50.0], [1e6]]))
    assert np.isfinite(points).all()
    assert ((low <= points) & (points <= high)).all()
    ends = np.array([[end] for end in (low, high) if np.isfinite(end)]).reshape(-1, 1)
    assert np.isfinite(space.forward(ends)).all()
    assert np.isfinite(space.log_slope(ends)).all()


def test_the_spread_ignores_outliers_and_equal_values():
    rng = np.random.default_rng(1)
    normal = rng.normal(0, 2, 10_000)
    outliers = np.where(rng.uniform(size=10_000) < 0.1, 1e30, normal)
    zeros = np.where(rng.uniform(size=10_000) < 0.6, 0.0, normal)
    found = spread(np.stack([normal, outliers, zeros, np.full(10_000, 3.0)], axis=1))
    assert abs(found[0] - 2) < 0.1
    assert abs(found[1] - 2) < 0.5
    assert abs(found[2] - 2 * 0.674) < 0.1  # the median distance of normal draws from zero
    assert found[3] == 1
