"""The test of a posterior at one observation: false alarms, power and what it refuses."""

import logging

import numpy as np
import pytest

from imnn_tf.lfi import Posterior, calibration

WIDTH = np.sqrt(0.5)  # of the posterior of N(0, 1) after one observation with unit noise


def draw(summaries, rng, narrow):
    """Draws from posteriors, `(n, 1)`: exact ones, but too narrow for positive summaries."""
    width = WIDTH * np.where(summaries > 0, narrow, 1.0)
    return summaries / 2 + width * rng.normal(size=summaries.shape)


def checked(rng, narrow, n, observed, **options):
    truths = rng.normal(size=(n, 1))
    summaries = truths + rng.normal(size=truths.shape)
    posteriors = [draw(np.full((500, 1), each), rng, narrow) for each in observed]
    targets = np.array(observed)[:, np.newaxis]
    return calibration.local(
        truths, summaries, draw(summaries, rng, narrow), targets, posteriors, **options
    )


@pytest.mark.slow
def test_rate_of_false_alarms_is_that_stated():
    """With four permutations and a rate of 0.2, the least p-value is an alarm."""
    rng, repetitions, alarms = np.random.default_rng(1), 100, 0
    for seed in range(repetitions):
        found = checked(rng, 1.0, 60, [0.5], permutations=4, false_alarm=0.2, seed=seed)
        alarms += found.wrong[0]
    assert abs(alarms / repetitions - 0.2) < 3 * np.sqrt(0.2 * 0.8 / repetitions)


def test_posteriors_that_are_wrong_in_one_place_are_found_there(caplog):
    with caplog.at_level(logging.WARNING):
        found = checked(np.random.default_rng(2), 0.5, 2000, [-2.0, 1.5], permutations=19)
    assert found.wrong[1]
    # A Gaussian half as wide is told from the right one with a mean square of
    # E[(p - 1/2)^2] = 0.030 over its own draws, by quadrature.
    x = np.linspace(-8, 8, 4001)
    narrow, right = (np.exp(-(x**2) / 2 / s**2) / s for s in (0.5, 1.0))
    exact = np.average((narrow / (narrow + right) - 0.5) ** 2, weights=narrow)
    assert 0.5 * exact < found.statistics[1] < 2 * exact
    assert found.statistics[0] < 0.2 * found.statistics[1]
    assert "posteriors seem to differ from the right ones" in caplog.text
    assert "wrong posteriors: " in repr(found)


def test_right_posteriors_pass_and_the_seed_decides(caplog):
    found, again, other = (
        checked(np.random.default_rng(3), 1.0, 300, [0.0, 1.0], permutations=19, seed=seed)
        for seed in (4, 4, 5)
    )
    assert not found.wrong.any()
    assert not caplog.text
    np.testing.assert_array_equal(found.statistics, again.statistics)
    assert (found.statistics != other.statistics).all()


def test_posteriors_and_their_draws_are_the_same_test():
    """A `Posterior` of one sample has one draw; units change nothing either."""
    rng = np.random.default_rng(6)
    truths = rng.normal(size=(60, 1))
    summaries = truths + rng.normal(size=truths.shape)
    draws = draw(summaries, rng, 1.0)
    target = draw(np.full((200, 1), 0.5), rng, 1.0)
    options = {"permutations": 19, "seed": 7}
    first = calibration.local(truths, summaries, draws, [[0.5]], [target], **options)
    wrapped = [Posterior(each[np.newaxis]) for each in draws]
    second = calibration.local(truths, summaries, wrapped, [[0.5]], [Posterior(target)], **options)
    np.testing.assert_array_equal(first.statistics, second.statistics)
    scaled = calibration.local(
        1e6 * truths, 1e-3 * summaries, 1e6 * draws, [[0.5e-3]], [1e6 * target], **options
    )
    np.testing.assert_allclose(scaled.statistics, first.statistics, rtol=0.05)


def test_numbers_beyond_single_precision_raise_no_alarm(caplog):
    rng = np.random.default_rng(9)
    truths = rng.normal(size=(60, 1))
    summaries = truths + rng.normal(size=truths.shape)
    far = np.array([[1e39], [0.0]])
    found = calibration.local(
        truths, summaries, draw(summaries, rng, 1.0), [0.5], [far], permutations=19
    )
    assert np.isfinite(found.statistics).all()
    assert not caplog.text


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"permutations": 10}, ValueError, "`permutations` must be at least 19"),
        ({"false_alarm": 1.0}, ValueError, "`false_alarm`"),
        ({"truths": np.zeros((60, 1))}, ValueError, "`truths` must vary"),
        ({"summaries": np.zeros((60, 2))}, ValueError, "`summaries` must vary"),
        ({"truths": np.zeros((10, 1))}, ValueError, "`truths` must have at least 50 rows"),
        ({"summaries": np.zeros((59, 2))}, ValueError, "`summaries`"),
        ({"posteriors": np.zeros((60, 2))}, ValueError, "`posteriors`"),
        ({"posteriors": [Posterior([[1.0]]), 3]}, TypeError, "`posteriors` must all be"),
        ({"target_summaries": np.zeros((1, 3))}, ValueError, "`target_summaries`"),
        ({"target_posteriors": []}, ValueError, "`target_posteriors` must have one entry"),
        ({"target_posteriors": [np.zeros((5, 2))]}, ValueError, "`target_posteriors`"),
        ({"target_posteriors": [np.zeros((0, 1))]}, ValueError, "`target_posteriors` must have s"),
        ({"target_posteriors": Posterior([[1.0]])}, TypeError, "`target_posteriors` must be a seq"),
        ({"posteriors": Posterior([[1.0]])}, TypeError, "`posteriors` must be an array or a seq"),
        ({"posteriors": None}, TypeError, "`posteriors` must be an array or a sequence"),
        ({"target_summaries": np.zeros((0, 2))}, ValueError, "`target_summaries` must be of one"),
        ({"summaries": np.full((60, 2), 0.1)}, ValueError, "`summaries` must vary"),
    ],
)
def test_bad_arguments_are_refused(change, error, message):
    rng = np.random.default_rng(8)
    arguments = {
        "truths": rng.normal(size=(60, 1)),
        "summaries": rng.normal(size=(60, 2)),
        "posteriors": rng.normal(size=(60, 1)),
        "target_summaries": np.zeros((1, 2)),
        "target_posteriors": [rng.normal(size=(5, 1))],
    }
    with pytest.raises(error, match=message):
        calibration.local(**{**arguments, **change})
