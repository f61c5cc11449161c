"""Files that are either whole or not there, and that say when they are not what was written."""

import hashlib
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"


class CorruptFileError(ValueError):
    """A file does not hold what was written to it."""


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file aside and moves it into place only when it is whole and on the disk.

    Args:
        path: The file to write, in a folder that exists.
        write: Writes the content to the path it is given, whose ending is that of `path`.
    """
    aside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(aside)
        _to_disk(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        _to_disk(path.parent)


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes named arrays to an `.npz` file, atomically."""
    write_atomically(path, lambda aside: np.savez(aside, **dict(arrays)))


def write_state(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes named arrays like `write_arrays` and keeps the file that was there before."""
    if path.exists():
        # A second name for the old file: should the new one be damaged, `read_state` finds it.
        previous = _previous(path)
        previous.unlink(missing_ok=True)
        try:
            os.link(path, previous)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, previous)
    write_arrays(path, arrays)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads what `write_arrays` wrote; never unpickles.

    Raises:
        FileNotFoundError: If there is no such file.
        CorruptFileError: If it does not hold what was written.
    """
    try:
        # NumPy leaves a file that it cannot read open, so it is not the one to open it.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise CorruptFileError(f"{path} is damaged: {error}.") from error


def read_state(path: Path) -> dict[str, np.ndarray]:
    """Reads what `write_state` wrote, or the file before it where that one is damaged.

    Raises:
        FileNotFoundError: If there is no such file.
        CorruptFileError: If neither file holds what was written.
    """
    try:
        return read_arrays(path)
    except CorruptFileError as error:
        previous = _previous(path)
        if not previous.exists():
            raise
        logger.warning("%s Going on from the one written before it.", error)
        return read_arrays(previous)


def write_manifest(folder: Path, names: list[str]) -> None:
    """Records the SHA-256 of files that belong together."""
    hashes = {name: sha256(folder / name) for name in names}
    text = json.dumps({"sha256": hashes}, indent=2) + "\n"
    write_atomically(folder / MANIFEST, lambda aside: aside.write_text(text, encoding="utf-8"))


def verify(folder: Path, names: list[str]) -> None:
    """Checks files against the manifest written with them.

    Raises:
        FileNotFoundError: If a file or the manifest is missing.
        CorruptFileError: If a file is not the one the manifest was written for.
    """
    recorded = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["sha256"]
    for name in names:
        if sha256(folder / name) != recorded.get(name):
            raise CorruptFileError(
                f"{folder / name} is damaged or not of one piece with the files beside it: its "
                f"SHA-256 differs from that in {MANIFEST}."
            )


def _to_disk(path: Path) -> None:
    """Waits until a file's content, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _previous(path: Path) -> Path:
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stored:
        return hashlib.file_digest(stored, "sha256").hexdigest()
