import inspect
import signal
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

from imnn_tf.lfi import ApproximateBayesianComputation, SimulationError

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
        return ApproximateBayesianComputation(**{**arguments, **change})

    return make


def conjugate(**options):
    """Parameter ~ N(0, 2^2), datum ~ N(parameter, 1), target 1."""
    return ApproximateBayesianComputation(
        [[1.0]],
        tfd.MultivariateNormalDiag([0.0], [2.0]),
        [[1.0]],
        lambda x: x,
        lambda theta, rng: rng.normal(theta, 1.0),
        **{"seed": 2, "progress": False, **options},
    )


def abc_moments(tolerance):
    """Mean and variance of the exact ABC posterior of `conjugate`, on a grid."""
    theta = np.linspace(-10, 10, 20_001)
    near = stats.norm(theta, 1).cdf(1 + tolerance) - stats.norm(theta, 1).cdf(1 - tolerance)
    density = stats.norm(0, 2).pdf(theta) * near
    density /= density.sum()
    mean = density @ theta
    return mean, density @ (theta - mean) ** 2


@pytest.mark.parametrize("tolerance", [0.3, 2.0])
def test_accepted_draws_are_the_exact_abc_posterior(tolerance):
    abc = conjugate()
    abc(200_000)
    abc.accept_reject(tolerance)
    mean, variance = abc_moments(tolerance)
    n = abc.num_accepted[0]
    result = abc.result()
    assert abs(result.mean()[0] - mean) < 4 * np.sqrt(variance / n)
    assert abs(result.covariance()[0, 0] - variance) < 4 * variance * np.sqrt(3 / n)
    adjusted = abc.result(adjust=True)
    assert abs(adjusted.mean()[0] - 0.8) < 4 * np.sqrt(0.8 / adjusted.ess)
    assert abs(adjusted.covariance()[0, 0] - 0.8) < 4 * 0.8 * np.sqrt(2 / adjusted.ess)


def test_attributes_and_what_the_call_returns(make):
    abc = make()
    parameters, estimates, differences, distances = abc(500)
    np.testing.assert_array_equal(abc.parameters, parameters)
    np.testing.assert_array_equal(abc.differences[:, 0], estimates - abc.estimate[0])
    F = np.diag([10.0, 5.0])
    expected = np.sqrt(np.einsum("ntj,jk,ntk->nt", differences, F, differences))
    np.testing.assert_allclose(distances, expected)
    assert abc.accepted_parameters is None
    abc.accept_reject(3.0)
    assert abc.num_draws == 500
    assert abc.num_accepted + abc.num_rejected == 500
    assert abc.accepted_parameters.shape == (1, abc.num_accepted[0], 2)
    assert abc.rejected_parameters[:, ::10].shape[0] == 1
    assert (abc.accepted_distances < 3).all()
    assert (abc.rejected_distances >= 3).all()
    np.testing.assert_array_equal(
        abc.accepted_differences[0], abc.accepted_estimates[0] - abc.estimate[0]
    )
    abc(100)
    assert abc.accepted_parameters.shape[1] + abc.rejected_estimates.shape[1] == 500
    assert len(abc.ABC(10, update=False)[0]) == 10
    assert len(abc.parameters) == 600
    abc.reset()
    assert (len(abc.parameters), abc.num_draws) == (0, None)


def test_several_targets_are_ragged(make, target, other_target):
    abc = make(target_data=np.concatenate([target, other_target]))
    abc.get_min_accepted(2.0, 20, min_draws=1000)
    assert abc.num_accepted.shape == (2,)
    assert (abc.num_accepted >= 20).all()
    for i in range(2):
        assert abc.accepted_parameters[i].shape == (abc.num_accepted[i], 2)
        assert abc.accepted_distances[i].shape == (abc.num_accepted[i],)
        near = np.linalg.norm(abc.accepted_differences[i] * np.sqrt([10, 5]), axis=1)
        np.testing.assert_allclose(near, abc.accepted_distances[i])
    assert abc.posterior(bins=[4, 5]).shape == (2, 4, 5)
    assert [len(axis) for axis in abc.grid] == [4, 5]
    alone = make()
    alone.ABC(len(abc.parameters), predrawn=False)
    alone.accept_reject(2.0)
    assert len(abc.results()) == 2


