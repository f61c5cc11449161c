"""Regressions of parameters on polynomials of summaries, against known means and widths."""

import numpy as np
import pytest

from imnn_tf.lfi.neural import regression

N = 4000
OPEN = -np.inf, np.inf


def pairs(mean, log_std, n_summaries=2, n=N, seed=0):
    """Summaries, uniform with unit spread, and a Gaussian number given them, `[n]`."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.35, 1.35, (n, n_summaries))
    theta = mean(x) + np.exp(log_std(x)) * rng.normal(size=n)
    return theta, x


def degree(found):
    """The most factors of a term."""
    return max(map(len, found.terms))


def test_terms_are_products_by_degree_of_inputs_that_are_cut_off():
    x = np.array([[2.0, -1.0], [12.0, 0.5]])
    cut = np.array([[2.0, -1.0], [3.0, 0.5]])
    a, b = cut.T
    expected = [np.ones(2), *x.T, a * a / 3, a * b / 3, b * b / 3]
    expected += [a * a * a / 9, a * a * b / 9, a * b * b / 9, b * b * b / 9]
    for most, size in ((0, 1), (1, 3), (2, 6), (3, 10)):
        terms = regression.terms_up_to(most, 2)
        assert len(terms) == size
        for term, right in zip(terms, expected, strict=False):
            np.testing.assert_allclose(regression.product(list(x.T), term), right)


@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_a_polynomial_mean_and_width_are_found(wanted):
    """Where the truth has a degree, it is chosen, and mean and width are the true ones."""

    def mean(x):
        return x[:, 0] - 0.5 * x[:, 1] + (wanted > 1) * 0.4 * x[:, 0] * x[:, 1] + high(x)

    def high(x):
        return (wanted > 2) * 0.3 * x[:, 1] ** 3

    def log_std(x):
        return -3 + 0.5 * x[:, 0] + (wanted > 1) * 0.3 * x[:, 1] ** 2

    found = regression.fit(*pairs(mean, log_std), *OPEN)
    assert degree(found) == wanted
    _, fresh = pairs(mean, log_std, seed=1)
    means, stds = found(list(fresh.T))
    # The squared error of a mean in widths is the number of terms over that of pairs, on average,
    # and that of the logarithm of a width half of it.
    errors = (means - mean(fresh)) / np.exp(log_std(fresh))
    assert np.mean(errors**2) < 3 * (found.means != 0).sum() / N
    errors = np.log(stds) - log_std(fresh)
    assert np.mean(errors**2) < 3 * (found.log_stds != 0).sum() / N / 2


def test_coefficients_that_are_zero_are_left_out():
    """Of 30 inputs one tells of the mean and one of the width."""
    theta, x = pairs(lambda x: x[:, 3], lambda x: -2 + 0.3 * x[:, 7], n_summaries=30)
    found = regression.fit(theta, x, *OPEN)
    needed = [(), (3,), (7,)]
    assert set(needed) <= set(found.terms)
    # A needless one stays if its estimate is further from zero than sqrt(log(4000)) = 2.9 standard
    # errors, which is so for one in 250. Of 58, one is left more often than one in five times.
    assert len(found.terms) <= len(needed) + 1
    assert found.means[found.terms.index((7,))] == 0
    assert found.log_stds[found.terms.index((3,))] == 0
    # What is kept was fitted without a ridge: these errors are standard errors.
    slope = found.means[found.terms.index((3,))]
    assert abs(slope - 1) < 3 * np.exp(-2) / np.sqrt(N * x[:, 3].var())


@pytest.mark.parametrize("apart", [0.0, 1e-7, 1e-6, 1e-5])
@pytest.mark.parametrize("noise", [1e-2, 1e-3, 1e-4])
def test_of_inputs_that_are_nearly_equal_one_is_kept(apart, noise):
    rng = np.random.default_rng(0)
    first = rng.normal(size=(1000, 1))
    x = np.hstack([first, first + apart * rng.normal(size=first.shape)])
    found = regression.fit(first[:, 0] + noise * rng.normal(size=1000), x, *OPEN)
    np.testing.assert_allclose(np.median(found(list(x.T))[1]), noise, rtol=0.1)


def test_few_pairs_of_many_inputs_find_what_matters():
    """A strong effect that only a weak ridge shows, next to a stronger one that shows nothing."""
    rng = np.random.default_rng(0)
    truths = rng.uniform(0, 1, (400, 8))
    x = np.hstack([truths + 0.1 * rng.normal(size=truths.shape), rng.normal(size=(400, 12))])
    found = regression.fit((truths[:, 1] - 0.5) / 0.37, x, -0.5 / 0.37, 0.5 / 0.37)
    # The noise is 0.27, and where the box cuts the posterior its Gaussian is about as wide.
    assert 0.2 < np.median(found(list(x.T))[1]) < 0.4


def test_an_effect_is_kept_from_where_the_criterion_says():
    """The square of an estimate over its error is compared with the logarithm of the pairs."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 1))
    noise = rng.normal(size=N)
    noise -= noise @ x[:, 0] / (x[:, 0] @ x[:, 0]) * x[:, 0]  # uncorrelated in this very sample
    for squared, kept in ((0.8 * np.log(N), False), (1.2 * np.log(N), True)):
        slope = np.sqrt(squared / N) / x.std()
        found = regression.fit(slope * x[:, 0] + noise, x, *OPEN)
        mean = dict(zip(found.terms, found.means, strict=True))
        assert (mean.get((0,), 0) != 0) == kept


