"""Results and methods that are pickled and copied."""

import copy
import pickle

import numpy as np
import pytest

from imnn_tf.lfi import (
    ApproximateBayesianComputation,
    Execution,
    GaussianApproximation,
    PopulationMonteCarlo,
    SimulationError,
    calibration,
    simulate,
)

LOW, HIGH = np.array([-5.0, -5.0]), np.array([5.0, 5.0])


class Box:
    """A uniform prior that can be pickled."""

    event_shape = (2,)
    low, high = LOW, HIGH

    def sample(self, n, seed=None):
        return np.random.default_rng(seed).uniform(LOW, HIGH, (n, 2))

    def log_prob(self, x):
        return np.full(np.shape(x)[:-1], -np.log(100.0))


def simulator(theta, rng):
    return theta + rng.normal(size=theta.shape)


def estimates(data):
    return np.asarray(data)


def broken(theta, rng):
    raise RuntimeError("no")


ARGUMENTS = {
    "target_data": np.array([[0.5, 1.0], [1.0, 0.0]]),
    "prior": Box(),
    "Fisher": np.eye(2),
    "get_estimate": estimates,
    "labels": ["$a$", "$b$"],
}


def gaussian(**change):
    return GaussianApproximation(**{**ARGUMENTS, **change})


def rejection(**change):
    options = {**ARGUMENTS, "simulator": simulator, "seed": 1, "progress": False, **change}
    method = ApproximateBayesianComputation(**options)
    method(3000)
    method.accept_reject(0.9)
    return method


def population(**change):
    options = {**ARGUMENTS, "simulator": simulator, "seed": 1, "progress": False, **change}
    method = PopulationMonteCarlo(**options)
    method(50, 100, max_simulations=600)
    return method


def by_pickle(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301  (what was pickled just before)


def same(first, second):
    """Whether two results hold the same, whatever they are made of."""
    assert type(first) is type(second)
    if hasattr(first, "_fields"):
        first, second = first._asdict(), second._asdict()
    elif hasattr(first, "__dict__"):
        first, second = vars(first), vars(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for name in first:
            same(first[name], second[name])
    elif isinstance(first, list | tuple):
        for one, other in zip(first, second, strict=True):
            same(one, other)
    elif not isinstance(first, np.random.SeedSequence):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("again", [by_pickle, copy.deepcopy, copy.copy])
@pytest.mark.parametrize("make", [gaussian, rejection, population])
def test_results_and_methods_are_copied_with_equal_content(make, again):
    method = make()
    for value in (method.result(), method.results(), method.marginals()):
        same(again(value), value)
    second = again(method)
    same(second.result(1), method.result(1))
    same(second.estimate, method.estimate)
    assert second.labels == ["$a$", "$b$"]
    drawn = again(method.result()).sample(20, seed=3)
    np.testing.assert_array_equal(drawn, method.result().sample(20, seed=3))


@pytest.mark.parametrize("again", [by_pickle, copy.deepcopy])
def test_a_copy_goes_on_like_the_original_and_leaves_it_alone(again):
    first = population()
    second = again(first)
    before = first.result()
    second(max_simulations=1200)
    same(first.result(), before)
    first(max_simulations=1200)
    same(second.result(), first.result())
    np.testing.assert_array_equal(second.parameters, first.parameters)
    draws = rejection()
    more = again(draws)
    more(500)
    assert (len(draws.parameters), len(more.parameters)) == (3000, 3500)


@pytest.mark.parametrize("again", [by_pickle, copy.deepcopy])
def test_calibration_and_simulations_are_copied_with_equal_content(again):
    truths, data = calibration.simulate_targets(Box(), simulator, 20, seed=1)
    results = rejection(target_data=data).results()
    values = [
        calibration.sbc_ranks(truths, results),
        calibration.expected_coverage(truths, results),
        calibration.tarp(truths, results),
        simulate(simulator, truths, seed=2, progress=False),
        Execution(batch_size=3, on_error="skip"),
    ]
    for value in values:
        same(again(value), value)
    with pytest.raises(SimulationError) as caught:
        simulate(broken, truths, seed=1, progress=False)
    error = again(caught.value)
    assert str(error) == str(caught.value)
    same(error.result.failures, caught.value.result.failures)


@pytest.mark.parametrize("make", [gaussian, rejection, population])
def test_what_cannot_be_pickled_is_named(make, box_prior):
    method = make(get_estimate=lambda data: data)
    with pytest.raises(TypeError, match=r"`get_estimate` must be a function of a module .*lam"):
        pickle.dumps(method)
    same(copy.deepcopy(method).result(), method.result())
    same(by_pickle(method.result()), method.result())
    method = make(prior=box_prior, target_data=ARGUMENTS["target_data"] + [0, 3])
    with pytest.raises(TypeError, match=r"`prior` must be picklable, got .* Blockwise"):
        pickle.dumps(method)
    same(copy.deepcopy(method).result(), method.result())
    same(by_pickle(method.result()), method.result())


class Counter:
    """A bar that remembers what it counted."""

    def __init__(self, total=None, desc="", disable=False):
        self.total, self.desc, self.count = total, desc, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def update(self, n):
        self.count += n

    def set_postfix(self, **state):
        self.state = state


def test_bars_have_the_total_that_is_left(monkeypatch):
    made = []

    def tqdm(*, total, desc, disable, **others):
        made.append(Counter(total=total, desc=desc, disable=disable))
        return made[-1]

    monkeypatch.setattr("imnn_tf.utils.display.tqdm", tqdm)
    method = ApproximateBayesianComputation(**ARGUMENTS, simulator=simulator, seed=1)
    method(300)
    method.get_min_accepted(0.1, 10**6, max_draws=500)
    method.get_min_accepted(0.5, 10)  # nobody knows how many draws this takes
    counted = [(bar.total, bar.count) for bar in made]
    assert counted[:2] == [(300, 300), (200, 200)]
    assert counted[2][0] is None
    assert made[2].desc == "Simulations"
    made.clear()
    pmc = PopulationMonteCarlo(**ARGUMENTS, simulator=simulator, seed=1)
    pmc(50, 100, max_simulations=500)
    pmc(max_simulations=700)
    # Two targets share the first 100 simulations.
    assert [(bar.total, bar.count) for bar in made] == [(900, 900), (400, 400)]
