"""Kernels as narrow as the neighbourhood of each particle."""

from functools import partial

import numpy as np
import pytest
from exact import FISHER, abc_posterior, moments
from scipy import stats

from imnn_tf.lfi import PopulationMonteCarlo
from imnn_tf.lfi.methods import local_kernels
from imnn_tf.lfi.methods.kernels import Mixture
from imnn_tf.lfi.methods.local_kernels import DefensiveMixture, LocalMixture


@pytest.fixture
def gaussian(target, box_prior, mean_variance, gaussian_draws):
    """Makes population Monte Carlo for the mean and variance of ten draws."""
    problem = target, box_prior, FISHER, mean_variance, gaussian_draws
    return partial(PopulationMonteCarlo, *problem, progress=False)


def two_lines(n, seed=0):
    """Particles on two short lines at right angles, far from each other, and their weights."""
    rng = np.random.default_rng(seed)
    particles = rng.normal(size=(n, 2)) * [0.01, 1.0]
    particles[n // 2 :] = particles[n // 2 :, ::-1] + 20
    weights = rng.uniform(0.5, 1.5, n)
    return particles, weights / weights.sum()


@pytest.mark.parametrize("held", [1_000_000, 700])
def test_density_is_the_sum_of_gaussians(held, monkeypatch):
    monkeypatch.setattr(local_kernels, "_ENTRIES_AT_A_TIME", held)
    particles, weights = two_lines(200)
    weights[3] = 0
    mixture = DefensiveMixture.of(particles, weights / weights.sum(), 0.3)
    points = particles[::10] + 0.005
    expected = np.zeros(len(points))
    for part, share in ((mixture.wide, 0.7), (mixture.narrow, 0.3)):
        scales = np.broadcast_to(part.scale if share == 0.7 else part.scales, (200, 2, 2))
        for centre, weight, scale in zip(particles, part.weights, scales, strict=True):
            kernel = stats.multivariate_normal(centre, scale @ scale.T)
            expected += share * weight * kernel.pdf(points)
    np.testing.assert_allclose(mixture.density(points), expected, rtol=1e-8)


def test_draws_have_the_density():
    particles, weights = two_lines(300)
    mixture = DefensiveMixture.of(particles, weights, 0.4)
    draws = mixture.draw(np.random.default_rng(1), 40_000)
    # The integral of any density over that of the draws is one.
    wide = np.cov(particles, rowvar=False)
    for mean, covariance in (
        ([0, 0], np.diag([0.01, 0.5]) ** 2),
        ([20, 20], np.diag([0.5, 0.01]) ** 2),
        ([10, 10], wide / 2),
    ):
        ratio = stats.multivariate_normal(mean, covariance).pdf(draws) / mixture.density(draws)
        assert abs(ratio.mean() - 1) < 4 * ratio.std() / 200 < 0.1


def test_kernels_have_the_shape_of_their_neighbourhood():
    particles, weights = two_lines(1000)
    scales = LocalMixture.of(Mixture.of(particles, weights)).scales
    spread = np.sqrt(np.diagonal(scales @ np.swapaxes(scales, 1, 2), axis1=1, axis2=2))
    along, across = spread[:500, 1], spread[:500, 0]
    assert np.median(along / across) > 3
    assert np.median(spread[500:, 0] / spread[500:, 1]) > 3
    assert np.quantile(spread, 0.95) < 1  # and not the distance of the lines from each other


def test_particles_on_a_plane_move_off_it_by_little():
    rng = np.random.default_rng(0)
    flat = np.column_stack([rng.normal(size=100), np.zeros(100)])
    wide = Mixture(flat, np.full(100, 0.01), np.eye(2))
    draws = LocalMixture.of(wide).draw(rng, 100)
    assert np.isfinite(draws).all()
    assert 0 < np.abs(draws[:, 1]).max() < 0.1


def test_posterior_is_the_exact_one(gaussian):
    pmc = gaussian(seed=5, local_kernels=0.2)
    pmc(1000, 3000, tolerance=1.0)
    result = pmc.result()
    mean, std = moments(*abc_posterior(pmc.estimate[0], 1.0))
    assert (np.abs(result.mean() - mean) < 4 * result.mean_error()).all()
    # Of samples that are not far from Gaussian, the relative error of a width is (2 ESS)^-1/2.
    assert (np.abs(result.std() / std - 1) < 6 / np.sqrt(2 * result.ess)).all()
    same = gaussian(seed=5, local_kernels=0.2)
    same(1000, 3000, tolerance=1.0)
    np.testing.assert_array_equal(same.result().samples, result.samples)


@pytest.mark.parametrize("share", [-0.1, 0.6])
def test_share_out_of_range_is_refused(gaussian, share):
    with pytest.raises(ValueError, match="`local_kernels` must be at"):
        gaussian(local_kernels=share)
