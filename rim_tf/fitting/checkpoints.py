"""Checkpoints: a fit that was killed continues as if it had not been.

A directory holds `rim.json`, the configuration of the model, and `checkpoint_00010.npz` after ten
epochs: every variable of the model (the seeds of its random layers included) and of the optimiser,
the history, and the state of the callbacks. A file appears whole or not at all, and is checked when
it is read. If one is damaged, the one before it is used.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from imnn_tf.utils import checkpoint, checks
from imnn_tf.utils.atomic import delete_abandoned
from imnn_tf.utils.checkpoint import SavedFit
from imnn_tf.utils.types import Json, KerasModel
from rim_tf.fitting.memory import CallbackMemory

_log = logging.getLogger(__name__)

CONFIGURATION = "rim.json"

# The arguments of a RIM that decide a fit, besides its functions and its network.
_DECISIVE = (
    "dimensions",
    "T",
    "fields",
    "initialization_method",
    "score_preprocessing_method",
    "vectorize",
    "score_gradient",
    "observation_channels",
    "probes",
)


class Checkpoints(keras.callbacks.Callback):
    """Saves the fit every few epochs and at its end, and keeps the best checkpoints and the newest.

    It must be the last of the callbacks, so that it saves what the others decided.

    Args:
        directory: The folder for the checkpoints, which is made if it is missing.
        every: The number of epochs between two checkpoints. Defaults to 10.
        keep: How many of the best checkpoints to keep besides the newest. Defaults to 3.
        monitor: The name of the logged value whose smallest values are the best. Defaults to
            "loss".
        seed: The seed of the fit, which is saved with it. Defaults to 0.
        others: The other callbacks. The memory of those of this package, of Keras's
            `EarlyStopping`, `ReduceLROnPlateau` and `ModelCheckpoint`, and of any with the
            methods `get_state` and `set_state` is saved too. Defaults to none.
        order: The arguments of `fit` that decide the order of the data, by name. Defaults to
            none.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        directory: str | Path,
        every: int = 10,
        keep: int = 3,
        monitor: str = "loss",
        seed: int = 0,
        others: Sequence[Any] = (),
        order: Mapping[str, Json] | None = None,
    ):
        super().__init__()
        self.directory = Path(directory)
        self.every = checks.integer("checkpoints", every, minimum=1)
        self.keep = checks.integer("models_to_keep", keep, minimum=1)
        self.monitor = monitor
        self.seed = seed
        self.memory = CallbackMemory(others)
        self._order = dict(order or {})
        self.history: dict[str, list[float]] = {}
        self.epoch = 0
        self._scores: dict[int, float] = {}
        self._optimizer: dict[str, Json] = {}
        self._goes_back = False

    def resume(self, rim: KerasModel, epoch: int | None = None) -> int:
        """Puts the model, the optimiser and the callbacks back to a checkpoint.

        Args:
            rim: The compiled model.
            epoch: The epoch of the checkpoint. Defaults to `None`, the newest that is whole.

        Returns:
            The number of epochs that are done, zero if there is no checkpoint.

        Raises:
            ValueError: If the checkpoint asked for is missing or damaged, or if it is of another
                model or optimiser.
        """
        self._optimizer = _without_names(_as_json(rim.optimizer.get_config()))
        if self.directory.exists():
            delete_abandoned(self.directory)
        saved = _read(self.directory, epoch)
        if saved is None:
            return 0
        self._check_setup(rim, saved)
        checkpoint.require_shapes("model", rim.variables, saved.variables("model"))
        self._goes_back = epoch is not None
        # An optimiser makes its variables at the first update, unless it is told to earlier.
        rim.optimizer.build(rim.trainable_variables)
        checkpoint.assign("model", rim.variables, saved.variables("model"))
        checkpoint.assign("optimizer", rim.optimizer.variables, saved.variables("optimizer"))
        self.memory.restore(saved)
        self.history, self.seed = saved.settings["history"], saved.settings["seed"]
        self.epoch = saved.settings["epoch"]
        self._optimizer = saved.settings.get("optimizer", self._optimizer)
        scores = saved.settings.get("scores")
        if scores is None:  # a file of version 0.3, where every epoch had one
            scores = dict(enumerate(self.history[self.monitor], 1))
        self._scores = {int(key): value for key, value in scores.items()}
        if epoch is None:  # the fit may have been killed between writing and deleting
            self._delete_old()
        _log.info("Resumed %s after %d epochs.", self.directory, self.epoch)
        return self.epoch

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Writes the configuration from which the model can be rebuilt."""
        self.memory.restore_keras()  # the callbacks before this one have just lost it
        self.directory.mkdir(parents=True, exist_ok=True)
        write_configuration(self.model, self.directory)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Deletes the epochs after the one that the fit went back to, before the first new one."""
        if self._goes_back:
            self._goes_back = False
            for later in saved_epochs(self.directory):
                if later > epoch:
                    _path(self.directory, later).unlink()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves the fit if it is time, or if this epoch is the last."""
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        self.epoch = epoch + 1
        last = self.epoch == self.params["epochs"] or self.model.stop_training
        if last or self.epoch % self.every == 0:
            self._save()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Gives Keras's history the epochs of earlier runs, so that it covers the whole fit."""
        self.model.history.history = {name: list(each) for name, each in self.history.items()}
        self.model.history.epoch = list(range(self.epoch))

    def _check_setup(self, rim: KerasModel, saved: SavedFit) -> None:
        """Raises a ValueError that names what differs from the fit that is to be resumed."""
        model, before = _setup(rim.get_config()), _setup(read_configuration(self.directory))
        now = {**model, **self._optimizer, **self._order}
        # Neither of the two is in files of version 0.3.
        before |= saved.settings.get("optimizer", {}) | saved.settings.get("order", {})
        for name in (each for each in before if each in now):  # the model's first
            # The optimiser of a model that was fitted in this process has the rate of its end.
            if name == "learning_rate" and now[name] == saved.settings.get("last_rate"):
                continue
            if before[name] != now[name]:
                raise ValueError(
                    f"`{name}` must be as in the fit in {self.directory}, {before[name]!r}, to "
                    f"resume it, got {now[name]!r}. Use another folder for another fit."
                )

    def _save(self) -> None:
        # An epoch without validation has the score of the last one with it, or its loss.
        score = self.history.get(self.monitor, self.history["loss"])[-1]
        self._scores[self.epoch] = score
        if not math.isfinite(score):
            _log.warning("Epoch %d not saved: %s is %s.", self.epoch, self.monitor, score)
            return
        model, optimizer = self.model, self.model.optimizer
        weights = [keras.ops.convert_to_numpy(variable) for variable in model.variables]
        moments = [keras.ops.convert_to_numpy(variable) for variable in optimizer.variables]
        arrays = checkpoint.numbered("model", weights) | checkpoint.numbered("optimizer", moments)
        if optimizer.use_ema:
            # Only Keras knows which average belongs to which weight, and it can only put the
            # averages in the place of the weights. They are put back right after.
            optimizer.finalize_variable_values(model.trainable_variables)
            averages = [keras.ops.convert_to_numpy(variable) for variable in model.variables]
            arrays |= checkpoint.numbered("averaged", averages)
            checkpoint.assign("model", model.variables, weights)
        settings = {
            "epoch": self.epoch,
            "score": score,
            "seed": self.seed,
            "scores": self._scores,
            "optimizer": self._optimizer,
            "last_rate": _as_json(optimizer.get_config()).get("learning_rate"),
            "history": self.history,
            "order": self._order,
            **self.memory.settings(),
        }
        arrays |= self.memory.arrays()
        checkpoint.write_fit(_path(self.directory, self.epoch), arrays, settings)
        self._delete_old()

    def _delete_old(self) -> None:
        """Deletes all checkpoints but the best and the newest."""
        epochs = saved_epochs(self.directory)
        # A file that was damaged when the fit was resumed has no score.
        ranked = sorted(epochs, key=lambda epoch: self._scores.get(epoch, math.inf))
        for epoch in set(epochs) - {*ranked[: self.keep], max(epochs)}:
            _path(self.directory, epoch).unlink()


