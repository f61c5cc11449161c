"""Where simulations are between two passes: in memory, on disk, or where they came from."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from imnn_tf.simulations.sources.files import FileReader
from imnn_tf.simulations.sources.readers import ArrayReader, FunctionReader, Reader
from imnn_tf.simulations.sources.unordered import Label, Sequence
from imnn_tf.utils import checks
from imnn_tf.utils.checkpoint import write_atomically

Source: TypeAlias = Reader | Sequence

logger = logging.getLogger(__name__)

# Simulations copied at a time, in bytes.
_COPIED_AT_ONCE = 2**22


@dataclass(frozen=True)
class Cache:
    """How simulations are kept.

    Args:
        where: `"memory"`; a folder; `"auto"`, in memory if they fit; or `False`, nowhere.
        limit: The most bytes that `"auto"` holds in memory of one set of simulations.
    """

    where: str | Path | bool = "auto"
    limit: float = float("inf")

    @classmethod
    def checked(cls, cache: Any, memory_limit: Any) -> "Cache":
        """From the arguments of `IMNN`.

        Raises:
            TypeError: If one has the wrong type.
            ValueError: If one has the wrong value.
        """
        if not isinstance(cache, str | Path) and cache is not False:
            raise TypeError(f"`cache` must be 'auto', 'memory', a folder or False, got {cache!r}.")
        if memory_limit is None:
            limit = _memory() / 4
        else:
            limit = checks.real("memory_limit", memory_limit, above=0)
        if isinstance(cache, str) and cache not in ("auto", "memory"):
            cache = Path(cache)
        return cls(cache, limit)

    def holds(self, size: float) -> bool:
        """Whether a set of simulations of so many bytes is held in memory."""
        return self.where == "memory" or (self.where == "auto" and size <= self.limit)

    def reader(self, name: str, source: Source, dtype: tf.DType) -> Reader:
        """A source that can be read in any order, however often, without holding it in memory.

        Raises:
            ValueError: If it can only be gone through in its own order, and nothing is to be kept.
        """
        if isinstance(source, ArrayReader):
            return source
        if isinstance(self.where, Path):
            return _on_disk(name, source, self.where, dtype)
        if not isinstance(source, Sequence):
            return source
        if self.where is False:
            raise ValueError(
                f"`cache` must be 'auto', 'memory' or a folder where `{name}` is compressed or a "
                "data set, of which no single simulation can be read, got False."
            )
        folder = Path(tempfile.mkdtemp(prefix="imnn_tf-"))
        logger.info("`%s` does not fit into memory and is unpacked in %s.", name, folder)
        reader = _on_disk(name, source, folder, dtype)
        weakref.finalize(reader, shutil.rmtree, folder, ignore_errors=True)
        return reader


def in_memory(name: str, source: Source, dtype: tf.DType, *, verbose: bool = False) -> Reader:
    """A source that gives every simulation at once, be it by holding them all.

    Files are left where they are, and functions called once for each simulation, in the order of
    the labels.
    """
    if not isinstance(source, Sequence | FunctionReader):
        return source
    array = np.empty((*source.counts, *source.shape), dtype.as_numpy_dtype)
    if isinstance(source, Sequence):
        source.collect(array)
    else:
        flat = array.reshape(-1, *source.shape)
        with tqdm(
            desc=name, total=len(flat), disable=not verbose, unit="simulation", leave=False
        ) as bar:
            for places in _pieces(source, dtype.size):
                source.read(places, flat[places[0] : places[-1] + 1])
                bar.update(len(places))
    return ArrayReader(array, len(source.counts))


def _pieces(source: Reader, itemsize: int) -> Iterator[np.ndarray]:
    """The places of a source, a few megabytes of simulations at a time."""
    total = int(np.prod(source.counts))
    rows = max(1, _COPIED_AT_ONCE // (itemsize * int(np.prod(source.shape))))
    return (np.arange(at, min(at + rows, total)) for at in range(0, total, rows))


def _memory() -> float:
    """Bytes of memory that the machine has."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError):  # not everywhere
        return 16e9


def _on_disk(name: str, source: Source, folder: Path, dtype: tf.DType) -> FileReader:
    """A reader of a copy in a folder, made now unless an earlier one is of the same files."""
    numbers = np.dtype(dtype.as_numpy_dtype).newbyteorder("<")
    shape = (*source.counts, *source.shape)
    # What the simulations of a function are, nobody knows; its copy ends with the process.
    identity = json.dumps([source.identity or uuid.uuid4().hex, shape, numbers.str])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{digest}.npy"
    if not path.exists():
        write_atomically(path, lambda aside: _write(aside, source, numbers))
    with path.open("rb") as file:
        offset = _skip_header(file)
    reader = FileReader.of_one_file(path, offset, source.counts, source.shape, numbers)
    if source.identity is None:
        weakref.finalize(reader, path.unlink, missing_ok=True)
    return reader


def _write(path: Path, source: Source, dtype: np.dtype) -> None:
    """Writes a source as an array `[*counts, *shape]`, in the format of `numpy.save`."""
    shape = (*source.counts, *source.shape)
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        offset = file.tell()
        size = dtype.itemsize * int(np.prod(source.shape))
        if isinstance(source, Sequence):
            source.collect(_Spool(file, offset, size, source.counts, dtype))
            return
        for places in _pieces(source, dtype.itemsize):
            simulations = np.empty((len(places), *source.shape), dtype)
            source.read(places, simulations)
            file.write(simulations.data)


def _skip_header(file: BinaryIO) -> int:
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    return file.tell()


@dataclass(frozen=True)
class _Spool:
    """Puts simulations in their places of an array in a file."""

    file: BinaryIO
    offset: int
    size: int
    counts: tuple[int, ...]
    dtype: np.dtype

    def __setitem__(self, label: Label, simulation: np.ndarray) -> None:
        place = int(np.ravel_multi_index(label, self.counts))
        self.file.seek(self.offset + place * self.size)
        self.file.write(np.ascontiguousarray(simulation, self.dtype).data)
