"""Files that are written whole or not at all, also by several processes at the same time.

A file is written in a hidden folder beside its place and then moved there, so no pattern for the
files themselves ever matches one that is not finished. Its writer holds a lock on the hidden
folder. After a kill the lock is free, and the next writer deletes the folder.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_HIDDEN = ".writing-"

# Descriptors of the folders that this process has locked.
_HELD: set[int] = set()


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file in a hidden folder and moves it to `path` when all of it is on the disk.

    Args:
        path: The file to write, in a folder that exists.
        write: Writes the content to the path that it is called with, whose name is that of `path`.

    Raises:
        OSError: If the file cannot be written. The error names `path`, and the old file stays.
    """
    with hidden_folder(path.parent) as hidden, _naming(path, hidden):
        aside = hidden / path.name
        write(aside)
        to_disk(aside)
        aside.replace(path)
        to_disk(path.parent)


@contextmanager
def hidden_folder(parent: Path) -> Iterator[Path]:
    """A new folder for unfinished files in another folder, deleted at the end of the block."""
    with _naming(parent, parent):
        delete_abandoned(parent)
        while True:
            hidden = Path(tempfile.mkdtemp(prefix=_HIDDEN, dir=parent))
            # Another writer may take the new folder for an abandoned one until it is locked.
            try:
                descriptor = os.open(hidden, os.O_RDONLY) if os.name == "posix" else None
            except FileNotFoundError:
                if not parent.exists():
                    raise
                continue
            _lock(descriptor)
            if hidden.exists():
                break
            _unlock(descriptor)
    try:
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        _unlock(descriptor)


@contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Waits until no other thread or process holds a folder, and holds it during the block.

    File systems without locks for folders grant it at once.

    Args:
        folder: A folder that exists.
        shared: Whether others may hold it at the same time if they share it too.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    descriptor = os.open(folder, os.O_RDONLY) if os.name == "posix" else None
    try:
        _lock(descriptor, shared=shared)
        yield
    finally:
        _unlock(descriptor)


def to_disk(path: Path) -> None:
    """Waits until the content of a file, or the list of files in a folder, is on the disk."""
    if os.name != "posix" and path.is_dir():  # only POSIX systems open folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def delete_abandoned(parent: Path) -> None:
    """Deletes the hidden folders of writers that were killed.

    Whoever writes does so first. Whoever goes on with what was written does so too, because after a
    kill at the very end nothing is left to write.
    """
    for hidden in parent.glob(f"{_HIDDEN}*"):
        with suppress(OSError):  # another writer deletes it at this moment
            descriptor = os.open(hidden, os.O_RDONLY)
            if _lock(descriptor, wait=False):
                shutil.rmtree(hidden, ignore_errors=True)
            _unlock(descriptor)


def _lock(descriptor: int | None, *, shared: bool = False, wait: bool = True) -> bool:
    """Locks an open folder, and tells whether it is locked."""
    try:
        import fcntl
    except ImportError:  # Windows has no such locks
        return False
    if descriptor is None:
        return False
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
    except OSError:  # it is locked, or the file system has no locks
        return False
    _HELD.add(descriptor)
    return True


def _leave_locks_to_parent() -> None:
    """Closes locked folders in a forked process, which would hold the locks after its parent."""
    for descriptor in _HELD:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, descriptor)
        os.close(nothing)


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_leave_locks_to_parent)


def _unlock(descriptor: int | None) -> None:
    """Unlocks and closes an open folder."""
    if descriptor is None:
        return
    _HELD.discard(descriptor)
    os.close(descriptor)


@contextmanager
def _naming(path: Path, hidden: Path) -> Iterator[None]:
    """Lets errors of the operating system name a file in place of one in the hidden folder."""
    try:
        yield
    except OSError as error:
        inside = error.filename is None or str(error.filename).startswith(str(hidden))
        if error.errno is not None and inside:
            error.filename, error.filename2 = str(path), None
        error.add_note(f"{path} was not written.")
        raise
