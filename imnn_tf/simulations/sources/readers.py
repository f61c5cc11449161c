"""Simulations that are read by their place, any of them at any time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from inspect import isgenerator
from typing import Any, Protocol

import numpy as np

from imnn_tf.simulations.sources.unordered import Label

# Rows gathered from an array at a time, so that no second copy of it is ever made.
_ROWS_AT_ONCE = 256


class Reader(Protocol):
    """Simulations in the places of an array.

    Attributes:
        counts: `(n_s,)` of fiducial simulations, `(n_d, 2, n_params)` of derivative simulations.
        shape: Shape of one.
        parallel: Whether several batches may be read at once.
        identity: What tells these simulations from others the next time, as JSON takes it; `None`
            if nobody knows.
    """

    counts: tuple[int, ...]
    shape: tuple[int, ...]
    parallel: bool
    identity: Any

    def read(self, places: np.ndarray, out: np.ndarray) -> None:
        """Reads simulations.

        Args:
            places: Which, as indices into the flattened `counts`, `[rows]`.
            out: Where they go, `[rows, *shape]`, of the type they are wanted in.
        """


class ArrayReader:
    """Simulations in an array `[*counts, *shape]`, be it in memory or mapped from a file."""

    parallel = True
    identity = None

    def __init__(self, array: np.ndarray, labels: int) -> None:
        """Takes the first `labels` axes for the labels of the simulations."""
        self._array = array
        self.counts, self.shape = array.shape[:labels], array.shape[labels:]

    def read(self, places: np.ndarray, out: np.ndarray) -> None:
        """Reads simulations; see `Reader`."""
        for at in range(0, len(places), _ROWS_AT_ONCE):
            rows = slice(at, at + _ROWS_AT_ONCE)
            out[rows] = self._array[np.unravel_index(places[rows], self.counts)]


class FunctionReader:
    """Simulations from a function of their labels.

    Args:
        name: The argument it came in, for messages.
        function: Called with the parts of a label, `(seed)` or `(seed, derivative, parameter)`. It
            returns the simulation, or the simulation and its label, or yields either once.
        counts: How many of each part of a label there are.
        shape: Shape of one simulation, that of the first if left out.
        threads: From how many threads it may be called at once.
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
        self.shape = np.shape(self._simulation((0,) * len(counts))) if shape is None else shape

    def read(self, places: np.ndarray, out: np.ndarray) -> None:
        """Calls the function for each place; see `Reader`.

        Raises:
            ValueError: If it yields nothing, answers with another label than it was asked for, or
                with a simulation of another shape, or one that is not finite.
        """

        def fill(row: int) -> None:
            out[row] = self._checked(places[row])

        if self._threads == 1:
            for row in range(len(places)):
                fill(row)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            for _ in pool.map(fill, range(len(places))):  # raises what a call raised
                pass

    def _checked(self, place: np.int64) -> np.ndarray:
        label = tuple(int(part) for part in np.unravel_index(place, self.counts))
        simulation = np.asarray(self._simulation(label))
        if simulation.shape != self.shape:
            raise ValueError(
                f"`{self._name}` must hold simulations of shape {self.shape}, got "
                f"{simulation.shape} at {label}."
            )
        if not np.isfinite(simulation).all():
            raise ValueError(f"`{self._name}` must be finite, got other numbers at {label}.")
        return simulation

    def _simulation(self, label: Label) -> Any:
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
        simulation, said = answer
        if tuple(int(part) for part in np.ravel(np.asarray(said))) != label:
            raise ValueError(
                f"`{self._name}` must answer with the label it is asked for, {label}, got {said}."
            )
        return simulation
