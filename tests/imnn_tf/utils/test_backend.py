"""Keras must run on TensorFlow."""

import json
import os
import re
import subprocess
import sys

import pytest
import tensorflow as tf

from imnn_tf.utils.backend import quiet_start, without_start

PROGRAMS = ["from imnn_tf import IMNN", "from imnn_tf import Estimator", "from rim_tf import RIM"]


def last_line_of_error(program, environment):
    """The last line of the error that ends a program."""
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode != 0
    return run.stderr.splitlines()[-1]


@pytest.mark.parametrize("program", PROGRAMS)
def test_another_backend_of_keras_is_named(program):
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    message = "`KERAS_BACKEND` must be 'tensorflow', got 'jax'"
    assert message in last_line_of_error(program, environment)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("home", ["HOME", "KERAS_HOME"])
def test_another_backend_in_the_file_of_keras_is_named(tmp_path, program, home):
    folder = tmp_path / ".keras" if home == "HOME" else tmp_path
    folder.mkdir(exist_ok=True)
    (folder / "keras.json").write_text(json.dumps({"backend": "torch"}))
    environment = {**os.environ, home: str(tmp_path)}
    environment.pop("KERAS_BACKEND", None)
    message = f"`backend` in {folder / 'keras.json'} must be 'tensorflow', got 'torch'"
    assert message in last_line_of_error(program, environment)


@pytest.mark.parametrize("content", ['{"backend": "torch"}', "no JSON", '{"floatx": "float32"}'])
def test_the_environment_overrides_the_file(tmp_path, monkeypatch, content):
    from imnn_tf.utils.backend import require_tensorflow

    (tmp_path / "keras.json").write_text(content)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    require_tensorflow()
    if "backend" not in content:
        monkeypatch.delenv("KERAS_BACKEND")
        require_tensorflow()


QUIET = """
import os, sys
from imnn_tf.utils import quiet_start
with quiet_start():
    import tensorflow as tf
    os.write(2, b"E0000 00:00:1.0 1 cuda.cc:1] a real error\\n")
    print("a warning", file=sys.stderr)
print(os.environ.get("TF_CPP_MIN_LOG_LEVEL"))
tf.function(lambda x: x + 1.0, jit_compile=True)(tf.constant(1.0))  # XLA starts too
print("after", file=sys.stderr)
"""


# TensorFlow 2.20 says after the start, at the first compilation, that there was one.
OF_XLA = re.compile(r"Compiled cluster using XLA|before absl::InitializeLog")
OF_XLA = OF_XLA if tf.__version__.startswith("2.20.") else re.compile("(?!)")


@pytest.mark.parametrize("level", ["0", "3", None])
def test_a_quiet_start_shows_all_but_the_start(level):
    environment = {key: each for key, each in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    if level is not None:
        environment["TF_CPP_MIN_LOG_LEVEL"] = level
    command = [sys.executable, "-c", QUIET]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert run.stdout == f"{level}\n"
    ours = ["E0000 00:00:1.0 1 cuda.cc:1] a real error", "a warning", "after"]
    if level == "0":  # the user asked for everything
        assert len(run.stderr.splitlines()) > len(ours)
        assert set(ours) < set(run.stderr.splitlines())
    else:
        assert [line for line in run.stderr.splitlines() if not OF_XLA.search(line)] == ours


def test_an_error_of_the_start_is_shown_and_raised(capfd, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)

    def start():
        with quiet_start():
            os.write(2, b"a library is missing\n")
            raise ImportError("no library")

    with pytest.raises(ImportError, match="no library"):
        start()
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "a library is missing\nlater\n"


def test_other_errors_about_a_gpu_are_no_part_of_the_start():
    number = (
        "E0000 00:00:1796.5 10 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error"
    )
    missing = f"{number}: Failed call to cuInit: UNKNOWN ERROR (303)\n"
    broken = f"{number}: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH\n"
    assert without_start(missing + broken) == broken
