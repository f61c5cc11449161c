"""Explains why summaries have no Fisher information."""

import numpy as np

from imnn_tf.information import Information, InformationError, Statistics
from imnn_tf.utils.tensors import rounding_error


def require_finite(statistics: Statistics, information: Information, source: str) -> None:
    """Checks that Fisher information is defined.

    Args:
        statistics: Statistics of the summaries, as eager tensors in the shapes that `Statistics`
            lists.
        information: The information computed from them, in the shapes that `Information` lists.
        source: What the summaries belong to, for the message.

    Raises:
        InformationError: If the covariance or the Fisher matrix is singular or not finite.
    """
    if not np.isfinite(information.log_det_fisher):
        raise InformationError(
            f"The Fisher information of the {source} is not defined: {explain(statistics)}."
        )


def explain(statistics: Statistics) -> str:
    """Why summaries with these statistics, eager tensors, have no Fisher information."""
    resolution = rounding_error(statistics.slope)
    count, mean, scatter = (np.asarray(part, np.float64) for part in statistics.moments)
    slope = np.asarray(statistics.slope, np.float64)
    n_summaries = mean.size
    if not (np.isfinite(mean).all() and np.isfinite(scatter).all()):
        return "the summaries of the fiducial simulations are not finite"
    if not np.isfinite(slope).all():
        return "the summaries of the derivative simulations are not finite"
    if count <= n_summaries:
        return (
            f"{int(count)} fiducial simulations are too few for the covariance of {n_summaries} "
            f"summaries, which needs more than {n_summaries}"
        )
    variance = np.diag(scatter) / (count - 1)
    constant = np.flatnonzero(variance <= np.square(8 * resolution * mean))
    if constant.size:
        return f"the covariance is singular, as {_listed('summary', constant)} is constant"
    deviation = np.sqrt(variance)
    correlation = scatter / (count - 1) / np.outer(deviation, deviation)
    dependent = _dependent_rows(correlation, resolution)
    if dependent.size:
        listed = _listed("summary", dependent)
        return f"the covariance is singular, as {listed} is a linear combination of the others"
    weights = np.linalg.solve(correlation, (slope / deviation).T)
    fisher = (slope / deviation) @ weights
    width = np.sqrt(np.diag(fisher))
    unseen = np.flatnonzero(width == 0)
    if unseen.size:
        return f"the summaries do not change with {_listed('parameter', unseen)}"
    degenerate = _dependent_rows(fisher / np.outer(width, width), resolution)
    if degenerate.size:
        listed = _listed("parameter", degenerate)
        return f"{listed} changes the summaries in the same direction as the others"
    dtype = statistics.slope.dtype
    # A product of a few such numbers must be held as well.
    least, most = 100 * np.finfo(dtype.name).tiny, np.finfo(dtype.name).max / 100
    beyond = np.flatnonzero((width**2 > most) | (width**2 < least))
    if beyond.size:
        return (
            f"the information of {_listed('parameter', beyond)}, {width[beyond[0]] ** 2:.0e}, is "
            f"beyond the range of {dtype.name}; use units in which its error is of order one, in "
            "`θ_fid` and `δθ` alike, or `dtype=tf.float64`"
        )
    return "a matrix cannot be told from a singular one in this precision"


def _dependent_rows(correlation: np.ndarray, resolution: float) -> np.ndarray:
    """Rows that are, within rounding, linear combinations of the rows before them.

    Args:
        correlation: A correlation matrix, `[size, size]`.
        resolution: Relative rounding error of its elements.

    Returns:
        The indices of these rows.
    """
    size = correlation.shape[0]
    dependent: list[int] = []
    for row in range(size):
        before = [index for index in range(row) if index not in dependent]
        block = correlation[np.ix_(before, before)]
        explained = correlation[row, before] @ np.linalg.solve(block, correlation[before, row])
        if not 1 - explained > 8 * size * resolution:
            dependent.append(row)
    return np.array(dependent, int)


def _listed(noun: str, indices: np.ndarray) -> str:
    return ", ".join(f"{noun} {index}" for index in indices.tolist())
