"""A client that is killed leaves no worker and no lock."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imnn_tf.running.store import Store

CLIENT = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
import numpy as np
from imnn_tf.running.executors import Pool
from imnn_tf.running.store import Store
from imnn_tf.running.tasks import Task

folder, kind = Path(sys.argv[1]), sys.argv[2]

def simulator(theta):
    (folder / f"{os.getpid()}.pid").touch()
    time.sleep(0.5 if theta[0, 0] == 0 else 1000)
    return theta

def make():
    if kind == "loky":
        import loky
        return loky.ProcessPoolExecutor(2)
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(kind))

if __name__ == "__main__":
    store = Store(folder / "store", {})
    with Pool(simulator, 2 if kind == "number" else make) as pool:
        tasks = [Task(np.full((1, 1), at), "nothing", 0, []) for at in range(2)]
        futures = [pool.submit(task) for task in tasks]
        futures[0].result()
        print("ready", flush=True)
        time.sleep(1000)
"""


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # a dead process may be there until its exit code is read
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")


@pytest.mark.skipif(os.name != "posix", reason="only POSIX systems fork and kill")
@pytest.mark.parametrize("kind", ["number", "spawn", "fork", "loky"])
def test_a_killed_client_leaves_no_worker_and_no_lock(tmp_path, kind):
    program = tmp_path / "client.py"
    program.write_text(CLIENT)
    command = [sys.executable, str(program), str(tmp_path), kind]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert client.stdout.readline() == "ready\n"
    workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert len(workers) >= 1
    assert all(map(is_alive, workers))
    client.send_signal(signal.SIGKILL)
    client.wait()
    client.stdout.close()
    Store(tmp_path / "store", {}).close()  # its lock is free at once
    end = time.monotonic() + 10
    left = workers
    while left and time.monotonic() < end:
        time.sleep(0.05)
        left = [pid for pid in workers if is_alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []
