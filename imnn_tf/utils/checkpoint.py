"""Files that are written whole or not at all, and whose damage is found when they are read."""

import hashlib
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imnn_tf.utils.types import Json, KerasVariable

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"

# The key of the settings in the file of a saved fit, and the key that RIMs of version 0.3 used.
_SETTINGS, _SETTINGS_OF_RIM_0_3 = "settings", "meta.json"


class CorruptFileError(ValueError):
    """A file does not hold what was written to it."""


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a temporary file and renames it to `path` when all of it is on the disk.

    Args:
        path: The file to write, in a folder that exists.
        write: Writes the content to the path that it is called with, which has the extension of
            `path`.
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
    """Writes named arrays to an `.npz` file, whole or not at all."""
    write_atomically(path, lambda aside: np.savez(aside, **dict(arrays)))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads a file that `write_arrays` wrote. Nothing is unpickled.

    Returns:
        The arrays by name.

    Raises:
        FileNotFoundError: If there is no such file.
        CorruptFileError: If it is damaged.
    """
    try:
        # If NumPy opens a file that it cannot read, it does not close it.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise CorruptFileError(f"{path} is damaged: {error}.") from error


class SavedFit(NamedTuple):
    """The content of the file of a saved fit.

    Attributes:
        arrays: Named arrays. The variables of an object `name` are `name/0`, `name/1`, ...
        settings: Everything that is not an array, by name.
    """

    arrays: dict[str, np.ndarray]
    settings: dict[str, Json]

    def variables(self, name: str) -> list[np.ndarray]:
        """The values of the variables of the object `name`, in their order."""
        prefix = f"{name}/"
        keys = [key for key in self.arrays if key.startswith(prefix)]
        keys.sort(key=lambda key: int(key.removeprefix(prefix)))
        return [self.arrays[key] for key in keys]


def numbered(name: str, values: Iterable[Any]) -> dict[str, Any]:
    """Values of the variables of the object `name`, by the keys that `SavedFit` describes."""
    return {f"{name}/{index}": value for index, value in enumerate(values)}


def write_fit(
    path: Path,
    arrays: Mapping[str, Any],
    settings: Mapping[str, Json],
    *,
    keep_previous: bool = False,
) -> None:
    """Writes a saved fit to one `.npz` file, whole or not at all.

    Args:
        path: The file.
        arrays: Named arrays.
        settings: Everything that is not an array, by name.
        keep_previous: Whether to keep a file that is there already, under another name. `read_fit`
            falls back on it.
    """
    if keep_previous and path.exists():
        previous = _previous_of(path)
        previous.unlink(missing_ok=True)
        try:
            os.link(path, previous)
        except OSError:  # the file system has no hard links
            shutil.copyfile(path, previous)
    write_arrays(path, {_SETTINGS: np.array(json.dumps(dict(settings))), **arrays})


def read_fit(path: Path) -> SavedFit:
    """Reads a file that `write_fit` wrote, or, if it is damaged, the previous one.

    Raises:
        FileNotFoundError: If there is no such file.
        CorruptFileError: If the file is damaged, and so is the previous one if there is one.
    """
    try:
        return _read_fit(path)
    except CorruptFileError as error:
        previous = _previous_of(path)
        if not previous.exists():
            raise
        logger.warning("%s The file written before it is read instead.", error)
        return _read_fit(previous)


def _read_fit(path: Path) -> SavedFit:
    arrays = read_arrays(path)
    for key in (_SETTINGS, _SETTINGS_OF_RIM_0_3):
        if key in arrays:
            return SavedFit(arrays, json.loads(str(arrays.pop(key))))
    raise CorruptFileError(f"{path} is damaged: it has no settings.")


def assign(name: str, variables: Sequence[KerasVariable], values: Sequence[np.ndarray]) -> None:
    """Assigns saved values to variables.

    Args:
        name: The argument that the variables belong to, for the message.
        variables: Keras or TensorFlow variables.
        values: One array of the same shape for each variable.

    Raises:
        ValueError: If the number of values or a shape differs. Nothing is assigned then.
    """
    want = [tuple(variable.shape) for variable in variables]
    got = [tuple(value.shape) for value in values]
    if want != got:
        raise ValueError(
            f"`{name}` must have the saved one's variables, of shapes {got}, got {want}: "
            f"the file is of another {name}."
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def write_manifest(folder: Path, names: list[str]) -> None:
    """Writes the SHA-256 of files in a folder that belong together to its manifest."""
    hashes = {name: sha256(folder / name) for name in names}
    text = json.dumps({"sha256": hashes}, indent=2) + "\n"
    write_atomically(folder / MANIFEST, lambda aside: aside.write_text(text, encoding="utf-8"))


def verify(folder: Path, names: list[str]) -> None:
    """Checks files in a folder against its manifest.

    Raises:
        FileNotFoundError: If a file or the manifest is missing.
        CorruptFileError: If a file differs from the one that the manifest was written for.
    """
    recorded = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["sha256"]
    for name in names:
        if sha256(folder / name) != recorded.get(name):
            raise CorruptFileError(
                f"{folder / name} is damaged or not of one piece with the files beside it: its "
                f"SHA-256 differs from that in {MANIFEST}."
            )


def _to_disk(path: Path) -> None:
    """Waits until the content of a file, or the list of files in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _previous_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stored:
        return hashlib.file_digest(stored, "sha256").hexdigest()
