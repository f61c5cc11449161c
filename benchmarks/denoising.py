"""A small recurrent inference machine (RIM), noisy fields to train it on, and a timer."""

import time
from typing import Any

import numpy as np
import tensorflow as tf

from rim_tf import RIM, PutzkyWelling


def small_rim(size: int, steps: int) -> RIM:
    """A RIM of twenty thousand weights for square fields of `size`, which takes `steps` steps."""
    network = PutzkyWelling(1, features=(16, 32, 16), seed=0)
    return RIM([size, size], network, score_fn=lambda x, y: y - x, T=steps)


def noisy_fields(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch `(y, x)` of noisy and true smooth fields, each `[count, size, size, 1]`."""
    random = np.random.default_rng(0)
    waves = np.sin(np.linspace(0, 6, size)[:, None] + random.uniform(0, 6, (count, 1, size)))
    x = waves[..., None].astype("float32")
    return x + random.normal(size=x.shape).astype("float32"), x


def updates(rim: RIM, batch: tuple[np.ndarray, ...], count: int, **options: Any) -> float:
    """Seconds that `fit` takes for `count` updates on the same batch `(y, x, *args)`."""
    data = tf.data.Dataset.from_tensors(batch).repeat()
    started = time.perf_counter()
    rim.fit(data, n_iterations_in_epoch=count, verbose=0, seed=0, **options)
    return time.perf_counter() - started
