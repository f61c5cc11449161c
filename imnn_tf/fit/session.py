"""The Python side of a fit: calls of the compiled loop, history, callbacks, progress, Ctrl-C."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from imnn_tf.fit.history import attached, ending, progress, record
from imnn_tf.fit.linear import linear_log_det_fisher
from imnn_tf.fit.loop import UpdateLoop
from imnn_tf.fit.objective import Objective
from imnn_tf.fit.passes import Summariser
from imnn_tf.fit.state import FitState
from imnn_tf.fit.whitening import SUBSET, whiten
from imnn_tf.information import InformationError
from imnn_tf.regularisation import Regularisation
from imnn_tf.simulations import Simulations
from imnn_tf.simulations.feeds.stream import reading_errors
from imnn_tf.utils import checks, display
from imnn_tf.utils.interrupt import deferred_interrupt

logger = logging.getLogger(__name__)

# Between two calls of the compiled loop the bar moves and Ctrl-C is heard.
_SECONDS_PER_CALL = 0.25

# The most updates in one call of the compiled loop, where their duration decides.
_CAPACITY = 256

# By how much ln det F may be below that of a linear compression: both are measured on a finite set.
_LINEAR_MARGIN = 0.1

# What is added for each parameter where both are measured on the simulations that they were fitted
# to. A weight for every ten simulations gains 0.1 by learning their covariance by heart.
_FITTED_MARGIN = 0.3


@dataclass(frozen=True)
class FitOptions:
    """How to fit, when to stop, and how often to return to Python.

    Attributes:
        regularisation: What holds the covariance of the summaries near the identity.
        n_iterations: The most updates; no limit if `None`.
        patience: Updates without a better score after which to stop; never if `None`.
        warm_up: Updates before patience begins to count.
        checkpoint: Updates from one saving to the next; none is saved if `None`.
        updates_per_call: Updates in one call of the loop; chosen by their duration if `None`.
        batch_size: Fiducial simulations of an update, chosen anew for each; all, or as many as
            suit the model, if `None`.
        validation_freq: Updates from one validation to the next; those that see every simulation
            about once, if `None`.
        jit_compile: Whether to compile with XLA, or `"auto"`.
        verbose: Whether to show a progress bar.
    """

    regularisation: Regularisation = field(default_factory=Regularisation)
    n_iterations: int | None = None
    patience: int | None = None
    warm_up: int = 0
    checkpoint: int | None = None
    updates_per_call: int | None = None
    batch_size: int | None = None
    validation_freq: int | None = None
    jit_compile: bool | str = "auto"
    verbose: bool = True

    @classmethod
    def checked(
        cls,
        *,
        regularisation: Regularisation,
        n_iterations: int | None,
        patience: int | None,
        min_iterations: int | None,
        checkpoint: int | None,
        steps_per_execution: int | None,
        batch_size: int | None,
        validation_freq: int | None,
        jit_compile: bool | str,
        verbose: bool,
    ) -> "FitOptions":
        """The options from the arguments of `IMNN.fit`, where each is explained.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If one is below its minimum.
        """

        def count(name: str, value: int | None, minimum: int = 1) -> int | None:
            return None if value is None else checks.integer(name, value, minimum=minimum)

        return cls(
            regularisation=regularisation,
            n_iterations=count("n_iterations", n_iterations),
            patience=count("patience", patience),
            warm_up=count("min_iterations", min_iterations, 0) or 0,
            checkpoint=count("checkpoint", checkpoint),
            updates_per_call=count("steps_per_execution", steps_per_execution),
            batch_size=count("batch_size", batch_size),
            validation_freq=count("validation_freq", validation_freq),
            jit_compile=jit_compile
            if jit_compile == "auto"
            else checks.flag("jit_compile", jit_compile),
            verbose=verbose,
        )

    def updates(self, iteration: int, first: int, per_call: int) -> int:
        """How many updates to run until Python has something to do.

        Args:
            iteration: Updates done so far, by all fits.
            first: Updates done before this fit.
            per_call: The most updates of one call of the loop.
        """
        wanted = per_call
        if self.n_iterations is not None:
            wanted = min(wanted, first + self.n_iterations - iteration)
        if self.checkpoint is not None:
            wanted = min(wanted, self.checkpoint - iteration % self.checkpoint)
        return wanted


class Outcome(Enum):
    """What ended a fit."""

    STOPPED = "The fit ended"  # its number of updates, a callback, or the user
    EXHAUSTED = "Patience ended the fit"
    NOT_FINITE = "A loss that is not finite ended the fit"


class Session:
    """The fits of one model on its simulations.

    Args:
        summariser: The model, with the external summaries beside it.
        state: What a fit changes.
        training: The simulations to fit.
        validation: The simulations that score the weights; `None` for the training simulations.
        seed: A non-negative integer that decides which simulations an update sees, where it does
            not see all.
    """

    def __init__(
        self,
        summariser: Summariser,
        state: FitState,
        training: Simulations,
        validation: Simulations | None,
        seed: int = 0,
    ) -> None:
        self._summariser, self._state = summariser, state
        self._training, self._validation, self._seed = training, validation, seed
        self._loops: dict[tuple[Any, ...], UpdateLoop] = {}
        self._linear: dict[int, float] = {}
        self._running = threading.Lock()

    def require_idle(self) -> None:
        """Checks that no fit is running.

        Raises:
            RuntimeError: If one is, whose callback called this.
        """
        if self._running.locked():
            raise RuntimeError("A callback must not fit or move the IMNN that calls it.")

    def run(
        self,
        loop: UpdateLoop,
        options: FitOptions,
        callbacks: keras.callbacks.CallbackList,
        save: Callable[[], None],
    ) -> None:
        """Runs a fit, and leaves the model on the weights that the fit ends on.

        Args:
            loop: The loop of updates that `start` gives for these options.
            options: How to fit, and when to stop.
            callbacks: Keras callbacks, to which an update is an epoch of one batch.
            save: Writes the state of the running fit.

        Raises:
            InformationError: If a loss is not finite.
        """
        state, reason, outcome = self._state, "", None
        first = len(state.history["loss"])
        with (
            self._running,
            attached(callbacks.model, state.optimiser),
            self._summariser.replicas.worker_failures(),
            reading_errors(*loop.simulations),
        ):
            if state.loaded and (score := loop.score_of_best()) is not None:
                state.compare(score)
            state.loaded = False
            callbacks.on_train_begin()
            try:
                shows = options.verbose and self._summariser.replicas.is_chief
                with (
                    deferred_interrupt() as interrupted,
                    display.bar(
                        total=options.n_iterations, disable=not shows, unit="update"
                    ) as bar,
                ):
                    outcome = _update(loop, state, options, callbacks, save, interrupted, bar)
                    why = outcome.value
                    if interrupted.is_set():
                        why = "Ctrl-C ended the fit"
                    elif callbacks.model.stop_training:
                        why = "A callback ended the fit"
                    updates = len(state.history["loss"]) - first
                    said = ending(why, updates, state.best, validates=loop.validates)
                    logger.info("%s.", said)
                    display.conclude(bar, f"{said}.")
                if outcome is Outcome.NOT_FINITE:
                    update = len(state.history["loss"]) + 1
                    reason = loop.objective.why_not_finite(*loop.simulations, update)
            finally:  # also where a callback raised
                stopped = outcome in (None, Outcome.STOPPED)
                if stopped:
                    state.remember_latest()
                state.end(goes_on=stopped)
                kept = state.finite if outcome is Outcome.NOT_FINITE else state.best
                kept.restore(callbacks.model)
            callbacks.on_train_end()
        if outcome is Outcome.NOT_FINITE:
            last = int(state.finite.update)
            has = (
                "The model is as it was."
                if last < 0
                else f"The model has the last weights with a finite loss, those of update {last}."
            )
            raise InformationError(f"The loss of update {update} is not finite: {reason}. {has}")

    def warn_of_poor_fit(self, moves: int) -> None:
        """Logs one warning if the best weights are not worth having, with the remedy.

        Args:
            moves: How often the fiducial point was moved. What a linear compression keeps is
                measured once for each fiducial point.
        """
        best = self._state.best
        if best.update.numpy() < 0:
            return
        if not best.scaled.numpy():
            logger.warning(
                "The covariance of the summaries never came near the identity, so the weights are "
                "not known to be the best. Fit for longer, with a larger learning rate or a "
                "larger `λ`, and end the model with a `Dense` layer without an activation."
            )
            return
        validation, margin = self._validation, _LINEAR_MARGIN
        if validation is None:
            validation, margin = self._training, margin + self._training.n_params * _FITTED_MARGIN
        if moves not in self._linear:
            self._linear = {
                moves: linear_log_det_fisher(self._summariser, self._training, validation)
            }
        kept, linear = best.score.numpy(), self._linear[moves]
        if kept < linear - margin:
            logger.warning(
                "The fit keeps det F = %.4g on the %s set. A linear compression of the same "
                "simulations keeps %.4g. Fit for longer (`patience`), with another learning rate, "
                "divide the simulations by their standard deviation if that is far from one, or "
                "start from a network of `imnn_tf.networks`.",
                np.exp(kept),
                "training" if self._validation is None else "validation",
                np.exp(linear),
            )

    def start(self, options: FitOptions) -> UpdateLoop:
        """Prepares the state for a fit, and gives the loop that `run` runs.

        Summaries that hardly vary are whitened before the first update, which changes the loop.
        """
        if not self._state.history["loss"] and whiten(self._summariser, self._training):
            self._state.begin_whitened()
        loop = self.loop(options)
        self._state.resume()
        self._state.regularisation = options.regularisation
        return loop

    def loop(self, options: FitOptions) -> UpdateLoop:
        """The loop of updates, compiled once for each set of settings.

        Raises:
            RuntimeError: If a fit is running.
            ValueError: If XLA is asked for and cannot compile what the loop does, or fewer
                simulations in an update and there are too few, or they are not held in memory; or
                if the model trains other weights than the optimiser was built for.
        """
        self.require_idle()
        self._state.require_same_weights()
        capacity = options.updates_per_call or _CAPACITY
        jit = self._compiles(options.jit_compile)
        size = self._batch_size(options.batch_size)
        updates_per_pass = 1 if size is None else -(-self._training.n_s // size)
        validation_freq = options.validation_freq or updates_per_pass
        settings = (options.regularisation, validation_freq, capacity, jit, size)
        key = (*settings, id(self._state.optimiser))
        if key not in self._loops:
            part = None if size is None else self._training.subset(size, self._seed)
            self._loops[key] = UpdateLoop(
                Objective(self._summariser, options.regularisation),
                self._state.optimiser,
                part or self._training,
                self._validation,
                updates_per_pass=updates_per_pass,
                validation_freq=validation_freq,
                capacity=capacity,
                jit_compile=jit,
                best=self._state.best,
                finite=self._state.finite,
            )
        return self._loops[key]

    def _batch_size(self, wanted: int | None) -> int | None:
        """The number of fiducial simulations of an update; `None` for all."""
        n_s, least = self._training.n_s, self._summariser.n_summaries + 1
        if wanted is None:
            # Without a validation set, the best weights would be those of the luckiest part.
            choose = self._state.pooled and self._validation is not None
            return SUBSET if choose and least <= SUBSET < n_s else None
        if not least <= wanted <= n_s:
            raise ValueError(
                f"`batch_size` must be from {least}, more than there are summaries, to {n_s}, the "
                f"number of fiducial simulations, got {wanted}."
            )
        if self._training.subset(wanted, self._seed) is None:
            raise ValueError(
                "`batch_size` must be left out where simulations are not held in memory, or their "
                f"`map_fn` draws from a global generator, got {wanted}."
            )
        return wanted if wanted < n_s else None

    def _compiles(self, jit_compile: bool | str) -> bool:
        """Whether to compile with XLA, which can neither compile reading nor replicas."""
        parts = [self._training.compilable]
        if self._validation is not None:
            parts.append(self._validation.compilable)
        never = self._summariser.replicas.count > 1 or False in parts
        if jit_compile == "auto":
            return not never and all(parts) and bool(tf.config.list_physical_devices("GPU"))
        if jit_compile and never:
            raise ValueError(
                "`jit_compile` must be left out where a `strategy` is given, or simulations are "
                "not held in memory, which XLA cannot compile, got True."
            )
        return bool(jit_compile)


def _update(
    loop: UpdateLoop,
    state: FitState,
    options: FitOptions,
    callbacks: keras.callbacks.CallbackList,
    save: Callable[[], None],
    interrupted: threading.Event,
    bar: Any,
) -> Outcome:
    """Updates until a limit, a callback, the user or a loss that is not finite ends the fit."""
    history, replicas = state.history, loop.objective.summariser.replicas
    first = len(history["loss"])
    warm_up = state.begin(options.warm_up, patience=options.patience is not None).warm_up or 0
    # Patience is meant in updates that see every simulation.
    patience = None if options.patience is None else options.patience * loop.updates_per_pass
    per_call = options.updates_per_call or loop.updates_per_call
    while True:
        iteration = len(history["loss"])
        if interrupted.is_set():
            logger.warning("The fit was interrupted after %d updates.", iteration - first)
        wanted, stop = replicas.agreed(
            options.updates(iteration, first, per_call),
            bool(callbacks.model.stop_training) or interrupted.is_set(),
        )
        if wanted == 0 or stop:
            return Outcome.STOPPED
        callbacks.on_epoch_begin(iteration)
        started = time.perf_counter()
        done, finite, records = loop.run(wanted, iteration, warm_up, patience)
        elapsed = time.perf_counter() - started
        record(history, records, iteration, loop.validates, callbacks)
        bar.update(done)
        bar.set_postfix(progress(history), refresh=False)
        if not finite:
            return Outcome.NOT_FINITE
        # After the last update the results are saved, which ends the fit on the disk too.
        at_end = (
            options.n_iterations is not None and iteration + done - first == options.n_iterations
        )
        if options.checkpoint and (iteration + done) % options.checkpoint == 0 and not at_end:
            replicas.on_chief(save)
        if done < wanted:
            return Outcome.EXHAUSTED
        if options.updates_per_call is None and iteration > first:
            # The duration of the first call includes compilation and tells nothing.
            per_call = loop.updates_per_call = _rescaled(per_call, elapsed, loop.capacity)


def _rescaled(per_call: int, elapsed: float, capacity: int) -> int:
    """A number of updates that takes about as long as a call should."""
    return int(np.clip(per_call * _SECONDS_PER_CALL / elapsed, 1, min(2 * per_call, capacity)))
