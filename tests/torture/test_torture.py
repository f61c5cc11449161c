"""A short form of `make torture`."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_nothing_is_lost_and_nothing_is_silent():
    command = [sys.executable, str(Path(__file__).parent / "run.py"), "--quick"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    assert "failures: none" in run.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_workers_of_a_fit_may_be_killed_and_slow():
    command = [sys.executable, str(Path(__file__).parent / "workers.py")]
    command += ["--kills", "2", "--slowed", "1"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    assert "2 resumed" in run.stdout
    assert "1 slowed" in run.stdout
