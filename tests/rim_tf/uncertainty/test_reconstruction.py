"""Intervals of pixels, their calibration, and mixtures, against closed forms."""

import re
from operator import attrgetter

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import laplace, norm

import rim_tf
from rim_tf import Ensemble, Reconstruction, pixel_coverage
from rim_tf.uncertainty.calibration import interval_factors
from rim_tf.uncertainty.reconstruction import combine


def identity(u):
    return u


def reconstruction(shape=(50, 20, 1), seed=0, link=identity):
    random = np.random.default_rng(seed)
    return Reconstruction(random.normal(size=shape), random.uniform(0.1, 2.0, shape), link)


def residuals(distribution, shape, seed):
    draws = distribution.rvs(size=shape, random_state=np.random.default_rng(seed))
    return draws / distribution.std()


@pytest.mark.parametrize("level", [0.1, 0.5, 0.68, 0.95, 0.9999, 0.999999])
def test_intervals_are_those_of_a_gaussian_unless_calibrated(level):
    found = reconstruction()
    low, high = found.interval(level)
    # The table is linear between levels that a Gaussian has at multiples of 1/8.
    expected = norm.interval(level, found.u, found.deviation)
    np.testing.assert_allclose((low, high), expected, rtol=1e-6, atol=1e-6)


def test_the_error_is_half_the_width_of_one_standard_deviation():
    found = reconstruction()
    np.testing.assert_allclose(found.error, found.deviation, rtol=1e-6)
    rising = reconstruction(link=tf.exp)
    expected = 0.5 * (np.exp(rising.u + rising.deviation) - np.exp(rising.u - rising.deviation))
    np.testing.assert_allclose(rising.error, expected, rtol=1e-6)


def test_a_link_that_falls_has_its_ends_in_order():
    found = reconstruction(link=lambda u: -u)
    low, high = found.interval(0.9)
    assert (low < high).all()
    np.testing.assert_allclose(found.x, -found.u)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 68])
def test_levels_are_probabilities(level):
    with pytest.raises(ValueError, match="`level` must be"):
        reconstruction().interval(level)


def test_coverage_counts_pixels_within_their_intervals():
    found = reconstruction((2000, 25, 1))
    truth = found.u + found.deviation * residuals(norm(), found.u.shape, 1)
    measured = pixel_coverage(found, truth, [0.5, 0.95])
    np.testing.assert_allclose(measured.shares, [0.5, 0.95], atol=4 * np.sqrt(0.25 / 50_000))
    # Pixels are independent here, so the scatter between images is binomial.
    expected = np.sqrt(np.array([0.25, 0.0475]) / 50_000)
    np.testing.assert_allclose(measured.errors, expected, rtol=0.1)
    assert "within 50%: 0.50" in repr(measured)


def test_unknown_pixels_do_not_count():
    found = reconstruction((3, 4, 1))
    truth = found.u.copy()
    truth[:, 2:] = np.nan
    np.testing.assert_array_equal(pixel_coverage(found, truth, [0.5]).by_image, 1.0)


def test_coverage_refuses_another_shape():
    with pytest.raises(ValueError, match="`x` must have shape"):
        pixel_coverage(reconstruction((3, 4, 1)), np.zeros((3, 4)))


def test_calibrated_intervals_hold_heavy_tails():
    found = reconstruction((1000, 50, 1))
    draws = laplace(scale=3.0)
    truth = found.u + 3.0 * found.deviation * residuals(draws, found.u.shape, 2)
    factors = interval_factors(found, truth)
    calibrated = Reconstruction(found.u, found.deviation, identity, factors)
    other = found.u + 3.0 * found.deviation * residuals(draws, found.u.shape, 3)
    levels = np.array([0.3, 0.68, 0.95])
    shares = pixel_coverage(calibrated, other, list(levels)).shares
    # Both the factors and the shares are from 50,000 pixels.
    np.testing.assert_array_less(
        np.abs(shares - levels), 4 * np.sqrt(2 * levels * (1 - levels) / 50_000) + 1e-3
    )
    # Quantiles of a Laplace distribution of unit variance, times three.
    exact = -3.0 * np.log(1 - levels) / np.sqrt(2)
    np.testing.assert_allclose([calibrated.half_width(each) for each in levels], exact, rtol=0.03)


def test_factors_refuse_what_is_not_known():
    found = reconstruction((2, 3, 1))
    with pytest.raises(ValueError, match="known parameters"):
        interval_factors(found, np.full((2, 3, 1), np.nan))
    with pytest.raises(ValueError, match="must have shape"):
        interval_factors(found, np.zeros((2, 3)))


def test_a_mixture_has_the_mean_and_the_variance_of_its_members():
    members = [reconstruction(seed=seed) for seed in range(3)]
    mixture = combine(members)
    random = np.random.default_rng(4)
    which = random.integers(3, size=200_000)
    draws = np.array(
        [random.normal(each.u[0, 0, 0], each.deviation[0, 0, 0], len(which)) for each in members]
    )[which, np.arange(len(which))]
    assert mixture.u[0, 0, 0] == pytest.approx(draws.mean(), abs=4 * draws.std() / 447)
    assert mixture.deviation[0, 0, 0] == pytest.approx(draws.std(), rel=0.02)


def test_an_ensemble_needs_two_models_of_errors():
    with pytest.raises(TypeError, match="`members` must be `PixelErrors`, got int"):
        Ensemble([1, 2])
    with pytest.raises(ValueError, match="at least two, got 0"):
        Ensemble([])


def test_the_docstring_of_the_coverage_names_what_users_have():
    named = re.findall("`([A-Za-z.]+)`", pixel_coverage.__doc__)
    assert {"PixelErrors.predict", "Ensemble.predict"} <= set(named)
    for name in named:
        assert callable(attrgetter(name)(rim_tf)), name
