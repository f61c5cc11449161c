"""Finished simulations on disk, in a form that survives a kill at any moment."""

import hashlib
import json
import logging
import os
import time
import weakref
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from imnn_tf.utils.atomic import delete_abandoned
from imnn_tf.utils.checkpoint import CorruptFileError, write_atomically

logger = logging.getLogger(__name__)

# Files that this process has locked.
_LOCKED: "weakref.WeakSet[BinaryIO]" = weakref.WeakSet()


class Store:
    """A folder that holds the simulations of one run, written while the run goes on.

    Simulations are kept in shards. A shard is written under another name, flushed to the disk
    and renamed. Only then is it listed, with its SHA-256, in an append-only manifest; files that
    the manifest does not list are ignored. If the process is killed, the simulations not yet
    written are lost. A shard is written once that takes less than a tenth of the time since the
    last one.

    Args:
        directory: The folder. It is created if it does not exist.
        identity: What tells the run from others, stored as JSON: its seed and its parameters.

    Raises:
        ValueError: If the folder holds another run.
        RuntimeError: If another process writes to it.
    """

    def __init__(self, directory: str | os.PathLike[str], identity: dict[str, Any]) -> None:
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._manifest = open(self.directory / "manifest.jsonl", "a+b")  # noqa: SIM115
        _lock(self._manifest, self.directory)
        delete_abandoned(self.directory)
        self._entries = self._read()
        self._unwritten: list[tuple[np.ndarray, np.ndarray]] = []
        self._last, self._cost = time.monotonic(), 0.0
        if not self._entries:
            self._append({"identity": identity})
        elif self._entries[0] != {"identity": json.loads(json.dumps(identity))}:
            self._manifest.close()
            raise ValueError(
                f"`store` must be a new folder or the same run's, got {self.directory} with "
                f"{self._entries[0]}, not {identity}."
            )

    def load(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the indices, `(n,)`, and simulations, `(n,) + shape`, of every undamaged shard."""
        for entry in self._entries[1:]:
            if "shard" in entry:
                arrays = self._arrays(entry, entry["shard"])
                if arrays is None:
                    logger.warning("%s is damaged; its simulations are run again.", entry["shard"])
                else:
                    yield arrays["indices"], arrays["x"]

    @property
    def probe(self) -> dict[str, np.ndarray] | None:
        """The arrays that `set_probe` kept, by name and of any shape, or `None`."""
        entries = [entry for entry in self._entries if "probe" in entry]
        return self._arrays(entries[-1], entries[-1]["probe"]) if entries else None

    def set_probe(self, **arrays: np.ndarray) -> None:
        """Keeps arrays by which a later run can tell whether its functions are still the same.

        Args:
            **arrays: The arrays, of any shape, by name.
        """
        name = f"probe-{len(self._entries) - 1:06d}.npz"
        self._append({"probe": name, "sha256": self._write(name, arrays)})

    def _write(self, name: str, arrays: dict[str, np.ndarray]) -> str:
        """Writes arrays to a file; returns its SHA-256."""
        buffer = BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type] # its stub takes them for flags
        content = buffer.getvalue()
        write_atomically(self.directory / name, lambda aside: aside.write_bytes(content))
        return hashlib.sha256(content).hexdigest()

    def _arrays(self, entry: dict[str, Any], name: str) -> dict[str, np.ndarray] | None:
        """The arrays of a file, or `None` if it is damaged or missing."""
        path = self.directory / name
        inside = path.name == name and path.is_file()  # no path to another folder
        content = path.read_bytes() if inside else b""
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            return None
        with np.load(BytesIO(content), allow_pickle=False) as file:
            return dict(file)

    def add(self, indices: np.ndarray, x: np.ndarray) -> None:
        """Adds simulations, and writes a shard if that is cheap enough by now.

        Args:
            indices: Which simulations of the run they are, `(n,)`.
            x: The simulations, `(n,) + shape`.
        """
        self._unwritten.append((indices, x))
        if time.monotonic() - self._last >= 10 * self._cost:
            self.flush()

    def flush(self) -> None:
        """Writes the simulations added since the last shard."""
        if not self._unwritten:
            return
        start = time.monotonic()
        arrays = {
            "indices": np.concatenate([indices for indices, _ in self._unwritten]),
            "x": np.concatenate([x for _, x in self._unwritten]),
        }
        name = f"shard-{len(self._entries) - 1:06d}.npz"
        self._append({"shard": name, "sha256": self._write(name, arrays)})
        self._unwritten = []
        self._last = time.monotonic()
        self._cost = self._last - start

    def close(self) -> None:
        """Writes what has not been written, and unlocks the folder."""
        self.flush()
        self._manifest.close()

    def _read(self) -> list[dict[str, Any]]:
        self._manifest.seek(0)
        content = self._manifest.read()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) != len(content):  # the process was killed while it wrote a line
            self._manifest.truncate(len(whole))
        try:
            return _entries_of(whole, self.directory)
        except CorruptFileError:
            self._manifest.close()
            raise

    def _append(self, entry: dict[str, Any]) -> None:
        self._manifest.write(json.dumps(entry).encode() + b"\n")
        self._manifest.flush()
        os.fsync(self._manifest.fileno())
        self._entries.append(json.loads(json.dumps(entry)))


def _entries_of(content: bytes, directory: Path) -> list[dict[str, Any]]:
    """The entries in the lines of a manifest."""
    try:
        entries = [json.loads(line) for line in content.splitlines()]
    except ValueError:
        entries = [None]
    if not all(isinstance(each, dict) and each.keys() & {"identity", "sha256"} for each in entries):
        raise CorruptFileError(f"{directory / 'manifest.jsonl'} is damaged.")
    return entries


def digest(array: np.ndarray) -> str:
    """SHA-256 of the numbers of an array of any shape."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def folder_of(directory: Path, theta: np.ndarray) -> Path:
    """The folder for simulations at some parameters.

    Another limit, or another number of draws, leads to other parameters. Their simulations are
    kept beside those that are there.

    Args:
        directory: The folder that is used if it is new, or holds these parameters.
        theta: Parameters, `(n, n_params)`.
    """
    manifest = directory / "manifest.jsonl"
    whole = manifest.read_bytes().rpartition(b"\n")[0] if manifest.exists() else b""
    if not whole:
        return directory
    if _entries_of(whole, directory)[0].get("identity", {}).get("theta") == digest(theta):
        return directory
    other = directory.with_name(f"{directory.name}-{digest(theta)[:12]}")
    if not other.exists():
        logger.warning(
            "%s holds simulations at other parameters. They are left alone, and the new ones are "
            "simulated into %s.",
            directory,
            other.name,
        )
    return other


def save_simulations(name: str | os.PathLike[str], data: np.ndarray) -> Path:
    """Writes simulations to `name.npy`, or to `name_1.npy` and so on if that exists.

    Args:
        name: Name of the file, with or without `.npy`.
        data: Simulations, `(n,) + shape`.

    Returns:
        The file written.
    """
    base = Path(name)
    base = base.with_suffix("") if base.suffix == ".npy" else base
    path, number = base.with_name(base.name + ".npy"), 0
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}_{number}.npy")
    buffer = BytesIO()
    np.save(buffer, data, allow_pickle=False)
    write_atomically(path, lambda aside: aside.write_bytes(buffer.getvalue()))
    return path


def _lock(file: BinaryIO, directory: Path) -> None:
    """Locks a file until it is closed or the process ends."""
    try:
        import fcntl
    except ImportError:  # Windows has no such locks
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise RuntimeError(f"`store` is in use by another process: {directory}.") from None
    _LOCKED.add(file)


def _leave_locks_to_parent() -> None:
    """Closes the locked files in a forked process, which would hold the locks after its parent."""
    for file in list(_LOCKED):
        if not file.closed:
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, file.fileno())  # the Python object may not be closed twice
            os.close(nothing)


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_leave_locks_to_parent)
