"""Summaries, and the modes and precisions in which their statistics are tested."""

import numpy as np
import pytest
import tensorflow as tf

from imnn_tf import information as info

MODES = {
    "eager": lambda function: function,
    "graph": tf.function,
    "xla": lambda function: tf.function(function, jit_compile=True),
}
TOLERANCE = {"float32": 2e-4, "float64": 1e-10}

modes = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def draws(dtype="float64", n=500, n_summaries=3, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(n_summaries, n_summaries))
    return (rng.normal(size=(n, n_summaries)) @ mixing + 1).astype(dtype)


def statistics_of(summaries, slope):
    return info.Statistics(info.moments(tf.constant(summaries)), tf.constant(slope))
