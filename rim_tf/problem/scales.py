"""The scales of a problem: what the numbers that a network sees are divided by.

Parameters, scores and data come in any unit. A network works on numbers of order one. The scales
are measured once, on the first batch of training data, and saved with the weights.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from imnn_tf.utils.types import KerasVariable


class Unscaled:
    """No scales: everything stays as it is."""

    def parameters(self, u: tf.Tensor) -> tf.Tensor:
        """Iterates `[batch, *sizes, channels]`, as they are."""
        return u

    def scores(self, score: tf.Tensor) -> tf.Tensor:
        """Scores `[batch, *sizes, channels]`, as they are."""
        return score

    def data(self, shown: list[tf.Tensor]) -> list[tf.Tensor]:
        """The data that are shown, `[batch, *sizes, observation_channels]` or none, as they are."""
        return shown

    def steps(self, step: tf.Tensor) -> tf.Tensor:
        """Steps `[batch, *sizes, channels]`, as they are."""
        return step


@keras.saving.register_keras_serializable("rim_tf")
class Scales(keras.layers.Layer):
    """Typical sizes, one for each channel, all one until they are measured.

    With `u` the unlinked targets and `u_0` the initial iterate, the scales are the root mean
    squares of `u`, of `u - u_0` and of the data that are shown. That of the scores is the larger
    root mean square of the two at `u_0` and at `u`, in the geometric mean over the examples.
    Scores differ between examples by orders of magnitude, and a few large ones would decide any
    other mean. At `u_0` they may be zero; at `u` their covariance is the Fisher information.

    Args:
        channels: The number of channels of the parameters.
        observation_channels: The number of channels of the data that the network is shown.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.
    """

    def __init__(self, channels: int, observation_channels: int = 0, **kwargs: Any):
        super().__init__(trainable=False, **kwargs)

        def scale(name: str, size: int) -> KerasVariable:
            return self.add_weight(name=name, shape=(size,), initializer="ones", trainable=False)

        self._of_parameters = scale("of_parameters", channels)
        self._of_steps = scale("of_steps", channels)
        self._of_scores = scale("of_scores", channels)
        self._of_data = scale("of_data", observation_channels)
        self._measured = self.add_weight(
            name="measured", shape=(), initializer="zeros", trainable=False
        )
        self.built = True

    @property
    def measured(self) -> bool:
        """Whether the scales were measured."""
        return bool(keras.ops.convert_to_numpy(self._measured))

    def parameters(self, u: tf.Tensor) -> tf.Tensor:
        """Iterates `[batch, *sizes, channels]` in units of their scale."""
        return u / tf.convert_to_tensor(self._of_parameters)

    def scores(self, score: tf.Tensor) -> tf.Tensor:
        """Scores `[batch, *sizes, channels]` in units of their scale."""
        return score / tf.convert_to_tensor(self._of_scores)

    def data(self, shown: list[tf.Tensor]) -> list[tf.Tensor]:
        """The data that are shown, `[batch, *sizes, observation_channels]` or none, scaled."""
        return [tf.cast(y, self.variable_dtype) / self._of_data for y in shown]

    def steps(self, step: tf.Tensor) -> tf.Tensor:
        """Steps `[batch, *sizes, channels]` of order one in the unit of the iterates."""
        return step * tf.convert_to_tensor(self._of_steps)

    def measure(
        self,
        target: tf.Tensor,
        start: tf.Tensor,
        scores: Sequence[tf.Tensor],
        shown: Sequence[tf.Tensor],
    ) -> None:
        """Measures the scales.

        Args:
            target: The true parameters, unlinked, `[batch, *sizes, channels]`. NaN does not count.
            start: The initial iterate, of the same shape.
            scores: The scores of `start` and of `target`, of the same shape.
            shown: The data that are shown, `[batch, *sizes, observation_channels]`, or none.
        """
        self._of_parameters.assign(_or_one(_root_mean_square(target)))
        self._of_steps.assign(_or_one(_root_mean_square(target - start)))
        axes = list(range(1, len(start.shape) - 1))
        at_start, at_target = (_root_mean_square(score, axes) for score in scores)
        # The logarithm of zero is not finite, so an example without a score does not count.
        self._of_scores.assign(
            tf.exp(_finite_mean(tf.math.log(tf.maximum(at_start, at_target)), [0]))
        )
        for y in shown:
            self._of_data.assign(_or_one(_root_mean_square(tf.cast(y, self.variable_dtype))))
        self._measured.assign(1.0)

    def load_own_variables(self, store: Any) -> None:
        """Loads the scales from a file, and says what to do if it has none."""
        if not list(store.keys()):
            raise ValueError(
                "The file must hold the scales of a RIM with `score_preprocessing_method` "
                "'scaled', got none. The default of version 0.3 was 'identity': give that to "
                "`RIM` to load weights of version 0.3."
            )
        super().load_own_variables(store)


def _finite_mean(x: tf.Tensor, axes: Sequence[int]) -> tf.Tensor:
    """The mean of the numbers that are finite; zero if there are none."""
    finite = tf.math.is_finite(x)
    total = tf.reduce_sum(tf.where(finite, x, tf.zeros_like(x)), axes)
    return tf.math.divide_no_nan(total, tf.reduce_sum(tf.cast(finite, x.dtype), axes))


def _root_mean_square(x: tf.Tensor, axes: Sequence[int] | None = None) -> tf.Tensor:
    """Over the given axes, or over all but the channels."""
    axes = list(range(len(x.shape) - 1)) if axes is None else axes
    # Divided by the largest number first, because the square of 1e20 is infinite.
    finite = tf.where(tf.math.is_finite(x), tf.abs(x), tf.zeros_like(x))
    largest = _or_one(tf.reduce_max(finite, axes, keepdims=True))
    mean = _finite_mean(tf.square(x / largest), axes)
    return tf.sqrt(mean) * tf.reshape(largest, tf.shape(mean))


def _or_one(scale: tf.Tensor) -> tf.Tensor:
    """One in the place of zero: a channel that is always zero has no scale."""
    return tf.where(scale > 0, scale, tf.ones_like(scale))
