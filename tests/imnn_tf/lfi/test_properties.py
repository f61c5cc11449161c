"""Inference against closed forms at all scales, and properties that hold for any input.

Parameters have the prior N(1, 2^2) and estimates add correlated Gaussian noise, all in some unit.
So the posterior is Gaussian.
"""

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from imnn_tf.lfi import (
    ApproximateBayesianComputation,
    GaussianApproximation,
    Marginals,
    PopulationMonteCarlo,
    Posterior,
    simulate,
)

LEVELS = np.array([0.68, 0.95, 0.99])
# Powers of two over 30 decades: multiplying by them rounds nothing.
UNITS = [2.0**-50, 1.0, 2.0**50]
DIMENSIONS = [1, 2, 5, 10]
properties = settings(max_examples=20, deadline=None, derandomize=True, database=None)


class GaussianPrior(NamedTuple):
    """N(1, 2^2) for each of `p` parameters in some unit, with a density that is off by a factor."""

    p: int
    unit: float
    constant: float = 0.0

    @property
    def event_shape(self):
        return (self.p,)

    def sample(self, n, seed=None):
        draws = np.random.default_rng(seed).normal(size=(n, self.p))
        return self.unit * (1 + 2 * draws)

    def log_prob(self, x):
        standard = (x / self.unit - 1) / 2
        norm = self.p * np.log(2 * self.unit * np.sqrt(2 * np.pi))
        return self.constant - norm - (standard**2).sum(axis=-1) / 2


class Problem:
    """Estimates with Gaussian noise, the Gaussian prior, and the posterior in closed form."""

    def __init__(self, p, correlation=0.5, unit=1.0, constant=0.0):
        self.unit = unit
        self.noise = (1 - correlation) * np.eye(p) + correlation
        self.prior = GaussianPrior(p, unit, constant)
        self.target = unit * np.linspace(-0.5, 0.5, p)[np.newaxis]
        self.fisher = np.linalg.inv(self.noise) / unit**2
        self.scale = np.linalg.cholesky(self.noise)
        whole = self.noise + 4 * np.eye(p)
        gain = np.linalg.solve(whole, 4 * np.eye(p)).T
        self.mean = unit * (1 + gain @ (self.target[0] / unit - 1))
        self.covariance = unit**2 * (np.eye(p) - gain) * 4
        self.std = np.sqrt(np.diag(self.covariance))
        self.log_evidence = stats.multivariate_normal(np.ones(p), whole).logpdf(
            self.target[0] / unit
        ) - p * np.log(unit)

    def simulator(self, theta, rng):
        return theta + self.unit * rng.normal(size=theta.shape) @ self.scale.T

    def make(self, method, **options):
        if method is not GaussianApproximation:
            options = {"simulator": self.simulator, "seed": 4, "progress": False, **options}
        return method(self.target, self.prior, self.fisher, np.asarray, **options)

    def check(self, result):
        """Moments agree with the closed form to five standard errors."""
        error = 5 * self.std / np.sqrt(result.ess)
        assert (np.abs(result.mean() - self.mean) < error).all()
        # The relative error of a standard deviation of n numbers is 1 / sqrt(2 n).
        np.testing.assert_allclose(result.std(), self.std, rtol=5 / np.sqrt(2 * result.ess))


@pytest.mark.parametrize("p", DIMENSIONS)
@pytest.mark.parametrize(
    ("unit", "correlation", "constant"),
    [(1.0, 0.0, 0.0), (1.0, 0.999, 7.8), (2.0**-50, 0.999, 0.0), (2.0**50, 0.0, -7.8)],
)
def test_gaussian_approximation_is_the_closed_form(p, unit, correlation, constant):
    problem = Problem(p, correlation, unit, constant)
    method = problem.make(GaussianApproximation)
    evidence = method.log_evidence()
    np.testing.assert_allclose(evidence, problem.log_evidence + constant, atol=3e-3)
    problem.check(method.result(n=2000, seed=2))
    # Whatever the constant of the prior is, the posterior integrates to one.
    scaled = (problem.mean / unit, problem.covariance / unit**2)
    peak = stats.multivariate_normal(*scaled).pdf(scaled[0]) / unit**p
    np.testing.assert_allclose(method.posterior(problem.mean), peak, rtol=5e-3)


@pytest.mark.parametrize("p", DIMENSIONS)
@pytest.mark.parametrize("unit", UNITS)
def test_adjusted_rejection_has_the_moments_of_the_closed_form(p, unit):
    # The parameters are linear in the estimates with noise that is the same everywhere. So the
    # adjusted ones are samples of the posterior at any tolerance.
    problem = Problem(p, 0.5, unit)
    method = problem.make(ApproximateBayesianComputation)
    method(3000)
    method.accept_reject(float(np.quantile(method.distances, 0.7)))
    problem.check(method.result(adjust=True))


