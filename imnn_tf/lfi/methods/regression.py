"""Local-linear regression, which corrects accepted samples for the tolerance."""

import logging
from typing import NamedTuple

import numpy as np

from imnn_tf.utils import checks

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


def regression_adjusted(
    parameters: np.ndarray,
    estimates: np.ndarray,
    distances: np.ndarray,
    target: np.ndarray,
    tolerance: float,
    *,
    weights: np.ndarray | None = None,
    low: np.ndarray | None = None,
    high: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Moves accepted parameters to where they would be if their estimate were the target's.

    Beaumont, Zhang & Balding (2002), Genetics 162, 2025, section "Local-linear regression":
    parameters are regressed on estimates with Epanechnikov weights,
    `1 - (distance / tolerance)^2` (their equation 3), and the slope times the difference of
    the estimates is subtracted (their equation 5). A parameter with two bounds is regressed as
    its logit, one with a single bound as a log, so that it stays inside. The result does not
    depend on the units of parameters and estimates. A warning says where samples are too few for
    the coefficients, the target lies outside them, or they are not linear in the estimates.

    Args:
        parameters: Accepted parameters, `(n, p)`.
        estimates: Their estimates, `(n, s)`.
        distances: Distances of the estimates from the target's, `(n,)`, below `tolerance`.
        target: The estimate of the target, `(s,)`.
        tolerance: The distance within which samples were accepted.
        weights: Importance weights of the samples, `(n,)`. `None` for equal ones.
        low: Lower bounds of the parameters, `(p,)`. `None` for none.
        high: Upper bounds of the parameters, `(p,)`. `None` for none.

    Returns:
        Adjusted parameters, `(n, p)`, and their weights, `(n,)`, which sum to one.

    Raises:
        ValueError: If there are not more samples than coefficients, or shapes do not fit.
    """
    n, p = np.shape(parameters)
    x = checks.array("estimates", estimates, shape=(n, None), dtype=float) - target
    distances = checks.array("distances", distances, shape=(n,), dtype=float)
    tolerance = checks.real("tolerance", tolerance, above=0)
    kernel = np.clip(1 - (distances / tolerance) ** 2, 0, None)
    weights = kernel if weights is None else kernel * weights
    used = np.count_nonzero(weights)
    if used <= x.shape[1] + 1:
        raise ValueError(
            f"`parameters` must be more than {x.shape[1] + 1} to fit {x.shape[1]} slopes, got "
            f"{used} within the tolerance."
        )
    low = np.full(p, -np.inf) if low is None else low
    high = np.full(p, np.inf) if high is None else high
    unbounded = _unbounded(np.asarray(parameters, dtype=float), low, high)
    root = np.sqrt(weights)[:, np.newaxis]
    # The solver drops directions that are short next to the others, so all get length one.
    scale = np.abs(x).max(axis=0, initial=0.0)
    x = x / np.where(scale > 0, scale, 1.0)
    design = np.column_stack([np.ones(n), x])
    solution = np.linalg.lstsq(root * design, root * unbounded, rcond=None)[0]
    weights, near = weights / weights.sum(), weights > 0
    residuals = unbounded - design @ solution
    # Residuals of rounding errors are no noise to measure.
    exact = np.abs(residuals[near]).max(axis=0) <= 1e-9 * np.abs(unbounded[near]).max(axis=0)
    residuals = np.where(exact, 0.0, residuals)
    if x.shape[1]:
        warn_of_poor_fit(x[near], residuals[near], weights[near], tolerance)
    return _bounded(unbounded - x @ solution[1:], low, high), weights


def _unbounded(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Maps parameters, `(n, p)`, from within their bounds onto the real line."""
    mapped = values.copy()
    for i, (a, b) in enumerate(zip(low, high, strict=True)):
        above, below = _off_bound(values[:, i] - a), _off_bound(b - values[:, i])
        if np.isfinite(a) and np.isfinite(b):
            mapped[:, i] = np.log(above) - np.log(below)
        elif np.isfinite(a):
            mapped[:, i] = np.log(above)
        elif np.isfinite(b):
            mapped[:, i] = -np.log(below)
    return mapped


def _off_bound(distances: np.ndarray) -> np.ndarray:
    """Distances from a bound, `(n,)`, with those of zero replaced by the smallest of the others.

    A sample on its bound would be mapped to infinity. No fixed number can stand for zero, because
    it would depend on the unit of the parameter.
    """
    positive = distances[distances > 0]
    return np.maximum(distances, positive.min() if len(positive) else 1.0)


def _bounded(mapped: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Maps numbers, `(n, p)`, from the real line back to within the bounds."""
    values = mapped.copy()
    for i, (a, b) in enumerate(zip(low, high, strict=True)):
        column = mapped[:, i]
        with np.errstate(over="ignore"):  # infinity lies outside the support, and is dropped there
            if np.isfinite(a) and np.isfinite(b):
                # Measured from the nearer bound, so that nothing is lost to rounding.
                nearer = np.exp(-np.abs(column))
                step = (b - a) * (nearer / (1 + nearer))
                values[:, i] = np.where(column < 0, a + step, b - step)
            elif np.isfinite(a):
                values[:, i] = a + np.exp(column)
            elif np.isfinite(b):
                values[:, i] = b - np.exp(-column)
    return values


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
