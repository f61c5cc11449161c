"""Fits spread over several processes give the same as one process, and survive their deaths."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# A user's script. It runs unchanged in one process and in several.
SCRIPT = """
import json, os, signal, sys, threading, time
from contextlib import nullcontext
from pathlib import Path
import keras, numpy as np, tensorflow as tf
from imnn_tf import IMNN
sys.path.append({tests!r})  # only now: it has a folder of the name of the package
import reference

folder, kill_after = Path(sys.argv[1]), int(sys.argv[2])
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

def fit(name, n_iterations, callbacks=None, **options):
    with strategy.scope() if strategy else nullcontext():
        model = reference.dense_model(width=16, dtype="float64")
    imnn = IMNN(
        θ_fid=reference.THETA_FID, δθ=reference.DELTA_THETA, model=model, dtype="float64",
        at_once=50, strategy=strategy, verbose=False, save=True, directory=folder, filename=name,
        load=(folder / name / "fit.npz").exists(), **options,
    )
    imnn.fit(n_iterations - len(imnn.history["loss"]), patience=150, checkpoint=10,
             callbacks=callbacks)
    assert np.isfinite(imnn.F).all()
    return imnn

arrays = dict(zip(["fiducial", "derivative"], reference.simulations(0, n_s=200)))
arrays |= dict(zip(["validation_fiducial", "validation_derivative"],
                   reference.simulations(1, n_s=200)))
kept = fit("arrays", 60, callbacks=[Slow()], **arrays)
if not kill_after:
    fit("stream", 20, cache=False, **arrays)
    # Without callbacks each worker measures for itself how long an update takes.
    def simulator(parameters, seed):
        noise = tf.random.stateless_normal([tf.shape(parameters)[0], 10], seed, dtype="float64")
        return parameters[:, :1] + tf.sqrt(parameters[:, 1:]) * noise
    fit("simulator", 100, simulator=simulator, n_s=200)
weights = np.concatenate([weight.ravel() for weight in kept.model.get_weights()])
np.save(folder / f"weights-{{index}}.npy", weights)
"""


def run(folder, workers, kill_after=0):
    folder.mkdir(exist_ok=True)
    script = folder / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parents[2])))
    launcher = ["-m", "imnn_tf.launch", "--workers", str(workers)] if workers > 1 else []
    return subprocess.run(
        [sys.executable, *launcher, str(script), str(folder), str(kill_after)],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )


def saved(folder, name):
    with np.load(folder / name / "history.npz") as history:
        return {key: history[key] for key in ("loss", "val_loss")}


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    result = run(folder, 2)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.mark.slow
def test_two_workers_do_what_one_process_does(together, tmp_path):
    alone = run(tmp_path, 1)
    assert alone.returncode == 0, alone.stderr
    for name in ("arrays", "stream", "simulator"):
        expected, got = saved(tmp_path, name), saved(together, name)
        for key in expected:
            np.testing.assert_allclose(got[key], expected[key], rtol=1e-9)
    weights = [np.load(together / f"weights-{index}.npy") for index in range(2)]
    np.testing.assert_array_equal(*weights)
    # The information does not depend on the last biases, which Adam moves by rounding errors.
    np.testing.assert_allclose(
        weights[0], np.load(tmp_path / "weights-0.npy"), rtol=1e-7, atol=1e-7
    )


@pytest.mark.slow
def test_a_killed_worker_ends_the_others_and_the_same_command_goes_on(together, tmp_path):
    killed = run(tmp_path, 2, kill_after=33)
    assert killed.returncode == 247
    assert "Worker 1 of 2 workers has stopped" in killed.stderr
    again = run(tmp_path, 2)
    assert again.returncode == 0, again.stderr
    np.testing.assert_array_equal(
        np.load(tmp_path / "weights-0.npy"), np.load(together / "weights-0.npy")
    )
    for key, values in saved(together, "arrays").items():
        np.testing.assert_array_equal(saved(tmp_path, "arrays")[key], values)
