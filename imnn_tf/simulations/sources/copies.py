"""Copies of simulations, in memory or on disk, of which any can be read at any time."""

import hashlib
import json
import uuid
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from imnn_tf.simulations.sources.files import FileReader
from imnn_tf.simulations.sources.readers import ArrayReader, FunctionReader, Reader
from imnn_tf.simulations.sources.unordered import Source, UnorderedSimulations
from imnn_tf.utils.checkpoint import write_atomically
from imnn_tf.utils.labels import Label

# The most bytes of simulations copied at a time.
_COPIED_AT_ONCE = 2**22


def in_memory(name: str, source: Source, dtype: tf.DType, *, verbose: bool = False) -> Reader:
    """Prepares a source for being read once, in any order.

    A source that comes in its own order is copied into memory, and so are the simulations of a
    function, which is called once for each simulation, in the order of the labels. Files are not
    copied.

    Args:
        name: The argument that the user passed the source in, for the progress bar.
        source: The simulations.
        dtype: Floating type of the copy.
        verbose: Whether to show a progress bar.
    """
    if not isinstance(source, UnorderedSimulations | FunctionReader):
        return source
    array = np.empty((*source.counts, *source.shape), dtype.as_numpy_dtype)
    if isinstance(source, UnorderedSimulations):
        source.write_to(array)
    else:
        flat = array.reshape(-1, *source.shape)
        with tqdm(
            desc=name, total=len(flat), disable=not verbose, unit="simulation", leave=False
        ) as bar:
            for indices in _pieces(source, dtype.size):
                source.read(indices, flat[indices[0] : indices[-1] + 1])
                bar.update(len(indices))
    return ArrayReader(array, len(source.counts))


def on_disk(name: str, source: Source, folder: Path, dtype: tf.DType) -> FileReader:
    """A reader of a copy in a folder, which is written unless it is there from before.

    Args:
        name: The argument that the user passed the source in, with which the file's name begins.
        source: The simulations.
        folder: The folder, which is made if it does not exist.
        dtype: Floating type of the copy.
    """
    numbers = np.dtype(dtype.as_numpy_dtype).newbyteorder("<")
    shape = (*source.counts, *source.shape)
    # Without an identity nothing tells whether a copy is of these simulations, so it is never
    # found again and is deleted with its reader.
    identity = json.dumps([source.identity or uuid.uuid4().hex, shape, numbers.str])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{digest}.npy"
    if not path.exists():
        write_atomically(path, lambda aside: _write(aside, source, numbers))
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        offset = file.tell()
    reader = FileReader.of_one_file(path, offset, source.counts, source.shape, numbers)
    if source.identity is None:
        weakref.finalize(reader, path.unlink, missing_ok=True)
    return reader


def _pieces(source: Reader, itemsize: int) -> Iterator[np.ndarray]:
    """The indices of all simulations, a few megabytes of simulations at a time."""
    total = int(np.prod(source.counts))
    rows = max(1, _COPIED_AT_ONCE // (itemsize * int(np.prod(source.shape))))
    return (np.arange(start, min(start + rows, total)) for start in range(0, total, rows))


def _write(path: Path, source: Source, dtype: np.dtype) -> None:
    """Writes a source as an array `[*counts, *shape]`, in the format of `numpy.save`."""
    shape = (*source.counts, *source.shape)
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        if isinstance(source, UnorderedSimulations):
            size = dtype.itemsize * int(np.prod(source.shape))
            source.write_to(_ArrayInFile(file, file.tell(), size, source.counts, dtype))
            return
        for indices in _pieces(source, dtype.itemsize):
            simulations = np.empty((len(indices), *source.shape), dtype)
            source.read(indices, simulations)
            file.write(simulations.data)


@dataclass(frozen=True)
class _ArrayInFile:
    """An array `[*counts, *shape]` in a file, to which simulations are written by label.

    Attributes:
        file: The file, open for writing.
        offset: The byte at which the array begins.
        size: Size of one simulation in bytes.
        counts: Shape of the array of labels.
        dtype: Type of the array.
    """

    file: BinaryIO
    offset: int
    size: int
    counts: tuple[int, ...]
    dtype: np.dtype

    def __setitem__(self, label: Label, simulation: np.ndarray) -> None:
        index = int(np.ravel_multi_index(label, self.counts))
        self.file.seek(self.offset + index * self.size)
        self.file.write(np.ascontiguousarray(simulation, self.dtype).data)
