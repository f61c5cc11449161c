"""The map of parameters onto the real line."""

import functools
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


class OneObservation:
    """The map of one parameter at one observation, whose summary tells nothing of it."""

    def __init__(self, name, unit=1.0, n=4000):
        low, high, self.prior = PRIORS[name]
        self.draws = unit * self.prior.rvs((n, 1), random_state=np.random.default_rng(0))
        scaled = np.random.default_rng(1).normal(size=(n, 1))
        bounds = np.array([low * unit]), np.array([high * unit])
        self.coordinates = ParameterSpace(*bounds, self.draws, scaled).at(np.zeros((1, 1)))

    def forward(self, points):
        return self.coordinates.forward(points[np.newaxis])[0]

    def inverse(self, points):
        return self.coordinates.inverse(points[np.newaxis])[0]

    def log_slope(self, points):
        return self.coordinates.log_slope(points[np.newaxis])[0]


@pytest.mark.parametrize("name", PRIORS)
def test_the_map_is_a_bijection_of_unit_spread(name):
    space = OneObservation(name)
    mapped = space.forward(space.draws)
    assert 0.7 < mapped.std() < 1.6
    assert np.abs(np.median(mapped)) < 0.3
    assert np.abs(mapped).max() < 10
    np.testing.assert_allclose(space.inverse(mapped), space.draws, rtol=1e-9)


@pytest.mark.parametrize("name", PRIORS)
def test_the_slope_is_that_of_the_map(name):
    space = OneObservation(name)
    points = np.quantile(space.draws, [0.01, 0.2, 0.5, 0.9, 0.99])[:, np.newaxis]
    step = 1e-6 * np.abs(points - space.prior.median())
    step = np.maximum(step, 1e-7 * space.prior.std() if name != "heavy" else 1e-6)
    step = np.minimum(step, 1e-4 * np.abs(points)) if name == "log-normal" else step
    slope = (space.forward(points + step) - space.forward(points - step)) / (2 * step)
    np.testing.assert_allclose(space.log_slope(points), np.log(slope[:, 0]), atol=1e-4)


@pytest.mark.parametrize("name", PRIORS)
def test_a_density_of_mapped_parameters_is_one_within_the_bounds(name):
    space = OneObservation(name)

    def density(parameter):
        point = np.array([[parameter]])
        return np.exp(stats.norm.logpdf(space.forward(point)[0, 0]) + space.log_slope(point)[0])

    # Between the images of -3 and 3. Closer to an end of a box there are hardly any numbers.
    knots = space.inverse(np.linspace(-3, 3, 49)[:, np.newaxis])[:, 0]
    parts = [integrate.quad(density, *ends, limit=200)[0] for ends in itertools.pairwise(knots)]
    assert abs(sum(parts) - (2 * stats.norm.cdf(3) - 1)) < 1e-5
    assert knots[0] >= PRIORS[name][0]
    assert knots[-1] <= PRIORS[name][1]


def test_a_box_with_wide_posteriors_stays_as_it_is_but_for_its_edges():
    space = OneObservation("box")
    mapped = space.forward(np.linspace(-8, 28, 37)[:, np.newaxis])
    assert np.ptp(np.diff(mapped, axis=0)) < 1e-12
    at_edge = np.diff(space.forward(np.array([[-9.9], [-9.8]])), axis=0)
    assert at_edge > 5 * np.diff(mapped[:2, 0]) / 10


@functools.cache
def noisy_box():
    """Two uniform parameters, with noise that is the same everywhere or grows, and their map."""
    rng = np.random.default_rng(3)
    parameters = rng.uniform(0, 10, (3000, 2))
    noise = np.stack([np.full(len(parameters), 1.5), 0.1 * np.exp(parameters[:, 0] / 5)], axis=1)
    summaries = parameters + noise * rng.normal(size=parameters.shape)
    return ParameterSpace(np.zeros(2), np.full(2, 10.0), parameters, summaries)


def test_truncated_gaussian_posteriors_become_standard_normal():
    space, rng = noisy_box(), np.random.default_rng(4)
    for first in (-1.0, 0.5, 5.0, 11.0):
        low, high = (0 - first) / 1.5, (10 - first) / 1.5
        exact = stats.truncnorm(low, high, loc=first, scale=1.5).rvs(4000, random_state=rng)
        parameters = np.stack([exact, np.full(4000, 5.0)], axis=1)
        mapped = space.at(np.array([[first, 5.0]])).forward(parameters[np.newaxis])[0, :, 0]
        # The 0.05 are for the fit to 3,000 pairs, of which few lie next to an end.
        assert stats.kstest(mapped, stats.norm.cdf).statistic < 1.63 / np.sqrt(4000) + 0.05


def test_widths_follow_the_summaries_and_the_middle_of_a_box_stays_linear():
    space = noisy_box()
    points = np.linspace(4.0, 6.0, 9)
    slopes = []
    for first in (2.0, 8.0):
        parameters = np.stack([np.full(9, first), points], axis=1)
        mapped = space.at(np.array([[first, 5.0]])).forward(parameters[np.newaxis])[0, :, 1]
        assert np.ptp(np.diff(mapped)) < 1e-3 * np.diff(mapped).mean()
        slopes.append(np.diff(mapped).mean())
    # The noise grows by exp(6 / 5). The first summary, which tells of it, is noisy itself, so the
    # logarithm of the width is less steep in it, by what the noise adds to its variance.
    steepness = 6 / 5 * (100 / 12) / (100 / 12 + 1.5**2)
    assert abs(np.log(slopes[0] / slopes[1]) - steepness) < 0.2 * steepness


def test_one_call_maps_many_observations():
    space, rng = noisy_box(), np.random.default_rng(5)
    scaled, parameters = rng.uniform(0, 10, (3, 2)), rng.uniform(0, 10, (3, 7, 2))
    mapped = space.at(scaled).forward(parameters)
    slopes = space.at(scaled).log_slope(parameters)
    for row in range(3):
        one = space.at(scaled[row : row + 1])
        np.testing.assert_allclose(one.forward(parameters[row][np.newaxis])[0], mapped[row])
        np.testing.assert_allclose(one.log_slope(parameters[row][np.newaxis])[0], slopes[row])
    np.testing.assert_allclose(space.at(scaled).forward(parameters[:, 0]), mapped[:, 0])
    np.testing.assert_allclose(space.at(scaled).inverse(mapped), parameters)


@pytest.mark.parametrize("unit", [1e-30, 1e9, 1e30])
@pytest.mark.parametrize("name", PRIORS)
def test_units_change_nothing(name, unit):
    space, scaled = OneObservation(name), OneObservation(name, unit=unit)
    # The fit stops somewhere else within its tolerance.
    np.testing.assert_allclose(scaled.forward(scaled.draws), space.forward(space.draws), atol=1e-5)
    slopes = scaled.log_slope(scaled.draws) + np.log(unit)
    np.testing.assert_allclose(slopes, space.log_slope(space.draws), atol=1e-4)


@pytest.mark.parametrize("name", PRIORS)
def test_nothing_leaves_the_bounds(name):
    space = OneObservation(name)
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
