r"""The Fisher information of summaries, as pure functions of tensors.

Notation, after Charnock, Lavaux & Wandelt (2018), arXiv:1802.03537: summaries `x` of simulations
at the fiducial parameters have mean `μ` and covariance `C`, their mean has the slope `∂μ/∂θ`, and

    F = ∂μ C⁻¹ ∂μᵀ                       Fisher information
    θ̂ = θ_fid + F⁻¹ ∂μ C⁻¹ (x − μ)       quasi-maximum-likelihood estimate

Every function works in eager mode, in a `tf.function` and under XLA, in the precision of its
arguments. XLA cannot raise, so a singular matrix gives NaN in all three modes.
`imnn_tf.degeneracy.require_finite` turns such a result into an error that says why.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from imnn_tf.utils.tensors import identity_like, known_shape, rounding_error


class InformationError(ValueError):
    """The Fisher information of some summaries is not defined."""


class Moments(NamedTuple):
    """Count, mean and scatter of a set of summaries; two such sets merge exactly.

    The moments of several sets stand along axes before those below.
    """

    n: tf.Tensor  # [], their number
    mean: tf.Tensor  # [n_summaries]
    scatter: tf.Tensor  # [n_summaries, n_summaries], Σ (x − mean)(x − mean)ᵀ


class Statistics(NamedTuple):
    """What the Fisher information of the summaries of a data set is made from."""

    moments: Moments
    slope: tf.Tensor  # [n_params, n_summaries], ∂μ/∂θ


class Information(NamedTuple):
    """Fisher information with everything it was made from."""

    fisher: tf.Tensor  # [n_params, n_params]
    log_det_fisher: tf.Tensor  # []
    covariance: tf.Tensor  # [n_summaries, n_summaries]
    inverse_covariance: tf.Tensor  # [n_summaries, n_summaries]
    log_det_covariance: tf.Tensor  # []
    mean: tf.Tensor  # [n_summaries]
    slope: tf.Tensor  # [n_params, n_summaries]


def moments(summaries: tf.Tensor, weights: tf.Tensor | None = None) -> Moments:
    """Count, mean and scatter of the summaries of one batch, or of each of several sets.

    Args:
        summaries: `[..., batch, n_summaries]`.
        weights: `[..., batch]`, one for a summary that counts and zero for padding; by default all
            summaries count.

    Returns:
        The moments of the summaries that count: their number, `[]`, mean, `[n_summaries]`, and
        scatter, `[n_summaries, n_summaries]`. All are zero if none counts.
    """
    if weights is None:
        weights = tf.ones(tf.shape(summaries)[:-1], summaries.dtype)
    count = tf.reduce_sum(weights, axis=-1)
    each = tf.expand_dims(count, -1)
    mean = tf.math.divide_no_nan(tf.linalg.matvec(summaries, weights, transpose_a=True), each)
    # The residuals add up to zero, so the scatter does not change with the mean to first order.
    residuals, weighted = centre(summaries, tf.stop_gradient(mean), weights)
    scatter = tf.matmul(weighted, residuals, transpose_a=True)
    # The mean is rounded, which would give a constant summary a variance: remove what is left.
    left = tf.stop_gradient(
        tf.math.divide_no_nan(tf.linalg.matvec(residuals, weights, transpose_a=True), each)
    )
    return Moments(count, mean + left, scatter - _outer(each * left, left))


def centre(
    summaries: tf.Tensor, mean: tf.Tensor, weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Residuals of summaries, and the residuals times their weights.

    Args:
        summaries: `[..., batch, n_summaries]`.
        mean: `[..., n_summaries]`.
        weights: `[..., batch]`, one or zero.

    Returns:
        The residuals, `[..., batch, n_summaries]`, meaningful where the weight is one; and the
        same with zero elsewhere.
    """
    # Products of a column and a row: broadcasting along short rows takes several times as long.
    column, row = tf.expand_dims(weights, -1), tf.expand_dims(mean, -2)
    residuals = summaries - tf.matmul(column, row)
    return residuals, tf.matmul(column, tf.ones_like(row)) * residuals


