"""Writes simulations to TFRecord files, here or by the workers of an executor."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import tensorflow as tf

from imnn_tf.running.execution import Execution, ProgressBar
from imnn_tf.running.executors import Pool, Workers
from imnn_tf.running.labelled import Labelled
from imnn_tf.running.run import SimulationError
from imnn_tf.running.simulation import run_simulations
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
from imnn_tf.utils.tfrecords import MANIFEST, manifest_of, parse, serialise


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
        executor: Workers = None,
        batch_size: int | None = None,
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
            executor: What runs `get_simulation`: a number of processes, a `Client` of Dask, any
                `concurrent.futures.Executor`, or a function that makes one. `None` for this
                process, which always writes the files; it holds the simulations of one at a time.
                The files do not depend on it.
            batch_size: The number of simulations that a worker makes at a time; by default 1.

        Returns:
            The files of this part.

        Raises:
            TypeError: If an argument has the wrong type.
            SimulationError: If a simulation fails, or the workers of an executor that was passed
                die. Files that were finished are kept by the next call.
            ValueError: If an argument has the wrong value, or a simulation has another shape than
                the first.
        """
        n_sims = checks.integer("n_sims", n_sims, minimum=1)
        checks.function("get_simulation", get_simulation)
        execution = Execution(executor=executor, batch_size=batch_size, progress=False)
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
        first = Labelled(get_simulation).one(first_label)
        simulator = Labelled(get_simulation, first.shape)
        total, size = int(np.prod(counts)), len(serialise(first, first_label))
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
        kept = [path for path, about in contents.items() if _is_written(path, about, simulator)]
        for path in contents.keys() - set(kept):
            # The reader refuses a file without a manifest beside others. If writing is interrupted,
            # it does not take files of the old set for files of the new one.
            manifest_of(path).unlink(missing_ok=True)
        with ExitStack() as stack:
            workers = execution.executor
            if workers is not None and not isinstance(workers, Pool):
                pool = stack.enter_context(Pool(simulator, workers))
                execution = replace(execution, executor=pool)
            bar = stack.enter_context(
                display.bar(total=total // count, disable=not self.verbose, unit="simulation")
            )
            execution = replace(execution, progress=bar)
            for path, about in contents.items():
                if path in kept:
                    bar.update(about["labels"][1] - about["labels"][0])
                else:
                    self._write_file(path, about, simulator, execution)
        _delete_others(folder, filename, names)
        return list(contents)

    def _write_file(
        self, path: Path, about: dict[str, Any], simulator: Labelled, execution: Execution
    ) -> None:
        digest = ""

        def write(aside: Path) -> None:
            nonlocal digest
            options = tf.io.TFRecordOptions("GZIP" if self.compression else "")
            with tf.io.TFRecordWriter(str(aside), options) as writer:
                for label, simulation in _simulations(about, simulator, execution):
                    writer.write(serialise(simulation, label))
            digest = sha256(aside)

        write_atomically(path, write)
        write_json(manifest_of(path), {**about, "sha256": digest})


def _simulations(
    about: dict[str, Any], simulator: Labelled, execution: Execution
) -> Iterator[tuple[Label, np.ndarray]]:
    """The simulations of a file with their labels: one at a time, or all at once from workers."""
    labels = [label_at(at, about["counts"]) for at in range(*about["labels"])]
    bar = cast(ProgressBar, execution.progress)
    if execution.executor is None:
        for label in labels:
            yield label, simulator.one(label)
            bar.update(1)
        return
    try:
        result = run_simulations(
            simulator, np.array(labels, float), np.random.SeedSequence(0), execution, None
        )
    except SimulationError as error:
        for failure in error.result.failures:
            error.add_note(f"The label of that simulation is {labels[failure.index]}.")
        raise
    if result.interrupted or result.x is None:
        raise KeyboardInterrupt
    yield from zip(labels, result.x, strict=True)


def _is_written(path: Path, about: dict[str, Any], simulator: Labelled) -> bool:
    """Whether an earlier call finished this file, judged by the first simulation in it."""
    try:
        recorded = read_json(manifest_of(path), ["sha256"])
        if recorded.pop("sha256") != sha256(path) or recorded != about:
            return False
    except (FileNotFoundError, CorruptFileError):
        return False
    dataset = tf.data.TFRecordDataset(str(path), about["compression"])
    record = next(cast(Iterator[bytes], dataset.as_numpy_iterator()))
    label = label_at(about["labels"][0], about["counts"])
    stored, data = parse(path, record, PARTS[: len(label)], tuple(about["shape"]))
    return stored == label and np.array_equal(data, simulator.one(label))


def _delete_others(folder: Path, filename: str, names: Sequence[str]) -> None:
    """Deletes files of a set, and manifests, whose names are none of those that it has now."""
    pattern = re.compile(re.escape(filename) + r"_\d+\.tfrecords")
    for path in folder.iterdir():
        if pattern.fullmatch(path.name) and path.name not in names:
            path.unlink(missing_ok=True)
    for path in (folder / MANIFEST).iterdir():
        if pattern.fullmatch(path.stem) and path.stem not in names:
            path.unlink(missing_ok=True)
