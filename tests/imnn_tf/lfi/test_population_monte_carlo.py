import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow_probability as tfp
from scipy import stats

from imnn_tf.lfi import PopulationMonteCarlo, SimulationError
from imnn_tf.lfi.methods.kernels import Mixture, importance_weights
from imnn_tf.lfi.methods.population import Population, Round

tfd = tfp.distributions


@pytest.fixture
def make(box_prior, mean_variance, gaussian_draws, target):
    def make(**change):
        arguments = {
            "target_data": target,
            "prior": box_prior,
            "Fisher": np.diag([10.0, 5.0]),
            "get_estimate": mean_variance,
            "simulator": gaussian_draws,
            "labels": [r"$\mu$", r"$\Sigma$"],
            "seed": 1,
            "progress": False,
        }
        return PopulationMonteCarlo(**{**arguments, **change})

    return make


@pytest.fixture
def both(target, other_target):
    return np.concatenate([target, other_target])


def gaussian(low=-np.inf, **options):
    """Parameter ~ N(0, 2^2) above `low`, datum ~ N(parameter, 1), target 1."""
    whole = tfd.Normal(0.0, 2.0)
    part = whole if np.isinf(low) else tfd.TruncatedNormal(0.0, 2.0, low, np.inf)
    prior = tfd.Blockwise([part])
    return PopulationMonteCarlo(
        [[1.0]],
        prior,
        [[1.0]],
        lambda x: x,
        lambda theta, rng: rng.normal(theta, 1.0),
        **{"seed": 3, "progress": False, **options},
    )


@pytest.mark.parametrize("recycle", [False, True])
@pytest.mark.parametrize("low", [-np.inf, 0.5])
def test_posterior_of_one_parameter_with_a_prior_that_is_no_box(low, recycle):
    pmc = gaussian(low, recycle=recycle)
    pmc(2000, 2000, percentile=50, tolerance=0.5)
    theta = np.linspace(max(low, -8), 10, 20_001)
    near = stats.norm(theta).cdf(1.5) - stats.norm(theta).cdf(0.5)
    density = stats.norm(0, 2).pdf(theta) * near
    density /= density.sum()
    mean = density @ theta
    std = np.sqrt(density @ (theta - mean) ** 2)
    result = pmc.result()
    assert result.ess > 1500
    assert abs(result.mean()[0] - mean) < 4 * std / np.sqrt(result.ess)
    assert abs(result.std()[0] - std) < 4 * std / np.sqrt(2 * result.ess)


def test_attributes_are_those_of_weighted_particles(make, both):
    pmc = make(target_data=both)
    pmc(draws=100, initial_draws=300, criterion=0.4, percentile=75)
    assert pmc.parameters.shape == pmc.estimates.shape == (2, 100, 2)
    assert pmc.distances.shape == pmc.weighting.shape == (2, 100)
    np.testing.assert_array_equal(pmc.accepted_parameters, pmc.parameters)
    np.testing.assert_allclose(
        pmc.differences, pmc.estimates - pmc.estimate[:, np.newaxis], atol=1e-12
    )
    lengths = np.linalg.norm(pmc.differences * np.sqrt([10, 5]), axis=-1)
    np.testing.assert_allclose(pmc.distances, lengths)
    assert (np.diff(pmc.distances, axis=1) >= 0).all()
    assert (pmc.distances < pmc.tolerance[:, np.newaxis]).all()
    np.testing.assert_allclose(pmc.weighting.sum(axis=1), 1)
    np.testing.assert_allclose(pmc.ess, 1 / (pmc.weighting**2).sum(axis=1))
    assert pmc.num_accepted.tolist() == [100, 100]
    assert pmc.num_rejected.tolist() == [0, 0]
    for name in ("parameters", "estimates", "differences", "distances"):
        rejected = getattr(pmc, f"rejected_{name}")
        assert all(rejected[i][::10].size == 0 for i in range(2))
    for target, history in enumerate(pmc.history):
        assert history[0].acceptance == 100 / 300
        assert history[-1].simulations == pmc.num_draws[target]
        assert history[-1].tolerance == pmc.tolerance[target]
        assert history[-1].acceptance <= 0.4 < history[-2].acceptance
        assert (np.diff([entry.tolerance for entry in history]) < 0).all()
    assert pmc.stopped_by == ["criterion", "criterion"]


