import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import integrate, stats
from scipy.interpolate import RegularGridInterpolator

from imnn_tf.lfi import GaussianApproximation

tfd = tfp.distributions

F = np.array([[4.0, 1.0], [1.0, 2.0]])


class AnalyticLikelihood(GaussianApproximation):
    """A subclass as in scripts for the predecessor: it sets everything before the constructor."""

    def __init__(self, data, prior, labels=None):
        self.log_gaussian = self._mean_variance_likelihood
        self.Fisher = self._mean_variance_fisher
        self.get_estimate = self._mean_variance
        super().__init__(
            target_data=data,
            prior=prior,
            Fisher=None,
            get_estimate=self.get_estimate,
            labels=labels,
        )

    def _mean_variance_likelihood(self, grid, shape):
        data = self.data[..., np.newaxis]
        log_like = stats.norm(grid[:, 0], np.sqrt(grid[:, 1])).logpdf(data).sum(axis=1)
        return np.reshape(log_like, (-1, *shape))

    def _mean_variance_fisher(self, parameters):
        n = self.data.shape[1]
        return np.diag([n / parameters[1], 0.5 * n / parameters[1] ** 2])

    def _mean_variance(self, data):
        return np.stack([data.mean(axis=1), data.var(axis=1)], axis=1)


def identity(data):
    return data


@pytest.fixture
def two_targets(box_prior):
    return GaussianApproximation(
        target_data=np.array([[0.5, 5.0], [1.5, 4.0]]),
        prior=box_prior,
        Fisher=tf.constant(F, tf.float32),
        get_estimate=lambda data: tf.constant(data, tf.float32),
        labels=[r"$\mu$", r"$\Sigma$"],
    )


def test_a_method_says_what_it_is(two_targets, box_prior):
    assert repr(two_targets) == "GaussianApproximation(parameters: p1, p2, targets: 2)"
    one = GaussianApproximation([[0.5, 5.0]], box_prior, F, identity)
    assert repr(one).endswith("targets: 1, estimate: 0.5, 5)")
    assert one._repr_html_().count("<tr>") == 3


def test_likelihood_is_scipys_gaussian(two_targets):
    points = np.random.default_rng(0).uniform(0.2, 6, (2, 50))
    expected = [
        stats.multivariate_normal(mean, np.linalg.inv(F)).logpdf(points.T)
        for mean in two_targets.data
    ]
    log_prob = two_targets.log_prob(grid=points)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-6)
    np.testing.assert_allclose(two_targets.prob(grid=points), np.exp(expected), rtol=1e-5)
    np.testing.assert_allclose(
        two_targets.log_posterior(grid=points), log_prob - np.log(20 * 9.9), rtol=1e-6
    )


def test_every_form_of_points_gives_the_same_numbers(two_targets):
    axes = [np.linspace(0, 1, 3), np.linspace(4, 5, 4)]
    mesh = np.stack(np.meshgrid(*axes, indexing="ij"))
    full = two_targets.log_posterior(grid=mesh)
    assert full.shape == (2, 3, 4)
    assert two_targets.grid.shape == (2, 3, 4)
    assert two_targets.shape == (3, 4)
    listed = two_targets.log_posterior(grid=mesh.reshape(2, -1))
    np.testing.assert_array_equal(listed, full.reshape(2, -1))
    single = two_targets.log_posterior(grid=mesh[:, 1, 2])
    np.testing.assert_allclose(single, full[:, 1, 2])
    assert single.shape == (2,)


def test_gridded_calls_repeat(two_targets):
    first = two_targets.posterior(gridsize=7)
    assert first.shape == (2, 7, 7)
    assert two_targets.log_prob(grid=np.array([0.0, 1.0])).shape == (2,)
    assert two_targets.posterior(gridsize=[3, 5]).shape == (2, 3, 5)
    assert two_targets.posterior(grid=np.array([0.5, 5.0])).shape == (2,)
    np.testing.assert_array_equal(two_targets.posterior(gridsize=7), first)
    np.testing.assert_allclose(two_targets.grid[0, :, 0], np.linspace(-10, 10, 7))
    two_targets(gridsize=4, prior=False)
    assert two_targets.log_post is None
    assert two_targets.log_like.shape == (2, 4, 4)


