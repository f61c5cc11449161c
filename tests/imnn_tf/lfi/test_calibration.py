import numpy as np
import pytest
import tarp as published
import tensorflow_probability as tfp
from scipy import stats

from imnn_tf.lfi import (
    ApproximateBayesianComputation,
    Execution,
    GaussianApproximation,
    PopulationMonteCarlo,
    Posterior,
    calibration,
)

tfd = tfp.distributions
F = np.array([[1.0, 0.3], [0.3, 0.5]])
TOLERANCE = 0.7


@pytest.fixture(scope="module")
def truths():
    """Truths from N(0, 2^2 1), and estimates of covariance F^-1 about them."""
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, (300, 2))
    return true, true + rng.multivariate_normal([0, 0], np.linalg.inv(F), 300)


def conjugate(truths, narrowing=1.0, shift=0.0):
    """Exact posteriors of the problem as weighted samples, or ones that are wrong on purpose."""
    rng = np.random.default_rng(1)
    covariance = np.linalg.inv(F + np.eye(2) / 4)
    posteriors = []
    for estimate in truths[1]:
        mean = covariance @ F @ estimate + shift
        wide = rng.multivariate_normal(mean, 1.5 * covariance, 2000)
        exact = stats.multivariate_normal(mean, narrowing * covariance).pdf(wide)
        weights = exact / stats.multivariate_normal(mean, 1.5 * covariance).pdf(wide)
        posteriors.append(Posterior(wide, weights))
    return posteriors


def verdicts(true, posteriors):
    """The least p-value of the ranks, and the largest deviations of coverage and of TARP."""
    ranks = calibration.sbc_ranks(true, posteriors)
    coverage = calibration.expected_coverage(true, posteriors)
    return (
        calibration.uniformity(ranks).min(),
        coverage.deviation().max(),
        calibration.tarp(true, posteriors).deviation()[0],
    )


def test_right_posteriors_pass(truths):
    p, coverage, tarp = verdicts(truths[0], conjugate(truths))
    assert p > 0.05
    assert coverage < 0.1
    assert tarp < 0.1


@pytest.mark.parametrize("wrong", [{"narrowing": 0.3}, {"shift": 0.7}])
def test_wrong_posteriors_are_found_out(truths, wrong):
    p, coverage, tarp = verdicts(truths[0], conjugate(truths, **wrong))
    assert p < 1e-3
    assert coverage > 0.1
    assert tarp > 0.1


def test_gaussian_approximation_is_calibrated_where_it_is_exact(truths):
    prior = tfd.MultivariateNormalDiag([0.0, 0.0], [2.0, 2.0])
    ga = GaussianApproximation(truths[1], prior, F, lambda x: x)
    p, coverage, tarp = verdicts(truths[0], ga.results(n=2000))
    assert p > 0.05
    assert max(coverage, tarp) < 0.1
    too_sure = GaussianApproximation(truths[1], prior, 5 * F, lambda x: x)
    assert verdicts(truths[0], too_sure.results(n=2000))[0] < 1e-3


def noisy_targets(targets, rng):
    """Random moves of targets within the tolerance, with which rejection is exactly calibrated."""
    angle, radius = rng.uniform(0, 2 * np.pi, targets), np.sqrt(rng.uniform(size=targets))
    ball = TOLERANCE * radius[:, np.newaxis] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return np.linalg.solve(np.linalg.cholesky(F).T, ball.T).T


def simulator(theta, rng):
    return theta + rng.multivariate_normal([0, 0], np.linalg.inv(F), len(theta))


def test_rejection_is_calibrated(truths):
    true, data = truths
    data = data + noisy_targets(len(data), np.random.default_rng(2))
    prior = tfd.MultivariateNormalDiag([0.0, 0.0], [2.0, 2.0])
    abc = ApproximateBayesianComputation(
        data, prior, F, lambda x: x, simulator, seed=3, progress=False
    )
    abc(200_000)
    abc.accept_reject(TOLERANCE)
    usable = abc.num_accepted > 300
    assert usable.mean() > 0.9
    far = abc.num_accepted > 20  # ranks among draws from few samples are uneven
    kept = [abc.result(i) for i in np.flatnonzero(far)]
    p, coverage, tarp = verdicts(true[far], kept)
    assert p > 0.05
    assert coverage < 0.1
    assert tarp < 0.1
    narrowed = [Posterior(r.mean() + 0.5 * (r.samples - r.mean())) for r in kept]
    assert verdicts(true[far], narrowed)[0] < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("recycle", [False, True])
