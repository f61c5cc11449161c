"""The corrected information and its error, against closed forms and repetitions."""

import numpy as np
import pytest
from fisher_information import FISHER, gaussian_samples
from fisher_samples import sample_from

from imnn_tf.fisher.correction import correct
from imnn_tf.fisher.variation import variation_of

TRUE_LOG_DET = np.linalg.slogdet(FISHER)[1]
TRUE_STD = np.sqrt(np.diag(np.linalg.inv(FISHER)))


@pytest.mark.parametrize(
    ("n_summaries", "step", "n_d", "n_s"),
    [(2, 4, 10, 50), (2, 4, 10, 1000), (10, 4, 10, 200), (30, 6, 30, 50), (10, 4, 1000, 50)],
)
def test_repetitions_hold_the_truth(n_summaries, step, n_d, n_s):
    rng = np.random.default_rng([n_summaries, n_d, n_s])
    result = correct(gaussian_samples(rng, 1000, n_s, n_d, n_summaries, step))
    low, high = result.determinant.log_interval(0.68).T
    held = (low < TRUE_LOG_DET) & (high > TRUE_LOG_DET)
    # The standard deviation of the share is 1.5 %. benchmarks/fisher_information.py has the table.
    assert 0.64 < held.mean() < 0.73
    np.testing.assert_allclose(np.nanmean(result.parameter_std, axis=0), TRUE_STD, rtol=0.05)
    scatter = result.fisher.std(axis=0)
    np.testing.assert_allclose(result.fisher.mean(0), FISHER, atol=4 * scatter.max() / 1000**0.5)
    errors = np.sqrt(np.mean(result.fisher_std**2, axis=0))
    np.testing.assert_allclose(errors, scatter, rtol=0.15)
    errors = np.nanmedian(result.parameter_std_error, axis=0)
    np.testing.assert_allclose(errors, np.nanstd(result.parameter_std, axis=0), rtol=0.35)


def test_plain_forecasts_are_far_off_where_corrected_ones_are_not():
    rng = np.random.default_rng(0)
    result = correct(gaussian_samples(rng, 500, 50, 30, 40, 6))
    plain = np.sqrt(np.diagonal(np.linalg.inv(result.plain), axis1=1, axis2=2)).mean(0)
    assert (plain < TRUE_STD / 2).all()
    np.testing.assert_allclose(np.nanmean(result.parameter_std, axis=0), TRUE_STD, rtol=0.05)
    assert np.median(result.bias) > 0.9


def test_biases_of_the_covariance_are_those_of_wishart():
    # Without noise of the slope, F⁻¹ has a Wishart distribution and every mean is known.
    rng = np.random.default_rng(1)
    result = correct(gaussian_samples(rng, 4000, 30, 10, 8, 1e6))
    hartlap = (30 - 8 - 2) / (30 - 1)
    np.testing.assert_allclose(result.fisher, hartlap * result.plain, rtol=1e-6)
    error = result.fisher.std() / 4000**0.5
    np.testing.assert_allclose(result.fisher.mean(0), FISHER, atol=4 * error)
    error = result.log_det_fisher.std() / 4000**0.5
    assert abs(result.log_det_fisher.mean() - TRUE_LOG_DET) < 4 * error
    error = result.parameter_std.std() / 4000**0.5
    np.testing.assert_allclose(result.parameter_std.mean(0), TRUE_STD, atol=4 * error)
    errors = np.sqrt(np.mean(result.log_det_fisher_std**2))
    np.testing.assert_allclose(errors, result.log_det_fisher.std(), rtol=0.06)


def test_noise_is_what_single_simulations_add():
    rng = np.random.default_rng(2)
    x, slopes = rng.normal(size=(300, 3)), rng.normal(size=(40, 2, 3))
    variation = variation_of(sample_from(x, slopes))
    inverse = np.linalg.inv(np.cov(x, rowvar=False))
    residuals = slopes - slopes.mean(0)
    noise = np.einsum("ias,st,ibt->ab", residuals, inverse, residuals) / 39 / 40
    np.testing.assert_allclose(variation.noise, noise, rtol=1e-10)
    mean = slopes.mean(0)
    np.testing.assert_allclose(variation.plain, mean @ inverse @ mean.T, rtol=1e-10)


