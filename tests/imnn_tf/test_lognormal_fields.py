"""The example of log-normal maps: its exact formulas, and a short run of it."""

import re

import numpy as np
import pytest
import scripts


@pytest.fixture(scope="module")
def example():
    """The script as a module."""
    return scripts.example("lognormal_fields")


def test_the_logarithm_has_the_spectrum_it_is_asked_for(example):
    n, (A, B) = 500, (0.3, 0.8)
    rng = np.random.default_rng(0)
    field = np.log(example.lognormal([A, B], rng.normal(size=(n, 32, 32))))
    power = np.abs(np.fft.rfft2(field.astype(float))) ** 2 / 32**2 * example.K**B / A
    # The mean of as many squared normal numbers as a band has modes, within 4 standard deviations.
    for low, high in [(0.1, 0.5), (0.5, 1.5), (1.5, 3), (3, 4.5)]:
        weights = np.where((low <= example.K) & (high > example.K), example.COUNT, 0)
        mean = (weights * power).sum() / (n * weights.sum())
        assert abs(mean - 1) < 4 * np.sqrt(2 / (n * weights.sum()))


def test_the_estimates_from_the_score_are_efficient(example):
    fresh, varied = example.simulations(2000, 5)
    estimates = example.efficient_estimates(fresh)
    covariance = np.linalg.inv(example.exact_fisher())
    errors = np.sqrt(np.diag(covariance))
    np.testing.assert_array_less(abs(estimates.mean(0) - example.THETA_FID), 4 * errors / 44)
    white = np.linalg.cholesky(np.linalg.inv(covariance)).T @ np.cov(estimates.T)
    white = white @ np.linalg.cholesky(np.linalg.inv(covariance))
    np.testing.assert_allclose(white, np.eye(2), atol=4 * np.sqrt(2 / 2000))
    # The sides share their noise: the slope of the estimates is one, but for that of the error.
    sides = [[example.efficient_estimates(varied[:, i, j]).mean(0) for j in (0, 1)] for i in (0, 1)]
    slope = (np.array(sides[1]) - sides[0]) / example.DELTA_THETA[:, None]
    np.testing.assert_allclose(slope, np.eye(2), atol=0.1)


def test_a_learned_function_is_scaled_to_the_logarithm(example):
    values = np.linspace(0.3, 3, 100)
    got = example.as_logarithm(5 - 2 * np.log(values), values, np.arange(1, 101))
    np.testing.assert_allclose(got, np.log(values), atol=1e-10)


def test_a_short_run(example, tmp_path, capsys):
    example.main(tmp_path, 100, updates=15, seed=0)
    printed = capsys.readouterr().out
    exact = float(re.search(r"exact\s+det F = ([\d.]+)", printed)[1])
    assert exact == pytest.approx(np.linalg.det(example.exact_fisher()), rel=1e-3)
    share = float(re.search(r"kept\s+([\d.]+) of it", printed)[1])
    assert 0.02 < share < 1
    assert (tmp_path / "lognormal_fields.png").stat().st_size > 10_000
