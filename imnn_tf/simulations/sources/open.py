"""What users pass as simulations, opened for reading."""

import mmap
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

from imnn_tf.simulations.sources.cache import Source
from imnn_tf.simulations.sources.files import FileReader
from imnn_tf.simulations.sources.readers import ArrayReader, FunctionReader, Reader
from imnn_tf.simulations.sources.unordered import Label, Sequence, collect, count_seeds
from imnn_tf.utils import checks
from imnn_tf.utils.tfrecords import Record, is_compressed, read_records


class Counts(NamedTuple):
    """How many of each part of a label there are."""

    argument: str  # which says how many seeds
    seeds: int | None  # None if it is not known yet
    others: tuple[int, ...]  # (2, n_params) for derivative simulations

    def with_seeds(self, seeds: int) -> tuple[int, ...]:
        """All of them, now that the seeds are counted."""
        return (seeds, *self.others)


def open_pair(
    names: tuple[str, str],
    values: tuple[Any, Any],
    counts: tuple[int | None, int | None],
    n_params: int,
    *,
    exact: bool,
    shape: tuple[int, ...] | None,
    threads: int = 1,
    verbose: bool = False,
) -> tuple[Source, Source]:
    """Opens fiducial simulations and the derivatives that go with them.

    Args:
        names: The arguments they came in, for messages.
        values: What a user passed, as for `open_source`.
        counts: How many seeds they have, if known.
        n_params: Number of parameters.
        exact: Whether the derivatives are exact.
        shape: As for `open_source`.
        threads: Likewise.
        verbose: Likewise.

    Raises:
        ValueError: If the derivatives do not go with the fiducial simulations; and what
            `open_source` raises.
    """
    options: dict[str, Any] = {"threads": threads, "verbose": verbose}
    fiducial = open_source(names[0], values[0], Counts("n_s", counts[0], ()), shape, **options)
    if not fiducial.shape or not fiducial.counts[0]:
        got = (*fiducial.counts, *fiducial.shape)
        raise ValueError(f"`{names[0]}` must have shape (n_s, *input_shape), got {got}.")
    labels = Counts("n_d", counts[1], () if exact else (2, n_params))
    shape = (*fiducial.shape, n_params) if exact else fiducial.shape
    derivative = open_source(names[1], values[1], labels, shape, **options)
    check = _check_exact if exact else _check_numerical
    check(names[1], derivative, fiducial, n_params)
    return fiducial, derivative


def _check_numerical(name: str, derivative: Source, fiducial: Source, n_params: int) -> None:
    want = (2, n_params, *fiducial.shape)
    got = (*derivative.counts, *derivative.shape)
    if got[1:] != want or not got[0]:
        raise ValueError(
            f"`{name}` must have shape (n_d, 2, n_params, *input_shape) = (n_d, "
            f"{', '.join(map(str, want))}), the simulations below the fiducial at [:, 0] and "
            f"those above at [:, 1], got {got}."
        )


def _check_exact(name: str, derivative: Source, fiducial: Source, n_params: int) -> None:
    want, n_s = (*fiducial.shape, n_params), fiducial.counts[0]
    got = (*derivative.counts, *derivative.shape)
    if got[1:] != want or not 0 < got[0] <= n_s:
        raise ValueError(
            f"`{name}` must, where `δθ` is left out, have shape (n_d, *input_shape, n_params) = "
            f"(n_d, {', '.join(map(str, want))}), the derivatives of the first n_d of {n_s} "
            f"fiducial simulations, got {got}."
        )


def open_source(
    name: str,
    value: Any,
    counts: Counts,
    shape: tuple[int, ...] | None,
    *,
    threads: int = 1,
    verbose: bool = False,
) -> Source:
    """Opens what a user passed.

    Args:
        name: The argument it came in, for messages.
        value: An array; a function of the labels; TFRecord files in the format of
            `imnn_tf.utils.tfrecords`; or a `tf.data.Dataset` of simulations with their labels.
        counts: How many of each part of a label there are. A function alone needs the seeds'.
        shape: Shape of one simulation, if known; TFRecord files without a manifest need it.
        threads: From how many threads a function may be called at once.
        verbose: Whether to show a progress bar.

    Raises:
        TypeError: If it is none of these.
        ValueError: If a simulation is missing or comes twice, or has the wrong shape.
        FileNotFoundError: If a file is missing.
        CorruptFileError: If a file is damaged.
    """
    if isinstance(value, tf.data.Dataset):
        return _data_set(name, value, counts, verbose)
    if _are_paths(value):
        return _records(name, value, counts, shape, verbose)
    if callable(value):
        if counts.seeds is None:
            raise TypeError(f"`{counts.argument}` must be given where `{name}` is a function.")
        n = checks.integer(counts.argument, counts.seeds, minimum=1)
        return FunctionReader(name, value, counts.with_seeds(n), shape, threads=threads)
    if value is None:
        raise TypeError(f"`{name}` must be an array, a function, TFRecord files or a data set.")
    return _array(name, value, 1 + len(counts.others))


def _array(name: str, value: Any, labels: int) -> Reader:
    if _is_a_file(value):
        counts, shape = value.shape[:labels], value.shape[labels:]
        path = Path(value.filename)
        return FileReader.of_one_file(path, value.offset, counts, shape, value.dtype)
    return ArrayReader(checks.array(name, value), labels)


def _is_a_file(value: Any) -> bool:
    """Whether an array is a file as it stands, which need not go through the memory of a map."""
    return (
        isinstance(value, np.memmap)
        and isinstance(getattr(value, "base", None), mmap.mmap)  # and no view of one
        and value.flags.c_contiguous
        and value.filename is not None
        and value.dtype.kind in "biuf"
    )


def _data_set(name: str, dataset: tf.data.Dataset, counts: Counts, verbose: bool) -> Sequence:
    """Reads a data set of `(simulation, seed)` or `(simulation, (seed, derivative, parameter))`."""
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise TypeError(
            f"`{name}` must be a data set of (simulation, label) pairs, got elements of {spec}."
        )

    def labelled() -> Iterator[tuple[Label, Any]]:
        for simulation, label in _with_bar(dataset.as_numpy_iterator(), name, verbose):
            yield tuple(int(part) for part in np.ravel(np.asarray(label))), simulation

    n = counts.seeds or count_seeds(name, (label for label, _ in labelled()))
    shape = next((np.shape(simulation) for _, simulation in labelled()), ())
    return Sequence(name, labelled, counts.with_seeds(n), shape)


def _records(
    name: str, paths: Any, counts: Counts, shape: tuple[int, ...] | None, verbose: bool
) -> Source:
    files = sorted(map(Path, paths))

    def records() -> Iterator[Record]:
        found = read_records(files, derivative=bool(counts.others), input_shape=shape)
        return _with_bar(found, name, verbose)

    found = records()
    first = next(found, None)
    if first is None:
        raise ValueError(f"`{name}` must hold simulations, got {len(files)} empty files.")
    about = [(path, path.stat()) for path in files]
    identity = [[str(path.resolve()), stat.st_size, stat.st_mtime_ns] for path, stat in about]
    if any(is_compressed(path) for path in files):
        n = counts.seeds or count_seeds(name, (record.label for record in records()))

        def labelled() -> Iterator[tuple[Label, Any]]:
            return ((record.label, record.data) for record in records())

        return Sequence(name, labelled, counts.with_seeds(n), first.data.shape, identity)
    numbers = {path: number for number, path in enumerate(files)}
    # A row for each record: its label, its file, and where in it the simulation begins.
    rows = np.fromiter(
        ((*record.label, numbers[record.path], record.start) for record in chain([first], found)),
        np.dtype((np.int64, len(first.label) + 2)),
    )
    n = counts.seeds or int(rows[:, 0].max()) + 1
    index = np.zeros((*counts.with_seeds(n), 2), np.int64)
    begins = ((tuple(row[:-2].tolist()), row[-2:]) for row in rows)
    collect(name, begins, index.shape[:-1], (2,), index)
    return FileReader(files, index, first.data.shape, identity=identity)


def _with_bar(simulations: Iterator[Any], name: str, verbose: bool) -> Iterator[Any]:
    return iter(tqdm(simulations, name, disable=not verbose, unit="simulation", leave=False))


def _are_paths(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(path, str | Path) for path in value)
    )
