"""A user's `map_fn`, a function of one simulation, applied to batches."""

from collections.abc import Callable
from typing import Any, TypeAlias

import tensorflow as tf

from imnn_tf.simulations.batch import Rows, RowsAt, row_of
from imnn_tf.utils import checks
from imnn_tf.utils.autodiff import pushforward
from imnn_tf.utils.seeds import stateless_seed
from imnn_tf.utils.tensors import known_shape

MapFunction: TypeAlias = Callable[..., Any]

fold_in = tf.random.experimental.stateless_fold_in  # type: ignore[attr-defined]  # no stub


class Mapping:
    """A function applied to each simulation.

    Args:
        function: Takes a simulation, `[*shape]`, and returns what the model gets instead. A second
            argument that has no default gets a seed, two int32 numbers for TensorFlow's stateless
            generators. The seed belongs to the update and to the number of the simulation, so the
            members of a derivative share their noise.
        shape: Shape of one simulation.
        dtype: Type of the simulations.
        seed: A non-negative integer from which all seeds are derived.

    Attributes:
        output_shape: Shape of what the function returns.
        repeatable: Whether the function returns the same for the same arguments, as far as its
            graph tells.
    """

    def __init__(
        self, function: MapFunction, shape: tuple[int, ...], dtype: tf.DType, seed: int
    ) -> None:
        self._function, self._dtype = function, dtype
        self._seed = tf.constant(stateless_seed(seed), tf.int32)
        self._takes_seed = checks.second_argument(function) is not None
        traced = tf.function(self._apply, autograph=False).get_concrete_function(
            tf.TensorSpec(shape, dtype), tf.TensorSpec([2], tf.int32)
        )
        self.output_shape = tuple(traced.output_shapes)
        # Calls and loops count as stateful if anything inside them does: drawing from a global
        # generator, writing a variable, calling Python.
        self.repeatable = not any(
            op.op_def.is_stateful and op.type != "ReadVariableOp"
            for op in traced.graph.get_operations()
        )

    def seed(self, update: tf.Tensor | int) -> tf.Tensor:
        """The seed of an update, `[2]`; `update` is its number, `[]`."""
        return fold_in(self._seed, tf.cast(update, tf.int32))

    def applied(self, rows_at: RowsAt, update: tf.Tensor | int, numbers: tf.Tensor) -> RowsAt:
        """Maps the rows of every batch of a pass.

        Args:
            rows_at: Takes the index of a batch, `[]`, and gives its simulations, `[rows, *shape]`,
                and their exact derivatives, `[rows, *shape, n_params]`, if there are any.
            update: The number of the update, `[]`.
            numbers: The number of the simulation in each row of all batches, `[n_batches, rows]`.

        Returns:
            A function of the index of a batch, `[]`. It gives the mapped simulations,
            `[rows, *output_shape]`, and their derivatives, `[rows, *output_shape, n_params]`.
        """
        seed = self.seed(update)
        return lambda index: self(rows_at(index), seed, row_of(numbers, index))

    def __call__(self, rows: Rows, seed: tf.Tensor, numbers: tf.Tensor) -> Rows:
        """Maps simulations and their derivatives.

        Args:
            rows: The simulations, `[batch, *shape]`, and their exact derivatives if there are any,
                `[batch, *shape, n_params]`.
            seed: The seed of the update, `[2]`.
            numbers: The number of each simulation, `[batch]`, int32.

        Returns:
            The mapped simulations, `[batch, *output_shape]`, and their derivatives,
            `[batch, *output_shape, n_params]`.
        """

        def each(data: tf.Tensor) -> tf.Tensor:
            return tf.map_fn(  # type: ignore[call-overload]  # the stub knows no tuples
                lambda row: self._apply(row[0], fold_in(seed, row[1])),
                (data, numbers),
                fn_output_signature=tf.TensorSpec(self.output_shape, self._dtype),
            )

        data, *tangents = rows
        if not tangents:
            return (each(data),)
        mapped, derivatives = pushforward(each, data, tf.unstack(tangents[0], axis=-1))
        if derivatives is None:
            derivatives = [tf.zeros_like(mapped)] * known_shape(tangents[0])[-1]
        return mapped, tf.stack(derivatives, axis=-1)

    def _apply(self, simulation: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        arguments = (simulation, seed) if self._takes_seed else (simulation,)
        return tf.cast(self._function(*arguments), self._dtype)
