"""Neural posterior estimation, mostly with an estimator that learns linear models exactly."""

import copy
import logging
import pickle
import signal

import numpy as np
import pytest
import tensorflow_probability as tfp
from linear_gaussian import GaussianPrior, LinearGaussian, Triangle, conjugate
from scipy import stats

from imnn_tf.lfi import Execution, NeuralPosterior, SimulationError, calibration
from imnn_tf.lfi.density import Architecture, SplineFlows, TrainingOptions

tfd = tfp.distributions
MATRIX = np.array([[1.0, 0.5], [0.0, 1.0], [1.0, 1.0]])
PRIOR = GaussianPrior([1.0, -1.0], [2.0, 3.0])
TARGETS = np.array([[1.0, 0.3, 1.5], [2.0, -3.0, 0.5]])


def linear(parameters, rng):
    """Three summaries of two parameters, with noise of standard deviation 0.5."""
    return parameters @ MATRIX.T + rng.normal(0, 0.5, (len(parameters), 3))


def noisy(parameters, rng):
    """Parameters with unit noise."""
    return parameters + rng.normal(size=parameters.shape)


def neural(**change):
    arguments = {
        "target_data": TARGETS,
        "prior": PRIOR,
        "simulator": linear,
        "seed": 1,
        "progress": False,
        "density_estimator": LinearGaussian(),
    }
    return NeuralPosterior(**{**arguments, **change})


def squares_of(centred, covariance):
    """Squared distances, `(n,)`, in the metric of a covariance."""
    return np.einsum("ni,ij,nj->n", centred, np.linalg.inv(covariance), centred)


def require_moments(posterior, mean, covariance, n, share=1.0):
    """Compares samples with exact moments, of which `n` simulations gave the density.

    A regression on `n` simulations scatters by `1 / sqrt(n)` of the width, times a few for the
    number of coefficients, and the samples by `1 / sqrt(samples)`.
    """
    error = np.sqrt(6 / n + 1 / len(posterior.samples)) * share
    width = np.sqrt(np.diag(covariance))
    np.testing.assert_array_less(np.abs(posterior.mean() - mean) / width, 4 * error)
    relative = (posterior.covariance() - covariance) / np.outer(width, width)
    np.testing.assert_array_less(np.abs(relative), 4 * np.sqrt(2) * error)


def test_a_linear_model_has_its_exact_posterior():
    npe = neural()
    npe(10_000)
    points = np.random.default_rng(0).normal(size=(7, 2))
    for target in range(2):
        mean, covariance = conjugate(MATRIX, 0.5, PRIOR, TARGETS[target])
        require_moments(npe.result(target, n_samples=50_000), mean, covariance, 10_000)
        exact = stats.multivariate_normal(mean, covariance)
        # The error of the log density is that of the mean times its distance in widths.
        distances = np.sqrt(squares_of(points - mean, covariance))
        errors = np.abs(npe.log_prob(points, target) - exact.logpdf(points))
        assert (errors < 0.05 * (1 + distances) ** 2).all()


def test_an_estimator_of_the_user_sees_scaled_numbers_and_stays_as_it_was():
    seen = {}

    class Spy(LinearGaussian):
        def fit(self, parameters, summaries, **options):
            seen.update(options, parameters=parameters, summaries=summaries)
            return super().fit(parameters, summaries, **options)

    spy = Spy()
    npe = neural(density_estimator=spy, prior=GaussianPrior([1e9, 0.0], [1e3, 1e-9]))
    npe.add(npe.prior.sample(500, seed=0), 1e20 * np.random.default_rng(0).normal(size=(500, 3)))
    npe.train(callbacks=["a callback"])
    assert not hasattr(spy, "covariance")
    assert seen["callbacks"] == ["a callback"]
    assert seen["progress"] is False
    assert isinstance(seen["seed"], int)
    for name in ("parameters", "summaries"):
        assert np.abs(seen[name].std(axis=0) - 1).max() < 0.2
    neural(density_estimator=LinearGaussian)(200)  # a function that makes one


