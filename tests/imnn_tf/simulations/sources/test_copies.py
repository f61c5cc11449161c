"""Copies of simulations in memory and on disk."""

import numpy as np
import tensorflow as tf
from sources import DERIVATIVE, FIDUCIAL, N_D, simulations_of, written

from imnn_tf.simulations.sources.cache import Cache


def test_functions_are_called_once_for_a_copy_in_memory_in_the_order_of_their_labels():
    calls = []

    def derivative(*label):
        calls.append(label)
        return DERIVATIVE[label]

    simulations_of((FIDUCIAL, derivative), at_once=7)
    assert calls == list(np.ndindex(N_D, 2, 2))


def test_a_copy_on_disk_is_used_again(tmp_path):
    sources = written(tmp_path, "GZIP")
    folder = tmp_path / "copy"
    simulations_of(sources, cache=Cache(folder))
    copies = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(copies) == 2
    simulations_of(sources, cache=Cache(folder))
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == copies
    simulations_of(sources, cache=Cache(folder), dtype=tf.float64)
    assert len(list(folder.iterdir())) == 4


def test_a_copy_of_the_simulations_of_a_function_is_deleted_with_its_reader(tmp_path):
    sources = lambda s: FIDUCIAL[s], lambda *label: DERIVATIVE[label]
    streamed = simulations_of(sources, cache=Cache(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2
    del streamed
    assert not list(tmp_path.iterdir())
