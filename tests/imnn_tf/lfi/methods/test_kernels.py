import time

import numpy as np
import pytest
from scipy import stats

from imnn_tf.lfi.methods import kernels
from imnn_tf.lfi.methods.kernels import Mixture, importance_weights, propose


@pytest.fixture
def mixture():
    rng = np.random.default_rng(0)
    weights = rng.uniform(size=30)
    return Mixture.of(rng.normal([3, -50], [1, 9], (30, 2)), weights / weights.sum())


def test_kernels_have_twice_the_weighted_covariance(mixture):
    expected = 2 * np.cov(mixture.centres.T, aweights=mixture.weights)
    np.testing.assert_allclose(mixture.scale @ mixture.scale.T, expected)


@pytest.mark.parametrize("held", [1, 100, 10**6])
def test_density_is_scipys(mixture, held, monkeypatch):
    monkeypatch.setattr(kernels, "_ENTRIES_AT_A_TIME", held)
    points = np.random.default_rng(1).normal([3, -50], [2, 20], (40, 2))
    covariance = mixture.scale @ mixture.scale.T
    expected = sum(
        weight * stats.multivariate_normal(centre, covariance).pdf(points)
        for centre, weight in zip(mixture.centres, mixture.weights, strict=True)
    )
    np.testing.assert_allclose(mixture.density(points), expected, rtol=1e-9)


def test_particles_without_weight_do_not_count(mixture):
    weights = mixture.weights.copy()
    weights[:10] = 0
    some = mixture._replace(weights=weights)
    rest = mixture._replace(centres=mixture.centres[10:], weights=weights[10:])
    points = mixture.centres[:5]
    np.testing.assert_allclose(some.density(points), rest.density(points))


def test_draws_follow_the_density():
    # With one parameter, the distribution function is a sum of normal ones.
    mixture = Mixture(np.array([[0.0], [5.0]]), np.array([0.3, 0.7]), np.array([[2.0]]))
    draws = mixture.draw(np.random.default_rng(1), 5000)[:, 0]

    def cdf(x):
        return 0.3 * stats.norm(0, 2).cdf(x) + 0.7 * stats.norm(5, 2).cdf(x)

    assert stats.kstest(draws, cdf).pvalue > 1e-3


def test_proposals_have_the_mixtures_density_within_the_support():
    # Half of the first kernel lies outside the support, and none of the second. If only moves
    # were repeated, the first would get 30 % of the draws instead of 15 / 85.
    mixture = Mixture(np.array([[0.0], [50.0]]), np.array([0.3, 0.7]), np.array([[2.0]]))
    rng = np.random.default_rng(2)
    points, tried = propose(mixture, lambda x: x[:, 0] > 0, 20_000, rng)
    assert (points > 0).all()
    share = 0.15 / 0.85
    error = np.sqrt(share * (1 - share) / 20_000)
    assert abs((points < 25).mean() - share) < 4 * error
    assert abs(20_000 / tried - 0.85) < 4 * np.sqrt(0.85 * 0.15 / tried)


def test_importance_weights_turn_the_mixture_into_the_prior():
    rng = np.random.default_rng(3)
    mixture = Mixture(rng.uniform(size=(50, 1)), np.full(50, 0.02), np.array([[0.5]]))
    points, _ = propose(mixture, lambda x: ((x > 0) & (x < 1)).all(axis=1), 40_000, rng)
    prior = stats.beta(2, 3)
    weights = importance_weights(mixture, points, prior.pdf(points[:, 0]))
    ess = 1 / (weights**2).sum()
    assert weights.sum() == pytest.approx(1)
    mean = weights @ points[:, 0]
    assert abs(mean - prior.mean()) < 4 * prior.std() / np.sqrt(ess)
    second = weights @ points[:, 0] ** 2
    spread = np.sqrt((prior.moment(4) - prior.moment(2) ** 2) / ess)
    assert abs(second - prior.moment(2)) < 4 * spread


def test_ten_thousand_particles_are_weighed_in_about_a_second():
    rng = np.random.default_rng(4)
    particles = rng.normal(size=(10_000, 2))
    mixture = Mixture.of(particles, np.full(10_000, 1e-4))
    start = time.process_time()
    importance_weights(mixture, particles, np.ones(10_000))
    # It was measured well below one second; a busy machine takes several times that.
    assert time.process_time() - start < 5


def test_a_population_in_one_place_is_refused():
    with pytest.raises(ValueError, match="span 2 parameters"):
        Mixture.of(np.ones((5, 2)), np.full(5, 0.2))


def test_a_prior_out_of_reach_is_reported():
    mixture = Mixture(np.zeros((1, 1)), np.ones(1), np.ones((1, 1)))
    with pytest.raises(RuntimeError, match=r"0 of \d+ particles"):
        propose(mixture, lambda x: np.zeros(len(x), bool), 3, np.random.default_rng(0))


def test_few_draws_are_spent_on_a_prior_that_supports_none(mixture):
    drawn = []

    def supports(points):
        drawn.append(len(points))
        return np.zeros(len(points), bool)

    with pytest.raises(
        RuntimeError, match=r"`prior` supports 0 of .* use `ApproximateBayesianComp"
    ):
        propose(mixture, supports, 5000, np.random.default_rng(0))
    assert sum(drawn) < 200_000
