"""Simulations that can be read in any order."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from inspect import isgenerator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from imnn_tf.simulations.sources.files import FileState
from imnn_tf.utils import checks
from imnn_tf.utils.labels import Label, label_at
from imnn_tf.utils.types import Json

# Rows gathered from an array at a time, so that no second copy of it is ever made.
_ROWS_AT_ONCE = 256

# The most bytes of simulations read at a time by what goes through all of them.
_READ_AT_ONCE = 2**22


class Reader(Protocol):
    """Simulations that can be read in any order, as often as needed.

    Attributes:
        counts: Shape of the array of labels: `(n_s,)` for fiducial simulations,
            `(n_d, 2, n_params)` for derivative simulations, `(n_d,)` for exact derivatives.
        shape: Shape of one simulation.
        parallel: Whether several threads may read at once.
        identity: Tells these simulations from others in a later process; `None` if that cannot be
            told.
    """

    counts: tuple[int, ...]
    shape: tuple[int, ...]
    parallel: bool
    identity: Json

    def read(self, indices: np.ndarray, out: np.ndarray) -> None:
        """Reads simulations into an array.

        Args:
            indices: Which simulations, as indices into the flattened `counts`, `[rows]`.
            out: The array they are written to, `[rows, *shape]`, converted to its type.
        """


def pieces(source: Reader, itemsize: int) -> Iterator[np.ndarray]:
    """The indices of all simulations, a few megabytes of simulations at a time.

    Args:
        source: The simulations.
        itemsize: Bytes that one number takes.

    Returns:
        Indices into the flattened `source.counts`, arrays `[rows]`, in ascending order.
    """
    total = int(np.prod(source.counts))
    rows = max(1, _READ_AT_ONCE // max(1, itemsize * int(np.prod(source.shape))))
    return (np.arange(start, min(start + rows, total)) for start in range(0, total, rows))


class ArrayReader:
    """Simulations in an array, in memory or mapped from a file; see `Reader` for the attributes.

    Args:
        array: The simulations, `[*counts, *shape]`.
        n_label_axes: Number of axes in `counts`.
        file: The file that the array is mapped from, or `None`.
    """

    parallel = True
    identity = None

    def __init__(self, array: np.ndarray, n_label_axes: int, file: Path | None = None) -> None:
        self._array, self._file = array, file
        self._state = None if file is None else FileState.of(file.stat())
        self.counts, self.shape = array.shape[:n_label_axes], array.shape[n_label_axes:]

    def read(self, indices: np.ndarray, out: np.ndarray) -> None:
        """Copies simulations into an array.

        Args:
            indices: Which simulations, as indices into the flattened `counts`, `[rows]`.
            out: The array they are written to, `[rows, *shape]`, converted to its type.

        Raises:
            CorruptFileError: If the file has changed since it was opened.
        """
        self._require_same_file()  # the system kills a process that reads behind the end of a map
        for start in range(0, len(indices), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            out[rows] = self._array[np.unravel_index(indices[rows], self.counts)]
        self._require_same_file()

    def _require_same_file(self) -> None:
        if self._file is not None and self._state is not None:
            self._state.require_same(self._file, self._file.stat())


class FunctionReader:
    """Simulations that a function loads by their labels; see `Reader` for the attributes.

    Args:
        name: The argument that the user passed the function in, for messages.
        function: Called with the parts of a label, `(seed)` or `(seed, side, parameter)`. It
            returns the simulation, `[*shape]`, or the simulation and its label, or yields either
            once.
        counts: Shape of the array of labels.
        shape: Shape of one simulation; by default that of the first, which is then loaded.
        threads: The number of threads that may call the function at once.
    """

    parallel = False
    identity = None

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        counts: tuple[int, ...],
        shape: tuple[int, ...] | None = None,
        *,
        threads: int = 1,
    ) -> None:
        self._name, self._function = name, function
        self.counts, self._threads = counts, threads
        self.shape = np.shape(self._load((0,) * len(counts))) if shape is None else shape

    def read(self, indices: np.ndarray, out: np.ndarray) -> None:
        """Calls the function for each simulation, and writes what it returns to an array.

        Args:
            indices: Which simulations, as indices into the flattened `counts`, `[rows]`.
            out: The array they are written to, `[rows, *shape]`, converted to its type.

        Raises:
            TypeError: If a simulation does not hold real numbers.
            ValueError: If the function yields nothing, or returns a label other than the one it
                was called with, a simulation of another shape, or one that is not finite.
        """

        def load_row(row: int) -> None:
            label = label_at(indices[row], self.counts)
            simulation = checks.unmasked(self._name, self._load(label))
            if simulation.shape != self.shape:
                raise ValueError(
                    f"`{self._name}` must hold simulations of shape {self.shape}, got "
                    f"{simulation.shape} at {label}."
                )
            out[row] = checks.simulation(self._name, simulation, label)

        if self._threads == 1:
            for row in range(len(indices)):
                load_row(row)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            for _ in pool.map(load_row, range(len(indices))):  # raises what a call raised
                pass

    def _load(self, label: Label) -> Any:
        answer = self._function(*label)
        if isgenerator(answer):
            try:
                answer = next(answer)
            except StopIteration:
                raise ValueError(
                    f"`{self._name}` must yield a simulation for every label, got nothing for "
                    f"{label}."
                ) from None
        if not isinstance(answer, tuple) or len(answer) != 2:
            return answer
        simulation, returned = answer
        if not np.array_equal(np.ravel(returned), label):
            raise ValueError(
                f"`{self._name}` must answer with the label it is asked for, {label}, got "
                f"{returned}."
            )
        return simulation
