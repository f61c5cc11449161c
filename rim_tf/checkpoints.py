"""Checkpoints: a fit that was killed goes on as if it had not been.

A directory holds `rim.json`, the configuration of the model, and `checkpoint_00010.npz` after
ten epochs: every variable of the model (seeds of its random layers included) and of the
optimiser, the history, and the memory of callbacks. Files appear whole or not at all, and are
checked when read; a damaged one is passed over for the one before.
"""

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from imnn_tf.utils import checks
from rim_tf import storage

_log = logging.getLogger(__name__)

CONFIGURATION = "rim.json"


class Checkpoints(keras.callbacks.Callback):
    """Saves the fit every few epochs and at its end; keeps the best and the newest.

    Must come last among the callbacks, to save what the others decided.

    Args:
        directory: Where; made if missing.
        every: Epochs between two checkpoints.
        keep: How many of the best to keep beside the newest.
        monitor: The logged value that says which are best: the smallest.
        seed: The fit's seed, saved with it.
        remembering: Callbacks with `get_state` and `set_state`, saved too.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        every: int = 10,
        keep: int = 3,
        monitor: str = "loss",
        seed: int = 0,
        remembering: Sequence[Any] = (),
    ):
        super().__init__()
        self.directory = Path(directory)
        self.every = checks.integer("checkpoints", every, minimum=1)
        self.keep = checks.integer("models_to_keep", keep, minimum=1)
        self.monitor = monitor
        self.seed = seed
        self.remembering = list(remembering)
        self.history: dict[str, list[float]] = {}
        self.epoch = 0

    def resume(self, rim: Any, epoch: int | None = None) -> int:
        """Puts model, optimiser and callbacks back to a checkpoint.

        Args:
            rim: The compiled model.
            epoch: Which one; the newest that is whole when `None`.

        Returns:
            The number of epochs done, zero if there is no checkpoint.

        Raises:
            ValueError: If the one asked for is missing or damaged, or is of another model.
        """
        found = _load(self.directory, epoch)
        if found is None:
            return 0
        arrays, meta = found
        rim.optimizer.build(rim.trainable_variables)
        _assign(rim.variables, arrays, "model")
        _assign(rim.optimizer.variables, arrays, "optimizer")
        states = meta["callbacks"]
        if len(states) != len(self.remembering):
            raise ValueError(
                f"The fit in {self.directory} has {len(states)} callbacks with memory, "
                f"got {len(self.remembering)}: pass the same as before."
            )
        for callback, state in zip(self.remembering, states, strict=True):
            callback.set_state(state)
        self.history, self.seed, self.epoch = meta["history"], meta["seed"], meta["epoch"]
        _log.info("Resumed %s after %d epochs.", self.directory, self.epoch)
        return self.epoch

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Writes the configuration that the model is rebuilt from."""
        self.directory.mkdir(parents=True, exist_ok=True)
        config = json.dumps(self.model.get_config(), indent=2)
        storage.write_text(self.directory / CONFIGURATION, config)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves when it is time, or when this epoch is the last."""
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        self.epoch = epoch + 1
        last = self.epoch == self.params["epochs"] or self.model.stop_training
        if last or self.epoch % self.every == 0:
            self._save()

    def _save(self) -> None:
        score = self.history[self.monitor][-1]
        if not math.isfinite(score):
            _log.warning("Epoch %d not saved: %s is %s.", self.epoch, self.monitor, score)
            return
        arrays = _collect(self.model.variables, "model")
        arrays.update(_collect(self.model.optimizer.variables, "optimizer"))
        if self.model.optimizer.use_ema:
            # The averages replace the weights for a moment: only Keras knows which is whose.
            self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
            arrays.update(_collect(self.model.variables, "averaged"))
            _assign(self.model.variables, arrays, "model")
        meta = {
            "epoch": self.epoch,
            "score": score,
            "seed": self.seed,
            "history": self.history,
            "callbacks": [callback.get_state() for callback in self.remembering],
        }
        storage.write_arrays(_path(self.directory, self.epoch), arrays, meta)
        self._forget()

    def _forget(self) -> None:
        """Deletes all but the best and the newest."""
        epochs = saved_epochs(self.directory)
        scores = self.history[self.monitor]
        ranked = sorted(epochs, key=lambda epoch: scores[min(epoch, len(scores)) - 1])
        for epoch in set(epochs) - {*ranked[: self.keep], max(epochs)}:
            _path(self.directory, epoch).unlink()


def load(rim_class: Any, directory: Any, which: Any, functions: dict[str, Any]) -> Any:
    """The model of a checkpoint; see `RIM.from_checkpoints`."""
    folder = Path(directory)
    try:
        config = json.loads((folder / CONFIGURATION).read_text())
    except FileNotFoundError:
        raise ValueError(f"`directory` must hold {CONFIGURATION}, got {folder}.") from None
    rim = rim_class.from_config(config, functions)
    epoch = None
    if which == "best":
        scores = {}
        for candidate in saved_epochs(folder):
            found = _load_if_whole(_path(folder, candidate))
            if found is not None:
                scores[candidate] = found[1]["score"]
        epoch = min(scores, key=lambda each: scores[each], default=None)
    elif which != "newest":
        epoch = checks.integer("which", which, minimum=1)
    found = _load(folder, epoch)
    if found is None:
        raise ValueError(f"`directory` must hold a checkpoint, got none in {folder}.")
    arrays, _ = found
    averaged = any(name.startswith("averaged/") for name in arrays)
    _assign(rim.variables, arrays, "averaged" if averaged else "model")
    return rim


def saved_epochs(directory: Path) -> list[int]:
    """The epochs after which there is a checkpoint, ascending."""
    names = Path(directory).glob("checkpoint_*.npz")
    return sorted(int(path.stem.removeprefix("checkpoint_")) for path in names)


def _path(directory: Path, epoch: int) -> Path:
    return directory / f"checkpoint_{epoch:05d}.npz"


def _load(directory: Path, epoch: int | None) -> tuple[dict[str, np.ndarray], Any] | None:
    epochs = saved_epochs(directory)
    if epoch is not None:
        if epoch not in epochs:
            raise ValueError(
                f"Checkpoint {epoch} must be one of those in {directory}, got {epochs}."
            )
        return storage.read_arrays(_path(directory, epoch))
    for candidate in reversed(epochs):
        found = _load_if_whole(_path(directory, candidate))
        if found is not None:
            return found
    return None


def _load_if_whole(path: Path) -> tuple[dict[str, np.ndarray], Any] | None:
    try:
        return storage.read_arrays(path)
    except ValueError as damage:
        _log.warning("Passed over: %s", damage)
        return None


def _collect(variables: Sequence[Any], prefix: str) -> dict[str, np.ndarray]:
    return {
        f"{prefix}/{k:04d}": keras.ops.convert_to_numpy(variable)
        for k, variable in enumerate(variables)
    }


def _assign(variables: Sequence[Any], arrays: dict[str, np.ndarray], prefix: str) -> None:
    stored = [arrays[name] for name in sorted(arrays) if name.startswith(f"{prefix}/")]
    shapes = [array.shape for array in stored]
    expected = [tuple(variable.shape) for variable in variables]
    if shapes != expected:
        raise ValueError(
            f"The checkpoint's {prefix} must have the {len(expected)} variables of this one, "
            f"got {len(shapes)}, or other shapes: it is of another {prefix}."
        )
    for variable, array in zip(variables, stored, strict=True):
        variable.assign(array)
