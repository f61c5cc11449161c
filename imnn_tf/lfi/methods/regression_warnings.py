"""Warns where the regression that adjusts accepted samples cannot be trusted."""

import logging
from typing import NamedTuple

import numpy as np

logger = logging.getLogger(__name__)

# What is tolerated of each measure in `Quality`, chosen over runs with 20 seeds, 1 to 5 parameters
# and 100 to 5,000 samples. None that was right to 10 % gave a warning. Of those that were wrong,
# most did from 1,000 samples on, and about half with 300.
_NARROWED, _OUTSIDE, _SHIFT, _WIDTH = 0.95, 2.0, 0.2, 0.18

# A curvature counts if it is as many standard errors from zero, and is looked for only if its fit
# leaves as much of the variance as this.
_SIGNIFICANT, _QUADRATIC_LOSS = 4.0, 0.05

# Samples that the quadratic fit sees at most, which bounds its time.
_MOST = 20_000


class Quality(NamedTuple):
    """What is wrong with a weighted linear regression of parameters on estimates.

    Attributes:
        narrowed: Width of the residuals over that of the noise, below one as the coefficients
            follow the noise.
        effective: The number of samples with equal weights that would narrow them as much.
        outside: Distance of the target's estimate from the mean of the accepted ones, in their
            standard deviations: the largest along an axis, or the root mean square over all.
        shift: What quadratic terms change in the mean of each parameter at the target, in standard
            deviations of the residuals, `(p,)`. Zero where that is not significant.
        width: The log of the width of the residuals over that at the target, `(p,)`; likewise.
    """

    narrowed: float
    effective: float
    outside: float
    shift: np.ndarray
    width: np.ndarray


def quality(x: np.ndarray, residuals: np.ndarray, weights: np.ndarray) -> Quality:
    """Measures whether a regression has enough samples, surrounds the target and is linear.

    With independent noise of one variance, the weighted mean of the squared residuals is that
    variance times `1 - sum(w h)`, where `h` are the leverages.

    Args:
        x: Differences of the estimates from the target's, in units of which all are of order one,
            `(n, s)`.
        residuals: Residuals of the linear regression, `(n, p)`.
        weights: The weights of the regression, `(n,)`, which sum to one.
    """
    n, s = x.shape
    lost = _lost(np.column_stack([np.ones(n), x]), weights)
    mean = weights @ x
    covariance = (x - mean).T @ ((x - mean) * weights[:, np.newaxis])
    deviations = np.sqrt(np.diag(covariance))
    along = np.abs(mean) / np.where(deviations > 0, deviations, np.inf)
    distance = np.sqrt(max(mean @ np.linalg.pinv(covariance, hermitian=True) @ mean / s, 0.0))
    shift, width = _curvature(x, residuals, weights)
    narrowed, effective = np.sqrt(max(1 - lost, 0.0)), (s + 1) / lost
    return Quality(narrowed, effective, max(along.max(), distance), shift, width)


def warn_of_poor_fit(
    x: np.ndarray,
    residuals: np.ndarray,
    weights: np.ndarray,
    tolerance: float,
) -> None:
    """Logs one warning if adjusted samples are not to be trusted, with the remedy.

    Args:
        x: As for `quality`, `(n, s)`.
        residuals: As for `quality`, `(n, p)`.
        weights: As for `quality`, `(n,)`.
        tolerance: The distance within which the samples were accepted.
    """
    found = quality(x, residuals, weights)
    if found.narrowed < _NARROWED:
        logger.warning(
            "Regression adjustment fits %d coefficients to %.0f effective samples, which makes the "
            "posterior about %.0f %% too narrow. Accept more simulations.",
            x.shape[1] + 1,
            found.effective,
            100 * (1 - found.narrowed),
        )
    elif found.outside > _OUTSIDE:
        logger.warning(
            "Regression adjustment extrapolates: the estimate of the target lies %.1f standard "
            "deviations from the mean of the accepted estimates. Take a smaller tolerance than "
            "%.3g; if no simulation is nearer, the prior does not reach the target.",
            found.outside,
            tolerance,
        )
    elif (np.abs(found.shift) > _SHIFT).any() or (np.abs(found.width) > _WIDTH).any():
        logger.warning(
            "A tolerance of %.3g is too wide for the linear regression of `adjust=True`: with "
            "quadratic terms the mean of a parameter moves by %.2f standard deviations, and the "
            "width of its noise changes by a factor of %.2f. Take a smaller tolerance.",
            tolerance,
            np.abs(found.shift).max(),
            np.exp(np.abs(found.width).max()),
        )


def _curvature(
    x: np.ndarray, residuals: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`shift` and `width` of `Quality`, by a regression with quadratic terms."""
    step = -(-len(x) // _MOST)
    x, residuals, weights = x[::step], residuals[::step], weights[::step]
    weights = weights / weights.sum()
    root, variance = np.sqrt(weights), weights @ residuals**2
    rows, columns = np.triu_indices(x.shape[1])
    design = np.column_stack([np.ones(len(x)), x, x[:, rows] * x[:, columns]])
    unknown = np.zeros(residuals.shape[1])
    noisy = variance > 0
    if not noisy.any() or _lost(design, weights) > _QUADRATIC_LOSS:
        return unknown, unknown
    inverse = np.linalg.pinv(root[:, np.newaxis] * design) * root
    at_target = inverse[0]

    def difference(values: np.ndarray, share: np.ndarray) -> np.ndarray:
        """`share @ values`, or zero where that is not significant."""
        noise = np.sqrt(weights @ (values - design @ (inverse @ values)) ** 2 * (share @ share))
        found = share @ values
        return np.where(np.abs(found) > _SIGNIFICANT * noise, found, 0.0)

    scaled = residuals / np.sqrt(np.where(noisy, variance, 1.0))
    squares = 1 + difference(scaled**2, at_target - weights)
    return difference(scaled, at_target), np.where(noisy, -np.log(squares.clip(1e-2)) / 2, 0.0)


def _lost(design: np.ndarray, weights: np.ndarray) -> float:
    """The share of the variance of the noise that the coefficients of a regression follow."""
    basis, values, _ = np.linalg.svd(np.sqrt(weights)[:, np.newaxis] * design, full_matrices=False)
    basis = basis[:, values > 1e-10 * values.max()]
    return float(weights @ (basis**2).sum(axis=1))
