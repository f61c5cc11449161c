"""Writes the files in `version_0_3` to a new folder; needs version 0.3.

Usage: `python tests/compatibility/write_version_0_3.py FOLDER`
"""

import shutil
import sys
from contextlib import suppress
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import calls_0_3 as calls
import keras
import numpy as np

from imnn_tf import lfi, refine

CHECKPOINT, KILLED = 3, 7
MOVES = {"tolerance": 1e-6, "max_steps": 3, "n_iterations": 4, "bounds": ([-2, 0.3], [2, 3])}


class Killed(BaseException):
    """Ends a fit without giving it the chance to save, as the end of its process would."""


class Kill(keras.callbacks.Callback):
    """Kills a fit after a number of updates."""

    def __init__(self, updates):
        super().__init__()
        self.updates = updates

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.updates:
            raise Killed


def make_simulations(seed):
    """Fiducial `[n_s, 10]` and derivative `[n_d, 2, 2, 10]` draws of a normal distribution."""
    noise = np.random.default_rng(seed).normal(size=(calls.N_S, calls.N_DRAWS))
    sides = np.array([-0.5, 0.5])[:, None, None] * np.diag(calls.DELTA_THETA)
    mean, variance = np.split(calls.THETA_FID + sides, 2, axis=-1)
    varied = mean + np.sqrt(variance) * noise[: calls.N_D, None, None]
    return noise.astype("float32"), varied.astype("float32")


def write_simulations(folder):
    """Writes the simulations of all fits. A later NumPy might draw others."""
    fiducial, derivative = make_simulations(0)
    validation_fiducial, validation_derivative = make_simulations(1)
    np.savez(
        folder / "simulations.npz",
        fiducial=fiducial,
        derivative=derivative,
        validation_fiducial=validation_fiducial,
        validation_derivative=validation_derivative,
        data=make_simulations(2)[0][:5],
    )


def write_fits(folder):
    simulations, data = calls.read_simulations(folder)
    place = folder / "imnn"
    for save in (True, False):
        options = {"save": save, "model": calls.make_model(), "optimiser": calls.make_optimiser()}
        fitted = calls.open_fit(place, "fitted", simulations, **options)
        fitted.fit(calls.FITTED)
    write_results(folder, "fitted", calls.results_of(fitted, data))
    # The best weights, which the fit ends on, must differ from the latest, where it resumes.
    assert np.argmax(fitted.history["val_det_F"]) < calls.FITTED - 1
    fitted.fit(calls.FURTHER)
    write_results(folder, "fitted_further", calls.results_of(fitted, data))

    # Two batches in each update.
    options = {"at_once": 25, "optimiser": keras.optimizers.Adam(0.1)}
    killed = calls.open_fit(
        place, "killed", simulations, save=True, model=calls.make_model(), **options
    )
    with suppress(Killed):
        killed.fit(calls.WHOLE, checkpoint=CHECKPOINT, callbacks=[Kill(KILLED)], **calls.PUBLISHED)
    whole = calls.open_fit(place, "killed", simulations, model=calls.make_model(), **options)
    whole.fit(calls.WHOLE, **calls.PUBLISHED)
    write_results(folder, "killed_further", calls.results_of(whole, data))

    for save in (True, False):
        options = {"save": save, "model": calls.make_model("float64", 0.0)}
        moved = calls.open_moved(place, optimiser=calls.make_optimiser(), **options)
        refine(moved, data.astype("float64"), **MOVES)
    write_results(folder, "moved", calls.results_of(moved, data))
    moved.fit(calls.FURTHER)
    write_results(folder, "moved_further", calls.results_of(moved, data))


def failing_draws(parameters, seeds):
    if (parameters > 15).any():
        raise RuntimeError("from the middle on")
    return calls.gaussian_draws(parameters, seeds)


def write_inferences(folder):
    place = folder / "lfi"
    data = calls.read_simulations(folder)[1]
    abc = calls.open_abc(place / "abc", calls.Counting(calls.gaussian_draws), data)
    write_results(folder, "abc", calls.run_abc(abc, place / "simulations"))
    abc.result(1).save(place / "posterior.npz")
    later = calls.open_abc(None, calls.Counting(calls.gaussian_draws), data)
    calls.run_abc(later)
    later(20)
    write_results(folder, "abc_further", {"estimates": later.estimates})

    pmc = calls.open_pmc(place / "pmc", calls.Counting(calls.shifted))
    write_results(folder, "pmc", calls.run_pmc(pmc))
    later = calls.open_pmc(None, calls.Counting(calls.shifted))
    calls.run_pmc(later)
    write_results(folder, "pmc_further", calls.run_pmc(later, 24))

    with suppress(lfi.SimulationError):
        calls.run_simulations(place / "simulate", calls.Counting(failing_draws))
    whole = calls.run_simulations(None, calls.Counting(calls.gaussian_draws))
    write_results(folder, "simulate", {"x": whole.x})


def make_examples():
    """Training data `(y, x, sigma)`: 16 positive vectors of six numbers."""
    random = np.random.default_rng(21)
    x, sigma = random.uniform(0.2, 2.0, size=(16, 6)), random.uniform(0.2, 0.6, size=16)
    y = x + sigma[:, None] * random.normal(size=x.shape)
    return {"y": y.astype("float32"), "x": x[..., None].astype("float32"), "sigma": sigma}


def write_rims(folder):
    place = folder / "rim"
    examples = make_examples()
    write_results(folder, "examples", examples)
    first = calls.make_rim()
    history = calls.train(first, examples, place / "checkpoints", calls.EPOCHS)
    found = {**calls.training_of(first, history), "trajectory": calls.predict(first, examples)}
    write_results(folder, "rim", found)
    copy = folder / "copy"
    shutil.copytree(place / "checkpoints", copy)
    later = calls.make_rim()
    history = calls.train(later, examples, copy, 20)
    shutil.rmtree(copy)
    assert len(history["loss"]) == calls.STOPPED_AT
    write_results(folder, "rim_further", calls.training_of(later, history))
    # Zipped, because Keras does not compress its archives.
    with ZipFile(place / "models.zip", "w", ZIP_DEFLATED) as models:
        for name, make in calls.ARCHIVED.items():
            rim = make()
            data = (examples["y"], examples["x"], examples["sigma"])
            rim.fit(data, epochs=2, seed=6, **{**calls.TRAINING, "ema_decay": 0.0})
            path = folder / f"{name}.keras"
            rim.save(path)
            models.write(path, path.name)
            path.unlink()
            found = {"trajectory": calls.predict(rim, examples)}
            history = rim.fit(data, epochs=1, seed=7, batch_size=8, verbose=0).history
            write_results(folder, name, {**found, "loss": history["loss"]})


def write_files(folder):
    place = folder / "tfrecords"
    simulations = calls.read_simulations(folder)[0]
    found = calls.open_records(simulations["fiducial"], simulations["derivative"])
    write_results(folder, "tfrecords", {"F": found.F})
    calls.write_records(place / "gzip", simulations, "GZIP")
    files = calls.write_records(place / "plain", simulations)
    calls.open_records(*files, cache=place / "copy")
    # The names of the copies depend on the path and time of the files, which the test changes.
    for path in (place / "copy").iterdir():
        path.rename(path.with_stem(path.stem.partition("-")[0]))


def write_results(folder, name, results):
    (folder / "expected").mkdir(exist_ok=True)
    np.savez_compressed(folder / "expected" / f"{name}.npz", **results)


def main(folder):
    folder.mkdir(parents=True)
    write_simulations(folder)
    for write in (write_fits, write_inferences, write_rims, write_files):
        write(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
