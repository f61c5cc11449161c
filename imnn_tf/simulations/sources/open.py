"""Opens what a user passes as simulations."""

import mmap
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from imnn_tf.simulations.sources.files import FileReader, FileState
from imnn_tf.simulations.sources.readers import ArrayReader, FunctionReader, Reader, pieces
from imnn_tf.simulations.sources.unordered import (
    Source,
    UnorderedSimulations,
    count_seeds,
    write_by_label,
)
from imnn_tf.utils import checks, display
from imnn_tf.utils.labels import Label, as_label
from imnn_tf.utils.tfrecords import Record, is_compressed, read_manifests, read_records

# An array `[*counts, *shape]`; a function of labels; a list of TFRecord files; or a data set of
# simulations with their labels.
Given: TypeAlias = Any


class Counts(NamedTuple):
    """The shape of the array of labels, as far as it is known before the simulations are read."""

    argument: str  # the argument for the number of seeds, `n_s` or `n_d`
    n_seeds: int | None  # None if the user leaves it to be counted
    others: tuple[int, ...]  # (2, n_params) for derivative simulations, else ()

    def of(self, n_seeds: int) -> tuple[int, ...]:
        """The shape, now that the seeds are counted."""
        return (n_seeds, *self.others)


def open_pair(
    names: tuple[str, str],
    values: tuple[Given, Given],
    counts: tuple[int | None, int | None],
    n_params: int,
    *,
    exact: bool,
    shape: tuple[int, ...] | None,
    threads: int = 1,
    verbose: bool = False,
) -> tuple[Source, Source]:
    """Opens fiducial simulations and the derivatives that belong to them.

    Args:
        names: The arguments that the user passed the two in, for messages.
        values: What the user passed, as for `open_source`: fiducial simulations,
            `[n_s, *shape]`, and derivative simulations, `[n_d, 2, n_params, *shape]`, or exact
            derivatives, `[n_d, *shape, n_params]`.
        counts: Numbers of seeds `n_s` and `n_d`; `None` to count them.
        n_params: Number of parameters.
        exact: Whether the derivatives are exact.
        shape: Shape of one fiducial simulation; `None` to take it from the simulations.
        threads: The number of threads that may call a function at once.
        verbose: Whether to show progress bars.

    Returns:
        The fiducial simulations, and the derivative simulations or exact derivatives.

    Raises:
        TypeError: If a value is of the wrong kind.
        ValueError: If the derivatives do not belong to the fiducial simulations, a simulation is
            missing or comes twice, or a shape is wrong.
        FileNotFoundError: If a file is missing.
        CorruptFileError: If a file is damaged.
    """
    options: dict[str, Any] = {"threads": threads, "verbose": verbose}
    fiducial = open_source(names[0], values[0], Counts("n_s", counts[0], ()), shape, **options)
    if not fiducial.shape or not fiducial.counts[0]:
        got = (*fiducial.counts, *fiducial.shape)
        raise ValueError(f"`{names[0]}` must have shape (n_s, *input_shape), got {got}.")
    labels = Counts("n_d", counts[1], () if exact else (2, n_params))
    shape = (*fiducial.shape, n_params) if exact else fiducial.shape
    derivative = open_source(names[1], values[1], labels, shape, **options)
    got, n_s = (*derivative.counts, *derivative.shape), fiducial.counts[0]
    want = (*labels.others, *shape)
    sizes = ", ".join(map(str, want))
    if exact and (got[1:] != want or not 0 < got[0] <= n_s):
        raise ValueError(
            f"`{names[1]}` must, where `δθ` is left out, have shape (n_d, *input_shape, n_params) "
            f"= (n_d, {sizes}), the derivatives of the first n_d of {n_s} fiducial simulations, "
            f"got {got}."
        )
    if got[1:] != want or not got[0]:
        raise ValueError(
            f"`{names[1]}` must have shape (n_d, 2, n_params, *input_shape) = (n_d, {sizes}), the "
            f"simulations below the fiducial at [:, 0] and those above at [:, 1], got {got}."
        )
    return fiducial, derivative


def open_source(
    name: str,
    value: Given,
    counts: Counts,
    shape: tuple[int, ...] | None,
    *,
    threads: int = 1,
    verbose: bool = False,
) -> Source:
    """Opens what a user passes as simulations of one kind.

    Args:
        name: The argument that the user passed it in, for messages.
        value: An array `[*counts, *shape]`; a function of labels; TFRecord files in the format of
            `imnn_tf.utils.tfrecords`; or a `tf.data.Dataset` of `(simulation, label)`.
        counts: The shape of the array of labels. A function needs the number of seeds.
        shape: Shape of one simulation, which TFRecord files without a manifest need; `None` to
            take it from the simulations.
        threads: The number of threads that may call a function at once.
        verbose: Whether to show a progress bar.

    Raises:
        TypeError: If the value is none of these.
        ValueError: If a simulation is missing or comes twice, or has the wrong shape.
        FileNotFoundError: If a file is missing.
        CorruptFileError: If a file is damaged.
    """
    if isinstance(value, tf.data.Dataset):
        return _open_data_set(name, value, counts, verbose)
    if _are_paths(value):
        return _open_files(name, value, counts, shape, verbose)
    if callable(value):
        if counts.n_seeds is None:
            raise TypeError(f"`{counts.argument}` must be given where `{name}` is a function.")
        n = checks.integer(counts.argument, counts.n_seeds, minimum=1)
        return FunctionReader(name, value, counts.of(n), shape, threads=threads)
    if value is None:
        raise TypeError(f"`{name}` must be an array, a function, TFRecord files or a data set.")
    return _open_array(name, value, 1 + len(counts.others))


