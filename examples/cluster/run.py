"""The whole pipeline: simulate on a cluster, train in two processes, infer on the cluster.

    python run.py                       the pipeline, in folder cluster/undisturbed
    python run.py --kill                once more, with a worker killed at each stage; compares
    python run.py --scheduler ADDRESS   on the workers of a scheduler of Dask

Each stage is a script that runs alone as well.
"""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from workers import arguments, connected

HERE = Path(__file__).resolve().parent


def die():
    """Kills the process that calls it."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_simulating(client, chance):
    """Kills a worker of the cluster. Its nanny starts another."""
    worker = chance.choice(sorted(client.scheduler_info()["workers"]))
    client.run(die, workers=[worker], on_error="ignore")  # it cannot answer
    return worker


def kill_training(launcher, chance):
    """Kills a worker of the launcher."""
    worker = chance.choice(psutil.Process(launcher.pid).children())
    worker.kill()
    return f"process {worker.pid}"


def run(command, kill=None, files=(), survives=True):
    """Runs Python with some arguments, and kills a worker when the first of `files` is there.

    Args:
        command: The arguments of Python.
        kill: Kills a worker of the process that it is given, and says which. `None` for no kill.
        files: A folder, and a pattern of files in it.
        survives: Whether the command must get over the kill, rather than fail.
    """
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, *command])
    try:
        while kill is not None and process.poll() is None:
            if any(files[0].glob(files[1])):
                print(f"  killed {kill(process)} after {time.monotonic() - started:.0f} s")
                kill = None
            time.sleep(0.01)
        process.wait()
    finally:
        process.terminate()
    if kill is not None or (process.returncode == 0) != survives:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    print(f"  {time.monotonic() - started:.0f} s", flush=True)


def pipeline(folder, client, short, chance=None):
    """Runs all stages; with a generator of chances, a worker is killed in each."""
    shutil.rmtree(folder, ignore_errors=True)
    common = ["--folder", str(folder), *(["--short"] if short else [])]
    cluster = [*common, "--scheduler", client.scheduler.address]
    train = ["-m", "imnn_tf.launch", "--workers", "2", str(HERE / "train.py"), *common]
    simulating = chance and (lambda _: kill_simulating(client, chance))

    print(f"{folder}: simulate", flush=True)
    run([str(HERE / "simulate.py"), *cluster], simulating, (folder, "data/*.tfrecords"))
    print(f"{folder}: train", flush=True)
    if chance:
        # All workers end with the one that is killed. The same command goes on from the checkpoint.
        training = partial(kill_training, chance=chance)
        run(train, training, (folder, "fits/fit.npz"), survives=False)
    run(train)
    print(f"{folder}: infer", flush=True)
    run([str(HERE / "infer.py"), *cluster], simulating, (folder, "simulations/*/shard-*.npz"))


def digests(folder):
    """The SHA-256 of all that a pipeline found, by its name."""
    found = {}
    for path in sorted((folder / "data").glob("*.tfrecords")):
        found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    for path in (folder / "fits" / "fit.npz", folder / "posterior.npz"):
        with np.load(path) as file:
            for name in file.files:
                content = np.ascontiguousarray(file[name]).tobytes()
                found[f"{path.name}: {name}"] = hashlib.sha256(content).hexdigest()
    return found


def main(given):
    """Runs the pipeline; with `--kill` also a disturbed one, whose results must be the same."""
    with connected(given.scheduler) as client:
        pipeline(given.folder / "undisturbed", client, given.short)
        if not given.kill:
            return
        pipeline(given.folder / "killed", client, given.short, random.Random(given.seed))
    expected, got = (digests(given.folder / name) for name in ("undisturbed", "killed"))
    different = [name for name in expected | got if expected.get(name) != got.get(name)]
    print(f"{len(expected)} results, of which different: {different or 'none'}")
    if different:
        sys.exit(1)


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--kill", action="store_true", help="kill a worker at each stage, compare")
    parser.add_argument("--seed", type=int, default=0, help="decides which workers are killed")
    main(parser.parse_args())
