"""Labelled simulations, in any order, put in their places of an array."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

Label = tuple[int, ...]

_LISTED = 5


def collect(
    name: str,
    labelled: Iterable[tuple[Label, Any]],
    counts: Sequence[int | None],
    *,
    dtype: DTypeLike,
    input_shape: Sequence[int] | None = None,
) -> np.ndarray:
    """An array of simulations from simulations with their labels, none missing and none twice.

    Args:
        name: The argument they came in, for messages.
        labelled: Labels and simulations in any order. A label is the place of its simulation:
            `(seed,)`, or `(seed, side, parameter)` with side 0 below and 1 above.
        counts: How many of each part of a label there are. If the first is `None`, it is one
            more than the largest seed, and everything is held twice for a moment.
        dtype: Type of the array.
        input_shape: Shape of one simulation, that of the first if left out.

    Returns:
        `[*counts, *input_shape]`.

    Raises:
        ValueError: If a simulation is missing, comes twice, has a label out of range or another
            shape than the others.
    """
    if counts[0] is None:
        labelled = list(labelled)
        seeds = [label[0] for label, _ in labelled]
        counts = (max(seeds, default=-1) + 1, *counts[1:])
    sizes = tuple(int(count or 0) for count in counts)
    seen = np.zeros(sizes, bool)
    result = None
    for label, simulation in labelled:
        data = np.asarray(simulation)
        if result is None:
            shape = data.shape if input_shape is None else tuple(input_shape)
            result = np.empty((*sizes, *shape), dtype)
        if len(label) != len(sizes) or any(
            not 0 <= at < size for at, size in zip(label, sizes, strict=True)
        ):
            raise ValueError(
                f"`{name}` must have labels {_label_words(sizes)} below {sizes}, got {label}."
            )
        if seen[label]:
            raise ValueError(f"`{name}` must hold every simulation once, got {label} twice.")
        if data.shape != result.shape[len(sizes) :]:
            raise ValueError(
                f"`{name}` must hold simulations of shape {result.shape[len(sizes) :]}, got "
                f"{data.shape} at {label}."
            )
        result[label] = data
        seen[label] = True
    if result is None or not seen.all():
        missing = [tuple(map(int, label)) for label in np.argwhere(~seen)[:_LISTED]]
        words = ", ".join(map(str, missing)) + (", ..." if (~seen).sum() > _LISTED else "")
        raise ValueError(
            f"`{name}` must hold all {seen.size} simulations, labelled {_label_words(sizes)}, got "
            f"{seen.sum()}; missing {words or 'all'}."
        )
    return result


def _label_words(sizes: tuple[int, ...]) -> str:
    return "(seed,)" if len(sizes) == 1 else "(seed, derivative, parameter)"
