"""Reproducible initial weights: one seed for a network, one of its own for every tensor."""

import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from imnn_tf.utils import checks


def spawn(seed: int | None, count: int) -> list[int | None]:
    """Independent seeds derived from one.

    Args:
        seed: A non-negative integer, or `None` for seeds that Keras draws itself.
        count: How many to derive.

    Returns:
        `count` seeds, all `None` if `seed` is.

    Raises:
        TypeError: If `seed` is not an integer.
        ValueError: If `seed` is negative.
    """
    if seed is None:
        return [None] * count
    sequence = np.random.SeedSequence(checks.integer("seed", seed, minimum=0))
    return [int(word) for word in sequence.generate_state(count)]


def stream(seed: int | None) -> Iterator[int | None]:
    """The same seeds as `spawn`, one after the other, for a count not known in advance."""
    return (spawn(seed, count)[-1] for count in itertools.count(1))


def initializers(seed: int | None, *names: str) -> list[Any]:
    """Keras initialisers of the names given, each with a seed derived from `seed`."""
    return [
        type(keras.initializers.get(name))(seed=child)
        for name, child in zip(names, spawn(seed, len(names)), strict=True)
    ]
