"""Copies of simulations in memory and on disk."""

import numpy as np
import tensorflow as tf
from sources import (
    DERIVATIVE,
    FIDUCIAL,
    N_D,
    assert_same_batches,
    batches_of,
    simulations_of,
    written,
)

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


def copied(tmp_path, **options):
    """Sources, the folder of their copies on disk, and the first batch read from these."""
    sources = written(tmp_path)
    folder = tmp_path / "copy"
    return sources, folder, batches_of(simulations_of(sources, cache=Cache(folder), **options))


def damages(copy, other):
    """Every kind of damage of a copy, as functions of its content."""
    yield from (lambda content, at=at: flipped(content, at) for at in range(0, len(copy), 61))
    yield lambda content: flipped(content, len(content) - 1)
    yield lambda content: content[:-1]
    yield lambda content: content[:200]
    yield lambda content: b""
    yield lambda content: content + b"\0"
    yield lambda content: other


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]


def test_a_damaged_copy_on_disk_is_written_again(tmp_path, caplog):
    sources, folder, exact = copied(tmp_path)
    (copy,) = folder.glob("fiducial-*.npy")
    (other,) = folder.glob("derivative-*.npy")
    content = copy.read_bytes()
    for damage in damages(content, other.read_bytes()):
        caplog.clear()
        copy.write_bytes(damage(content))
        again = simulations_of(sources, cache=Cache(folder))
        assert copy.read_bytes() == content
        assert "is damaged" in caplog.text
    assert_same_batches(batches_of(again), exact)


def test_a_copy_without_a_checksum_is_compared_with_its_source(tmp_path, caplog):
    """Such are the copies that version 0.3 wrote."""
    sources, folder, exact = copied(tmp_path)
    for copy in folder.iterdir():
        array = np.load(copy)
        np.save(copy, array)
    plain = {path: path.read_bytes() for path in folder.iterdir()}
    simulations_of(sources, cache=Cache(folder))
    assert {path: path.read_bytes() for path in folder.iterdir()} == plain
    np.save(copy, array + 1)
    again = simulations_of(sources, cache=Cache(folder))
    assert "is damaged" in caplog.text
    assert_same_batches(batches_of(again), exact)


def test_a_copy_on_disk_is_an_array_that_numpy_reads(tmp_path):
    _, folder, _ = copied(tmp_path)
    (copy,) = folder.glob("derivative-*.npy")
    np.testing.assert_array_equal(np.load(copy), DERIVATIVE)
