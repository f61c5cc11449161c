"""Labelled simulations that come in any order."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeAlias

import numpy as np

from imnn_tf.simulations.sources.readers import Reader
from imnn_tf.utils import checks
from imnn_tf.utils.labels import Label
from imnn_tf.utils.types import Json

# The most missing labels that a message lists.
_MOST_LISTED = 5


class Destination(Protocol):
    """What simulations are written to by label: an array, in memory or in a file."""

    def __setitem__(self, label: Label, simulation: np.ndarray, /) -> None: ...


class UnorderedSimulations:
    """Labelled simulations that can only be gone through from the first to the last.

    Args:
        name: The argument that the user passed them in, for messages.
        labelled: Starts a pass over all labels and simulations, `[*shape]` each.
        counts: Shape of the array of labels: `(n_s,)` for fiducial simulations,
            `(n_d, 2, n_params)` for derivative simulations, `(n_d,)` for exact derivatives.
        shape: Shape of one simulation.
        identity: Tells these simulations from others in a later process; `None` if that cannot be
            told.
    """

    def __init__(
        self,
        name: str,
        labelled: Callable[[], Iterator[tuple[Label, Any]]],
        counts: tuple[int, ...],
        shape: tuple[int, ...],
        identity: Json = None,
    ) -> None:
        self.name, self.counts, self.shape, self.identity = name, counts, shape, identity
        self._labelled = labelled

    def write_to(self, out: Destination) -> None:
        """Writes all simulations to an array `[*counts, *shape]`; see `write_by_label`."""
        write_by_label(self.name, self._labelled(), self.counts, self.shape, out)


# Whatever a user passes is opened as one of these two.
Source: TypeAlias = Reader | UnorderedSimulations


def count_seeds(name: str, labels: Iterable[Label]) -> int:
    """One more than the largest seed among labels.

    Raises:
        ValueError: If there are no labels, or the largest seed is more than twice their number.
    """
    number, largest = 0, -1
    for label in labels:
        number, largest = number + 1, max(largest, label[0])
    if not number:
        raise ValueError(f"`{name}` must hold simulations, got none.")
    if largest > 2 * number:  # an array for so many seeds may not fit into memory
        raise ValueError(
            f"`{name}` must hold every simulation, got {number} with labels up to {largest}."
        )
    return largest + 1


def write_by_label(
    name: str,
    labelled: Iterable[tuple[Label, Any]],
    counts: tuple[int, ...],
    shape: tuple[int, ...],
    out: Destination,
) -> None:
    """Writes labelled simulations to an array, and checks that each comes exactly once.

    Args:
        name: The argument that the user passed the simulations in, for messages.
        labelled: Labels and simulations, `[*shape]` each, in any order.
        counts: Shape of the array of labels.
        shape: Shape of one simulation.
        out: The array, `[*counts, *shape]`.

    Raises:
        TypeError: If a simulation does not hold real numbers.
        ValueError: If a simulation is missing, comes twice, is not finite, has another shape, or
            has a label out of range.
    """
    parts = "(seed,)" if len(counts) == 1 else "(seed, derivative, parameter)"
    seen = np.zeros(counts, bool)
    for label, simulation in labelled:
        data = np.asarray(simulation)
        if len(label) != len(counts) or any(
            not 0 <= part < count for part, count in zip(label, counts, strict=True)
        ):
            raise ValueError(f"`{name}` must have labels {parts} below {counts}, got {label}.")
        if seen[label]:
            raise ValueError(f"`{name}` must hold every simulation once, got {label} twice.")
        if data.shape != shape:
            raise ValueError(
                f"`{name}` must hold simulations of shape {shape}, got {data.shape} at {label}."
            )
        out[label] = checks.simulation(name, data, label)
        seen[label] = True
    if not seen.all():
        missing = [tuple(map(int, label)) for label in np.argwhere(~seen)[:_MOST_LISTED]]
        listed = ", ".join(map(str, missing)) + (", ..." if (~seen).sum() > _MOST_LISTED else "")
        raise ValueError(
            f"`{name}` must hold all {seen.size} simulations, labelled {parts}, got {seen.sum()}; "
            f"missing {listed}."
        )
