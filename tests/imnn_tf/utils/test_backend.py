"""Keras must run on TensorFlow."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "program",
    ["from imnn_tf import IMNN", "from imnn_tf import Estimator", "from rim_tf import RIM"],
)
def test_another_backend_of_keras_is_named(program):
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode != 0
    message = "`KERAS_BACKEND` must be 'tensorflow', got 'jax'"
    assert message in run.stderr.splitlines()[-1]
