"""Simulations over MPI. Needs `mpiexec` and mpi4py; skipped where one is missing."""

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    shutil.which("mpiexec") is None or importlib.util.find_spec("mpi4py") is None,
    reason="needs an MPI library and mpi4py",
)

# What every process runs: with mpi4py.futures, the first is the script and the others are workers.
SIMULATIONS = """
import sys
from pathlib import Path
import numpy as np
from mpi4py.futures import MPIPoolExecutor
from imnn_tf.lfi import simulate

def noisy(theta, rng):
    return theta[:, :1] + rng.normal(size=(len(theta), 4))

def picky(theta, seeds):
    if (theta[:, 0] > 1).any():
        raise ArithmeticError("no solution")
    return np.stack([np.random.default_rng(seed).normal(size=4) for seed in seeds])

def field(seed):
    return np.random.default_rng(seed).normal(size=(4, 5))

def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

if __name__ == "__main__":
    from imnn_tf.utils import TFRecords

    theta = np.random.default_rng(0).normal(size=(200, 2))
    options = dict(batch_size=10, seed=1, progress=False, on_error="skip")
    folder = Path(sys.argv[1])
    with MPIPoolExecutor() as opened:
        assert opened.num_workers == 2
        for executor in (MPIPoolExecutor, opened):
            for simulator in (noisy, picky, lambda theta, rng: noisy(theta, rng)):
                here = simulate(simulator, theta, **options)
                there = simulate(simulator, theta, executor=executor, **options)
                np.testing.assert_array_equal(there.x, here.x)
                np.testing.assert_array_equal(there.ok, here.ok)
                assert [each.error for each in there.failures] == [
                    each.error for each in here.failures]
                if simulator is picky:
                    np.testing.assert_array_equal(there.ok, theta[:, 0] <= 1)
        writer = TFRecords(record_size=0.01, verbose=False)
        writer.write_record(100, field, directory=folder / "here")
        writer.write_record(100, field, directory=folder / "there", executor=opened, batch_size=7)
        assert len(contents(folder / "here")) > 2
        assert contents(folder / "here") == contents(folder / "there")
    print("all the same")
"""

KILLED = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from mpi4py.futures import MPIPoolExecutor
from imnn_tf.lfi import simulate

folder, kill = Path(sys.argv[1]), sys.argv[2] == "kill"  # they travel with the simulator

def simulator(theta):
    time.sleep(0.01)
    with open(folder / f"{os.getpid()}.txt", "a") as file:
        file.write(f"{theta[0, 0]}\\n")
    if theta[0, 0] == 150 and kill:
        os.kill(os.getpid(), signal.SIGKILL)
    return theta

if __name__ == "__main__":
    theta = np.arange(200.0)[:, None]
    result = simulate(simulator, theta, executor=MPIPoolExecutor, seed=1, progress=False,
                      store=folder / "store")
    np.testing.assert_array_equal(result.x, theta)
"""


def run(folder, script, *arguments):
    """Runs a script as one process that has two workers."""
    path = folder / "script.py"
    path.write_text(script)
    command = ["mpiexec", "--oversubscribe", "-n", "3", sys.executable, "-m", "mpi4py.futures"]
    # Open MPI does not start for the user root otherwise; containers have no other.
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return subprocess.run(
        [*command, str(path), str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | allowed,
    )


def test_simulations_failures_and_files_are_those_of_one_process(tmp_path):
    done = run(tmp_path, SIMULATIONS)
    assert done.returncode == 0, done.stderr
    assert "all the same" in done.stdout


def test_a_killed_worker_ends_the_job_and_the_same_command_goes_on(tmp_path):
    assert run(tmp_path, KILLED, "kill").returncode != 0
    before = [path.read_text().split() for path in tmp_path.glob("*.txt")]
    assert sum(map(len, before)) >= 150
    done = run(tmp_path, KILLED, "go on")
    assert done.returncode == 0, done.stderr
    after = [path.read_text().split() for path in tmp_path.glob("*.txt")]
    assert sum(map(len, after)) < 350  # what was in the store was not simulated again
