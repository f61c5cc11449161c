"""Simulations in TFRecord files: the format and its reader.

A record is a `tf.train.Example`. It holds `data`, the simulation as float32 in C order, and the
integers `seed` and, for a derivative simulation, `derivative` (0 below, 1 above) and `parameter`.
Files are named `{name}_{number}.tfrecords`. The folder `.manifest` beside them has a JSON file for
each, with the labels in it, the shape of a simulation and the SHA-256 of the file.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import tensorflow as tf

from imnn_tf.utils.checkpoint import (
    CorruptFileError,
    read_json,
    sha256,
)
from imnn_tf.utils.labels import PARTS, Label
from imnn_tf.utils.types import Json

MANIFEST = ".manifest"

# Bytes before and after a record in a file: its length and a checksum of that, and its checksum.
_HEADER, _FOOTER = 12, 4


class Record(NamedTuple):
    """A simulation in a TFRecord file."""

    label: Label
    data: np.ndarray  # [*input_shape], float32
    path: Path
    start: int | None  # byte of the file at which the data begin; None if it is compressed


def is_compressed(path: Path) -> bool:
    """Whether a file is compressed by gzip."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def read_records(
    paths: Sequence[str | Path], *, derivative: bool, input_shape: Sequence[int] | None
) -> Iterator[Record]:
    """Reads simulations from TFRecord files, in the order in which the files hold them.

    A file that has a manifest is checked against it first.

    Args:
        paths: The files. They are read in the order of their names.
        derivative: Whether they hold derivative simulations.
        input_shape: Shape of one simulation; by default that in the manifest.

    Raises:
        FileNotFoundError: If a file is missing.
        CorruptFileError: If a file differs from its manifest, or cannot be read.
        ValueError: If a record has no label, data of another size, or numbers that are not finite.
    """
    parts = PARTS if derivative else PARTS[:1]
    files = sorted(map(Path, paths))
    manifests = read_manifests(files)
    for path in files:
        recorded = manifests.get(path, {})
        if recorded and sha256(path) != recorded["sha256"]:
            raise CorruptFileError(
                f"{path} is damaged: its SHA-256 differs from that in {manifest_of(path)}."
            )
        shape = input_shape or recorded.get("shape")
        if shape is None:
            raise ValueError(f"`input_shape` must be given to read {path}, which has no manifest.")
        compressed = is_compressed(path)
        position = 0
        try:
            dataset = tf.data.TFRecordDataset(str(path), "GZIP" if compressed else "")
            # NumPy has no string tensors; they come as bytes, which the stubs do not know.
            for record in cast(Iterator[bytes], dataset.as_numpy_iterator()):
                label, data = parse(path, record, parts, tuple(shape))
                start = None if compressed else position + _HEADER + _data_start(path, record)
                yield Record(label, data, path, start)
                position += _HEADER + len(record) + _FOOTER
        except tf.errors.DataLossError as error:
            raise CorruptFileError(f"{path} is damaged: {error.message}") from error


def read_manifests(paths: Iterable[Path]) -> dict[Path, dict[str, Json]]:
    """Reads the manifests of files that belong to one set.

    Returns:
        What the manifest of each file says; nothing if no file has one, as in version 0.2.

    Raises:
        FileNotFoundError: If a file is missing.
        CorruptFileError: If a manifest is damaged, or the files are of different sets.
    """
    manifests: dict[Path, dict[str, Json]] = {}
    without = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"There is no TFRecord file {path}.")
        try:
            manifests[path] = read_json(manifest_of(path), ["sha256", "counts", "shape"])
        except FileNotFoundError:
            without.append(path)
    if without and manifests:
        raise CorruptFileError(
            f"{without[0]} is damaged or not of one set with the files beside it: it has no "
            f"{manifest_of(without[0])}."
        )
    first = next(iter(manifests.values()), {})
    for path, recorded in manifests.items():
        for name in ("counts", "shape"):
            if recorded[name] != first[name]:
                raise CorruptFileError(
                    f"{path} is damaged or not of one set with the other files: its {name} must be "
                    f"{first[name]}, got {recorded[name]}."
                )
    return manifests


def parse(
    path: Path, record: bytes, parts: Sequence[str], shape: tuple[int, ...]
) -> tuple[Label, np.ndarray]:
    """Reads a record.

    Args:
        path: The file, for messages.
        record: The serialised `tf.train.Example`.
        parts: The names of the parts of a label.
        shape: Shape of one simulation.

    Returns:
        The label, and the simulation, `[*shape]`, float32.

    Raises:
        ValueError: If it has no label, data of another size, or numbers that are not finite.
    """
    features = tf.train.Example.FromString(record).features.feature
    missing = [name for name in ("data", *parts) if name not in features]
    if missing:
        raise ValueError(f"{path} must hold records with {missing[0]!r}, got {list(features)}.")
    label = tuple(int(features[part].int64_list.value[0]) for part in parts)
    data = np.frombuffer(features["data"].bytes_list.value[0], np.float32)
    if data.size != int(np.prod(shape)):
        raise ValueError(
            f"{path} must hold simulations of shape {shape}, {int(np.prod(shape))} numbers, got "
            f"{data.size} at {label}."
        )
    if not np.isfinite(data).all():
        raise ValueError(f"{path} must hold finite numbers, got others at {label}.")
    return label, data.reshape(shape)


def _data_start(path: Path, record: bytes) -> int:
    """The byte of a serialised example at which its data begin."""
    at, end = _field(path, record, 0, 1)  # the map from names to features
    while at < end:
        entry, at = _field(path, record, at, 1)
        name_start, name_end = _field(path, record, entry, 1)
        if record[name_start:name_end] == b"data":
            start = name_end
            for number in (2, 1, 1):  # the feature, its list of strings, the only string
                start, _ = _field(path, record, start, number)
            return start
    raise AssertionError("`_parse` has found the data of this record")


def _field(path: Path, record: bytes, at: int, number: int) -> tuple[int, int]:
    """First byte and end of the content of a length-delimited protocol buffer field.

    Args:
        path: The file, for the message.
        record: The serialised message.
        at: The byte at which the field begins.
        number: The number of the field.

    Raises:
        CorruptFileError: If another field begins there.

    References:
        https://protobuf.dev/programming-guides/encoding
    """
    if record[at] != number << 3 | 2:
        raise CorruptFileError(f"{path} must hold examples with their fields in order.")
    length, shift, at = 0, 0, at + 1
    while record[at] & 0x80:
        length |= (record[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
    length |= record[at] << shift
    return at + 1, at + 1 + length


def serialise(simulation: np.ndarray, label: Label) -> bytes:
    """The record of a simulation, `[*input_shape]`, float32, with its label."""
    feature = {
        "data": tf.train.Feature(bytes_list=tf.train.BytesList(value=[simulation.tobytes()]))
    }
    for name, part in zip(PARTS, label, strict=False):
        feature[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=[part]))
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    # Otherwise every process orders the features differently.
    return example.SerializeToString(deterministic=True)


def manifest_of(path: Path) -> Path:
    """The manifest of a file."""
    return path.parent / MANIFEST / f"{path.name}.json"