def test_other_observations_need_no_simulation():
    calls = []

    def counted(parameters, rng):
        calls.append(len(parameters))
        return linear(parameters, rng)

    npe = neural(simulator=counted)
    npe(1000)
    assert calls == [1000]
    same = npe.results(data=TARGETS)
    for target in range(2):
        alone = npe.result(data=TARGETS[target : target + 1], n_samples=4000)
        flat = npe.result(data=TARGETS[target], n_samples=4000)
        np.testing.assert_array_equal(alone.samples, npe.result(target).samples)
        np.testing.assert_array_equal(alone.samples, flat.samples)
        np.testing.assert_array_equal(same[target].samples, npe.results()[target].samples)
        at = np.zeros((3, 2))
        np.testing.assert_array_equal(
            npe.log_prob(at, target), npe.log_prob(at, data=TARGETS[target])
        )
    assert calls == [1000]
    with pytest.raises(ValueError, match="`data` must be one observation, got 2"):
        npe.result(data=TARGETS)
    with pytest.raises(ValueError, match="`data` must have the shape of the targets"):
        npe.results(data=np.zeros((5, 4)))


def test_more_simulations_are_added_to_those_before():
    npe = neural()
    npe(300)
    before = npe.parameters.copy()
    assert npe.trained_on == 300
    npe.NPE(200)
    assert npe.trained_on == 500
    assert "trained on: 500 simulations" in repr(npe)
    np.testing.assert_array_equal(npe.parameters[:300], before)
    npe.reset()
    assert npe.trained_on == len(npe.parameters) == 0
    assert npe.history is None
    with pytest.raises(ValueError, match="`draws` must be simulated and trained on before"):
        npe.result()


def test_simulations_made_elsewhere_need_no_simulator():
    rng = np.random.default_rng(5)
    parameters = PRIOR.sample(5000, seed=4)
    npe = neural(simulator=None)
    npe.add(parameters[:3000], linear(parameters[:3000], rng))
    npe.add(parameters[3000:], data=linear(parameters[3000:], rng))
    npe.train()
    mean, covariance = conjugate(MATRIX, 0.5, PRIOR, TARGETS[0])
    require_moments(npe.result(0, n_samples=20_000), mean, covariance, 5000)
    with pytest.raises(ValueError, match="`simulator` must be given"):
        npe(1000)
    with pytest.raises(ValueError, match="`estimates` must have shape"):
        npe.add(parameters[:10], parameters[:10])
    with pytest.raises(ValueError, match="`estimates` must be finite"):
        npe.add(parameters[:1], np.full((1, 3), np.nan))


def test_same_seed_same_everything():
    first, again, other = neural(), neural(), neural(seed=2)
    for npe in (first, again, other):
        npe(400)
    np.testing.assert_array_equal(first.estimates, again.estimates)
    np.testing.assert_array_equal(first.result().samples, again.result().samples)
    np.testing.assert_array_equal(first.result().samples, first.result().samples)
    assert (first.result(seed=3).samples != first.result().samples).all()
    assert (other.result().samples != first.result().samples).all()


def test_summaries_of_any_shape_and_number():
    rng = np.random.default_rng(0)

    def images(parameters, rng):
        return parameters[:, :1, np.newaxis] + rng.normal(0, 3, (len(parameters), 3, 4))

    data = images(np.ones((2, 2)), rng)
    npe = neural(target_data=data, simulator=images)
    npe(20_000)
    assert npe.estimates.shape == (20_000, 12)
    # Twelve pixels with noise 3 tell of the first parameter, and nothing of the second.
    precision = 1 / 2**2 + 12 / 9
    mean = (1.0 / 4 + data.sum(axis=(1, 2)) / 9) / precision
    for i in range(2):
        result = npe.result(i, n_samples=20_000)
        # The mean scatters by the width times the root of 13 coefficients over 20,000.
        np.testing.assert_allclose(result.mean(), [mean[i], -1], atol=4 * 3 * 0.0255)
        # The logarithm of the width does so by the root of 13 coefficients over twice 20,000.
        np.testing.assert_allclose(result.std(), [precision**-0.5, 3], rtol=4 * 0.018)
    short = neural(target_data=data, simulator=images, get_estimate=lambda x: x.mean(axis=2))
    short(500)
    assert short.estimates.shape == (500, 3)
    assert short.n_summaries == 3
    with pytest.raises(ValueError, match=r"`get_estimate\(data\)` must have shape \(any, 2\)"):
        neural(target_data=data, simulator=images, get_estimate=lambda x: x[:, 0, : len(x)])


