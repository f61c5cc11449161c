"""Densities of weighted samples by kernels, with contours that hold what they claim.

The kernels are Gaussian, shaped like the covariance of the samples. They are wider where the
density is low (Abramson 1982, "On bandwidth variation in kernel estimates - a square root law"), so
that samples in the tails do not stand alone. Samples are mirrored at hard edges.

A smooth density is wider than the true one, so the mass within its own contours says nothing about
the true one. What a contour holds is read off the samples instead. The share of the samples whose
density is above a height, each left out of the density that it is measured in, is an unbiased
estimate of the probability within, however wide the kernels are.
"""

from itertools import combinations, product
from typing import NamedTuple

import numpy as np
from scipy import fft

from imnn_tf.lfi.posterior.histograms import Ranges, mass_ranges, total_weight
from imnn_tf.lfi.posterior.marginals import GridAxes, Marginals, integral, trapezium_widths

# Factors of the widths of kernels: the wider suit a Gaussian, the narrower a curved density.
_FACTORS = (1.4, 1.0, 0.7, 0.5, 0.35)
# Factors of the widths by the density. Samples between two of them are divided between both.
_LOCAL = 2.0 ** np.arange(-1, 2.5, 0.5)
# The narrowest kernel that a grid shows, as a standard deviation in steps of the grid.
_NARROWEST = 0.8
# The most samples that a density is made of: the noise of 100,000 moves no contour by more than
# 0.2 % of the mass.
_MOST = 100_000
# The most samples that the widths are chosen by.
_JUDGES = 10_000


class Density(NamedTuple):
    """A density of samples on a grid.

    Attributes:
        density: The density, `(n_1, ..., n_d)`, which integrates to one.
        contours: Heights, falling, and the probability above them, `(2, n)`.
    """

    density: np.ndarray
    contours: np.ndarray


def kernel_marginals(
    samples: np.ndarray,
    weights: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    ranges: Ranges | None,
) -> Marginals:
    """Densities of single parameters and of pairs, with contours that hold what they claim.

    Args:
        samples: Samples, `(n, p)`.
        weights: Their weights, `(n,)`, which sum to one.
        low: Lower bounds of the parameters, `(p,)`, where densities may end abruptly.
        high: Upper bounds of the parameters, `(p,)`.
        ranges: `(low, high)` for each parameter: samples beyond are left out. `None` for ranges
            that hold all of the mass.

    Raises:
        ValueError: If no sample is in range.
    """
    if len(samples) > _MOST:
        # Systematic resampling keeps all of the large weights.
        steps = (np.arange(_MOST) + 0.5) / _MOST
        chosen = np.minimum(np.searchsorted(np.cumsum(weights), steps), len(weights) - 1)
        samples, weights = samples[chosen], np.full(_MOST, 1 / _MOST)
    # A sample that occurs twice would be its own witness when it is left out.
    samples, place = np.unique(samples, axis=0, return_inverse=True)
    weights = np.bincount(place.ravel(), weights, len(samples))
    kept = weights > 0
    if ranges is not None:
        starts, stops = np.array(ranges, dtype=float).T
        kept &= ((samples >= starts) & (samples <= stops)).all(axis=1)
    samples, weights = samples[kept], weights[kept] / total_weight(weights[kept])
    cut = np.array(mass_ranges(low, high, samples, weights) if ranges is None else ranges)
    starts, stops = np.maximum(cut[:, 0], low), np.minimum(cut[:, 1], high)
    # Samples that were left out lay right beyond the edge of their range.
    hard = [(True, True)] * len(cut) if ranges is not None else []
    hard = hard or list(zip(starts <= low, stops >= high, strict=True))
    sizes = _sizes(samples, weights, stops - starts)
    axes = [np.linspace(*ends) for ends in zip(starts, stops, sizes, strict=True)]

    def density(*chosen: int) -> Density:
        columns = samples[:, chosen]
        return kernel_density(
            columns, weights, [axes[i] for i in chosen], [hard[i] for i in chosen]
        )

    pairs = {pair: density(*pair) for pair in combinations(range(len(axes)), 2)}
    return Marginals(
        axes,
        [trapezium_widths(axis) for axis in axes],
        [density(i).density for i in range(len(axes))],
        {pair: each.density for pair, each in pairs.items()},
        {pair: each.contours for pair, each in pairs.items()},
    )


def _sizes(samples: np.ndarray, weights: np.ndarray, spans: np.ndarray) -> list[int]:
    """The points, `p` numbers, that each axis needs to resolve the kernels of all its pairs."""
    p = len(spans)
    centred = (samples - weights @ samples) / spans
    covariance = (centred * weights[:, np.newaxis]).T @ centred
    scale = np.sqrt(np.diag(covariance))
    scale[scale == 0] = 1
    correlation = covariance / np.outer(scale, scale) - np.eye(p)
    # A pair is narrowest across its correlation.
    across = np.sqrt(np.maximum(1 - np.square(correlation).max(axis=0), 1e-6))
    steps = 0.35 * scale * across * (1 / (weights**2).sum()) ** (-1 / 6)
    most = max(128, int(400 / np.sqrt(max(1.0, p * (p - 1) / 12))))
    return [int(size) for size in np.clip(1 / steps, 128, most)]


