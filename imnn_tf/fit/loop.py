"""The compiled loop of updates.

One call runs many updates. Python, callbacks and the progress bar run between calls. What decides
about the fit (the best weights, when to stop) is computed inside, after every single update, so
the number of updates in a call never changes the result.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

# No public name reaches the options of TensorFlow's graph optimiser.
from tensorflow.python.eager import context  # type: ignore[attr-defined]  # not in the stubs

from imnn_tf.fit.objective import Objective
from imnn_tf.fit.passes import assign_all, seed_variables, stateful_variables
from imnn_tf.fit.snapshot import BestSnapshot, Score, Snapshot
from imnn_tf.information import Information
from imnn_tf.regularisation import Loss
from imnn_tf.simulations import Simulations
from imnn_tf.utils.autodiff import gradients_of
from imnn_tf.utils.types import KerasOptimizer, KerasVariable


class Records(NamedTuple):
    """What a call of the loop measured, a row for each update."""

    training: np.ndarray  # [updates, 5], in the order of `MEASURES`
    training_slope: np.ndarray  # [updates, n_params, n_summaries]
    validation: np.ndarray  # [updates, 5], NaN where it was not evaluated
    validation_slope: np.ndarray  # [updates, n_params, n_summaries]


MEASURES = ("loss", "log_det_F", "log_det_C", "reg", "r")


class CallLimits(NamedTuple):
    """When a call of the loop ends: numbers, which are int64 tensors in the compiled code."""

    updates: tf.Tensor | int  # [], the most updates of the call
    iteration: tf.Tensor | int  # [], updates done before the call
    warm_up: tf.Tensor | int  # [], the update after which patience begins to count
    patience: tf.Tensor | int  # [], updates without a better score after which to stop


class Round(NamedTuple):
    """What one round of the loop found out, as boolean tensors."""

    valid: tf.Tensor  # [], the validation loss of the present weights is finite
    updated: tf.Tensor  # [], the weights were updated
    finite: tf.Tensor  # [], everything that was computed for a reason is finite


class UpdateLoop:
    """Updates of a model's weights, many in one compiled call.

    Args:
        objective: The loss and its gradient.
        optimiser: Keras optimiser, built for the model's trainable variables.
        training: The simulations that the loss is differentiated on.
        validation: Simulations that score the weights after an update, or their average if the
            optimiser keeps one. Without them the training simulations score the weights before it.
        validation_freq: Updates from one validation to the next.
        capacity: The most updates of one call.
        jit_compile: Whether to compile with XLA.
        best: Where the best weights are kept.
        finite: Where the last weights with a finite loss are kept.
        updates_per_pass: Updates that see every training simulation about once; 1 by default.

    Attributes:
        objective, capacity, best, finite, updates_per_pass: As passed.
        simulations: The training and the validation simulations.
        updates_per_call: How many updates take about as long as a call should.
    """

    def __init__(
        self,
        objective: Objective,
        optimiser: KerasOptimizer,
        training: Simulations,
        validation: Simulations | None,
        *,
        validation_freq: int,
        capacity: int,
        jit_compile: bool,
        best: BestSnapshot,
        finite: Snapshot,
        updates_per_pass: int = 1,
    ) -> None:
        self.objective, self._optimiser = objective, optimiser
        self.simulations = training, validation
        self._validation_freq, self.capacity = validation_freq, capacity
        self.updates_per_pass = updates_per_pass
        self.updates_per_call = 1
        self.best, self.finite = best, finite
        summariser = objective.summariser
        # The gradient may be computed before it is known whether it is wanted, unless a pass
        # changes something in the model, or replicas exchange in an order of their own. A
        # validation of averaged weights changes the weights for its time.
        self._ahead = (
            not stateful_variables(summariser.model)
            and summariser.replicas.count == 1
            and not averaged_weights(optimiser)
        )
        # AutoGraph would rewrite the user's layers, which Keras itself leaves as they are.
        self._compiled = tf.function(self._trace, autograph=False, jit_compile=jit_compile)

    @property
    def validates(self) -> bool:
        """Whether there are validation simulations."""
        return self.simulations[1] is not None

    def score_of_best(self) -> Score | None:
        """Scores the best weights on the simulations of this loop, as an update would.

        Returns:
            The score, or `None` if no weights were kept, or if what they were scored with, the
            noise of layers or of a `map_fn` on the training simulations, does not come again.
        """
        summariser, (training, validation) = self.objective.summariser, self.simulations
        weights = summariser.model.weights
        repeatable = training.repeatable and not seed_variables(summariser.model)
        if self.best.update.numpy() < 0 or not (repeatable or self.validates):
            return None
        before = [tf.identity(weight.value) for weight in weights]
        self.best.restore(summariser.model)
        try:
            if validation is not None:
                total = summariser.statistics(validation)
            else:
                update = self.best.update + 1
                total = summariser.statistics(training, training=True, update=update)
        finally:
            assign_all(weights, before)
        return Score.of(self.objective.assess(total)[1])

    def run(
        self, updates: int, iteration: int, warm_up: int, patience: int | None
    ) -> tuple[int, bool, Records]:
        """Runs updates until their number is reached, patience runs out, or a loss is not finite.

        Args:
            updates: The most updates, at most `capacity`.
            iteration: Updates done before.
            warm_up: The update after which patience begins to count.
            patience: Updates without a better score after which to stop; never, if `None`.

        Returns:
            The number of updates done, whether all losses were finite, and what was measured, in
            the shapes that `Records` lists.
        """
        if patience is None:
            patience = np.iinfo(np.int64).max
        limits = CallLimits(
            *(tf.constant(n, tf.int64) for n in (updates, iteration, warm_up, patience))
        )
        with without_memory_optimiser():
            done, finite, tables = self._compiled(limits)
        done = int(done)
        training, training_slope, validation, validation_slope = (t.numpy() for t in tables)
        # A round measures the training set before its update, and the validation set after the
        # update of the round before.
        before, after = slice(done), slice(1, done + 1)
        records = Records(
            training[before], training_slope[before], validation[after], validation_slope[after]
        )
        return done, bool(finite), records

    def _trace(self, limits: CallLimits) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        # The validation simulations score the weights of the last update in one more round.
        rounds = limits.updates + 1 if self.validates else limits.updates
        yes = tf.constant(True)
        with gradients_of(self):  # they would keep the graph, and everything in it, for good
            done, state, tables = tf.while_loop(
                lambda done, state, tables: state.updated & (done < rounds),
                partial(self._round, limits),
                (tf.constant(0, tf.int64), Round(yes, yes, yes), self._empty_tables()),
                parallel_iterations=1,
            )
        return done, state.finite, [table.stack() for table in tables]

    def _empty_tables(self) -> list[tf.TensorArray]:
        training = self.simulations[0]
        slope_shape = [training.n_params, self.objective.summariser.n_summaries]
        return [
            tf.TensorArray(training.dtype, self.capacity + 1, element_shape=shape)
            for shape in ([len(MEASURES)], slope_shape) * 2
        ]

    def _round(
        self, limits: CallLimits, done: tf.Tensor, state: Round, tables: list[tf.TensorArray]
    ) -> tuple[tf.Tensor, Round, list[tf.TensorArray]]:
        """Scores the present weights and, if there is more to do, updates them.

        The score and the gradient only read the weights, so TensorFlow works on both at once: one
        keeps the processor busy while the other is at its small operations.
        """
        now = limits.iteration + done
        valid, *validation = self._validate(now, done > 0)
        more = done < limits.updates
        waited = now - tf.maximum(self.best.last_progress, limits.warm_up)
        wanted = more & valid & (waited < limits.patience)
        finite, gradients, score, *training = tf.cond(
            more if self._ahead else wanted, partial(self._gradient, now), self._no_gradient
        )
        updated = wanted & finite
        tf.cond(updated, partial(self._apply, now, gradients, score), lambda: None)
        row = [*training, *validation]
        position = tf.cast(done, tf.int32)
        tables = [table.write(position, part) for table, part in zip(tables, row, strict=True)]
        # Weights that turn out not to be valid do not count as those of an update.
        done += tf.cast(updated, tf.int64) - tf.cast(tf.logical_not(valid), tf.int64)
        return done, Round(valid, updated, valid & (finite | tf.logical_not(wanted))), tables

    def _gradient(self, now: tf.Tensor) -> tuple[Any, ...]:
        """Whether the gradient at the present weights is finite, the gradient, score and row."""
        loss, info, gradients = self.objective.gradient(self.simulations[0], now + 1)
        square = tf.add_n([tf.nn.l2_loss(gradient) for gradient in gradients])
        finite = tf.math.is_finite(loss.total + tf.cast(square, loss.total.dtype))
        return finite, gradients, Score.of(info), *_row(loss, info)

    def _no_gradient(self) -> tuple[Any, ...]:
        trained = self.objective.summariser.model.trainable_variables
        zero = [tf.zeros_like(variable.value) for variable in trained]
        none = tf.constant(np.nan, tf.float64)
        return tf.constant(False), zero, Score(none, none), *self._no_row()

    def _apply(self, now: tf.Tensor, gradients: list[tf.Tensor], score: Score) -> None:
        """Updates the weights, which have a finite loss and gradient."""
        summariser = self.objective.summariser
        self.finite.keep(summariser.model, now)
        if not self.validates:
            self.best.keep_if_better(summariser.model, score, now)
        variables = summariser.model.trainable_variables
        summariser.replicas.apply(self._optimiser, gradients, variables)

    def _validate(self, now: tf.Tensor, changed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Scores the weights on the validation simulations, when it is time to."""
        validation = self.simulations[1]

        def nothing() -> tuple[tf.Tensor, ...]:
            return tf.constant(True), *self._no_row()

        if validation is None:
            return nothing()

        def evaluate() -> tuple[tf.Tensor, ...]:
            with self._averaged():
                loss, info = self.objective.assess(self.objective.summariser.statistics(validation))
                self.best.keep_if_better(self.objective.summariser.model, Score.of(info), now)
            return tf.math.is_finite(loss.total), *_row(loss, info)

        due = tf.equal(tf.math.floormod(now, self._validation_freq), 0)
        return tf.cond(changed & due, evaluate, nothing)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Gives the model the average of its weights, if the optimiser keeps one."""
        averages = averaged_weights(self._optimiser)
        trained = self.objective.summariser.model.trainable_variables if averages else []
        before = [tf.identity(variable.value) for variable in trained]
        assign_all(trained, [average.value for average in averages])
        yield
        assign_all(trained, before)

    def _no_row(self) -> tuple[tf.Tensor, tf.Tensor]:
        training = self.simulations[0]
        slope_shape = [training.n_params, self.objective.summariser.n_summaries]
        nan = tf.constant(np.nan, training.dtype)
        return tf.fill([len(MEASURES)], nan), tf.fill(slope_shape, nan)


def _row(loss: Loss, info: Information) -> tuple[tf.Tensor, tf.Tensor]:
    """What is recorded of an update: scalars in the order of `MEASURES`, and the slope."""
    scalars = [
        loss.total,
        info.log_det_fisher,
        info.log_det_covariance,
        loss.regularisation,
        loss.coupling,
    ]
    return tf.stack(scalars), info.slope


def averaged_weights(optimiser: KerasOptimizer) -> list[KerasVariable]:
    """The averages of the weights over updates that an optimiser with `use_ema=True` keeps."""
    if not optimiser.use_ema:
        return []
    return list(optimiser._model_variables_moving_average)


@contextmanager
def without_memory_optimiser() -> Iterator[None]:
    """Keeps functions that are first called inside the block from being optimised for memory.

    When that pass expects memory to be short, it turns the sum of three or more tensors into a
    temporary variable. In nested loops this fails, because the variable exists already
    (tensorflow#23780, #37740). Every model whose paths join can have such a sum, at least in its
    gradient.
    """
    current = context.context()
    before = current.function_call_options
    config = tf.compat.v1.ConfigProto.FromString(before.config_proto_serialized)
    rewriting = config.graph_options.rewrite_options
    rewriting.memory_optimization = rewriting.NO_MEM_OPT
    current.function_call_options = context.FunctionCallOptions(before.executor_type, config)
    try:
        yield
    finally:
        current.function_call_options = before
