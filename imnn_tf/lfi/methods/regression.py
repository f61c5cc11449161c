"""Local-linear regression, which corrects accepted samples for the tolerance."""

import numpy as np

from imnn_tf.lfi.methods.regression_warnings import warn_of_poor_fit
from imnn_tf.utils import checks


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
