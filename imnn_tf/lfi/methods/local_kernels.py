"""Kernels as narrow as the neighbourhood of each particle, mixed with wide ones."""

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from imnn_tf.lfi.methods.kernels import Mixture

# Entries of the kernel matrix that are in memory at a time: 8 MB, which fits into a cache.
_ENTRIES_AT_A_TIME = 1_000_000
# The share of the particles that a neighbourhood holds, and for each parameter the least number.
_NEIGHBOURHOOD = 0.1
_LEAST = 5


class LocalMixture(NamedTuple):
    """A mixture of Gaussian kernels about particles, each with a covariance of its own.

    Attributes:
        centres: Particles, `(n, p)`.
        weights: Their weights, `(n,)`, which sum to one.
        scales: Cholesky factors of the covariances, `(n, p, p)`.
    """

    centres: np.ndarray
    weights: np.ndarray
    scales: np.ndarray

    @classmethod
    def of(cls, wide: Mixture) -> "LocalMixture":
        """Kernels with the second moment of the nearest tenth of the particles about each.

        The kernels with nearest neighbours of Filippi, Barnes, Cornebise & Stumpf (2013),
        arXiv:1106.6280: a random walk that adapts to the shape of the target near each particle.
        The moment is about the particle, and not about the mean of its neighbours. If all particles
        were neighbours, its mean over them would be twice the covariance, as in `Mixture.of`.

        Args:
            wide: The mixture of the same particles with a covariance that all of them share.
        """
        n, p = wide.centres.shape
        whitened = np.linalg.solve(wide.scale, wide.centres.T).T
        count = int(np.clip(_NEIGHBOURHOOD * n, min(_LEAST * p, n), n))
        near = np.asarray(cKDTree(whitened).query(whitened, k=[*range(1, count + 1)])[1])
        moments = np.empty((n, p, p))
        for i, rows in enumerate(near):  # all at once would need n^2 p / 10 numbers
            steps, weights = whitened[rows] - whitened[i], wide.weights[rows]
            moments[i] = (steps.T * (weights / weights.sum())) @ steps
        # Particles that lie on a plane still get a kernel in all directions.
        floor = 1e-9 * np.trace(moments, axis1=1, axis2=2) + 1e-12
        moments += floor[:, np.newaxis, np.newaxis] * np.eye(p)
        return cls(wide.centres, wide.weights, wide.scale @ np.linalg.cholesky(moments))

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Draws points, `(n, p)`: particles chosen by weight, each moved by its own kernel."""
        chosen = rng.choice(len(self.centres), size=n, p=self.weights)
        noise = rng.normal(size=(n, self.centres.shape[1], 1))
        return self.centres[chosen] + (self.scales[chosen] @ noise)[..., 0]

    def density(self, points: np.ndarray) -> np.ndarray:
        """Density of the mixture, `(m,)`, at points `(m, p)`."""
        n, p = self.centres.shape
        origin, unit = self.weights @ self.centres, self.centres.std(axis=0)
        inverse = np.linalg.inv(self.scales / unit[:, np.newaxis])
        precision = np.swapaxes(inverse, 1, 2) @ inverse
        centres, x = (self.centres - origin) / unit, (points - origin) / unit
        pulled = (precision @ centres[..., np.newaxis])[..., 0]
        volume = np.log(np.diagonal(self.scales, axis1=1, axis2=2)).sum(axis=1)
        with np.errstate(divide="ignore"):
            constant = np.log(self.weights) - (pulled * centres).sum(axis=1) / 2 - volume
        constant[~np.isfinite(constant)] = -1e300  # a weight of zero
        # -(x - y)^T A (x - y) / 2 is linear in the products of x with itself, in x and in 1.
        i, j = np.triu_indices(p)
        squares = precision[:, i, j] * np.where(i == j, -0.5, -1.0)
        right = np.column_stack([squares, pulled, constant]).T
        total, rows = np.empty(len(x)), max(1, _ENTRIES_AT_A_TIME // n)
        for start in range(0, len(x), rows):
            some = x[start : start + rows]
            left = np.column_stack([some[:, i] * some[:, j], some, np.ones(len(some))])
            total[start : start + rows] = np.exp(left @ right).sum(axis=1)
        return total / (2 * np.pi) ** (p / 2)


class DefensiveMixture(NamedTuple):
    """Wide kernels, and with some probability local ones.

    The wide part bounds the weights: no proposal is rarer than with the wide kernels alone by more
    than the factor `1 - share` (Hesterberg 1995, Technometrics 37, 185).

    Attributes:
        wide: The wide kernels.
        narrow: The local ones.
        share: The probability that a proposal is drawn from the local ones.
    """

    wide: Mixture
    narrow: LocalMixture
    share: float

    @classmethod
    def of(cls, particles: np.ndarray, weights: np.ndarray, share: float) -> "DefensiveMixture":
        """Both kinds of kernels about the same particles, `(n, p)`, with weights `(n,)`."""
        wide = Mixture.of(particles, weights)
        return cls(wide, LocalMixture.of(wide), share)

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Draws points, `(n, p)`, in an order that does not tell which kind they are of."""
        local = rng.uniform(size=n) < self.share
        points = np.empty((n, self.wide.centres.shape[1]))
        points[local] = self.narrow.draw(rng, int(local.sum()))
        points[~local] = self.wide.draw(rng, int((~local).sum()))
        return points

    def density(self, points: np.ndarray) -> np.ndarray:
        """Density of the mixture, `(m,)`, at points `(m, p)`."""
        both = self.wide.density(points), self.narrow.density(points)
        return (1 - self.share) * both[0] + self.share * both[1]