@pytest.mark.parametrize("n_params", [1, 2, 3, 4, 6])
def test_evidence_in_every_dimension(n_params):
    # A Gaussian prior makes the evidence a Gaussian in the estimate.
    rng = np.random.default_rng(n_params)
    A = rng.normal(size=(n_params, n_params))
    fisher = A @ A.T + np.eye(n_params)
    width = np.linspace(0.5, 2.0, n_params)
    estimate = rng.normal(size=(2, n_params))
    prior = tfd.MultivariateNormalDiag(np.zeros(n_params), width)
    ga = GaussianApproximation(estimate, prior, fisher, identity)
    total = np.linalg.inv(fisher) + np.diag(width**2)
    expected = stats.multivariate_normal(np.zeros(n_params), total).logpdf(estimate)
    rtol = 1e-5 if n_params <= 3 else 1e-2
    np.testing.assert_allclose(np.exp(ga.log_evidence() - expected), 1, rtol=rtol)


def test_posterior_is_normalised_over_a_prior_that_cuts_it(two_targets):
    # An edge of the prior cuts the Gaussian about the second estimate.
    two_targets.estimate[1] = [9.5, 0.2]
    posterior = two_targets.posterior(gridsize=(4001, 1001))
    x, y = np.linspace(-10, 10, 4001), np.linspace(0.1, 10, 1001)
    total = integrate.trapezoid(integrate.trapezoid(posterior, y), x)
    np.testing.assert_allclose(total, 1, rtol=1e-3)


def test_posterior_inside_a_wide_box_is_the_gaussian():
    prior = tfd.Independent(tfd.Uniform([-50.0], [50.0]), 1)
    ga = GaussianApproximation([[1.0]], prior, [[4.0]], identity)
    grid = np.linspace(-1, 3, 1000)
    expected = stats.norm(1, 0.5).pdf(grid)
    for points in (grid, grid[np.newaxis]):
        posterior = ga.posterior(points)
        assert posterior.shape == (1, 1000)
        np.testing.assert_allclose(posterior[0], expected, rtol=1e-5)


def test_infinite_bounds_give_finite_grids_about_the_posterior():
    prior = tfd.Blockwise([tfd.Normal(0.0, 100.0), tfd.LogNormal(0.0, 1.0)])
    ga = GaussianApproximation([[7.0, 2.0]], prior, np.diag([1.0, 25.0]), identity)
    low, high = ga.ranges()
    np.testing.assert_allclose([low[0], high[0]], [2, 12])
    np.testing.assert_allclose([low[1], high[1]], [0, 3])
    assert np.isfinite(ga.posterior()[:, :, 1:]).all()
    far = GaussianApproximation([[1e3, 2.0]], prior, np.diag([1.0, 25.0]), identity)
    assert far.ranges()[1][0] == 1005


def test_subclass_with_its_own_likelihood(box_prior, target, other_target):
    both = np.concatenate([target, other_target])
    likelihood = AnalyticLikelihood(both, box_prior, labels=["mean", "variance"])
    assert likelihood.data is both
    assert likelihood.F is None
    assert callable(likelihood.Fisher)
    log_posterior = likelihood.log_posterior(grid=np.array([0.0, 1.0]))
    np.testing.assert_allclose(log_posterior, [-75.991, -21.702], atol=5e-4)

    def joint(variance, mean):
        return np.exp(stats.norm(mean, np.sqrt(variance)).logpdf(target).sum()) / (20 * 9.9)

    evidence, _ = integrate.dblquad(joint, -5, 10, 0.1, 10, epsabs=1e-13)
    np.testing.assert_allclose(np.exp(likelihood.log_evidence()[0]), evidence, rtol=1e-4)
    assert likelihood.posterior(gridsize=(30, 20)).shape == (2, 30, 20)
    axes = likelihood.plot(gridsize=(100, 90), label="exact", color="C1")
    assert axes.shape == (2, 2)
    assert likelihood.plot(ax=axes) is axes


def test_subclass_method_of_one_parameter(target):
    class Variance(GaussianApproximation):
        def log_gaussian(self, grid, shape):
            log_like = stats.norm(0, np.sqrt(grid[:, 0])).logpdf(self.data[..., None]).sum(1)
            return log_like.reshape((-1, *shape))

    prior = tfd.Blockwise([tfd.Uniform(0.1, 10.0)])
    likelihood = Variance(target, prior, None, None)
    grid = np.linspace(0.1, 10, 1000)[np.newaxis]
    for _ in range(2):
        posterior = likelihood.posterior(grid)
        np.testing.assert_allclose(integrate.trapezoid(posterior[0], grid[0]), 1, rtol=1e-3)
    assert likelihood.plot().shape == (1, 1)
    with pytest.raises(ValueError, match="`Fisher` must be passed"):
        likelihood.plot_Fisher()


