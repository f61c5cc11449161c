"""Copies of simulations, in memory or on disk, that can be read in any order."""

import hashlib
import json
import logging
import uuid
import weakref
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tensorflow as tf

from imnn_tf.simulations.sources.files import FileReader
from imnn_tf.simulations.sources.readers import ArrayReader, FunctionReader, Reader, pieces
from imnn_tf.simulations.sources.unordered import Source, UnorderedSimulations
from imnn_tf.utils import display
from imnn_tf.utils.atomic import delete_abandoned
from imnn_tf.utils.checkpoint import write_atomically
from imnn_tf.utils.labels import Label

logger = logging.getLogger(__name__)


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
        with display.bar(
            desc=name, total=len(flat), disable=not verbose, unit="simulation", leave=False
        ) as bar:
            for indices in pieces(source, dtype.size):
                source.read(indices, flat[indices[0] : indices[-1] + 1])
                bar.update(len(indices))
    return ArrayReader(array, len(source.counts))


def on_disk(name: str, source: Source, folder: Path, dtype: tf.DType) -> FileReader:
    """A reader of a copy in a folder, which is written unless it is there from before.

    A copy that is there is read whole first. If it is not what was written, it is written again.

    Args:
        name: The argument that the user passed the source in, with which the file's name begins.
        source: The simulations.
        folder: The folder, which is made if it does not exist.
        dtype: Floating type of the copy.
    """
    numbers = np.dtype(dtype.as_numpy_dtype).newbyteorder("<")
    # Without an identity nothing tells whether a copy is of these simulations, so it is never
    # found again and is deleted with its reader.
    shape = (*source.counts, *source.shape)
    identity = json.dumps([source.identity or uuid.uuid4().hex, shape, numbers.str])
    layout = Layout(source.counts, source.shape, numbers, hashlib.sha256(identity.encode()))
    folder.mkdir(parents=True, exist_ok=True)
    delete_abandoned(folder)
    path = folder / f"{name}-{layout.identity.hexdigest()[:16]}.npy"
    if path.exists() and not _is_whole(path, layout, source):
        logger.warning("%s is damaged. It is written again.", path)
        path.unlink(missing_ok=True)
    if not path.exists():
        write_atomically(path, lambda aside: _write(aside, layout, source))
    offset = len(layout.header)
    reader = FileReader.of_one_file(path, offset, source.counts, source.shape, numbers)
    if source.identity is None:
        weakref.finalize(reader, path.unlink, missing_ok=True)
    return reader


class Layout:
    """What the file of a copy consists of.

    It is a file of `numpy.save` and, behind it, checksums: the digest of the identity, the CRC-32
    of each simulation, and the SHA-256 of the header and of these checksums.

    Args:
        counts: Shape of the array of labels.
        shape: Shape of one simulation.
        dtype: Type of the numbers.
        identity: The hash that tells these simulations from others.

    Attributes:
        header: The bytes before the array, which is `[*counts, *shape]`.
        size: Size of one simulation in bytes.
        total: Number of simulations.
    """

    def __init__(
        self, counts: tuple[int, ...], shape: tuple[int, ...], dtype: np.dtype, identity: Any
    ) -> None:
        self.counts, self.dtype, self.identity = counts, dtype, identity
        header = BytesIO()
        about = {"descr": dtype.str, "fortran_order": False, "shape": (*counts, *shape)}
        np.lib.format.write_array_header_1_0(header, about)
        self.header = header.getvalue()
        self.size = dtype.itemsize * int(np.prod(shape))
        self.total = int(np.prod(counts))

    def checksums(self, crcs: np.ndarray) -> bytes:
        """The bytes behind the array, from the CRC-32 of each simulation, `[total]`."""
        body = self.identity.digest() + crcs.astype("<u4").tobytes()
        return body + hashlib.sha256(self.header + body).digest()


def _write(path: Path, layout: Layout, source: Source) -> None:
    """Writes a source in the layout of a copy."""
    crcs = np.zeros(layout.total, np.uint32)
    following = 0
    with path.open("wb") as file:
        file.write(layout.header)

        def write(index: int, content: memoryview) -> None:
            nonlocal following
            if index != following:  # every seek empties the buffer, which is slow
                file.seek(len(layout.header) + index * layout.size)
            file.write(content)
            crcs[index] = zlib.crc32(content)
            following = index + 1

        _send(source, layout, write)
        file.seek(len(layout.header) + layout.total * layout.size)
        file.write(layout.checksums(crcs))


def _is_whole(path: Path, layout: Layout, source: Source) -> bool:
    """Whether a file holds a copy of a source.

    If the file has no checksums, because version 0.3 wrote it, it is compared with the source.
    """
    plain = len(layout.header) + layout.total * layout.size
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(layout.header)) != layout.header:
            return False
        if size == plain:
            return _is_equal(file, layout, source)
        crcs = np.zeros(layout.total, np.uint32)
        for index in range(layout.total):
            crcs[index] = zlib.crc32(file.read(layout.size))
        return file.read() == layout.checksums(crcs)


def _is_equal(file: BinaryIO, layout: Layout, source: Source) -> bool:
    equal = True

    def compare(index: int, content: memoryview) -> None:
        nonlocal equal
        file.seek(len(layout.header) + index * layout.size)
        equal = equal and file.read(layout.size) == content

    _send(source, layout, compare)
    return equal


def _send(source: Source, layout: Layout, receive: Callable[[int, memoryview], None]) -> None:
    """Calls a function with the index and the bytes of each simulation of a source."""
    if isinstance(source, UnorderedSimulations):
        source.write_to(_Receiver(layout, receive))
        return
    for indices in pieces(source, layout.dtype.itemsize):
        simulations = np.empty((len(indices), *source.shape), layout.dtype)
        source.read(indices, simulations)
        for index, simulation in zip(indices, simulations, strict=True):
            receive(int(index), np.ascontiguousarray(simulation).data.cast("B"))


@dataclass(frozen=True)
class _Receiver:
    """Takes simulations by label, as an array does.

    Attributes:
        layout: The layout of the copy.
        receive: Called with the index and the bytes of each simulation.
    """

    layout: Layout
    receive: Callable[[int, memoryview], None]

    def __setitem__(self, label: Label, simulation: np.ndarray) -> None:
        index = int(np.ravel_multi_index(label, self.layout.counts))
        self.receive(index, np.ascontiguousarray(simulation, self.layout.dtype).data.cast("B"))