def write_configuration(rim: KerasModel, directory: Path) -> None:
    """Writes the configuration of a model to the directory of its checkpoints."""
    checkpoint.write_json(directory / CONFIGURATION, rim.get_config())


def read_configuration(directory: Path) -> dict[str, Json]:
    """The configuration of the model whose checkpoints are in a directory.

    Raises:
        ValueError: If there is none, or it is damaged.
    """
    try:
        return checkpoint.read_json(directory / CONFIGURATION, ["network", "functions"])
    except FileNotFoundError:
        raise ValueError(f"`directory` must hold {CONFIGURATION}, got {directory}.") from None


def _setup(config: Mapping[str, Json]) -> dict[str, Json]:
    """What of a configuration decides the fit. Keras numbers the names of models and layers."""
    arguments = {name: config[name] for name in _DECISIVE if name in config}
    functions = dict(config.get("functions", {}))
    functions["link_function"] = functions.get("link_function") or "identity"
    return _without_names(_as_json({**arguments, **functions}))


def _without_names(config: Json) -> Json:
    """A configuration without names, which Keras numbers, and the files that hold its classes."""
    if not isinstance(config, dict):
        return config
    return {
        key: _without_names(value) for key, value in config.items() if key not in ("name", "module")
    }


def _as_json(value: Any) -> Json:
    """A value as it comes back from a JSON file."""
    return json.loads(json.dumps(value, default=str))


