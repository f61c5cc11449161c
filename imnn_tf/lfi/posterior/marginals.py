"""Marginal densities on grids, and the heights of their contours.

A grid is one increasing array of points for each parameter. Each point stands for a cell about
it, and the width of the cell is its weight in integrals.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter

from imnn_tf.utils import checks

# One array for each axis of a grid: its points, or the widths of its cells.
GridAxes: TypeAlias = Sequence[np.ndarray]


class Marginals(NamedTuple):
    """The one- and two-dimensional marginal densities of one posterior.

    `imnn_tf.lfi.triangle` draws them. They may come from elsewhere, and pairs may be missing.

    Attributes:
        points: For each parameter `i`, the points at which its densities are given, `(n_i,)`.
        widths: For each parameter `i`, the widths of the cells about these points, `(n_i,)`.
        single: For each parameter `i`, its marginal density, `(n_i,)`.
        pairs: For each pair `(i, j)`, `i < j`, its marginal density, `(n_i, n_j)`.
        contours: For pairs whose contours are known better than by the mass on the grid: heights,
            falling, and the probability above them, `(2, n)`.
    """

    points: list[np.ndarray]
    widths: list[np.ndarray]
    single: list[np.ndarray]
    pairs: dict[tuple[int, int], np.ndarray]
    contours: dict[tuple[int, int], np.ndarray] | None = None

    @classmethod
    def of_grid(
        cls, density: np.ndarray, points: GridAxes, widths: GridAxes | None = None
    ) -> "Marginals":
        """Computes the marginals of a density on a full grid, each normalised to one.

        Args:
            density: The density, not necessarily normalised, `(n_1, ..., n_p)`.
            points: The points of the grid, an array `(n_i,)` for each parameter.
            widths: The widths of its cells, an array `(n_i,)` for each parameter. `None` for
                those of the trapezium rule.

        Raises:
            ValueError: If the shapes do not fit.
        """
        points = [checks.array("points", axis, shape=(None,), dtype=float) for axis in points]
        shape = tuple(len(axis) for axis in points)
        density = checks.array("density", density, shape=shape, dtype=float)
        widths = [trapezium_widths(axis) for axis in points] if widths is None else list(widths)
        n_params = len(points)

        def marginal(*kept: int) -> np.ndarray:
            weighted = density
            for axis in range(n_params):
                if axis not in kept:
                    weighted = weighted * along(widths[axis], axis, n_params)
            summed = weighted.sum(axis=tuple(i for i in range(n_params) if i not in kept))
            total = integral(summed, [widths[i] for i in kept])
            return summed / total if total > 0 else summed

        single = [marginal(i) for i in range(n_params)]
        pairs = {(i, j): marginal(i, j) for i, j in combinations(range(n_params), 2)}
        return cls(points, widths, single, pairs)

    def smoothed(self, smoothing: float) -> "Marginals":
        """Smooths all densities by a Gaussian, which widens them, and their contours too.

        Args:
            smoothing: Standard deviation of the Gaussian in cells.

        Raises:
            ValueError: If it is not positive.
        """
        sigma = checks.real("smoothing", smoothing, above=0)
        single = [gaussian_filter(density, sigma, mode="nearest") for density in self.single]
        pairs = {
            pair: gaussian_filter(density, sigma, mode="nearest")
            for pair, density in self.pairs.items()
        }
        return self._replace(single=single, pairs=pairs, contours=None)

    def contour_heights(self, i: int, j: int, levels: ArrayLike) -> np.ndarray:
        """Finds the heights of the contours of a pair that enclose given shares.

        They follow from `contours` where it has the pair, and else from the mass of the cells; see
        `hpd_levels`.

        Args:
            i: The number of the first parameter, counted from zero.
            j: The number of the second parameter, greater than `i`.
            levels: Shares of the probability that the contours enclose, between 0 and 1: one
                number, or several, `(n_levels,)`.

        Returns:
            The heights, `(n_levels,)`.

        Raises:
            ValueError: If a share is not between 0 and 1.
        """
        if self.contours is None or (i, j) not in self.contours:
            return hpd_levels(self.pairs[i, j], levels, [self.widths[i], self.widths[j]])
        heights, held = self.contours[i, j]
        return np.interp(_shares(levels), held, heights)


def along(values: np.ndarray, axis: int, ndim: int) -> np.ndarray:
    """Reshapes values, `(n,)`, to lie along one axis of arrays with `ndim` axes, to broadcast.

    Args:
        values: The values, `(n,)`.
        axis: The axis that they lie along.
        ndim: The number of axes.

    Returns:
        The values, `(1, ..., n, ..., 1)`, with `n` at the place of the axis.
    """
    return values.reshape([-1 if i == axis else 1 for i in range(ndim)])


def trapezium_widths(points: np.ndarray) -> np.ndarray:
    """Weights of the trapezium rule.

    Args:
        points: Increasing points, `(n,)`.

    Returns:
        Their weights, `(n,)`. A single point has weight one.
    """
    if len(points) == 1:
        return np.ones(1)
    steps = np.diff(points)
    widths = np.zeros(len(points))
    widths[:-1] += steps / 2
    widths[1:] += steps / 2
    return widths


def integral(density: np.ndarray, widths: GridAxes) -> np.ndarray:
    """Integrates a density over its last axes.

    Args:
        density: The density, `(..., n_1, ..., n_p)`.
        widths: The widths of the cells, an array `(n_i,)` for each of these axes.

    Returns:
        Integrals, `(...)`.
    """
    for width in reversed(list(widths)):
        density = density @ width
    return np.asarray(density)


def hpd_levels(
    density: np.ndarray, levels: ArrayLike, widths: GridAxes | None = None
) -> np.ndarray:
    """Finds the heights of the contours that enclose given shares of the probability.

    Args:
        density: A density on a grid, not necessarily normalised, `(n_1, ..., n_p)`.
        levels: Shares of the probability, between 0 and 1: one number, or several, `(n_levels,)`.
        widths: The widths of the cells, an array `(n_i,)` for each axis. `None` for equal cells.

    Returns:
        For each share the greatest height such that the cells above it hold that share,
        `(n_levels,)`. Between the heights of cells it is interpolated linearly.

    Raises:
        ValueError: If a share is not between 0 and 1, or the density is zero everywhere.
    """
    shares = _shares(levels)
    mass = np.asarray(density, dtype=float)
    for axis, width in enumerate(widths or ()):
        mass = mass * along(width, axis, mass.ndim)
    order = np.argsort(density, axis=None)[::-1]
    heights, held = np.ravel(density)[order], np.cumsum(np.ravel(mass)[order])
    if not held[-1] > 0:
        raise ValueError("`density` must be positive somewhere, got zeros.")
    # Half of the mass of a cell lies above the height of its centre.
    middle = (held - np.ravel(mass)[order] / 2) / held[-1]
    return np.interp(shares, middle, heights)


def _shares(levels: ArrayLike) -> np.ndarray:
    """Levels of contours, `(n_levels,)`, checked."""
    shares = np.atleast_1d(checks.array("levels", levels, dtype=float))
    if ((shares <= 0) | (shares >= 1)).any():
        raise ValueError(f"`levels` must lie between 0 and 1, got {shares.tolist()}.")
    return shares