def test_population_monte_carlo_is_calibrated(truths, recycle):
    true, data = truths[0][:100], truths[1][:100]
    data = data + noisy_targets(len(data), np.random.default_rng(4))
    prior = tfd.MultivariateNormalDiag([0.0, 0.0], [2.0, 2.0])
    pmc = PopulationMonteCarlo(
        data, prior, F, lambda x: x, simulator, seed=5, progress=False, recycle=recycle
    )
    pmc(400, 800, percentile=40, tolerance=TOLERANCE)
    p, coverage, tarp = verdicts(true, pmc.results())
    assert p > 0.05
    # The largest of 19 deviations with 100 truths: 0.1 would be only two standard errors.
    assert coverage < 0.16
    assert tarp < 0.16
    narrowed = [
        Posterior(r.mean() + 0.4 * (r.samples - r.mean()), r.weights) for r in pmc.results()
    ]
    assert verdicts(true, narrowed)[0] < 1e-3


def test_tarp_is_that_of_its_authors(truths):
    rng = np.random.default_rng(6)
    true = truths[0]
    samples = true + rng.normal(size=(150, *true.shape))
    references = rng.uniform(size=true.shape)
    state = np.random.get_state()  # noqa: NPY002
    ecp, alpha = published.get_tarp_coverage(
        samples, true, references=references, norm=True, num_alpha_bins=30
    )
    np.random.set_state(state)  # noqa: NPY002 - it seeds the global generator
    posteriors = [Posterior(samples[:, i]) for i in range(len(true))]
    ours = calibration.tarp(true, posteriors, levels=alpha[1:-1], references=references)
    # Their code puts a value on the edge of a bin into the other one of the two bins.
    np.testing.assert_allclose(ours.coverage[:, 0], ecp[1:-1], atol=2 / 300)


def test_ranks_of_a_discrete_parameter_are_uniform():
    # Data that say nothing: every posterior is the prior, which has three values.
    rng = np.random.default_rng(0)
    true = rng.integers(3, size=(2000, 1)).astype(float)
    posteriors = [Posterior(rng.integers(3, size=(500, 1)).astype(float)) for _ in true]
    ranks = calibration.sbc_ranks(true, posteriors, draws=20, seed=1)
    assert ranks.min() == 0
    assert ranks.max() == 20
    assert calibration.uniformity(ranks, draws=20).min() > 0.01


def test_ranks_by_hand():
    posteriors = [Posterior([[0.0], [1.0], [2.0]], [1, 1, 0])] * 3
    ranks = calibration.sbc_ranks([[-1.0], [0.5], [3.0]], posteriors, draws=1000)
    assert ranks[[0, 2], 0].tolist() == [0, 1000]
    assert abs(ranks[1, 0] - 500) < 4 * np.sqrt(250)
    np.testing.assert_array_equal(
        calibration.sbc_ranks([[0.5]], posteriors[:1]),
        calibration.sbc_ranks([[0.5]], posteriors[:1]),
    )


def test_coverage_by_hand():
    posteriors = [Posterior(np.linspace(0, 1, 1001)[:, np.newaxis])] * 4
    coverage = calibration.expected_coverage(
        [[0.5], [0.3], [0.9], [2.0]], posteriors, [0.1, 0.5, 0.9]
    )
    np.testing.assert_allclose(coverage.coverage[:, 0], [0.25, 0.5, 0.75])
    np.testing.assert_allclose(coverage.deviation(), [0.15])
    low, high = coverage.band(0.95)
    assert (low <= coverage.levels).all()
    assert (high >= coverage.levels).all()


def test_targets_are_simulated_at_the_truths():
    prior = tfd.Blockwise([tfd.Uniform(-1.0, 1.0)] * 2)
    true, data = calibration.simulate_targets(prior, simulator, 5, seed=1)
    again, _ = calibration.simulate_targets(prior, simulator, 5, seed=1)
    np.testing.assert_array_equal(true, again)
    assert data.shape == (5, 2)


def test_plots(truths):
    posteriors = conjugate(truths)
    axes = calibration.plot_ranks(calibration.sbc_ranks(truths[0], posteriors), labels=["a", "b"])
    assert axes.shape == (1, 2)
    assert axes[0, 1].get_xlabel() == "Rank of b"
    coverage = calibration.expected_coverage(truths[0], posteriors)
    ax = calibration.plot_coverage(coverage, labels=["a", "b"])
    assert calibration.plot_coverage(calibration.tarp(truths[0], posteriors), ax=ax) is ax


