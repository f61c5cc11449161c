"""All that a fit changes, in memory and on disk.

One file, `fit.npz`, holds the state of a fit, so one atomic write keeps it consistent.
"""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from imnn_tf.architecture import require_same_layers
from imnn_tf.estimator import MODEL_FILE, configuration_of, load_model, load_weights
from imnn_tf.fit.history import empty_history
from imnn_tf.fit.snapshot import BestSnapshot, Score, Snapshot
from imnn_tf.fit.whitening import pooled_optimiser
from imnn_tf.information import determinant
from imnn_tf.regularisation import Regularisation
from imnn_tf.simulations.fiducial import FiducialPoint
from imnn_tf.utils import checkpoint, checks
from imnn_tf.utils.types import KerasModel, KerasOptimizer, KerasVariable, Numbers

logger = logging.getLogger(__name__)

FIT_FILE = "fit.npz"
HISTORY_FILE = "history.npz"

# What the file must hold besides arrays.
_SETTINGS = ("optimiser", "best", "regulariser", "fiducial")


class Course(NamedTuple):
    """Where a fit began, which a fit that goes on with it has to know."""

    first: int  # updates done before it
    warm_up: int | None  # the update after which its patience begins to count, if it has any


class FitState:
    """Weights, optimiser, history and regularisation of a model being fitted.

    Args:
        model: A built Keras model.
        optimiser: A Keras optimiser, its name or its configuration; AdamW if `None`.

    Attributes:
        optimiser: The optimiser, used by this fit alone.
        pooled: Whether the fit is that of a whitened model whose user named no optimiser.
        history: What every update measured.
        best: The best weights so far.
        finite: The last weights with a finite loss.
        regularisation: The regularisation of the last fit.
        course: Where the running fit began, or the last one; `None` if a further one starts anew.
        running: Whether a fit is running, or was when its process was killed.
        loaded: Whether the best weights come from a file, with a score on the simulations there.
    """

    def __init__(self, model: KerasModel, optimiser: Any) -> None:
        self._model = model
        self.history = empty_history()
        self.best, self.finite = BestSnapshot(model), Snapshot(model)
        self.regularisation = Regularisation()
        # The variables from which a further fit goes on, where the model has the best weights.
        self._latest: list[np.ndarray] | None = None
        self.course: Course | None = None
        self.running = self.loaded = False
        self._initial = self._model_state()
        self.pooled, self._optimiser_named = False, optimiser is not None
        self._trained = [id(weight) for weight in model.trainable_weights]
        self._set_optimiser(optimiser)

    def require_same_weights(self) -> None:
        """Checks that the model still trains the weights that the optimiser was built for.

        Raises:
            ValueError: If it trains none, or layers were frozen or thawed since.
        """
        trained = [id(weight) for weight in self._model.trainable_weights]
        if not trained:
            raise ValueError("`model` must have weights to train, got none that are trainable.")
        if trained != self._trained:
            raise ValueError(
                f"`model` must train the {len(self._trained)} weights that it trained when the "
                f"IMNN was made, got {len(trained)}; make another IMNN after freezing layers."
            )

    def begin_whitened(self) -> None:
        """Chooses how to fit a model whose summaries were whitened, unless the user has."""
        if not self._optimiser_named:
            self.pooled = True
            self._set_optimiser(pooled_optimiser())

    def _set_optimiser(self, optimiser: Any) -> None:
        self.optimiser = own_optimiser(optimiser, self._model)
        self._initial_optimiser = [variable.numpy() for variable in self.optimiser.variables]

    def set_initial_weights(self, weights: Sequence[Numbers]) -> None:
        """Sets the weights that `reset` goes back to.

        Args:
            weights: One array for each weight of the model, in the weight's shape and in the
                order of `model.get_weights()`.

        Raises:
            ValueError: If their number or shapes are not those of the model's weights.
        """
        before = self._model.get_weights()
        self._model.set_weights([np.asarray(weight) for weight in weights])
        self._initial = self._model_state()
        self._model.set_weights(before)

    def reset(self) -> None:
        """Goes back to before the first fit."""
        checkpoint.assign("model", self._variables(), self._initial)
        checkpoint.assign("optimiser", self.optimiser.variables, self._initial_optimiser)
        self.best.forget()
        self.finite.forget()
        self._latest = None
        self.course, self.running = None, False
        self.history = empty_history()

    def move(self, theta_fid: np.ndarray, *, keep_optimiser: bool) -> None:
        """Starts at another fiducial point, with the weights that the model has.

        The best weights are forgotten: scores at two points cannot be compared.

        Args:
            theta_fid: The new fiducial parameters, `[n_params]`, for the history.
            keep_optimiser: Whether the optimiser keeps its state; it starts anew otherwise.
        """
        updates = len(self.history["loss"])
        self.history["θ_fid"].append(theta_fid)
        self.history["θ_fid_iteration"].append(updates)
        self.best.forget()
        self.finite.set(self._model.get_weights(), updates)
        self._latest = None
        self.course, self.running = None, False
        if not keep_optimiser:
            checkpoint.assign("optimiser", self.optimiser.variables, self._initial_optimiser)

    def compare(self, score: Score) -> None:
        """Corrects the score of loaded weights, and lets patience count anew, on other simulations.

        Args:
            score: The score of the best weights on the simulations at hand.
        """
        before = determinant(self.best.score.numpy())
        if not self.best.rescore(score):
            return
        if self.course is not None:
            self.course = self.course._replace(warm_up=None)
        logger.warning(
            "The best weights of the saved fit had det F = %.4g. On the simulations of this one "
            "they have %.4g, which further weights are compared with; patience counts anew.",
            before,
            determinant(score.log_det_fisher.numpy()),
        )

    def resume(self) -> None:
        """Goes back to where the last fit stopped, unless the weights were changed since."""
        if self._latest is not None and self.best.matches(self._model):
            checkpoint.assign("model", self._variables(), self._latest)
        self._latest = None

    def begin(self, warm_up: int, *, patience: bool) -> Course:
        """Begins a fit, or goes on with the one that was killed or stopped before its patience did.

        Args:
            warm_up: Updates of this call before patience begins to count. Those of a killed fit
                are kept, and where it is zero those of a stopped one.
            patience: Whether the fit has patience.
        """
        done, before = len(self.history["loss"]), self.course
        counting = None if before is None else before.warm_up
        if not patience:
            counting = None
        elif counting is None or (warm_up and not self.running):
            counting = done + warm_up
        first = before.first if before is not None and self.running else done
        self.course, self.running = Course(first, counting), True
        return self.course

    @property
    def unfinished(self) -> int:
        """Updates of the fit that is running, or was when its process was killed; 0 without one."""
        first = self.course.first if self.course is not None and self.running else None
        return 0 if first is None else len(self.history["loss"]) - first

    def end(self, *, goes_on: bool) -> None:
        """Ends a fit.

        Args:
            goes_on: Whether the next fit goes on with the count of its patience.
        """
        self.running = False
        if not goes_on:
            self.course = None

    def remember_latest(self) -> None:
        """Makes the weights that the model has now those from which a further fit goes on."""
        self._latest = self._model_state()

    def save(self, folder: Path, fiducial: FiducialPoint) -> None:
        """Writes the state and keeps the file that was written before.

        Args:
            folder: A folder that exists.
            fiducial: The fiducial point, saved with the state.
        """
        best = self.best.arrays()
        lists = {
            # While a fit runs, the model does not have its best weights.
            "weights": best if self.running and best else self._model.get_weights(),
            "latest": self._model_state() if self._latest is None else self._latest,
            "best": best,
            "optimiser": [variable.numpy() for variable in self.optimiser.variables],
        }
        settings = {
            "optimiser": keras.optimizers.serialize(self.optimiser),
            "best": self.best.record(),
            "regulariser": dataclasses.astuple(self.regularisation),
            "fiducial": [fiducial.theta.tolist(), fiducial.moves],
            "pooled": self.pooled,
            "course": None if self.course is None else self.course._asdict(),
            "running": self.running,
            "model": configuration_of(self._model),
        }
        arrays = {f"history/{key}": np.array(values) for key, values in self.history.items()}
        for name, values in lists.items():
            arrays |= checkpoint.numbered(name, values)
        # The model comes first: where there is a state there must be a model to load it with.
        if self.running and not (folder / MODEL_FILE).exists():
            checkpoint.write_atomically(folder / MODEL_FILE, self._model.save)
        checkpoint.write_fit(folder / FIT_FILE, arrays, settings, keep_previous=True)

    def save_all(
        self,
        folder: Path,
        fiducial: FiducialPoint,
        results: dict[str, Callable[[Path], None]],
        weights_name: str,
    ) -> None:
        """Writes what a fit that ended has found, with its weights, its history and its state.

        Args:
            folder: A folder that exists.
            fiducial: The fiducial point.
            results: Functions that write the files of the results, by the names of the files.
            weights_name: Name of the file of weights, without its ending `.weights.h5`.
        """
        arrays = {key: np.array(values) for key, values in self.history.items()}
        files = {
            **results,
            f"{weights_name}.weights.h5": self._model.save_weights,
            HISTORY_FILE: partial(checkpoint.write_arrays, arrays=arrays),
        }
        # The state is last: until then the fit is unfinished, and goes on after a kill.
        try:
            checkpoint.write_together(folder, files)
        except (Exception, KeyboardInterrupt):
            self.save(folder, fiducial)
            raise
        self.save(folder, fiducial)

    def load(
        self,
        folder: Path,
        fiducial: FiducialPoint,
        weights_name: str | None,
        *,
        keep_optimiser: bool,
    ) -> None:
        """Reads the state that `save` wrote, and moves the fiducial point to where it was.

        Args:
            folder: The folder.
            fiducial: The fiducial point.
            weights_name: Name of a file of weights, without its ending `.weights.h5`, whose
                weights replace those of the state; `None` for those of the state.
            keep_optimiser: Whether the present optimiser gets the saved state. Otherwise the
                optimiser is made anew, with the settings that were saved.

        Raises:
            FileNotFoundError: If there is no state.
            CorruptFileError: If it is damaged, and the one before it as well.
            ValueError: If it belongs to another model, optimiser, fiducial point or number of
                parameters, or to a point that the simulations cannot move to.
        """
        saved = checkpoint.read_fit(folder / FIT_FILE, _SETTINGS)
        if "model" in saved.settings:  # not in files of version 0.3
            require_same_layers(self._model, saved.settings["model"])
        theta_fid, moves = saved.settings["fiducial"]
        if not moves and not np.array_equal(theta_fid, fiducial.theta):
            raise ValueError(
                f"`θ_fid` must be that of the saved fit, {theta_fid}, got "
                f"{fiducial.theta.tolist()}."
            )
        weights, latest, best, optimiser = (
            saved.variables(name) for name in ("weights", "latest", "best", "optimiser")
        )
        if not keep_optimiser:
            self._set_optimiser(keras.optimizers.deserialize(saved.settings["optimiser"]))
        checkpoint.assign("model", self._variables(), latest)
        checkpoint.assign("optimiser", self.optimiser.variables, optimiser)
        self._model.set_weights(weights)
        self.best.take_over(best, saved.settings["best"])
        self._latest = latest
        self.pooled = saved.settings.get("pooled", False)
        self.regularisation = Regularisation(*saved.settings["regulariser"])
        self.history = {
            key.removeprefix("history/"): list(value) if value.ndim > 1 else value.tolist()
            for key, value in saved.arrays.items()
            if key.startswith("history/")
        }
        course = saved.settings.get("course")  # not in files of version 0.3
        self.course = None if course is None else Course(**course)
        self.running, self.loaded = saved.settings.get("running", False), True
        if moves:
            shape = (fiducial.n_params,)
            theta = checks.array("θ_fid of the saved fit", theta_fid, shape=shape, dtype=float)
            fiducial.move(theta, moves)
        if weights_name is not None:
            load_weights(self._model, folder / f"{weights_name}.weights.h5")

    def _variables(self) -> list[KerasVariable]:
        """Weights of the model and states of its random layers, but no metrics."""
        metrics = {id(variable) for variable in self._model.metrics_variables}
        return [v for v in self._model.variables if id(v) not in metrics]

    def _model_state(self) -> list[np.ndarray]:
        return [variable.numpy() for variable in self._variables()]


