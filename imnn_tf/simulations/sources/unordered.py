"""Labelled simulations, in any order, put in their places of an array."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np

Label = tuple[int, ...]

_LISTED = 5


class Places(Protocol):
    """Where simulations go: an array, or what keeps one on disk."""

    def __setitem__(self, label: Label, simulation: np.ndarray, /) -> None: ...


def count_seeds(name: str, labels: Iterable[Label]) -> int:
    """One more than the largest seed among labels.

    Raises:
        ValueError: If there are none.
    """
    count = max((label[0] for label in labels), default=-1) + 1
    if not count:
        raise ValueError(f"`{name}` must hold simulations, got none.")
    return count


def collect(
    name: str,
    labelled: Iterable[tuple[Label, Any]],
    counts: tuple[int, ...],
    shape: tuple[int, ...],
    places: Places,
) -> None:
    """Puts simulations with labels in their places, none missing and none twice.

    Args:
        name: The argument they came in, for messages.
        labelled: Labels and simulations in any order. A label is the place of its simulation:
            `(seed,)`, or `(seed, side, parameter)` with side 0 below and 1 above.
        counts: How many of each part of a label there are.
        shape: Shape of one simulation.
        places: Where they go.

    Raises:
        ValueError: If a simulation is missing, comes twice, has a label out of range or another
            shape than the others.
    """
    seen = np.zeros(counts, bool)
    for label, simulation in labelled:
        data = np.asarray(simulation)
        if len(label) != len(counts) or any(
            not 0 <= at < size for at, size in zip(label, counts, strict=True)
        ):
            raise ValueError(
                f"`{name}` must have labels {_label_words(counts)} below {counts}, got {label}."
            )
        if seen[label]:
            raise ValueError(f"`{name}` must hold every simulation once, got {label} twice.")
        if data.shape != shape:
            raise ValueError(
                f"`{name}` must hold simulations of shape {shape}, got {data.shape} at {label}."
            )
        if not np.isfinite(data).all():
            raise ValueError(f"`{name}` must be finite, got other numbers at {label}.")
        places[label] = data
        seen[label] = True
    if not seen.all():
        missing = [tuple(map(int, label)) for label in np.argwhere(~seen)[:_LISTED]]
        words = ", ".join(map(str, missing)) + (", ..." if (~seen).sum() > _LISTED else "")
        raise ValueError(
            f"`{name}` must hold all {seen.size} simulations, labelled {_label_words(counts)}, "
            f"got {seen.sum()}; missing {words}."
        )


class Sequence:
    """Simulations that can only be gone through from the first to the last.

    Args:
        name: The argument they came in, for messages.
        labelled: Starts a pass over labels and simulations, in any order.
        counts: How many of each part of a label there are.
        shape: Shape of one simulation.
        identity: As of a `Reader`.
    """

    def __init__(
        self,
        name: str,
        labelled: Callable[[], Iterator[tuple[Label, Any]]],
        counts: tuple[int, ...],
        shape: tuple[int, ...],
        identity: Any = None,
    ) -> None:
        self.name, self.counts, self.shape, self.identity = name, counts, shape, identity
        self._labelled = labelled

    def collect(self, places: Places) -> None:
        """Puts all simulations in their places; see `collect`."""
        collect(self.name, self._labelled(), self.counts, self.shape, places)


def _label_words(counts: tuple[int, ...]) -> str:
    return "(seed,)" if len(counts) == 1 else "(seed, derivative, parameter)"
