"""One update of a model's weights, and the compiled loop of updates.

The loop runs many updates in one call: Python, callbacks and the progress bar only run between
calls. What decides about the fit (the best weights, when to stop) is computed inside, after every
single update, so that the number of updates in a call never changes the result.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from imnn_tf import information
from imnn_tf.information import Information, Loss, LossFunction, Statistics
from imnn_tf.replicas import Replicas
from imnn_tf.simulations.batch import Batch, Part, Passes, Simulations
from imnn_tf.summaries import accumulate, fold, passive_variables, respond, statistics
from imnn_tf.utils.grappler import without_memory_optimiser


class Gradient(NamedTuple):
    """The loss of a model at its present weights, and its gradient by them."""

    loss: Loss
    information: Information
    gradients: list[tf.Tensor]


class Records(NamedTuple):
    """What a call of the loop has measured, a row for each update."""

    training: tf.Tensor  # [updates, 5], see `measure`
    training_slope: tf.Tensor  # [updates, n_params, n_summaries]
    validation: tf.Tensor  # [updates, 5], NaN where it was not evaluated
    validation_slope: tf.Tensor  # [updates, n_params, n_summaries]


MEASURES = ("loss", "log_det_F", "log_det_C", "reg", "r")


def measure(loss: Loss, info: Information) -> tf.Tensor:
    """The scalars recorded of an update, in the order of `MEASURES`."""
    return tf.stack(
        [
            loss.total,
            info.log_det_fisher,
            info.log_det_covariance,
            loss.regularisation,
            loss.coupling,
        ]
    )


class Objective:
    """The loss of a model on simulations, and how it is differentiated.

    Args:
        model: Keras model from `[batch, *input_shape]` to `[batch, n_summaries]`.
        n_summaries: Length of a summary of the model.
        loss: The loss as a function of the information.
        strength: Strength of the regularisation, `[]`.
        rate: Rate of its coupling, `[]`.
        n_external: Number of external summaries, to which the regularisation does not apply.
        replicas: Where the batches are worked on.
    """

    def __init__(
        self,
        model: Any,
        n_summaries: int,
        loss: LossFunction,
        strength: tf.Variable,
        rate: tf.Variable,
        *,
        n_external: int = 0,
        replicas: Replicas | None = None,
    ) -> None:
        self.model = model
        self.n_summaries, self._n_external = n_summaries + n_external, n_external
        self.replicas = replicas or Replicas()
        self._loss, self._strength, self._rate = loss, strength, rate

    def assess(self, total: Statistics) -> tuple[Loss, Information]:
        """The loss of summaries with the given statistics, and their information.

        The covariances in the information are of the network's own summaries, which are those
        that the regularisation is about.
        """
        info = information.fisher_information(total)
        if self._n_external:
            own = information.block(total, slice(self.n_summaries - self._n_external))
            covariances = information.fisher_information(own)[2:5]
            info = Information(*info[:2], *covariances, *info[5:])
        return self._loss(info, self._strength, self._rate), info

    def statistics(
        self, simulations: Simulations, *, training: bool = False, update: tf.Tensor | int = 0
    ) -> Statistics:
        """Statistics of the summaries of all simulations, those of a given update."""
        passes = simulations.begin(update)
        return self.replicas.statistics(
            lambda part: self._accumulate(simulations, passes, part, training=training)
        )

    def gradient(self, simulations: Simulations, update: tf.Tensor | int = 0) -> Gradient:
        """Loss and gradient, in the memory that one batch needs."""
        if simulations.n_batches == 1:
            return self.whole_gradient(simulations, update)
        return self.streamed_gradient(simulations, update)

    def whole_gradient(self, simulations: Simulations, update: tf.Tensor | int = 0) -> Gradient:
        """Loss and gradient of simulations that are one batch, in one pass."""
        batch = simulations.begin(update)()(tf.constant(0))
        with tf.GradientTape() as tape:
            total = statistics(self.model, batch, simulations, training=True)
            loss, info = self.assess(total)
        return Gradient(loss, info, self._differentiate(tape, loss.total))

    def streamed_gradient(self, simulations: Simulations, update: tf.Tensor | int = 0) -> Gradient:
        """Loss and gradient a batch at a time, in two passes.

        The loss is a function of the scatter and the slope, to which every simulation adds on
        its own. The first pass adds them up; with the gradient by them held fixed, the second
        differentiates each batch's share. The terms through the mean cancel in the sum.
        """
        passes = simulations.begin(update)
        passive = passive_variables(self.model)

        def statistics_of(part: Part) -> Statistics:
            before = [tf.identity(variable) for variable in passive]
            total = self._accumulate(simulations, passes, part, training=True)
            # The other pass must draw the same noise, and leave the running averages as one would.
            _copy(before, passive)
            return total

        total = self.replicas.statistics(statistics_of)
        with tf.GradientTape() as tape:
            tape.watch([total.moments.scatter, total.slope])
            loss, info = self.assess(total)
        by_scatter, by_slope = tape.gradient(loss.total, [total.moments.scatter, total.slope])

        def gradient_of(part: Part, mean: tf.Tensor, *by: tf.Tensor) -> list[tf.Tensor]:
            batch_at = passes(part)

            def add(index: tf.Tensor, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
                share = self._share_gradient(simulations, batch_at(index), mean, *by)
                return [a + b for a, b in zip(gradients, share, strict=True)]

            zero = [tf.zeros_like(v.value) for v in self.model.trainable_variables]
            return fold(self.model, simulations, add, zero, part=part)

        gradients = self.replicas.sum(gradient_of, total.moments.mean, by_scatter, by_slope)
        self.replicas.average(passive)
        return Gradient(loss, info, gradients)

    def _share_gradient(
        self,
        simulations: Simulations,
        batch: Batch,
        mean: tf.Tensor,
        by_scatter: tf.Tensor,
        by_slope: tf.Tensor,
    ) -> list[tf.Tensor]:
        """What one batch adds to the gradient, given that of the loss by the statistics."""
        with tf.GradientTape() as tape:
            summaries, slope = respond(self.model, batch, simulations, training=True)
            residuals, weighted = information.centre(summaries, mean, batch.fiducial)
            share = tf.reduce_sum(tf.matmul(weighted, by_scatter) * residuals)
            share += tf.reduce_sum(by_slope * slope)
        return self._differentiate(tape, share)

    def _accumulate(
        self, simulations: Simulations, passes: Passes, part: Part, *, training: bool
    ) -> Statistics:
        return accumulate(
            self.model,
            simulations,
            passes(part),
            training=training,
            n_summaries=self.n_summaries,
            part=part,
        )

    def why_not_finite(
        self, training: Simulations, validation: Simulations | None, update: int
    ) -> str:
        """Which part of the loss at the present weights is not finite, in words."""
        for source, simulations in (("training", training), ("validation", validation)):
            if simulations is None:
                continue
            total = self.statistics(simulations, training=source == "training", update=update)
            loss, info = self.assess(total)
            if not np.isfinite(info.log_det_fisher):
                return f"on the {source} set {information.explain(total)}"
            if not np.isfinite(loss.total):
                return f"its regularisation on the {source} set is not finite"
        return "its gradient is not finite"

    def _differentiate(self, tape: tf.GradientTape, target: tf.Tensor) -> list[tf.Tensor]:
        gradients = tape.gradient(
            target,
            [variable.value for variable in self.model.trainable_variables],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        # That of a lookup has the rows that were looked up alone.
        return [tf.convert_to_tensor(gradient) for gradient in gradients]


class Snapshot:
    """A copy of a model's weights, and the fit's score and iteration they belong to."""

    def __init__(self, model: Any) -> None:
        self.values = [tf.Variable(weight.value, trainable=False) for weight in model.weights]
        self.score = tf.Variable(-np.inf, dtype=tf.float64, trainable=False)
        self.iteration = tf.Variable(-1, dtype=tf.int64, trainable=False)

    def restore(self, model: Any) -> None:
        """Gives the model these weights, if any were ever kept."""
        if self.iteration.numpy() >= 0:
            _copy(self.values, model.weights)

    def matches(self, model: Any) -> bool:
        """Whether these are the weights that the model has."""
        return bool(self.iteration.numpy() >= 0) and all(
            np.array_equal(kept, weight)
            for kept, weight in zip(self.values, model.weights, strict=True)
        )

    def arrays(self) -> list[np.ndarray]:
        """The weights, none if none were ever kept."""
        return [value.numpy() for value in self.values] if self.iteration.numpy() >= 0 else []

    def take(self, values: list[np.ndarray], score: float, iteration: int) -> None:
        """Takes up what `arrays` gave, and what belongs to it."""
        if values:
            _copy(values, self.values)
        self.score.assign(score)
        self.iteration.assign(iteration)

    def forget(self) -> None:
        """Lets any later score be better than this one."""
        self.score.assign(-np.inf)
        self.iteration.assign(-1)


class UpdateLoop:
    """Updates of a model's weights, many in one compiled call.

    Args:
        objective: The loss and its gradient.
        optimiser: Keras optimiser, built for the model's trainable variables.
        training: The simulations to differentiate the loss on.
        validation: Simulations that score the weights after an update; the training simulations
            score those before it where there are none.
        validation_freq: Updates from one validation to the next.
        capacity: The most updates of one call.
        jit_compile: Whether to compile with XLA.
        best: Where the weights with the highest score go, the score being ln det F.
        sound: Where the last weights with a finite loss go.
    """

    def __init__(
        self,
        objective: Objective,
        optimiser: Any,
        training: Simulations,
        validation: Simulations | None,
        *,
        validation_freq: int,
        capacity: int,
        jit_compile: bool,
        best: Snapshot,
        sound: Snapshot,
    ) -> None:
        self._objective, self._optimiser = objective, optimiser
        self._training, self._validation = training, validation
        self._validation_freq, self.capacity = validation_freq, capacity
        self.validates = validation is not None
        self.updates_per_call = 1  # until it is known how long one takes
        self.best, self.sound = best, sound
        self._variables = objective.model.weights
        # A pass that changes something in the model must not be made in vain, and replicas must
        # exchange what they do in one order.
        self._ahead = not passive_variables(objective.model) and objective.replicas.count == 1
        # AutoGraph would rewrite the user's layers, which Keras itself leaves as they are.
        self._compiled = tf.function(self._run, autograph=False, jit_compile=jit_compile)

    def run(
        self, updates: int, iteration: int, warm_up: int, patience: int | None
    ) -> tuple[int, bool, Records]:
        """Runs updates until their number is reached, patience runs out, or a loss is not finite.

        Args:
            updates: How many, at most `capacity`.
            iteration: Updates done before.
            warm_up: The update after which patience begins to count.
            patience: Updates without a better score after which to stop; never, if `None`.

        Returns:
            The number of updates done, whether all losses were finite, and what was measured.
        """
        limits = (
            updates,
            iteration,
            warm_up,
            np.iinfo(np.int64).max if patience is None else patience,
        )
        with without_memory_optimiser():
            done, finite, tables = self._compiled(*(tf.constant(n, tf.int64) for n in limits))
        done = int(done)
        training, training_slope, validation, validation_slope = (t.numpy() for t in tables)
        before, after = slice(done), slice(1, done + 1)
        return (
            done,
            bool(finite),
            Records(
                training[before],
                training_slope[before],
                validation[after],
                validation_slope[after],
            ),
        )

    def _run(
        self, updates: tf.Tensor, iteration: tf.Tensor, warm_up: tf.Tensor, patience: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        # The validation simulations score the weights of the last update in a round of its own.
        rounds = updates + 1 if self.validates else updates

        def goes_on(done: tf.Tensor, applied: tf.Tensor, *_: Any) -> tf.Tensor:
            return applied & (done < rounds)

        def body(done: tf.Tensor, _: Any, __: Any, tables: list[Any]) -> tuple[Any, ...]:
            sound, applied, finite, row = self._round(
                done, done < updates, iteration, warm_up, patience
            )
            tables = [
                table.write(tf.cast(done, tf.int32), part)
                for table, part in zip(tables, row, strict=True)
            ]
            # Weights that turn out not to be sound are not those of an update.
            done += tf.cast(applied, tf.int64) - tf.cast(~sound, tf.int64)
            return done, applied, finite, tables

        done, _, finite, tables = tf.while_loop(
            goes_on,
            body,
            (tf.constant(0, tf.int64), tf.constant(True), tf.constant(True), self._empty_tables()),
            parallel_iterations=1,
        )
        return done, finite, [table.stack() for table in tables]

    def _empty_tables(self) -> list[Any]:
        n_params, dtype = self._training.n_params, self._training.dtype
        slope_shape = [n_params, self._objective.n_summaries]
        return [
            tf.TensorArray(dtype, self.capacity + 1, element_shape=shape)
            for shape in ([len(MEASURES)], slope_shape) * 2
        ]

    def _round(
        self,
        done: tf.Tensor,
        more: tf.Tensor,
        iteration: tf.Tensor,
        warm_up: tf.Tensor,
        patience: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Scores the present weights and, if there is more to do, updates them.

        The score and the gradient only read the weights, so TensorFlow works on both at once: one
        keeps the processor busy while the other is at its small operations.

        Returns:
            Whether the weights are sound, whether they were updated, whether everything was
            finite, and the row of what was measured.
        """
        now = iteration + done
        sound, *validation = self._validate(now, done > 0)
        wanted = more & sound & (now - tf.maximum(self.best.iteration, warm_up) < patience)
        ready = more if self._ahead else wanted
        finite, gradients, score, *training = self._differentiate(ready, now)
        applied = wanted & finite
        tf.cond(applied, lambda: self._apply(now, gradients, score), lambda: None)
        return sound, applied, sound & (finite | ~wanted), [*training, *validation]

    def _differentiate(self, wanted: tf.Tensor, now: tf.Tensor) -> tuple[Any, ...]:
        """The gradient at the present weights if wanted, whether it is finite, score and row."""

        def compute() -> tuple[Any, ...]:
            loss, info, gradients = self._objective.gradient(self._training, now + 1)
            square = tf.add_n([tf.nn.l2_loss(gradient) for gradient in gradients])
            finite = tf.math.is_finite(loss.total + tf.cast(square, loss.total.dtype))
            return finite, gradients, info.log_det_fisher, measure(loss, info), info.slope

        def nothing() -> tuple[Any, ...]:
            trained = self._objective.model.trainable_variables
            zero = [tf.zeros_like(variable.value) for variable in trained]
            score = tf.constant(-np.inf, self._training.dtype)
            return tf.constant(False), zero, score, *self._nothing_measured()

        return tf.cond(wanted, compute, nothing)

    def _apply(self, now: tf.Tensor, gradients: list[tf.Tensor], score: tf.Tensor) -> None:
        """Updates the weights, which have a finite loss and gradient."""
        self._keep(self.sound, score, now)
        if not self.validates:
            self._keep_if_better(score, now)
        self._objective.replicas.apply(
            self._optimiser, gradients, self._objective.model.trainable_variables
        )

    def _validate(
        self, now: tf.Tensor, updated: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Scores the weights on the validation simulations, when it is time to."""
        simulations = self._validation
        if simulations is None:
            return (tf.constant(True), *self._nothing_measured())

        def evaluate() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            loss, info = self._objective.assess(self._objective.statistics(simulations))
            self._keep_if_better(info.log_det_fisher, now)
            return tf.math.is_finite(loss.total), measure(loss, info), info.slope

        return tf.cond(
            updated & tf.equal(now % self._validation_freq, 0),
            evaluate,
            lambda: (tf.constant(True), *self._nothing_measured()),
        )

    def _nothing_measured(self) -> tuple[tf.Tensor, tf.Tensor]:
        dtype = self._training.dtype
        slope_shape = [self._training.n_params, self._objective.n_summaries]
        nan = tf.constant(np.nan, dtype)
        return tf.fill([len(MEASURES)], nan), tf.fill(slope_shape, nan)

    def _keep_if_better(self, score: tf.Tensor, iteration: tf.Tensor) -> None:
        tf.cond(
            tf.cast(score, tf.float64) > self.best.score,
            lambda: self._keep(self.best, score, iteration),
            lambda: None,
        )

    def _keep(self, snapshot: Snapshot, score: tf.Tensor, iteration: tf.Tensor) -> None:
        _copy([variable.value for variable in self._variables], snapshot.values)
        snapshot.score.assign(tf.cast(score, tf.float64))
        snapshot.iteration.assign(iteration)


def _copy(values: list[tf.Tensor], variables: list[Any]) -> None:
    for value, variable in zip(values, variables, strict=True):
        variable.assign(value)
