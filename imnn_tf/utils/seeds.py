"""Seeds: every random number in both packages comes from a seed made here.

NumPy's `SeedSequence` derives independent seeds from one. Keras takes them as integers,
TensorFlow's stateless generators as pairs of 32-bit integers. This module imports no TensorFlow,
so that workers that run a simulator start quickly.
"""

import itertools
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np

from imnn_tf.utils import checks

Seed: TypeAlias = int | np.random.SeedSequence | None


def seed_sequence(seed: Seed) -> np.random.SeedSequence:
    """Converts a user's seed to a new `SeedSequence`.

    Args:
        seed: A non-negative integer; a `SeedSequence`, which is copied, so that using it twice
            gives the same numbers twice; or `None` for fresh entropy from the operating system.

    Raises:
        TypeError: If `seed` is none of these.
        ValueError: If it is negative.
    """
    if seed is None:
        return np.random.SeedSequence()
    if isinstance(seed, np.random.SeedSequence):
        return np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key)
    return np.random.SeedSequence(checks.integer("seed", seed, minimum=0))


def child(sequence: np.random.SeedSequence, *key: int) -> np.random.SeedSequence:
    """Derives the child with this key, whatever was spawned from the sequence before."""
    return np.random.SeedSequence(sequence.entropy, spawn_key=(*sequence.spawn_key, *key))


def integer_seeds(sequences: list[np.random.SeedSequence]) -> np.ndarray:
    """One non-negative 63-bit integer for each sequence, `[len(sequences)]`, int64."""
    states = [each.generate_state(1, np.uint64)[0] >> np.uint64(1) for each in sequences]
    return np.array(states, dtype=np.int64)


def stateless_seed(seed: int | np.random.SeedSequence) -> list[int]:
    """The two int32 numbers that TensorFlow's stateless generators take as a seed.

    Args:
        seed: A non-negative integer, whose lowest 62 bits count, or a `SeedSequence`.
    """
    if isinstance(seed, np.random.SeedSequence):
        return seed.generate_state(2).view(np.int32).tolist()
    return [seed & 0x7FFFFFFF, seed >> 31 & 0x7FFFFFFF]


def layer_seeds(seed: int | None) -> Iterator[int | None]:
    """Seeds for the layers of a network, one after the other, without end.

    Args:
        seed: A non-negative integer, or `None` to let Keras draw every seed itself.

    Raises:
        TypeError: If `seed` is not an integer.
        ValueError: If it is negative.
    """
    if seed is None:
        return itertools.repeat(None)
    sequence = np.random.SeedSequence(checks.integer("seed", seed, minimum=0))
    return (int(sequence.generate_state(count)[-1]) for count in itertools.count(1))