def test_too_few_simulations_are_refused_before_they_are_made():
    def never(parameters, rng):
        raise AssertionError

    npe = neural(simulator=never)
    with pytest.raises(ValueError, match="`draws` must be at least 100 in all, got 99"):
        npe(99)
    npe.add(PRIOR.sample(99, seed=0), np.random.default_rng(0).normal(size=(99, 3)))
    with pytest.raises(ValueError, match="`draws` must be at least 100 in all"):
        npe.train()


@pytest.mark.parametrize("on_error", ["skip", "retry"])
def test_simulations_that_fail_are_left_out(on_error, caplog):
    def flaky(parameters, rng):
        x = linear(parameters, rng)
        x[rng.uniform(size=len(x)) < 0.2] = np.nan
        return x

    execution = Execution(on_error=on_error, retries=1, progress=False)
    npe = neural(simulator=flaky, progress=True, execution=execution)
    npe(1000)
    kept = len(npe.parameters)
    share = 0.8 if on_error == "skip" else 1 - 0.2**2
    assert abs(kept / 1000 - share) < 4 * np.sqrt(share * (1 - share) / 1000)
    assert len(npe.failures) == 1000 - kept
    assert npe.trained_on == kept
    assert np.isfinite(npe.result().samples).all()
    assert f"{1000 - kept} of 1000 simulations failed" in caplog.text
    with pytest.raises(SimulationError):
        neural(simulator=flaky)(1000)


def test_a_store_continues_where_a_run_stopped(tmp_path):
    def works(parameters, rng):
        calls.append(len(parameters))
        return linear(parameters, rng)

    def breaks(parameters, rng):
        if len(calls) == 5:
            raise RuntimeError("killed")
        return works(parameters, rng)

    calls = []
    whole = neural(simulator=works, batch_size=100)
    whole(1000)
    calls.clear()
    settings = {"store": tmp_path / "store", "batch_size": 100}
    with pytest.raises(SimulationError, match="killed"):
        neural(simulator=breaks, **settings)(1000)
    calls.clear()
    resumed = neural(simulator=works, **settings)
    resumed(1000)
    assert sum(calls) < 700  # one of them to see whether the simulator is still the same
    np.testing.assert_array_equal(resumed.result().samples, whole.result().samples)
    with pytest.raises(ValueError, match="`seed` must be given with a `store`"):
        neural(store=tmp_path / "other", seed=None)


def test_workers_change_nothing():
    def quick(parameters, rng):  # of no module, so that workers import next to nothing
        return parameters[:, [0, 1, 1]] + rng.normal(0, 0.5, (len(parameters), 3))

    arguments = {"simulator": quick, "batch_size": 250}
    here, there = neural(**arguments), neural(executor=2, **arguments)
    for npe in (here, there):
        npe(500)
    np.testing.assert_array_equal(here.estimates, there.estimates)
    np.testing.assert_array_equal(here.result().samples, there.result().samples)


def test_ctrl_c_ends_the_simulations_and_trains_nothing():
    def pressed(parameters, rng):
        calls.append(0)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return linear(parameters, rng)

    calls = []
    npe = neural(simulator=pressed, batch_size=100)
    npe(1000)
    assert npe.interrupted
    assert npe.trained_on == 0
    assert len(npe.parameters) == 300
    npe.train()
    assert npe.trained_on == 300


