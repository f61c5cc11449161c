"""The Gaussian likelihood of the parameters about an estimate."""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp, ndtri
from scipy.stats import qmc

from imnn_tf.lfi.prior import Prior


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
        """Turns standard normal numbers, `(n, p)`, into draws from this distribution."""
        # L^-T z has covariance (L L^T)^-1 = F^-1.
        return self.centre + np.linalg.solve(np.linalg.cholesky(self.fisher).T, standard.T).T

    def box(self, widths: float) -> tuple[np.ndarray, np.ndarray]:
        """Corners, `(p,)` each, of the box of that many standard deviations about the centre."""
        reach = widths * np.sqrt(np.diag(np.linalg.inv(self.fisher)))
        return self.centre - reach, self.centre + reach

    def log_evidence(self, prior: Prior) -> float:
        """Log of the mean density of a prior, over 65,536 points of a Sobol sequence."""
        uniform = qmc.Sobol(len(self.centre), rng=np.random.default_rng(0)).random_base2(16)
        points = self.draws(ndtri(np.clip(uniform, 1e-12, 1 - 1e-12)))
        return float(logsumexp(prior.log_prob(points)) - np.log(len(points)))
