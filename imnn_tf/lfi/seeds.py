"""Seeds: one `numpy.random.SeedSequence` behind everything that is random here."""

from typing import TypeAlias

import numpy as np

from imnn_tf.utils import checks

Seed: TypeAlias = int | np.random.SeedSequence | None


def seed_sequence(seed: Seed) -> np.random.SeedSequence:
    """What a user calls a seed, as a fresh `SeedSequence`.

    Args:
        seed: A non-negative integer, a `SeedSequence` (copied, so that using one twice gives
            the same numbers twice), or `None` for fresh entropy from the operating system.

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
    """The child of a sequence with this key, whatever was spawned from it before."""
    return np.random.SeedSequence(sequence.entropy, spawn_key=(*sequence.spawn_key, *key))


def stateless(sequence: np.random.SeedSequence) -> list[int]:
    """The pair of 32-bit integers that TensorFlow's stateless generators take as a seed."""
    return sequence.generate_state(2).view(np.int32).tolist()
