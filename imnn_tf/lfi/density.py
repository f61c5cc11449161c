"""Densities on regular grids: integrals, marginals and highest-density levels.

A grid is a list of one increasing array of points for each parameter. Each point stands for
a cell, the width of which weighs it in every sum.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.utils import checks

Axes = Sequence[np.ndarray]


class Marginals(NamedTuple):
    """The one- and two-dimensional marginal densities of one posterior.

    `imnn_tf.lfi.triangle` draws them, also those that were computed elsewhere.

    Attributes:
        points: For each parameter, the points its marginals are given at.
        widths: For each parameter, the widths of the cells about those points.
        single: For each parameter `i`, its marginal density, `(n_i,)`.
        pairs: For each pair `(i, j)`, `i < j`, its marginal density, `(n_i, n_j)`.
    """

    points: list[np.ndarray]
    widths: list[np.ndarray]
    single: list[np.ndarray]
    pairs: dict[tuple[int, int], np.ndarray]

    @classmethod
    def of_grid(cls, density: np.ndarray, points: Axes, widths: Axes | None = None) -> "Marginals":
        """Marginals of a density given on a full grid, each normalised to one.

        Args:
            density: Density, not necessarily normalised, `(n_1, ..., n_p)`.
            points: The grid, an array `(n_i,)` for each parameter.
            widths: The cells' widths, by default those of the trapezium rule.

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
                    shape = [-1 if i == axis else 1 for i in range(n_params)]
                    weighted = weighted * widths[axis].reshape(shape)
            summed = weighted.sum(axis=tuple(i for i in range(n_params) if i not in kept))
            total = integral(summed, [widths[i] for i in kept])
            return summed / total if total > 0 else summed

        single = [marginal(i) for i in range(n_params)]
        pairs = {(i, j): marginal(i, j) for i, j in combinations(range(n_params), 2)}
        return cls(points, widths, single, pairs)


def axes_of_grid(grid: np.ndarray) -> list[np.ndarray]:
    """The axes of a full grid, `(p, n_1, ..., n_p)`.

    Raises:
        ValueError: If its points are others.
    """
    p = len(grid)
    axes = [np.moveaxis(grid[i], i, 0).reshape(grid.shape[i + 1], -1)[:, 0] for i in range(p)]
    full = np.stack(np.meshgrid(*axes, indexing="ij"))
    if not np.array_equal(grid, full) or any((np.diff(axis) <= 0).any() for axis in axes):
        raise ValueError(
            "`grid` must be a full grid of increasing axes, as np.meshgrid with "
            "indexing='ij' makes, got other points."
        )
    return axes


def trapezium_widths(points: np.ndarray) -> np.ndarray:
    """Weights of the trapezium rule: the share of each point in an integral over them.

    A single point has width one.
    """
    if len(points) == 1:
        return np.ones(1)
    steps = np.diff(points)
    widths = np.zeros(len(points))
    widths[:-1] += steps / 2
    widths[1:] += steps / 2
    return widths


def integral(density: np.ndarray, widths: Axes) -> np.ndarray:
    """Integrates over the last `len(widths)` axes, with the cells' widths as weights."""
    for width in reversed(list(widths)):
        density = density @ width
    return np.asarray(density)


def log_integral(log_density: np.ndarray, widths: Axes) -> np.ndarray:
    """Log of the integral over the last `len(widths)` axes of the exponential, safely."""
    over = tuple(range(-len(widths), 0))
    top = log_density.max(axis=over, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0.0)
    total = integral(np.exp(log_density - shift), widths)
    with np.errstate(divide="ignore"):  # no density anywhere: its log is minus infinity
        return np.log(total) + shift.reshape(total.shape)


def zoom(
    log_density: Callable[[Axes], np.ndarray],
    low: np.ndarray,
    high: np.ndarray,
    size: int,
    depth: float,
) -> list[np.ndarray]:
    """Lays a full grid over the part of a box where a density is not negligible.

    Args:
        log_density: Takes the axes of a full grid, returns log densities on it.
        low: Lower corner of the box, `(n_params,)`.
        high: Upper corner.
        size: Points along each axis.
        depth: A density is negligible below exp(-depth) of its peak.

    Returns:
        The axes, `n_params` arrays `(size,)`.

    Raises:
        ValueError: If the density is zero at all points.
    """
    for _ in range(8):  # each round shrinks a box that is too large by up to a factor `size`
        axes = [np.linspace(*ends, size) for ends in zip(low, high, strict=True)]
        values = log_density(axes)
        peak = values.max()
        if not np.isfinite(peak):
            raise ValueError("`log_density` must be finite somewhere in the box, got none.")
        first, last = _extent(values > peak - depth)
        if (last - first > 0.7 * (size - 1)).all():
            break
        first, last = np.maximum(first - 1, 0), np.minimum(last + 1, size - 1)
        low = np.array([axis[i] for axis, i in zip(axes, first, strict=True)])
        high = np.array([axis[i] for axis, i in zip(axes, last, strict=True)])
    return axes


def _extent(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last index along each axis at which anything is true."""
    indices = np.nonzero(mask)
    return np.array([i.min() for i in indices]), np.array([i.max() for i in indices])


def hpd_levels(density: np.ndarray, levels: ArrayLike, widths: Axes | None = None) -> np.ndarray:
    """The densities whose contours enclose the given shares of the probability.

    Args:
        density: Density on a grid, not necessarily normalised.
        levels: Shares of the probability, between 0 and 1.
        widths: The widths of the cells along each axis, by default all equal.

    Returns:
        For each share the highest threshold such that the cells at or above it hold that
        share, between cells by linear interpolation.

    Raises:
        ValueError: If a share is not between 0 and 1, or there is no density.
    """
    shares = np.atleast_1d(checks.array("levels", levels, dtype=float))
    if ((shares <= 0) | (shares >= 1)).any():
        raise ValueError(f"`levels` must lie between 0 and 1, got {shares.tolist()}.")
    mass = np.asarray(density, dtype=float)
    for axis, width in enumerate(widths or ()):
        mass = mass * width.reshape([-1 if i == axis else 1 for i in range(mass.ndim)])
    order = np.argsort(density, axis=None)[::-1]
    heights, held = np.ravel(density)[order], np.cumsum(np.ravel(mass)[order])
    if not held[-1] > 0:
        raise ValueError("`density` must be positive somewhere, got zeros.")
    # Half of a cell's mass is above its own central height.
    middle = (held - np.ravel(mass)[order] / 2) / held[-1]
    return np.interp(shares, middle, heights)