def test_numbers_must_agree():
    with pytest.raises(ValueError, match="`posteriors` must be one for each of 2 truths, got 1"):
        calibration.sbc_ranks(np.zeros((2, 1)), [Posterior([[0.0]])])


@pytest.mark.parametrize("draws", [50, 98, 300, 10_000])
def test_ranks_of_another_number_of_draws_are_refused(draws):
    ranks = np.random.default_rng(0).integers(0, 100, (200, 2))
    assert (calibration.uniformity(ranks, 99) > 1e-3).all()
    with pytest.raises(ValueError, match="`draws` must be that of `sbc_ranks`"):
        calibration.uniformity(ranks, draws)


def test_targets_that_fail_are_left_out():
    def failing(theta):
        if (theta[:, 0] > 9).any():
            raise RuntimeError("no")
        return theta

    prior = tfd.Independent(tfd.Uniform([0.0], [10.0]), 1)
    execution = Execution(on_error="skip", batch_size=10, executor=2, progress=False)
    truths, data = calibration.simulate_targets(prior, failing, 60, seed=1, execution=execution)
    np.testing.assert_array_equal(truths, data)
    assert 40 < len(truths) < 60
    assert truths.max() <= 9


@pytest.mark.parametrize("draws", [110, 150, 198, 1000])
def test_ranks_of_fewer_draws_are_not_taken_for_those_of_a_bad_posterior(draws):
    rng = np.random.default_rng(5)
    ranks = rng.integers(0, 100, (300, 2))
    with pytest.raises(ValueError, match=f"largest possible rank, got {draws} and ranks from 0"):
        calibration.uniformity(ranks, draws)
    assert (calibration.uniformity(ranks, 99) > 1e-3).all()
    # Posteriors that are too wide, or that lie too high, have ranks with other shapes.
    for bad in (rng.binomial(110, 0.5, (300, 1)), (110 * rng.beta(1, 4, (300, 1))).astype(int)):
        assert calibration.uniformity(bad, 110) < 1e-9


def test_coverage_says_what_it_found():
    levels = np.array([0.25, 0.5, 0.75])
    found = calibration.Coverage(levels, np.array([[0.25], [0.9], [0.76]]), 100)
    assert repr(found) == (
        "Coverage(truths: 100, largest deviation: 0.4, levels outside the 99 % band: 1 of 3)"
    )
    assert "<table>" in found._repr_html_()


@pytest.fixture(scope="module")
def coins():
    """Truths that are 0 or 1 with equal chances, and what is right for data that say nothing."""
    rng = np.random.default_rng(3)
    true = rng.integers(0, 2, (400, 2)).astype(float)
    return true, [Posterior(rng.integers(0, 2, (2000, 2)).astype(float)) for _ in true]


def test_ranks_are_uniform_where_draws_tie_with_the_truth(coins):
    true, posteriors = coins
    ranks = calibration.sbc_ranks(true, posteriors, seed=1)
    assert (calibration.uniformity(ranks) > 1e-2).all()
    np.testing.assert_array_equal(ranks, calibration.sbc_ranks(true, posteriors, seed=1))
    assert (ranks != calibration.sbc_ranks(true, posteriors, seed=2)).any()
    # A posterior that is certain of one value is found out nevertheless.
    certain = [Posterior(np.zeros((2000, 2)))] * len(true)
    assert (calibration.uniformity(calibration.sbc_ranks(true, certain)) < 1e-9).all()


def test_coverage_is_right_where_samples_tie_with_the_truth(coins):
    for found in (calibration.expected_coverage(*coins), calibration.tarp(*coins)):
        # 400 truths leave 0.025 at a credibility of one half.
        assert found.deviation().max() < 0.08


def test_posteriors_of_other_parameters_are_refused():
    posteriors = [Posterior(np.zeros((20, 1)))] * 3
    for check in (calibration.sbc_ranks, calibration.expected_coverage, calibration.tarp):
        with pytest.raises(ValueError, match="`posteriors` must have 2 parameters, as `truths`"):
            check(np.zeros((3, 2)), posteriors)


def test_credibilities_in_per_cent_are_refused(coins):
    for check in (calibration.expected_coverage, calibration.tarp):
        with pytest.raises(ValueError, match="`levels` must lie between 0 and 1, got"):
            check(*coins, levels=[68, 95])
