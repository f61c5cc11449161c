"""Keras must run on TensorFlow."""

import json
import os
import subprocess
import sys

import pytest

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
