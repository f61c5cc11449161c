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
        second = rng.normal(5.0, 0.1 * np.exp(exact / 5))
        parameters = np.stack([exact, second], axis=1)
        mapped = space.at(np.array([[first, 5.0]])).forward(parameters[np.newaxis])[0]
        # The 0.05 are for the fit to 3,000 pairs, of which few lie next to an end.
        for column in mapped.T:
            assert stats.kstest(column, stats.norm.cdf).statistic < 1.63 / np.sqrt(4000) + 0.05


def test_a_parameter_depends_on_the_one_before_it_in_mean_and_width():
    """A banana, whose second parameter follows the square of the first, becomes round."""
    rng, n = np.random.default_rng(5), 4000
    first = rng.normal(size=n)
    summary = first + 0.3 * rng.normal(size=n)
    residual = (first - summary / 1.09) / (0.3 / np.sqrt(1.09))
    second = summary + 2 * residual**2 + np.exp(0.3 * residual) * rng.normal(size=n)
    parameters, bounds = np.stack([first, second], axis=1), np.full(2, INFINITE)
    space = ParameterSpace(-bounds, bounds, parameters, summary[:, np.newaxis])
    assert list(space.gaussians) == [0, 1]
    coordinates = space.at(summary[:, np.newaxis])
    mapped = coordinates.forward(parameters)
    # Standard errors of 4,000 draws.
    assert np.abs(mapped.mean(axis=0)).max() < 4 / np.sqrt(n)
    assert np.abs(mapped.std(axis=0) - 1).max() < 4 / np.sqrt(2 * n)
    for power in (mapped[:, 0], mapped[:, 0] ** 2):
        assert abs(np.corrcoef(power, mapped[:, 1])[0, 1]) < 4 / np.sqrt(n)
        assert abs(np.corrcoef(power, mapped[:, 1] ** 2)[0, 1]) < 4 / np.sqrt(n)
    np.testing.assert_allclose(coordinates.inverse(mapped), parameters, atol=1e-9)
    # The determinant, by differences of the whole map.
    step, jacobian = 1e-6, np.empty((5, 2, 2))
    for i in range(2):
        moved = [parameters[:5] + sign * step * np.eye(2)[i] for sign in (1, -1)]
        at = space.at(summary[:5, np.newaxis])
        jacobian[:, :, i] = (at.forward(moved[0]) - at.forward(moved[1])) / (2 * step)
    expected = np.log(np.abs(np.linalg.det(jacobian)))
    np.testing.assert_allclose(coordinates.log_slope(parameters)[:5], expected, atol=1e-6)


@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_a_parameter_that_another_determines_is_mapped_on_its_own(noise):
    rng = np.random.default_rng(9)
    first = rng.normal(size=(2000, 1))
    parameters = np.hstack([first, 3 * first + noise * rng.normal(size=first.shape)])
    summaries = first + 0.5 * rng.normal(size=first.shape)
    bounds = np.full(2, INFINITE)
    coordinates = ParameterSpace(-bounds, bounds, parameters, summaries).at(summaries)
    mapped = coordinates.forward(parameters)
    np.testing.assert_allclose(mapped.std(axis=0), 1, rtol=0.1)
    np.testing.assert_allclose(coordinates.inverse(mapped), parameters, atol=1e-12)


@pytest.mark.parametrize("low", [0.0, 0.1])
def test_a_variance_in_a_box_is_mapped_by_its_logarithm(low):
    """Posteriors of a variance have a width that grows with it, and are skew."""
    rng, n = np.random.default_rng(6), 6000
    variances = rng.uniform(low, 10, (n, 1))
    summaries = np.log(variances * rng.chisquare(10, (n, 1)) / 10)
    space = ParameterSpace(np.array([low]), np.array([10.0]), variances, summaries)
    # The exact posterior of ln(variance) is that of the variance, cut at the bounds.
    for sample in (0.5, 2.0, 8.0):
        grid = np.linspace(low, 10, 20_001)[1:]
        weights = grid**-5 * np.exp(-5 * sample / grid)
        exact = np.interp((np.arange(2000) + 0.5) / 2000, np.cumsum(weights) / weights.sum(), grid)
        mapped = space.at(np.log([[sample]])).forward(exact[np.newaxis, :, np.newaxis])[0, :, 0]
        # A variance has a skewness of 2 or more here, which 0.8 would not allow.
        assert abs(mapped.mean()) < 0.2
        assert abs(mapped.std() - 1) < 0.2
        assert abs(stats.skew(mapped)) < 0.8
    ends = np.array([[[low], [10.0]]])
    at = space.at(np.zeros((1, 1)))
    assert np.isfinite(at.forward(ends)).all()
    np.testing.assert_allclose(at.inverse(at.forward(ends)), ends, atol=1e-10)


@pytest.mark.parametrize(("low", "high", "scale"), [(1e-15, 1, 1), (0, 1e8, 2), (0, 10, 1e-9)])
def test_logarithms_reach_far_below_the_end_of_a_box(low, high, scale):
    """Log-uniform parameters, and parameters in a small part of a vague box."""
    rng, n = np.random.default_rng(8), 2000
    logs = rng.uniform(np.log(low), np.log(high), (n, 1)) if low else rng.normal(size=(n, 1))
    parameters = scale * np.exp(logs)
    summaries = (logs + 0.5 * rng.normal(size=logs.shape)) / logs.std()
    bounds = np.array([float(low)]), np.array([float(high)])
    coordinates = ParameterSpace(*bounds, parameters, summaries).at(summaries)
    mapped = coordinates.forward(parameters)
    np.testing.assert_allclose(coordinates.inverse(mapped), parameters, rtol=1e-9)
    np.testing.assert_allclose(mapped.std(), 1, rtol=0.1)
    assert abs(stats.skew(mapped[:, 0])) < 0.3


def test_a_parameter_that_is_no_scale_keeps_its_unit():
    """A Gaussian location between positive bounds: a logarithm would bend its posteriors."""
    rng = np.random.default_rng(7)
    truth = rng.uniform(1, 10, (3000, 1))
    summaries = truth + 0.5 * rng.normal(size=truth.shape)
    space = ParameterSpace(np.array([1.0]), np.array([10.0]), truth, summaries)
    points = np.linspace(4.0, 6.0, 9)[np.newaxis, :, np.newaxis]
    mapped = space.at(np.full((1, 1), 5.0)).forward(points)[0, :, 0]
    np.testing.assert_allclose(np.diff(mapped), 0.5 * np.ptp(points) / 8 / 0.25, rtol=0.05)


@pytest.mark.parametrize("n", [100, 300, 3000])
@pytest.mark.parametrize("kind", ["location", "counts"])
def test_chance_and_zeros_choose_no_logarithm(kind, n):
    """Few simulations, of which some happen to be likelier, and counts, of which some are zero."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        truth = rng.uniform(0, 10, (n, 1)) if kind == "location" else rng.integers(0, 11, (n, 1))
        summaries = np.hstack([truth + rng.normal(size=(n, 1)), rng.normal(size=(n, 9))])
        space = ParameterSpace(np.zeros(1), np.full(1, 10.0), truth.astype(float), summaries)
        points = np.linspace(4.0, 6.0, 9)[np.newaxis, :, np.newaxis]
        steps = np.diff(space.at(np.full((1, 10), 5.0)).forward(points)[0, :, 0])
        assert np.ptp(steps) < 0.05 * steps.mean()


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
