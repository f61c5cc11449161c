"""The linear regression of parameters on summaries, from which flows start."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf


class LinearStart(NamedTuple):
    """`z = L⁻¹ (θ − x A − b)`, for each member: the residuals, uncorrelated and of unit variance.

    If parameters and summaries are jointly Gaussian, `z` is standard normal given the summaries.
    """

    matrix: np.ndarray  # A, [members, n_summaries, n_params]
    shift: np.ndarray  # b, [members, 1, n_params]
    scale: np.ndarray  # L, lower triangular, [members, n_params, n_params]

    def forward(self, parameters: tf.Tensor, summaries: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The residuals of parameters, and the logarithm of the volume's change.

        Args:
            parameters: `[members, n, n_params]`.
            summaries: `[members, n, n_summaries]`.

        Returns:
            `[members, n, n_params]`, and the logarithm for each member, `[members, 1]`.
        """
        residuals = parameters - summaries @ self.matrix - self.shift
        inverse = np.linalg.inv(self.scale.astype(np.float64)).transpose(0, 2, 1)
        log_volume = -np.log(np.diagonal(self.scale, axis1=1, axis2=2)).sum(axis=1, keepdims=True)
        return residuals @ inverse.astype(np.float32), tf.constant(log_volume, tf.float32)

    def inverse(self, z: tf.Tensor, summaries: tf.Tensor) -> tf.Tensor:
        """The parameters with residuals `[members, n, n_params]`, in the same shape."""
        return z @ self.scale.transpose(0, 2, 1) + summaries @ self.matrix + self.shift


def fit_linear(
    parameters: np.ndarray, summaries: np.ndarray, training: np.ndarray, validation: np.ndarray
) -> LinearStart:
    """Ridge regression for each member, with the strength that suits its validation pairs best.

    Args:
        parameters: `[n, n_params]`.
        summaries: `[n, n_summaries]`.
        training: The rows of each member's training pairs, `[members, n_training]`.
        validation: The rows of each member's validation pairs, `[members, n_validation]`.
    """
    theta, x = parameters.astype(np.float64), summaries.astype(np.float64)
    fits = [
        _ridge(theta[fitted], x[fitted], theta[held_out], x[held_out])
        for fitted, held_out in zip(training, validation, strict=True)
    ]
    return LinearStart(*(np.stack(parts).astype(np.float32) for parts in zip(*fits, strict=True)))


def _ridge(
    theta: np.ndarray, x: np.ndarray, held_out_theta: np.ndarray, held_out_x: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrix, the shift and the scale of one member."""
    theta_mean, x_mean = theta.mean(axis=0), x.mean(axis=0)
    u, singular, vt = np.linalg.svd(x - x_mean, full_matrices=False)
    projected = u.T @ (theta - theta_mean)
    best, least = np.zeros((x.shape[1], theta.shape[1])), np.inf
    for strength in np.geomspace(1e-6, 1e3, 19) * len(theta):
        matrix = vt.T @ (projected * (singular / (singular**2 + strength))[:, None])
        errors = held_out_theta - theta_mean - (held_out_x - x_mean) @ matrix
        error = np.sum(errors**2)
        if error < least:
            best, least = matrix, error
    residuals = theta - theta_mean - (x - x_mean) @ best
    # Twenty pseudo-residuals of unit variance would keep a few pairs from a singular covariance.
    covariance = residuals.T @ residuals / len(theta)
    variances = np.maximum(np.diag(covariance), 1e-12)
    covariance += 1e-6 * np.diag(variances)
    return best, (theta_mean - x_mean @ best)[None], np.linalg.cholesky(covariance)
