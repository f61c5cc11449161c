"""The example of a whole pipeline on a cluster: its exact formula, and workers killed in it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "cluster"


@pytest.fixture
def fields(monkeypatch):
    """The simulator of the example, which does not wait."""
    monkeypatch.syspath_prepend(FOLDER)
    import fields

    monkeypatch.setattr(fields, "SECONDS", 0.0)
    yield fields
    del sys.modules["fields"]


def test_the_fields_have_the_spectrum_they_are_asked_for(fields):
    n, theta = 500, np.array([0.7, 1.2])
    sample = fields.simulator(np.repeat([theta], n, axis=0), range(n))
    power = np.abs(np.fft.rfft2(sample.astype(float))) ** 2 / fields.SIZE**2
    power *= fields.K ** theta[1] / theta[0]
    # The mean of as many squared normal numbers as a band has modes, within 4 standard deviations.
    for low, high in [(0.1, 0.5), (0.5, 1.5), (1.5, 3), (3, 4.5)]:
        weights = np.where((low <= fields.K) & (high > fields.K), fields.COUNT, 0)
        mean = (weights * power).sum() / (n * weights.sum())
        assert abs(mean - 1) < 4 * np.sqrt(2 / (n * weights.sum()))


def test_the_sides_of_a_derivative_share_their_noise(fields):
    lower, upper = (fields.derivative(3, side, 0) for side in (0, 1))
    ratio = np.sqrt((1 + fields.DELTA_THETA[0] / 2) / (1 - fields.DELTA_THETA[0] / 2))
    np.testing.assert_allclose(upper, ratio * lower, rtol=1e-5, atol=1e-6)


def run(folder, *options):
    """What the example prints."""
    command = [sys.executable, str(FOLDER / "run.py"), "--short", "--folder", str(folder)]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_short_run(tmp_path):
    printed = run(tmp_path)
    for name in "AB":
        found = re.search(rf"{name} = (\S+) ± (\S+), true (\S+)", printed)
        mean, error, true = map(float, found.groups())
        assert abs(mean - true) < 4 * error


@pytest.mark.torture
def test_killed_workers_change_nothing(tmp_path):
    printed = run(tmp_path, "--kill")
    assert printed.count("killed tcp://") == 2
    assert printed.count("killed process") == 1
    compared = re.search(r"(\d+) results, of which different: none", printed)
    assert int(compared[1]) > 20
