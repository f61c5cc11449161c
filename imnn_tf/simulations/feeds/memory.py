"""Simulations held in memory."""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from imnn_tf.simulations.batch import Part, Rows, RowsAt, row_of
from imnn_tf.simulations.layout import Layout
from imnn_tf.simulations.sources.readers import Reader
from imnn_tf.utils.tensors import known_shape


class MemoryFeed:
    """Rows held in memory, batch by batch; see `Feed` for the attributes.

    Args:
        stacks: The rows of all batches, `[n_batches, rows, *shape]`, and, where derivatives are
            exact, the derivatives, `[n_batches, rows, *shape, n_params]`.
        replaceable: Whether `replace` may be called. The rows are then held in variables, which a
            compiled update reads anew.
    """

    compilable = True
    failure = None

    def __init__(self, stacks: Iterable[tf.Tensor], *, replaceable: bool = False) -> None:
        self.held: Rows = tuple(
            tf.Variable(stack, trainable=False) if replaceable else stack for stack in stacks
        )
        self.shape = known_shape(self.held[0])[2:]

    @classmethod
    def read(
        cls, layout: Layout, fiducial: Reader, derivative: Reader, dtype: tf.DType
    ) -> "MemoryFeed":
        """Reads all simulations.

        Args:
            layout: Where each simulation stands.
            fiducial: The fiducial simulations.
            derivative: The derivative simulations, or the exact derivatives.
            dtype: Floating type to hold them in.
        """
        stacks = [
            np.empty((layout.n_batches, *shape), dtype.as_numpy_dtype)
            for shape in layout.row_shapes(fiducial.shape)
        ]
        for index in range(layout.n_batches):
            layout.read(index, fiducial, derivative, *(stack[index] for stack in stacks))
        return cls(map(tf.constant, stacks))

    def rows(self, update: tf.Tensor | int, part: Part) -> RowsAt:
        """Starts a pass; every update sees the same rows, and any batch is there at any time.

        Args:
            update: The number of the update, `[]`, which makes no difference.
            part: The part of the batches, which makes no difference.

        Returns:
            A function of the index of a batch, `[]`. It gives the simulations, `[rows, *shape]`,
            and, where derivatives are exact, the derivatives, `[rows, *shape, n_params]`.
        """
        del update, part
        return self.rows_at

    def rows_at(self, index: tf.Tensor) -> Rows:
        """The rows of one batch.

        Args:
            index: The index of the batch, `[]`.

        Returns:
            The simulations, `[rows, *shape]`, and, where derivatives are exact, the
            derivatives, `[rows, *shape, n_params]`.
        """
        return tuple(row_of(stack, index) for stack in self.held)

    def replace(self, stacks: Iterable[tf.Tensor]) -> None:
        """Puts other rows in their place.

        Args:
            stacks: The new rows of all batches, of the shapes of the old ones.
        """
        for variable, stack in zip(self.held, stacks, strict=True):
            variable.assign(stack)
