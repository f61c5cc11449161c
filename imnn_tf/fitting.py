"""The Python side of a fit: calls of the compiled loop, history, callbacks, progress, Ctrl-C."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from imnn_tf.information import determinant
from imnn_tf.training import MEASURES, Records, UpdateLoop
from imnn_tf.utils import checks
from imnn_tf.utils.interrupt import deferred_interrupt

logger = logging.getLogger(__name__)

# Between two calls of the compiled loop the bar moves and Ctrl-C is heard.
_SECONDS_PER_CALL = 0.25

History = dict[str, list[Any]]

_TRAINING_KEYS = ("loss", "det_F", "det_C", "det_Cinv", "dμ_dθ", "reg", "r")


def empty_history() -> History:
    """A history with every key and no entries."""
    validation = [f"val_{key}" for key in _TRAINING_KEYS]
    moves = ("θ_fid", "θ_fid_iteration")
    return {key: [] for key in (*_TRAINING_KEYS, *validation, "val_iteration", *moves)}


class Outcome(Enum):
    """What ended a fit."""

    STOPPED = auto()  # its iterations, a callback, or the user
    EXHAUSTED = auto()  # patience
    NOT_FINITE = auto()  # a loss that is not finite


class Limits(NamedTuple):
    """When a fit stops, and when it is looked at."""

    n_iterations: int | None  # the most updates; no limit if None
    patience: int | None  # updates without a better score after which to stop; never if None
    warm_up: int  # updates before patience begins to count
    checkpoint: int | None  # updates from one saving to the next; none if None
    updates_per_call: int | None  # in one call of the loop; chosen by their duration if None

    @classmethod
    def checked(cls, **given: Any) -> "Limits":
        """The limits from the arguments of `IMNN.fit`.

        Raises:
            TypeError: If one is not an integer.
            ValueError: If one is below its minimum.
        """
        minima = {
            "n_iterations": 1,
            "patience": 1,
            "min_iterations": 0,
            "checkpoint": 1,
            "steps_per_execution": 1,
        }
        for name, minimum in minima.items():
            if given[name] is not None:
                given[name] = checks.integer(name, given[name], minimum=minimum)
        return cls(
            given["n_iterations"],
            given["patience"],
            given["min_iterations"] or 0,
            given["checkpoint"],
            given["steps_per_execution"],
        )

    def updates(self, iteration: int, first: int, per_call: int) -> int:
        """How many updates to do until something has to be looked at."""
        wanted = per_call
        if self.n_iterations is not None:
            wanted = min(wanted, first + self.n_iterations - iteration)
        if self.checkpoint is not None:
            wanted = min(wanted, self.checkpoint - iteration % self.checkpoint)
        return wanted


def run(
    loop: UpdateLoop,
    history: History,
    limits: Limits,
    callbacks: keras.callbacks.CallbackList,
    *,
    save: Callable[[], None],
    verbose: bool,
) -> Outcome:
    """Updates until the limits, a callback, the user or a loss that is not finite end the fit.

    Args:
        loop: The compiled loop.
        history: What earlier fits recorded; extended in place.
        limits: When to stop, and when to look.
        callbacks: Keras callbacks, to which an update is an epoch of one batch.
        save: Writes the state of the fit.
        verbose: Whether to show a progress bar.
    """
    first = len(history["loss"])
    per_call = limits.updates_per_call or loop.updates_per_call
    with (
        deferred_interrupt() as interrupted,
        tqdm(total=limits.n_iterations, disable=not verbose, unit="update") as bar,
    ):
        while True:
            iteration = len(history["loss"])
            wanted = limits.updates(iteration, first, per_call)
            if interrupted.is_set():
                logger.warning("The fit was interrupted after %d updates.", iteration - first)
            if wanted == 0 or callbacks.model.stop_training or interrupted.is_set():
                return Outcome.STOPPED
            callbacks.on_epoch_begin(iteration)
            started = time.perf_counter()
            done, finite, records = loop.run(
                wanted, iteration, first + limits.warm_up, limits.patience
            )
            elapsed = time.perf_counter() - started
            _record(history, records, iteration, loop.validates, callbacks)
            bar.update(done)
            bar.set_postfix(_postfix(history), refresh=False)
            if not finite:
                return Outcome.NOT_FINITE
            if limits.checkpoint is not None and (iteration + done) % limits.checkpoint == 0:
                save()
            if done < wanted:
                return Outcome.EXHAUSTED
            if limits.updates_per_call is None and iteration > first:
                # The first call also compiled, and says nothing of the speed.
                per_call = loop.updates_per_call = _rescaled(per_call, elapsed, loop.capacity)


def _rescaled(per_call: int, elapsed: float, capacity: int) -> int:
    """A number of updates that takes about as long as a call should."""
    return int(np.clip(per_call * _SECONDS_PER_CALL / elapsed, 1, min(2 * per_call, capacity)))


def _record(
    history: History,
    records: Records,
    iteration: int,
    validates: bool,
    callbacks: keras.callbacks.CallbackList,
) -> None:
    """Adds what a call has measured to the history, and tells the callbacks of each update."""
    logs_of_updates = _extend(history, "", records.training, records.training_slope)
    if validates:
        evaluated = np.flatnonzero(~np.isnan(records.validation[:, 0]))
        history["val_iteration"] += (iteration + 1 + evaluated).tolist()
        scalars, slopes = records.validation[evaluated], records.validation_slope[evaluated]
        logs_of_validations = _extend(history, "val_", scalars, slopes)
        for offset, logs in zip(evaluated.tolist(), logs_of_validations, strict=True):
            logs_of_updates[offset] |= logs
    for offset, logs in enumerate(logs_of_updates):
        if offset:
            callbacks.on_epoch_begin(iteration + offset)
        # Not by way of the container, which would look for tensors in every log.
        for callback in callbacks.callbacks:
            callback.on_train_batch_begin(0)
            callback.on_train_batch_end(0, logs)
            callback.on_epoch_end(iteration + offset, logs)


def _extend(
    history: History, prefix: str, scalars: np.ndarray, slopes: np.ndarray
) -> list[dict[str, float]]:
    """Appends the measurements of updates; the scalars of each, as logs for callbacks."""
    measured = dict(zip(MEASURES, scalars.astype(np.float64).T, strict=True))
    columns = {
        "loss": measured["loss"],
        "det_F": determinant(measured["log_det_F"]),
        "det_C": determinant(measured["log_det_C"]),
        "det_Cinv": determinant(-measured["log_det_C"]),
        "reg": measured["reg"],
        "r": measured["r"],
    }
    lists = {f"{prefix}{key}": column.tolist() for key, column in columns.items()}
    for key, values in {**lists, f"{prefix}dμ_dθ": list(slopes)}.items():
        history[key] += values
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _postfix(history: History) -> dict[str, str]:
    shown = {"det F": history["det_F"], "validation": history["val_det_F"]}
    return {name: f"{values[-1]:.4g}" for name, values in shown.items() if values}


def callback_list(
    callbacks: Sequence[keras.callbacks.Callback] | None, model: Any, epochs: int | None
) -> keras.callbacks.CallbackList:
    """Keras's own container of the user's callbacks and a `History`.

    Raises:
        TypeError: If one of them is not a Keras callback.
    """
    callbacks = [] if callbacks is None else list(callbacks)
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise TypeError(
                "`callbacks` must be a sequence of keras.callbacks.Callback, got a "
                f"{type(callback).__name__}."
            )
    return keras.callbacks.CallbackList(
        [*callbacks, keras.callbacks.History()], model=model, epochs=epochs, verbose=0, steps=1
    )


def own_optimiser(optimiser: Any, model: Any) -> keras.optimizers.Optimizer:
    """A Keras optimiser for the weights of a model, shared with nothing else.

    Args:
        optimiser: An optimiser, its name or its configuration; Adam if `None`. One that already
            serves other weights is copied, with its settings and without its state.
        model: The model, with its weights.

    Raises:
        TypeError: If it is not an optimiser.
    """
    try:
        optimiser = keras.optimizers.get("adam" if optimiser is None else optimiser)
    except (ValueError, TypeError) as error:
        raise TypeError(
            f"`optimiser` must be a Keras optimiser, its name or its configuration: {error}"
        ) from error
    # Nor can one that was made outside the scope of a strategy serve inside.
    if optimiser.built or tf.distribute.has_strategy():
        optimiser = optimiser.from_config(optimiser.get_config())
    optimiser.build(model.trainable_variables)
    return optimiser


@contextmanager
def attached(model: Any, optimiser: Any) -> Iterator[None]:
    """Lets callbacks find on the model what Keras's own `fit` would have put there."""
    names = ("optimizer", "stop_training")
    before = {name: getattr(model, name) for name in names if hasattr(model, name)}
    model.optimizer, model.stop_training = optimiser, False
    try:
        yield
    finally:
        for name in names:
            if name in before:
                setattr(model, name, before[name])
            else:
                delattr(model, name)