def saved_model(folder: Path, custom_objects: dict[str, Any] | None) -> KerasModel:
    """The model of a saved fit, which may be of another architecture than the model beside it.

    The model beside it is that of the last fit which ended in the folder. The one of a fit that was
    killed is made from its configuration.

    Args:
        folder: The folder of the fit.
        custom_objects: Classes and functions that the model uses, by name.

    Raises:
        FileNotFoundError: If there is no model.
        CorruptFileError: If a file is damaged.
        TypeError: If the model uses an unknown class.
        ValueError: If the model has a `Lambda` layer.
    """
    configuration = None
    if (folder / FIT_FILE).exists():
        # A file of version 0.3 has none.
        configuration = checkpoint.read_fit(folder / FIT_FILE, _SETTINGS).settings.get("model")
    return load_model(folder, custom_objects, configuration)


def default_optimiser() -> KerasOptimizer:
    """The optimiser of a fit whose user names none, by benchmarks/imnn_defaults.py."""
    return keras.optimizers.AdamW(3e-3, weight_decay=1.0)


def own_optimiser(optimiser: Any, model: KerasModel) -> KerasOptimizer:
    """A Keras optimiser for the weights of a model, shared with nothing else.

    Args:
        optimiser: An optimiser, its name or its configuration; AdamW if `None`. One that already
            serves other weights is copied, with its settings and without its state.
        model: The model, with its weights.

    Raises:
        TypeError: If it is not an optimiser.
    """
    try:
        optimiser = default_optimiser() if optimiser is None else keras.optimizers.get(optimiser)
    except (ValueError, TypeError) as error:
        raise TypeError(
            f"`optimiser` must be a Keras optimiser, its name or its configuration: {error}"
        ) from error
    # An optimiser made outside the scope of a strategy cannot be used inside it.
    if optimiser.built or tf.distribute.has_strategy():
        optimiser = optimiser.from_config(optimiser.get_config())
    optimiser.build(model.trainable_variables)
    return optimiser
