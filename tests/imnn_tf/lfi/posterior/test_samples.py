import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from imnn_tf.lfi import Posterior

COVARIANCE = np.array([[1.0, 0.6], [0.6, 2.0]])


@pytest.fixture(scope="module")
def gaussian():
    """Draws from a Gaussian of twice the covariance, weighted to have known moments."""
    rng = np.random.default_rng(0)
    wide = stats.multivariate_normal([1, -1], 2 * COVARIANCE)
    narrow = stats.multivariate_normal([1, -1], COVARIANCE)
    samples = rng.multivariate_normal([1, -1], 2 * COVARIANCE, 40_000)
    weights = narrow.pdf(samples) / wide.pdf(samples)
    return Posterior(
        samples,
        weights,
        parameter_names=["a", "b"],
        labels=["$a$", r"$\beta$"],
        low=[-np.inf, -20],
    )


def test_moments_of_weighted_samples_are_those_of_the_target(gaussian):
    error = np.sqrt(np.diag(COVARIANCE) / gaussian.ess)
    assert (np.abs(gaussian.mean() - [1, -1]) < 4 * error).all()
    # The sample variance of n Gaussian numbers has the variance 2 sigma^4 / n.
    error = COVARIANCE * np.sqrt(2 / gaussian.ess)
    assert (np.abs(gaussian.covariance() - COVARIANCE) < 4 * np.abs(error)).all()
    np.testing.assert_allclose(gaussian.std() ** 2, np.diag(gaussian.covariance()))
    interval = gaussian.credible_interval(0.9)
    reach = np.outer(stats.norm.ppf([0.05, 0.95]), np.sqrt(np.diag(COVARIANCE)))
    np.testing.assert_allclose(interval, np.add([1, -1], reach), atol=0.06)
    summary = gaussian.summary(0.9)
    assert list(summary) == ["a", "b"]
    assert summary["b"]["low"] == interval[0, 1]


def test_error_of_the_mean_is_its_scatter():
    rng = np.random.default_rng(3)
    means, errors = [], []
    for _ in range(400):
        samples = rng.normal(0, 2, (200, 1))
        weights = np.exp(-(samples[:, 0] ** 2) / 2 + samples[:, 0] ** 2 / 8)
        posterior = Posterior(samples, weights)
        means.append(posterior.mean()[0])
        errors.append(posterior.mean_error()[0])
    # The relative error of a standard deviation of 400 numbers is 1 / sqrt(800).
    assert abs(np.std(means) / np.mean(errors) - 1) < 4 / np.sqrt(800)


def test_effective_sample_size():
    assert Posterior(np.zeros((5, 1))).ess == pytest.approx(5)
    assert Posterior(np.zeros((4, 1)), [1, 1, 0, 0]).ess == pytest.approx(2)
    assert repr(Posterior([[1.0], [3.0], [9.0], [9.0]], [1, 1, 0, 0])) == (
        "Posterior(samples: 4 (2 effective), p1: 2 ± 1)"
    )


@pytest.mark.parametrize("scale", [1e-310, 1e-300, 1, 1e300, 1e307])
def test_the_scale_of_the_weights_does_not_matter(scale):
    samples, weights = np.arange(60.0).reshape(30, 2), np.linspace(1, 2, 30)
    got = Posterior(samples, weights * scale)
    np.testing.assert_allclose(got.weights, weights / weights.sum(), rtol=1e-9)
    assert got.ess == pytest.approx(weights.sum() ** 2 / (weights**2).sum())


def test_samples_without_weight_change_no_quantile():
    rng = np.random.default_rng(0)
    samples, shares = rng.normal(size=(9, 2)), [0, 0.1, 0.5, 0.9, 1]
    more = np.concatenate([samples, 100 * rng.normal(size=(9, 2))])
    weighted = Posterior(more, np.repeat([1.0, 0.0], 9))
    np.testing.assert_allclose(weighted.quantile(shares), Posterior(samples).quantile(shares))


def test_samples_are_a_copy():
    samples = np.ones((5, 2))
    posterior = Posterior(samples)
    samples[:] = 7
    np.testing.assert_array_equal(posterior.mean(), [1, 1])


def test_equal_weights_give_numpys_covariance():
    samples = np.random.default_rng(1).normal(size=(50, 3))
    np.testing.assert_allclose(Posterior(samples).covariance(), np.cov(samples.T))


def test_sampling_follows_the_weights_and_the_seed():
    posterior = Posterior([[0.0], [1.0], [2.0]], [1, 2, 5])
    draws = posterior.sample(8000, seed=1)
    counts = np.bincount(draws[:, 0].astype(int))
    assert stats.chisquare(counts, [1000, 2000, 5000]).pvalue > 1e-3
    np.testing.assert_array_equal(posterior.sample(9, seed=2), posterior.sample(9, seed=2))
    assert (posterior.sample(50) != posterior.sample(50)).any()


