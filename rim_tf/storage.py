"""Files that are either the old ones or the new ones, whole, whatever happens in between."""

import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_META = "meta.json"


def write(path: Path, content: bytes) -> None:
    """Writes a file aside, waits for the disk, and puts it in the old one's place.

    Raises:
        OSError: If the disk refuses; the old file is then untouched.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Writes arrays and a JSON record into one `.npz`, whose parts carry checksums.

    Raises:
        OSError: If the disk refuses; the old file is then untouched.
    """
    record = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    buffer = io.BytesIO()
    parts: dict[str, Any] = {**arrays, _META: record}
    np.savez(buffer, **parts)
    write(path, buffer.getvalue())


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads what `write_arrays` wrote; every byte is checked, and no code can be in it.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is damaged.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = json.loads(arrays.pop(_META).tobytes())
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return arrays, meta