def test_variance_of_the_quadratic_term_is_without_bias():
    # 4 C_aa C_bb... of Gaussian noise: the covariance of e_a·e_b and e_c·e_d is known.
    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(6, 6))
    covariance = mixing @ mixing.T
    slopes = (rng.normal(size=(3000, 12, 6)) @ mixing.T).reshape(3000, 12, 2, 3)
    x = rng.normal(size=(100_000, 3))
    sample = sample_from(x, slopes[0])
    many = sample._replace(
        mean=np.broadcast_to(sample.mean, (3000, *sample.mean.shape)),
        scatter=np.broadcast_to(sample.scatter, (3000, *sample.scatter.shape)),
        slope=slopes,
    )
    found = variation_of(many).quadratic
    blocks = covariance.reshape(2, 3, 2, 3) / 12
    expected = np.einsum("asct,bsdt->abcd", blocks, blocks)
    expected = expected + np.einsum("asdt,bsct->abcd", blocks, blocks)
    error = found.std(0).max() / 3000**0.5
    # The covariance of the summaries is one to 1 %.
    np.testing.assert_allclose(found.mean(0), expected, atol=4 * error + 0.02 * expected.max())


def test_summaries_that_are_not_gaussian():
    # Exponential summaries: the variance of their variance is four times the Gaussian one.
    rng, repetitions, n_s = np.random.default_rng(4), 400, 2000
    held, log_dets, errors = [], [], []
    slope = np.linalg.cholesky(FISHER)
    for _ in range(repetitions):
        x = rng.exponential(size=(n_s, 2))
        slopes = slope + 0.1 * rng.normal(size=(64, 2, 2))
        result = correct(sample_from(x, slopes))
        low, high = result.determinant.log_interval(0.68)
        held.append(low < TRUE_LOG_DET < high)
        log_dets.append(result.log_det_fisher)
        errors.append(result.log_det_fisher_std)
    gaussian = np.sqrt(4 / n_s)
    assert np.std(log_dets) > 1.7 * gaussian
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(errors))), np.std(log_dets), rtol=0.12)
    assert 0.61 < np.mean(held) < 0.75  # three standard deviations of the share


def combined(x, slopes, rng, splits=10):
    """The combined estimate of Coulton & Wandelt (2023), arXiv:2305.08994, section 3.

    Half of the derivative simulations define a compression to one number for each parameter, and
    the other half give the information of the compressed data, which is too low. The information
    from half of the simulations alone is too high. The geometric mean of the two is nearly right.
    """
    n_s, s = x.shape
    covariance = np.cov(x, rowvar=False) * (n_s - 1) / (n_s - s - 2)
    standard, compressed = [], []
    for _ in range(splits):
        order = rng.permutation(len(slopes))
        halves = np.array_split(slopes[order], 2)
        first, second = (half.mean(0) for half in halves)
        for here, there in ((first, second), (second, first)):
            weights = np.linalg.solve(covariance, here.T).T
            standard.append(weights @ here.T)
            slope = weights @ there.T  # of the compressed data, by each parameter in a column
            compressed.append(slope.T @ np.linalg.solve(weights @ covariance @ weights.T, slope))
    root = np.linalg.cholesky(np.mean(standard, axis=0))
    inner = np.linalg.solve(root, np.linalg.solve(root, np.mean(compressed, axis=0)).T)
    values, vectors = np.linalg.eigh(inner)
    return root @ (vectors * np.sqrt(values)) @ vectors.T @ root.T


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_agrees_with_the_combined_estimate_on_its_own_toy_problem(seed):
    # A hundred points of α + βk + γ√k with a scatter of 14 %; derivatives over 0.1, unmatched.
    rng, n_s, n_d = np.random.default_rng(seed), 20_000, 20_000
    k = np.logspace(-4, 0, 100)
    slope = np.stack([np.ones(100), k, np.sqrt(k)])
    scatter = 0.1 * np.sqrt(2) * slope.sum(0)
    exact = np.linalg.inv((slope / scatter**2) @ slope.T)
    true = np.sqrt(np.diag(exact))
    x = scatter * rng.normal(size=(n_s, 100))
    slopes = slope + scatter * np.sqrt(2) / 0.1 * rng.normal(size=(n_d, 3, 100))
    result = correct(sample_from(x, slopes))
    theirs = np.sqrt(np.diag(np.linalg.inv(combined(x, slopes, rng))))
    plain = np.sqrt(np.diag(np.linalg.inv(result.plain)))
    assert (plain < 0.98 * result.parameter_std).all()
    # Both are made of the same simulations, so they agree far better than either with the truth.
    assert (np.abs(theirs - result.parameter_std) < 0.25 * result.parameter_std_error).all()
    assert (np.abs(true - result.parameter_std) < 3 * result.parameter_std_error).all()


@pytest.mark.parametrize("seed", range(40))
def test_slopes_that_are_all_noise_have_errors(seed):
    # Matched simulations without any slope: `F` without its noise is often indefinite.
    rng = np.random.default_rng(seed)
    slope = rng.normal(size=(60, 2, 2))
    result = correct(sample_from(rng.normal(size=(60, 2)), slope))
    assert np.isfinite(result.fisher_std).all()
    assert np.isfinite(result.log_det_fisher_std)
