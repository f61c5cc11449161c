"""Files whose damage is found when they are read."""

import hashlib
import json
import logging
import os
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imnn_tf.utils.atomic import hidden_folder, locked, to_disk, write_atomically
from imnn_tf.utils.types import Json, KerasVariable

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"

# The key of the settings in the file of a saved fit, and the key that RIMs of version 0.3 used.
_SETTINGS, _SETTINGS_OF_RIM_0_3 = "settings", "meta.json"

# What stands before the digest of an `.npz` file, and the key of the digest in a JSON file.
_DIGEST, _SEAL = b"sha256:", "seal"

# The folder of files that `write_together` has finished but not yet moved to their places.
_FINISHED = ".finished"


class CorruptFileError(ValueError):
    """A file does not hold what was written to it."""


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes named arrays and their SHA-256 to an `.npz` file, whole or not at all.

    Args:
        path: The file.
        arrays: The arrays by name, of any shape.
    """
    buffer = BytesIO()
    np.savez(buffer, **dict(arrays))
    # The digest is the comment at the end of the archive, whose length is in the two bytes before.
    content = buffer.getvalue()[:-2] + struct.pack("<H", len(_DIGEST) + 64)
    content += _DIGEST + hashlib.sha256(content).hexdigest().encode()
    write_atomically(path, lambda aside: aside.write_bytes(content))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads a file that `write_arrays` wrote. Nothing is unpickled.

    Returns:
        The arrays by name, each in the shape that it was written in.

    Raises:
        FileNotFoundError: If there is no such file.
        CorruptFileError: If it is damaged.
    """
    return parse_arrays(path, _read_bytes(path))


