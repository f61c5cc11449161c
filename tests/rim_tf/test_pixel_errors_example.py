"""The example of errors on photographs: its groups, its data, what it counts, and a short run."""

import numpy as np
import pytest
import scripts

from rim_tf import Reconstruction


@pytest.fixture(scope="module")
def example():
    """The script as a module."""
    return scripts.example("rim_pixel_errors")


def images(count, shape=(100, 90)):
    """Images with smooth structures, between 0 and 1."""
    random = np.random.default_rng(0)
    rows, columns = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    waves = random.uniform(0.02, 0.3, (count, 2))
    return [0.5 + 0.4 * np.sin(a * rows + b * columns) for a, b in waves]


def test_no_photograph_is_in_two_groups(example):
    names = example.groups(example.NAMES)
    assert {group: len(each) for group, each in names.items()} == example.SHARES
    assert sorted(name for group in names.values() for name in group) == sorted(example.NAMES)
    assert names == example.groups(example.NAMES[::-1])
    assert names != example.groups(example.NAMES, seed=1)


def test_data_have_the_noise_that_they_say(example):
    found = images(3)
    y, x, sigma = example.observed(found, 64, seed=1)
    assert y.shape == x.shape == (3 * len(example.LEVELS), 64, 64, 1)
    np.testing.assert_allclose(x[-1, ..., 0], found[-1][18:82, 13:77], rtol=1e-6)
    # 4,096 numbers give a standard deviation to 1.1 %.
    np.testing.assert_allclose((y - x).std((1, 2, 3)), sigma, rtol=0.05)
    (y, sigma), x, weight = next(iter(example.training_data(found, 16, seed=2)))
    np.testing.assert_allclose(np.std(y - x, (1, 2, 3)), sigma, rtol=4 / np.sqrt(2 * 1600))
    np.testing.assert_allclose(weight * sigma, example.NOISE[0], rtol=1e-6)


def test_bins_tell_errors_that_are_right_only_on_average(example):
    random = np.random.default_rng(3)
    deviation = random.uniform(0.1, 1.0, (4, 50, 50, 1))
    x = np.sqrt(0.3) * random.normal(size=deviation.shape)
    halves = [
        example.Tested(x[half], x[half], Reconstruction(0 * x[half], deviation[half], lambda u: u))
        for half in (slice(2), slice(2, None))
    ]
    rows = example.by_error(halves)
    predicted, actual, within = np.array(rows).T
    assert (np.diff(predicted) > 0).all()
    np.testing.assert_allclose(actual, np.sqrt(0.3), rtol=4 / np.sqrt(2 * 2000))
    assert within[0] < 0.4
    assert within[-1] > 0.8


@pytest.mark.slow
def test_a_short_run_reports_every_photograph(example, monkeypatch, tmp_path, capsys):
    found = dict(zip(example.NAMES, images(len(example.NAMES)), strict=True))
    monkeypatch.setattr(example, "photographs", lambda: found)
    monkeypatch.setattr("sys.argv", ["rim_pixel_errors.py", "--quick"])
    monkeypatch.chdir(tmp_path)
    example.main()
    assert (tmp_path / "figures" / "rim_pixel_errors.png").stat().st_size > 10_000
    said = capsys.readouterr().out
    for name in example.groups(example.NAMES)["test"]:
        assert f"\n{name}" in said
    shares = [float(share) for share in said.split("\nall")[1].splitlines()[0].split()]
    # All images are of the same kind.
    np.testing.assert_allclose(shares, [0.5, 0.68, 0.95], atol=0.05)