DENSITIES = {
    "box": tfd.Blockwise([tfd.Uniform(-2.0, 3.0)]),
    "gamma": tfd.Blockwise([tfd.Gamma(2.0, 1.0)]),
    "half normal": tfd.Blockwise([tfd.HalfNormal(2.0)]),
    "log-normal": tfd.Blockwise([tfd.LogNormal(0.0, 1.0)]),
    "normal": tfd.Blockwise([tfd.Normal(0.0, 2.0)]),
    "cauchy": tfd.Blockwise([tfd.Cauchy(0.0, 1.0)]),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_densities_of_one_parameter_integrate_to_one(name):
    npe = neural(target_data=[[0.3], [2.0]], prior=DENSITIES[name], simulator=noisy)
    npe(500)
    for target in range(2):
        knots = np.unique(npe.result(target, n_samples=20_000).quantile(np.linspace(0, 1, 200)))
        ends = [np.fmax(npe.prior.low, knots[0] - 20), np.fmin(npe.prior.high, knots[-1] + 20)]
        knots = np.unique(np.concatenate([ends[0], knots, ends[1]]))
        nodes, weights = np.polynomial.legendre.leggauss(20)
        half = np.diff(knots)[:, np.newaxis] / 2
        points = (knots[:-1, np.newaxis] + half + half * nodes)[..., np.newaxis]
        mass = (np.exp(npe.log_prob(points, target)) * half * weights).sum()
        assert abs(mass - 1) < 0.002
        outside = np.array([npe.prior.low - 1, npe.prior.high + 1])
        outside = outside[np.isfinite(outside[:, 0])]
        assert (npe.log_prob(outside, target) == -np.inf).all()


@pytest.mark.parametrize("prior", ["box", "triangle"])
def test_densities_of_two_parameters_integrate_to_one(prior, box_prior):
    chosen = Triangle() if prior == "triangle" else box_prior
    target = [[0.6, 0.5]] if prior == "triangle" else [[9.0, 0.5]]
    npe = neural(target_data=target, prior=chosen, simulator=noisy)
    npe(1000)
    # Within the inner 98 % of the box: a density is steep next to an end.
    margin = 0.01 * (npe.prior.high - npe.prior.low)
    low, high = npe.prior.low + margin, npe.prior.high - margin
    axes = [np.linspace(a, b, n) for a, b, n in zip(low, high, (398, 402), strict=True)]
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    axes = [(axis[1:] + axis[:-1]) / 2 for axis in axes]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    density = np.exp(npe.log_prob(grid))
    samples = npe.result(n_samples=40_000).samples
    assert npe.prior.supports(samples).all()
    inner = samples[((samples > low) & (samples < high)).all(axis=1)]
    mass = density.sum() * cell
    # The shares of 40,000 samples scatter by 0.0025, and the share of the support by 1 %.
    assert abs(mass - len(inner) / len(samples)) < 0.02
    mean = (grid * density[..., np.newaxis]).sum(axis=(0, 1)) / density.sum()
    assert (np.abs(inner.mean(axis=0) - mean) < 0.03 * inner.std(axis=0)).all()
    if prior == "triangle":
        assert (density[grid.sum(axis=-1) > 1] == 0).all()


def test_a_posterior_outside_the_support_is_an_error(caplog):
    class Corner(Triangle):
        def log_prob(self, parameters):
            inside = (parameters >= 0).all(axis=-1) & (parameters.sum(axis=-1) <= 1e-5)
            return np.where(inside, np.log(2.0), -np.inf)

        def sample(self, n, seed=None):
            return super().sample(n, seed) * 1e-5

    class Far(LinearGaussian):
        def _mean(self, summaries):
            return np.full((len(summaries), 2), 5.0)

    npe = neural(target_data=[[0.0, 0.0]], prior=Corner(), simulator=noisy, density_estimator=Far())
    npe(200)
    with pytest.raises(ValueError, match="`prior` must support the posterior, got"):
        npe.result()


@pytest.mark.parametrize("unit", [np.array([1e-9, 1e9]), np.array([1e15, 1e-15])])
def test_units_of_parameters_and_summaries_change_nothing(unit):
    """A log-normal prior about 1e-9 beside U(0, 1e9) gives what both give in units of their own."""

    def prior(unit):
        first = tfd.LogNormal(np.log(unit[0]), np.float64(0.5))
        return tfd.Blockwise([first, tfd.Uniform(np.float64(0), unit[1])])

    def simulator(unit):
        return lambda parameters, rng: parameters * (1 + 0.1 * rng.normal(size=parameters.shape))

    one = np.ones(2)
    plain = neural(target_data=[[1.2, 0.4]], prior=prior(one), simulator=simulator(one))
    scaled = neural(target_data=[[1.2, 0.4]] * unit, prior=prior(unit), simulator=simulator(unit))
    for npe in (plain, scaled):
        npe(2000)
    # The fit of the parameter space ends elsewhere within its tolerance.
    np.testing.assert_allclose(scaled.result().samples / unit, plain.result().samples, rtol=1e-4)
    at = np.array([[1.0, 0.3], [1.3, 0.5]])
    expected = plain.log_prob(at) - np.log(unit).sum()
    np.testing.assert_allclose(scaled.log_prob(at * unit), expected, atol=1e-6)


class TestRounds:
    """Truncated sequential estimation."""

    def run(self, **change):
        npe = neural(**change)
        npe(2000, rounds=3, target=1)
        return npe

    def test_the_posterior_is_the_same_as_from_the_prior(self):
        npe = self.run()
        mean, covariance = conjugate(MATRIX, 0.5, PRIOR, TARGETS[1])
        assert npe.trained_on == 6000
        require_moments(npe.result(1, n_samples=50_000), mean, covariance, 6000)
        # All proposals of later rounds lie within the region that holds all but 1e-4: its edge
        # in widths of the posterior, and a few % for the error of the density.
        squares = squares_of(npe.parameters[2000:] - mean, covariance)
        edge = stats.chi2(2).ppf(1 - 1e-4)
        assert 0.8 * edge < squares.max() < 1.3 * edge
        assert (squares_of(npe.parameters[:2000] - mean, covariance) > edge).mean() > 0.5

    def test_the_first_round_is_restricted_if_there_is_a_density(self):
        npe = neural()
        npe(2000)
        npe(500, rounds=2, target=1)
        mean, covariance = conjugate(MATRIX, 0.5, PRIOR, TARGETS[1])
        squares = squares_of(npe.parameters[2000:] - mean, covariance)
        assert squares.max() < 1.5 * stats.chi2(2).ppf(1 - 1e-4)

    def test_other_targets_are_refused_and_neighbours_are_not(self):
        npe = self.run()
        near = TARGETS[1] + 0.01
        assert npe.result(data=near).samples.shape == (4000, 2)
        for ask in (npe.result, npe.results, npe.plot, lambda: npe.log_prob([0.0, 0.0])):
            with pytest.raises(ValueError, match="Target 0 must be like target 1, which `rounds`"):
                ask()
        with pytest.raises(ValueError, match="`data` must be like target 1"):
            npe.result(data=TARGETS[1] + 10)
        with pytest.raises(ValueError, match="`target` must be 1, that of the earlier rounds"):
            npe(500, rounds=2, target=0)
        npe.reset()
        npe(500)
        assert len(npe.results()) == 2

    def test_rounds_and_target_come_together(self):
        for change in ({"rounds": 2}, {"target": 0}):
            with pytest.raises(ValueError, match="`rounds` of more than 1 must come with"):
                neural()(500, **change)
        with pytest.raises(IndexError):
            neural()(500, rounds=2, target=2)

    def test_a_killed_run_continues_as_if_it_had_not_been(self, tmp_path):
        def breaks(parameters, rng):
            if len(parameters) == 2000 and parameters[:, 0].std() < 1:
                raise RuntimeError("killed")
            return linear(parameters, rng)

        with pytest.raises(SimulationError):
            self.run(simulator=breaks, store=tmp_path)
        resumed, whole = self.run(store=tmp_path), self.run()
        np.testing.assert_array_equal(resumed.result(1).samples, whole.result(1).samples)


def test_observations_unlike_the_simulations_are_named(caplog):
    strange = np.concatenate([TARGETS, [[0.0, 0.0, 50.0]]])
    npe = neural(target_data=strange)
    npe(4000)
    with caplog.at_level(logging.WARNING):
        npe.result(0)
        npe.result(1)
    assert caplog.text == ""
    npe.results()
    assert caplog.text.count("Target 2: the summaries are unlike those of all 4000") == 1
    assert "a share of 0.001 is said" in caplog.text
    assert "this was said of 1 of 3" in caplog.text
    caplog.clear()
    npe.log_prob([0.0, 0.0], 2)
    assert "Target 2" in caplog.text


def test_a_constant_summary_that_an_observation_does_not_share_is_named(caplog):
    def with_constant(parameters, rng):
        return np.column_stack([linear(parameters, rng), np.ones(len(parameters))])

    data = np.column_stack([TARGETS, [1.0, 2.0]])
    npe = neural(target_data=data, simulator=with_constant)
    npe(1000)
    npe.results()
    assert "Target 1" in caplog.text
    assert "Target 0" not in caplog.text
    alone = neural(target_data=[[1.0]], simulator=lambda p: np.ones((len(p), 1)))
    with pytest.raises(ValueError, match="`get_estimate` must return summaries that vary"):
        alone(200)


def test_figures_and_exports(tmp_path):
    import matplotlib.pyplot as plt

    npe = neural(labels=["$a$", "$b$"], parameter_names=["a", "b"])
    npe(500)
    axes = npe.plot(label="NPE", known=[1.0, 2.0], target=[0, 1])
    assert axes.shape == (2, 2)
    assert npe.plot(ax=axes, target=0, bins=20) is axes
    density = npe.posterior(bins=10)
    assert density.shape == (2, 10, 10)
    assert npe.grid.shape == (2, 10)
    assert len(npe.marginals(target=1)) == 1
    assert npe.plot_history().get_xlabel() == "Epochs"
    with pytest.raises(ValueError, match="`get_estimate` must return one summary for each"):
        npe.scatter_plot()
    pairs = neural(get_estimate=lambda x: np.asarray(x)[:, :2])
    pairs(500)
    assert pairs.scatter_plot(1, share=0.5, known=[1.0, 2.0], s=2).shape == (2, 2)
    result = npe.result()
    assert result.labels == ["$a$", "$b$"]
    assert result.parameter_names == ["a", "b"]
    assert result.ess == pytest.approx(4000)
    assert result.to_arviz() is not None
    assert result.to_getdist().numrows == 4000
    with pytest.raises(ValueError, match="`Fisher` must be passed"):
        npe.plot_Fisher()
    plt.close("all")


def test_a_thousand_targets_are_calibrated_in_one_call():
    truths, data = calibration.simulate_targets(PRIOR, linear, 1000, seed=7)
    npe = neural(target_data=data)
    npe(20_000)
    results = npe.results(n_samples=1000)
    ranks = calibration.sbc_ranks(truths, results)
    assert calibration.uniformity(ranks).min() > 0.01
    for coverage in (
        calibration.tarp(truths, results),
        calibration.expected_coverage(truths, results),
    ):
        low, high = coverage.band(0.9999)
        inside = (low[:, np.newaxis] <= coverage.coverage) & (
            coverage.coverage <= high[:, np.newaxis]
        )
        assert inside.all()


def estimates(data):
    return np.asarray(data)


def test_copies_and_pickles():
    npe = neural(get_estimate=estimates)
    npe(300)
    again = pickle.loads(pickle.dumps(npe))  # noqa: S301 - what was pickled above
    copied = copy.deepcopy(npe)
    for other in (again, copied):
        np.testing.assert_array_equal(other.result().samples, npe.result().samples)
    copied(300)
    assert npe.trained_on == 300
    with pytest.raises(TypeError, match="`get_estimate` must be a function of a module"):
        pickle.dumps(neural(get_estimate=lambda x: x))


BAD = {
    "estimator": ({"density_estimator": 3}, TypeError, "`density_estimator` must be a name, an"),
    "name": ({"density_estimator": "flow"}, ValueError, "`density_estimator` must be one of"),
    "simulator": ({"simulator": 3}, TypeError, "`simulator` must be callable"),
    "get_estimate": ({"get_estimate": 3}, TypeError, "`get_estimate` must be callable"),
    "prior": ({"prior": 3}, TypeError, "`prior` must have"),
    "labels": ({"labels": ["a"]}, ValueError, "`labels` must have 2 entries"),
    "targets": ({"target_data": [[np.nan]]}, ValueError, "must be finite"),
    "vectors": ({"get_estimate": lambda x: np.zeros(2)}, ValueError, r"must have shape \(any, any"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_refused(name):
    change, error, message = BAD[name]
    with pytest.raises(error, match=message):
        neural(**change)


def test_bad_arguments_of_methods_are_refused():
    npe = neural()
    for draws in (0, -1):
        with pytest.raises(ValueError, match="`draws` must be at least 1"):
            npe(draws)
    with pytest.raises(TypeError, match="`draws` must be an integer"):
        npe(1000.5)
    with pytest.raises(ValueError, match="`rounds` must be at least 1"):
        npe(1000, rounds=0)
    npe(200)
    with pytest.raises(ValueError, match="`n_samples` must be at least 2"):
        npe.result(n_samples=0)
    with pytest.raises(IndexError, match="`target` must be one of 2"):
        npe.result(2)
    with pytest.raises(ValueError, match=r"`parameters` must have shape \(..., 2\)"):
        npe.log_prob(np.zeros((4, 3)))
    with pytest.raises(TypeError, match="without fit"):
        neural(density_estimator=lambda: 3)(200)
    wrong = LinearGaussian()
    wrong.sample = lambda n, summaries, seed=None: np.zeros((len(summaries), n, 5))
    npe = neural(density_estimator=wrong)
    npe(200)
    with pytest.raises(ValueError, match=r"`density_estimator.sample\(n, summaries\)` must have"):
        npe.result()


@pytest.mark.slow
def test_flows_learn_a_posterior_that_is_cut_at_both_ends_of_a_box():
    """One observation of a uniform parameter with normal noise: normal posteriors within the box.

    The errors of flows have no closed form. The bounds are about twice what was measured.
    """
    prior = tfd.Blockwise([tfd.Uniform(-1.0, 1.0)])
    targets = np.array([[-1.2], [-0.9], [0.0], [0.5], [1.1]])

    def simulator(parameters, rng):
        return parameters + 0.3 * rng.normal(size=parameters.shape)

    npe = neural(
        target_data=targets, prior=prior, simulator=simulator, density_estimator="spline_flows"
    )
    npe(3000)
    edges = np.linspace(-1, 1, 41)
    for target, result in zip(targets[:, 0], npe.results(n_samples=20_000), strict=True):
        exact = stats.truncnorm((-1 - target) / 0.3, (1 - target) / 0.3, target, 0.3)
        assert abs(result.mean()[0] - exact.mean()) < 0.35 * exact.std()
        assert abs(result.std()[0] / exact.std() - 1) < 0.25
        found = np.histogram(result.samples[:, 0], edges)[0] / 20_000
        assert np.abs(found - np.diff(exact.cdf(edges))).max() < 0.1
        # The two outermost fortieths of the box, next to its ends.
        for end in (0, -1):
            assert abs(found[end] - np.diff(exact.cdf(edges))[end]) < 0.1
        assert stats.kstest(result.samples[:, 0], exact.cdf).statistic < 0.15


@pytest.mark.slow
def test_flows_take_awkward_summaries_and_stay_in_bounds():
    """Cauchy noise, outliers of 1e30, a constant, a copy, and ten parameters of any kind."""
    parts = [tfd.Uniform(-1.0, 1.0)] * 4 + [tfd.LogNormal(-20.0, 1.0)] * 2
    parts += [tfd.Cauchy(0.0, 1.0), tfd.Normal(5.0, 1e-3), tfd.Gamma(1.0, 1e6), tfd.HalfNormal(1e9)]

    def simulator(parameters, rng):
        x = parameters * (1 + 0.1 * rng.normal(size=parameters.shape))
        x[:, 0] += 0.1 * rng.standard_cauchy(len(x))
        x[::97, 1] = 1e30
        x[::89, 2] = -1e300
        constant = np.full((len(x), 1), 3.0)
        return np.concatenate([x, constant, x[:, 3:4]], axis=1)

    prior = tfd.Blockwise(parts)
    truths, data = calibration.simulate_targets(prior, simulator, 60, seed=8)
    flows = SplineFlows(
        architecture=Architecture(transforms=3, width=32),
        training=TrainingOptions(members=2, epochs=15),
    )
    npe = neural(target_data=data, prior=prior, simulator=simulator, density_estimator=flows)
    npe(4000)
    results = npe.results(n_samples=500)
    for truth, result in zip(truths, results, strict=True):
        assert np.isfinite(result.samples).all()
        assert npe.prior.supports(result.samples).all()
        assert np.isfinite(npe.log_prob(truth, data=data[0]))
    # Each posterior holds its truth as often as it says, up to the scatter of 60 truths.
    coverage = calibration.expected_coverage(truths, results, [0.5, 0.9])
    low, high = coverage.band(0.9999)
    assert (low[:, np.newaxis] - 0.1 <= coverage.coverage).all()
    assert (coverage.coverage <= high[:, np.newaxis] + 0.1).all()
    # The two log-normal parameters, of which the data tell to 10 %, are found to about that.
    for column in (4, 5):
        ratios = [r.quantile(0.5)[column] / t[column] for r, t in zip(results, truths, strict=True)]
        assert 0.05 < np.std(np.log(ratios)) < 0.3