def load(
    kind: Any, directory: str | Path, which: str | int, functions: Mapping[str, Any]
) -> KerasModel:
    """Makes the model of a saved fit, with its weights, or their moving average if it kept one.

    Args:
        kind: The class of the model.
        directory: The `checkpoints_directory` of the fit.
        which: "best", "newest", or the number of an epoch.
        functions: The functions that Keras could not store, by argument.

    Raises:
        TypeError: If `which` is none of these.
        ValueError: If there is no such checkpoint, or a function is missing.
    """
    folder = Path(directory)
    model = kind.from_config(read_configuration(folder), functions)
    model.compilation.loaded_epoch = restore_weights(model, folder, which)
    return model


def restore_weights(rim: KerasModel, directory: Path, which: str | int) -> int:
    """Gives a model the weights of a checkpoint, the averaged ones if the fit kept averages.

    Args:
        rim: A model of the configuration that was saved.
        directory: The folder of the checkpoints.
        which: "best", "newest", or the number of an epoch.

    Returns:
        The number of the epoch.

    Raises:
        TypeError: If `which` is none of these.
        ValueError: If there is no such checkpoint, or it is damaged.
    """
    epoch = None
    if which == "best":
        scores = {}
        for candidate in saved_epochs(directory):
            saved = _read_if_whole(directory, candidate)
            if saved is not None:
                scores[candidate] = saved.settings["score"]
        epoch = min(scores, key=lambda each: scores[each], default=None)
    elif which != "newest":
        epoch = checks.integer("which", which, minimum=1)
    saved = _read(directory, epoch)
    if saved is None:
        raise ValueError(f"`directory` must hold a checkpoint, got none in {directory}.")
    weights = saved.variables("averaged") or saved.variables("model")
    checkpoint.assign("model", rim.variables, weights)
    return saved.settings["epoch"]


def saved_epochs(directory: Path) -> list[int]:
    """The epochs after which there is a checkpoint, in ascending order."""
    names = Path(directory).glob("checkpoint_*.npz")
    return sorted(int(path.stem.removeprefix("checkpoint_")) for path in names)


def _path(directory: Path, epoch: int) -> Path:
    return directory / f"checkpoint_{epoch:05d}.npz"


def _read(directory: Path, epoch: int | None) -> SavedFit | None:
    """The checkpoint of an epoch, or the newest that is whole, or `None` if there is none."""
    epochs = saved_epochs(directory)
    if epoch is not None:
        if epoch not in epochs:
            raise ValueError(
                f"Checkpoint {epoch} must be one of those in {directory}, got {epochs}."
            )
        return _read_epoch(directory, epoch)
    for candidate in reversed(epochs):
        saved = _read_if_whole(directory, candidate)
        if saved is not None:
            return saved
    return None


def _read_epoch(directory: Path, epoch: int) -> SavedFit:
    """The checkpoint of an epoch, which may be damaged or have the name of another one's."""
    path = _path(directory, epoch)
    saved = checkpoint.read_fit(path)
    if saved.settings.get("epoch") != epoch:
        raise checkpoint.CorruptFileError(
            f"{path} is damaged: it must be of epoch {epoch}, got {saved.settings.get('epoch')}."
        )
    return saved


def _read_if_whole(directory: Path, epoch: int) -> SavedFit | None:
    try:
        return _read_epoch(directory, epoch)
    except ValueError as damage:
        _log.warning("Passed over: %s", damage)
        return None
