"""Simulations held in memory."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from imnn_tf.simulations.batch import Batch, slope_weights

MapFunction = Callable[[tf.Tensor], tf.Tensor]


class ArraySimulations:
    """Fiducial and derivative simulations in arrays.

    A batch holds `at_once` fiducial simulations and as many of the derivative simulations that
    go with them, block after block: the fiducial ones, then each parameter below, then each
    above. The matched members of a derivative are therefore always in the same batch, and in the
    same place of their block: what a layer does to a whole batch (its normalisation) or draws for
    it (its dropout) is the same for both and cancels in their difference.

    Where the derivatives are exact, a batch holds fiducial simulations alone, and their
    derivatives beside them.

    Attributes:
        n_s: Number of fiducial simulations.
        n_d: Number of derivative simulations, of each parameter and side where they are numerical.
        n_params: Number of parameters.
        input_shape: Shape of one simulation.
        n_batches: Number of batches.
        dtype: Floating type of the batches.
        compilable: Whether XLA may compile what makes the batches: where no `map_fn` does.
        blocks: Sizes of the blocks of a batch.
    """

    def __init__(
        self,
        fiducial: np.ndarray,
        derivative: np.ndarray,
        delta_theta: np.ndarray | None,
        *,
        dtype: tf.DType,
        at_once: int | None = None,
        map_fn: MapFunction | None = None,
    ) -> None:
        """Lays the simulations out in batches.

        Args:
            fiducial: `[n_s, *input_shape]`.
            derivative: `[n_d, 2, n_params, *input_shape]`, below and above; or, exact and of the
                first `n_d` fiducial simulations, `[n_d, *input_shape, n_params]`.
            delta_theta: Differences of the parameters between above and below, `[n_params]`;
                `None` where the derivatives are exact.
            dtype: Floating type of the batches.
            at_once: Fiducial simulations in a batch, with their derivative simulations; all if
                left out.
            map_fn: Applied to each simulation, anew at every pass.
        """
        self.n_s, self.n_d = len(fiducial), len(derivative)
        self.input_shape = fiducial.shape[1:]
        self.dtype = dtype
        largest = max(self.n_s, self.n_d)
        self.n_batches = -(-largest // min(at_once or largest, largest))
        self._map_fn = map_fn
        self.compilable = map_fn is None
        self._tangents: tf.Tensor | None = None
        if delta_theta is None:
            self.n_params = derivative.shape[-1]
            data, labels = self._with_tangents(fiducial, derivative)
        else:
            self.n_params = derivative.shape[2]
            data, labels = self._with_differences(fiducial, derivative, delta_theta)
        self._data, self._labels = self._tensor(data), self._tensor(labels)

    def _with_differences(
        self, fiducial: np.ndarray, derivative: np.ndarray, delta_theta: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Data and labels of batches of blocks, `[n_batches, rows, ...]`."""
        places_s, real_s = _places(self.n_s, self.n_batches)
        places_d, real_d = _places(self.n_d, self.n_batches)
        rows_s, rows_d = places_s.shape[1], places_d.shape[1]
        self.blocks = (rows_s,) + (rows_d,) * (2 * self.n_params)
        # [n_batches, 2, n_params, rows_d, ...]: the rows of a block brought together.
        varied = np.moveaxis(derivative[places_d], 1, 3)
        varied = varied.reshape(self.n_batches, -1, *self.input_shape)
        data = np.concatenate([fiducial[places_s], varied], axis=1)
        weights = slope_weights(self.n_d, delta_theta)[..., None, :]
        weights = weights * real_d[:, None, None, :, None]
        labels = np.zeros((self.n_batches, data.shape[1], 1 + self.n_params))
        labels[:, :rows_s, 0] = real_s
        labels[:, rows_s:, 1:] = weights.reshape(self.n_batches, -1, self.n_params)
        return data, labels

    def _with_tangents(
        self, fiducial: np.ndarray, derivative: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Data and labels of batches of fiducial simulations, their derivatives kept aside."""
        places, real = _places(self.n_s, self.n_batches)
        self.blocks = (places.shape[1],)
        known = places < self.n_d
        tangents = derivative[np.where(known, places, 0)]
        tangents[~known] = 0
        self._tangents = self._tensor(tangents)
        labels = np.zeros((*places.shape, 1 + self.n_params))
        labels[..., 0] = real
        labels[..., 1:] = (real * known / self.n_d)[..., None]
        return fiducial[places], labels

    def _tensor(self, array: np.ndarray) -> tf.Tensor:
        return tf.constant(array.astype(self.dtype.as_numpy_dtype, copy=False))

    def begin(self, update: tf.Tensor | int = 0) -> Callable[[tf.Tensor], Batch]:
        """Starts a pass; a random `map_fn` draws anew."""
        del update
        data, tangents = self._data, self._tangents
        if self._map_fn is not None:
            data, tangents = _mapped(self._map_fn, data, tangents)

        def batch(index: tf.Tensor) -> Batch:
            def take(stack: tf.Tensor) -> tf.Tensor:
                # Taking the only batch there is must not copy it.
                return tf.squeeze(stack, axis=0) if self.n_batches == 1 else stack[index]

            labels = take(self._labels)
            tangent = None if tangents is None else take(tangents)
            return Batch(take(data), labels[:, 0], labels[:, 1:], tangent)

        return batch

    @property
    def fiducial(self) -> tf.Tensor:
        """The fiducial simulations, `[n_s, *input_shape]`."""
        rows = self._data[:, : self.blocks[0]]
        return tf.reshape(rows, [-1, *rows.shape[2:]])[: self.n_s]

    @property
    def derivative(self) -> tf.Tensor:
        """The derivative simulations, of the shape they had."""
        if self._tangents is not None:
            return tf.reshape(self._tangents, [-1, *self._tangents.shape[2:]])[: self.n_d]
        rows = self._data[:, self.blocks[0] :]
        rows = tf.reshape(rows, [self.n_batches, 2, self.n_params, self.blocks[1], *rows.shape[2:]])
        order = [0, 3, 1, 2, *range(4, rows.shape.rank)]
        rows = tf.transpose(rows, order)
        return tf.reshape(rows, [-1, *rows.shape[2:]])[: self.n_d]


def _mapped(
    map_fn: MapFunction, data: tf.Tensor, tangents: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Batches of simulations, each gone through a function, with their tangents."""
    batches, rows = data.shape[:2]
    flat = tf.reshape(data, [-1, *data.shape[2:]])

    def one_by_one(simulations: tf.Tensor) -> tf.Tensor:
        mapped = tf.map_fn(map_fn, simulations, fn_output_signature=simulations.dtype)
        return tf.reshape(mapped, [batches, rows, *mapped.shape[1:]])

    if tangents is None:
        return one_by_one(flat), None
    directions = tf.unstack(tf.reshape(tangents, [-1, *tangents.shape[2:]]), axis=-1)
    along = []
    for direction in directions:
        with tf.autodiff.ForwardAccumulator(flat, direction) as forward:
            mapped = one_by_one(flat)
        along.append(forward.jvp(mapped, unconnected_gradients=tf.UnconnectedGradients.ZERO))
    return mapped, tf.stack(along, axis=-1)


def _places(count: int, n_batches: int) -> tuple[np.ndarray, np.ndarray]:
    """Which simulation each row of each batch holds, and whether it is one and not padding."""
    rows = -(-count // n_batches)
    places = np.arange(n_batches * rows).reshape(n_batches, rows)
    return places % count, (places < count).astype(float)
