"""The loss of a whole trajectory, and how much each of its steps counts."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from imnn_tf.utils import checks
from imnn_tf.utils.types import Numbers
from rim_tf.problem.observation import require_real

SCHEDULES = ("uniform", "linear", "quadratic", "logarithmic", "last")


def step_weights(schedule: str | ArrayLike, steps: int) -> np.ndarray:
    """How much each step of a trajectory counts.

    Args:
        schedule: "uniform"; "linear" or "quadratic", which grow like the step's number or its
            square; "logarithmic", from 0.1 to 1 in even steps of the logarithm; "last", the last
            step alone; or non-negative weights, `[steps]`.
        steps: The number of steps.

    Returns:
        Weights that sum to one, `[steps]`.

    Raises:
        TypeError: If an array of weights does not hold real numbers.
        ValueError: If the name is unknown, or if the weights are negative, all zero, or not as
            many as there are steps.
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


def broadcast_weights(weights: Numbers, like: tf.Tensor) -> tf.Tensor:
    """Weights of examples, pixels or entries, in the shape of the errors that they weigh.

    Args:
        weights: `[batch]`, `[batch, *sizes]` or `[batch, *sizes, channels]`. Any axis may have
            length one.
        like: The errors, `[batch, *sizes, channels]`.

    Returns:
        `[batch, *sizes, channels]`.

    Raises:
        TypeError: If `weights` is complex.
        ValueError: If `weights` has more axes than the errors, or other sizes.
    """
    weights = tf.convert_to_tensor(weights)
    require_real("`sample_weight`", weights)
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
    # The axes that are missing go behind, where plain broadcasting would put them in front.
    weights = tf.reshape(weights, tf.concat([tf.shape(weights), [1] * missing], 0))
    return tf.broadcast_to(weights, tf.shape(like))


def weighted_mean(errors: tf.Tensor, weights: Numbers = None) -> tf.Tensor:
    """The mean of errors, weighted if there are weights, over the whole batch.

    Args:
        errors: `[batch, *sizes, channels]`; under `tf.distribute` this replica's share of them.
        weights: `[batch]`, `[batch, *sizes]` or `[batch, *sizes, channels]`. Any axis may have
            length one. Defaults to `None`, equal weights.

    Returns:
        A scalar, zero if all weights are zero. Under `tf.distribute` every replica has the mean
        over all replicas, and its slope is that of the replica's own errors.
    """
    if weights is None:
        return mean_over_replicas(tf.reduce_sum(errors), tf.size(errors))
    weights = broadcast_weights(weights, errors)
    # An entry without weight may be NaN.
    total = tf.reduce_sum(tf.math.multiply_no_nan(errors, weights))
    return mean_over_replicas(total, tf.reduce_sum(weights))


