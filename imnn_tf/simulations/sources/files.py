"""Simulations read straight from their places in files of raw numbers."""

from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import DTypeLike

from imnn_tf.utils.checkpoint import CorruptFileError

# Simulations smaller than this, in bytes, are read several at a time if they are close together.
_SMALL = 2**14


class FileReader:
    """Simulations in files that have their numbers in C order: TFRecords, `.npy`, raw ones.

    Nothing is parsed and nothing is mapped into memory.

    Args:
        files: The files.
        index: File and byte at which the numbers of each simulation begin, `[*counts, 2]`, int64.
        shape: Shape of one simulation.
        dtype: Type of the numbers in the files.
        identity: As of a `Reader`.
    """

    parallel = True

    def __init__(
        self,
        files: Sequence[Path],
        index: np.ndarray,
        shape: tuple[int, ...],
        dtype: DTypeLike = "<f4",
        identity: Any = None,
    ) -> None:
        self.identity = identity
        self._files = list(files)
        self._index = index.reshape(-1, 2)
        self.counts, self.shape = index.shape[:-1], shape
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
        """A reader of an array `[*counts, *shape]` that begins at a byte of a file."""
        size = np.dtype(dtype).itemsize * int(np.prod(shape))
        index = np.zeros((*counts, 2), np.int64)
        index[..., 1] = offset + size * np.arange(int(np.prod(counts))).reshape(counts)
        return cls([path], index, shape, dtype)

    def read(self, places: np.ndarray, out: np.ndarray) -> None:
        """Reads simulations; see `Reader`.

        Raises:
            CorruptFileError: If a file has become shorter.
        """
        numbers, starts = self._index[places].T
        for number in np.unique(numbers):
            rows = np.flatnonzero(numbers == number)
            rows = rows[np.argsort(starts[rows])]
            self._read_file(self._files[number], rows, starts[rows], out)

    def _read_file(self, path: Path, rows: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
        span = int(starts[-1] - starts[0])
        with path.open("rb", buffering=0) as file:
            if self._size < _SMALL and span < 4 * self._size * len(starts):
                piece = np.empty(span + self._size, np.uint8)
                _read(file, int(starts[0]), piece)
                windows = sliding_window_view(piece, self._size)[starts - starts[0]]
                out[rows] = windows.view(self._dtype).reshape(-1, *self.shape)
            elif out.dtype == self._dtype and out.flags.c_contiguous:
                for row, start in zip(rows, starts, strict=True):
                    _read(file, int(start), out[row])
            else:
                numbers = np.empty(self.shape, self._dtype)
                for row, start in zip(rows, starts, strict=True):
                    _read(file, int(start), numbers)
                    out[row] = numbers


def _read(file: FileIO, start: int, out: np.ndarray) -> None:
    """Fills an array with the bytes from `start` on."""
    file.seek(start)
    if file.readinto(out.data) != out.nbytes:
        raise CorruptFileError(f"{file.name!r} has become shorter since it was first read.")
