"""Files that version 0.3 wrote load, and fits and inferences continue as in version 0.3.

`write_version_0_3.py` wrote the files in `version_0_3`. Every test works on a copy. Numbers are
compared to a relative 1e-5, because other processors round differently.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from zipfile import ZipFile

import keras
import numpy as np
import pytest
from compatibility import calls_0_3 as calls

from imnn_tf import Estimator, lfi
from rim_tf import RIM

SIMULATIONS, DATA = calls.read_simulations(calls.VERSION_0_3)


@pytest.fixture
def folder(tmp_path):
    """A copy of the files, which a test may change."""
    return shutil.copytree(calls.VERSION_0_3, tmp_path / "version_0_3")


def expected(name):
    with np.load(calls.VERSION_0_3 / "expected" / f"{name}.npz") as stored:
        return dict(stored)


def assert_close(got, want, rtol=1e-5):
    """Compares named arrays, with a tolerance relative to the largest number of each."""
    assert got.keys() == want.keys()
    for name, numbers in want.items():
        scale = np.abs(numbers).max(initial=0)
        np.testing.assert_allclose(got[name], numbers, rtol, rtol * scale, err_msg=name)


def contents(folder):
    """Content and modification time of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


# ---- IMNN --------------------------------------------------------------------------------


def test_a_fit_is_loaded(folder):
    imnn = calls.open_fit(folder / "imnn", "fitted", SIMULATIONS, load=True)
    assert_close(calls.results_of(imnn, DATA), expected("fitted"))
    assert isinstance(imnn.optimiser, keras.optimizers.Adam)
    assert int(imnn.optimiser.iterations) == calls.FITTED
    stored = np.load(folder / "imnn" / "fitted" / "history.npz")
    for name, values in imnn.history.items():
        np.testing.assert_array_equal(stored[name], np.array(values), err_msg=name)


def test_a_fit_goes_on_where_it_stopped(folder):
    """It continues from the latest weights and moments, not from the best weights."""
    imnn = calls.open_fit(folder / "imnn", "fitted", SIMULATIONS, load=True, save=True)
    imnn.fit(calls.FURTHER, λ=calls.STRENGTH)
    assert_close(calls.results_of(imnn, DATA), expected("fitted_further"))
    again = calls.open_fit(folder / "imnn", "fitted", SIMULATIONS, load=True)
    assert again.history["loss"] == imnn.history["loss"]


def test_a_fit_goes_on_with_a_model_and_an_optimiser_that_are_given(folder):
    given = {"model": calls.make_model(), "optimiser": calls.make_optimiser()}
    imnn = calls.open_fit(folder / "imnn", "fitted", SIMULATIONS, load=True, **given)
    imnn.fit(calls.FURTHER, λ=calls.STRENGTH)
    assert_close(calls.results_of(imnn, DATA), expected("fitted_further"))


def test_a_weights_file_is_loaded(folder):
    options = {"load": True, "weights": "weights"}
    imnn = calls.open_fit(folder / "imnn", "fitted", SIMULATIONS, **options)
    assert_close(calls.results_of(imnn, DATA), expected("fitted"))