def mean_over_replicas(total: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """A sum over a batch, divided by the sum of its weights.

    Args:
        total: The sum over this replica's part of the batch, a scalar.
        weight: The sum of that part's weights, a scalar.

    Returns:
        The quotient of the sums over all replicas, a scalar; zero if the weights are zero. Its
        slope is that of this replica's part, so that the slopes of all replicas add up to the
        slope of the quotient. A mean of the replicas' means would be another number if one of
        them has fewer examples or less weight.
    """
    weight = tf.cast(weight, total.dtype)
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        # A batch that is masked as a whole has a loss of zero, not NaN.
        return tf.math.divide_no_nan(total, weight)
    sums: Any = context.all_reduce(tf.distribute.ReduceOp.SUM, [total, weight])
    own = tf.math.divide_no_nan(total, sums[1])
    return own + tf.stop_gradient(tf.math.divide_no_nan(*sums) - own)


def _share(mean: tf.Tensor) -> tf.Tensor:
    """A replica's share of the mean over all replicas, with the whole slope.

    Keras multiplies the value by the number of replicas before it is logged, and adds up the
    slopes of all replicas.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return mean - tf.stop_gradient(mean * (1.0 - 1.0 / replicas))


@keras.saving.register_keras_serializable("rim_tf")
class TrajectoryLoss(keras.losses.Loss):
    """The weighted squared error of all steps: the mean over entries of `sum_t w_t (u_t - u)^2`.

    Targets `u` and iterates `u_t` are unlinked, where the network takes its steps, or parameters
    after `compile(loss_of="x")`. With Keras's
    `sample_weight`, of examples `[batch]` or pixels `[batch, *sizes]`, it is the mean over the
    entries that have weight. Masked entries then neither pull the estimate nor dilute the mean.

    Args:
        schedule: The weights `w_t`: "uniform" (the default), "linear", "quadratic", "logarithmic"
            or "last", or non-negative numbers, `[T]`; see `step_weights`. They are made to sum to
            one, so the loss is a mean squared error for every schedule.
        name: The name of the loss. Defaults to "trajectory_loss".

    Raises:
        TypeError: If `schedule` is neither a name nor an array.
        ValueError: If the name is unknown, or the weights are negative or all zero.

    References:
        Putzky & Welling (2017), arXiv:1706.04008, equation 9.
    """

    def __init__(
        self,
        schedule: str | Sequence[float] | np.ndarray = "uniform",
        name: str = "trajectory_loss",
    ):
        super().__init__(name=name)
        self.schedule: str | list[float]
        if isinstance(schedule, str):
            self.schedule = checks.choice("schedule", schedule, SCHEDULES)
        else:
            array = checks.array("schedule", schedule, shape=(None,))
            self.schedule = step_weights(array, array.size).tolist()

    def __call__(
        self, y_true: Numbers, y_pred: Numbers, sample_weight: Numbers = None
    ) -> tf.Tensor:
        """The loss of a batch.

        Args:
            y_true: The targets, `[batch, *sizes, channels]`.
            y_pred: The trajectory, `[batch, T, *sizes, channels]`.
            sample_weight: The weights of examples, pixels or entries, `[batch]`,
                `[batch, *sizes]` or `[batch, *sizes, channels]`. Defaults to `None`, equal weights.

        Returns:
            A scalar; under `tf.distribute`, this replica's share of it.
        """
        if sample_weight is not None:
            # An error of NaN would have a slope of NaN, whatever its weight.
            y_true = tf.convert_to_tensor(y_true)
            weights = broadcast_weights(sample_weight, y_true)
            y_true = tf.where(tf.equal(weights, 0), tf.zeros_like(y_true), y_true)
        return _share(weighted_mean(self.call(y_true, y_pred), sample_weight))

    def call(self, y_true: Numbers, y_pred: Numbers) -> tf.Tensor:
        """The error of each entry.

        Args:
            y_true: The targets, `[batch, *sizes, channels]`.
            y_pred: The trajectory, `[batch, T, *sizes, channels]`.

        Returns:
            `[batch, *sizes, channels]`.
        """
        trajectory = tf.convert_to_tensor(y_pred)
        target = tf.expand_dims(tf.cast(y_true, trajectory.dtype), 1)
        return tf.reduce_sum(self.weights(trajectory) * tf.square(trajectory - target), axis=1)

    def weights(self, trajectory: tf.Tensor) -> tf.Tensor:
        """How much each step counts, `[T, 1, ...]`, for a trajectory `[batch, T, ...]`."""
        steps = trajectory.shape[1]
        assert steps is not None  # the loop is unrolled
        weights = step_weights(self.schedule, steps)
        shape = (-1, *[1] * (len(trajectory.shape) - 2))
        return tf.constant(weights.reshape(shape), trajectory.dtype)

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {"schedule": self.schedule, "name": self.name}


@keras.saving.register_keras_serializable("rim_tf")
class FunctionLoss(keras.losses.Loss):
    """A user's function as a loss.

    Keras's own wrapper of functions makes both arrays have the same number of axes. From a
    trajectory of one channel it would take away the axis of the channels.

    Args:
        function: `function(targets, trajectory)`, of targets `[batch, *sizes, channels]` and the
            trajectory `[batch, T, *sizes, channels]`, unlinked or not as `compile` is told. It
            returns losses, `[batch, ...]`, or a scalar, the mean over the examples.
        name: The name of the loss. Defaults to `None`, that of the function.
    """

    def __init__(self, function: Callable[..., tf.Tensor], name: str | None = None):
        own = getattr(function, "__name__", type(function).__name__)
        super().__init__(name=name or own.strip("<>"))  # TensorFlow takes no "<lambda>"
        self.function = function

    def __call__(
        self, y_true: Numbers, y_pred: Numbers, sample_weight: Numbers = None
    ) -> tf.Tensor:
        """The loss of a batch: the mean of all losses, each times its weight.

        Args:
            y_true: The targets, `[batch, *sizes, channels]`.
            y_pred: The trajectory, `[batch, T, *sizes, channels]`.
            sample_weight: Weights with leading axes of the losses. Defaults to `None`, ones.

        Returns:
            A scalar; under `tf.distribute`, this replica's share of it.

        Raises:
            ValueError: If the weights have more axes than the losses.
        """
        trajectory = tf.convert_to_tensor(y_pred)
        losses = tf.convert_to_tensor(self.call(y_true, trajectory), trajectory.dtype)
        if sample_weight is not None:
            losses *= broadcast_weights(_without_ones(sample_weight, losses), losses)
        # A scalar stands for all examples of this replica.
        count = tf.size(losses) if losses.shape.rank else tf.shape(trajectory)[0]
        total = losses if losses.shape.rank else losses * tf.cast(count, losses.dtype)
        return _share(mean_over_replicas(tf.reduce_sum(total), count))

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Calls the function.

        Args:
            y_true: The targets, `[batch, *sizes, channels]`.
            y_pred: The trajectory, `[batch, T, *sizes, channels]`.

        Returns:
            What the function returns, `[batch, ...]` or a scalar.
        """
        return self.function(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {
            "function": keras.saving.serialize_keras_object(self.function),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FunctionLoss":
        """Makes the loss from its configuration."""
        return cls(keras.saving.deserialize_keras_object(config["function"]), config["name"])


def _without_ones(weights: Numbers, like: tf.Tensor) -> tf.Tensor:
    """Weights without the last axes of length one that the losses do not have."""
    weights = tf.convert_to_tensor(weights)
    while len(weights.shape) > max(len(like.shape), 1) and weights.shape[-1] == 1:
        weights = tf.squeeze(weights, -1)
    return weights


def as_trajectory_losses(loss: Any) -> Any:
    """The losses that a user passes to `compile`, in a form that sees whole trajectories.

    Args:
        loss: A function, a `keras.losses.Loss`, `None` for `TrajectoryLoss()`, or a list or
            dictionary of them.

    Returns:
        A nest of the structure of `loss`, with each function wrapped.

    Raises:
        ValueError: If a loss is one of Keras's own.
    """

    def convert(each: Any) -> Any:
        if each is None:
            return TrajectoryLoss()
        found = keras.losses.get(each)
        if is_of_keras(found):
            raise ValueError(
                "`loss` must be a function of the targets [batch, ...] and the trajectory "
                "[batch, T, ...], or an object made for them such as TrajectoryLoss, got "
                f"{each!r}, which compares arrays of one shape."
            )
        return found if isinstance(found, keras.losses.Loss) else FunctionLoss(found)

    return keras.tree.map_structure(convert, loss)


def is_of_keras(found: Any) -> bool:
    """Whether a loss or a metric is one of Keras's own, which compare two arrays of one shape."""
    kind = found if hasattr(found, "__name__") else type(found)
    # A function that `exec` defined has no module.
    return found is not None and str(kind.__module__).split(".")[0] == "keras"
