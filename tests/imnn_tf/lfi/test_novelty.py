"""The check that an observation is like the simulations: false alarms and power."""

import logging

import numpy as np
import pytest

from imnn_tf.lfi import calibration


def simulate(n, rng, scale=1.0):
    """Summaries `(n, 3)` of ten draws: mean, log variance and the largest standardised square."""
    mean, std = rng.uniform(-5, 5, (n, 1)), rng.uniform(0.5, 3, (n, 1))
    data = mean + std * rng.normal(size=(n, 10))
    data[:, 0] += scale if scale > 1 else 0  # a glitch that the model does not know
    deviation = data - data.mean(axis=1, keepdims=True)
    variance = (deviation**2).mean(axis=1)
    return np.column_stack(
        [data.mean(axis=1), np.log(variance), (deviation**2).max(axis=1) / variance]
    )


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_rate_of_false_alarms_is_that_stated(rate):
    # 99 simulations to compare with: the rates are attained exactly. Each repetition has new ones.
    alarms, repetitions, rng = 0, 2000, np.random.default_rng(1)
    for seed in range(repetitions):
        simulations = simulate(199, rng)
        found = calibration.novelty(simulations[0], simulations[1:], false_alarm=rate, seed=seed)
        alarms += found.unlike[0]
    assert abs(alarms / repetitions - rate) < 3 * np.sqrt(rate * (1 - rate) / repetitions)


def test_p_values_are_uniform():
    rng = np.random.default_rng(2)
    found = calibration.novelty(simulate(20_000, rng), simulate(20_000, rng))
    # Both the observations and the simulations that they are compared with are samples.
    error = np.sqrt(0.25 * (1 / 20_000 + 1 / 10_000))
    for level in (0.05, 0.25, 0.5, 0.75):
        assert abs((found.p_values <= level).mean() - level) < 3 * error


def test_a_model_without_the_glitch_is_found_out(caplog):
    rng = np.random.default_rng(3)
    simulations, glitches = simulate(4000, rng), simulate(200, rng, scale=30.0)
    with caplog.at_level(logging.WARNING):
        found = calibration.novelty(glitches, simulations)
    assert found.unlike.mean() > 0.9
    assert f"{found.unlike.sum()} of 200 observations are unlike the simulations" in caplog.text
    # A glitch of 6 leaves mean and variance where the model can have them too, and shows only in
    # the summary that measures the fit.
    small = simulate(200, rng, scale=6.0)
    with_fit, without = (
        calibration.novelty(small[:, :count], simulations[:, :count]).unlike.mean()
        for count in (3, 2)
    )
    assert without < 0.05
    assert with_fit > without


def test_nothing_is_said_of_an_observation_that_is_like_the_simulations(caplog):
    rng = np.random.default_rng(4)
    simulations = simulate(1000, rng)
    centre = np.median(simulations, axis=0)
    with caplog.at_level(logging.WARNING):
        found = calibration.novelty(centre, simulations)
    assert found.distances.shape == found.p_values.shape == (1,)
    assert found.p_values[0] > 0.1
    assert not caplog.records


def test_distance_is_that_of_the_kth_neighbour_in_the_metric():
    rng = np.random.default_rng(5)
    simulations, targets = rng.normal(size=(60, 2)), rng.normal(size=(4, 2))
    metric = np.array([[4.0, 1.0], [1.0, 2.0]])
    found = calibration.novelty(
        targets, simulations, Fisher=metric, neighbours=3, false_alarm=0.1, seed=7
    )
    order = np.random.default_rng(np.random.SeedSequence(7)).permutation(60)

    def third(points):
        steps = points[:, None] - simulations[order[30:]]
        squares = np.einsum("ijk,kl,ijl->ij", steps, metric, steps)
        return np.sort(np.sqrt(squares), axis=1)[:, 2]

    usual = third(simulations[order[:30]])
    np.testing.assert_allclose(found.distances, third(targets))
    expected = [(1 + (usual >= each).sum()) / 31 for each in third(targets)]
    np.testing.assert_allclose(found.p_values, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": np.zeros((1, 3))}, r"`targets` must have shape \(any, 2\), got \(1, 3\)"),
        ({"summaries": np.zeros((300, 2))}, "`summaries` must have a positive definite cov"),
        ({"Fisher": -np.eye(2)}, "`Fisher` must give a positive definite metric"),
        ({"false_alarm": 0.001}, "at least 1998 simulations .* got 300"),
        ({"neighbours": 151}, "at least 302 simulations for 151 neighbours"),
        ({"false_alarm": 0}, "`false_alarm` must be greater than 0"),
        ({"targets": np.full(2, np.nan)}, "`targets` must be finite"),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    summaries = np.random.default_rng(0).normal(size=(300, 2))
    arguments = {"targets": np.zeros(2), "summaries": summaries, **changes}
    with pytest.raises(ValueError, match=message):
        calibration.novelty(**arguments)


def test_novelty_says_what_it_found():
    found = calibration.Novelty(np.ones(2), np.array([0.5, 0.001]), np.array([False, True]))
    assert repr(found) == "Novelty(unlike the simulations: 1 of 2, smallest p-value: 0.001)"
