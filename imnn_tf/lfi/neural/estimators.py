"""Which density estimator a user chose, and its state on disk."""

import copy
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from imnn_tf.utils import checks

# Names of the density estimators of this package. The first is the default.
NAMES = ("spline_flows", "bayesflow")

_METHODS = ("fit", "sample", "log_prob")


def maker_of(chosen: Any) -> Callable[[], Any]:
    """What makes a new density estimator for each training.

    Args:
        chosen: `None` or "spline_flows" for an ensemble of spline flows; "bayesflow" for the spline
            flow of BayesFlow; an object with the methods of a `DensityEstimator`, of which each
            training gets a copy; or a function without arguments that makes one.

    Raises:
        ImportError: If BayesFlow is chosen, and not installed.
        TypeError: If it is none of these.
        ValueError: If there is no estimator of that name.
    """
    if chosen is None or isinstance(chosen, str):
        name = checks.choice("density_estimator", NAMES[0] if chosen is None else chosen, NAMES)
        return _spline_flows if name == "spline_flows" else _Copies(_bayesflow())
    if not isinstance(chosen, type) and all(callable(getattr(chosen, m, None)) for m in _METHODS):
        return _Copies(chosen)
    if callable(chosen):
        return _Made(chosen)
    raise TypeError(
        "`density_estimator` must be a name, an object with `fit`, `sample` and `log_prob`, or a "
        f"function that makes one, got {type(chosen).__name__}."
    )


def _spline_flows() -> Any:
    from imnn_tf.lfi.density.spline_flows import SplineFlows  # imports TensorFlow

    return SplineFlows()


def _bayesflow() -> Any:
    from imnn_tf.lfi.density.bayesflow import BayesFlowEstimator  # imports TensorFlow

    return BayesFlowEstimator()


class _Copies:
    """Makes copies of an estimator."""

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator

    def __call__(self) -> Any:
        return copy.deepcopy(self._estimator)


class _Made:
    """Calls a user's function, and checks what it returns."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function

    def __call__(self) -> Any:
        made = self._function()
        missing = [m for m in _METHODS if not callable(getattr(made, m, None))]
        if missing:
            raise TypeError(
                f"`density_estimator` must return an object with {', '.join(_METHODS)}, got a "
                f"{type(made).__name__} without {', '.join(missing)}."
            )
        return made


def fit_resumable(
    estimator: Any,
    mapped: np.ndarray,
    scaled: np.ndarray,
    *,
    seed: int,
    folder: Path | None,
    callbacks: Any,
    progress: bool,
) -> tuple[Any, Any]:
    """Trains an estimator, or goes on with a training that was killed.

    A training is written to a folder while it runs, if the estimator can do so: if it has `save`,
    `finished`, `history` and `settings`, its type has `load`, and its `fit` goes on with a training
    that was not finished. The file is named after the simulations and the seed, so that another
    training does not find it.

    Args:
        estimator: A `DensityEstimator` that was not trained, or not to the end.
        mapped: Mapped parameters, `(n, n_params)`.
        scaled: Scaled summaries, `(n, n_scaled)`.
        seed: The seed.
        folder: The folder. `None` writes nothing.
        callbacks: Keras callbacks.
        progress: Whether to show a progress bar.

    Returns:
        The estimator and its history.
    """
    callbacks = [] if callbacks is None else list(callbacks)
    resumable = all(hasattr(estimator, name) for name in ("save", "load", "finished", "settings"))
    path = None
    if folder is not None and resumable:
        content = repr([type(estimator).__name__, *estimator.settings.items(), seed]).encode()
        digest = hashlib.sha256(content + mapped.tobytes() + scaled.tobytes()).hexdigest()
        path = folder / f"training-{digest[:12]}.npz"
        if path.exists():
            estimator = type(estimator).load(path)
            if estimator.finished:
                return estimator, estimator.history
        path.parent.mkdir(parents=True, exist_ok=True)
        callbacks.append(_writer(estimator, path))
    history = estimator.fit(mapped, scaled, seed=seed, callbacks=callbacks, progress=progress)
    if path is not None:
        estimator.save(path)
    return estimator, history


def _writer(estimator: Any, path: Path) -> Any:
    """A callback that writes a training after an epoch, if that is cheap enough by now."""
    import keras

    class Writer(keras.callbacks.Callback):
        last, cost = time.monotonic(), 0.0

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            start = time.monotonic()
            if start - self.last >= 10 * self.cost:
                estimator.save(path)
                self.last = time.monotonic()
                self.cost = self.last - start

    return Writer()
