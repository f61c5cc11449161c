"""Gaussian likelihoods: score, energy and chi-squared of `y = F(x) + n`, `n ~ N(0, C)`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from imnn_tf.utils import checks
from rim_tf.parameters import Values

GIVEN = "given"
"""Says that each example brings its own, as an argument of the call."""


class GaussianLikelihood:
    """Data that are an operator of the parameters, plus Gaussian noise.

        chi2(x)   = (y - F(x))^T C^-1 (y - F(x))
        energy(x) = chi2(x) / 2
        score(x)  = J_F(x)^T C^-1 (y - F(x))

    The score needs no adjoint from the user: it is a vector-Jacobian product of the operator.
    A masked datum has no weight; with a full covariance that is the likelihood of the data
    that remain, correlations with the missing ones marginalised.

    Every method is called with `(x, y, *operands, noise, mask)`: first whatever the operator
    takes after `x`, then the noise and the mask if they are "given" with each example.

    Args:
        operator: `operator(x, *operands)`, the batch's data; or a matrix `(data, parameters)`
            for all examples; or "given", a matrix `(batch, data, parameters)` as the first
            operand. A matrix acts on the parameters with all axes made one.
        sigma: Standard deviation of independent noise: "given", `(batch,)` or
            `(batch, *data)`; or a positive number or array `(*data,)` for all examples.
        covariance: The full covariance instead: "given", `(batch, n, n)` for `n` data with all
            axes made one, or an array `(n, n)` for all examples.
        mask: Which data count: "given", `(batch, *data)`, or an array `(*data,)` for all
            examples; all of them when `None`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If noise is not positive, or the covariance not positive definite.
    """

    def __init__(
        self,
        operator: Any = GIVEN,
        *,
        sigma: Any = GIVEN,
        covariance: Any = None,
        mask: Any = None,
    ):
        self._matrix: np.ndarray | None = None
        if not callable(operator) and not _is_given(operator):
            self._matrix = checks.array("operator", operator, shape=(None, None))
        self._operator = operator
        self._full = covariance is not None
        self._noise = _check_noise(sigma, covariance)
        self._mask = mask
        if mask is not None and not _is_given(mask):
            self._mask = checks.array("mask", mask)

    def predict(self, x: Values, *operands: Any) -> tf.Tensor:
        """The data without noise, `(batch, *data)`."""
        if callable(self._operator):
            return self._operator(x, *operands)
        flat = tf.reshape(x, [tf.shape(x)[0], -1])
        if self._matrix is not None:
            return tf.matmul(flat, tf.constant(self._matrix.T, flat.dtype))
        return tf.linalg.matvec(operands[0], flat)

    def chi2(self, x: Values, y: tf.Tensor, *args: Any) -> tf.Tensor:
        """Squared residuals in units of the noise, summed, `(batch,)`."""
        operands, noise, mask = self._unpack(args)
        residual = y - self.predict(x, *operands)
        weighted = self._weigh(residual, noise, mask)
        return tf.reduce_sum(residual * weighted, list(range(1, len(residual.shape))))

    def energy(self, x: Values, y: tf.Tensor, *args: Any) -> tf.Tensor:
        """Minus the log likelihood up to a constant, `(batch,)`."""
        return 0.5 * self.chi2(x, y, *args)

    def score(self, x: Values, y: tf.Tensor, *args: Any) -> Values:
        """The gradient of the log likelihood, of the structure and shape of `x`."""
        operands, noise, mask = self._unpack(args)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            prediction = self.predict(x, *operands)
        return tape.gradient(
            prediction,
            x,
            output_gradients=self._weigh(y - prediction, noise, mask),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )

    def _unpack(self, args: Sequence[Any]) -> tuple[list[Any], Any, Any]:
        """Operands, noise and mask, wherever they come from."""
        operands = list(args)
        needed = _is_given(self._mask) + _is_given(self._noise)
        if len(operands) < needed + _is_given(self._operator):
            raise ValueError(
                f"The likelihood needs {needed + _is_given(self._operator)} arguments after "
                f"`y`: operands, then noise, then mask; got {len(operands)}."
            )
        mask = operands.pop() if _is_given(self._mask) else self._mask
        noise = operands.pop() if _is_given(self._noise) else self._noise
        return operands, noise, mask

    def _weigh(self, residual: tf.Tensor, noise: Any, mask: Any) -> tf.Tensor:
        """`C^-1` of the data that count, applied to a residual."""
        noise = tf.cast(noise, residual.dtype)
        if mask is not None:
            mask = tf.broadcast_to(tf.cast(mask, residual.dtype), tf.shape(residual))
        if self._full:
            return _solve(noise, residual, mask)
        if _is_given(self._noise):
            axes = [1] * (len(residual.shape) - len(noise.shape))
            noise = tf.reshape(noise, tf.concat([tf.shape(noise), axes], 0))
        weighted = residual / tf.square(noise)
        return weighted if mask is None else mask * weighted


def _solve(covariance: tf.Tensor, residual: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """`C^-1 r`; rows and columns of masked data are those of the identity."""
    count = tf.shape(covariance)[-1]
    flat = tf.reshape(residual, [-1, count])
    if mask is None:
        factor = tf.linalg.cholesky(covariance)
        if len(covariance.shape) == 2:  # one factorisation serves all examples
            solution = tf.transpose(tf.linalg.cholesky_solve(factor, tf.transpose(flat)))
            return tf.reshape(solution, tf.shape(residual))
    else:
        kept = tf.reshape(mask, [-1, count])
        covariance = covariance * kept[:, :, tf.newaxis] * kept[:, tf.newaxis, :]
        factor = tf.linalg.cholesky(covariance + tf.linalg.diag(1.0 - kept))
        flat = kept * flat
    solution = tf.linalg.cholesky_solve(factor, flat[..., tf.newaxis])[..., 0]
    return tf.reshape(solution, tf.shape(residual))


def _is_given(value: Any) -> bool:
    return isinstance(value, str) and value == GIVEN


def _check_noise(sigma: Any, covariance: Any) -> Any:
    if covariance is None:
        if _is_given(sigma):
            return sigma
        sigma = checks.array("sigma", sigma)
        if (sigma <= 0).any():
            raise ValueError(f"`sigma` must be positive, got a minimum of {sigma.min()}.")
        return sigma
    if not _is_given(sigma):
        raise ValueError("`sigma` must be left out with a `covariance`.")
    if _is_given(covariance):
        return covariance
    covariance = checks.array("covariance", covariance, shape=(None, None), dtype=np.float64)
    try:
        np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        raise ValueError(
            "`covariance` must be square and positive definite, got one of shape "
            f"{covariance.shape} that has no Cholesky factor."
        ) from None
    if not np.allclose(covariance, covariance.T):
        raise ValueError("`covariance` must be symmetric, got one that is not.")
    return covariance
