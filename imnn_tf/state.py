"""All that a fit changes, in memory and on disk.

`fit.npz` alone holds the state of a fit, so that one atomic write keeps it of one piece.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.fitting import Outcome, empty_history, own_optimiser
from imnn_tf.training import Snapshot
from imnn_tf.utils import checkpoint

FIT_FILE = "fit.npz"

_LISTS = ("weights", "latest", "best", "optimiser")


class FitState:
    """Weights, optimiser and history of a model being fitted.

    Args:
        model: A built Keras model.
        optimiser: A Keras optimiser, its name or its configuration; Adam if `None`.

    Attributes:
        optimiser: The optimiser, this fit's own.
        history: What every update has measured.
        best: The weights with the highest score so far.
        sound: The last weights with a finite loss.
    """

    def __init__(self, model: Any, optimiser: Any) -> None:
        self._model = model
        self.history = empty_history()
        self.best, self.sound = Snapshot(model), Snapshot(model)
        # Where a further fit goes on, if that is not where the model is.
        self._latest: list[np.ndarray] | None = None
        self._initial = self._model_state()
        self._set_optimiser(optimiser)

    def _set_optimiser(self, optimiser: Any) -> None:
        self.optimiser = own_optimiser(optimiser, self._model)
        self._initial_optimiser = [variable.numpy() for variable in self.optimiser.variables]

    def set_initial_weights(self, weights: list[ArrayLike]) -> None:
        """Gives the weights that `reset` goes back to.

        Raises:
            ValueError: If their number or shapes are not those of the model's weights.
        """
        before = self._model.get_weights()
        self._model.set_weights([np.asarray(weight) for weight in weights])
        self._initial = self._model_state()
        self._model.set_weights(before)

    def reset(self) -> None:
        """Goes back to before the first fit."""
        self._set_model_state(self._initial)
        checkpoint.assign("optimiser", self.optimiser.variables, self._initial_optimiser)
        self.best.forget()
        self.sound.forget()
        self._latest = None
        self.history = empty_history()

    def move(self, theta_fid: np.ndarray, *, keep_optimiser: bool) -> None:
        """Starts at another fiducial point, with the weights that the model has.

        A score at one point says nothing of one at another, so the best weights are forgotten.

        Args:
            theta_fid: Where to, for the history.
            keep_optimiser: Whether the optimiser keeps its state; else it starts anew.
        """
        updates = len(self.history["loss"])
        self.history["θ_fid"].append(theta_fid)
        self.history["θ_fid_iteration"].append(updates)
        self.best.forget()
        self.sound.take(self._model.get_weights(), -np.inf, updates)
        self._latest = None
        if not keep_optimiser:
            checkpoint.assign("optimiser", self.optimiser.variables, self._initial_optimiser)

    def resume(self) -> None:
        """Goes back to where the last fit stopped, unless the weights were changed since."""
        if self._latest is not None and self.best.matches(self._model):
            self._set_model_state(self._latest)
        self._latest = None

    def finish(self, outcome: Outcome | None) -> None:
        """Leaves the model on the weights that a fit ends on.

        Args:
            outcome: What ended it; `None` if an exception did.
        """
        if outcome in (None, Outcome.STOPPED):
            self._latest = self._model_state()
        kept = self.sound if outcome is Outcome.NOT_FINITE else self.best
        kept.restore(self._model)

    def save(self, folder: Path, settings: dict[str, Any], *, running: bool = False) -> None:
        """Writes the state; the one written before is kept beside it.

        Args:
            folder: Where to, a folder that exists.
            settings: More that `load` is to give back, as JSON takes it.
            running: Whether the fit goes on, and the model has not yet its best weights.
        """
        best = self.best.arrays()
        lists = {
            "weights": best if running and best else self._model.get_weights(),
            "latest": self._model_state() if self._latest is None else self._latest,
            "best": best,
            "optimiser": [variable.numpy() for variable in self.optimiser.variables],
        }
        settings = {
            "optimiser": keras.optimizers.serialize(self.optimiser),
            "best": [self.best.score.numpy().item(), self.best.iteration.numpy().item()],
            **settings,
        }
        arrays = {f"history/{key}": np.array(values) for key, values in self.history.items()}
        for name, values in lists.items():
            arrays |= checkpoint.numbered(name, values)
        checkpoint.write_fit(folder / FIT_FILE, arrays, settings, keep_previous=True)

    def load(self, folder: Path, *, keep_optimiser: bool) -> dict[str, Any]:
        """Takes up the state that `save` wrote.

        Args:
            folder: Where from.
            keep_optimiser: Whether the optimiser there is now gets the state of the saved one;
                else it is made anew with the saved one's settings.

        Returns:
            The settings given to `save`.

        Raises:
            FileNotFoundError: If there is no state.
            CorruptFileError: If it is damaged, and the one before it as well.
            ValueError: If it belongs to another model or optimiser.
        """
        saved = checkpoint.read_fit(folder / FIT_FILE)
        settings = saved.settings
        lists = {name: saved.variables(name) for name in _LISTS}
        if not keep_optimiser:
            self._set_optimiser(keras.optimizers.deserialize(settings.pop("optimiser")))
        self._set_model_state(lists["latest"])
        checkpoint.assign("optimiser", self.optimiser.variables, lists["optimiser"])
        self._model.set_weights(lists["weights"])
        self.best.take(lists["best"], *settings.pop("best"))
        self._latest = lists["latest"]
        self.history = {
            key.removeprefix("history/"): list(value) if value.ndim > 1 else value.tolist()
            for key, value in saved.arrays.items()
            if key.startswith("history/")
        }
        return settings

    def _variables(self) -> list[Any]:
        """Weights of the model and states of its random layers."""
        metrics = {id(variable) for variable in self._model.metrics_variables}
        return [v for v in self._model.variables if id(v) not in metrics]

    def _model_state(self) -> list[np.ndarray]:
        return [variable.numpy() for variable in self._variables()]

    def _set_model_state(self, values: list[np.ndarray]) -> None:
        checkpoint.assign("model", self._variables(), values)