def test_greek_keyword_in_either_spelling():
    parameters = inspect.signature(ApproximateBayesianComputation.accept_reject).parameters
    assert "ε" in parameters
    abc = conjugate()
    axes = abc.plot(ϵ=1.0, draws=500)
    abc.plot(**{"ϵ": 0.9, "ax": axes})
    assert abc._draws.tolerance == 0.9


def test_same_seed_same_draws_however_they_are_run(make):
    one = make()(64, at_once=False)
    two = make()(64, at_once=False)
    other = make(seed=2)(64, at_once=False)
    for a, b, c in zip(one, two, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a != c).all()
    pooled = make(executor=2)(64)
    np.testing.assert_array_equal(pooled[1], one[1])
    assert (make(seed=None)(4)[0] != make(seed=None)(4)[0]).all()


def test_later_calls_draw_anew(make):
    abc = make()
    assert (abc(5)[0] != abc(5)[0]).all()


def test_draws_in_a_plot_are_topped_up_and_not_repeated(make):
    calls = []

    def simulator(theta):
        calls.append(len(theta))
        return np.repeat(theta[:, :1], 10, axis=1)

    abc = make(simulator=simulator)
    abc.posterior(ϵ=20.0, draws=300, bins=5)
    abc.plot(ϵ=20.0, draws=300)
    abc.plot(bins=6, label="again")
    abc.scatter_plot(ϵ=20.0, draws=400)
    assert calls == [300, 100]


def test_predrawn_parameters_and_saved_simulations(make, gaussian_draws, box_prior, tmp_path):
    abc = make()
    abc(200, save_sims=tmp_path / "sims")
    saved = np.load(tmp_path / "sims.npy")
    assert saved.shape == (200, 10)
    again = make(simulator=lambda _: saved)
    again(draws=abc.parameters, predrawn=True, save_sims=None)
    np.testing.assert_array_equal(again.distances, abc.distances)
    make(simulator=lambda _: tf.constant(saved))(tf.constant(abc.parameters), predrawn=True)


@pytest.mark.parametrize("at_once", [True, False, 7])
def test_at_once_says_how_many_simulations_a_call_makes(make, at_once):
    sizes = []

    def simulator(theta):
        sizes.append(theta.shape)
        return np.repeat(theta[:, :1], 10, axis=1)

    make(simulator=simulator)(20, at_once=at_once)
    expected = {True: [20], False: [1] * 20, 7: [7, 7, 6]}[at_once]
    assert sizes == [(n, 2) for n in expected]


def test_min_accepted_stops_at_the_number_or_the_cap(make):
    abc = make()
    abc.get_min_accepted(ϵ=2.0, accepted=50)
    assert 50 <= abc.num_accepted[0] < 80
    drawn = abc.num_draws
    abc.get_min_accepted(ϵ=2.0, accepted=50)
    assert abc.num_draws == drawn
    capped = make()
    capped.get_min_accepted(ϵ=0.01, accepted=50, min_draws=300, max_draws=1000)
    assert capped.num_draws == 1000


def test_posterior_histogram(make):
    abc = make()
    post = abc.posterior(bins=25, ϵ=3.0, draws=20_000)
    assert post.shape == (1, 25, 25)
    np.testing.assert_allclose(post.sum() * (20 / 25) * (9.9 / 25), 1)
    np.testing.assert_allclose(abc.grid[0], -10 + 0.8 * (np.arange(25) + 0.5), atol=1e-9)
    assert abc.post is post
    ranged = abc.posterior(bins=10, ranges=[(2, 4), (1, 3)])
    np.testing.assert_allclose(ranged.sum() * 0.2 * 0.2, 1)


def test_infinite_bounds_are_no_trouble():
    abc = conjugate()
    assert np.isfinite(abc.posterior(ϵ=0.5, draws=2000)).all()
    assert abc.plot().shape == (1, 1)
    assert abc.scatter_plot().shape == (1, 1)


