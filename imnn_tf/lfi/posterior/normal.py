"""The Gaussian likelihood of the parameters about an estimate, and its widening."""

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln, log_ndtr, logsumexp, ndtri_exp
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
        """Turns standard normal numbers, `(n, p)`, into draws from this distribution, `(n, p)`."""
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
        reach = widths * np.sqrt(np.diag(self._inverse))
        if np.isfinite(self.degrees):
            # As rarely left as by a normal distribution, up to five standard deviations.
            tail = min(widths, 5.0)
            quantile = students_t.isf(norm.sf(tail), self._freedom)
            reach = reach * quantile / tail * np.sqrt(self.degrees / self._freedom)
        return self.centre - reach, self.centre + reach

    def log_evidence(self, prior: Prior) -> float:
        """Log of the integral of this density times a prior, over 65,536 points.

        Raises:
            ValueError: If the product is zero at all points.
        """
        weights = self.proposal(prior).weighted(self, prior, _sobol(len(self.centre), 16))[1]
        return float(logsumexp(weights) - np.log(len(weights)))

    def posterior_draws(self, prior: Prior, uniform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weighted draws from the product with a prior.

        Args:
            prior: The prior.
            uniform: Uniform numbers between zero and one, `(n, p)`.

        Returns:
            Points, `(n, p)`, and their weights, `(n,)`, the largest of which is one.

        Raises:
            ValueError: If the product is zero at all points.
        """
        points, weights = self.proposal(prior).weighted(self, prior, uniform)
        return points, np.exp(weights - weights.max())

    def proposal(self, prior: Prior) -> "Truncated":
        """What to draw from for the product with a prior: what gives the most even weights.

        Either this distribution, or an approximation of the product that is wider than it, each cut
        off at the bounds of the prior.
        """
        bases = [self, self.times(prior, widened=1.1), self.times(prior, widened=1.5)]
        proposals = [Truncated(base, prior.low, prior.high) for base in bases]
        trial = _sobol(len(self.centre), 12)

        def effective(proposal: Truncated) -> float:
            try:
                logs = proposal.weighted(self, prior, trial)[1]
            except ValueError:
                return 0.0
            weights = np.exp(logs - logs.max())
            return float(weights.sum() ** 2 / (weights**2).sum())

        return max(proposals, key=effective)

    @property
    def covariance(self) -> np.ndarray:
        """The covariance, `(p, p)`: the inverse of `fisher`, and more where that is uncertain."""
        wider = self.degrees / (self._freedom - 2) if np.isfinite(self.degrees) else 1.0
        return wider * self._inverse

    @property
    def _inverse(self) -> np.ndarray:
        """The inverse of `fisher`, `(p, p)`."""
        # In units of its diagonal the matrix can be inverted at any scale.
        unit = np.sqrt(np.diag(self.fisher))
        return np.linalg.inv(self.fisher / np.outer(unit, unit)) / np.outer(unit, unit)

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


class Truncated(NamedTuple):
    """Draws from about a normal distribution within a box, one parameter after another.

    Each parameter is drawn from its truncated normal distribution given those before it (the
    simulator of Geweke, Hajivassiliou and Keane; Genz 1992, "Numerical computation of multivariate
    normal probabilities"). For independent parameters these are exact draws.

    Attributes:
        base: The normal distribution.
        low: Lower ends of the box, `(p,)`, or minus infinity.
        high: Upper ends of the box, `(p,)`, or infinity.
    """

    base: Normal
    low: np.ndarray
    high: np.ndarray

    def draws(self, uniform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turns uniform numbers, `(n, p)`, into points, `(n, p)`, and their log density, `(n,)`."""
        covariance = self.base.covariance
        scale = np.sqrt(np.diag(covariance))
        low, high = (self.low - self.base.centre) / scale, (self.high - self.base.centre) / scale
        # Parameters that the box cuts most come first, since later ones can take no account of it.
        order = np.argsort(_interval(low, high, np.full(len(low), 0.5))[1], kind="stable")
        L = np.linalg.cholesky((covariance / np.outer(scale, scale))[np.ix_(order, order)])
        standard, log_density = np.zeros_like(uniform), np.zeros(len(uniform))
        for i, parameter in enumerate(order):
            given = standard @ L[i]
            ends = [(end[parameter] - given) / L[i, i] for end in (low, high)]
            standard[:, i], log_mass = _interval(ends[0], ends[1], uniform[:, i])
            log_density -= log_mass + standard[:, i] ** 2 / 2 + np.log(2 * np.pi) / 2
        points = np.empty_like(uniform)
        points[:, order] = standard @ L.T
        points = np.clip(self.base.centre + scale * points, self.low, self.high)
        return points, log_density - np.log(np.diag(L)).sum() - np.log(scale).sum()

    def weighted(
        self, likelihood: Normal, prior: Prior, uniform: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points, `(n, p)`, with the logs of their weights, `(n,)`, for likelihood times prior.

        Raises:
            ValueError: If all weights are zero.
        """
        points, log_density = self.draws(uniform)
        weights = likelihood.log_prob(points) + prior.log_prob(points) - log_density
        if not weights.max() > -np.inf:
            raise ValueError(
                "`prior` and the likelihood must overlap, got a product that is zero at all of "
                f"{len(points)} points about {self.base.centre.tolist()}."
            )
        return points, weights


def _interval(low: np.ndarray, high: np.ndarray, uniform: np.ndarray) -> tuple[np.ndarray, ...]:
    """Draws from a standard normal distribution within intervals, exact far out in its tails.

    Args:
        low: Lower ends, `(n,)`.
        high: Upper ends, `(n,)`.
        uniform: Uniform numbers, `(n,)`.

    Returns:
        The draws, `(n,)`, and the logs of what their densities are divided by, `(n,)`: the
        probability of the interval.
    """
    # In the lower tail logarithms keep their precision.
    upper = low > 0
    start, stop = np.where(upper, -high, low), np.where(upper, -low, high)
    first, last = log_ndtr(start), log_ndtr(stop)
    ratio = np.exp(first - last)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_mass = last + np.log1p(-ratio)
        draws = ndtri_exp(last + np.log(uniform + (1 - uniform) * ratio))
    # An interval too narrow for differences of probabilities is taken for flat.
    width = stop - start
    narrow = width * (1 + np.abs(start)) < 1e-6
    flat = start + uniform * np.where(narrow, width, 0)
    draws = np.clip(np.where(narrow, flat, draws), start, stop)
    with np.errstate(divide="ignore"):
        level = np.log(np.where(narrow, width, 1)) - draws**2 / 2 - np.log(2 * np.pi) / 2
    return np.where(upper, -draws, draws), np.where(narrow, level, log_mass)


def _sobol(p: int, power: int) -> np.ndarray:
    """`2^power` points of a scrambled Sobol sequence in `p` dimensions with a fixed seed."""
    points = qmc.Sobol(p, rng=np.random.default_rng(0)).random_base2(power)
    return np.clip(points, 1e-12, 1 - 1e-12)


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
