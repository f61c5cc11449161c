import numpy as np
import pytest
import tensorflow as tf

from imnn_tf.lfi.density.linear import fit_linear


def pairs(n, n_params, n_summaries, noise=0.5):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(n, n_summaries))
    matrix = generator.normal(size=(n_summaries, n_params)) / np.sqrt(n_summaries)
    return x @ matrix + 0.3 + noise * generator.normal(size=(n, n_params)), x


def halves(n):
    return np.arange(n // 2)[None], np.arange(n // 2, n)[None]


def test_it_is_least_squares_where_there_are_pairs_enough():
    theta, x = pairs(4000, 2, 3)
    training, validation = halves(4000)
    start = fit_linear(theta, x, training, validation)
    design = np.column_stack([x[:2000], np.ones(2000)])
    coefficients, *_ = np.linalg.lstsq(design, theta[:2000], rcond=None)
    np.testing.assert_allclose(start.matrix[0], coefficients[:3], atol=2e-3)
    np.testing.assert_allclose(start.shift[0, 0], coefficients[3], atol=2e-3)
    z, log_volume = start.forward(
        tf.constant(theta[None, :2000], tf.float32), tf.constant(x[None, :2000], tf.float32)
    )
    np.testing.assert_allclose(np.cov(z[0].numpy().T, ddof=0), np.eye(2), atol=1e-3)
    covariance = np.cov((theta[:2000] - design @ coefficients).T, ddof=0)
    np.testing.assert_allclose(log_volume[0, 0], -np.log(np.linalg.det(covariance)) / 2, atol=2e-3)


def test_the_inverse_leads_back():
    theta, x = pairs(200, 3, 2)
    start = fit_linear(theta, x, *halves(200))
    theta, x = (tf.constant(each[None], tf.float32) for each in (theta, x))
    np.testing.assert_allclose(start.inverse(start.forward(theta, x)[0], x), theta, atol=1e-5)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_more_summaries_than_pairs(noise):
    theta, x = pairs(60, 2, 100, noise)
    start = fit_linear(theta, x, *halves(60))
    assert all(np.isfinite(part).all() for part in start)
    errors = theta[30:] - x[30:] @ start.matrix[0] - start.shift[0]
    assert np.mean(errors**2) < 1.05 * np.mean((theta[30:] - theta[:30].mean(axis=0)) ** 2)


def test_summaries_that_are_constant_or_repeated():
    theta, x = pairs(500, 2, 2)
    redundant = np.column_stack([x, x[:, 0], np.full(500, 3.0)])
    start = fit_linear(theta, redundant, *halves(500))
    plain = fit_linear(theta, x, *halves(500))
    errors = theta - redundant @ start.matrix[0] - start.shift[0]
    expected = theta - x @ plain.matrix[0] - plain.shift[0]
    # Ridge regression shrinks the two in other directions, by what their error allows.
    np.testing.assert_allclose(np.mean(errors**2), np.mean(expected**2), rtol=0.02)


def test_parameters_that_follow_from_the_summaries():
    x = np.random.default_rng(0).normal(size=(200, 2))
    start = fit_linear(np.column_stack([x[:, 0], x.sum(axis=1)]), x, *halves(200))
    assert np.isfinite(np.linalg.inv(start.scale)).all()
