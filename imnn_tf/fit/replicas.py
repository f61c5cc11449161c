"""Where an update is computed: on one device, or spread over a `tf.distribute.Strategy`."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from imnn_tf.fit.adam import fused_steps
from imnn_tf.information import Moments, Statistics, merge
from imnn_tf.simulations.batch import WHOLE, Part
from imnn_tf.utils.types import KerasModel, KerasOptimizer, KerasVariable


class Replicas:
    """One or several copies of a model, each with its part of the batches.

    They exchange the statistics of the summaries and the gradient by the weights. The size of
    both does not depend on the number of simulations.

    Args:
        strategy: The strategy under whose scope the model was made; `None` for one copy.

    Attributes:
        count: Number of copies.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None) -> None:
        self._strategy = strategy
        self.count = 1 if strategy is None else strategy.num_replicas_in_sync

    def scope(self) -> Any:
        """A context in which variables are made that all copies share."""
        return (self._strategy or tf.distribute.get_strategy()).scope()

    def require_scope(self, model: KerasModel) -> None:
        """Checks that a model was made under the scope.

        Raises:
            ValueError: If its variables are not shared by the copies.
        """
        shared = tf.distribute.DistributedValues
        if self.count > 1 and not all(
            isinstance(variable.value, shared) for variable in model.trainable_variables
        ):
            raise ValueError(
                "`model` must be made under `strategy.scope()` where a `strategy` is given, got "
                "one with variables of its own."
            )

    def statistics(self, function: Callable[[Part], Statistics]) -> Statistics:
        """Statistics of all batches.

        Args:
            function: Takes a part of the batches, and returns the statistics of their summaries.

        Returns:
            The statistics, in the shapes that `Statistics` lists.
        """
        if self._strategy is None:
            return function(WHOLE)
        stacks = self._run(
            lambda part: tf.nest.map_structure(lambda x: x[tf.newaxis], function(part))
        )
        gathered = tf.nest.map_structure(self._gathered, stacks)
        total, *others = (
            tf.nest.map_structure(lambda stack, at=at: stack[at], gathered.moments)
            for at in range(self.count)
        )
        for other in others:
            total = merge(total, other)
        return Statistics(Moments(*total), tf.reduce_sum(gathered.slope, axis=0))

    def sum(self, function: Callable[..., list[tf.Tensor]], *arguments: Any) -> list[tf.Tensor]:
        """Adds up what a function returns for each part of the batches.

        Args:
            function: Takes a part and `arguments`, and returns a list of tensors, of any shapes
                that are the same for every part.
            *arguments: Tensors of any shape, passed on to the function.

        Returns:
            The sums, one for each tensor in the list, in its shape.
        """
        if self._strategy is None:
            return function(WHOLE, *arguments)
        parts = self._run(function, *arguments)
        return [self._strategy.reduce("SUM", part, axis=None) for part in parts]

    def apply(
        self,
        optimiser: KerasOptimizer,
        gradients: list[tf.Tensor],
        variables: list[KerasVariable],
    ) -> None:
        """Updates the variables of all copies by the same gradient.

        Args:
            optimiser: A Keras optimiser, built for these variables.
            gradients: The gradient by each variable, in the variable's shape.
            variables: The variables, of any shape.
        """
        if self._strategy is None:
            with fused_steps(optimiser):
                optimiser.apply_gradients(zip(gradients, variables, strict=True))
            return

        def update(gradients: list[tf.Tensor]) -> None:
            # Keras adds up the gradients of the replicas.
            shares = [gradient / self.count for gradient in gradients]
            optimiser.apply_gradients(zip(shares, variables, strict=True))

        self._strategy.run(update, args=(gradients,))

    def average(self, variables: list[KerasVariable]) -> None:
        """Gives variables that each copy has changed by itself their mean over the copies.

        Args:
            variables: The variables, of any shape. Those that are not floating keep their values.
        """
        if self._strategy is None:
            return
        for variable in variables:
            if variable.dtype.startswith("float"):
                variable.assign(self._strategy.reduce("MEAN", variable.value, axis=None))

    def _gathered(self, stack: Any) -> tf.Tensor:
        """The tensors of all replicas along a first axis."""
        assert self._strategy is not None
        (_, *shape) = self._strategy.experimental_local_results(stack)[0].shape
        return tf.ensure_shape(self._strategy.gather(stack, axis=0), [self.count, *shape])

    def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        def replica(*arguments: Any) -> Any:
            context = tf.distribute.get_replica_context()
            return function(Part(context.replica_id_in_sync_group, self.count), *arguments)

        assert self._strategy is not None
        return self._strategy.run(replica, args=arguments)
