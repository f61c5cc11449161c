"""A Gaussian approximation whose Fisher information has an error."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_probability as tfp
from scipy import stats

from imnn_tf.lfi import GaussianApproximation
from imnn_tf.lfi.posterior.normal import Normal, degrees_of

FISHER = np.array([[10.0, 2.0], [2.0, 5.0]])
PRIOR = tfp.distributions.Blockwise([tfp.distributions.Uniform(-50.0, 50.0)] * 2)


def evaluation(error):
    return SimpleNamespace(fisher=FISHER, log_det_fisher_std=error)


def approximation(fisher=None, **options):
    fisher = evaluation(0.4) if fisher is None else fisher
    return GaussianApproximation(
        np.zeros((1, 2)), PRIOR, fisher, lambda data: np.asarray(data, float), **options
    )


@pytest.mark.parametrize("p", [1, 2, 4])
def test_the_density_is_that_of_student(p):
    rng, m = np.random.default_rng(p), 9.0
    root = rng.normal(size=(p, p))
    fisher = root @ root.T + np.eye(p)
    points = rng.normal(size=(20, p))
    freedom = m + 1 - p
    student = stats.multivariate_t(np.ones(p), np.linalg.inv(fisher) * m / freedom, df=freedom)
    found = Normal(np.ones(p), fisher, m).log_prob(points)
    np.testing.assert_allclose(found, student.logpdf(points), rtol=1e-10)


def test_draws_have_the_covariance():
    normal = Normal(np.array([1.0, 2.0]), FISHER, 15.0)
    draws = normal.draws(np.random.default_rng(0).normal(size=(400_000, 2)))
    # The fourth moments of 14 degrees of freedom give an error of 0.3 %.
    np.testing.assert_allclose(np.cov(draws.T), normal.covariance, rtol=0.02, atol=2e-3)
    np.testing.assert_allclose(normal.covariance, 15 / 12 * np.linalg.inv(FISHER))
    np.testing.assert_allclose(draws.mean(0), [1, 2], atol=5e-3)


def test_degrees_give_the_error_back():
    # The covariance of m + 1 normal simulations, of which the error of ln det was taken.
    m = degrees_of(0.2, 2)
    assert m == pytest.approx(100)
    scatter = stats.wishart(df=100, scale=np.eye(2)).rvs(4000, random_state=0)
    assert np.linalg.slogdet(scatter)[1].std() == pytest.approx(0.2, rel=0.05)


def test_an_error_widens_and_keeps_the_evidence():
    widened, plain = approximation(), approximation(FISHER)
    np.testing.assert_array_equal(widened.F, FISHER)
    grid = np.array([[0.0, 3.0], [0.0, 0.0]])
    there, here = widened.log_prob(grid)[0], plain.log_prob(grid)[0]
    assert there[0] < here[0]
    assert there[1] > here[1]
    # The prior is flat and wide, so the evidence is its density.
    np.testing.assert_allclose(widened.log_evidence(), [-2 * np.log(100)], atol=1e-3)
    samples = widened.result(n=200_000).samples
    m = degrees_of(0.4, 2)
    np.testing.assert_allclose(
        np.cov(samples.T), np.linalg.inv(FISHER) * m / (m - 3), rtol=0.03, atol=3e-3
    )


def test_widening_is_by_choice():
    np.testing.assert_array_equal(
        approximation(widen=False).log_prob(gridsize=5),
        approximation(FISHER).log_prob(gridsize=5),
    )
    with pytest.raises(ValueError, match="`Fisher` must have an error of ln det F"):
        approximation(FISHER, widen=True)
    with pytest.raises(ValueError, match=r"at most 1 to .*, got 1\.5"):
        approximation(evaluation(1.5))
    with pytest.raises(ValueError, match="got nan"):
        approximation(evaluation(np.nan))


def test_a_small_error_changes_little():
    np.testing.assert_allclose(
        approximation(evaluation(1e-4)).log_prob(np.array([[0.1], [0.2]])),
        approximation(FISHER).log_prob(np.array([[0.1], [0.2]])),
        atol=1e-6,
    )


def test_plots_still_close_in():
    axes = approximation().plot()
    assert axes.shape == (2, 2)
