"""A small recurrent inference machine on noisy fields, and the time of any one's updates."""

import time
from typing import Any

import numpy as np
import tensorflow as tf

from rim_tf import RIM, PutzkyWelling


def small_rim(size: int, steps: int) -> RIM:
    """For square fields of `size`, with that many steps; twenty thousand weights."""
    network = PutzkyWelling(1, features=(16, 32, 16), seed=0)
    return RIM([size, size], network, score_fn=lambda x, y: y - x, T=steps)


def noisy_fields(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch `(y, x)` of smooth fields `[count, size, size, 1]` with noise."""
    random = np.random.default_rng(0)
    waves = np.sin(np.linspace(0, 6, size)[:, None] + random.uniform(0, 6, (count, 1, size)))
    x = waves[..., None].astype("float32")
    return x + random.normal(size=x.shape).astype("float32"), x


def updates(rim: RIM, batch: tuple[np.ndarray, ...], count: int, **options: Any) -> float:
    """Seconds of so many updates on the same batch `(y, x, *args)`, by `fit`."""
    data = tf.data.Dataset.from_tensors(batch).repeat()
    started = time.perf_counter()
    rim.fit(data, n_iterations_in_epoch=count, verbose=0, seed=0, **options)
    return time.perf_counter() - started
