"""What every update of a fit measured, and how Keras callbacks and the user learn of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import keras
import numpy as np

from imnn_tf.fit.loop import MEASURES, Records
from imnn_tf.fit.snapshot import BestSnapshot
from imnn_tf.information import determinant
from imnn_tf.utils import checks
from imnn_tf.utils.types import KerasModel, KerasOptimizer

History: TypeAlias = dict[str, list[Any]]

_TRAINING_KEYS = ("loss", "det_F", "det_C", "det_Cinv", "dμ_dθ", "reg", "r")


def empty_history() -> History:
    """A history with every key and no entries."""
    validation = [f"val_{key}" for key in _TRAINING_KEYS]
    moves = ("θ_fid", "θ_fid_iteration")
    return {key: [] for key in (*_TRAINING_KEYS, *validation, "val_iteration", *moves)}


def record(
    history: History,
    records: Records,
    iteration: int,
    validates: bool,
    callbacks: keras.callbacks.CallbackList,
) -> None:
    """Adds what a call of the loop measured to the history, and tells callbacks of each update.

    Args:
        history: The history, extended in place.
        records: What was measured, in the shapes that `Records` lists.
        iteration: Updates done before the call.
        validates: Whether there is a validation set.
        callbacks: Keras callbacks, to which an update is an epoch of one batch.
    """
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
        # The container would search every log for tensors, which takes longer than an update.
        for callback in callbacks.callbacks:
            callback.on_train_batch_begin(0)
            callback.on_train_batch_end(0, logs)
            callback.on_epoch_end(iteration + offset, logs)


def _extend(
    history: History, prefix: str, scalars: np.ndarray, slopes: np.ndarray
) -> list[dict[str, float]]:
    """Appends the measurements of some updates, and returns their scalars as logs.

    Args:
        history: The history, extended in place.
        prefix: What stands before the keys, `""` or `"val_"`.
        scalars: `[updates, 5]`, in the order of `MEASURES`.
        slopes: `[updates, n_params, n_summaries]`.
    """
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


def progress(history: History) -> dict[str, str]:
    """The last det F of the training and the validation set, for a progress bar."""
    shown = {"det F": history["det_F"], "validation": history["val_det_F"]}
    return {name: f"{values[-1]:.4g}" for name, values in shown.items() if values}


def ending(reason: str, updates: int, best: BestSnapshot, *, validates: bool) -> str:
    """Says in one line how a fit ended.

    Args:
        reason: Why it ended, the beginning of the sentence.
        updates: The number of its updates.
        best: The weights that it keeps.
        validates: Whether their score was measured on a validation set.
    """
    said = f"{reason} after {updates} updates"
    kept, det_fisher = int(best.update.numpy()), float(determinant(best.score.numpy()))
    if kept < 0:
        return said
    measured_on = "validation set" if validates else "training set"
    return f"{said}; kept update {kept}, det F {det_fisher:.4g} on the {measured_on}"


def callback_list(
    callbacks: Sequence[keras.callbacks.Callback] | None, model: KerasModel, epochs: int | None
) -> keras.callbacks.CallbackList:
    """Keras's own container of the user's callbacks and a `History`.

    Raises:
        TypeError: If one of them is not a Keras callback.
    """
    listed = [*checks.callbacks(callbacks), keras.callbacks.History()]
    return keras.callbacks.CallbackList(listed, model=model, epochs=epochs, verbose=0, steps=1)


@contextmanager
def attached(model: KerasModel, optimiser: KerasOptimizer) -> Iterator[None]:
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
