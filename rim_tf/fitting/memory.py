"""What callbacks remember from epoch to epoch, so that a fit that is resumed can give it back.

Keras's own callbacks forget when a fit begins. Others have the methods `get_state`, which returns
what JSON can hold, and `set_state`.
"""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from imnn_tf.utils import checkpoint
from imnn_tf.utils.checkpoint import SavedFit
from imnn_tf.utils.types import Json

# The attributes in which Keras's callbacks keep what decides the epochs to come.
_REMEMBERED: dict[type, tuple[str, ...]] = {
    keras.callbacks.ReduceLROnPlateau: ("best", "wait", "cooldown_counter"),
    keras.callbacks.EarlyStopping: ("best", "wait", "best_epoch", "stopped_epoch"),
    keras.callbacks.ModelCheckpoint: ("best",),
}


class CallbackMemory:
    """The memory of the callbacks of a fit.

    Args:
        callbacks: All of them. Those without memory are passed over.
    """

    def __init__(self, callbacks: Iterable[Any]):
        self._own, self._keras = [], []
        for each in callbacks:
            if hasattr(each, "set_state"):
                self._own.append(each)
            elif _kind(each) is not None:
                self._keras.append(each)
        self._states: list[dict[str, Json]] = []
        self._weights: list[list[np.ndarray]] = []

    @property
    def spent(self) -> bool:
        """Whether a callback would stop the fit after any further epoch without improvement."""
        return any(getattr(each, "spent", False) for each in self._own) or any(
            each.stopped_epoch > 0 and each.wait >= each.patience
            for each in self._keras
            if isinstance(each, keras.callbacks.EarlyStopping)
        )

    def settings(self) -> dict[str, Json]:
        """What JSON can hold of it, by name."""
        states = [
            {"kind": _kind_name(each), **{name: _plain(getattr(each, name)) for name in names}}
            for each, names in ((each, _REMEMBERED[_kind(each)]) for each in self._keras)
        ]
        return {
            "callbacks": [each.get_state() for each in self._own],
            "keras_callbacks": states,
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights that it holds, named as `checkpoint.numbered` does."""
        arrays: dict[str, np.ndarray] = {}
        for number, each in enumerate(self._keras):
            weights = getattr(each, "best_weights", None) or []
            arrays |= checkpoint.numbered(f"callback_{number}", weights)
        return arrays

    def restore(self, saved: SavedFit) -> None:
        """Gives the callbacks what `settings` and `arrays` returned when the fit was saved.

        Raises:
            ValueError: If the fit had other callbacks.
        """
        own = saved.settings["callbacks"]
        if len(own) != len(self._own):
            raise ValueError(
                f"The saved fit has {len(own)} callbacks with the methods `get_state` and "
                f"`set_state`, got {len(self._own)}: pass the same as before."
            )
        for callback, state in zip(self._own, own, strict=True):
            callback.set_state(state)
        # Version 0.3 did not save the memory of Keras's callbacks.
        self._states = saved.settings.get("keras_callbacks", [])
        had = [state["kind"] for state in self._states]
        now = [_kind_name(each) for each in self._keras]
        if had != now and "keras_callbacks" in saved.settings:
            raise ValueError(
                f"The saved fit has the callbacks {had}, got {now}: pass the same as before."
            )
        self._weights = [saved.variables(f"callback_{number}") for number in range(len(had))]
        self.restore_keras()

    def restore_keras(self) -> None:
        """Gives Keras's callbacks their memory again, which they lose when a fit begins."""
        for each, state, weights in zip(self._keras, self._states, self._weights, strict=False):
            for name in _REMEMBERED[_kind(each)]:
                setattr(each, name, state[name])
            if weights:
                each.best_weights = weights
            if isinstance(each, keras.callbacks.EarlyStopping) and each.wait < each.patience:
                each.stopped_epoch = 0  # it has more patience than before


def _kind(callback: Any) -> Any:
    return next((kind for kind in _REMEMBERED if isinstance(callback, kind)), None)


def _kind_name(callback: Any) -> str:
    return _kind(callback).__name__


def _plain(value: Any) -> Json:
    return value.item() if hasattr(value, "item") else value
