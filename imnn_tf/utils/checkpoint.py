"""Files that are either whole or not there, and that say when they are not what was written."""

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

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"

# The key of the settings in the file of a saved fit, and the one that RIMs of version 0.3 used.
_SETTINGS, _SETTINGS_OF_RIM_0_3 = "settings", "meta.json"


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


class SavedFit(NamedTuple):
    """What a file of a saved fit holds.

    Attributes:
        arrays: Named arrays. The variables of an object `name` are `name/0`, `name/1`, ...
        settings: Everything else, as JSON holds it.
    """

    arrays: dict[str, np.ndarray]
    settings: dict[str, Any]

    def variables(self, name: str) -> list[np.ndarray]:
        """The values of the variables that were saved under a name, in their order."""
        prefix = f"{name}/"
        keys = [key for key in self.arrays if key.startswith(prefix)]
        keys.sort(key=lambda key: int(key.removeprefix(prefix)))
        return [self.arrays[key] for key in keys]


def numbered(name: str, values: Iterable[Any]) -> dict[str, Any]:
    """Values of variables under the keys that `SavedFit.variables` finds them by."""
    return {f"{name}/{index}": value for index, value in enumerate(values)}


def write_fit(
    path: Path,
    arrays: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    keep_previous: bool = False,
) -> None:
    """Writes the state of a fit to one `.npz` file, atomically.

    Args:
        path: The file.
        arrays: Named arrays.
        settings: Everything else, as JSON takes it.
        keep_previous: Whether the file that was there before is kept beside the new one, for
            `read_fit` to fall back on.
    """
    if keep_previous and path.exists():
        previous = _previous(path)
        previous.unlink(missing_ok=True)
        try:
            os.link(path, previous)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, previous)
    write_arrays(path, {_SETTINGS: np.array(json.dumps(dict(settings))), **arrays})


def read_fit(path: Path) -> SavedFit:
    """Reads what `write_fit` wrote, or the file kept beside it if that one is damaged.

    Raises:
        FileNotFoundError: If there is no such file.
        CorruptFileError: If no file holds what was written.
    """
    try:
        return _read_fit(path)
    except CorruptFileError as error:
        previous = _previous(path)
        if not previous.exists():
            raise
        logger.warning("%s Going on from the one written before it.", error)
        return _read_fit(previous)


def _read_fit(path: Path) -> SavedFit:
    arrays = read_arrays(path)
    for key in (_SETTINGS, _SETTINGS_OF_RIM_0_3):
        if key in arrays:
            return SavedFit(arrays, json.loads(str(arrays.pop(key))))
    raise CorruptFileError(f"{path} is damaged: it has no settings.")


def assign(name: str, variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    """Gives variables the values that were saved of them.

    Args:
        name: What the variables belong to, for the message.
        variables: Keras or TensorFlow variables.
        values: An array for each.

    Raises:
        ValueError: If the number of values or a shape is another. Nothing is assigned then.
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
