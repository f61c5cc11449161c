"""Simulations held in memory."""

from typing import Any

import tensorflow as tf

from imnn_tf.simulations.batch import Part, Passes
from imnn_tf.simulations.layout import Layout
from imnn_tf.simulations.mapping import Mapping
from imnn_tf.simulations.readers import Reader
from imnn_tf.simulations.stored import Rows, RowsAt, StoredSimulations, hold


class ArraySimulations(StoredSimulations):
    """Simulations held in memory, batch by batch; see `StoredSimulations`.

    Attributes:
        compilable: Whether XLA may compile what makes the batches: where no `map_fn` does.
    """

    def __init__(
        self, layout: Layout, fiducial: Reader, derivative: Reader, **options: Any
    ) -> None:
        super().__init__(layout, fiducial.shape, **options)
        self.compilable = self._mapping is None
        self._stacks = hold(layout, fiducial, derivative, self.dtype)

    def begin(self, update: tf.Tensor | int = 0) -> Passes:
        """Makes the simulations of an update ready.

        What a `map_fn` that is not repeatable makes of all simulations is held for the update.
        """
        if self._mapping is None or self._mapping.repeatable:
            return super().begin(update)
        stacks = self._all_mapped(self._mapping, update)
        return lambda part=(0, 1): self._batches(lambda index: self._rows(stacks, index))

    def _open(self, part: Part) -> RowsAt:
        del part  # any batch is there at any time
        return lambda index: self._rows(self._stacks, index)

    def _rows(self, stacks: Rows, index: tf.Tensor) -> Rows:
        return tuple(self._take(stack, index) for stack in stacks)

    def _all_mapped(self, mapping: Mapping, update: tf.Tensor | int) -> Rows:
        flat = tuple(tf.reshape(stack, [-1, *stack.shape[2:]]) for stack in self._stacks)
        mapped = mapping(flat, mapping.seed(update), tf.reshape(self._seeds, [-1]))
        return tuple(tf.reshape(part, [*self._seeds.shape, *part.shape[1:]]) for part in mapped)

    @property
    def fiducial(self) -> tf.Tensor:
        """The fiducial simulations, `[n_s, *input_shape]`."""
        rows = self._stacks[0][:, : self.blocks[0]]
        return tf.reshape(rows, [-1, *rows.shape[2:]])[: self.n_s]

    @property
    def derivative(self) -> tf.Tensor:
        """The derivative simulations, of the shape they had."""
        if self._layout.exact:
            tangents = self._stacks[1]
            return tf.reshape(tangents, [-1, *tangents.shape[2:]])[: self.n_d]
        rows = self._stacks[0][:, self.blocks[0] :]
        rows = tf.reshape(rows, [self.n_batches, 2, self.n_params, self.blocks[1], *rows.shape[2:]])
        order = [0, 3, 1, 2, *range(4, rows.shape.rank)]
        rows = tf.transpose(rows, order)
        return tf.reshape(rows, [-1, *rows.shape[2:]])[: self.n_d]