@pytest.mark.parametrize("name", ["fitted", "moved"])
def test_an_estimator_is_loaded(folder, name):
    estimator = Estimator.load(folder / "imnn" / name)
    assert estimator.dtype.name == {"fitted": "float32", "moved": "float64"}[name]
    np.testing.assert_allclose(estimator(DATA), expected(name)["estimates"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("damaged", "updates"), [(False, 6), (True, 3)])
def test_a_killed_fit_goes_on_from_its_checkpoint(folder, damaged, updates, caplog):
    """If the last checkpoint is damaged, the fit goes on from the one before it."""
    if damaged:
        state = folder / "imnn" / "killed" / "fit.npz"
        state.write_bytes(state.read_bytes()[:-100])
    imnn = calls.open_fit(folder / "imnn", "killed", SIMULATIONS, load=True, at_once=25)
    assert ("is damaged" in caplog.text) == damaged
    assert len(imnn.history["loss"]) == updates
    assert (imnn.regulariser, imnn.λ, imnn.ϵ) == tuple(calls.PUBLISHED.values())
    imnn.fit(calls.WHOLE - updates, **calls.PUBLISHED)
    assert_close(calls.results_of(imnn, DATA), expected("killed_further"))


def test_a_fit_that_moved_is_loaded_where_it_went_and_goes_on(folder):
    imnn = calls.open_moved(folder / "imnn", load=True)
    assert_close(calls.results_of(imnn, DATA), expected("moved"))
    assert imnn.history["θ_fid_iteration"] == [4, 8]
    np.testing.assert_array_equal(imnn.θ_fid, imnn.history["θ_fid"][-1])
    imnn.fit(calls.FURTHER, λ=calls.STRENGTH)
    assert_close(calls.results_of(imnn, DATA), expected("moved_further"))


# ---- Likelihood-free inference -----------------------------------------------------------


def test_rejection_finds_its_simulations_again(folder):
    simulator = calls.Counting(calls.gaussian_draws)
    abc = calls.open_abc(folder / "lfi" / "abc", simulator, DATA)
    assert_close(calls.run_abc(abc), expected("abc"))
    assert simulator.count == 0
    abc(20)
    # A new store also holds one simulation by which to tell whether the simulator has changed.
    assert simulator.count == 20 + 1
    assert_close({"estimates": abc.estimates}, expected("abc_further"))


def test_population_monte_carlo_finds_its_simulations_again(folder):
    simulator = calls.Counting(calls.shifted)
    pmc = calls.open_pmc(folder / "lfi" / "pmc", simulator)
    want = expected("pmc")
    assert_close(calls.run_pmc(pmc), want)
    assert simulator.count == 0
    assert_close(calls.run_pmc(pmc, 24), expected("pmc_further"))
    further = pmc.num_draws.sum() - want["num_draws"].sum()
    # Each target's new store also holds one simulation to recognise the simulator by.
    assert simulator.count == further + 2 > 2


def test_simulations_that_failed_go_on(folder):
    simulator = calls.Counting(calls.gaussian_draws)
    result = calls.run_simulations(folder / "lfi" / "simulate", simulator)
    assert simulator.count == 6
    assert_close({"x": result.x}, expected("simulate"))


def test_a_store_of_another_run_is_refused(folder):
    with pytest.raises(ValueError, match="`store` must be a new folder or the same run's"):
        calls.run_simulations(folder / "lfi" / "abc" / "0000-0000", calls.gaussian_draws)


def test_saved_simulations_are_those_of_the_store(folder):
    data = np.load(folder / "lfi" / "simulations.npy")
    abc = calls.open_abc(None, None, DATA)
    abc.add(expected("abc")["parameters"][40:], data=data)
    np.testing.assert_allclose(abc.estimates, expected("abc")["estimates"][40:], rtol=1e-12)


def test_a_posterior_is_loaded(folder):
    posterior = lfi.Posterior.load(folder / "lfi" / "posterior.npz")
    assert posterior.parameter_names == posterior.labels == ["p1", "p2"]
    np.testing.assert_array_equal(posterior.low, [-4, 0.25])
    np.testing.assert_array_equal(posterior.high, [4, 4])
    want = expected("abc")
    near = want["distances"][:, 1] < 5
    np.testing.assert_array_equal(posterior.samples, want["parameters"][near])
    np.testing.assert_allclose(posterior.weights, 1 / near.sum())


# ---- RIM ---------------------------------------------------------------------------------


def test_a_rim_goes_on_from_its_checkpoint_with_the_memory_of_its_callbacks(folder):
    """It stops at the epoch at which the uninterrupted fit ran out of patience."""
    rim = calls.make_rim()
    checkpoints = folder / "rim" / "checkpoints"
    history = calls.train(rim, expected("examples"), checkpoints, 20, seed=None)
    assert len(history["loss"]) == calls.STOPPED_AT
    np.testing.assert_array_equal(history["loss"][: calls.EPOCHS], expected("rim")["history/loss"])
    assert_close(calls.training_of(rim, history), expected("rim_further"))


@pytest.mark.parametrize("which", ["best", "newest", calls.EPOCHS])
def test_a_rim_is_rebuilt_from_its_checkpoint(folder, which):
    checkpoints = folder / "rim" / "checkpoints"
    rim = RIM.from_checkpoints(checkpoints, which, score_fn=calls.score_fn)
    want = expected("rim")
    weights = {f"weights/{k}": variable for k, variable in enumerate(rim.get_weights())}
    # The rebuilt model has the moving averages of the weights, as the fitted one had.
    assert_close(weights, {key: value for key, value in want.items() if key in weights})
    trajectory = calls.predict(rim, expected("examples"))
    assert_close({"trajectory": trajectory}, {"trajectory": want["trajectory"]})


@pytest.fixture
def models(folder):
    """A folder with a Keras archive of each RIM."""
    with ZipFile(folder / "rim" / "models.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.parametrize("name", calls.ARCHIVED)
def test_a_saved_rim_is_loaded_and_goes_on(models, name):
    rim = keras.saving.load_model(models / f"{name}.keras", custom_objects=calls.FUNCTIONS[name])
    examples, want = expected("examples"), expected(name)
    got = {"trajectory": calls.predict(rim, examples)}
    data = (examples["y"], examples["x"], examples["sigma"])
    history = rim.fit(data, epochs=1, seed=7, batch_size=8, verbose=0).history
    assert_close({**got, "loss": np.array(history["loss"])}, want)


def test_saved_rims_are_loaded_by_a_process_that_imports_only_rim(models):
    program = f"""
        from pathlib import Path
        import keras
        import numpy as np
        from rim_tf import RIM

        def score_fn(x, y, sigma):
            return (y[..., None] - x) / sigma[:, None, None] ** 2

        class Likelihood:
            score = chi2 = staticmethod(score_fn)

        examples = np.load({str(calls.VERSION_0_3 / "expected" / "examples.npz")!r})
        for path in Path({str(models)!r}).glob("*.keras"):
            given = {{"score_fn": score_fn}}
            if path.stem == "unet":
                given = {{"likelihood": Likelihood()}}
            rim = keras.saving.load_model(path, custom_objects=given)
            y, sigma = examples["y"], examples["sigma"]
            found = rim.predict(y, sigma, T=4, trajectory=True, jit_compile=False)
            np.save(path.with_suffix(".npy"), found)
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=environment, check=True)
    for name in calls.ARCHIVED:
        found = np.load(models / f"{name}.npy")
        assert_close({"trajectory": found}, {"trajectory": expected(name)["trajectory"]})


# ---- Files of simulations ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("compression", "cache"), [("plain", "auto"), ("plain", False), ("gzip", "auto")]
)
def test_files_of_simulations_are_read(folder, compression, cache):
    place = folder / "tfrecords" / compression
    kinds = ("fiducial", "derivative")
    fiducial, derivative = (list(place.glob(f"{kind}_*.tfrecords")) for kind in kinds)
    imnn = calls.open_records(fiducial, derivative, cache=cache)
    if cache == "auto":
        np.testing.assert_array_equal(imnn.data, SIMULATIONS["fiducial"])
        np.testing.assert_array_equal(imnn.derivative, SIMULATIONS["derivative"])
    assert_close({"F": imnn.F}, expected("tfrecords"))


@pytest.mark.parametrize(("place", "compression"), [("plain", None), ("gzip", "GZIP")])
def test_files_of_simulations_are_written_over(folder, place, compression):
    """The files are valid afterwards, whether they were kept or written anew.

    Version 0.3 keeps a file if its first record has the same bytes, but protocol buffers order the
    labels of a record differently in different processes.
    """
    files = calls.write_records(folder / "tfrecords" / place, SIMULATIONS, compression)
    found = sorted((folder / "tfrecords" / place).glob("*.tfrecords"))
    assert found == sorted([*files[0], *files[1]])
    imnn = calls.open_records(*files)
    np.testing.assert_array_equal(imnn.derivative, SIMULATIONS["derivative"])


def test_a_copy_on_disk_is_found_again(folder):
    """Its name holds a digest of the paths, sizes and times of the files, here those of a copy."""
    place, copy = folder / "tfrecords" / "plain", folder / "tfrecords" / "copy"
    files = {}
    for kind in ("fiducial", "derivative"):
        files[kind] = sorted(place.glob(f"{kind}_*.tfrecords"))
        about = [(path, path.stat()) for path in files[kind]]
        identity = [[str(path.resolve()), stat.st_size, stat.st_mtime_ns] for path, stat in about]
        name = json.dumps([identity, SIMULATIONS[kind].shape, "<f4"])
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        (copy / f"{kind}.npy").rename(copy / f"{kind}-{digest}.npy")
    before = contents(copy)
    imnn = calls.open_records(**files, cache=copy)
    assert_close({"F": imnn.F}, expected("tfrecords"))
    assert contents(copy) == before
