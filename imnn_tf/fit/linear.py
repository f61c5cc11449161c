"""What a linear compression of the same simulations keeps: the least that a fit should."""

import keras
import numpy as np
import tensorflow as tf

from imnn_tf.fit.passes import Summariser
from imnn_tf.information import Statistics
from imnn_tf.simulations import Simulations
from imnn_tf.simulations.feeds.stream import reading_errors
from imnn_tf.utils.tensors import known_shape

# A compression with many weights would be learnt by heart from few simulations.
_SIMULATIONS_PER_FEATURE = 10

# Directions with a smaller share of the variance are rounding, as in the corners of a mask.
_LEAST_VARIANCE = 1e-5


def linear_log_det_fisher(
    summariser: Summariser, training: Simulations, validation: Simulations
) -> float:
    """`ln det F` of the validation set after a linear compression fitted to the training set.

    The compression is the score of the means of blocks of neighbours, as many as there are ten
    simulations for, beside the external summaries. Its weights know nothing of the validation
    set, so the result is as good an estimate of a lower bound as the network's own.

    Args:
        summariser: The model, of which only the external summaries beside it are used.
        training: The simulations to find the weights of the compression from.
        validation: The simulations to measure its information on.

    Returns:
        `ln det F`; minus infinity where the blocks say nothing about some parameters.

    References:
        Alsing & Wandelt (2018), arXiv:1712.00012.
    """
    with reading_errors(training, validation):
        shape = known_shape(training.batches(1).at(0).data)[1:]
        model = _BlockMeans(shape, min(training.n_s, validation.n_s) // _SIMULATIONS_PER_FEATURE)
        means = Summariser(model, model.n_features, summariser.n_external, summariser.replicas)
        C, slope = _covariance_and_slope(means.statistics(training, update=1))
        validation_C, validation_slope = _covariance_and_slope(means.statistics(validation))
    scale = np.sqrt(np.diag(C))
    scale[scale == 0] = np.inf  # a constant feature gets no weight
    values, axes = np.linalg.eigh(C / np.outer(scale, scale))
    kept = values > _LEAST_VARIANCE * max(values[-1], 0)
    inverse = (axes[:, kept] / values[kept]) @ axes[:, kept].T / np.outer(scale, scale)
    weights = inverse @ slope.T  # [n_features, n_params]
    compressed = validation_slope @ weights
    covariance = weights.T @ validation_C @ weights
    sign, log_det = np.linalg.slogdet(covariance)
    if sign <= 0 or not np.isfinite(log_det):
        return -np.inf
    return float(2 * np.linalg.slogdet(compressed)[1] - log_det)


def _covariance_and_slope(total: Statistics) -> tuple[np.ndarray, np.ndarray]:
    """`[n_features, n_features]` and `[n_params, n_features]`, in double precision."""
    (count, _, scatter), slope = total
    return np.asarray(scatter, np.float64) / (float(count) - 1), np.asarray(slope, np.float64)


class _BlockMeans(keras.Model):
    """Means of blocks of neighbouring entries, about the same number along each long axis.

    Args:
        shape: Shape of one simulation.
        most: The most means; at least one for each channel.
    """

    def __init__(self, shape: tuple[int, ...], most: int) -> None:
        super().__init__()
        sizes = list(shape)
        while np.prod(sizes) > most and max(sizes) > 1:
            longest = int(np.argmax(sizes))
            sizes[longest] = (sizes[longest] + 1) // 2
        self._block_means = []
        for full, kept in zip(shape, sizes, strict=True):
            member = np.equal.outer(np.arange(full) * kept // full, np.arange(kept))
            self._block_means.append(member / member.sum(axis=0))
        self.n_features = int(np.prod(sizes))

    def call(self, data: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The means, `[batch, n_features]`, of simulations `[batch, *shape]`."""
        for matrix in self._block_means:
            # The axis that is averaged moves to the end, so the next one becomes the first.
            data = tf.tensordot(data, tf.constant(matrix, data.dtype), [[1], [0]])
        return tf.reshape(data, [-1, self.n_features])
