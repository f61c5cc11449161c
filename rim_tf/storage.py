"""Arrays and a JSON record in one file, whole and checked."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imnn_tf.utils import checkpoint

_META = "meta.json"


def write_text(path: Path, text: str) -> None:
    """Writes a text file, atomically."""
    checkpoint.write_atomically(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Writes arrays and a JSON record into one `.npz`, atomically.

    Raises:
        OSError: If the disk refuses; the old file is then untouched.
    """
    checkpoint.write_arrays(path, {**arrays, _META: np.array(json.dumps(meta))})


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads what `write_arrays` wrote; every byte is checked, and no code can be in it.

    Raises:
        OSError: If the file cannot be read.
        CorruptFileError: If it is damaged.
    """
    arrays = checkpoint.read_arrays(path)
    if _META not in arrays:
        raise checkpoint.CorruptFileError(f"{path} is damaged: it has no {_META}.")
    return arrays, json.loads(str(arrays.pop(_META)))