def test_weights_are_prior_over_the_previous_populations_kernels(make):
    pmc = make()
    pmc(60, 200, max_simulations=200)
    before = Mixture.of(pmc.parameters[0], pmc.weighting[0])
    tolerance = pmc.distances[0, 45]
    pmc(criterion=1.0, percentile=75)
    assert pmc.tolerance[0] == tolerance
    expected = importance_weights(before, pmc.parameters[0], np.ones(60))
    np.testing.assert_allclose(pmc.weighting[0], expected)
    second = Mixture.of(pmc.parameters[0], pmc.weighting[0])
    pmc(criterion=0.0, max_simulations=pmc.num_draws[0] + 1000, percentile=90)
    assert len(pmc.history[0]) > 2
    first_after = pmc._populations.each[0].rounds[2].mixture
    np.testing.assert_allclose(first_after.scale, second.scale)


def test_accepted_in_the_order_of_submission_not_of_finishing(make, gaussian_draws):
    def slow_where_large(theta, rng):
        time.sleep(2e-3 * theta[0, 1])
        return gaussian_draws(theta, rng)

    arguments = {"draws": 30, "initial_draws": 60, "max_simulations": 250}
    alone = make(batch_size=1)
    alone(**arguments)
    with ThreadPoolExecutor(8) as threads:
        together = make(simulator=slow_where_large, executor=threads)
        together(**arguments)
    assert len(alone.history[0]) > 1
    np.testing.assert_array_equal(together.parameters, alone.parameters)
    np.testing.assert_array_equal(together.weighting, alone.weighting)


def test_a_target_is_what_it_is_without_the_others(make, target, both):
    rules = {"draws": 80, "initial_draws": 200, "criterion": 0.3}
    alone, together = make(), make(target_data=both)
    alone(**rules)
    together(**rules)
    np.testing.assert_array_equal(together.parameters[0], alone.parameters[0])
    np.testing.assert_array_equal(together.weighting[0], alone.weighting[0])
    assert together.num_draws[0] == alone.num_draws[0]


def test_same_seed_same_population(make):
    rules = {"draws": 50, "initial_draws": 100, "criterion": 0.5}
    runs = [make(), make(), make(seed=2)]
    for pmc in runs:
        pmc(**rules)
    np.testing.assert_array_equal(runs[0].parameters, runs[1].parameters)
    assert (runs[0].parameters != runs[2].parameters).any()


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"criterion": 0.4}, "criterion"),
        ({"tolerance": 3.0}, "tolerance"),
        ({"max_simulations": 500}, "max_simulations"),
        ({"max_seconds": 1e-9}, "max_seconds"),
        ({"min_change": 0.3, "percentile": 90}, "min_change"),
    ],
)
def test_every_rule_stops_with_a_whole_population(make, rules, reason):
    pmc = make()
    pmc(draws=80, initial_draws=160, **rules)
    assert pmc.stopped_by == [reason]
    assert pmc.parameters.shape == (1, 80, 2)
    np.testing.assert_allclose(pmc.weighting.sum(), 1)
    assert pmc.posterior(bins=4).shape == (1, 4, 4)
    if reason == "tolerance":
        assert pmc.tolerance == 3.0
    if reason == "max_simulations":
        assert pmc.num_draws == 500
    # The rule is met already, so another call simulates nothing.
    before = pmc.num_draws.copy()
    pmc(**rules)
    np.testing.assert_array_equal(pmc.num_draws, before)


def test_goes_on_from_where_it_stopped(make):
    pmc = make()
    pmc(60, 120, criterion=0.5, percentile=75)
    first = pmc.history[0]
    pmc(criterion=0.3, percentile=75)
    assert pmc.history[0][: len(first)] == first
    assert pmc.history[0][-1].acceptance <= 0.3
    tolerance = pmc.tolerance
    pmc(draws=90, criterion=0.3, percentile=75)
    assert pmc.parameters.shape == (1, 90, 2)
    np.testing.assert_array_equal(pmc.tolerance, tolerance)
    pmc.reset()
    assert pmc.parameters.shape == (1, 0, 2)


def test_ctrl_c_ends_with_the_last_whole_population(make, gaussian_draws):
    calls = []

    def simulator(theta, rng):
        calls.append(len(theta))
        if sum(calls) > 1000:
            signal.raise_signal(signal.SIGINT)
        return gaussian_draws(theta, rng)

    pmc = make(simulator=simulator)
    pmc(100, 200, tolerance=0.01)
    assert pmc.stopped_by == ["interrupt"]
    assert pmc.parameters.shape == (1, 100, 2)
    done = pmc.num_draws[0]
    pmc(max_simulations=done + 1, tolerance=0.01)
    assert pmc.num_draws[0] == done + 1
    first = make(simulator=simulator)
    first(100, 200, tolerance=0.01)
    assert first.parameters.shape == (1, 0, 2)


def test_recycling_uses_every_simulation_within_the_tolerance(make):
    pmc = make(recycle=True)
    pmc(500, 1000, percentile=50, tolerance=2.0)
    plain = make(recycle=False)
    plain(500, 1000, percentile=50, tolerance=2.0)
    np.testing.assert_array_equal(pmc.parameters, plain.parameters)
    rounds = pmc._populations.each[0].rounds
    near = sum((each.distances < 2.0).sum() for each in rounds)
    assert len(pmc.result()) == near > len(plain.result()) == 500
    assert pmc.result().ess > plain.result().ess


def test_deterministic_mixture_weights():
    # Two rounds: draws from the prior, and from a mixture half of which the prior supports.
    rng = np.random.default_rng(0)
    mixture = Mixture(np.zeros((1, 1)), np.ones(1), np.ones((1, 1)))
    rounds = tuple(
        Round(what, inside, rng.uniform(size=(n, 1)), np.zeros((n, 1)), np.linspace(0, 1, n))
        for what, inside, n in ((None, 1.0, 30), (mixture, 0.5, 10))
    )
    particles = rounds[0].parameters
    population = Population(
        particles, particles, rounds[0].distances, np.full(30, 1 / 30), 0.5, 40, rounds
    )
    accepted = population.recycled(lambda x: np.full(len(x), 0.25))
    near = np.concatenate([rounds[0].parameters[:15], rounds[1].parameters[:5]])
    np.testing.assert_array_equal(accepted.parameters, near)
    normal = np.exp(-(near[:, 0] ** 2) / 2) / np.sqrt(2 * np.pi)
    expected = 0.25 / (30 * 0.25 + 10 * normal / 0.5)
    np.testing.assert_allclose(accepted.weights, expected)


def test_estimates_that_tie_do_not_stall(make, target):
    pmc = make(
        get_estimate=lambda data: np.round(np.stack([data.mean(1), data.var(1)], axis=1)),
        target_data=np.round(target),
    )
    pmc(100, 1000, tolerance=1e-6)
    assert pmc.stopped_by == ["tolerance"]


def test_slow_steps_and_a_store(make, gaussian_draws, tmp_path):
    rules = {"draws": 40, "initial_draws": 80, "criterion": 0.6, "percentile": None}
    first = make(store=tmp_path)
    first(**rules)

    def never(theta, rng):
        raise AssertionError

    again = make(store=tmp_path, simulator=never)
    again(**rules)
    np.testing.assert_array_equal(again.parameters, first.parameters)


def test_failures_are_left_out_or_raised(make, gaussian_draws):
    def flaky(theta, rng):
        if rng.uniform() < 0.1:
            raise RuntimeError("no")
        return gaussian_draws(theta, rng)

    pmc = make(simulator=flaky, on_error="skip", batch_size=1)
    pmc(50, 100, criterion=0.5)
    assert len(pmc.failures) > 5
    assert pmc.parameters.shape == (1, 50, 2)
    with pytest.raises(SimulationError):
        make(simulator=flaky, batch_size=1)(50, 100, criterion=0.5)
    with pytest.raises(ValueError, match="`initial_draws` must give 50 simulations"):
        make(simulator=flaky, on_error="skip", batch_size=1)(50, 50, criterion=0.5)


def test_a_generation_in_which_nothing_succeeds_ends(make, gaussian_draws, box_prior):
    def broken(theta, rng):
        raise RuntimeError("no")

    rng = np.random.default_rng(0)
    theta = rng.uniform([-10, 0.1], [10, 10], (200, 2))
    pmc = make(simulator=broken, on_error="skip")
    pmc.add(theta, data=gaussian_draws(theta, rng))
    pmc(50, criterion=0.1)
    assert pmc.stopped_by == ["failures"]
    assert pmc.parameters.shape == (1, 50, 2)


def test_processes_give_the_same_and_are_kept(make):
    here, there = make(batch_size=10), make(batch_size=10, executor=2)
    for pmc in (here, there):
        pmc(40, 80, criterion=0.6)
    np.testing.assert_array_equal(here.parameters, there.parameters)


