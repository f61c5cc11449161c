"""The backend of Keras, which must be TensorFlow."""

import json
import os
from pathlib import Path


def require_tensorflow() -> None:
    """Checks what the environment or the file of Keras's settings asks for.

    It does not import Keras, which imports its backend at once.

    Raises:
        ImportError: If another backend than TensorFlow is asked for.
    """
    backend = os.environ.get("KERAS_BACKEND")
    if backend and backend != "tensorflow":
        raise ImportError(f"`KERAS_BACKEND` must be 'tensorflow', got {backend!r}.")
    if not backend:
        home = os.environ.get("KERAS_HOME", "~/.keras")
        path = Path(home).expanduser() / "keras.json"
        backend = _backend_in(path)
        if backend not in (None, "tensorflow"):
            raise ImportError(
                f"`backend` in {path} must be 'tensorflow', got {backend!r}. The environment "
                "variable `KERAS_BACKEND` overrides it."
            )


def _backend_in(path: Path) -> str | None:
    """The backend that a file of Keras's settings names; `None` if it names none."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # there is none, or Keras cannot read it either
        return None
    return settings.get("backend") if isinstance(settings, dict) else None
