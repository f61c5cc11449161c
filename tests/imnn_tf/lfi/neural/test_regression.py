"""Regressions of parameters on polynomials of summaries, against known means and widths."""

import numpy as np
import pytest

from imnn_tf.lfi.neural import regression

N = 4000
OPEN = np.full(1, -np.inf), np.full(1, np.inf)


def pairs(mean, log_std, n_summaries=2, n=N, seed=0):
    """Summaries, uniform with unit spread, and a Gaussian parameter given them, `[n, 1]`."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.35, 1.35, (n, n_summaries))
    theta = mean(x) + np.exp(log_std(x)) * rng.normal(size=n)
    return theta[:, np.newaxis], x


def test_terms_are_products_by_degree_of_summaries_that_are_cut_off():
    x = np.array([[2.0, -1.0], [12.0, 0.5]])
    cut = np.array([[2.0, -1.0], [3.0, 0.5]])
    a, b = cut.T
    expected = [np.ones(2), *x.T, a * a / 3, a * b / 3, b * b / 3]
    expected += [a * a * a / 9, a * a * b / 9, a * b * b / 9, b * b * b / 9]
    for degree, size in ((0, 1), (1, 3), (2, 6), (3, 10)):
        np.testing.assert_allclose(regression.terms(x, degree), np.transpose(expected[:size]))


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_a_polynomial_mean_and_width_are_found(degree):
    """Where the truth has a degree, it is chosen, and mean and width are the true ones."""

    def mean(x):
        return x[:, 0] - 0.5 * x[:, 1] + (degree > 1) * 0.4 * x[:, 0] * x[:, 1] + high(x)

    def high(x):
        return (degree > 2) * 0.3 * x[:, 1] ** 3

    def log_std(x):
        return -3 + 0.5 * x[:, 0] + (degree > 1) * 0.3 * x[:, 1] ** 2

    found = regression.fit(*pairs(mean, log_std), *OPEN)
    assert found.degree == degree
    _, fresh = pairs(mean, log_std, seed=1)
    means, stds = found(fresh)
    # The squared error of a mean in widths is the number of terms over that of pairs, on average,
    # and that of the logarithm of a width half of it. The ridge adds next to nothing.
    terms = regression.terms(fresh, degree).shape[1]
    errors = (means[:, 0] - mean(fresh)) / np.exp(log_std(fresh))
    assert np.mean(errors**2) < 3 * terms / N
    assert np.mean((np.log(stds[:, 0]) - log_std(fresh)) ** 2) < 3 * terms / N / 2


def test_each_parameter_has_its_own_degree():
    """A linear parameter keeps zeros for the products that another needs."""
    curved, x = pairs(lambda x: x[:, 0] ** 2, lambda x: -3 + 0 * x[:, 0])
    straight, same = pairs(lambda x: x[:, 1], lambda x: -2 + 0 * x[:, 0])
    np.testing.assert_array_equal(x, same)
    both = regression.fit(np.hstack([curved, straight]), x, *np.repeat(OPEN, 2, axis=1))
    assert both.degree == 2
    assert (both.means[3:, 1] == 0).all()
    assert (both.log_stds[3:, 1] == 0).all()
    alone = regression.fit(straight, x, *OPEN)
    assert alone.degree == 1
    np.testing.assert_array_equal(both.means[:3, 1:], alone.means)
    np.testing.assert_allclose(both(x)[0][:, 1:], alone(x)[0], rtol=1e-12, atol=1e-12)


def test_the_degree_is_limited_by_the_number_of_terms():
    """Five summaries have 21 terms of degree 2, and six have 28; of 201 none are used."""
    for n_summaries, degree in ((3, 3), (4, 2), (5, 2), (6, 1), (201, 0)):
        theta, x = pairs(
            lambda x: x[:, 0] + x[:, 0] ** 3, lambda x: -2 + 0 * x[:, 0], n_summaries, n=1000
        )
        assert regression.fit(theta, x, *OPEN).degree == degree


def test_far_summaries_do_not_blow_up():
    """Beyond 3 units products stay as they are, and means go on along a line."""
    theta, x = pairs(lambda x: x[:, 0] ** 3, lambda x: -3 + 0 * x[:, 0])
    found = regression.fit(theta, x, *OPEN)
    assert found.degree == 3
    at = np.zeros((3, 2))
    at[:, 0] = [5, 10, 20]
    means = found(at)[0][:, 0]
    np.testing.assert_allclose(means[2] - means[1], 2 * (means[1] - means[0]), rtol=1e-9)


@pytest.mark.parametrize("distance", [0.0, 3.0, -30.0, 1e3, -1e9])
def test_the_slope_is_that_of_the_loss_wherever_a_mean_lies(distance):
    theta, x = pairs(lambda x: 0.2 * x[:, 0], lambda x: -1 + 0 * x[:, 0], n=50)
    theta = np.clip(theta, -0.99, 0.99)
    likelihood = regression._Likelihood(np.full(1, -1.0), np.full(1, 1.0))
    design = regression.terms(x, 1)
    at = np.array([[distance, 0.3, -0.2], [-1.5, 0.2, 0.1]])[:, :, np.newaxis]
    with np.errstate(over="raise", invalid="raise"):
        loss, slope = likelihood.loss(at, theta, design)
    assert np.isfinite(loss)
    for index in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[index] = 1e-6 * max(1, abs(at[index]))
        change = [likelihood.loss(at + sign * step, theta, design)[0] for sign in (1, -1)]
        expected = (change[0] - change[1]) / (2 * step[index])
        np.testing.assert_allclose(slope[index], expected, rtol=1e-5, atol=1e-7)