def test_a_million_draws_in_bounded_memory(make):
    def simulator(theta, rng):
        return rng.normal(theta[:, :1], np.sqrt(theta[:, 1:]), (len(theta), 10))

    abc = make(simulator=simulator)
    tracemalloc.start()
    abc(10**6, at_once=10_000)
    abc.accept_reject(1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Parameters, estimates and distances of all draws take 40 MB, and their copies as much again.
    # All simulated data together would take another 80 MB.
    assert peak < 250e6
    assert abc.num_accepted > 1000


@pytest.mark.parametrize("axes", ["parameter_estimate", "parameter_parameter", "estimate_estimate"])
@pytest.mark.parametrize("rejected", [0.1, 0.01, None, 0])
def test_scatter_plots(make, target, other_target, axes, rejected):
    abc = make(target_data=np.concatenate([target, other_target]))
    drawn = abc.scatter_plot(axes=axes, rejected=rejected, ϵ=3.0, draws=2000)
    assert drawn.shape == (2, 2)
    counts = [len(cloud.get_offsets()) for cloud in drawn[1, 0].collections]
    kept = [] if not rejected else [-(-n // int(1 / rejected)) for n in abc.num_rejected]
    assert counts == [*kept, *abc.num_accepted]
    assert drawn[0, 1].axison == (axes == "parameter_estimate")
    lines = [line.get_ydata()[0] for line in drawn[1, 0].lines[:2]]
    if axes != "parameter_parameter":
        np.testing.assert_allclose(lines, abc.estimate[:, 1])


def test_failures_are_left_out_and_listed(make, gaussian_draws):
    def flaky(theta, rng):
        if theta[0, 1] > 9:
            raise RuntimeError("no")
        return gaussian_draws(theta, rng)

    abc = make(simulator=flaky, on_error="skip")
    parameters = abc(200, at_once=False)[0]
    assert len(parameters) == 200 - len(abc.failures)
    assert len(abc.failures) > 5
    assert all(failure.theta[1] > 9 for failure in abc.failures)
    with pytest.raises(SimulationError):
        make(simulator=flaky)(200, at_once=False)


def test_store_serves_a_new_object(make, gaussian_draws, tmp_path):
    first = make(store=tmp_path)
    first(30, at_once=False)
    first(20, at_once=False)

    def never(theta, rng):
        raise AssertionError

    second = make(store=tmp_path, simulator=never)
    second(30, at_once=False)
    second(20, at_once=False)
    np.testing.assert_array_equal(second.distances, first.distances)
    with pytest.raises(ValueError, match="`seed` must be given"):
        make(store=tmp_path, seed=None)


def test_ctrl_c_keeps_what_has_finished(make, gaussian_draws):
    calls = []

    def simulator(theta, rng):
        calls.append(1)
        if len(calls) == 30:
            signal.raise_signal(signal.SIGINT)
        return gaussian_draws(theta, rng)

    abc = make(simulator=simulator)
    abc.get_min_accepted(ϵ=0.001, accepted=10, min_draws=100, at_once=False)
    assert abc.interrupted
    assert len(abc.parameters) == 30
    assert abc.num_draws == 30


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda make: make(Fisher=None),
            r"`Fisher` \(or `distance`\) and `get_estimate` must be given",
        ),
        (lambda make: make()(0), "`draws` must be at least 1"),
        (lambda make: make()(np.zeros((3, 3)), predrawn=True), "`draws` must have shape"),
        (
            lambda make: make()([[0, 1], [11, 1]], predrawn=True),
            "`draws` must be draws from the prior, got 1 of 2",
        ),
        (lambda make: make().accept_reject(1.0), "`draws` must be simulated before"),
        (lambda make: make().posterior(), "`ϵ` must be given before"),
        (lambda make: make().result(), "`ϵ` must be given before"),
        (lambda make: make().posterior(ϵ=-1, draws=3), "`ϵ` must be greater than 0"),
        (lambda make: make().posterior(ϵ=1e-9, draws=3), "`ϵ` must be large enough"),
        (lambda make: make().scatter_plot(axes="x", ϵ=1, draws=3), "`axes` must be one of"),
        (lambda make: make().scatter_plot(rejected=2), "`rejected` must be at most 1"),
        (lambda make: make(batch_size=0)(3), "`batch_size` must be at least 1"),
    ],
)
def test_wrong_arguments_are_named(make, call, message):
    with pytest.raises(ValueError, match=message.replace("ϵ", "ε")):
        call(make)


def test_a_target_that_does_not_exist(make):
    abc = make()
    abc.posterior(ϵ=3.0, draws=1000)
    with pytest.raises(IndexError):
        abc.result(1)