def test_the_degree_is_limited_by_the_number_of_terms():
    """Five summaries have 21 terms of degree 2, and six have 28; of 201 none are used."""
    for n_summaries, most in ((3, 3), (4, 2), (5, 2), (6, 1), (201, 0)):
        theta, x = pairs(
            lambda x: x[:, 0] + x[:, 0] ** 3, lambda x: -2 + 0 * x[:, 0], n_summaries, n=1000
        )
        assert degree(regression.fit(theta, x, *OPEN)) == most


def test_far_summaries_do_not_blow_up():
    """Beyond 3 units products stay as they are, and means go on along a line."""
    theta, x = pairs(lambda x: x[:, 0] ** 3, lambda x: -3 + 0 * x[:, 0])
    found = regression.fit(theta, x, *OPEN)
    assert degree(found) == 3
    means = found([np.array([5.0, 10.0, 20.0]), np.zeros(3)])[0]
    np.testing.assert_allclose(means[2] - means[1], 2 * (means[1] - means[0]), rtol=1e-9)


@pytest.mark.parametrize("distance", [0.0, 3.0, -30.0, 1e3, -1e9])
def test_the_slope_is_that_of_the_loss_wherever_a_mean_lies(distance):
    theta, x = pairs(lambda x: 0.2 * x[:, 0], lambda x: -1 + 0 * x[:, 0], n=50)
    theta = np.clip(theta, -0.99, 0.99)
    likelihood = regression._Likelihood(-1.0, 1.0)
    design = np.concatenate([np.ones((50, 1)), x], axis=1)
    at = np.array([[distance, 0.3, -0.2], [-1.5, 0.2, 0.1]])
    with np.errstate(over="raise", invalid="raise"):
        loss, slope = likelihood.loss(at, theta, design)
    assert np.isfinite(loss)
    each = likelihood.slopes(at, theta, design).mean(axis=0)
    np.testing.assert_allclose(each, slope.ravel(), rtol=1e-9, atol=1e-12)
    for index in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[index] = 1e-6 * max(1, abs(at[index]))
        change = [likelihood.loss(at + sign * step, theta, design)[0] for sign in (1, -1)]
        expected = (change[0] - change[1]) / (2 * step[index])
        np.testing.assert_allclose(slope[index], expected, rtol=1e-5, atol=1e-7)