def parse_arrays(path: Path, content: bytes) -> dict[str, np.ndarray]:
    """Reads the content of a file that `write_arrays` wrote. Nothing is unpickled.

    Args:
        path: The file, for the message.
        content: All bytes of the file.

    Returns:
        The arrays by name, each in the shape that it was written in.

    Raises:
        CorruptFileError: If it is damaged.
    """
    body, digest = content[:-64], content[-64:]
    if body.endswith(_DIGEST):
        whole = hashlib.sha256(body[: -len(_DIGEST)]).hexdigest().encode() == digest
    else:  # version 0.3 wrote no digest
        whole = content[-22:-18] == b"PK\5\6" and content[-2:] == b"\0\0"
    if not whole:
        raise CorruptFileError(f"{path} is damaged: it does not have the SHA-256 that it names.")
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("an array does not have its CRC-32")
            names, end = archive.namelist(), len(content) - len(archive.comment)
            if len(names) != int.from_bytes(content[end - 12 : end - 10], "little"):
                raise zipfile.BadZipFile("it does not have the number of arrays that it names")
        with np.load(BytesIO(content), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # zipfile and NumPy raise errors of a dozen types for damage
        raise CorruptFileError(f"{path} is damaged: {error}.") from error


def write_json(path: Path, content: Mapping[str, Json]) -> None:
    """Writes an object and its SHA-256 to a JSON file, whole or not at all."""
    plain = json.loads(json.dumps(content))  # as it is when it is read
    text = json.dumps({**plain, _SEAL: _seal(plain)}, indent=2) + "\n"
    write_atomically(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def read_json(path: Path, keys: Iterable[str] = ()) -> dict[str, Json]:
    """Reads a file that `write_json` wrote.

    Args:
        path: The file.
        keys: What it must hold.

    Raises:
        FileNotFoundError: If there is no such file.
        CorruptFileError: If it is damaged.
    """
    return parse_json(path, _read_bytes(path), keys)


def parse_json(path: Path, content: bytes, keys: Iterable[str] = ()) -> dict[str, Json]:
    """Reads the content of a file that `write_json` wrote; see `read_json`."""
    try:
        stored = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(f"{path} is damaged: {error}.") from error
    if not isinstance(stored, dict) or not stored.keys() >= set(keys):
        raise CorruptFileError(f"{path} is damaged: it must hold {', '.join(keys) or 'names'}.")
    seal = stored.pop(_SEAL, None)  # version 0.3 wrote none
    if seal is not None and seal != _seal(stored):
        raise CorruptFileError(f"{path} is damaged: it does not have the SHA-256 that it names.")
    return stored


class SavedFit(NamedTuple):
    """The content of the file of a saved fit.

    Attributes:
        arrays: Named arrays, of any shape. The variables of an object `name` are `name/0`,
            `name/1`, ..., each in its variable's shape.
        settings: Everything that is not an array, by name.
    """

    arrays: dict[str, np.ndarray]
    settings: dict[str, Json]

    def variables(self, name: str) -> list[np.ndarray]:
        """One array for each variable of the object `name`, in the variable's shape."""
        prefix = f"{name}/"
        keys = [key for key in self.arrays if key.startswith(prefix)]
        keys.sort(key=lambda key: int(key.removeprefix(prefix)))
        return [self.arrays[key] for key in keys]


def numbered(name: str, values: Iterable[Any]) -> dict[str, Any]:
    """Values of the variables of an object, by the keys that `SavedFit` describes.

    Args:
        name: The name of the object.
        values: One array for each variable, in the variable's shape.

    Returns:
        The same arrays by key.
    """
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
        arrays: Named arrays, of any shape.
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


def read_fit(path: Path, keys: Iterable[str] = ()) -> SavedFit:
    """Reads a file that `write_fit` wrote, or, if it is damaged, the previous one.

    Args:
        path: The file.
        keys: The names of settings that it must hold; by default any.

    Raises:
        FileNotFoundError: If there is no such file.
        CorruptFileError: If the file is damaged, and so is the previous one if there is one.
    """
    try:
        return _read_fit(path, keys)
    except CorruptFileError as error:
        previous = _previous_of(path)
        if not previous.exists():
            raise
        logger.warning("%s The file written before it is read instead.", error)
        return _read_fit(previous, keys)


def _read_fit(path: Path, keys: Iterable[str]) -> SavedFit:
    arrays = read_arrays(path)
    for key in (_SETTINGS, _SETTINGS_OF_RIM_0_3):
        if key in arrays:
            settings = parse_json(path, str(arrays.pop(key)).encode(), keys)
            return SavedFit(arrays, settings)
    raise CorruptFileError(f"{path} is damaged: it has no settings.")


def assign(name: str, variables: Sequence[KerasVariable], values: Sequence[np.ndarray]) -> None:
    """Assigns saved values to variables.

    Args:
        name: The argument that the variables belong to, for the message.
        variables: Keras or TensorFlow variables, of any shape.
        values: One array for each variable, in the variable's shape.

    Raises:
        ValueError: If the number of values or a shape differs. Nothing is assigned then.
    """
    require_shapes(name, variables, values)
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def require_shapes(
    name: str, variables: Sequence[KerasVariable], values: Sequence[np.ndarray]
) -> None:
    """Checks that saved values fit variables.

    Args:
        name: The argument that the variables belong to, for the message.
        variables: Keras or TensorFlow variables, of any shape.
        values: One array for each variable, in the variable's shape.

    Raises:
        ValueError: If the number of values or a shape differs.
    """
    want = [tuple(variable.shape) for variable in variables]
    got = [tuple(value.shape) for value in values]
    if want != got:
        raise ValueError(
            f"`{name}` must have the saved one's variables, of shapes {got}, got {want}: "
            f"the file is of another {name}."
        )


def write_together(
    folder: Path, files: Mapping[str, Callable[[Path], Any]], *, also: Sequence[str] = ()
) -> None:
    """Writes files that belong together, and their manifest. A kill leaves all of them or none.

    The manifest keeps the SHA-256 of other files that were written to the folder like this before.

    Args:
        folder: The folder, made if it does not exist.
        files: For each name what writes the content to the path that it is called with.
        also: Names of further files in the folder whose SHA-256 the manifest records.
    """
    folder.mkdir(parents=True, exist_ok=True)
    finished = folder / _FINISHED
    with locked(folder), hidden_folder(folder) as hidden:
        _move_finished(folder)
        try:
            recorded = _recorded(folder, (folder / MANIFEST).read_bytes())
        except (FileNotFoundError, CorruptFileError):
            recorded = {}
        hashes = {name: each for name, each in recorded.items() if (folder / name).exists()}
        hashes |= {name: sha256(folder / name) for name in also}
        for name, write in files.items():
            write(hidden / name)
            hashes[name] = sha256(hidden / name)
        write_json(hidden / MANIFEST, {"sha256": hashes})
        for path in [*hidden.iterdir(), hidden]:
            to_disk(path)
        hidden.rename(finished)  # from here on `read_together` reads these files
        to_disk(folder)
        _move_finished(folder)


def _move_finished(folder: Path) -> None:
    """Moves files to their places that `write_together` wrote, perhaps before it was killed."""
    finished = folder / _FINISHED
    if finished.exists():
        for path in finished.iterdir():
            path.replace(folder / path.name)
        finished.rmdir()
        to_disk(folder)


def read_together(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Reads files that belong together, each of them once.

    Args:
        folder: The folder.
        names: The files. The manifest must record each of them.

    Returns:
        Their contents by name, checked against the manifest.

    Raises:
        FileNotFoundError: If a file or the manifest is missing.
        CorruptFileError: If a file differs from the one that the manifest was written for.
    """
    manifest, contents = _read_locked(folder, names)
    if manifest is None:
        raise FileNotFoundError(f"There is no {folder / MANIFEST}.")
    recorded = _recorded(folder, manifest)
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != recorded.get(name):
            raise CorruptFileError(
                f"{folder / name} is damaged or not of one piece with the files beside it: its "
                f"SHA-256 differs from that in {MANIFEST}."
            )
    return contents


def read_beside(path: Path) -> bytes:
    """Reads a file beside those that belong together, which the manifest may record.

    If it does not, something else wrote the file, and a warning says that nothing checks it.

    Raises:
        FileNotFoundError: If there is no such file.
        CorruptFileError: If the file differs from the one that the manifest was written for.
    """
    manifest, contents = _read_locked(path.parent, [path.name])
    recorded = {} if manifest is None else _recorded(path.parent, manifest)
    digest = hashlib.sha256(contents[path.name]).hexdigest()
    if path.name not in recorded:
        logger.warning("%s was not written by a fit that ended, so it has no checksum.", path)
    elif digest != recorded[path.name]:
        raise CorruptFileError(f"{path} is damaged: it does not have the SHA-256 in {MANIFEST}.")
    return contents[path.name]


def _read_locked(folder: Path, names: Sequence[str]) -> tuple[bytes | None, dict[str, bytes]]:
    """The manifest of a folder, if it has one, and files in it, read while nobody writes them."""

    def read(name: str) -> bytes:
        finished = folder / _FINISHED / name
        return (finished if finished.exists() else folder / name).read_bytes()

    if not folder.exists():
        raise FileNotFoundError(f"There is no {folder}.")
    with locked(folder, shared=True):
        try:
            manifest = read(MANIFEST)
        except FileNotFoundError:
            manifest = None
        return manifest, {name: read(name) for name in names}


def _recorded(folder: Path, manifest: bytes) -> dict[str, Json]:
    """The SHA-256 of each file that a manifest records."""
    recorded = parse_json(folder / MANIFEST, manifest, ["sha256"])["sha256"]
    if not isinstance(recorded, dict):
        raise CorruptFileError(f"{folder / MANIFEST} is damaged: it must hold digests of files.")
    return recorded


def _previous_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stored:
        return hashlib.file_digest(stored, "sha256").hexdigest()


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:  # the disk fails, or something else than a file has the name
        raise CorruptFileError(f"{path} is damaged: {error}.") from error


def _seal(content: Mapping[str, Json]) -> str:
    """SHA-256 of the JSON of an object, whatever its order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
