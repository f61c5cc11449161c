"""TFRecord files whose simulations the workers of an executor make."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from distributed import Client, LocalCluster

from imnn_tf.lfi import SimulationError
from imnn_tf.utils import TFRecords
from imnn_tf.utils.tfrecords import read_records


def simulation(*label):
    return np.random.default_rng(label).normal(size=(4, 5))


def write(folder, get=simulation, fiducial=False, **settings):
    writer = TFRecords(record_size=0.001, verbose=False)
    n, n_params = (20, None) if fiducial else (7, 2)
    return writer.write_record(n, get, fiducial, n_params, directory=folder, **settings)


def contents(folder):
    """The bytes of all files in a folder, by their names."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("fiducial", [True, False])
@pytest.mark.parametrize("batch_size", [None, 5])
def test_the_files_do_not_depend_on_the_workers(tmp_path, fiducial, batch_size):
    files = write(tmp_path / "here", fiducial=fiducial)
    assert len(files) > 1
    write(
        tmp_path / "there",
        lambda *label: simulation(*label),  # goes to the workers though it has no name
        fiducial=fiducial,
        executor=lambda: ThreadPoolExecutor(3) if fiducial else ProcessPoolExecutor(2),
        batch_size=batch_size,
    )
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_the_files_do_not_depend_on_a_cluster(tmp_path):
    write(tmp_path / "here")
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        write(tmp_path / "there", executor=client)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_a_worker_that_dies_costs_nothing(tmp_path):
    def dying(*label):
        if label == (3, 1, 0) and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return np.full((4, 5), sum(label))  # `simulation` would import this module in each worker

    write(tmp_path / "here", lambda *label: np.full((4, 5), sum(label)))
    write(tmp_path / "there", dying, executor=2)
    assert (tmp_path / "died").exists()
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_a_failure_names_its_label_and_the_next_call_goes_on(tmp_path):
    asked = []

    def failing(*label):
        asked.append(label)
        if label == (5, 0, 1):
            raise ArithmeticError("no solution")
        return simulation(*label)

    with pytest.raises(SimulationError, match="no solution") as raised:
        write(tmp_path / "there", failing, executor=ThreadPoolExecutor(2))
    assert raised.value.__notes__[-1] == "The label of that simulation is (5, 0, 1)."
    finished = contents(tmp_path / "there")
    assert finished
    asked.clear()
    write(tmp_path / "here")
    write(
        tmp_path / "there", lambda *label: failing(*label) if label != (5, 0, 1)
        else simulation(*label), executor=ThreadPoolExecutor(2),
    )  # fmt: skip
    assert 0 < len(asked) < 28
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_simulations_of_two_shapes_are_refused(tmp_path):
    def ragged(*label):
        return np.zeros((4, 5 + label[0] % 2))

    for batch_size in (1, 4):
        with pytest.raises((ValueError, SimulationError), match="of one shape"):
            write(tmp_path, ragged, executor=ThreadPoolExecutor(2), batch_size=batch_size)
    with pytest.raises(ValueError, match="`executor` must be"):
        write(tmp_path, executor=0)


@pytest.mark.parametrize("executor", [None, lambda: ThreadPoolExecutor(2)])
def test_single_numbers_are_simulations(tmp_path, executor):
    (file,) = write(tmp_path, lambda *label: float(sum(label)), True, executor=executor)[:1]
    records = read_records([file], derivative=False, input_shape=None)
    for record in records:
        np.testing.assert_array_equal(record.data, [record.label[0]])
