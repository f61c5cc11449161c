"""The loss of a whole trajectory, and how much each of its steps counts."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from imnn_tf.utils import checks

SCHEDULES = ("uniform", "linear", "quadratic", "logarithmic", "last")


def step_weights(schedule: Any, steps: int) -> np.ndarray:
    """How much each step counts; the weights sum to one.

    Args:
        schedule: "uniform"; "linear" or "quadratic", growing like the step's number or its
            square; "logarithmic", from a tenth to one evenly in the logarithm; "last", the
            last step alone; or non-negative weights, one for each step.
        steps: The number of steps.

    Returns:
        `(steps,)`.

    Raises:
        TypeError: If an array of weights does not hold real numbers.
        ValueError: If the name is unknown, or weights are negative, all zero, or too few or
            many.
    """
    number = np.arange(1.0, steps + 1.0)
    if isinstance(schedule, str):
        weights = {
            "uniform": np.ones_like(number),
            "linear": number,
            "quadratic": number**2,
            "logarithmic": np.logspace(-1.0, 0.0, steps),
            "last": (number == steps).astype(float),
        }[checks.choice("schedule", schedule, SCHEDULES)]
    else:
        weights = checks.array("schedule", schedule, shape=(steps,), dtype=np.float64)
    if (weights < 0).any() or weights.sum() == 0:
        raise ValueError(f"`schedule` must hold non-negative weights, got {weights.tolist()}.")
    return weights / weights.sum()


def broadcast_weights(weights: Any, like: tf.Tensor) -> tf.Tensor:
    """Weights of examples, pixels or entries, in the shape of the errors they weigh.

    Args:
        weights: `(batch,)`, `(batch, *sizes)` or `(batch, *sizes, channels)`; any axis may
            have length one.
        like: The errors, `(batch, *sizes, channels)`.

    Raises:
        ValueError: If `weights` has more axes than the errors, or other sizes.
    """
    weights = tf.cast(weights, like.dtype)
    missing = len(like.shape) - len(weights.shape)
    if missing < 0:
        raise ValueError(
            f"`sample_weight` must have at most {len(like.shape)} axes, got {weights.shape}."
        )
    for want, got in zip(like.shape, weights.shape, strict=False):
        if None not in (want, got) and got not in (1, want):
            raise ValueError(
                f"`sample_weight` must have the leading axes of the errors, {like.shape}, "
                f"got {weights.shape}."
            )
    weights = tf.reshape(weights, tf.concat([tf.shape(weights), [1] * missing], 0))
    return tf.broadcast_to(weights, tf.shape(like))


def weighted_mean(errors: tf.Tensor, weights: Any = None) -> tf.Tensor:
    """Mean of all entries, or of those that have weight. All-zero weights give zero."""
    if weights is None:
        return tf.reduce_mean(errors)
    weights = broadcast_weights(weights, errors)
    return tf.math.divide_no_nan(tf.reduce_sum(weights * errors), tf.reduce_sum(weights))


@keras.saving.register_keras_serializable("rim_tf")
class TrajectoryLoss(keras.losses.Loss):
    """Weighted squared error of every step: the mean over entries of `sum_t w_t (x_t - x)^2`.

    Both are unlinked, where the network takes its steps. With Keras's `sample_weight`, for
    examples `(batch,)` or pixels `(batch, *sizes)`, the mean is that of the entries with
    weight, so that masked entries neither pull nor dilute.

    Args:
        schedule: The weights `w_t`, as `step_weights` takes them. They sum to one, so that the
            loss is a mean squared error whatever the schedule.
        name: The loss's name.

    Raises:
        TypeError: If `schedule` is neither a name nor an array.
        ValueError: If the name is unknown, or the weights are unusable.

    References:
        Putzky & Welling (2017), arXiv:1706.04008, equation 9.
    """

    def __init__(self, schedule: Any = "uniform", name: str = "trajectory_loss"):
        super().__init__(name=name)
        if isinstance(schedule, str):
            self.schedule: Any = checks.choice("schedule", schedule, SCHEDULES)
        else:
            array = checks.array("schedule", schedule, shape=(None,))
            self.schedule = step_weights(array, array.size).tolist()

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tf.Tensor:
        """The loss of a batch.

        Args:
            y_true: The targets, unlinked, `(batch, *sizes, channels)`.
            y_pred: The trajectory, unlinked, `(batch, T, *sizes, channels)`.
            sample_weight: As `broadcast_weights` takes them.

        Returns:
            A scalar; under `tf.distribute` this replica's share of it.
        """
        loss = weighted_mean(self.call(y_true, y_pred), sample_weight)
        return loss / tf.distribute.get_strategy().num_replicas_in_sync

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        """The error of each entry, `(batch, *sizes, channels)`."""
        trajectory = tf.convert_to_tensor(y_pred)
        target = tf.cast(y_true, trajectory.dtype)[:, tf.newaxis]
        weights = step_weights(self.schedule, trajectory.shape[1])
        weights = weights.reshape(-1, *[1] * (len(trajectory.shape) - 2))
        return tf.reduce_sum(
            tf.constant(weights, trajectory.dtype) * tf.square(trajectory - target), axis=1
        )

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {"schedule": self.schedule, "name": self.name}
