import keras
import numpy as np
import pytest
import tensorflow as tf

from rim_tf.fitting.losses import SCHEDULES, TrajectoryLoss, step_weights, weighted_mean


def test_schedules_are_their_formulas():
    np.testing.assert_allclose(step_weights("uniform", 4), [0.25] * 4)
    np.testing.assert_allclose(step_weights("linear", 4), np.array([1, 2, 3, 4]) / 10)
    np.testing.assert_allclose(step_weights("quadratic", 3), np.array([1, 4, 9]) / 14)
    log = 10.0 ** np.array([-1.0, -0.5, 0.0])
    np.testing.assert_allclose(step_weights("logarithmic", 3), log / log.sum())
    np.testing.assert_allclose(step_weights("last", 3), [0, 0, 1])
    np.testing.assert_allclose(step_weights([1, 0, 3], 3), [0.25, 0, 0.75])


@pytest.mark.parametrize("schedule", [*SCHEDULES, (3.0, 1.0, 0.0, 2.0)])
def test_loss_is_the_weighted_mean_square(schedule):
    random = np.random.default_rng(0)
    x, trajectory = random.normal(size=(5, 3, 6, 2)), random.normal(size=(5, 4, 3, 6, 2))
    weights = step_weights(schedule, 4)
    expected = sum(w * np.mean((trajectory[:, t] - x) ** 2) for t, w in enumerate(weights))
    loss = TrajectoryLoss(schedule)(x.astype("float32"), trajectory.astype("float32"))
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(5,), (5, 7), (5, 1), (5, 7, 2)])
def test_entries_without_weight_neither_pull_nor_dilute(shape):
    random = np.random.default_rng(1)
    x, trajectory = random.normal(size=(5, 7, 2)), random.normal(size=(5, 3, 7, 2))
    mask = random.uniform(size=shape) < 0.5
    mask.flat[0] = True
    full = np.broadcast_to(mask.reshape(*shape, *[1] * (3 - len(shape))), x.shape)
    expected = np.mean([((trajectory[:, t] - x) ** 2)[full].mean() for t in range(3)])
    np.testing.assert_allclose(TrajectoryLoss()(x, trajectory, mask), expected, rtol=1e-6)
    spoiled = np.where(full, x, 1e3)
    np.testing.assert_allclose(TrajectoryLoss()(spoiled, trajectory, mask), expected, rtol=1e-6)


def test_a_target_without_weight_may_be_nan():
    random = np.random.default_rng(2)
    x, trajectory = random.normal(size=(5, 7, 2)), tf.constant(random.normal(size=(5, 3, 7, 2)))
    mask = random.uniform(size=(5, 7)) < 0.5
    results = []
    for hidden in (0.0, np.nan):
        target = np.where(mask[..., None], x, hidden)
        with tf.GradientTape() as tape:
            tape.watch(trajectory)
            loss = TrajectoryLoss()(target, trajectory, mask)
        results.append((loss, tape.gradient(loss, trajectory)))
        results[-1] += (weighted_mean(tf.constant(target), mask),)
    for clean, spoiled in zip(*results, strict=True):
        np.testing.assert_array_equal(spoiled, clean)


def test_no_weight_at_all_is_zero():
    assert float(weighted_mean(tf.ones((2, 3)), np.zeros(2))) == 0.0


def test_round_trip():
    for schedule in ("linear", [1.0, 3.0]):
        loss = TrajectoryLoss(schedule, name="mine")
        again = keras.losses.deserialize(keras.losses.serialize(loss))
        assert again.get_config() == loss.get_config()
        assert again.name == "mine"


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: TrajectoryLoss("cubic"), ValueError, "`schedule` must be one of 'uniform'"),
        (lambda: TrajectoryLoss([-1.0, 2.0]), ValueError, "must hold non-negative weights"),
        (lambda: TrajectoryLoss([0.0]), ValueError, "must hold non-negative weights"),
        (lambda: TrajectoryLoss(["a"]), TypeError, "`schedule` must hold real numbers"),
        (lambda: step_weights([1, 2], 3), ValueError, r"must have shape \(3,\), got \(2,\)"),
        (
            lambda: weighted_mean(tf.ones((2, 3)), np.ones((2, 3, 4))),
            ValueError,
            "`sample_weight` must have at most 2 axes",
        ),
        (
            lambda: weighted_mean(tf.ones((2, 3)), np.ones((2, 4))),
            ValueError,
            r"`sample_weight` must have the leading axes of the errors, \(2, 3\), got \(2, 4\)",
        ),
    ],
)
def test_bad_arguments_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