@pytest.mark.parametrize("p", DIMENSIONS)
@pytest.mark.parametrize(("unit", "constant"), [(1.0, 0.0), (1.0, 7.8), (2.0**-50, -7.8)])
@pytest.mark.parametrize("recycle", [True, False])
def test_population_monte_carlo_has_the_moments_of_the_closed_form(p, unit, constant, recycle):
    problem = Problem(p, 0.5, unit, constant)
    method = problem.make(PopulationMonteCarlo, recycle=recycle)
    method(500, 1000, max_simulations=5000)
    problem.check(method.result(adjust=True))


@pytest.mark.parametrize(
    ("p", "unit", "correlation"),
    [(2, 1.0, 0.0), (2, 2.0**-50, 0.999), (2, 2.0**50, 0.5), (5, 1.0, 0.0), (5, 2.0**50, 0.9)],
)
def test_contours_hold_the_share_of_the_closed_form_that_they_claim(p, unit, correlation):
    problem = Problem(p, correlation, unit)
    result = problem.make(GaussianApproximation).result(n=1000, seed=5)
    marginals = result.marginals()
    rng = np.random.default_rng(6)
    fresh = rng.multivariate_normal(problem.mean / unit, problem.covariance / unit**2, 4000)
    errors = []
    for (i, j), density in marginals.pairs.items():
        places = [np.searchsorted(marginals.points[k], unit * fresh[:, k]) for k in (i, j)]
        inside = [(place > 0) & (place < len(marginals.points[0])) for place in places]
        rows = [np.clip(place, 0, n - 1) for place, n in zip(places, density.shape, strict=True)]
        values = np.where(inside[0] & inside[1], density[rows[0], rows[1]], 0)
        heights = marginals.contour_heights(i, j, LEVELS)
        errors.append([(values >= height).mean() for height in heights] - LEVELS)
    # Shares of 1,000 samples and of 4,000 fresh draws.
    scatter = np.sqrt(LEVELS * (1 - LEVELS) * (1 / 1000 + 1 / 4000))
    assert (np.abs(np.mean(errors, axis=0)) < 3 * scatter + 0.005).all()


@pytest.mark.parametrize("method", [ApproximateBayesianComputation, PopulationMonteCarlo])
def test_results_scale_with_the_unit_to_the_last_digit(method):
    moments = []
    for unit in UNITS:
        run = Problem(2, 0.5, unit).make(method)
        if method is PopulationMonteCarlo:
            run(100, 200, max_simulations=1500)
        else:
            run(1500)
            run.accept_reject(2.0)
        for adjust in (False, True):
            result = run.result(adjust=adjust)
            moments.append([result.mean() / unit, result.std() / unit, [result.ess] * 2])
    for other in moments[2:4], moments[4:]:
        np.testing.assert_allclose(other, moments[:2], rtol=1e-9)


@properties
@given(
    data=st.data(),
    p=st.integers(1, 3),
    n=st.integers(2, 30),
    unit=st.sampled_from(UNITS),
    dtype=st.sampled_from(["float32", "float64", "int64"]),
)
def test_any_weighted_samples(data, p, n, unit, dtype):
    numbers = st.lists(st.integers(-100, 100), min_size=n * p, max_size=n * p)
    samples = np.array(data.draw(numbers)).reshape(n, p).astype(dtype)
    weights = np.array(data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))) + 0.0
    weights[0] += 1
    order = np.array(data.draw(st.permutations(range(n))))
    first = Posterior(samples, weights)
    other = Posterior(unit * samples[order].astype(float), 3 * weights[order])
    assert 1 - 1e-9 <= first.ess <= n + 1e-9
    np.testing.assert_allclose(other.ess, first.ess)
    np.testing.assert_allclose(other.mean(), unit * first.mean(), atol=1e-9 * unit)
    assert (first.mean() >= samples.min(axis=0) - 1e-9).all()
    assert (first.mean() <= samples.max(axis=0) + 1e-9).all()
    if first.ess > 1.001:
        np.testing.assert_allclose(other.std(), unit * first.std(), rtol=1e-9, atol=1e-9 * unit)
    np.testing.assert_array_equal(first.sample(9, seed=1), first.sample(9, seed=1))
    marginals = first.marginals()
    for density, widths in zip(marginals.single, marginals.widths, strict=True):
        assert density @ widths == pytest.approx(1)
    for (i, j), density in marginals.pairs.items():
        assert marginals.widths[i] @ density @ marginals.widths[j] == pytest.approx(1)
        heights = marginals.contour_heights(i, j, LEVELS)
        assert (np.diff(heights) <= 0).all()
        assert (heights > 0).all()


@properties
@given(
    p=st.integers(1, 3),
    n=st.integers(1, 40),
    batch_size=st.integers(1, 50),
    seed=st.integers(0, 2**63),
    threads=st.booleans(),
    dtype=st.sampled_from(["float32", "float64", "int32"]),
)
def test_simulations_depend_on_their_seeds_alone(p, n, batch_size, seed, threads, dtype):
    theta = np.random.default_rng(seed).integers(-9, 9, (n, p)).astype(dtype)

    def simulator(parameters, seeds):
        noise = [np.random.default_rng(each).normal(size=p) for each in seeds]
        return parameters + np.array(noise)

    one = simulate(simulator, theta, seed=seed, progress=False)
    with ThreadPoolExecutor(2) as pool:
        two = simulate(
            simulator,
            theta,
            seed=seed,
            progress=False,
            batch_size=batch_size,
            executor=pool if threads else None,
        )
    np.testing.assert_array_equal(two.x, one.x)
    assert one.ok.all()
    assert two.ok.all()


