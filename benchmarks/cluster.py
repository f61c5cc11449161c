"""Simulates on a Dask cluster whose workers are killed; counts what is lost, doubled or idle.

The simulator waits, so that several workers fit on few cores, and fails for some rows. One worker
after another is killed, and Dask starts another in its place. What comes back must be what one
process makes of the same parameters and seeds, in values, failures and the order of both, and the
store must hold every simulation once.
"""

import logging
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

FULL = {
    "simulations": 100_000,
    "milliseconds": 10.0,  # one simulation
    "batch_size": 20,
    "failing": 0.05,
    "workers": 4,
    "kill_every": 10.0,  # seconds
}
QUICK = {"simulations": 4000, "kill_every": 4.0}


def simulator_of(seconds: float, failing: float, folder: Path | None) -> Callable[..., np.ndarray]:
    """A simulator that takes some time for each row, and tells in a folder when it was at work.

    Args:
        seconds: The time for a row.
        failing: The share of rows that fail.
        folder: Gets a file for each process, with a line for each call: the rows of the call, its
            start and its end. `None` to tell nothing.
    """

    def simulator(theta: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        started, found = time.time(), []
        try:
            for row, seed in zip(theta, seeds, strict=True):
                random = np.random.default_rng(seed)
                time.sleep(seconds)
                if random.random() < failing:
                    raise ArithmeticError(f"no solution for seed {seed}")
                found.append(random.normal(row[0], row[1], 10))
        finally:
            if folder is not None:
                with open(folder / f"{os.getpid()}.txt", "a") as file:
                    file.write(f"{len(theta)} {started} {time.time()}\n")
        return np.array(found)

    return simulator


@contextmanager
def killing(cluster: Any, every: float) -> Iterator[list[int]]:
    """Kills a worker of a local cluster again and again; gives the processes killed so far."""
    killed: list[int] = []
    over, chance = threading.Event(), random.Random(0)

    def kill() -> None:
        while not over.wait(every):
            # Dask gives up a worker that dies while it starts.
            started = [
                nanny.pid
                for nanny in cluster.workers.values()
                if nanny.process is not None and nanny.process.status.name == "running"
            ]
            if started:
                killed.append(chance.choice(started))
                os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def at_work(folder: Path, seconds: float, workers: int) -> dict[str, float]:
    """How busy workers were, from what they told.

    Args:
        folder: What `simulator_of` wrote.
        seconds: The time from the first task to the last result.
        workers: The number of workers.
    """
    calls = [np.loadtxt(path, ndmin=2) for path in sorted(folder.glob("*.txt"))]
    busy = sum((call[:, 2] - call[:, 1]).sum() for call in calls)
    alive = sum(call[-1, 2] - call[0, 1] for call in calls)
    return {
        "busy": busy / (workers * seconds),
        "busy between the first and the last call of a process": busy / alive,
        "processes": len(calls),
        "calls": sum(len(call) for call in calls),
    }


def stored(folder: Path, n: int) -> np.ndarray:
    """How often a store holds each of `n` simulations."""
    shards = [np.load(path)["indices"] for path in folder.glob("shard-*.npz")]
    return np.bincount(np.concatenate(shards), minlength=n)


def differences(got: Any, expected: Any) -> int:
    """The number of simulations, and of failures, in which two results differ."""
    listed = [
        {(each.index, each.seed, each.error, each.attempts) for each in result.failures}
        for result in (got, expected)
    ]
    rows = (got.x != expected.x).reshape(len(got.x), -1).any(axis=1) & (got.ok | expected.ok)
    return int(rows.sum() + (got.ok != expected.ok).sum()) + len(listed[0] ^ listed[1])


def measure(given: Any) -> dict[str, Any]:
    """Runs the simulations on a cluster with kills, and in this process without waiting."""
    import dask
    from distributed import Client, LocalCluster

    from imnn_tf.lfi import simulate

    n = given.simulations
    theta = np.random.default_rng(0).uniform(1.0, 2.0, size=(n, 2))
    options: dict[str, Any] = {
        "batch_size": given.batch_size, "on_error": "skip", "seed": 1, "progress": False,
    }  # fmt: skip
    expected = simulate(simulator_of(0.0, given.failing, None), theta, **options)
    with (
        # A cluster gives up a worker whose successor is not there after 15 s, by default.
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"}),
        tempfile.TemporaryDirectory() as place,
        LocalCluster(
            n_workers=given.workers,
            threads_per_worker=1,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,  # it reports every death
        ) as cluster,
        Client(cluster) as client,
    ):
        calls, store = Path(place) / "calls", Path(place) / "store"
        calls.mkdir()
        simulator = simulator_of(given.milliseconds / 1e3, given.failing, calls)
        with killing(cluster, given.kill_every) as killed:
            started = time.perf_counter()
            got = simulate(simulator, theta, executor=client, store=store, **options)
            seconds = time.perf_counter() - started
        times = stored(store, n)
        return {
            "seconds": seconds,
            "killed": len(killed),
            "failed": len(got.failures),
            "lost": int((expected.ok & (times == 0)).sum()),
            "doubled": int((times > 1).sum()),
            "different": differences(got, expected),
            **at_work(calls, seconds, given.workers),
        }


def main() -> None:
    """Measures, and writes what came out."""
    import machine
    from common import finish, options

    given = options(__doc__ or "", "cluster", FULL, QUICK)
    settings = {key: getattr(given, key) for key in FULL}
    finish("cluster", given.output, {"ours": machine.versions()}, {**settings, **measure(given)})


if __name__ == "__main__":
    main()