def test_a_distance_of_ones_own_takes_the_place_of_the_fisher_metric(make):
    scale = np.sqrt([10.0, 5.0])

    def distance(estimates, target):
        return np.sqrt((((estimates - target) * scale) ** 2).sum(axis=1))

    metric, own = make(), make(Fisher=None, distance=distance)
    for abc in (metric, own):
        abc(2000)
        abc.accept_reject(3.0)
    np.testing.assert_allclose(own.distances, metric.distances)
    np.testing.assert_array_equal(own.accepted_parameters, metric.accepted_parameters)
    # This distance only looks at the first estimate.
    mean_only = make(distance=lambda estimates, target: np.abs(estimates[:, 0] - target[0]))
    mean_only(500)
    np.testing.assert_allclose(mean_only.distances[:, 0], np.abs(mean_only.differences[:, 0, 0]))


def test_a_distance_may_work_in_place(make):
    def in_place(estimates, target):
        estimates -= target
        target += 1
        return np.sqrt((estimates**2) @ [10.0, 5.0])

    metric, own = make(), make(Fisher=None, distance=in_place)
    for abc in (metric, own):
        abc(2000)
        abc.accept_reject(3.0)
    np.testing.assert_array_equal(own.estimates, metric.estimates)
    np.testing.assert_allclose(own.distances, metric.distances)
    adjusted, expected = own.result(adjust=True), metric.result(adjust=True)
    np.testing.assert_allclose(adjusted.samples, expected.samples)


def test_distances_are_checked(make):
    with pytest.raises(ValueError, match=r"`distance\(estimates, target\)` must not be negative"):
        make(distance=lambda estimates, target: estimates[:, 0])(100)
    with pytest.raises(ValueError, match=r"`Fisher` \(or `distance`\) and `get_estimate`"):
        make(Fisher=None)
    with pytest.raises(TypeError, match="`distance` must be callable"):
        make(distance=3)
    with pytest.raises(ValueError, match=r"`distance\(estimates, target\)` must have shape \(7,\)"):
        make(distance=lambda estimates, target: estimates)(7)


def test_draws_that_all_fail_come_to_an_end(box_prior, mean_variance, target):
    def broken(theta, rng):
        raise RuntimeError("no")

    abc = ApproximateBayesianComputation(
        target, box_prior, np.eye(2), mean_variance, broken, on_error="skip", progress=False, seed=1
    )
    with pytest.raises(ValueError, match="`draws` must be simulated"):
        abc.get_min_accepted(1.0, 10, min_draws=500)
    with pytest.raises(ValueError, match="`draws` must be simulated"):
        abc.get_min_accepted(1.0, 10, max_draws=30)


def test_one_failing_row_in_a_hundred_costs_one_row(box_prior, mean_variance, target):
    def failing(theta, rng):
        if (theta[:, 0] > 9.8).any():
            raise RuntimeError("no")
        return rng.normal(theta[:, :1], np.sqrt(theta[:, 1:]), (len(theta), 10))

    abc = ApproximateBayesianComputation(
        target,
        box_prior,
        np.eye(2),
        mean_variance,
        failing,
        on_error="skip",
        progress=False,
        seed=1,
    )
    parameters, *_ = abc(5000)
    assert len(parameters) + len(abc.failures) == 5000
    assert 20 < len(abc.failures) < 90


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_drwas": 5},
        {"label": ["a", "b"]},
        {"color": ["red", "blue"]},
        {"known": [1.0]},
        {"levels": [2.0]},
        {"smoothing": -1.0},
        {"bins": 0},
        {"ranges": [(0, 1)]},
        {"ax": np.zeros((3, 3))},
    ],
)
def test_names_are_checked_before_anything_runs(box_prior, mean_variance, target, wrong):
    def never(theta, rng):
        raise KeyboardInterrupt

    abc = ApproximateBayesianComputation(
        target, box_prior, np.eye(2), mean_variance, never, progress=False, seed=1
    )
    known = {"label", "color", "known", "ax", "max_drwas"}
    with pytest.raises((TypeError, ValueError, AttributeError), match=f".*{next(iter(wrong))}"):
        abc.plot(ε=1.0, draws=10, **wrong)
    if set(wrong) <= known:
        with pytest.raises((TypeError, ValueError, AttributeError)):
            abc.scatter_plot(ε=1.0, draws=10, **wrong)


def test_plots_take_the_limit_on_draws(box_prior, mean_variance, target, gaussian_draws):
    abc = ApproximateBayesianComputation(
        target, box_prior, np.eye(2), mean_variance, gaussian_draws, progress=False, seed=1
    )
    abc.plot(ε=5.0, accepted=10**6, draws=100, max_draws=500)
    assert abc.num_draws == 500
