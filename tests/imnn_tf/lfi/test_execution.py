"""The settings of how simulations run, as one value and as separate keywords."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from imnn_tf.lfi import (
    ApproximateBayesianComputation,
    Execution,
    PopulationMonteCarlo,
    simulate,
)

THETA = np.random.default_rng(0).normal(size=(20, 2))


def noisy(theta, rng):
    return rng.normal(theta)


@pytest.fixture
def make(box_prior, mean_variance, gaussian_draws, target):
    def make(cls, **change):
        arguments = [target, box_prior, np.diag([10.0, 5.0]), mean_variance, gaussian_draws]
        return cls(*arguments, **{"seed": 1, **change})

    return make


def test_one_value_does_what_separate_keywords_do(make):
    with ThreadPoolExecutor(2) as threads:
        settings = {"executor": threads, "batch_size": 3, "progress": False}
        execution = Execution(**settings)
        expected = simulate(noisy, THETA, seed=1, **settings).x
        np.testing.assert_array_equal(
            simulate(noisy, THETA, seed=1, execution=execution).x, expected
        )
        abc = [
            make(ApproximateBayesianComputation, **s) for s in (settings, {"execution": execution})
        ]
        np.testing.assert_array_equal(abc[0](10)[1], abc[1](10)[1])
        pmc = [make(PopulationMonteCarlo, **s) for s in (settings, {"execution": execution})]
        for each in pmc:
            each(20, 40, max_simulations=60)
        np.testing.assert_array_equal(pmc[0].parameters, pmc[1].parameters)


def test_a_store_and_failures_are_part_of_it(make, tmp_path):
    def flaky(theta, rng):
        if theta[0, 0] > 1:
            raise RuntimeError("too large")
        return rng.normal(theta)

    execution = Execution(on_error="retry", retries=2, store=tmp_path, progress=False)
    result = simulate(flaky, THETA, seed=1, execution=execution)
    assert {failure.attempts for failure in result.failures} == {3}
    assert (tmp_path / "manifest.jsonl").exists()
    for call in (
        lambda: simulate(noisy, THETA, execution=execution),
        lambda: make(ApproximateBayesianComputation, seed=None, execution=execution),
    ):
        with pytest.raises(ValueError, match="`seed` must be given with a `store`"):
            call()


def test_a_bar_of_the_users_own_counts(make):
    class Bar:
        count = 0

        def update(self, n):
            self.count += n

        def set_postfix(self, **values):
            self.values = values

    bar = Bar()
    make(PopulationMonteCarlo, progress=bar)(20, 40, max_simulations=60)
    assert bar.count == 60
    abc = make(ApproximateBayesianComputation, execution=Execution(progress=bar))
    abc.get_min_accepted(5.0, 3, min_draws=50)
    assert bar.count == 60 + abc.num_draws
    assert bar.values == {"accepted": abc.num_accepted.tolist()}


@pytest.mark.parametrize("setting", ["executor", "batch_size", "on_error", "retries", "progress"])
def test_both_ways_at_once_are_refused(make, setting):
    other = {"executor": 2, "batch_size": 2, "on_error": "skip", "retries": 1, "progress": False}
    given = {"execution": Execution(), setting: other[setting]}
    message = rf"`execution` must come without its separate keywords, got \['{setting}'\]"
    for call in (
        lambda: simulate(noisy, THETA, **given),
        lambda: make(ApproximateBayesianComputation, **given),
        lambda: make(PopulationMonteCarlo, **given),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_it_is_checked_when_it_is_made_and_cannot_be_changed():
    with pytest.raises(ValueError, match="`max_pending` must be at least 1"):
        Execution(max_pending=0)
    with pytest.raises(TypeError, match="`progress` must be True or False"):
        Execution(progress="yes")
    with pytest.raises(TypeError, match="`execution` must be an Execution, got dict"):
        simulate(noisy, THETA, execution={"batch_size": 2})
    execution = Execution(batch_size=np.int64(3))
    assert type(execution.batch_size) is int
    with pytest.raises(FrozenInstanceError):
        execution.batch_size = 4
    assert Execution() == Execution(**{f.name: f.default for f in fields(Execution)})
