"""Reasons to stop training, as Keras callbacks whose state survives a restart, and their report."""

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from imnn_tf.utils import checks, display

_log = logging.getLogger(__name__)


class Patience(keras.callbacks.Callback):
    """Stops when the monitored value has not improved for a number of epochs in a row.

    Args:
        patience: The number of epochs.
        tolerance: The fraction by which a value must lie below the best one to be an
            improvement, in [0, 1). Defaults to 0.
        monitor: The name of the value in the logs. Defaults to "loss".

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
    """

    def __init__(self, patience: int, tolerance: float = 0.0, monitor: str = "loss"):
        super().__init__()
        self.patience = checks.integer("patience", patience, minimum=1)
        self.tolerance = checks.real("tolerance", tolerance, minimum=0, below=1)
        self.monitor = monitor
        self.best, self.misses = math.inf, 0
        self.stopped = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forgets that it stopped an earlier fit."""
        self.stopped = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts the epochs without improvement, and stops the model when there are too many."""
        if self.monitor not in (logs or {}):  # an epoch without validation
            return
        value = float((logs or {})[self.monitor])
        if value < (1 - self.tolerance) * self.best:
            self.best, self.misses = value, 0
            return
        self.misses += 1
        if self.spent:
            self.stopped = self.model.stop_training = True

    @property
    def spent(self) -> bool:
        """Whether there have been too many epochs without improvement."""
        return self.misses >= self.patience

    def get_state(self) -> dict[str, float]:
        """What a resumed fit needs to know."""
        return {"best": self.best, "misses": self.misses}

    def set_state(self, state: dict[str, float]) -> None:
        """Continues from the state that `get_state` returned."""
        self.best, self.misses = float(state["best"]), int(state["misses"])


class MaxTime(keras.callbacks.Callback):
    """Stops before an epoch that would end after a wall-clock limit.

    Args:
        hours: The limit in hours, counted from the start of this call of `fit`.

    Raises:
        TypeError: If `hours` is not a real number.
        ValueError: If it is not positive.
    """

    def __init__(self, hours: float):
        super().__init__()
        self.seconds = 3600 * checks.real("max_time", hours, above=0)
        self._start = self._epoch = 0.0
        self.stopped = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._start, self.stopped = time.monotonic(), False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes when the epoch began."""
        self._epoch = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Stops the model if another epoch as long as this one would pass the limit."""
        now = time.monotonic()
        if now - self._start + now - self._epoch > self.seconds:
            self.stopped = self.model.stop_training = True


class Ending(keras.callbacks.Callback):
    """Says in one line how a fit ended: in the log, and where Keras's bars are shown there too.

    Args:
        monitor: The name of the logged value that says how good the model is.
        reasons: The callbacks that may stop the fit, by their name in the line.
        show: Whether to print the line, unless Keras's messages are turned off.
    """

    def __init__(self, monitor: str, reasons: Mapping[str, Any], *, show: bool):
        super().__init__()
        self.monitor, self.reasons, self.show = monitor, dict(reasons), show
        self._epochs = self._first = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Counts from here."""
        self._epochs, self._first = 0, int(self.model.optimizer.iterations.numpy())

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts the epochs."""
        self._epochs += 1

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Says how the fit ended, unless it had nothing to do."""
        if not self._epochs:
            return
        stopped = (name for name, each in self.reasons.items() if each.stopped)
        other = "A callback ended the fit" if self.model.stop_training else "The fit ended"
        why = next((f"{name} ended the fit" for name in stopped), other)
        updates = int(self.model.optimizer.iterations.numpy()) - self._first
        said = f"{why} after {self._epochs} epochs, {updates} updates"
        history = self.model.history.history.get(self.monitor, [])
        if history:
            best = int(np.argmin(history))
            last, lowest = display.number(history[-1]), display.number(history[best])
            said += f"; {self.monitor} {last}, at its lowest {lowest} in epoch {best + 1}"
        _log.info("%s.", said)
        if self.show and keras.config.is_interactive_logging_enabled():
            tqdm.write(f"{said}.")
