"""Why the Fisher information of some summaries is not defined, in words."""

import numpy as np

from imnn_tf.information import Information, InformationError, Statistics


def require_finite(statistics: Statistics, information: Information, source: str) -> None:
    """Raises where the information is not defined, with the reason.

    Args:
        statistics: Concrete (not symbolic) statistics of the summaries.
        information: The information made from them.
        source: Whose summaries they are, for the message.

    Raises:
        InformationError: If the covariance or the Fisher matrix is singular, or not finite.
    """
    if not np.isfinite(information.log_det_fisher):
        reason = explain(statistics)
        raise InformationError(f"The Fisher information of the {source} is not defined: {reason}.")


def explain(statistics: Statistics) -> str:
    """Why summaries with these concrete statistics have no Fisher information, in words."""
    resolution = float(np.finfo(statistics.slope.dtype.as_numpy_dtype).eps)
    (count, mean, scatter), slope = (
        tuple(np.asarray(part, np.float64) for part in statistics.moments),
        np.asarray(statistics.slope, np.float64),
    )
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
    silent = np.flatnonzero(width == 0)
    if silent.size:
        return f"the summaries do not change with {_listed('parameter', silent)}"
    degenerate = _dependent_rows(fisher / np.outer(width, width), resolution)
    if degenerate.size:
        listed = _listed("parameter", degenerate)
        return f"{listed} changes the summaries in the same direction as the others"
    return "a matrix cannot be told from a singular one in this precision"


def _dependent_rows(correlation: np.ndarray, resolution: float) -> np.ndarray:
    """Indices of the rows that the rows before them explain to rounding."""
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