def test_histograms_carry_the_weights_and_integrate_to_one(gaussian):
    density, centres = gaussian.histogram(bins=(20, 30), ranges=[(-4, 6), (-8, 6)])
    assert density.shape == (20, 30)
    cell = (10 / 20) * (14 / 30)
    assert density.sum() * cell == pytest.approx(1)
    mean = (density.sum(1) * centres[0]).sum() * cell
    np.testing.assert_allclose(mean, 1, atol=0.03)
    marginals = gaussian.marginals(bins=(20, 30), ranges=[(-4, 6), (-8, 6)])
    np.testing.assert_allclose(marginals.single[0], density.sum(1) * 14 / 30, atol=1e-4)
    np.testing.assert_allclose(marginals.pairs[0, 1], density)
    # With three parameters, the density of a pair is a sum over the third.
    rng = np.random.default_rng(2)
    cube = Posterior(rng.uniform(size=(500, 3)), rng.uniform(size=500))
    full = cube.histogram(4, [(0, 1)] * 3)[0]
    pairs = cube.marginals(4, [(0, 1)] * 3).pairs
    np.testing.assert_allclose(pairs[0, 2], full.sum(1) / 4)


def test_ranges_take_bounds_where_there_are_some(gaussian):
    (low, high), (bound, _) = gaussian.ranges()
    assert bound == -20
    assert low < gaussian.samples[:, 0].min()
    assert high > gaussian.samples[:, 0].max()


def test_saved_without_pickle_and_loaded_in_another_process(gaussian, tmp_path):
    file = tmp_path / "posterior"
    gaussian.save(file)
    again = Posterior.load(file)
    for name in ("samples", "weights", "low", "high"):
        np.testing.assert_array_equal(getattr(again, name), getattr(gaussian, name))
    assert (again.parameter_names, again.labels) == (["a", "b"], ["$a$", r"$\beta$"])
    script = (
        "from imnn_tf.lfi import Posterior\n"
        f"print(repr(float(Posterior.load({str(file)!r}).sample(1, seed=3)[0, 0])))"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert float(out) == gaussian.sample(1, seed=3)[0, 0]


def test_getdist_sees_weights_names_and_bounds(gaussian):
    samples = gaussian.to_getdist()
    np.testing.assert_allclose(samples.getMeans(), gaussian.mean())
    assert samples.getParamNames().list() == ["a", "b"]
    assert samples.getParamNames().labels() == ["a", r"\beta"]
    assert samples.ranges.getLower("b") == -20
    assert samples.ranges.getLower("a") is None
    assert samples.sampler == "uncorrelated"


@pytest.mark.filterwarnings("ignore::FutureWarning")  # ArviZ announces its next version
def test_arviz_gets_draws_by_weight(gaussian):
    data = gaussian.to_arviz(seed=1)
    draws = np.asarray(data.posterior["b"])
    assert draws.shape == (1, round(gaussian.ess))
    np.testing.assert_allclose(draws.mean(), -1, atol=5 * np.sqrt(2 / gaussian.ess))
    assert np.asarray(gaussian.to_arviz(n=7).posterior["a"]).shape == (1, 7)


def test_plot(gaussian):
    axes = gaussian.plot(bins=30, label="posterior", smoothing=1)
    assert axes.shape == (2, 2)
    assert axes[1, 0].get_xlabel() == "$a$"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Posterior(np.zeros(3)), r"`samples` must have shape \(any, any\)"),
        (lambda: Posterior(np.zeros((3, 1)), [1, 2]), r"`weights` must have shape \(3,\)"),
        (lambda: Posterior(np.zeros((2, 1)), [1, -1]), "`weights` must not be negative"),
        (lambda: Posterior(np.zeros((2, 1)), [0, 0]), "`weights` must not be negative"),
        (lambda: Posterior(np.zeros((2, 1)), [0, 1]).covariance(), "spread over several"),
        (
            lambda: Posterior(np.zeros((2, 2)), parameter_names=["a", "a"]),
            "`parameter_names` must differ from each other, got",
        ),
        (lambda: Posterior(np.zeros((2, 1))).quantile(1.5), "`q` must lie between 0 and 1"),
        (lambda: Posterior(np.zeros((2, 1))).credible_interval(1), "`level` must be less"),
        (lambda: Posterior(np.zeros((2, 2))).histogram((3, 3, 3)), "`bins` must have 2"),
        (lambda: Posterior(np.zeros((2, 1))).histogram(3, [(1, 1)]), "from low to high"),
        (lambda: Posterior(np.zeros((2, 1))).histogram(3, [(1, 2)]), "must contain samples"),
        (lambda: Posterior(np.zeros((2, 9))).histogram(9), "at most 10"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
