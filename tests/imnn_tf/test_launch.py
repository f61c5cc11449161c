"""Scripts in several processes. These scripts do not use TensorFlow."""

import json
import subprocess
import sys
import time

import pytest

SCRIPT = """
import json, os, sys, time
task = json.loads(os.environ["TF_CONFIG"])
index = task["task"]["index"]
print(index, len(set(task["cluster"]["worker"])), *sys.argv[1:], flush=True)
"""


def launch(tmp_path, script, *arguments, workers=3):
    path = tmp_path / "script.py"
    path.write_text(script)
    command = [sys.executable, "-m", "imnn_tf.launch", "--workers", str(workers), str(path)]
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_every_worker_knows_the_others_and_gets_the_arguments(tmp_path):
    result = launch(tmp_path, SCRIPT, "--rate", "3")
    assert result.returncode == 0, result.stderr
    expected = {"0 3 --rate 3", "[worker 1] 1 3 --rate 3", "[worker 2] 2 3 --rate 3"}
    assert set(result.stdout.splitlines()) == expected


@pytest.mark.parametrize(
    ("end", "code"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), 9)", 247), ("1 / 0", 1)]
)
def test_the_exit_code_is_that_of_the_first_failure(tmp_path, end, code):
    script = f"{SCRIPT}\nif index == 1: {end}\nelse: time.sleep(3)"
    assert launch(tmp_path, script).returncode == code


def test_workers_that_hang_after_a_failure_are_ended(tmp_path, monkeypatch):
    from imnn_tf import launch as module

    monkeypatch.setattr(module, "_GRACE", 1.0)
    path = tmp_path / "script.py"
    path.write_text(f"{SCRIPT}\nif index == 0: sys.exit(3)\ntime.sleep(600)")
    started = time.monotonic()
    assert module.main(["--workers", "2", str(path)]) == 3
    assert time.monotonic() - started < 30


def test_the_number_of_workers_is_checked(tmp_path):
    result = launch(tmp_path, SCRIPT, workers=0)
    assert result.returncode == 2
    assert "--workers must be at least 1, got 0" in result.stderr


def test_addresses_are_those_of_free_ports():
    from imnn_tf.launch import _configuration, _free_addresses

    addresses = _free_addresses(4)
    assert len(set(addresses)) == 4
    assert json.loads(_configuration(addresses, 2))["task"] == {"type": "worker", "index": 2}
