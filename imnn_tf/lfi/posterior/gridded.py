"""Posteriors of few parameters on grids that close in on them."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from imnn_tf.lfi.posterior.marginals import GridAxes, integral, trapezium_widths
from imnn_tf.lfi.prior import Prior
from imnn_tf.utils import checks

# Points along each axis of a grid that finds and measures a posterior, by the number of
# parameters. With more parameters such a grid does not fit into memory.
POINTS = {1: 2048, 2: 384, 3: 80}
# The most points of a grid that a user asks for: more would take gigabytes.
MOST_CELLS = 10_000_000


class Evaluation(NamedTuple):
    """Log densities at some points.

    Attributes:
        grid: The points, `(n_params,) + shape`.
        log_density: Log likelihoods, or their sums with the log prior, `(targets,) + shape`.
    """

    grid: np.ndarray
    log_density: np.ndarray


class Gridded:
    """Likelihood times prior of one target, with up to three parameters.

    Args:
        log_like: Takes points, `(n, n_params)`, and returns log likelihoods, `(n,)`.
        prior: The prior.
        low: Lower corner of a finite box that holds the product, `(n_params,)`.
        high: Upper corner of that box, `(n_params,)`.
        target: The number of the target, for messages.
    """

    def __init__(
        self,
        log_like: Callable[[np.ndarray], np.ndarray],
        prior: Prior,
        low: np.ndarray,
        high: np.ndarray,
        target: int,
    ) -> None:
        self._log_like, self._prior = log_like, prior
        self._low, self._high, self._target = low, high, target

    def log_joint(self, axes: GridAxes) -> np.ndarray:
        """Log likelihood plus log prior on a full grid.

        Args:
            axes: The axes of the grid, an array `(n_i,)` for each parameter.

        Returns:
            Log densities, `(n_1, ..., n_p)`.
        """
        points = np.stack(np.meshgrid(*axes, indexing="ij")).reshape((len(axes), -1)).T
        inside = self._prior.supports(points)
        joint = np.full(len(points), -np.inf)
        if inside.any():
            kept = points[inside]
            joint[inside] = add_log_prior(self._log_like(kept), self._prior.log_prob(kept))
        return joint.reshape([len(axis) for axis in axes])

    def axes(self, depth: float = 30) -> list[np.ndarray]:
        """Lays a full grid over the region where the product is above exp(-depth) of its peak.

        Args:
            depth: How far the log of the product may lie below its peak; 30 by default.

        Returns:
            The axes of the grid, an array `(size,)` for each parameter, with `size` from `POINTS`.

        Raises:
            ValueError: If the product is zero everywhere.
        """
        try:
            return zoom(self.log_joint, self._low, self._high, POINTS[self._prior.n_params], depth)
        except ValueError:
            raise ValueError(
                f"`prior` and the likelihood of target {self._target} must overlap, got a "
                f"product that is zero from {self._low.tolist()} to {self._high.tolist()}."
            ) from None

    def log_evidence(self) -> float:
        """Log of the integral of the product, by the trapezium rule."""
        axes = self.axes()
        return float(log_integral(self.log_joint(axes), [trapezium_widths(axis) for axis in axes]))

    def draws(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws points, `(n, n_params)`: cells of a grid by their mass, and uniformly within."""
        axes = self.axes(depth=20)
        joint = self.log_joint(axes)
        mass = np.exp(joint - joint.max()).ravel()
        cells = rng.choice(mass.size, size=n, p=mass / mass.sum())
        points = np.stack(
            [a[i] for a, i in zip(axes, np.unravel_index(cells, joint.shape), strict=True)], 1
        )
        steps = np.array([axis[1] - axis[0] for axis in axes])
        moved = points + rng.uniform(-0.5, 0.5, points.shape) * steps
        return np.clip(moved, self._prior.low, self._prior.high)


def add_log_prior(log_like: np.ndarray, log_prior: np.ndarray) -> np.ndarray:
    """Adds a log prior to log likelihoods.

    The sum is minus infinity wherever the prior is zero, even if the likelihood is undefined there.

    Args:
        log_like: Log likelihoods, `(...)`.
        log_prior: Log densities of the prior, of the same shape or of one that broadcasts to it.

    Returns:
        The sums, `(...)`.
    """
    return np.where(np.isneginf(log_prior), -np.inf, log_like + log_prior)


def log_integral(log_density: np.ndarray, widths: GridAxes) -> np.ndarray:
    """Log of the integral of a density over its last axes, without overflow.

    Args:
        log_density: Log of the density, `(..., n_1, ..., n_p)`.
        widths: The widths of the cells, an array `(n_i,)` for each of these axes.

    Returns:
        Logs of the integrals, `(...)`.
    """
    over = tuple(range(-len(widths), 0))
    top = log_density.max(axis=over, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0.0)
    total = integral(np.exp(log_density - shift), widths)
    with np.errstate(divide="ignore"):  # the log of zero is minus infinity, as it should be
        return np.log(total) + shift.reshape(total.shape)


def full_grid(low: np.ndarray, high: np.ndarray, gridsize: int | Sequence[int]) -> np.ndarray:
    """Lays a full grid over a box.

    Args:
        low: Lower corner of the box, `(p,)`.
        high: Upper corner of the box, `(p,)`.
        gridsize: Points along each axis: one number, or one for each.

    Returns:
        The points, `(p, n_1, ..., n_p)`.

    Raises:
        ValueError: If there are more than `MOST_CELLS` of them.
    """
    p = len(low)
    sizes = [*gridsize] if isinstance(gridsize, Sequence | np.ndarray) else [gridsize] * p
    if len(sizes) != p:
        raise ValueError(f"`gridsize` must have {p} entries, got {len(sizes)}: {gridsize}.")
    sizes = [checks.integer("gridsize", size, minimum=1) for size in sizes]
    cells = math.prod(sizes)
    if cells > MOST_CELLS:
        raise ValueError(
            f"`gridsize` must make at most {MOST_CELLS} points, got {cells} in {p} dimensions; "
            f"{int(MOST_CELLS ** (1 / p))} along each axis will do, or pass single points as "
            "`grid`, or take samples from `result()`."
        )
    axes = [np.linspace(*ends) for ends in zip(low, high, sizes, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def axes_of_grid(grid: np.ndarray) -> list[np.ndarray]:
    """Extracts the axes, `p` arrays `(n_i,)`, of a full grid, `(p, n_1, ..., n_p)`.

    Raises:
        ValueError: If the points are not those of a full grid.
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


def zoom(
    log_density: Callable[[GridAxes], np.ndarray],
    low: np.ndarray,
    high: np.ndarray,
    size: int,
    depth: float,
) -> list[np.ndarray]:
    """Lays a full grid over the part of a box where a density is not negligible.

    Args:
        log_density: Takes the axes of a full grid, and returns log densities,
            `(size, ..., size)`.
        low: Lower corner of the box, `(n_params,)`.
        high: Upper corner of the box, `(n_params,)`.
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
        above = np.nonzero(values > peak - depth)
        first = np.array([indices.min() for indices in above])
        last = np.array([indices.max() for indices in above])
        if (last - first > 0.7 * (size - 1)).all():
            break
        # One point more on either side, because the density falls off between points.
        first, last = np.maximum(first - 1, 0), np.minimum(last + 1, size - 1)
        low = np.array([axis[i] for axis, i in zip(axes, first, strict=True)])
        high = np.array([axis[i] for axis, i in zip(axes, last, strict=True)])
    return axes