def test_likelihood_undefined_outside_the_prior_does_no_harm():
    class Poisson(GaussianApproximation):
        def log_gaussian(self, grid, shape):
            with np.errstate(invalid="ignore", divide="ignore"):
                return (3 * np.log(grid[:, 0]) - grid[:, 0]).reshape((1, *shape))

    prior = tfd.Blockwise([tfd.Uniform(0.0, 20.0)])
    posterior = Poisson([[3]], prior, None, None).posterior([[-1.0, 3.0]])
    expected = stats.gamma(4).pdf(3) / stats.gamma(4).cdf(20)
    np.testing.assert_allclose(posterior, [[0, expected]], rtol=1e-5)


def test_prior_and_likelihood_that_do_not_overlap():
    class Nowhere(GaussianApproximation):
        def log_gaussian(self, grid, shape):
            return np.full((1, *shape), -np.inf)

    prior = tfd.Blockwise([tfd.Uniform(0.0, 1.0)])
    with pytest.raises(ValueError, match="target 0 must overlap"):
        Nowhere([[0.0]], prior, None, None).posterior()


def test_fisher_is_drawn_with_its_first_row_on_top(two_targets, box_prior, target, tmp_path):
    ax = two_targets.plot_Fisher(figsize=(4, 4), save=str(tmp_path / "fisher.png"))
    assert (tmp_path / "fisher.png").stat().st_size > 0
    np.testing.assert_allclose(ax.images[0].get_array(), np.linalg.inv(F), rtol=1e-6)
    ends = [ax.transData.transform((0, row))[1] for row in (0, 1)]
    assert ends[0] > ends[1]
    assert [label.get_text() for label in ax.get_yticklabels()] == two_targets.labels
    _, other = plt.subplots()
    assert two_targets.plot_Fisher(other) is other
    analytic = AnalyticLikelihood(target, box_prior)
    image = analytic.plot_Fisher(figsize=(4, 4)).images[0].get_array()
    variance = target.var()
    np.testing.assert_allclose(image, np.diag([variance / 10, variance**2 / 5]))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"Fisher": np.eye(3)}, ValueError, r"`Fisher` must have shape \(2, 2\)"),
        ({"Fisher": [[1, 2], [0, 1]]}, ValueError, "`Fisher` must be symmetric"),
        ({"Fisher": [[1, 2], [2, 1]]}, ValueError, "`Fisher` must be positive definite"),
        ({"labels": ["a"]}, ValueError, "`labels` must have 2 entries, got 1"),
        ({"labels": "ab"}, TypeError, "`labels` must be a list of strings"),
        ({"parameter_names": ["a", 2]}, TypeError, "`parameter_names` must be a list"),
        ({"get_estimate": 3}, TypeError, "`get_estimate` must be callable"),
        ({"get_estimate": np.ravel}, ValueError, r"must have shape \(any, 2\)"),
        ({"prior": 3}, TypeError, "`prior` must have `event_shape`"),
    ],
)
def test_wrong_arguments_are_named(change, error, message, box_prior):
    arguments = {
        "target_data": [[0.0, 1.0]],
        "prior": box_prior,
        "Fisher": F,
        "get_estimate": np.asarray,
    }
    with pytest.raises(error, match=message):
        GaussianApproximation(**{**arguments, **change})


def test_samples_are_the_posterior(two_targets, box_prior, target):
    # A posterior that an edge of the prior cuts, and one with a likelihood of its own.
    two_targets.estimate[1] = [9.5, 0.2]
    analytic = AnalyticLikelihood(target, box_prior)
    for method, targets in ((two_targets, 2), (analytic, 1)):
        density = method.posterior(gridsize=(801, 401))
        x, y = np.linspace(-10, 10, 801), np.linspace(0.1, 10, 401)
        for i in range(targets):
            weights = density[i] / density[i].sum()
            mean = np.array([weights.sum(1) @ x, weights.sum(0) @ y])
            result = method.results(n=20_000)[i]
            cell = [20 / 800, 9.9 / 400]
            error = 4 * result.std() / np.sqrt(result.ess) + np.multiply(0.5, cell)
            assert (np.abs(result.mean() - mean) < error).all()
            assert (result.samples[result.weights > 0] >= [-10, 0.1]).all()


