"""Where an update is computed: here, or spread over the replicas of a `tf.distribute.Strategy`."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from imnn_tf.information import Moments, Statistics, merge
from imnn_tf.simulations.batch import Part
from imnn_tf.utils.fused_adam import fused_steps


class Replicas:
    """One or several copies of a model, each with its part of the batches.

    What they exchange is the statistics of the summaries and the gradient by the weights: its
    size does not depend on the number of simulations.

    Args:
        strategy: The strategy under whose scope the model was made; `None` for one copy.

    Attributes:
        count: How many.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None) -> None:
        self._strategy = strategy
        self.count = 1 if strategy is None else strategy.num_replicas_in_sync

    def scope(self) -> Any:
        """Where variables are made that all copies share."""
        strategy = self._strategy or tf.distribute.get_strategy()
        return strategy.scope()

    def statistics(self, function: Callable[[Part], Statistics]) -> Statistics:
        """Statistics of all batches from a function that gives those of a part."""
        if self._strategy is None:
            return function((0, 1))
        stacks = self._run(lambda part: tf.nest.map_structure(_stacked, function(part)))
        gathered = tf.nest.map_structure(self._gathered, stacks)
        total, *others = (
            tf.nest.map_structure(lambda stack, at=at: stack[at], gathered.moments)
            for at in range(self.count)
        )
        for other in others:
            total = merge(total, other)
        return Statistics(Moments(*total), tf.reduce_sum(gathered.slope, axis=0))

    def sum(self, function: Callable[..., list[tf.Tensor]], *arguments: Any) -> list[tf.Tensor]:
        """The sum over the parts of what a function gives of one, with the same arguments."""
        if self._strategy is None:
            return function((0, 1), *arguments)
        parts = self._run(function, *arguments)
        return [self._strategy.reduce("SUM", part, axis=None) for part in parts]

    def apply(self, optimiser: Any, gradients: list[tf.Tensor], variables: list[Any]) -> None:
        """Updates the variables of all copies by the same gradient."""

        def update(gradients: list[tf.Tensor]) -> None:
            optimiser.apply_gradients(zip(gradients, variables, strict=True))

        def update_replica(gradients: list[tf.Tensor]) -> None:
            # Keras adds up those of the replicas.
            update([gradient / self.count for gradient in gradients])

        if self._strategy is None:
            with fused_steps(optimiser):
                update(gradients)
        else:
            self._strategy.run(update_replica, args=(gradients,))

    def average(self, variables: list[Any]) -> None:
        """Gives variables that every copy has changed for itself their mean."""
        if self._strategy is None:
            return
        for variable in variables:
            if variable.dtype.startswith("float"):
                variable.assign(self._strategy.reduce("MEAN", variable.value, axis=None))

    def _gathered(self, stack: Any) -> tf.Tensor:
        """The stacks of all replicas, one behind the other."""
        assert self._strategy is not None
        (_, *shape) = self._strategy.experimental_local_results(stack)[0].shape
        return tf.ensure_shape(self._strategy.gather(stack, axis=0), [self.count, *shape])

    def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        def replica(*arguments: Any) -> Any:
            context = tf.distribute.get_replica_context()
            return function((context.replica_id_in_sync_group, self.count), *arguments)

        assert self._strategy is not None
        return self._strategy.run(replica, args=arguments)


def _stacked(tensor: tf.Tensor) -> tf.Tensor:
    return tensor[tf.newaxis]
