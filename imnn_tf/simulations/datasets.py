"""Simulations from a `tf.data.Dataset` of labelled elements."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from imnn_tf.simulations.collect import Label, collect


def read(
    name: str,
    dataset: tf.data.Dataset,
    counts: Sequence[int | None],
    *,
    dtype: Any,
    input_shape: Sequence[int] | None = None,
) -> np.ndarray:
    """Reads a data set of `(simulation, seed)` or `(simulation, (seed, derivative, parameter))`.

    Args:
        name: The argument it came in, for messages.
        dataset: One simulation an element, in any order.
        counts: How many of each part of a label there are; those of the seeds may be `None`.
        dtype: Type of the array.
        input_shape: Shape of one simulation, that of the first if left out.

    Returns:
        `[*counts, *input_shape]`.

    Raises:
        TypeError: If the elements are not simulations with labels.
        ValueError: If one is missing, comes twice or has another shape.
    """
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise TypeError(
            f"`{name}` must be a data set of (simulation, label) pairs, got elements of {spec}."
        )

    def labelled() -> Iterator[tuple[Label, Any]]:
        for simulation, label in dataset.as_numpy_iterator():
            yield tuple(int(part) for part in np.ravel(np.asarray(label))), simulation

    return collect(name, labelled(), counts, dtype=dtype, input_shape=input_shape)
