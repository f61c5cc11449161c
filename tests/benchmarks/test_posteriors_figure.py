"""The figure of accuracy against simulations, from results that are made up."""

import numpy as np
import posteriors_figure
import pytest


def row(method, task, budget, observation, c2st):
    values = method, task, budget, observation, c2st
    return dict(zip(("method", "task", "budget", "observation", "c2st"), values, strict=True))


ROWS = [
    row("PMC", "two_moons", 10_000, 1, 0.75),
    row("PMC", "two_moons", 1_000, 2, 0.9),
    row("PMC", "two_moons", 10_000, 2, 0.65),
    row("PMC", "slcp", 100, 3, 0.99),
    row("PMC, adjusted", "two_moons", 100_000, 2, 0.6),
    row("PMC, adjusted", "two_moons", 100_000, 1, 0.7),
]


def test_a_curve_is_the_mean_over_observations_in_the_order_of_budgets():
    budgets, accuracies = posteriors_figure.curve(ROWS, "two_moons", "PMC")
    np.testing.assert_array_equal(budgets, [1_000, 10_000])
    np.testing.assert_allclose(accuracies, [0.9, 0.7])


def test_methods_are_compared_on_the_observations_that_all_have(tmp_path):
    assert posteriors_figure.shared(ROWS, "two_moons", posteriors_figure.OURS) == [2]
    assert posteriors_figure.shared(ROWS, "slcp", posteriors_figure.OURS) == [3]
    assert posteriors_figure.shared(ROWS, "gaussian_linear", posteriors_figure.OURS) == []
    result, path = {"runs": ROWS, "published": []}, tmp_path / "new" / "figure.png"
    posteriors_figure.draw(result, "two_moons", path)
    assert path.stat().st_size > 10_000
    with pytest.raises(ValueError, match="observation of gaussian_linear"):
        posteriors_figure.draw(result, "gaussian_linear", path)
