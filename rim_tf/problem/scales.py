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


class MeasuredScales(keras.layers.Layer):
    """Scales that are one until they are measured.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(trainable=False, **kwargs)

    def _add_scales(self, **sizes: int) -> list[KerasVariable]:
        """Variables of the given names and numbers of channels, and whether they are measured."""
        scales = [
            self.add_weight(name=name, shape=(size,), initializer="ones", trainable=False)
            for name, size in sizes.items()
        ]
        self._measured = self.add_weight(
            name="measured", shape=(), initializer="zeros", trainable=False
        )
        self.built = True
        return scales

    @property
    def measured(self) -> bool:
        """Whether the scales were measured."""
        return bool(keras.ops.convert_to_numpy(self._measured))


@keras.saving.register_keras_serializable("rim_tf")
class Scales(MeasuredScales):
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
        super().__init__(**kwargs)
        self._of_parameters, self._of_steps, self._of_scores, self._of_data = self._add_scales(
            of_parameters=channels,
            of_steps=channels,
            of_scores=channels,
            of_data=observation_channels,
        )

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
        self._of_parameters.assign(or_one(root_mean_square(target)))
        self._of_steps.assign(or_one(root_mean_square(target - start)))
        self._of_scores.assign(typical_score(scores))
        for y in shown:
            self._of_data.assign(or_one(root_mean_square(tf.cast(y, self.variable_dtype))))
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


def typical_score(scores: Sequence[tf.Tensor]) -> tf.Tensor:
    """The largest root mean square among scores of one example, in the mean over the examples.

    Args:
        scores: Scores of the same examples, `[batch, *sizes, channels]` each.

    Returns:
        The geometric mean, `[channels]`.
    """
    axes = list(range(1, len(scores[0].shape) - 1))
    sizes = tf.stack([root_mean_square(score, axes) for score in scores])
    # The logarithm of zero is not finite, so an example without a score does not count.
    return tf.exp(_finite_mean(tf.math.log(tf.reduce_max(sizes, axis=0)), [0]))


def root_mean_square(x: tf.Tensor, axes: Sequence[int] | None = None) -> tf.Tensor:
    """Over the given axes, or over all but the channels."""
    axes = list(range(len(x.shape) - 1)) if axes is None else axes
    # Divided by the largest number first, because the square of 1e20 is infinite.
    finite = tf.where(tf.math.is_finite(x), tf.abs(x), tf.zeros_like(x))
    largest = or_one(tf.reduce_max(finite, axes, keepdims=True))
    mean = _finite_mean(tf.square(x / largest), axes)
    return tf.sqrt(mean) * tf.reshape(largest, tf.shape(mean))


def or_one(scale: tf.Tensor) -> tf.Tensor:
    """One in the place of zero: a channel that is always zero has no scale."""
    return tf.where(scale > 0, scale, tf.ones_like(scale))