def test_plot_of_many_parameters():
    prior = tfd.Independent(tfd.Uniform([-100.0] * 5, [100.0] * 5), 1)
    ga = GaussianApproximation([np.arange(5.0)], prior, np.eye(5), identity)
    axes = ga.plot()
    assert axes.shape == (5, 5)
    for i in range(5):
        line = axes[i, i].lines[0]
        expected = stats.norm(i, 1).pdf(line.get_xdata())
        np.testing.assert_allclose(line.get_ydata(), expected, atol=0.01)


def test_wrong_grids_are_named(two_targets):
    with pytest.raises(ValueError, match=r"`grid` must have shape \(2, ...\), got \(3, 4\)"):
        two_targets.posterior(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="`gridsize` must have 2 entries, got 3"):
        two_targets.posterior(gridsize=(3, 4, 5))
    with pytest.raises(ValueError, match="`grid` must be a full grid"):
        two_targets.plot(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="`grid` must be a full grid"):
        two_targets.plot(np.stack(np.meshgrid(np.arange(3), np.arange(4))))


@pytest.mark.parametrize("p", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("correlation", [0.0, 0.999])
@pytest.mark.parametrize("width", [1e-5, 0.3, 1.0, 30.0])
@pytest.mark.parametrize("unit", [1e-12, 1e12])
def test_evidence_with_a_gaussian_prior_is_that_of_the_closed_form(p, correlation, width, unit):
    covariance = unit**2 * ((1 - correlation) * np.eye(p) + correlation)
    estimate = unit * np.linspace(-0.5, 0.5, p)
    prior = tfd.MultivariateNormalDiag(np.zeros(p), np.full(p, width * unit))
    ga = GaussianApproximation(
        estimate[np.newaxis], prior, np.linalg.inv(covariance), lambda data: data
    )
    total = covariance + (width * unit) ** 2 * np.eye(p)
    exact = stats.multivariate_normal(np.zeros(p), total / unit**2).logpdf(estimate / unit)
    np.testing.assert_allclose(ga.log_evidence() + p * np.log(unit), exact, atol=0.02)


@pytest.mark.parametrize("low", [-1e-6, 0.5])
def test_evidence_with_a_box_narrower_than_the_likelihood(low):
    prior = tfd.Independent(tfd.Uniform(np.full(2, low), np.full(2, low + 2e-6)), 1)
    ga = GaussianApproximation(np.zeros((1, 2)), prior, np.eye(2), lambda data: data)
    exact = stats.multivariate_normal(np.zeros(2)).logpdf(np.full(2, low + 1e-6))
    np.testing.assert_allclose(ga.log_evidence(), exact, atol=1e-3)
    assert np.isfinite(ga.posterior(np.full(2, low + 1e-6))).all()


def test_a_grid_of_too_many_points_is_refused():
    prior = tfd.MultivariateNormalDiag(np.zeros(6), np.ones(6))
    ga = GaussianApproximation(np.zeros((1, 6)), prior, np.eye(6), lambda data: data)
    with pytest.raises(ValueError, match="got 64000000 in 6 dimensions; 14 along each axis"):
        ga.log_prob()


def test_samples_are_of_the_posterior_and_not_of_the_likelihood():
    # A prior much narrower than the likelihood in some directions, in many dimensions, and at the
    # edge of the likelihood in others. The posterior is a product of truncated normals.
    p = 10
    low, high = np.full(p, -50.0), np.full(p, 50.0)
    low[:4], high[:4] = 0.2, 0.21
    low[4:7] = 0.0
    prior = tfd.Independent(tfd.Uniform(low, high), 1)
    ga = GaussianApproximation(np.zeros((1, p)), prior, np.eye(p), identity)
    result = ga.result(n=4000)
    exact = stats.truncnorm(low, high)
    assert result.ess > 0.99 * len(result)
    error = 4 * exact.std() / np.sqrt(result.ess)
    assert (np.abs(result.mean() - exact.mean()) < error).all()
    np.testing.assert_allclose(result.std(), exact.std(), rtol=0.07)
    assert prior.log_prob(result.samples).numpy().min() > -np.inf
    expected = (np.log(stats.norm.cdf(high) - stats.norm.cdf(low)) - np.log(high - low)).sum()
    np.testing.assert_allclose(ga.log_evidence(), expected, atol=1e-3)


@pytest.mark.parametrize("p", [1, 2, 5, 10])
@pytest.mark.parametrize("width", [1e-5, 0.3, 30.0])
def test_samples_with_a_gaussian_prior_have_the_moments_of_the_closed_form(p, width):
    covariance = 1e-24 * (0.001 * np.eye(p) + 0.999)
    prior = tfd.MultivariateNormalDiag(np.full(p, 1e-12), np.full(p, width * 1e-12))
    ga = GaussianApproximation(np.zeros((1, p)), prior, np.linalg.inv(covariance), identity)
    result = ga.result(n=4000, seed=1)
    whole = covariance + (width * 1e-12) ** 2 * np.eye(p)
    gain = np.linalg.solve(whole / 1e-24, covariance / 1e-24).T
    mean, spread = gain @ np.full(p, 1e-12), (np.eye(p) - gain) @ covariance
    deviation = np.sqrt(np.diag(spread))
    assert result.ess > 2000
    assert (np.abs(result.mean() - mean) < 4 * deviation / np.sqrt(result.ess)).all()
    # The relative error of a standard deviation of n numbers is 1 / sqrt(2 n).
    np.testing.assert_allclose(result.std(), deviation, rtol=4 / np.sqrt(2 * result.ess))


def test_samples_of_a_prior_that_is_no_box():
    """Uniform where the first parameter is less than the second."""

    class Ordered:
        event_shape = (2,)

        def sample(self, n, seed=None):
            return np.sort(np.random.default_rng(seed).uniform(-5, 5, (n, 2)), axis=1)

        def log_prob(self, x):
            inside = (x[..., 0] < x[..., 1]) & (np.abs(x) < 5).all(axis=-1)
            return np.where(inside, np.log(2 / 100), -np.inf)

    ga = GaussianApproximation(np.zeros((1, 2)), Ordered(), np.eye(2), identity)
    result = ga.result(n=4000, seed=2)
    # The smaller and the larger of two standard normal numbers have means of -+1 / sqrt(pi).
    expected = np.array([-1, 1]) / np.sqrt(np.pi)
    error = 4 * np.sqrt((1 - 1 / np.pi) / result.ess)
    assert (np.abs(result.mean() - expected) < error).all()
    kept = result.samples[result.weights > 0]
    assert (kept[:, 0] < kept[:, 1]).all()


def test_draws_far_out_in_the_tail_of_the_likelihood():
    # The prior lies 40 to 41 standard deviations from the estimate.
    prior = tfd.Independent(tfd.Uniform(np.full(3, 40.0), np.full(3, 41.0)), 1)
    ga = GaussianApproximation(np.zeros((1, 3)), prior, np.eye(3), identity)
    result = ga.result(n=4000)
    # The density falls off as exp(-40 x) from the edge.
    np.testing.assert_allclose(result.mean() - 40, 1 / 40, rtol=4 / np.sqrt(result.ess) + 2e-3)
    exact = stats.norm.logsf(40) + np.log1p(-np.exp(stats.norm.logsf(41) - stats.norm.logsf(40)))
    np.testing.assert_allclose(ga.log_evidence(), 3 * exact, rtol=1e-5)


@pytest.mark.parametrize("p", [2, 3])
def test_contours_of_strong_correlations_hold_what_they_claim(p):
    covariance = 0.001 * np.eye(p) + 0.999
    prior = tfd.Independent(tfd.Uniform(np.full(p, -20.0), np.full(p, 20.0)), 1)
    ga = GaussianApproximation(np.zeros((1, p)), prior, np.linalg.inv(covariance), identity)
    (marginals,) = ga.marginals()
    fresh = np.random.default_rng(0).multivariate_normal(np.zeros(p), covariance, 20_000)
    axes = marginals.points[0], marginals.points[1]
    drawn = RegularGridInterpolator(
        axes, marginals.pairs[0, 1], bounds_error=False, fill_value=0.0
    )(fresh[:, :2])
    for level in (0.68, 0.95, 0.99):
        held = (drawn > marginals.contour_heights(0, 1, level)).mean()
        assert abs(held - level) < 0.01
