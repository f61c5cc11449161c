"""Simulations read straight from files that hold raw numbers."""

from collections.abc import Sequence
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import DTypeLike

from imnn_tf.utils.checkpoint import CorruptFileError
from imnn_tf.utils.types import Json

# Simulations smaller than this, in bytes, are read several at a time if they are close together.
_SMALL = 2**14


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
    """

    parallel = True

    def __init__(
        self,
        files: Sequence[Path],
        starts: np.ndarray,
        shape: tuple[int, ...],
        dtype: DTypeLike = "<f4",
        identity: Json = None,
    ) -> None:
        self.counts, self.shape, self.identity = starts.shape[:-1], shape, identity
        self._files, self._starts = list(files), starts.reshape(-1, 2)
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
            CorruptFileError: If a file has become shorter.
        """
        files, starts = self._starts[indices].T
        for number in np.unique(files):
            rows = np.flatnonzero(files == number)
            rows = rows[np.argsort(starts[rows])]
            self._read_file(self._files[number], rows, starts[rows], out)

    def _read_file(self, path: Path, rows: np.ndarray, starts: np.ndarray, out: np.ndarray) -> None:
        """Reads the simulations that begin at ascending bytes of a file into rows of an array."""
        span = int(starts[-1] - starts[0])
        with path.open("rb", buffering=0) as file:
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
