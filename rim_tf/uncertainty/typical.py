"""The typical error of an example: what a RIM leaves, of its training data or of simulated ones."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from imnn_tf.utils.types import KerasModel
from rim_tf.problem.scales import MeasuredScales, or_one, root_mean_square
from rim_tf.uncertainty.draws import Draws

EXAMPLES = 64
"""How many true parameters are kept, of which data are simulated."""

TINY = 1e-12
"""A mean square in units of its typical value that counts as zero."""


@keras.saving.register_keras_serializable("rim_tf")
class TypicalErrors(MeasuredScales):
    """Typical sizes of parameters and residuals, one for each channel, and true parameters.

    Args:
        channels: The number of channels of the parameters.
        sizes: The spatial sizes of the true parameters that are kept, or `None` to keep none.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.
    """

    def __init__(self, channels: int, sizes: tuple[int, ...] | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.of_parameters, self.of_residuals = self._add_scales(
            of_parameters=channels, of_residuals=channels
        )
        self.examples = None
        if sizes is not None:
            shape = (EXAMPLES, *sizes, channels)
            self.examples = self.add_weight(
                name="examples", shape=shape, initializer="zeros", trainable=False
            )

    def measure(self, target: tf.Tensor, estimate: tf.Tensor) -> None:
        """Measures the scales of some examples, and keeps their parameters.

        Args:
            target: The true parameters, unlinked, `[batch, *sizes, channels]`. NaN does not count.
            estimate: What the RIM makes of their data, of the same shape.
        """
        self.of_parameters.assign(or_one(root_mean_square(target)))
        self.of_residuals.assign(or_one(root_mean_square(target - estimate)))
        if self.examples is not None:
            known = tf.where(tf.math.is_finite(target), target, estimate)
            self.examples.assign(tf.gather(known, np.arange(EXAMPLES) % len(known)))
        self._measured.assign(1.0)

    def residuals(
        self,
        rim: KerasModel,
        inputs: Sequence[Any],
        u: tf.Tensor,
        draws: Draws,
        each: int,
        training: bool,
    ) -> tf.Tensor:
        """What the RIM leaves of simulated data, `[batch, each, *sizes, channels]`.

        The data are those of other parameters with the operator and the noise of each example.

        Args:
            rim: The RIM, whose likelihood simulates.
            inputs: `y` and the other arguments of the score, `[batch, ...]` each.
            u: The estimates, `[batch, *sizes, channels]`.
            draws: Makes the noise.
            each: How many data are simulated for each example.
            training: Whether to draw new noise and other parameters each time.
        """
        y, *args = inputs
        if self.examples is None:
            truth = tf.repeat(u, each, axis=0)
        else:
            rows = draws.rows(tf.shape(u)[0], each, EXAMPLES, training)
            truth = tf.gather(tf.convert_to_tensor(self.examples), rows)
        repeated = tf.nest.map_structure(lambda given: tf.repeat(given, each, 0), list(args))
        normals = draws.normals(y, each, training)
        data = rim.likelihood.simulate(rim.parameters.link(truth), normals, *repeated)
        found = rim((data, *repeated), training=False)[:, -1]
        shape = tf.concat([[tf.shape(u)[0], each], tf.shape(u)[1:]], 0)
        left = tf.ensure_shape(tf.reshape(found - truth, shape), (None, None, *u.shape[1:]))
        return tf.stop_gradient(left)

    def log_variance(self, residuals: tf.Tensor | None) -> tf.Tensor:
        """The logarithm of the typical variance, that of each example if it was simulated.

        Args:
            residuals: What the RIM left of simulated data,
                `[batch, simulations, *sizes, channels]`, or `None`.

        Returns:
            `[channels]`, or `[batch, 1, ..., channels]`.
        """
        scale = tf.convert_to_tensor(self.of_residuals)
        if residuals is None:
            return 2.0 * tf.math.log(scale)
        axes = list(range(1, len(residuals.shape) - 1))
        mean = tf.reduce_mean(tf.square(residuals / scale), axes)
        mean = tf.math.log(tf.maximum(mean, TINY)) + 2.0 * tf.math.log(scale)
        return tf.reshape(mean, [-1, *[1] * (len(axes) - 1), mean.shape[-1]])
