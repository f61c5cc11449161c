import numpy as np
import pytest
from scipy import stats

from imnn_tf.lfi.posterior.gridded import log_integral, zoom
from imnn_tf.lfi.posterior.marginals import Marginals, hpd_levels, integral, trapezium_widths

COVARIANCE = np.array([[1.0, 0.6, 0.1], [0.6, 2.0, -0.3], [0.1, -0.3, 0.5]])


@pytest.fixture
def gaussian():
    """A correlated Gaussian on a full grid: density and axes of unequal lengths."""
    axes = [np.linspace(-6, 6, 61), np.linspace(-8, 8, 71), np.linspace(-4, 4, 51)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return stats.multivariate_normal(np.zeros(3), COVARIANCE).pdf(grid), axes


def test_integral_is_the_trapezium_rule():
    x, y = np.array([0.0, 0.5, 2.0]), np.linspace(0, 1, 4)
    f = np.outer(x**2, np.exp(y))
    expected = np.trapezoid(np.trapezoid(f, y), x)
    widths = [trapezium_widths(x), trapezium_widths(y)]
    np.testing.assert_allclose(integral(f, widths), expected)
    np.testing.assert_allclose(log_integral(np.log(f + 1e-300), widths), np.log(expected))
    np.testing.assert_allclose(
        log_integral(np.log(f + 1e-300) - 5e3, widths) + 5e3, np.log(expected)
    )
    assert trapezium_widths(np.array([3.0])) == [1.0]


def test_log_integral_of_nothing_is_minus_infinity():
    assert log_integral(np.full((2, 3), -np.inf), [np.ones(3)]).tolist() == [-np.inf] * 2


def test_marginals_of_a_gaussian_are_gaussian(gaussian):
    density, axes = gaussian
    marginals = Marginals.of_grid(7 * density, axes)
    for i in range(3):
        expected = stats.norm(0, np.sqrt(COVARIANCE[i, i])).pdf(axes[i])
        np.testing.assert_allclose(marginals.single[i], expected, atol=1e-6)
    for (i, j), pair in marginals.pairs.items():
        kept = np.ix_([i, j], [i, j])
        grid = np.stack(np.meshgrid(axes[i], axes[j], indexing="ij"), axis=-1)
        expected = stats.multivariate_normal([0, 0], COVARIANCE[kept]).pdf(grid)
        np.testing.assert_allclose(pair, expected, atol=1e-6)


def test_levels_of_a_gaussian_are_those_of_chi_squared():
    axis = np.linspace(-6, 6, 401)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    normal = stats.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]])
    shares = np.array([0.68, 0.95, 0.99])
    chi2 = -2 * np.log(hpd_levels(normal.pdf(grid), shares) / normal.pdf([0, 0]))
    np.testing.assert_allclose(stats.chi2(2).cdf(chi2), shares, atol=1e-3)


def test_levels_weigh_unequal_cells():
    # The points are uneven, so the widths of their cells matter.
    x = np.linspace(0, np.sqrt(30), 3000) ** 2
    height = hpd_levels(np.exp(-x), 0.9, [trapezium_widths(x)])
    np.testing.assert_allclose(height, 0.1, rtol=1e-2)


def test_levels_refuse_what_is_no_share():
    with pytest.raises(ValueError, match="`levels` must lie between 0 and 1"):
        hpd_levels(np.ones(3), [0.5, 1.0])
    with pytest.raises(ValueError, match="`density` must be positive"):
        hpd_levels(np.zeros(3), 0.5)


def test_zoom_finds_a_needle():
    def needle(axes):
        x, y = np.meshgrid(*axes, indexing="ij")
        return -0.5 * ((x - 3.3) ** 2 + (y + 2.2) ** 2) / 1e-8

    axes = zoom(needle, np.array([-10, -10]), np.array([10, 10]), 200, depth=30)
    for axis, centre in zip(axes, (3.3, -2.2), strict=True):
        # exp(-30) is at sqrt(60) = 7.7 standard deviations, each 1e-4.
        assert centre - 2e-3 < axis[0] < centre - 7.6e-4
        assert centre + 7.6e-4 < axis[-1] < centre + 2e-3


def test_zoom_refuses_nothing():
    with pytest.raises(ValueError, match="finite somewhere"):
        zoom(lambda axes: np.full(5, -np.inf), np.zeros(1), np.ones(1), 5, depth=30)
