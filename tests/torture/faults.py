"""Full disks, folders that vanish or must not be written, and savers against a loader."""

import ctypes
import os
import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jobs import JOBS
from processes import Run, run, scratch


def fill_disk(folder: Path) -> None:
    """Lets no file of this process grow beyond half a kilobyte."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))


def forbid_writing(folder: Path) -> None:
    """Takes the right to write in a folder, and that to write everywhere from an administrator."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)())


def vanish(folder: Path) -> None:
    """Deletes a folder."""
    shutil.rmtree(folder)


FAULTS: dict[str, Callable[[Path], None]] = {
    "full disk": fill_disk,
    "read-only folder": forbid_writing,
    "vanished folder": vanish,
}


def fail(fault: str, name: str) -> Counter[str]:
    """Lets one script meet a fault in its middle, and runs it again without.

    Its error must name a file or a folder of the script, and a script that goes on must find what
    an undisturbed one does.
    """
    place, counts = scratch(), Counter[str]()
    whole = run(JOBS[name], place / "whole")
    folder = place / "faulty"
    run(JOBS[name], folder, Run(at_step=whole.steps // 2))
    if fault == "vanished folder":
        how = Run(at_step=whole.steps // 4, act=FAULTS[fault])
    else:
        how = Run(before=FAULTS[fault])
    ended = run(JOBS[name], folder, how)
    if ended.digests is not None:
        counts["finished" if ended.digests == whole.digests else "other results"] += 1
    elif ended.killed or str(folder) not in ended.error:
        counts["not named"] += 1
        print(f"{fault}: {name}: {ended.error}", flush=True)
    else:
        counts["named"] += 1
    if folder.exists():
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)
    again = run(JOBS[name], folder)
    if again.digests != whole.digests:
        counts["old state lost"] += 1
        print(f"{fault}: {name}: {again.error or 'other results'}", flush=True)
    counts["processes left"] += len(ended.left) + len(again.left)
    shutil.rmtree(place)
    return counts


def mixture(seconds: float) -> Counter[str]:
    """Two processes save estimators into one folder while a third loads from it."""
    from imnn_tf import Estimator

    place, counts = scratch(), Counter[str]()
    end = time.monotonic() + seconds

    def estimator_of(number: float) -> Estimator:
        import keras

        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.set_weights([np.full(weight.shape, number) for weight in model.get_weights()])
        given = ("theta_fid", "mean", "slope", "inverse_covariance", "inverse_fisher")
        shapes = (2,), (2,), (2, 2), (2, 2), (2, 2)
        arrays = {name: np.full(shape, number) for name, shape in zip(given, shapes, strict=True)}
        return Estimator(model, **arrays)

    children = []
    for first in (0, 1):
        child = os.fork()
        if child == 0:
            saved = 0
            try:
                while time.monotonic() < end:
                    estimator_of(first + 2 * saved).save(place)
                    saved += 1
                (place / f"saved-{first}").write_text(str(saved))
            finally:
                os._exit(0)
        children.append(child)
    while not (place / "manifest.json").exists() and time.monotonic() < end:
        time.sleep(0.01)
    while time.monotonic() < end:
        try:
            loaded = Estimator.load(place)
        except Exception as error:
            counts["not loaded"] += 1
            print(f"two savers, one loader: {type(error).__name__}: {error}", flush=True)
        else:
            counts["loads"] += 1
            numbers = {float(np.ravel(weight)[0]) for weight in loaded.model.get_weights()}
            numbers |= {float(loaded.mean[0]), float(loaded.slope[0, 0])}
            counts["mixtures"] += len(numbers) > 1
    for child in children:
        os.waitpid(child, 0)
    for first in (0, 1):
        told = place / f"saved-{first}"
        counts["saves"] += int(told.read_text()) if told.exists() else 0
        counts["a saver crashed"] += not told.exists()
        told.unlink(missing_ok=True)
    left = {path.name for path in place.iterdir()} - {
        "model.keras",
        "estimator.npz",
        "manifest.json",
    }
    counts["files left or missing"] += len(left)
    shutil.rmtree(place)
    return counts
