"""What contours of samples hold of the true probability, by fresh draws from it."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.interpolate import RegularGridInterpolator

from imnn_tf.lfi import Posterior

LEVELS = np.array([0.68, 0.95, 0.99])


def gaussian(n, rng, p=2, correlation=0.0):
    covariance = np.full((p, p), correlation) + (1 - correlation) * np.eye(p)
    return rng.normal(size=(n, p)) @ np.linalg.cholesky(covariance).T


def tight(n, rng):
    return gaussian(n, rng, correlation=0.999)


def five(n, rng):
    return gaussian(n, rng, 5, 0.5) * 10.0 ** np.arange(-9, 6, 3)


def three(n, rng):
    """A curved sheet in three dimensions."""
    x = rng.normal(size=(n, 3))
    return np.stack([x[:, 0], x[:, 1] + 0.5 * x[:, 0] ** 2, x[:, 2] - x[:, 1]], axis=1)


def banana(n, rng):
    x = rng.normal(size=(n, 2))
    return np.stack([x[:, 0], 0.3 * x[:, 1] + x[:, 0] ** 2], axis=1)


def edged(n, rng):
    """Densities that are highest at their hard edges."""
    return np.stack([np.abs(rng.normal(size=n)), rng.exponential(size=n)], axis=1)


def heavy(n, rng):
    return rng.normal(size=(n, 2)) / np.sqrt(rng.chisquare(5, (n, 1)) / 5)


def contents(posterior, fresh):
    """What the contours of each pair hold, and into how many pieces they fall."""
    marginals = posterior.marginals()
    held, pieces = [], []
    for (i, j), density in marginals.pairs.items():
        heights = marginals.contour_heights(i, j, LEVELS)
        axes = marginals.points[i], marginals.points[j]
        drawn = RegularGridInterpolator(axes, density, bounds_error=False, fill_value=0.0)
        values = drawn(fresh[:, [i, j]])
        held.append([(values >= height).mean() for height in heights])
        pieces.append([ndimage.label(density > h, np.ones((3, 3)))[1] for h in heights])
    return np.array(held), np.array(pieces)


@pytest.mark.parametrize("draw", [gaussian, tight, banana, edged, heavy, three, five])
@pytest.mark.parametrize("n", [300, 3000])
def test_contours_hold_what_they_claim(draw, n):
    rng = np.random.default_rng(7)
    fresh = draw(20_000, rng)
    low = np.zeros(2) if draw is edged else None
    repeats = {2: 12, 3: 6, 5: 3}[fresh.shape[1]]
    results = [contents(Posterior(draw(n, rng), low=low), fresh) for _ in range(repeats)]
    held = np.concatenate([result[0] for result in results])
    # What the contours of n samples hold scatters about what they claim as shares of n draws do.
    # The pairs of one set of samples are not independent, so only the sets count.
    scatter = np.sqrt(LEVELS * (1 - LEVELS) * (1 / (n * repeats) + 1 / len(fresh)))
    error = held.mean(axis=0) - LEVELS
    assert (np.abs(error) < np.minimum(0.02, 0.005 + 3 * scatter)).all(), error
    pieces = np.concatenate([result[1] for result in results])
    assert pieces.mean() < (1.25 if n == 300 else 1.02), pieces


def test_contours_of_many_samples_hold_what_they_claim():
    rng = np.random.default_rng(8)
    for draw in (gaussian, banana):
        held, pieces = contents(Posterior(draw(100_000, rng)), draw(100_000, rng))
        assert (np.abs(held - LEVELS) < 0.01).all()
        assert (pieces == 1).all()


def test_contours_of_weighted_samples_hold_what_they_claim():
    rng = np.random.default_rng(9)
    fresh, held, pieces = rng.normal(size=(20_000, 2)), [], []
    for _ in range(12):
        # From a Gaussian of 1.5 times the width, as a population of particles may be.
        samples = 1.5 * rng.normal(size=(1500, 2))
        weights = np.exp(-(samples**2).sum(axis=1) / 2 * (1 - 1 / 1.5**2))
        results = contents(Posterior(samples, weights), fresh)
        held.append(results[0][0])
        pieces.append(results[1][0])
    assert (np.abs(np.mean(held, axis=0) - LEVELS) < 0.015).all()
    assert (np.array(pieces) == 1).all()


def test_repeated_samples_count_as_one_with_more_weight():
    rng = np.random.default_rng(10)
    samples, repeats = rng.normal(size=(400, 2)), rng.integers(1, 6, 400)
    chain = Posterior(np.repeat(samples, repeats, axis=0)).marginals()
    weighted = Posterior(samples, repeats).marginals()
    np.testing.assert_allclose(chain.pairs[0, 1], weighted.pairs[0, 1], atol=1e-12)
    heights = [each.contour_heights(0, 1, LEVELS) for each in (chain, weighted)]
    np.testing.assert_allclose(*heights)


def test_densities_do_not_depend_on_units():
    samples = np.random.default_rng(11).normal(size=(500, 2)) @ [[1, 0.3], [0, 1]]
    units = np.array([1e-15, 1e15])
    plain = Posterior(samples, low=[-1, -np.inf]).marginals()
    scaled = Posterior(samples * units, low=[-1e-15, -np.inf]).marginals()
    np.testing.assert_allclose(scaled.pairs[0, 1], plain.pairs[0, 1], rtol=1e-6, atol=1e-9)
    for i in range(2):
        np.testing.assert_allclose(scaled.points[i], plain.points[i] * units[i])
        np.testing.assert_allclose(scaled.single[i] * units[i], plain.single[i], atol=1e-9)


def test_densities_end_at_hard_edges_and_not_before():
    rng = np.random.default_rng(12)
    flat = Posterior(rng.uniform(size=(4000, 2)), low=[0, 0], high=[1, 1]).marginals()
    for points, density in zip(flat.points, flat.single, strict=True):
        assert (points[0], points[-1]) == (0, 1)
        # Kernels over an edge without a mirror would lose half of the density there.
        assert (np.abs(density - 1) < 0.25).all()


def test_axes_follow_the_mass_and_not_the_prior():
    rng = np.random.default_rng(13)
    posterior = Posterior(rng.normal(10, 1, (2000, 2)), low=[0, 0], high=[1e9, 1e9])
    for bins in (None, 25):
        axes = posterior.plot(bins=bins)
        for ax in (axes[0, 0], axes[1, 0], axes[1, 1]):
            low, high = ax.get_xlim()
            assert 4 < low < 8
            assert 12 < high < 16
        assert len(axes[0, 0].lines[0].get_xdata()) >= 25


def test_a_single_sample_and_a_constant_parameter_have_densities():
    for samples in (np.full((1, 2), 3e-9), np.array([[1.0, 2.0], [1.0, 3.0], [1.0, 5.0]])):
        marginals = Posterior(samples).marginals()
        for density, widths in zip(marginals.single, marginals.widths, strict=True):
            assert density @ widths == pytest.approx(1)
        assert np.isfinite(marginals.contour_heights(0, 1, LEVELS)).all()


def test_ranges_cut_the_samples():
    samples = np.random.default_rng(14).normal(size=(3000, 1))
    marginals = Posterior(samples).marginals(ranges=[(0, 2)])
    assert marginals.points[0][0] == 0
    assert marginals.single[0] @ marginals.widths[0] == pytest.approx(1)
    np.testing.assert_allclose(marginals.single[0][0], 0.3989 / 0.4772, rtol=0.1)
    with pytest.raises(ValueError, match="`ranges` must contain samples"):
        Posterior(samples).marginals(ranges=[(8, 9)])
    with pytest.raises(ValueError, match="`ranges` must have 1 entries, got 2"):
        Posterior(samples).marginals(ranges=[(8, 9)] * 2)
