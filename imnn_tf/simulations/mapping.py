"""A user's function of a single simulation, applied to batches of them."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from imnn_tf.utils import checks
from imnn_tf.utils.autodiff import pushforward
from imnn_tf.utils.seeds import stateless_seed

MapFunction = Callable[..., Any]

fold_in = tf.random.experimental.stateless_fold_in


class Mapping:
    """A function applied to each simulation.

    Args:
        function: Takes a simulation and returns what the model gets in its place. One with a
            second argument that has no default gets a seed there, two int32 numbers for
            TensorFlow's stateless generators: it belongs to the update and to the simulation's
            own seed, so that the members of a derivative share their noise.
        shape: Shape of one simulation.
        dtype: Type of the simulations.
        seed: Of all seeds, a non-negative integer.

    Attributes:
        output_shape: Shape of what the function returns.
        repeatable: Whether it returns the same for the same arguments, as far as can be told.
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
        self.repeatable = not _is_stateful(traced.graph)

    def seed(self, update: tf.Tensor | int) -> tf.Tensor:
        """The seed of an update, `[2]`."""
        return fold_in(self._seed, tf.cast(update, tf.int32))

    def __call__(
        self, rows: tuple[tf.Tensor, ...], seed: tf.Tensor, seeds: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """Maps simulations and carries their derivatives along.

        Args:
            rows: The simulations, `[batch, *shape]`, and their derivatives if they have some,
                `[batch, *shape, n_params]`.
            seed: That of the update, `[2]`.
            seeds: The simulations' own, `[batch]`, int32.

        Returns:
            The same of what the function makes of them.
        """
        data, *tangents = rows
        if not tangents:
            return (self._one_by_one(data, seed, seeds),)
        mapped, along = pushforward(
            lambda data: self._one_by_one(data, seed, seeds),
            data,
            tf.unstack(tangents[0], axis=-1),
        )
        if along is None:
            along = [tf.zeros_like(mapped)] * tangents[0].shape[-1]
        return mapped, tf.stack(along, axis=-1)

    def _one_by_one(self, data: tf.Tensor, seed: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(
            lambda row: self._apply(row[0], fold_in(seed, row[1])),
            (data, seeds),
            fn_output_signature=tf.TensorSpec(self.output_shape, self._dtype),
        )

    def _apply(self, simulation: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        arguments = (simulation, seed) if self._takes_seed else (simulation,)
        return tf.cast(self._function(*arguments), self._dtype)


def _is_stateful(graph: tf.Graph) -> bool:
    """Whether an operation draws from a generator, writes a variable or calls Python.

    Calls and loops are of a kind that counts as stateful if anything inside them is.
    """
    return any(
        op.op_def.is_stateful and op.type != "ReadVariableOp" for op in graph.get_operations()
    )
