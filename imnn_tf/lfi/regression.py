"""Local-linear regression adjustment of samples accepted within a tolerance."""

import numpy as np

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
    """Moves accepted parameters to where they would be had their estimate been the target's.

    Local-linear regression, Beaumont, Zhang & Balding (2002), Genetics 162, 2025, section
    "Local-linear regression": parameters are regressed on estimates with Epanechnikov weights,
    `1 - (distance / tolerance)^2` (their equation 3), and the slope times the difference of
    the estimates is taken off (their equation 5). Parameters with bounds are regressed as
    their logit, or log where there is one bound, so that they stay inside.

    Args:
        parameters: Accepted parameters, `(n, p)`.
        estimates: Their estimates, `(n, s)`.
        distances: Distances of the estimates from the target's, `(n,)`, below `tolerance`.
        target: The target's estimate, `(s,)`.
        tolerance: The radius within which samples were accepted.
        weights: Importance weights of the samples, `(n,)`; `None` for equal ones.
        low: Lower bounds of the parameters, `(p,)`; `None` for none.
        high: Upper bounds.

    Returns:
        Adjusted parameters, `(n, p)`, and their weights, `(n,)`, which sum to one.

    Raises:
        ValueError: If there are not more samples than slopes, or shapes do not fit.
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
    free = _free(np.asarray(parameters, dtype=float), low, high)
    root = np.sqrt(weights)[:, np.newaxis]
    design = np.column_stack([np.ones(n), x])
    solution = np.linalg.lstsq(root * design, root * free, rcond=None)[0]
    return _bounded(free - x @ solution[1:], low, high), weights / weights.sum()


def _free(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Maps the parameters' intervals onto the real line, column by column."""
    free = values.copy()
    for i, (a, b) in enumerate(zip(low, high, strict=True)):
        # A sample on its bound would be infinitely far out; a rounding off it is not.
        tiny = np.finfo(np.float32).eps
        if np.isfinite(a) and np.isfinite(b):
            share = np.clip((values[:, i] - a) / (b - a), tiny, 1 - tiny)
            free[:, i] = np.log(share) - np.log1p(-share)
        elif np.isfinite(a):
            free[:, i] = np.log(np.clip(values[:, i] - a, tiny, None))
        elif np.isfinite(b):
            free[:, i] = -np.log(np.clip(b - values[:, i], tiny, None))
    return free


def _bounded(free: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The inverse of `_free`."""
    values = free.copy()
    for i, (a, b) in enumerate(zip(low, high, strict=True)):
        if np.isfinite(a) and np.isfinite(b):
            values[:, i] = a + (b - a) / (1 + np.exp(-free[:, i]))
        elif np.isfinite(a):
            values[:, i] = a + np.exp(free[:, i])
        elif np.isfinite(b):
            values[:, i] = b - np.exp(-free[:, i])
    return values