def _open_array(name: str, value: Given, n_label_axes: int) -> Reader:
    mapped = _mapping_of(value)
    if mapped is not None and mapped.mode in ("r+", "w+"):
        mapped.flush()  # what is still to be written must not count as a change
    if not _is_mapped_file(value):
        return ArrayReader(checks.array(name, value), n_label_axes, _file_of(mapped))
    # Read as a file, it does not fill the memory with the pages of a map.
    counts, shape = value.shape[:n_label_axes], value.shape[n_label_axes:]
    reader = FileReader.of_one_file(Path(value.filename), value.offset, counts, shape, value.dtype)
    if value.dtype.kind == "f":
        not_finite = 0
        for indices in pieces(reader, value.dtype.itemsize):
            simulations = np.empty((len(indices), *shape), value.dtype)
            reader.read(indices, simulations)
            not_finite += int(simulations.size - np.isfinite(simulations).sum())
        if not_finite:
            raise ValueError(
                f"`{name}` must be finite, got {not_finite} infinite or NaN values of {value.size}."
            )
    return reader


def _mapping_of(value: Given) -> np.memmap | None:
    """The map of a file that an array is a part of, or `None`."""
    array: Any = value
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and isinstance(getattr(array, "base", None), mmap.mmap):
            return array
        array = array.base
    return None


def _file_of(mapped: np.memmap | None) -> Path | None:
    """The file of a map; `None` if there is none of that name, as of one that was deleted."""
    if mapped is None or mapped.filename is None or not Path(mapped.filename).exists():
        return None
    return Path(mapped.filename)


def _is_mapped_file(value: Given) -> bool:
    """Whether an array is all of the numbers that a file holds, in C order."""
    return (
        isinstance(value, np.memmap)
        and value.mode != "c"  # numbers may have changed in memory alone
        and isinstance(getattr(value, "base", None), mmap.mmap)  # not a view of another array
        and value.flags.c_contiguous
        and _file_of(value) is not None
        and value.dtype.kind in "biuf"
    )


def _open_data_set(
    name: str, dataset: tf.data.Dataset, counts: Counts, verbose: bool
) -> UnorderedSimulations:
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise TypeError(
            f"`{name}` must be a data set of (simulation, label) pairs, got elements of {spec}."
        )

    def labelled() -> Iterator[tuple[Label, Any]]:
        for simulation, label in _with_bar(dataset.as_numpy_iterator(), name, verbose):
            if np.asarray(label).dtype.kind not in "iu":
                raise ValueError(f"`{name}` must have labels that are integers, got {label}.")
            yield as_label(label), simulation

    n = counts.n_seeds or count_seeds(name, (label for label, _ in labelled()))
    shape = next((np.shape(simulation) for _, simulation in labelled()), ())
    return UnorderedSimulations(name, labelled, counts.of(n), shape)


def _open_files(
    name: str,
    paths: list[str | Path],
    counts: Counts,
    shape: tuple[int, ...] | None,
    verbose: bool,
) -> Source:
    files = sorted(map(Path, paths))

    def records() -> Iterator[Record]:
        found = read_records(files, derivative=bool(counts.others), input_shape=shape)
        return _with_bar(found, name, verbose)

    manifests = read_manifests(files)
    # The seeds of the set when it was written, so that a file that was deleted is missed.
    n_seeds = counts.n_seeds
    if n_seeds is None and manifests:
        n_seeds = checks.integer(counts.argument, manifests[files[0]]["counts"][0], minimum=1)
    about = [(path, path.stat()) for path in files]
    opened = records()
    first = next(opened, None)
    if first is None:
        raise ValueError(f"`{name}` must hold simulations, got {len(files)} empty files.")
    identity = [[str(path.resolve()), stat.st_size, stat.st_mtime_ns] for path, stat in about]
    if any(is_compressed(path) for path in files):

        def labelled() -> Iterator[tuple[Label, Any]]:
            return ((record.label, record.data) for record in records())

        n = n_seeds or count_seeds(name, (label for label, _ in labelled()))
        return UnorderedSimulations(name, labelled, counts.of(n), first.data.shape, identity)
    numbers = {path: number for number, path in enumerate(files)}
    # A row for each record: its label, its file, and the byte at which the simulation begins.
    rows = np.fromiter(
        ((*record.label, numbers[record.path], record.start) for record in chain([first], opened)),
        np.dtype((np.int64, len(first.label) + 2)),
    )
    n = n_seeds or count_seeds(name, ((int(seed),) for seed in rows[:, 0]))
    starts = np.zeros((*counts.of(n), 2), np.int64)
    by_label = ((tuple(row[:-2].tolist()), row[-2:]) for row in rows)
    write_by_label(name, by_label, starts.shape[:-1], (2,), starts)
    states = [FileState.of(stat) for _, stat in about]
    return FileReader(files, starts, first.data.shape, identity=identity, states=states)


def _with_bar(simulations: Iterator[Any], name: str, verbose: bool) -> Iterator[Any]:
    return iter(
        display.bar(
            iterable=simulations, desc=name, disable=not verbose, unit="simulation", leave=False
        )
    )


def _are_paths(value: Given) -> bool:
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(path, str | Path) for path in value)
    )