def kernel_density(
    samples: np.ndarray,
    weights: np.ndarray,
    axes: GridAxes,
    hard: list[tuple[bool, bool]],
) -> Density:
    """Estimates a density of one or two parameters.

    Args:
        samples: Samples, `(n, d)`, all different. Those outside the grid lie in no contour.
        weights: Their weights, `(n,)`, which sum to one.
        axes: The axes of the grid, `d` arrays `(n_i,)` of equal steps.
        hard: For each axis, whether the density ends at its first point and at its last one.
    """
    grid = _Grid(samples, weights, axes, hard)
    covariance = grid.covariance() * (1 / (weights**2).sum()) ** (-2 / (len(axes) + 4))
    best = _factor(grid, covariance, weights)
    first = grid.alike(covariance * best**2, np.arange(len(samples)))
    density, without = grid.smoothed(covariance * best**2, _local_widths(first, weights))
    widths = [trapezium_widths(axis) for axis in axes]
    total = integral(density, widths)
    order = np.argsort(-without)
    held = np.cumsum(weights[order]) - weights[order] / 2
    # A height of nothing would be a contour around the noise of the transform.
    heights = np.maximum(without[order], 1e-6 * density.max())
    return Density(density / total, np.stack([heights / total, held]))


def _factor(grid: "_Grid", covariance: np.ndarray, weights: np.ndarray) -> float:
    """The factor of the widths of kernels: the widest that is nearly as likely as the best."""
    judges = np.arange(0, len(weights), -(-len(weights) // _JUDGES))
    shares = weights[judges] / weights[judges].sum()
    likelihoods = []
    for factor in _FACTORS:
        without = grid.alike(covariance * factor**2, judges)
        if not without.any():
            return _FACTORS[0]
        # The floor keeps one sample far from all others from deciding.
        likelihoods.append(shares @ np.log(np.maximum(without, 1e-4 * (shares @ without))))
    # Noise must not look like structure: of few samples, narrow kernels have to be far better.
    allowed = max(likelihoods) - 0.1 - 30 * (weights**2).sum()
    return next(
        factor for factor, value in zip(_FACTORS, likelihoods, strict=True) if value >= allowed
    )


def _local_widths(density: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Factors of the widths of kernels, `(n,)`, by a first estimate of the density, `(n,)`."""
    seen = density > 0
    if not seen.any():
        return np.ones(len(density))
    logs = np.log(density, where=seen, out=np.full(len(density), -np.inf))
    typical = np.average(logs[seen], weights=weights[seen])
    return np.exp(np.clip((typical - logs) / 2, np.log(_LOCAL[0]), np.log(_LOCAL[-1])))


class _Grid:
    """Samples, each divided between the points around it, and sums of kernels about them.

    Widths and covariances are in steps of the grid.
    """

    def __init__(
        self,
        samples: np.ndarray,
        weights: np.ndarray,
        axes: GridAxes,
        hard: list[tuple[bool, bool]],
    ) -> None:
        self._weights, self._hard = weights, hard
        self._shape = tuple(len(axis) for axis in axes)
        starts = np.array([axis[0] for axis in axes])
        steps = np.array([(axis[-1] - axis[0]) / (len(axis) - 1) for axis in axes])
        self._places = (samples - starts) / steps
        last = np.array(self._shape) - 1
        self._inside = ((self._places >= 0) & (self._places <= last)).all(axis=1)
        base = np.clip(np.floor(self._places), 0, last - 1).astype(int)
        beyond = self._places - base
        self._corners = np.array(list(product([0, 1], repeat=len(axes))))
        self._shares = np.stack(
            [np.where(corner, beyond, 1 - beyond).prod(axis=1) for corner in self._corners]
        )
        self._cells = np.stack(
            [np.ravel_multi_index((base + corner).T, self._shape) for corner in self._corners]
        )
        # Room for the widest kernels, which must not meet themselves around the periodic grid.
        self._margins = [size // 2 for size in self._shape]
        self._room = [
            fft.next_fast_len(size + 2 * margin, real=True)
            for size, margin in zip(self._shape, self._margins, strict=True)
        ]
        waves = [2 * np.pi * fft.fftfreq(size) for size in self._room]
        waves[-1] = 2 * np.pi * fft.rfftfreq(self._room[-1])
        self._waves = np.meshgrid(*waves, indexing="ij", sparse=True)
        everyone = np.arange(len(samples))
        counts = self._counts(everyone, np.ones(len(samples)))
        self._transform = fft.rfftn(self._extended(counts))

    def covariance(self) -> np.ndarray:
        """Covariance of the samples, `(d, d)`; zeros if one has all the weight."""
        centred = self._places - self._weights @ self._places
        spread = 1 - (self._weights**2).sum()
        total = (centred * self._weights[:, np.newaxis]).T @ centred
        return total / spread if spread > 1e-12 else 0 * total

    def alike(self, covariance: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """The density at some samples, each without itself, by kernels of one shape.

        Args:
            covariance: Covariance of the kernels, `(d, d)`.
            chosen: The numbers of these samples, `(m,)`.

        Returns:
            The densities, `(m,)`.
        """
        kernel = _resolved(covariance)
        density = self._density(self._transform * self._transformed(kernel))
        return self._without(density, self._peak(chosen, kernel), chosen)

    def smoothed(self, covariance: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums kernels of different widths about the samples.

        Args:
            covariance: Covariance of a kernel of width one, `(d, d)`.
            widths: Widths of the kernels, `(n,)`, each times the square root of the covariance.

        Returns:
            The density on the grid, `(n_1, ..., n_d)`, and the density at each sample without that
            sample, `(n,)`.
        """
        place = np.log(widths / _LOCAL[0]) / np.log(_LOCAL[1] / _LOCAL[0])
        lower = np.clip(np.floor(place), 0, len(_LOCAL) - 2).astype(int)
        upper = place - lower
        transform, own = np.zeros_like(self._transform), np.zeros(len(widths))
        for i, local in enumerate(_LOCAL):
            share = np.where(lower == i, 1 - upper, 0) + np.where(lower == i - 1, upper, 0)
            (chosen,) = np.nonzero(share > 1e-9)
            if len(chosen) > 0:
                kernel = _resolved(covariance * local**2)
                counts = self._extended(self._counts(chosen, share[chosen]))
                transform += fft.rfftn(counts) * self._transformed(kernel)
                own[chosen] += share[chosen] * self._peak(chosen, kernel)
        density = self._density(transform)
        return density, self._without(density, own, np.arange(len(widths)))

    def _transformed(self, kernel: np.ndarray) -> np.ndarray:
        """The Fourier transform of a kernel of this covariance."""
        waves = self._waves
        exponent = sum(kernel[i, j] * waves[i] * waves[j] for i, j in np.ndindex(*kernel.shape))
        return np.exp(-exponent / 2)

    def _density(self, transform: np.ndarray) -> np.ndarray:
        """The density on the grid, `(n_1, ..., n_d)`, from its Fourier transform with margins."""
        everywhere = fft.irfftn(transform, self._room)
        starts = zip(self._margins, self._shape, strict=True)
        return np.maximum(everywhere[tuple(slice(start, start + n) for start, n in starts)], 0)

    def _without(self, density: np.ndarray, own: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """The density at some samples, `(m,)`, less what each of them contributes itself."""
        at = (self._shares[:, chosen] * density.ravel()[self._cells[:, chosen]]).sum(axis=0)
        weights = self._weights[chosen]
        rest = np.maximum(at - weights * own, 0) / np.maximum(1 - weights, 1e-12)
        return np.where(self._inside[chosen], rest, 0)

    def _counts(self, chosen: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Weights of some samples at the points of the grid, `(n_1, ..., n_d)`."""
        weights = self._weights[chosen] * self._inside[chosen] * share
        counts = np.zeros(int(np.prod(self._shape)))
        for cells, shares in zip(self._cells, self._shares, strict=True):
            counts += np.bincount(cells[chosen], weights * shares[chosen], len(counts))
        return counts.reshape(self._shape)

    def _extended(self, counts: np.ndarray) -> np.ndarray:
        """Surrounds the grid with margins: mirror images at hard edges, zeros at others."""
        for axis, (first, last) in enumerate(self._hard):
            size, margin = self._shape[axis], self._margins[axis]
            lines = np.moveaxis(counts, axis, 0)
            larger = np.zeros((self._room[axis], *lines.shape[1:]))
            larger[margin : margin + size] = lines
            # A point on an edge is its own mirror image.
            if first:
                larger[: margin + 1] += lines[margin::-1]
            if last:
                end = margin + size - 1
                larger[end : end + margin + 1] += lines[: -margin - 2 : -1]
            counts = np.moveaxis(larger, 0, axis)
        return counts

    def _peak(self, chosen: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        """What samples of unit weight contribute to the density at their own places."""
        inverse = np.linalg.inv(kernel)
        norm = 1 / np.sqrt(np.linalg.det(2 * np.pi * kernel))
        apart = self._corners[:, np.newaxis] - self._corners
        heights = norm * np.exp(-np.einsum("abi,ij,abj->ab", apart, inverse, apart) / 2)
        shares = self._shares[:, chosen]
        return (shares * (heights @ shares)).sum(axis=0)


def _resolved(covariance: np.ndarray) -> np.ndarray:
    """Makes a kernel as wide in all directions as a grid can show."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.maximum(values, _NARROWEST**2)) @ vectors.T
