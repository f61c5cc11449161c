"""The benchmark of a cluster with dying workers: what it counts, from results that are made up."""

from copy import deepcopy

import cluster
import numpy as np
import pytest

from imnn_tf.lfi import simulate


@pytest.fixture(scope="module")
def result():
    theta = np.random.default_rng(0).uniform(1.0, 2.0, size=(200, 2))
    simulator = cluster.simulator_of(0.0, 0.05, None)
    options = {"on_error": "skip", "seed": 1, "progress": False}
    return simulate(simulator, theta, batch_size=20, **options)


def test_a_share_of_the_rows_fails(result):
    expected = 0.05 * 200
    assert abs(len(result.failures) - expected) < 4 * np.sqrt(expected * 0.95)


def test_differences_are_counted_row_by_row(result):
    assert cluster.differences(result, result) == 0
    other = deepcopy(result)
    rows = np.flatnonzero(other.ok)
    other.x[rows[3], 1] += 1e-12
    assert cluster.differences(other, result) == 1
    other.ok[rows[5]] = False
    assert cluster.differences(other, result) == 2
    del other.failures[0]
    assert cluster.differences(other, result) == 3


def test_what_a_store_holds_is_counted(tmp_path):
    for number, indices in enumerate([[0, 3], [1, 3]]):
        np.savez(tmp_path / f"shard-{number:06d}.npz", indices=indices, x=np.zeros((2, 1)))
    np.testing.assert_array_equal(cluster.stored(tmp_path, 5), [1, 1, 0, 2, 0])


def test_the_share_of_the_time_at_work(tmp_path):
    (tmp_path / "1.txt").write_text("20 100.0 102.0\n20 102.5 104.0\n")  # 3.5 of 4 s
    (tmp_path / "2.txt").write_text("20 105.0 106.0\n")  # 1 of 1 s
    found = cluster.at_work(tmp_path, seconds=10.0, workers=1)
    assert found["busy"] == pytest.approx(4.5 / 10)
    assert found["busy between the first and the last call of a process"] == pytest.approx(4.5 / 5)
    assert (found["processes"], found["calls"]) == (2, 3)
