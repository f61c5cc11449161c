"""The Gaussian likelihood of the parameters about an estimate."""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp, ndtri
from scipy.stats import qmc

from imnn_tf.lfi.prior import Prior
from imnn_tf.utils.seeds import child, seed_sequence


class Normal(NamedTuple):
    """A normal distribution of `p` parameters.

    Attributes:
        centre: The mean, `(p,)`: the estimate of a target.
        fisher: The inverse of the covariance, `(p, p)`.
    """

    centre: np.ndarray
    fisher: np.ndarray

    def log_prob(self, points: np.ndarray) -> np.ndarray:
        """Log densities, `(n,)`, at points `(n, p)`."""
        # ln det F = 2 sum ln diag L, and the exponent is the squared length of L^T (x - mu).
        L = np.linalg.cholesky(self.fisher)
        norm = np.log(np.diag(L)).sum() - 0.5 * len(L) * np.log(2 * np.pi)
        return norm - 0.5 * (((points - self.centre) @ L) ** 2).sum(axis=1)

    def draws(self, standard: np.ndarray) -> np.ndarray:
        """Turns standard normal numbers, `(n, p)`, into draws from this distribution, `(n, p)`."""
        # L^-T z has covariance (L L^T)^-1 = F^-1.
        return self.centre + np.linalg.solve(np.linalg.cholesky(self.fisher).T, standard.T).T

    def box(self, widths: float) -> tuple[np.ndarray, np.ndarray]:
        """Corners, `(p,)` each, of the box of that many standard deviations about the centre."""
        reach = widths * np.sqrt(np.diag(np.linalg.inv(self.fisher)))
        return self.centre - reach, self.centre + reach

    def log_evidence(self, prior: Prior) -> float:
        """Log of the mean density of a prior, over 65,536 points of a Sobol sequence.

        If the prior is narrower than this distribution anywhere, the points are drawn about both.
        """
        uniform = qmc.Sobol(len(self.centre), rng=np.random.default_rng(0)).random_base2(16)
        standard = ndtri(np.clip(uniform, 1e-12, 1 - 1e-12))
        if not self.narrower_than(prior):
            # Wider than the product, so that no weight is large.
            proposal = self.times(prior, widened=1.5)
            points = proposal.draws(standard)
            weights = self.log_prob(points) - proposal.log_prob(points) + prior.log_prob(points)
            return float(logsumexp(weights) - np.log(len(points)))
        return float(logsumexp(prior.log_prob(self.draws(standard))) - np.log(len(standard)))

    @property
    def covariance(self) -> np.ndarray:
        """The inverse of `fisher`, `(p, p)`."""
        return np.linalg.inv(self.fisher)

    def narrower_than(self, prior: Prior) -> bool:
        """Whether no parameter has a prior of a smaller standard deviation."""
        return bool((np.diag(self.covariance) <= np.diag(_moments(prior)[1])).all())

    def fits_axes(self, prior: Prior) -> bool:
        """Whether a grid along the parameters resolves the product with a prior."""
        scale = np.sqrt(np.diag(self.covariance))
        correlations = self.covariance / np.outer(scale, scale) - np.eye(len(scale))
        return self.narrower_than(prior) and bool(np.abs(correlations).max() < 0.9)

    def times(self, prior: Prior, widened: float = 1.0) -> "Normal":
        """Approximates the product with a prior, which it takes for a normal distribution.

        Args:
            prior: The prior.
            widened: Factor by which standard deviations are made larger.
        """
        mean, covariance = _moments(prior)
        # In units of its standard deviations the prior's covariance can be inverted at any scale.
        scale = np.sqrt(np.diag(covariance))
        precision = np.linalg.inv(covariance / np.outer(scale, scale)) / np.outer(scale, scale)
        fisher = self.fisher + precision
        unit = np.sqrt(np.diag(fisher))
        pull = (self.fisher @ self.centre + precision @ mean) / unit
        centre = np.linalg.solve(fisher / np.outer(unit, unit), pull) / unit
        return Normal(centre, fisher / widened**2)


def _moments(prior: Prior) -> tuple[np.ndarray, np.ndarray]:
    """Mean, `(p,)`, and covariance, `(p, p)`, of 10,000 draws from a prior with a fixed seed."""
    draws = prior.sample(10_000, seed=child(seed_sequence(0), 0))
    return draws.mean(axis=0), np.atleast_2d(np.cov(draws.T))
