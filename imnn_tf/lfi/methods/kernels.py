"""The kernels that particles are drawn from, and the weights that correct for them."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from imnn_tf.lfi.posterior.samples import weighted_covariance

# Entries of the kernel matrix that are in memory at a time: 8 MB, which fits into a cache.
_ENTRIES_AT_A_TIME = 1_000_000


class Proposals(Protocol):
    """A density that parameters are drawn from."""

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Draws points, `(n, p)`."""

    def density(self, points: np.ndarray) -> np.ndarray:
        """Density, `(m,)`, at points `(m, p)`."""


class Mixture(NamedTuple):
    """A mixture of Gaussian kernels about the particles of a population.

    Attributes:
        centres: Particles, `(n, p)`.
        weights: Their weights, `(n,)`, which sum to one.
        scale: Cholesky factor of the covariance that all kernels have, `(p, p)`.
    """

    centres: np.ndarray
    weights: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, particles: np.ndarray, weights: np.ndarray) -> "Mixture":
        """Kernels with twice the weighted covariance of the particles.

        Beaumont, Cornuet, Marin & Robert (2009), arXiv:0805.2256, section 3: of all Gaussian
        random walks this one is closest to the target in Kullback-Leibler divergence.

        Args:
            particles: Particles, `(n, p)`.
            weights: Their weights, `(n,)`, which sum to one.

        Raises:
            ValueError: If the particles do not span all parameters.
        """
        covariance = 2 * weighted_covariance(particles, weights)
        try:
            return cls(particles, weights, np.linalg.cholesky(covariance))
        except np.linalg.LinAlgError:
            raise ValueError(
                f"`draws` must be enough particles to span {particles.shape[1]} parameters, "
                f"got a population of covariance {covariance.tolist()}."
            ) from None

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Draws points, `(n, p)`: particles chosen by weight, each moved by its kernel."""
        chosen = rng.choice(len(self.centres), size=n, p=self.weights)
        return self.centres[chosen] + rng.normal(size=(n, self.scale.shape[0])) @ self.scale.T

    def density(self, points: np.ndarray) -> np.ndarray:
        """Density of the mixture, `(m,)`, at points `(m, p)`."""
        centres = np.linalg.solve(self.scale, self.centres.T).T
        whitened = np.linalg.solve(self.scale, points.T).T
        origin = self.weights @ centres  # shifted to zero, the squares below lose no digits
        centres, whitened = centres - origin, whitened - origin
        m, n = len(points), len(centres)
        with np.errstate(divide="ignore"):
            log_weights = np.log(self.weights)
        # -(x - y)^2 / 2 + log w = x y - x^2 / 2 + (log w - y^2 / 2) is one product of matrices.
        right = np.column_stack([centres, np.ones(n), log_weights - (centres**2).sum(1) / 2]).T
        left = np.column_stack([whitened, -(whitened**2).sum(1) / 2, np.ones(m)])
        right[~np.isfinite(right)] = -1e300  # a weight of zero: its log times zero would be NaN
        total = np.empty(m)
        rows = max(1, _ENTRIES_AT_A_TIME // n)
        for start in range(0, m, rows):
            kernels = left[start : start + rows] @ right
            np.exp(kernels, out=kernels)
            total[start : start + rows] = kernels.sum(axis=1)
        norm = (2 * np.pi) ** (self.scale.shape[0] / 2) * np.diag(self.scale).prod()
        return total / norm


def propose(
    mixture: Proposals,
    supports: Callable[[np.ndarray], np.ndarray],
    n: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, int]:
    """Draws points from a mixture that lie within the support of the prior.

    A draw outside is replaced by a wholly new one, of particle and move. So the draws have the
    density of the mixture within the support, up to one constant. If only the move were
    repeated, that constant would differ between kernels.

    Args:
        mixture: The mixture.
        supports: Takes points, `(m, p)`, and returns which of them the prior supports, `(m,)`.
        n: The number of points.
        rng: The source of randomness.

    Returns:
        Points, `(n, p)`, and the number of draws, inside and outside, that it took.

    Raises:
        RuntimeError: If less than 1 draw in 10,000 is within the support.
    """
    kept: list[np.ndarray] = []
    have, tried, most = 0, 0, max(2 * n, 100_000)
    while have < n:
        share = (have + 1) / (tried + 1)
        points = mixture.draw(rng, min(int((n - have) / share * 1.05) + 8, most))
        inside = np.flatnonzero(supports(points))[: n - have]
        # Draws after the last point needed do not count as tried.
        tried += inside[-1] + 1 if len(inside) == n - have else len(points)
        kept.append(points[inside])
        have += len(inside)
        if tried > 10_000 * (have + 1):
            raise RuntimeError(
                f"`prior` supports {have} of {tried} particles that were moved by a Gaussian. For "
                "discrete parameters use `ApproximateBayesianComputation`, which moves none."
            )
    return np.concatenate(kept), int(tried)


def importance_weights(mixture: Proposals, points: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Weights `prior / mixture`, normalised: Beaumont et al. (2009), arXiv:0805.2256, fig. 1.

    Args:
        mixture: The mixture that the points were drawn from: the kernels about the particles of
            the *previous* population.
        points: Accepted points, `(n, p)`.
        prior: Density of the prior at these points, `(n,)`.

    Returns:
        Weights, `(n,)`, which sum to one.
    """
    weights = prior / mixture.density(points)
    return weights / weights.sum()
