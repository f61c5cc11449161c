"""Files of weights with a digest at their end, which is checked when they are read.

HDF5 ignores what follows its own content, so that Keras can read such a file too.
"""

import hashlib
from pathlib import Path
from typing import Any

import keras

from imnn_tf.utils import checkpoint
from imnn_tf.utils.types import KerasModel

_DIGEST = b"sha256:"


def save_weights(
    rim: KerasModel, filepath: str | Path, overwrite: bool = True, **kwargs: Any
) -> None:
    """Keras's `save_weights`, whole or not at all, followed by the SHA-256 of the file.

    Args:
        rim: The model.
        filepath: The file, whose name ends with `.weights.h5`.
        overwrite: Whether a file that is there is written over without asking. Defaults to True.
        **kwargs: Other arguments of Keras's `save_weights`. Weights in several files
            (`max_shard_size`) are written by Keras alone, without a digest.
    """
    path = Path(filepath)
    if kwargs or not path.name.endswith(".weights.h5") or (path.exists() and not overwrite):
        keras.Model.save_weights(rim, filepath, overwrite, **kwargs)
        return

    def write(aside: Path) -> None:
        keras.Model.save_weights(rim, aside)
        with aside.open("ab") as stored:
            stored.write(_DIGEST + checkpoint.sha256(aside).encode())

    checkpoint.write_atomically(path, write)


def load_weights(
    rim: KerasModel, filepath: str | Path, skip_mismatch: bool = False, **kwargs: Any
) -> None:
    """Keras's `load_weights`, after a check of what `save_weights` wrote.

    Args:
        rim: The model.
        filepath: The file. One that was not written by `save_weights` has no digest to check.
        skip_mismatch: Whether weights of another shape are passed over. Defaults to False.
        **kwargs: Other arguments of Keras's `load_weights`.

    Raises:
        ValueError: If the file is damaged.
    """
    path = Path(filepath)
    if path.is_file() and path.name.endswith(".weights.h5"):
        content = path.read_bytes()
        body, digest = content[:-64], content[-64:]
        if body.endswith(_DIGEST):
            whole = hashlib.sha256(body[: -len(_DIGEST)]).hexdigest().encode() == digest
            if not whole:
                raise checkpoint.CorruptFileError(
                    f"{path} is damaged: it does not have the SHA-256 that it names."
                )
    keras.Model.load_weights(rim, filepath, skip_mismatch, **kwargs)