def merge(first: Moments, second: Moments) -> Moments:
    """The moments of two sets of summaries taken together, or of each of several pairs of sets.

    Plain sums of squares cancel catastrophically in single precision; this update does not
    (Chan, Golub & LeVeque 1983, The American Statistician 37, 242).
    """
    count = first.n + second.n
    shift = second.mean - first.mean
    share = tf.expand_dims(tf.math.divide_no_nan(second.n, count), -1)
    between = _outer(tf.expand_dims(first.n, -1) * share * shift, shift)
    return Moments(count, first.mean + share * shift, first.scatter + second.scatter + between)


def _outer(column: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    """Outer products of vectors, `[..., size, size]`."""
    return tf.expand_dims(column, -1) * tf.expand_dims(row, -2)


def block(statistics: Statistics, summaries: slice) -> Statistics:
    """The statistics of `n` of the summaries alone.

    Args:
        statistics: The statistics of all summaries, in the shapes that `Statistics` lists.
        summaries: Which of the summaries.

    Returns:
        The statistics with mean `[n]`, scatter `[n, n]` and slope `[n_params, n]`.
    """
    (count, mean, scatter), slope = statistics
    return Statistics(
        Moments(count, mean[summaries], scatter[summaries, summaries]),
        slope[:, summaries],
    )


def covariance(moments: Moments) -> tf.Tensor:
    """Unbiased covariance of the summaries, `[n_summaries, n_summaries]`."""
    return moments.scatter / (moments.n - 1)


def slope(summaries: tf.Tensor | Sequence[tf.Tensor], weights: tf.Tensor) -> tf.Tensor:
    """Slope of the mean of the summaries, `∂μ/∂θ`.

    Args:
        summaries: Summaries of derivative simulations, `[batch, n_summaries]`; or, where
            derivatives are exact, those of the summaries by each parameter,
            `[batch, n_summaries]` each.
        weights: `[batch, n_params]`: `+1/(n_d δθ_α)` in column α for a simulation above the
            fiducial in parameter α, the same with a minus sign below, zero elsewhere; or `1/n_d`
            of exact derivatives.

    Returns:
        What the batch adds to the slope, `[n_params, n_summaries]`.
    """
    if isinstance(summaries, tf.Tensor):
        return tf.matmul(weights, summaries, transpose_a=True)
    rows = [
        tf.linalg.matvec(derivative, weights[:, parameter], transpose_a=True)
        for parameter, derivative in enumerate(summaries)
    ]
    return tf.stack(rows)


def fisher_information(statistics: Statistics) -> Information:
    """Fisher information `F = ∂μ C⁻¹ ∂μᵀ` of summaries with the given statistics.

    Args:
        statistics: The statistics, in the shapes that `Statistics` lists.

    Returns:
        The information, in the shapes that `Information` lists. If the covariance is singular to
        rounding, everything that needs its inverse is NaN. If the Fisher matrix is singular, its
        log-determinant is NaN.
    """
    (count, mean, _), slope = statistics
    C = covariance(statistics.moments)
    eps = rounding_error(C)
    # Rounding of its mean can give a constant summary a small variance.
    resolved = tf.reduce_all(tf.linalg.diag_part(C) > tf.square(8 * eps * mean))
    resolved = tf.logical_and(resolved, count > known_shape(mean)[0])
    F, log_det_C, inverse_C = _whitened_product(C, slope, resolved)
    return Information(F, _log_determinant(F), C, inverse_C, log_det_C, mean, slope)


# The gradients of the next two functions are written out, as a few matrix products.
# Differentiating through a Cholesky decomposition takes as long as a layer of a small network.


@tf.custom_gradient
def _whitened_product(C: tf.Tensor, slope: tf.Tensor, resolved: tf.Tensor) -> tuple[Any, Callable]:
    """`∂μ C⁻¹ ∂μᵀ`, `ln det C` and `C⁻¹`, NaN where the covariance is singular to rounding."""
    lower, log_det_C = _cholesky(C, resolved)
    inverse_lower = tf.linalg.triangular_solve(lower, identity_like(C))
    inverse_C = tf.matmul(inverse_lower, inverse_lower, transpose_a=True)
    whitened = tf.matmul(slope, inverse_lower, transpose_b=True)
    F = tf.matmul(whitened, whitened, transpose_b=True)

    def gradient(
        by_F: tf.Tensor, by_log_det_C: tf.Tensor, by_inverse_C: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, None]:
        score = tf.matmul(whitened, inverse_lower)  # ∂μ C⁻¹
        by_score = tf.matmul(by_F, score)
        by_slope = by_score + tf.matmul(by_F, score, transpose_a=True)
        by_C = (
            by_log_det_C * inverse_C
            - tf.matmul(score, by_score, transpose_a=True)
            - tf.matmul(inverse_C, tf.matmul(by_inverse_C, inverse_C))
        )
        return by_C, by_slope, None

    return (F, log_det_C, inverse_C), gradient


@tf.custom_gradient
def _log_determinant(matrix: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """Log-determinant of a symmetric positive matrix, NaN where it is singular to rounding."""
    lower, log_determinant = _cholesky(matrix, tf.constant(True))

    def gradient(by_log_determinant: tf.Tensor) -> tf.Tensor:
        identity = identity_like(matrix)
        return by_log_determinant * tf.linalg.cholesky_solve(lower, identity)

    return log_determinant, gradient


def _cholesky(matrix: tf.Tensor, valid: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Cholesky factor and log-determinant, NaN where the matrix is singular to rounding."""
    lower = tf.linalg.cholesky(matrix)
    pivots = tf.square(tf.linalg.diag_part(lower))
    # The share of the variance of each row that the rows before it do not explain.
    unexplained = pivots / tf.linalg.diag_part(matrix)
    tolerance = 8 * known_shape(matrix)[0] * rounding_error(matrix)
    valid = tf.logical_and(valid, tf.reduce_all(unexplained > tolerance))
    lower = tf.where(valid, lower, tf.constant(np.nan, lower.dtype))
    return lower, 2 * tf.reduce_sum(tf.math.log(tf.linalg.diag_part(lower)))


def estimate(
    summaries: tf.Tensor,
    theta_fid: tf.Tensor,
    mean: tf.Tensor,
    slope: tf.Tensor,
    inverse_covariance: tf.Tensor,
    inverse_fisher: tf.Tensor,
) -> tf.Tensor:
    """Score compression `θ̂ = θ_fid + F⁻¹ ∂μ C⁻¹ (x − μ)`.

    Args:
        summaries: `x`, `[batch, n_summaries]`.
        theta_fid: The fiducial parameters, `[n_params]`.
        mean: `μ`, `[n_summaries]`.
        slope: `∂μ/∂θ`, `[n_params, n_summaries]`.
        inverse_covariance: `C⁻¹`, `[n_summaries, n_summaries]`.
        inverse_fisher: `F⁻¹`, `[n_params, n_params]`.

    Returns:
        Quasi-maximum-likelihood estimates, `[batch, n_params]`.

    References:
        Alsing & Wandelt (2018), arXiv:1712.00012; Charnock, Lavaux & Wandelt (2018),
        arXiv:1802.03537.
    """
    weights = tf.linalg.matmul(inverse_fisher, tf.linalg.matmul(slope, inverse_covariance))
    return theta_fid + tf.linalg.matmul(summaries - mean, weights, transpose_b=True)


def determinant(log_determinant: Any) -> np.ndarray:
    """Determinants from their logarithms, in double precision to avoid overflow.

    Args:
        log_determinant: The logarithms, of any shape.

    Returns:
        The determinants, of the same shape, float64.
    """
    with np.errstate(over="ignore"):
        return np.exp(np.asarray(log_determinant, np.float64))
