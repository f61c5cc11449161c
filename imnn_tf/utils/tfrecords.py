"""Simulations in TFRecord files: the format, its writer and its reader.

A record is a `tf.train.Example`. It holds `data`, the simulation as float32 in C order, and the
integers `seed` and, for a derivative simulation, `derivative` (0 below, 1 above) and `parameter`.
Files are named `{name}_{number}.tfrecords`. The folder `.manifest` beside them has a JSON file for
each, with the labels in it, the shape of a simulation and the SHA-256 of the file.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from inspect import isgenerator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import tensorflow as tf

from imnn_tf.utils import checks, display
from imnn_tf.utils.atomic import delete_abandoned
from imnn_tf.utils.checkpoint import (
    CorruptFileError,
    read_json,
    sha256,
    write_atomically,
    write_json,
)
from imnn_tf.utils.labels import PARTS, Label, label_at
from imnn_tf.utils.types import Json

MANIFEST = ".manifest"

# Bytes before and after a record in a file: its length and a checksum of that, and its checksum.
_HEADER, _FOOTER = 12, 4


class TFRecords:
    """Writes simulations to TFRecord files.

    Args:
        record_size: Size of a file in megabytes (10⁶ bytes). A file ends with the record that
            reaches it.
        padding: Number of digits of the number in a file's name.
        compression: `"GZIP"`, or `None` for no compression.
        verbose: Whether to show a progress bar.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has the wrong value.
    """

    def __init__(
        self,
        record_size: float = 150,
        padding: int = 5,
        *,
        compression: str | None = None,
        verbose: bool = True,
    ) -> None:
        self.record_size = checks.real("record_size", record_size, above=0) * 1e6
        self.padding = checks.integer("padding", padding, minimum=1)
        if compression is not None:
            checks.choice("compression", compression, ["GZIP"])
        self.compression = compression
        self.verbose = checks.flag("verbose", verbose)

    def write_record(
        self,
        n_sims: int,
        get_simulation: Callable[..., Any],
        fiducial: bool = True,
        n_params: int | None = None,
        validation: bool = False,
        directory: str | Path | None = None,
        filename: str | None = None,
        *,
        part: tuple[int, int] = (0, 1),
    ) -> list[Path]:
        """Writes simulations to files, and keeps the files that an interrupted call has finished.

        A finished file is kept if its first simulation is the one that would be written now. Files
        that an earlier, longer set of the same name left are deleted at the end.

        Args:
            n_sims: Number of seeds.
            get_simulation: Returns or yields one simulation, `[*input_shape]`, alone or with its
                label. It is called with `(seed)`, or with `(seed, derivative, parameter)` if
                `fiducial` is false, where `derivative` is 0 below the fiducial parameters and 1
                above.
            fiducial: Whether the simulations are at the fiducial parameters.
            n_params: Number of parameters, for derivative simulations.
            validation: Whether the names of the files begin with `validation_`.
            directory: Folder for the files, made if it does not exist; by default the current one.
            filename: Name of the files; by default `fiducial` or `derivative`. If it is given,
                `validation` has no effect.
            part: `(index, count)`, to share the work between `count` processes. Call this method in
                each with a different `index`, from zero; each file is written by one of them.

        Returns:
            The files of this part.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument has the wrong value, or a simulation has another shape than
                the first.
        """
        n_sims = checks.integer("n_sims", n_sims, minimum=1)
        checks.function("get_simulation", get_simulation)
        counts: tuple[int, ...] = (n_sims,)
        if not checks.flag("fiducial", fiducial):
            counts = (n_sims, 2, checks.integer("n_params", n_params, minimum=1))
        index, count = (checks.integer("part", number, minimum=0) for number in part)
        if index >= count:
            raise ValueError(f"`part` must be (index, count) with index < count, got {part}.")
        if filename is None:
            kind = "fiducial" if fiducial else "derivative"
            filename = f"validation_{kind}" if validation else kind
        folder = Path("." if directory is None else directory)
        (folder / MANIFEST).mkdir(parents=True, exist_ok=True)
        for place in (folder, folder / MANIFEST):
            delete_abandoned(place)

        first_label = (0,) * len(counts)
        first = _simulate(get_simulation, first_label)
        total, size = int(np.prod(counts)), len(_serialise(first, first_label))
        per_file = max(1, int(np.ceil(self.record_size / size)))
        n_files = -(-total // per_file)
        names = [f"{filename}_{number:0{self.padding}d}.tfrecords" for number in range(n_files)]
        contents: dict[Path, dict[str, Any]] = {
            folder / names[number]: {
                "labels": [number * per_file, min(total, (number + 1) * per_file)],
                "counts": list(counts),
                "shape": list(first.shape),
                "dtype": "float32",
                "compression": self.compression,
            }
            for number in range(index, n_files, count)
        }
        kept = [
            path for path, about in contents.items() if _is_written(path, about, get_simulation)
        ]
        for path in contents.keys() - set(kept):
            # The reader refuses a file without a manifest beside others. If writing is interrupted,
            # it does not take files of the old set for files of the new one.
            _manifest_of(path).unlink(missing_ok=True)
        with display.bar(total=total // count, disable=not self.verbose, unit="simulation") as bar:
            for path, about in contents.items():
                if path not in kept:
                    self._write_file(path, about, get_simulation)
                bar.update(about["labels"][1] - about["labels"][0])
        _delete_others(folder, filename, names)
        return list(contents)

    def _write_file(
        self, path: Path, about: dict[str, Any], get_simulation: Callable[..., Any]
    ) -> None:
        digest = ""

        def write(aside: Path) -> None:
            nonlocal digest
            options = tf.io.TFRecordOptions("GZIP" if self.compression else "")
            with tf.io.TFRecordWriter(str(aside), options) as writer:
                for at in range(*about["labels"]):
                    label = label_at(at, about["counts"])
                    simulation = _simulate(get_simulation, label)
                    if simulation.shape != tuple(about["shape"]):
                        raise ValueError(
                            "`get_simulation` must return simulations of one shape, "
                            f"{tuple(about['shape'])}, got {simulation.shape} at {label}."
                        )
                    writer.write(_serialise(simulation, label))
            digest = sha256(aside)

        write_atomically(path, write)
        write_json(_manifest_of(path), {**about, "sha256": digest})


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
                f"{path} is damaged: its SHA-256 differs from that in {_manifest_of(path)}."
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
                label, data = _parse(path, record, parts, tuple(shape))
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
            manifests[path] = read_json(_manifest_of(path), ["sha256", "counts", "shape"])
        except FileNotFoundError:
            without.append(path)
    if without and manifests:
        raise CorruptFileError(
            f"{without[0]} is damaged or not of one set with the files beside it: it has no "
            f"{_manifest_of(without[0])}."
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


def _parse(
    path: Path, record: bytes, parts: Sequence[str], shape: tuple[int, ...]
) -> tuple[Label, np.ndarray]:
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


def _simulate(get_simulation: Callable[..., Any], label: Label) -> np.ndarray:
    answer = get_simulation(*label)
    if isgenerator(answer):
        answer = next(answer)
    if isinstance(answer, tuple):
        answer = answer[0]
    simulation = checks.simulation("get_simulation", answer, label).astype(np.float32)
    return np.ascontiguousarray(checks.simulation("get_simulation", simulation, label))


def _serialise(simulation: np.ndarray, label: Label) -> bytes:
    feature = {
        "data": tf.train.Feature(bytes_list=tf.train.BytesList(value=[simulation.tobytes()]))
    }
    for name, part in zip(PARTS, label, strict=False):
        feature[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=[part]))
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    # Otherwise every process orders the features differently.
    return example.SerializeToString(deterministic=True)


def _manifest_of(path: Path) -> Path:
    return path.parent / MANIFEST / f"{path.name}.json"


def _is_written(path: Path, about: dict[str, Any], get_simulation: Callable[..., Any]) -> bool:
    """Whether an earlier call finished this file, judged by the first simulation in it."""
    try:
        recorded = read_json(_manifest_of(path), ["sha256"])
        if recorded.pop("sha256") != sha256(path) or recorded != about:
            return False
    except (FileNotFoundError, CorruptFileError):
        return False
    dataset = tf.data.TFRecordDataset(str(path), about["compression"])
    record = next(cast(Iterator[bytes], dataset.as_numpy_iterator()))
    label = label_at(about["labels"][0], about["counts"])
    stored, data = _parse(path, record, PARTS[: len(label)], tuple(about["shape"]))
    return stored == label and np.array_equal(data, _simulate(get_simulation, label))


def _delete_others(folder: Path, filename: str, names: Sequence[str]) -> None:
    """Deletes files of a set, and manifests, whose names are none of those that it has now."""
    pattern = re.compile(re.escape(filename) + r"_\d+\.tfrecords")
    for path in folder.iterdir():
        if pattern.fullmatch(path.name) and path.name not in names:
            path.unlink(missing_ok=True)
    for path in (folder / MANIFEST).iterdir():
        if pattern.fullmatch(path.stem) and path.stem not in names:
            path.unlink(missing_ok=True)
