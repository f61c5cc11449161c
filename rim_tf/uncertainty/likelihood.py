"""What a network of pixel errors is trained by, and what is logged meanwhile."""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from imnn_tf.utils.types import Numbers
from rim_tf.fitting.losses import TrajectoryLoss, weighted_mean
from rim_tf.problem.parameters import Parameters, Values


@keras.saving.register_keras_serializable("rim_tf")
class PixelLikelihood(TrajectoryLoss):
    """Minus the log likelihood of the truth, per entry, with each pixel's mean and variance.

        sum_k w_k [log(2 pi) + s_k + (u - u_T)^2 exp(-s_k)] / 2

    `u_T` is the estimate, and `s_k` are the log-variances after each probe. Whatever the
    distribution of `u`, the expectation is smallest where `exp(s_k)` is the mean of
    `(u - u_T)^2` given the data. For the posterior mean that is the posterior variance.

    Args:
        schedule: The weights `w_k`, as for `TrajectoryLoss`. Defaults to "uniform".
        name: The name of the loss. Defaults to "pixel_likelihood".
    """

    def __init__(self, schedule: str | Sequence[float] = "uniform", name: str = "pixel_likelihood"):
        super().__init__(schedule, name)

    def call(self, y_true: Numbers, y_pred: Numbers) -> tf.Tensor:
        """The loss of each entry.

        Args:
            y_true: The targets, unlinked, `[batch, *sizes, channels]`.
            y_pred: The estimate and the log-variances, `[batch, 1 + probes, *sizes, channels]`.

        Returns:
            `[batch, *sizes, channels]`.
        """
        y_pred = tf.convert_to_tensor(y_pred)
        estimate, variances = y_pred[:, :1], y_pred[:, 1:]
        residual = tf.expand_dims(tf.cast(y_true, y_pred.dtype), 1) - estimate
        # The square of the quotient, because squares of small residuals would be zero.
        quotient = residual * tf.exp(-0.5 * variances)
        terms = 0.5 * (math.log(2 * math.pi) + variances + tf.square(quotient))
        return tf.reduce_sum(self.weights(terms) * terms, axis=1)


class PixelMetrics:
    """`within`, the share of the entries that are within one standard deviation of the estimate.

    Residuals that are Gaussian, with the variances that are said, have 0.683.

    Args:
        parameters: Finds the unlinked targets.
    """

    def __init__(self, parameters: Parameters):
        self._parameters = parameters
        self._within = keras.metrics.Mean(name="within")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The Keras metrics."""
        return [self._within]

    def update(self, y_pred: tf.Tensor, truth: Values, sample_weight: Numbers = None) -> None:
        """Adds a batch.

        Args:
            y_pred: The estimate and the log-variances, `[batch, 1 + probes, *sizes, channels]`.
            truth: The true parameters, `[batch, *sizes, channels]` or a dictionary by field.
            sample_weight: Weights, `[batch]`, `[batch, *sizes]` or `[batch, *sizes, channels]`.
                Defaults to `None`, equal weights.
        """
        residual = self._parameters.target(truth, y_pred) - y_pred[:, 0]
        within = tf.cast(tf.abs(residual) <= tf.exp(0.5 * y_pred[:, -1]), y_pred.dtype)
        share = weighted_mean(within, sample_weight)
        # Weighted, because the last batch of an epoch may be smaller.
        self._within.update_state(share, sample_weight=tf.shape(y_pred)[0])
