"""Fits spread over several processes give the same as one process, and survive their deaths."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference

from imnn_tf.utils import TFRecords

# A user's script. It runs unchanged in one process and in several.
SCRIPT = """
import json, os, signal, sys, time
from contextlib import nullcontext
from pathlib import Path
import keras, numpy as np, tensorflow as tf
from imnn_tf import IMNN
from imnn_tf.fit.objective import Objective
sys.path.append({tests!r})  # only now: it has a folder of the name of the package
import reference

folder, kill_after, wanted = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
strategy = tf.distribute.MultiWorkerMirroredStrategy() if "TF_CONFIG" in os.environ else None
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"] if strategy else 0

class Slow(keras.callbacks.Callback):
    # Workers that are slow at other moments must not get out of step.
    def __init__(self):
        self.rng, self.updates = np.random.default_rng(index), 0
    def on_epoch_end(self, epoch, logs=None):
        time.sleep(0.03 * self.rng.random())
        self.updates += 1
        if index == 1 and self.updates == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

def fit(name, callbacks=None, **options):
    if name not in wanted:
        return
    with strategy.scope() if strategy else nullcontext():
        model = reference.dense_model(width=16, dtype="float64")
    imnn = IMNN(
        θ_fid=reference.THETA_FID, δθ=reference.DELTA_THETA, model=model, dtype="float64",
        at_once=50, strategy=strategy, verbose=False, save=True, directory=folder, filename=name,
        load=(folder / name / "fit.npz").exists(), **options,
    )
    objective = Objective(imnn._summariser, imnn._state.regularisation)
    gradient = tf.function(lambda: objective.gradient(imnn._training, 0), autograph=False)
    flat = lambda arrays: np.concatenate([np.ravel(array) for array in arrays])
    gradients = flat(gradient().gradients)
    imnn.fit(wanted[name] - len(imnn.history["loss"]), patience=150, checkpoint=10,
             callbacks=callbacks)
    np.savez(folder / f"{{name}}-{{index}}.npz", gradients=gradients, F=imnn.F,
             weights=flat(imnn.model.get_weights()))

arrays = dict(zip(["fiducial", "derivative"], reference.simulations(0, n_s=200)))
validation = dict(zip(["validation_fiducial", "validation_derivative"],
                      reference.simulations(1, n_s=200)))
fit("arrays", callbacks=[Slow()], **arrays, **validation)
files = {{name: sorted(str(path) for path in (folder / "data").glob(f"{{name}}_*.tfrecords"))
         for name in [*arrays, *validation]}}
fit("files", cache=False, **files)
# Without callbacks each worker measures for itself how long an update takes.
def simulator(parameters, seed):
    noise = tf.random.stateless_normal([tf.shape(parameters)[0], 10], seed, dtype="float64")
    return parameters[:, :1] + tf.sqrt(parameters[:, 1:]) * noise
fit("simulator", simulator=simulator, n_s=200, **validation)
"""


# The number of updates from each source.
ALL = {"arrays": 60, "files": 30, "simulator": 60}


def write_files(folder):
    """The simulations of the reference problem in TFRecord files, some 20 in each."""
    writer = TFRecords(record_size=0.001, verbose=False)
    for validation in (False, True):
        fiducial, varied = reference.simulations(2 + validation, n_s=200)
        given = {"directory": folder, "validation": validation}
        writer.write_record(200, lambda seed, fiducial=fiducial: fiducial[seed], **given)
        writer.write_record(
            50,
            lambda *label, varied=varied: varied[label],
            fiducial=False,
            n_params=2,
            **given,
        )


def run(folder, workers, kill_after=0, updates=ALL):
    folder.mkdir(exist_ok=True)
    if "files" in updates:
        write_files(folder / "data")
    script = folder / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parents[2])))
    launcher = ["-m", "imnn_tf.launch", "--workers", str(workers)] if workers > 1 else []
    return subprocess.run(
        [sys.executable, *launcher, str(script), str(folder), str(kill_after), json.dumps(updates)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )


def saved(folder, name):
    with np.load(folder / name / "history.npz") as history:
        return {key: history[key] for key in ("loss", "val_loss")}


def found(folder, name, index=0):
    """What a worker found: the first gradient, the last information and the last weights."""
    with np.load(folder / f"{name}-{index}.npz") as file:
        return dict(file)


def ended(folder, workers, **options):
    result = run(folder, workers, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return ended(tmp_path_factory.mktemp("alone"), 1)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    return ended(tmp_path_factory.mktemp("together"), 2)


def check_same(alone, folder, workers, sources=tuple(ALL)):
    """Checks that every one of some workers found what one process did."""
    for name in sources:
        one, several = saved(alone, name), saved(folder, name)
        for key in one:
            np.testing.assert_allclose(several[key], one[key], rtol=1e-9)
        expected, got = found(alone, name), found(folder, name)
        # The loss, and so its gradient, does not depend on the last biases, but for rounding
        # errors, by which Adam moves them.
        np.testing.assert_allclose(got["gradients"], expected["gradients"], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(got["F"], expected["F"], rtol=1e-9)
        np.testing.assert_allclose(got["weights"], expected["weights"], rtol=1e-7, atol=1e-7)
        for index in range(1, workers):
            for key, values in found(folder, name, index).items():
                np.testing.assert_array_equal(values, got[key])


@pytest.mark.slow
def test_two_workers_do_what_one_process_does(alone, together):
    check_same(alone, together, 2)


@pytest.mark.torture
@pytest.mark.parametrize("workers", [2, 4])
def test_workers_do_what_one_process_does_for_long(tmp_path, workers):
    updates = {"arrays": 300, "files": 300, "simulator": 300}
    folders = [ended(tmp_path / str(n), n, updates=updates) for n in (1, workers)]
    check_same(*folders, workers)


@pytest.mark.torture
def test_a_fit_of_four_workers_goes_on_with_another_number(alone, tmp_path):
    expected = found(alone, "arrays")
    ended(tmp_path, 4, updates={"arrays": 20})
    for index in range(4):
        got = found(tmp_path, "arrays", index)["gradients"]
        np.testing.assert_allclose(got, expected["gradients"], rtol=1e-9, atol=1e-12)
    for workers, updates in ((1, 40), (2, 60)):
        ended(tmp_path, workers, updates={"arrays": updates})
    for key, values in saved(alone, "arrays").items():
        np.testing.assert_allclose(saved(tmp_path, "arrays")[key], values, rtol=1e-9)
    np.testing.assert_allclose(found(tmp_path, "arrays")["F"], expected["F"], rtol=1e-9)


@pytest.mark.slow
def test_a_killed_worker_ends_the_others_and_the_same_command_goes_on(together, tmp_path):
    killed = run(tmp_path, 2, kill_after=33, updates={"arrays": 60})
    assert killed.returncode == 247
    assert "Worker 1 of 2 workers has stopped" in killed.stderr
    ended(tmp_path, 2, updates={"arrays": 60})
    for key in ("weights", "F"):
        np.testing.assert_array_equal(
            found(tmp_path, "arrays")[key], found(together, "arrays")[key]
        )
    for key, values in saved(together, "arrays").items():
        np.testing.assert_array_equal(saved(tmp_path, "arrays")[key], values)
