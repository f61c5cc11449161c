"""Simulations from the user's own functions of their indices."""

from collections.abc import Callable, Iterator, Sequence
from inspect import isgenerator
from itertools import product
from typing import Any

import numpy as np

from imnn_tf.simulations.collect import Label, collect


def load(
    name: str,
    loader: Callable[..., Any],
    counts: Sequence[int],
    *,
    dtype: Any,
    input_shape: Sequence[int] | None = None,
) -> np.ndarray:
    """Calls a loader for every simulation.

    Args:
        name: The argument it came in, for messages.
        loader: Called with the parts of a label, `(seed)` or `(seed, derivative, parameter)`. It
            returns the simulation, or the simulation and its label, or yields either once.
        counts: How many of each part of a label there are.
        dtype: Type of the array.
        input_shape: Shape of one simulation, that of the first if left out.

    Returns:
        `[*counts, *input_shape]`.

    Raises:
        ValueError: If a loader yields nothing, answers with another label than it was asked for,
            or with simulations of different shapes.
    """

    def labelled() -> Iterator[tuple[Label, Any]]:
        for label in product(*map(range, counts)):
            yield label, _simulation(name, loader(*label), label)

    return collect(name, labelled(), counts, dtype=dtype, input_shape=input_shape)


def _simulation(name: str, answer: Any, label: Label) -> Any:
    if isgenerator(answer):
        try:
            answer = next(answer)
        except StopIteration:
            raise ValueError(
                f"`{name}` must yield a simulation for every label, got nothing for {label}."
            ) from None
    if not isinstance(answer, tuple) or len(answer) != 2:
        return answer
    simulation, said = answer
    if tuple(int(part) for part in np.ravel(np.asarray(said))) != label:
        raise ValueError(
            f"`{name}` must answer with the label it is asked for, {label}, got {said}."
        )
    return simulation
