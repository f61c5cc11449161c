"""Where an update is computed: on one device, or spread over a `tf.distribute.Strategy`."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
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

    The copies of a `MultiWorkerMirroredStrategy` are in several processes, its workers. All of
    them run the same program, and must exchange the same things in the same order. What differs
    from one process to another, such as time, must therefore be agreed on. The first worker, the
    chief, decides about time, and it alone writes files.

    Args:
        strategy: The strategy under whose scope the model was made; `None` for one copy.

    Attributes:
        count: Number of copies.
        workers: Number of processes.
        is_chief: Whether this process is the first worker, or the only one.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None) -> None:
        self._strategy = strategy
        self.count = 1 if strategy is None else strategy.num_replicas_in_sync
        resolver = getattr(strategy, "cluster_resolver", None)
        cluster = {} if resolver is None else resolver.cluster_spec().as_dict()
        self.workers = sum(len(cluster.get(job, ())) for job in ("chief", "worker")) or 1
        first = "chief" if "chief" in cluster else "worker"
        self.is_chief = self.workers == 1 or (
            resolver is not None and (resolver.task_type, resolver.task_id) == (first, 0)
        )

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

    def agreed(self, updates: int, stop: bool) -> tuple[int, bool]:
        """What all workers do next, after each has said what it would do.

        Args:
            updates: How many updates to make.
            stop: Whether to make none.

        Returns:
            The number of updates that the chief would make, and whether any worker would stop.
        """
        if self.workers == 1:
            return updates, stop
        number, stopping = self._exchange(tf.constant([updates, stop], tf.int64)).numpy()
        return int(number), bool(stopping)

    def on_chief(self, action: Callable[[], None]) -> None:
        """Does something in the chief alone, while the other workers wait for it.

        Args:
            action: What to do.

        Raises:
            Exception: In the chief, what `action` raises.
            RuntimeError: In the other workers, where `action` raised something.
        """
        failure: Exception | None = None
        if self.is_chief:
            try:
                action()
            except Exception as error:  # raised below, when the others know of it
                failure = error
        _, failed = self.agreed(0, failure is not None)
        if failure is not None:
            raise failure
        if failed:
            raise RuntimeError(
                "The first worker could not write its files; its own error says why."
            )

    @cached_property
    def _exchange(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """A compiled function that gives all workers the chief's number, and adds up their flags.

        It takes and returns a number and a flag, `[2]`.
        """
        strategy = self._strategy
        assert strategy is not None

        def replica(pair: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            is_first = tf.equal(context.replica_id_in_sync_group, 0)  # one of the chief's
            share = pair * tf.stack([tf.cast(is_first, pair.dtype), 1])
            return context.all_reduce(tf.distribute.ReduceOp.SUM, share)

        def exchange(pair: tf.Tensor) -> tf.Tensor:
            return strategy.experimental_local_results(strategy.run(replica, args=(pair,)))[0]

        return tf.function(exchange, autograph=False)

    @contextmanager
    def worker_failures(self) -> Iterator[None]:
        """Says that a worker has stopped where TensorFlow says that an exchange has failed.

        Raises:
            RuntimeError: If another worker has stopped.
        """
        try:
            yield
        except (
            tf.errors.UnavailableError,
            tf.errors.AbortedError,
            tf.errors.CancelledError,
            tf.errors.FailedPreconditionError,
            tf.errors.InternalError,
        ) as error:
            if self.workers == 1:
                raise
            named = re.search(r"/job:\w+/replica:\d+/task:(\d+)", error.message)
            which = f"Worker {named[1]}" if named else "One"
            raise RuntimeError(
                f"{which} of {self.workers} workers has stopped or cannot be reached, so the fit "
                "cannot go on. Start all workers again; `load=True` goes on from what was saved."
            ) from error

    def statistics(self, function: Callable[[Part], Statistics]) -> Statistics:
        """Statistics of all batches.

        Args:
            function: Takes a part of the batches, and returns the statistics of their summaries.

        Returns:
            The statistics, in the shapes that `Statistics` lists.
        """
        if self._strategy is None:
            return function(WHOLE)
        if self.workers > 1 and tf.executing_eagerly():
            # Operation by operation, the workers would exchange far more, and TensorFlow warns.
            return tf.function(lambda: self.statistics(function), autograph=False)()
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
            optimiser.apply_gradients(zip(gradients, variables, strict=True))

        with _summed_already(optimiser):
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


@contextmanager
def _summed_already(optimiser: KerasOptimizer) -> Iterator[None]:
    """Keeps Keras from exchanging gradients, which every replica has the sum of."""
    own = optimiser.__dict__
    own["_all_reduce_sum_gradients"] = list
    try:
        yield
    finally:
        del own["_all_reduce_sum_gradients"]
