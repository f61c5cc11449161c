"""Simulations held in memory."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from imnn_tf.simulations.batch import Batch, slope_weights


class ArraySimulations:
    """Fiducial and derivative simulations in arrays.

    A batch holds `at_once` fiducial simulations and as many of the derivative simulations that
    go with them, block after block: the fiducial ones, then each parameter below, then each
    above. The matched members of a derivative are therefore always in the same batch, and in the
    same place of their block: what a layer does to a whole batch (its normalisation) or draws for
    it (its dropout) is the same for both and cancels in their difference.

    Attributes:
        n_s: Number of fiducial simulations.
        n_d: Number of derivative simulations of each parameter and side.
        n_params: Number of parameters.
        n_batches: Number of batches.
        dtype: Floating type of the batches.
        blocks: Sizes of the blocks of a batch.
    """

    def __init__(
        self,
        fiducial: np.ndarray,
        derivative: np.ndarray,
        delta_theta: np.ndarray,
        *,
        dtype: tf.DType,
        at_once: int | None = None,
        map_fn: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ) -> None:
        """Lays the simulations out in batches.

        Args:
            fiducial: `[n_s, *input_shape]`.
            derivative: `[n_d, 2, n_params, *input_shape]`, below and above.
            delta_theta: Differences of the parameters between above and below, `[n_params]`.
            dtype: Floating type of the batches.
            at_once: Fiducial simulations in a batch, with their derivative simulations; all if
                left out.
            map_fn: Applied to each simulation, anew at every pass.
        """
        self.n_s, self.n_d = len(fiducial), len(derivative)
        self.n_params = n_params = derivative.shape[2]
        self.dtype = dtype
        largest = max(self.n_s, self.n_d)
        self.n_batches = -(-largest // min(at_once or largest, largest))
        rows_s, rows_d = (-(-n // self.n_batches) for n in (self.n_s, self.n_d))
        self.blocks = (rows_s,) + (rows_d,) * (2 * n_params)
        self._n_rows = sum(self.blocks)
        self._map_fn = map_fn

        places_s, real_s = _places(self.n_s, self.n_batches)
        places_d, real_d = _places(self.n_d, self.n_batches)
        input_shape = fiducial.shape[1:]
        # [n_batches, rows_d, 2, n_params, ...] with the rows of a block brought together.
        varied = np.moveaxis(derivative[places_d], 1, 3)
        data = np.concatenate(
            [fiducial[places_s], varied.reshape(self.n_batches, -1, *input_shape)], axis=1
        )
        weights = (
            slope_weights(self.n_d, delta_theta)[..., None, :] * real_d[:, None, None, :, None]
        )
        labels = np.zeros((self.n_batches, self._n_rows, 1 + n_params))
        labels[:, :rows_s, 0] = real_s
        labels[:, rows_s:, 1:] = weights.reshape(self.n_batches, -1, n_params)
        self._data = tf.constant(data.astype(dtype.as_numpy_dtype, copy=False))
        self._labels = tf.constant(labels, dtype)

    def begin(self) -> Callable[[tf.Tensor], Batch]:
        """Starts a pass; a random `map_fn` draws anew."""
        data = self._data
        if self._map_fn is not None:
            flat = tf.reshape(data, [-1, *data.shape[2:]])
            mapped = tf.map_fn(self._map_fn, flat, fn_output_signature=flat.dtype)
            data = tf.reshape(mapped, [self.n_batches, self._n_rows, *mapped.shape[1:]])

        def batch(index: tf.Tensor) -> Batch:
            # Taking the only batch there is must not copy it.
            rows, labels = (
                tf.squeeze(stack, axis=0) if self.n_batches == 1 else stack[index]
                for stack in (data, self._labels)
            )
            return Batch(rows, labels[:, 0], labels[:, 1:])

        return batch

    @property
    def fiducial(self) -> tf.Tensor:
        """The fiducial simulations, `[n_s, *input_shape]`."""
        rows = self._data[:, : self.blocks[0]]
        return tf.reshape(rows, [-1, *rows.shape[2:]])[: self.n_s]

    @property
    def derivative(self) -> tf.Tensor:
        """The derivative simulations, `[n_d, 2, n_params, *input_shape]`."""
        rows = self._data[:, self.blocks[0] :]
        rows = tf.reshape(rows, [self.n_batches, 2, self.n_params, self.blocks[1], *rows.shape[2:]])
        order = [0, 3, 1, 2, *range(4, rows.shape.rank)]
        rows = tf.transpose(rows, order)
        return tf.reshape(rows, [-1, *rows.shape[2:]])[: self.n_d]


def _places(count: int, n_batches: int) -> tuple[np.ndarray, np.ndarray]:
    """Which simulation each row of each batch holds, and whether it is one and not padding."""
    rows = -(-count // n_batches)
    places = np.arange(n_batches * rows).reshape(n_batches, rows)
    return places % count, (places < count).astype(float)
