"""The Gaussian likelihood of the parameters about an estimate, and its widening."""

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln, logsumexp, ndtri
from scipy.stats import chi2, norm, qmc
from scipy.stats import f as variance_ratio
from scipy.stats import t as students_t

from imnn_tf.lfi.prior import Prior
from imnn_tf.utils.seeds import child, seed_sequence


class Normal(NamedTuple):
    """A normal distribution of `p` parameters, or what becomes of it where its width is uncertain.

    A covariance that was estimated from `m + 1` simulations turns the normal distribution into
    Student's: `exp(−χ²/2)` becomes `(1 + χ²/m)^(−(m + 1)/2)` (Sellentin & Heavens 2016,
    arXiv:1511.05969).

    Attributes:
        centre: The mean, `(p,)`: the estimate of a target.
        fisher: The inverse of the covariance, `(p, p)`.
        degrees: The number `m`, at least `p + 2`; infinite for a normal distribution.
    """

    centre: np.ndarray
    fisher: np.ndarray
    degrees: float = np.inf

    @property
    def _freedom(self) -> float:
        """The degrees of freedom of Student's distribution in the usual parametrisation."""
        return self.degrees + 1 - len(self.centre)

    def log_prob(self, points: np.ndarray) -> np.ndarray:
        """Log densities, `(n,)`, at points `(n, p)`."""
        # ln det F = 2 sum ln diag L, and the exponent is the squared length of L^T (x - mu).
        L = np.linalg.cholesky(self.fisher)
        p, volume = len(L), np.log(np.diag(L)).sum()
        squares = (((points - self.centre) @ L) ** 2).sum(axis=1)
        if np.isinf(self.degrees):
            return volume - 0.5 * p * np.log(2 * np.pi) - 0.5 * squares
        m = self.degrees
        shape = gammaln((m + 1) / 2) - gammaln((m + 1 - p) / 2) - 0.5 * p * np.log(np.pi * m)
        return volume + shape - 0.5 * (m + 1) * np.log1p(squares / m)

    def draws(self, standard: np.ndarray) -> np.ndarray:
        """Turns standard normal numbers, `(n, p)`, into draws from this distribution."""
        if np.isfinite(self.degrees):
            # The same direction, at the distance that is exceeded as rarely.
            p, squares = len(self.centre), (standard**2).sum(axis=1, keepdims=True)
            ratio = p * variance_ratio.isf(chi2.sf(squares, p), p, self._freedom)
            stretch = np.sqrt(ratio * self.degrees / self._freedom / np.maximum(squares, 1e-300))
            standard = standard * stretch
        # L^-T z has covariance (L L^T)^-1 = F^-1.
        return self.centre + np.linalg.solve(np.linalg.cholesky(self.fisher).T, standard.T).T

    def box(self, widths: float) -> tuple[np.ndarray, np.ndarray]:
        """Corners, `(p,)` each, of the box of that many standard deviations about the centre."""
        reach = widths * np.sqrt(np.diag(np.linalg.inv(self.fisher)))
        if np.isfinite(self.degrees):
            # As rarely left as by a normal distribution, up to five standard deviations.
            tail = min(widths, 5.0)
            quantile = students_t.isf(norm.sf(tail), self._freedom)
            reach = reach * quantile / tail * np.sqrt(self.degrees / self._freedom)
        return self.centre - reach, self.centre + reach

    def log_evidence(self, prior: Prior) -> float:
        """Log of the mean density of a prior, over 65,536 points of a Sobol sequence.

        If the prior is narrower than this distribution anywhere, the points are drawn about both.
        """
        uniform = qmc.Sobol(len(self.centre), rng=np.random.default_rng(0)).random_base2(16)
        standard = ndtri(np.clip(uniform, 1e-12, 1 - 1e-12))
        if not self.narrower_than(prior):
            # Wider than the product, so that no weight is large.
            proposal = self.times(prior, widened=1.5)._replace(degrees=self.degrees)
            points = proposal.draws(standard)
            weights = self.log_prob(points) - proposal.log_prob(points) + prior.log_prob(points)
            return float(logsumexp(weights) - np.log(len(points)))
        return float(logsumexp(prior.log_prob(self.draws(standard))) - np.log(len(standard)))

    @property
    def covariance(self) -> np.ndarray:
        """The covariance, `(p, p)`: the inverse of `fisher`, and more where that is uncertain."""
        wider = self.degrees / (self._freedom - 2) if np.isfinite(self.degrees) else 1.0
        return wider * np.linalg.inv(self.fisher)

    def narrower_than(self, prior: Prior) -> bool:
        """Whether no parameter has a prior of a smaller standard deviation."""
        return bool((np.diag(self.covariance) <= np.diag(_moments(prior)[1])).all())

    def fits_axes(self, prior: Prior) -> bool:
        """Whether a grid along the parameters resolves the product with a prior."""
        scale = np.sqrt(np.diag(self.covariance))
        correlations = self.covariance / np.outer(scale, scale) - np.eye(len(scale))
        return self.narrower_than(prior) and bool(np.abs(correlations).max() < 0.9)

    def times(self, prior: Prior, widened: float = 1.0) -> "Normal":
        """Approximates the product with a prior, taking both for normal distributions.

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


def degrees_of(error: float | None, n_params: int) -> float:
    """The number of simulations, less one, whose covariance has a given error of ln det F.

    The determinant of a covariance of `n_params` numbers from `m + 1` simulations has a logarithm
    with the variance `2 n_params / m`, to first order.
    """
    most = np.sqrt(2 * n_params / (n_params + 2))
    if error is None or not error <= most:
        raise ValueError(
            "`Fisher` must have an error of ln det F of at most "
            f"{most:.3g} to widen the likelihood by, got {error}; `widen=False` does not widen it."
        )
    return 2 * n_params / max(error, 1e-6) ** 2
