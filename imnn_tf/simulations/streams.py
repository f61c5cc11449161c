"""Simulations that are read anew at every pass, and never held."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from imnn_tf.simulations.batch import Part
from imnn_tf.simulations.layout import Layout
from imnn_tf.simulations.readers import Reader
from imnn_tf.simulations.stored import Rows, RowsAt, StoredSimulations, shapes_of_rows


class StreamedSimulations(StoredSimulations):
    """Simulations read from where they are while the batch before is worked on.

    Args:
        layout: Which simulation stands in which row of which batch.
        fiducial: Fiducial simulations.
        derivative: Derivative simulations, or exact derivatives.
        parallel_reads: Batches that are read at once from files, by default one for each
            processor; functions are asked for one after the other.
        **options: As for `StoredSimulations`.

    Attributes:
        compilable: False: XLA cannot compile the reading.
        failure: What the last failed read raised, of which TensorFlow keeps but the words.
    """

    compilable = False

    def __init__(
        self,
        layout: Layout,
        fiducial: Reader,
        derivative: Reader,
        *,
        parallel_reads: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(layout, fiducial.shape, **options)
        self._readers = fiducial, derivative
        self.failure: Exception | None = None
        parallel = fiducial.parallel and derivative.parallel
        self._parallel_reads = (parallel_reads or os.cpu_count() or 1) if parallel else 1

    def _open(self, part: Part) -> RowsAt:
        index, count = part
        indices = tf.data.Dataset.range(self.n_batches).shard(count, tf.cast(index, tf.int64))
        batches = indices.map(
            self._read, num_parallel_calls=self._parallel_reads, deterministic=True
        )
        iterator = iter(batches.prefetch(1))
        return lambda index: next(iterator)

    def _read(self, index: tf.Tensor) -> Rows:
        shapes = shapes_of_rows(self._layout, self._readers[0])
        rows = tf.numpy_function(self._read_now, [index], [self.dtype] * len(shapes))
        return tuple(tf.ensure_shape(part, shape) for part, shape in zip(rows, shapes, strict=True))

    def _read_now(self, index: np.int64) -> list[np.ndarray]:
        shapes = shapes_of_rows(self._layout, self._readers[0])
        rows = [np.empty(shape, self.dtype.as_numpy_dtype) for shape in shapes]
        try:
            self._layout.read(int(index), *self._readers, *rows)
        except Exception as error:
            self.failure = error
            raise
        return rows


@contextmanager
def own_errors(*sources: Any) -> Iterator[None]:
    """Raises what a failed read raised, and not TensorFlow's account of it."""
    try:
        yield
    except tf.errors.OpError as error:
        for source in sources:
            failure = getattr(source, "failure", None)
            if failure is not None:
                raise failure from error
        raise
