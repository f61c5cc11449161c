"""Compares a fit over several processes with one process, on one core each.

The problem is a convolutional network on images, whose simulations are streamed through it in
batches. The processes exchange statistics and gradients through the loopback device, whose counter
tells how many bytes an update costs. Linux only.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

FULL = {"rounds": 5, "updates": 10, "simulations": 1000, "size": 32, "workers": 2}
QUICK = {"rounds": 1, "updates": 2, "simulations": 100, "size": 16}


def loopback_bytes() -> int:
    """Bytes that were sent through the loopback device since the start of the machine."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "lo":
            return int(counters.split()[8])
    raise RuntimeError("There is no loopback device.")


def work(settings: dict[str, int]) -> dict[str, Any] | None:
    """Fits as one of the workers; the chief returns what was measured."""
    cluster = json.loads(os.environ.get("TF_CONFIG", "{}"))
    index = cluster.get("task", {}).get("index", 0)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[index % len(cores)]})  # before TensorFlow counts the cores

    import keras
    import numpy as np
    import tensorflow as tf

    from imnn_tf import IMNN

    strategy = tf.distribute.MultiWorkerMirroredStrategy() if cluster else None
    n, size = settings["simulations"], settings["size"]
    rng = np.random.default_rng(0)
    fiducial = rng.normal(size=(n, size, size, 1)).astype("float32")
    pattern = rng.normal(size=(size, size, 1)).astype("float32")
    sides = [fiducial + sign * 0.05 * pattern for sign in (-1, 1)]
    with nullcontext() if strategy is None else strategy.scope():
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Conv2D(16, 3, activation="relu", padding="same") for _ in range(3)]
        last = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
        model = keras.Sequential([keras.Input((size, size, 1)), *layers, *last])
    imnn = IMNN(
        θ_fid=[0.0],
        δθ=[0.1],
        fiducial=fiducial,
        derivative=np.stack(sides, axis=1)[:, :, None],
        model=model,
        at_once=n // 10,
        strategy=strategy,
        verbose=False,
    )
    updates = settings["updates"]
    imnn.fit(updates, steps_per_execution=updates)  # compiles
    before, started = loopback_bytes(), time.perf_counter()
    imnn.fit(updates, steps_per_execution=updates)
    seconds = (time.perf_counter() - started) / updates
    sent = (loopback_bytes() - before) / updates
    if index > 0:
        return None
    return {
        "seconds": seconds,
        "bytes": sent,
        "weights": model.count_params(),
        "loss": imnn.history["loss"][-1],
    }


def measure(workers: int, settings: dict[str, int]) -> dict[str, Any]:
    """Runs a fit in processes of their own."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        script = [__file__, "--work", json.dumps(settings), "--found", file.name]
        launcher = ["-m", "imnn_tf.launch", "--workers", str(workers)] if workers > 1 else []
        subprocess.run([sys.executable, *launcher, *script], check=True, stderr=subprocess.DEVNULL)
        return json.loads(Path(file.name).read_text())


def main() -> None:
    """Measures one process and several in turns."""
    if "--work" in sys.argv:
        found = work(json.loads(sys.argv[sys.argv.index("--work") + 1]))
        if found is not None:
            Path(sys.argv[sys.argv.index("--found") + 1]).write_text(json.dumps(found))
        return
    import machine
    from common import finish, options

    given = options(__doc__, "workers", FULL, QUICK)
    settings = {key: getattr(given, key) for key in FULL}
    runs: dict[str, list[dict[str, Any]]] = {"1": [], str(given.workers): []}
    for _ in range(given.rounds):
        for workers, found in runs.items():
            found.append(measure(int(workers), settings))
    finish("workers", given.output, {"ours": machine.versions()}, {**settings, "runs": runs})


if __name__ == "__main__":
    main()
