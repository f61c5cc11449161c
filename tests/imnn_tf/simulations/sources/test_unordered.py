"""Labelled simulations in any order must be complete."""

import numpy as np
import pytest
import reference
import tensorflow as tf
from sources import DERIVATIVE, FIDUCIAL, N_S


def data_set_of(seeds):
    seeds = tf.constant(seeds, tf.int64)
    return tf.data.Dataset.from_tensor_slices((tf.gather(FIDUCIAL, seeds % N_S), seeds))


@pytest.mark.parametrize(
    ("seeds", "n_s", "message"),
    [
        ([0, 1, 3], 4, r"all 4 simulations, labelled \(seed,\), got 3; missing \(2,\)"),
        ([0, 1, 1, 2], 3, r"every simulation once, got \(1,\) twice"),
        ([0, 1, 5], 3, r"labels \(seed,\) below \(3,\), got \(5,\)"),
        (list(range(2, 30)), None, r"all 30 simulations, .* got 28; missing \(0,\), \(1,\)\."),
        ([9], 20, r"missing \(0,\), \(1,\), \(2,\), \(3,\), \(4,\), \.\.\."),
    ],
)
def test_missing_and_doubled_simulations_are_named(seeds, n_s, message):
    with pytest.raises(ValueError, match=message):
        reference.as_simulations(
            data_set_of(seeds), DERIVATIVE, 2, np.ones(2), dtype=tf.float32, n_s=n_s
        )