def test_plots_run_once(make, both):
    pmc = make(target_data=both)
    rules = {"draws": 100, "initial_draws": 100, "criterion": 0.3, "percentile": 60}
    axes = pmc.plot(**rules, label="PMC", bins=10, color="C1")
    done = pmc.num_draws
    pmc.plot(ax=axes, smoothing=1.0, adjust=True)
    for mode in ("parameter_estimate", "parameter_parameter", "estimate_estimate"):
        assert pmc.scatter_plot(axes=mode).shape == (2, 2)
    assert pmc.posterior(**rules).shape == (2, 25, 25)
    np.testing.assert_array_equal(pmc.num_draws, done)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "`criterion` or another rule must be given"),
        ({"criterion": 0.1}, "`draws` and `initial_draws` must be given at first"),
        ({"draws": 5, "initial_draws": 4, "criterion": 0.1}, "must be at least `draws`, 5"),
        ({"draws": 2, "initial_draws": 4, "criterion": 0.1}, "`draws` must be at least 3"),
        ({"draws": 5, "initial_draws": 9, "criterion": 2}, "`criterion` must be at most 1"),
        ({"draws": 5, "initial_draws": 9, "tolerance": 0}, "`tolerance` must be greater"),
        (
            {"draws": 5, "initial_draws": 9, "criterion": 0.1, "percentile": 100},
            "`percentile` must be less than 100",
        ),
    ],
)
def test_wrong_arguments_are_named(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make()(**arguments)
    with pytest.raises(ValueError, match="`draws` must be given before"):
        make().result()


def test_another_thread_may_run_it(make):
    pmc = make()
    thread = threading.Thread(target=pmc, args=(50, 100, 0.5))
    thread.start()
    thread.join()
    assert pmc.stopped_by == ["criterion"]


@pytest.mark.parametrize("executor", [None, 2])
def test_the_time_limit_holds_to_one_batch(make, gaussian_draws, executor):
    def slow(theta, rng):
        time.sleep(0.02)
        return gaussian_draws(theta, rng)

    pmc = make(simulator=slow, batch_size=1, executor=executor)
    start = time.monotonic()
    pmc(20, 25, percentile=50, max_seconds=5.0)
    assert time.monotonic() - start < 6.5
    assert pmc.stopped_by == ["max_seconds"]
    # The weights know how many of the proposals were simulated.
    last = pmc._populations.each[0].rounds[-1]
    assert last.inside <= 1
    if executor is None:
        late = make(simulator=slow, batch_size=1)
        late(500, 500, criterion=0.1, max_seconds=1.0)  # too few for a population: kept
        assert late.num_draws.size == 0
        late(10, 12, criterion=0.1, max_seconds=0.01)
        assert late.parameters.shape == (1, 10, 2)


def test_limits_on_simulations_are_checked_before_the_first_one(make):
    def never(theta, rng):
        raise AssertionError

    pmc = make(simulator=never)
    with pytest.raises(ValueError, match="`max_simulations` must be at least `initial_draws`, 400"):
        pmc(50, 400, max_simulations=100)
    with pytest.raises(ValueError, match="`max_simulations` must be a whole number"):
        pmc(50, 400, max_simulations=1000.5)


@pytest.mark.parametrize("batch_size", [None, 10])
def test_a_higher_limit_uses_the_same_store(make, gaussian_draws, tmp_path, batch_size):
    count = [0]

    def counting(theta, rng):
        count[0] += len(theta)
        return gaussian_draws(theta, rng)

    options = {"simulator": counting, "batch_size": batch_size}
    run = {"draws": 80, "initial_draws": 160, "percentile": 50}
    make(**options, store=tmp_path)(**run, max_simulations=500)
    count[0] = 0
    again, alone = make(**options, store=tmp_path), make(**options)
    again(**run, max_simulations=2000)
    assert count[0] < 1850
    alone(**run, max_simulations=2000)
    np.testing.assert_array_equal(again.parameters, alone.parameters)


def test_recycling_does_not_depend_on_the_constant_of_the_prior():
    class Unnormalised:
        event_shape = (1,)

        def __init__(self, constant):
            self.constant = constant

        def sample(self, n, seed=None):
            return np.random.default_rng(seed).normal(0, 2, (n, 1))

        def log_prob(self, theta):
            return stats.norm(0, 2).logpdf(theta[..., 0]) + np.log(self.constant)

    means = []
    for constant in (1.0, 100.0, 1e-4):
        pmc = PopulationMonteCarlo(
            [[1.0]],
            Unnormalised(constant),
            [[1.0]],
            lambda x: x,
            lambda theta, rng: rng.normal(theta, 1.0),
            seed=3,
            progress=False,
        )
        pmc(2000, 4000, percentile=50, tolerance=0.3)
        means.append(pmc.result().mean()[0])
    assert abs(means[0] - 0.8) < 0.05
    np.testing.assert_allclose(means[1:], means[0], atol=0.01)


@pytest.mark.parametrize("p", [2, 5])
def test_default_schedule_with_adjustment_is_near_a_closed_form(p):
    # Estimates with unit noise in a wide box: the posterior is N(0, 1) for each parameter.
    prior = tfd.Independent(tfd.Uniform(np.full(p, -10.0), np.full(p, 10.0)), 1)
    pmc = PopulationMonteCarlo(
        np.zeros((1, p)),
        prior,
        np.eye(p),
        lambda data: data,
        lambda theta, rng: theta + rng.normal(size=theta.shape),
        seed=3,
        progress=False,
    )
    pmc(500, 1500, max_simulations=15_000)
    result = pmc.result(adjust=True)
    assert (np.abs(result.mean()) < 4 * result.mean_error()).all()
    assert np.abs(result.std() - 1).max() < 0.15
