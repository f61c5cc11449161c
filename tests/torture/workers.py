"""Kills and slows workers of a fit over several processes: `python tests/torture/workers.py`.

A worker is killed at a random moment, most often after the first checkpoint, and the same command
is run again. In other runs every worker waits at random before it goes on after an update. The fit
must end each time, with the same bits as a fit that nothing disturbed. The exit code is the number
of kinds of failure.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

# Seconds after which a run hangs.
HUNG = 400


def fit(folder: Path, slow: int | None) -> None:
    """Fits as one worker, and leaves a digest of what came out.

    Args:
        folder: Where the fit is saved, loaded from if it is there.
        slow: A seed of the waits of all workers; `None` for no waits.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    from imnn_tf import IMNN

    sys.path.append(str(ROOT / "tests"))  # after the import: it has a folder of the package's name
    import reference

    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    waits = random.Random(f"{slow} {index}")
    callbacks = None
    if slow is not None:
        wait = lambda epoch, logs: time.sleep(waits.choice([0, 0, 0.3]) * waits.random())  # noqa: E731
        callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=wait)]
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        model = reference.dense_model(width=16, extra=[keras.layers.Dropout(0.1, seed=1)])
    given = {}
    for seed, prefix in enumerate(("", "validation_")):
        given[f"{prefix}fiducial"], given[f"{prefix}derivative"] = reference.simulations(seed, 200)
    imnn = IMNN(
        θ_fid=reference.THETA_FID,
        δθ=reference.DELTA_THETA,
        model=model,
        at_once=50,
        strategy=strategy,
        verbose=False,
        save=True,
        directory=folder,
        filename="fit",
        load=(folder / "fit" / "fit.npz").exists(),
        **given,
    )
    if imnn.unfinished or not imnn.history["loss"]:
        left = 100 - imnn.unfinished
        imnn.fit(left, patience=80, checkpoint=7, callbacks=callbacks)
    digest = hashlib.sha256()
    found = [*imnn.model.get_weights(), imnn.F, *map(np.array, imnn.history.values())]
    for values in found:
        digest.update(np.ascontiguousarray(values).tobytes())
    (folder / f"{index}.sha256").write_text(digest.hexdigest())


class Ended(NamedTuple):
    """How a run ended."""

    code: int | None  # of the launcher; None if it hung
    seconds: float
    fitting: float  # seconds from the first checkpoint to the end
    killed: bool
    told: str


class Moment(NamedTuple):
    """When a worker is killed, and which."""

    seconds: float  # after the start, or after the first checkpoint
    fitting: bool  # whether it is after the first checkpoint
    chance: random.Random  # chooses the worker


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    try:
        return [
            int(each)
            for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()
        ]
    except FileNotFoundError:
        return []


def run(folder: Path, workers: int, slow: int | None = None, moment: Moment | None = None) -> Ended:
    """Runs the fit, and kills one of its workers if there is a moment for it."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "imnn_tf.launch", "--workers", str(workers), __file__]
    command += ["--fit", str(folder), *([] if slow is None else ["--slow", str(slow)])]
    started, checkpoint, killed = time.monotonic(), None, False
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    with open(folder / "told.txt", "w") as told:
        process = subprocess.Popen(command, env=environment, stdout=told, stderr=told)
        try:
            while (code := process.poll()) is None and time.monotonic() - started < HUNG:
                if checkpoint is None and (folder / "fit" / "fit.npz").exists():
                    checkpoint = time.monotonic()
                if moment is not None and not killed:
                    since = checkpoint if moment.fitting else started
                    alive = children(process.pid)
                    if since is not None and time.monotonic() - since > moment.seconds and alive:
                        os.kill(moment.chance.choice(alive), signal.SIGKILL)
                        killed = True
                time.sleep(0.01)
        finally:
            process.terminate()
            process.wait()
    ended = time.monotonic()
    fitting = 0.0 if checkpoint is None else ended - checkpoint
    return Ended(code, ended - started, fitting, killed, (folder / "told.txt").read_text())


def results(folder: Path) -> set[str]:
    """The digests that the workers left."""
    return {path.read_text() for path in folder.glob("*.sha256")}


def torture(workers: int, kills: int, slowed: int, seed: int) -> Counter[str]:
    """Kills and slows workers, and counts what came of it."""
    place, chance, counts = (
        Path(tempfile.mkdtemp(prefix="torture-")),
        random.Random(seed),
        Counter(),
    )
    whole = run(place / "whole", workers)
    if whole.code != 0:
        raise RuntimeError(f"A fit fails without a kill: {whole.told}")
    expected = results(place / "whole")
    assert len(expected) == 1
    for number in range(kills + slowed):
        folder, slow = place / str(number), number if number >= kills else None
        if slow is None:
            fitting = chance.random() < 0.75
            longest = whole.fitting if fitting else whole.seconds
            moment = Moment(chance.uniform(0, longest), fitting, chance)
            ended = run(folder, workers, moment=moment)
            counts["killed"] += ended.killed
            counts["ended before the kill"] += not ended.killed
            counts["hung after a kill"] += ended.code is None
            checkpoint = (folder / "fit" / "fit.npz").exists()
            counts["of these with a checkpoint"] += ended.killed and checkpoint
            print(f"{number}: {ended.code} after {ended.seconds:.1f} s, checkpoint: {checkpoint}")
        again = run(folder, workers, slow)
        kind = "resumed" if slow is None else "slowed"
        counts["hung"] += again.code is None
        counts["failed"] += again.code not in (0, None)
        counts[kind] += again.code == 0
        same = results(folder) == expected
        counts["with other results"] += not same
        print(f"{number}, {kind}: {again.code} after {again.seconds:.1f} s, the same: {same}")
        if again.code != 0:
            print(again.told[-2000:])
        sys.stdout.flush()
        shutil.rmtree(folder)
    shutil.rmtree(place)
    return counts


def main() -> int:
    """Tortures, or is one of the workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--slowed", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--slow", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.fit is not None:
        fit(given.fit, given.slow)
        return 0
    counts = torture(given.workers, given.kills, given.slowed, given.seed)
    print("in all:", ", ".join(f"{count} {what}" for what, count in counts.items() if count))
    wrong = ("hung after a kill", "hung", "failed", "with other results")
    failures = [what for what in wrong if counts[what]]
    print("failures:", ", ".join(failures) or "none")
    return len(failures)


if __name__ == "__main__":
    sys.exit(main())
