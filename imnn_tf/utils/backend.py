"""The backend of Keras, which must be TensorFlow, and a quiet start of it."""

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What TensorFlow 2.20 and 2.21 write when they start on any machine, and that they found no
# driver of a GPU (303). Any other error about a GPU is one to read.
_START = re.compile(
    r"""^(
        WARNING:\ All\ log\ messages\ before\ absl::InitializeLog\(\)
        | .*\]\ oneDNN\ custom\ operations\ are\ on\.
        | .*\]\ Could\ not\ find\ cuda\ drivers\ on\ your\ machine
        | .*\]\ This\ TensorFlow\ binary\ is\ optimized\ to\ use
        | To\ enable\ the\ following\ instructions:.*,\ in\ other\ operations,\ rebuild
        | .*\]\ failed\ call\ to\ cuInit:.*UNKNOWN\ ERROR\ \(303\)
    ).*\n?""",
    re.MULTILINE | re.VERBOSE,
)

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


@contextmanager
def quiet_start() -> Iterator[None]:
    """Imports TensorFlow without the messages that it writes whenever it starts.

    What is written to the standard error meanwhile is shown at the end, without those messages.
    TensorFlow looks for GPUs at the end too, as it else does before its first operation. Unless
    the environment has `TF_CPP_MIN_LOG_LEVEL`, TensorFlow is imported with 1, so that it logs no
    mere information later either. With 0, everything is shown.

    Example:
        >>> from imnn_tf.utils import quiet_start
        >>> with quiet_start():
        ...     import tensorflow as tf
    """
    level = os.environ.get(_LEVEL)
    if level == "0":
        yield
        return
    os.environ[_LEVEL] = level or "1"  # TensorFlow reads it once
    # They are written by compiled code, so that `sys.stderr` does not see them.
    with tempfile.TemporaryFile() as aside:
        sys.stderr.flush()
        shown = os.dup(2)
        os.dup2(aside.fileno(), 2)
        try:
            yield
            if "tensorflow" in sys.modules:
                sys.modules["tensorflow"].config.list_physical_devices()
        finally:
            if level is None:
                del os.environ[_LEVEL]
            sys.stderr.flush()
            os.dup2(shown, 2)
            os.close(shown)
            aside.seek(0)
            said = without_start(aside.read().decode(errors="replace"))
            with open(2, "w", closefd=False) as stream:
                stream.write(said)


def without_start(said: str) -> str:
    """Text without the lines that TensorFlow writes whenever it starts.

    Args:
        said: The text, whole lines of what a program wrote.
    """
    return _START.sub("", said)


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
