"""Simulations read anew at every pass, and never held."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from imnn_tf.simulations.batch import Part, Rows, RowsAt
from imnn_tf.simulations.layout import Layout
from imnn_tf.simulations.sources.readers import Reader

if TYPE_CHECKING:
    from imnn_tf.simulations.simulations import Simulations


class StreamFeed:
    """Rows read from their source while the batch before is worked on; see `Feed`.

    Args:
        layout: Where each simulation stands.
        fiducial: The fiducial simulations.
        derivative: The derivative simulations, or the exact derivatives.
        dtype: Floating type of the rows.
        parallel_reads: Number of batches to read at once; one for each processor by default, and
            always one where the source does not allow more.
    """

    compilable = False
    held = None

    def __init__(
        self,
        layout: Layout,
        fiducial: Reader,
        derivative: Reader,
        dtype: tf.DType,
        *,
        parallel_reads: int | None = None,
    ) -> None:
        self._layout, self._dtype = layout, dtype
        self._readers = fiducial, derivative
        self.shape = fiducial.shape
        self._row_shapes = layout.row_shapes(fiducial.shape)
        # TensorFlow keeps only the text of an exception raised in its threads.
        self.failure: Exception | None = None
        parallel = fiducial.parallel and derivative.parallel
        self._parallel_reads = (parallel_reads or os.cpu_count() or 1) if parallel else 1

    def rows(self, update: tf.Tensor | int, part: Part) -> RowsAt:
        """Starts reading the batches of a part; every update sees the same rows.

        Args:
            update: The number of the update, `[]`, which makes no difference.
            part: The part of the batches.

        Returns:
            A function of the index of a batch, `[]`. It gives the simulations, `[rows, *shape]`,
            and, where derivatives are exact, the derivatives, `[rows, *shape, n_params]`. The
            indices of the part must be gone through in their order.
        """
        del update
        n_batches = self._layout.n_batches
        indices = tf.data.Dataset.range(n_batches).shard(part.step, tf.cast(part.first, tf.int64))
        batches = indices.map(
            self._in_graph, num_parallel_calls=self._parallel_reads, deterministic=True
        )
        iterator = iter(batches.prefetch(1))
        return lambda index: next(iterator)

    def _in_graph(self, index: tf.Tensor) -> Rows:
        dtypes = [self._dtype] * len(self._row_shapes)
        rows = tf.numpy_function(self._read, [index], dtypes)
        return tuple(
            tf.ensure_shape(part, shape) for part, shape in zip(rows, self._row_shapes, strict=True)
        )

    def _read(self, index: np.int64) -> list[np.ndarray]:
        rows = [np.empty(shape, self._dtype.as_numpy_dtype) for shape in self._row_shapes]
        try:
            self._layout.read(int(index), *self._readers, *rows)
        except Exception as error:
            self.failure = error
            raise
        return rows


@contextmanager
def reading_errors(*simulations: "Simulations | None") -> Iterator[None]:
    """Raises the exception of a failed read itself, instead of the error that TensorFlow makes."""
    try:
        yield
    except tf.errors.OpError as error:
        for failure in (each.feed.failure for each in simulations if each is not None):
            if failure is not None:
                raise failure from error
        raise
