"""Simulations read straight from files that hold raw numbers."""

import os
from collections.abc import Sequence
from io import FileIO
from os import stat_result
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import DTypeLike

from imnn_tf.utils.checkpoint import CorruptFileError
from imnn_tf.utils.types import Json

# Simulations smaller than this, in bytes, are read several at a time if they are close together.
_SMALL = 2**14


class FileState(NamedTuple):
    """What tells that a file was written to since it was opened.

    Attributes:
        size: Its size in bytes.
        modified: The time of its last modification in nanoseconds.
    """

    size: int
    modified: int

    @classmethod
    def of(cls, stat: stat_result) -> "FileState":
        """The state of a file by what `os.stat` says of it."""
        return cls(stat.st_size, stat.st_mtime_ns)

    def require_same(self, path: Path, stat: stat_result) -> None:
        """Checks that a file is as it was.

        Raises:
            CorruptFileError: If it was written to.
        """
        if FileState.of(stat) != self:
            raise CorruptFileError(
                f"{path} has changed since it was opened: it has {stat.st_size} bytes, modified at "
                f"{stat.st_mtime_ns} ns, not {self.size} bytes, modified at {self.modified} ns."
            )


class FileReader:
    """Simulations in files that hold their numbers in C order; see `Reader` for the attributes.

    Uncompressed TFRecord files and `.npy` files are of this kind. They are neither parsed nor
    mapped into memory.

    Args:
        files: The files.
        starts: For each simulation its file, as an index into `files`, and the byte of that file
            at which its numbers begin, `[*counts, 2]`, int64.
        shape: Shape of one simulation.
        dtype: Type of the numbers in the files.
        identity: Tells these simulations from others in a later process; `None` if that cannot be
            told.
        states: What the files were like when they were opened; by default what they are like now.
    """

    parallel = True

    def __init__(
        self,
        files: Sequence[Path],
        starts: np.ndarray,
        shape: tuple[int, ...],
        dtype: DTypeLike = "<f4",
        identity: Json = None,
        states: Sequence[FileState] | None = None,
    ) -> None:
        self.counts, self.shape, self.identity = starts.shape[:-1], shape, identity
        self._files, self._starts = list(files), starts.reshape(-1, 2)
        self._states = states or [FileState.of(path.stat()) for path in self._files]
        self._dtype = np.dtype(dtype)
        self._size = self._dtype.itemsize * int(np.prod(shape))

    @classmethod
    def of_one_file(
        cls,
        path: Path,
        offset: int,
        counts: tuple[int, ...],
        shape: tuple[int, ...],
        dtype: DTypeLike,
    ) -> "FileReader":
        """A reader of one array in a file.

        Args:
            path: The file.
            offset: The byte at which the array begins.
            counts: Shape of the array of labels.
            shape: Shape of one simulation, so that the array is `[*counts, *shape]`.
            dtype: Type of the array.
        """
        size = np.dtype(dtype).itemsize * int(np.prod(shape))
        starts = np.zeros((*counts, 2), np.int64)
        starts[..., 1] = offset + size * np.arange(int(np.prod(counts))).reshape(counts)
        return cls([path], starts, shape, dtype)

    def read(self, indices: np.ndarray, out: np.ndarray) -> None:
        """Reads simulations into an array.

        Args:
            indices: Which simulations, as indices into the flattened `counts`, `[rows]`.
            out: The array they are written to, `[rows, *shape]`, converted to its type.

        Raises:
            CorruptFileError: If a file has changed since it was opened.
        """
        files, starts = self._starts[indices].T
        for number in np.unique(files):
            rows = np.flatnonzero(files == number)
            rows = rows[np.argsort(starts[rows])]
            path = self._files[number]
            with path.open("rb", buffering=0) as file:
                self._read_file(file, rows, starts[rows], out)
                self._states[number].require_same(path, os.fstat(file.fileno()))

    def _read_file(
        self, file: FileIO, rows: np.ndarray, starts: np.ndarray, out: np.ndarray
    ) -> None:
        """Reads the simulations that begin at ascending bytes of a file into rows of an array."""
        span = int(starts[-1] - starts[0])
        if self._size < _SMALL and span < 4 * self._size * len(starts):
            piece = np.empty(span + self._size, np.uint8)
            _read_into(piece, file, int(starts[0]))
            windows = sliding_window_view(piece, self._size)[starts - starts[0]]
            out[rows] = windows.view(self._dtype).reshape(-1, *self.shape)
        elif out.dtype == self._dtype and out.flags.c_contiguous:
            for row, start in zip(rows, starts, strict=True):
                _read_into(out[row], file, int(start))
        else:
            numbers = np.empty(self.shape, self._dtype)
            for row, start in zip(rows, starts, strict=True):
                _read_into(numbers, file, int(start))
                out[row] = numbers


def _read_into(out: np.ndarray, file: FileIO, start: int) -> None:
    """Fills an array with the bytes of a file from `start` on."""
    file.seek(start)
    if file.readinto(out.data) != out.nbytes:
        raise CorruptFileError(f"{file.name!r} has become shorter since it was first read.")
