"""Simulations that exist, be it in memory or in files, as batches."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from imnn_tf.simulations.batch import Batch, BatchAt, Part, Passes
from imnn_tf.simulations.layout import Layout
from imnn_tf.simulations.mapping import Mapping
from imnn_tf.simulations.readers import Reader

# Data and, where the derivatives are exact, tangents of the batch of an index.
Rows = tuple[tf.Tensor, ...]
RowsAt = Callable[[tf.Tensor], Rows]


class StoredSimulations:
    """What simulations in memory and streamed ones have in common.

    Args:
        layout: Which simulation stands in which row of which batch.
        shape: Shape of one simulation.
        dtype: Floating type of the batches.
        mapping: Applied to each simulation, anew at every pass.
        external: Readers of the external summaries, `[n_external]` for a simulation, and of their
            derivatives.

    Attributes:
        n_s: Number of fiducial simulations.
        n_d: Number of derivative simulations, of each parameter and side where they are numerical.
        n_params: Number of parameters.
        n_external: Number of external summaries.
        input_shape: Shape of one simulation.
        n_batches: Number of batches.
        blocks: Sizes of the blocks of a batch.
        dtype: Floating type of the batches.
        compilable: Whether XLA may compile what makes the batches.
    """

    compilable: bool

    def __init__(
        self,
        layout: Layout,
        shape: tuple[int, ...],
        *,
        dtype: tf.DType,
        mapping: Mapping | None = None,
        external: tuple[Reader, Reader] | None = None,
    ) -> None:
        self.n_s, self.n_d, self.n_params = layout.n_s, layout.n_d, layout.n_params
        self.input_shape = shape
        self.n_batches, self.blocks = layout.n_batches, layout.blocks
        self.dtype = dtype
        self._layout, self._mapping = layout, mapping
        self._labels = tf.constant(layout.fiducial, dtype), tf.constant(layout.slope, dtype)
        self._seeds = tf.constant(layout.seeds, tf.int32)
        self.n_external = 0
        self._external: Rows = ()
        if external is not None:
            (self.n_external,) = external[0].shape
            self._external = hold(layout, *external, dtype)

    def begin(self, update: tf.Tensor | int = 0) -> Passes:
        """Makes the simulations of an update ready; see `Simulations`."""
        if self._mapping is None:
            return lambda part=(0, 1): self._batches(self._open(part))
        mapping, seed = self._mapping, self._mapping.seed(update)

        def start(part: Part = (0, 1)) -> BatchAt:
            rows_at = self._open(part)
            return self._batches(
                lambda index: mapping(rows_at(index), seed, self._take(self._seeds, index))
            )

        return start

    def _open(self, part: Part) -> RowsAt:
        """Starts a pass over the rows of batches."""
        raise NotImplementedError

    def _batches(self, rows_at: RowsAt) -> BatchAt:
        """Batches of rows with their labels."""

        def batch(index: tf.Tensor) -> Batch:
            data, *tangents = rows_at(index)
            fiducial, slope = (self._take(stack, index) for stack in self._labels)
            external = [self._take(stack, index) for stack in self._external]
            return Batch(data, fiducial, slope, tangents[0] if tangents else None, *external)

        return batch

    def _take(self, stack: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        # Taking the only batch there is must not copy it.
        return tf.squeeze(stack, axis=0) if self.n_batches == 1 else stack[index]


def shapes_of_rows(layout: Layout, fiducial: Reader) -> list[tuple[int, ...]]:
    """Shapes of a batch: of its simulations and, where they are exact, of their derivatives."""
    shape = (layout.rows, *fiducial.shape)
    return [shape, (*shape, layout.n_params)] if layout.exact else [shape]


def hold(layout: Layout, fiducial: Reader, derivative: Reader, dtype: tf.DType) -> Rows:
    """All batches, `[n_batches, rows, *shape]`, and their tangents where they have some."""
    stacks = [
        np.empty((layout.n_batches, *shape), dtype.as_numpy_dtype)
        for shape in shapes_of_rows(layout, fiducial)
    ]
    for index in range(layout.n_batches):
        layout.read(index, fiducial, derivative, *(stack[index] for stack in stacks))
    return tuple(map(tf.constant, stacks))
