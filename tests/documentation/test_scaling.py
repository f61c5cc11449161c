"""Runs the code of docs/scaling.md as the page says: in several processes, and under SLURM."""

import os
import subprocess
import sys

import pytest
from documentation.test_pages import ROOT, parsed

# What a reader has: simulations and a model.
GIVEN = """
import numpy as np, keras
noise = np.random.default_rng(0).normal(size=(4, 60, 10)).astype("float32")
sides = np.array([[[0.95, 0.0], [1.0, -0.05]], [[1.05, 0.0], [1.0, 0.05]]], "float32")[..., None]
vary = lambda z: z[:, None, None] * np.sqrt(sides[:, :, 0]) + sides[:, :, 1]
arguments = dict(θ_fid=[1.0, 0.0], δθ=[0.1, 0.1], verbose=False, fiducial=noise[0])
arguments |= dict(derivative=vary(noise[1]), validation_fiducial=noise[2])
arguments |= dict(validation_derivative=vary(noise[3]))
initial = keras.initializers.GlorotUniform
make_model = lambda: keras.Sequential([
    keras.Input((10,)), keras.layers.Dense(8, "gelu", kernel_initializer=initial(0)),
    keras.layers.Dense(2, kernel_initializer=initial(1))])
"""
# TensorFlow must see the strategy before anything else.
IMPORTS = "import tensorflow as tf\nfrom imnn_tf import IMNN\n"


def blocks():
    """The four blocks of the page: a script, SLURM, a data set, and the part of a job."""
    script, slurm, data_set, part = parsed(ROOT / "docs" / "scaling.md")
    return script, slurm, data_set, part


def run(folder, script, *command, **environment):
    (folder / "script.py").write_text(script, encoding="utf-8")
    return subprocess.run(
        [sys.executable, *command, "script.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"} | environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.mark.slow  # two processes start TensorFlow
def test_the_script_of_the_page_trains_in_two_processes(tmp_path):
    script = str(blocks()[0].parsed)
    assert "imnn.fit(2000" in script
    script = GIVEN + script.replace("2000", "20") + '\nassert len(imnn.history["loss"]) == 20'
    for _ in range(2):  # the second time there is nothing left to do
        done = run(tmp_path, script, "-m", "imnn_tf.launch", "--workers", "2")
        assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "fits" / "spread" / "fit.npz").exists()


def test_slurm_names_the_workers(tmp_path):
    slurm = str(blocks()[1].parsed)
    last = "\nassert strategy.num_replicas_in_sync == 1"
    given = {
        "SLURM_PROCID": "0",
        "SLURM_STEP_NUM_TASKS": "1",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_TASKS_PER_NODE": "1",
    }
    done = run(tmp_path, IMPORTS + slurm + last, **given)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_data_set_is_written_by_workers_and_in_parts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    _, _, data_set, part = blocks()
    given = {"n_s": 4, "get_fiducial": lambda seed: [float(seed)] * 3, "client": 1}
    data_set.document.namespace.update(given)
    data_set.evaluate()
    (path,) = (tmp_path / "data").glob("*.tfrecords")
    written = path.read_bytes()
    part.evaluate()
    assert path.read_bytes() == written
