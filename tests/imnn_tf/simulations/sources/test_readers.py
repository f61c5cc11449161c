"""Functions that load simulations: the checks of what they return, and their threads."""

import threading

import numpy as np
import pytest
import reference
import tensorflow as tf
from sources import DERIVATIVE, FIDUCIAL, N_S, assert_same_batches, batches_of, simulations_of

from imnn_tf.simulations.sources.cache import Cache


@pytest.mark.parametrize(
    ("fiducial", "message"),
    [
        (
            lambda seed: FIDUCIAL[seed][: 10 - seed],
            r"simulations of shape \(10,\), got \(9,\) at \(1,\)",
        ),
        (
            lambda seed: (FIDUCIAL[seed], seed + 1),
            r"answer with the label it is asked for, \(0,\), got 1",
        ),
        (
            lambda seed: (x for x in ()),
            r"yield a simulation for every label, got nothing for \(0,\)",
        ),
        (lambda seed: np.full(10, np.nan), "`fiducial` must be finite"),
    ],
)
def test_bad_functions_are_named(fiducial, message):
    with pytest.raises(ValueError, match=message):
        reference.as_simulations(fiducial, DERIVATIVE, 2, np.ones(2), dtype=tf.float32, n_s=3)


@pytest.mark.parametrize("cache", ["memory", False])
@pytest.mark.parametrize("parallel_reads", [None, 3])
def test_functions_are_called_from_as_many_threads_as_are_allowed(parallel_reads, cache):
    threads, together = set(), threading.Barrier(parallel_reads or 1, timeout=20)

    def fiducial(seed):
        threads.add(threading.get_ident())
        if seed < 3:  # wait until every thread has called
            together.wait()
        return FIDUCIAL[seed]

    options = {"cache": Cache(cache), "parallel_reads": parallel_reads, "input_shape": (10,)}
    simulations = simulations_of((fiducial, DERIVATIVE), at_once=N_S, **options)
    held = simulations_of((FIDUCIAL, DERIVATIVE))
    threads.clear()
    assert_same_batches(batches_of(simulations), batches_of(held))
    if cache is False:
        assert len(threads) == (parallel_reads or 1)