@properties
@given(
    p=st.integers(1, 3),
    seed=st.integers(0, 2**63),
    parts=st.integers(1, 6),
    batch_size=st.one_of(st.none(), st.integers(1, 400)),
)
def test_rejection_does_not_depend_on_the_order_or_the_parts_of_what_is_added(
    p, seed, parts, batch_size
):
    problem = Problem(p)
    rng = np.random.default_rng([seed, 1])  # not the numbers that the prior draws
    theta = problem.prior.sample(200, seed=seed)
    found = problem.simulator(theta, rng)
    whole, split = (problem.make(ApproximateBayesianComputation) for _ in range(2))
    whole.add(theta, found)
    order = rng.permutation(200)
    for chosen in np.array_split(order, parts):
        split.add(theta[chosen], data=found[chosen])
    tolerance = float(np.quantile(whole.distances, 0.6))
    results = []
    for method in (whole, split):
        method.accept_reject(tolerance)
        results.append([method.result(adjust=adjust) for adjust in (False, True)])
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(two.mean(), one.mean(), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(two.std(), one.std(), rtol=1e-9)
    # Equal seeds give equal draws.
    again = [
        problem.make(ApproximateBayesianComputation, seed=seed, batch_size=batch_size)
        for _ in range(2)
    ]
    for method in again:
        method(50)
    np.testing.assert_array_equal(again[0].estimates, again[1].estimates)


@properties
@given(
    seed=st.integers(0, 2**63),
    draws=st.integers(12, 40),
    batch_size=st.integers(1, 300),
    threads=st.booleans(),
)
def test_populations_depend_on_the_seed_alone(seed, draws, batch_size, threads):
    problem = Problem(2)

    def simulator(theta, seeds):
        noise = [np.random.default_rng(each).normal(size=2) for each in seeds]
        return theta + np.array(noise) @ problem.scale.T

    def run(**options):
        method = problem.make(PopulationMonteCarlo, simulator=simulator, seed=seed, **options)
        method(draws, 2 * draws, max_simulations=200)
        return method

    first = run()
    with ThreadPoolExecutor(2) as pool:
        other = run(batch_size=batch_size, executor=pool if threads else None)
    np.testing.assert_array_equal(other.parameters, first.parameters)
    np.testing.assert_array_equal(other.weighting, first.weighting)
    assert copy.deepcopy(first).stopped_by == other.stopped_by


@properties
@given(
    p=st.integers(1, 4),
    targets=st.integers(1, 3),
    shape=st.lists(st.integers(1, 3), min_size=0, max_size=3),
    dtype=st.sampled_from(["float32", "float64"]),
    unit=st.sampled_from(UNITS),
)
def test_densities_have_the_shape_of_their_points_in_any_unit(p, targets, shape, dtype, unit):
    rng = np.random.default_rng(7)
    estimates = rng.normal(size=(targets, p)).astype(dtype)
    points = rng.normal(size=(p, *shape)).astype(dtype)
    fisher = np.linalg.inv(0.5 * np.eye(p) + 0.5).astype(dtype)

    def densities(unit):
        method = GaussianApproximation(
            unit * estimates, GaussianPrior(p, unit), fisher / unit**2, np.asarray
        )
        return method.log_prob(unit * points), method.log_posterior(unit * points)

    for values, plain in zip(densities(unit), densities(1.0), strict=True):
        assert values.dtype == float
        if (p, len(shape)) != (1, 0):  # a single number is a list of points too
            assert values.shape == (targets, *shape)
        # The likelihood has one over the unit of each parameter, and the posterior that twice.
        powers = [0.0] if unit == 1 else [1.0, 2.0]
        errors = [np.abs(plain - power * p * np.log(unit) - values).max() for power in powers]
        assert min(errors) < 1e-2


@properties
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    factor=st.sampled_from([1e-300, 1.0, 1e300]),
    seed=st.integers(0, 2**32),
)
def test_marginals_of_any_grid_integrate_to_one(sizes, factor, seed):
    rng = np.random.default_rng(seed)
    points = [np.cumsum(rng.uniform(0.1, 1, size)) for size in sizes]
    density = factor * rng.uniform(0.1, 1, sizes) / 1e3
    marginals = Marginals.of_grid(density, points)
    for single, widths in zip(marginals.single, marginals.widths, strict=True):
        assert single @ widths == pytest.approx(1)
    for (i, j), pair in marginals.pairs.items():
        assert marginals.widths[i] @ pair @ marginals.widths[j] == pytest.approx(1)
