"""The backend of Keras, which must be TensorFlow."""

import os


def require_tensorflow() -> None:
    """Checks what the environment asks of Keras, before Keras is imported.

    Raises:
        ImportError: If it asks for another backend than TensorFlow.
    """
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend != "tensorflow":
        raise ImportError(f"`KERAS_BACKEND` must be 'tensorflow', got {backend!r}.")
