"""Likelihoods: what a RIM needs of one, and the Gaussian one.

To add a likelihood, write a class with the methods of `Likelihood` in a file of its own here.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from imnn_tf.utils import checks
from rim_tf.problem.alignment import check_alignment, check_covariance
from rim_tf.problem.functions import count_arguments
from rim_tf.problem.observation import require_real
from rim_tf.problem.parameters import Values

GIVEN: Final = "given"
"""Stands for something that comes with each example, as an argument of the call."""

# A constant for all examples, or GIVEN. ArrayLike includes strings.
Constant: TypeAlias = ArrayLike


class Likelihood(Protocol):
    """What a RIM needs of a likelihood."""

    def score(self, x: Values, y: tf.Tensor, *args: Any) -> Values:
        """The gradient of the log likelihood, with the structure and shape of `x`.

        Args:
            x: The parameters, `[batch, *sizes, channels]` or a dictionary by field.
            y: The data, `[batch, ...]`.
            *args: The other arguments of the score, `[batch, ...]` each.
        """

    def chi2(self, x: Values, y: tf.Tensor, *args: Any) -> tf.Tensor:
        """A measure of the misfit for each example, `[batch]`, which is logged in training.

        Args:
            x: The parameters, `[batch, *sizes, channels]` or a dictionary by field.
            y: The data, `[batch, ...]`.
            *args: The other arguments of the score, `[batch, ...]` each.
        """


class GaussianLikelihood:
    """The likelihood of `y = F(x) + n` with Gaussian noise, `n ~ N(0, C)`.

        chi2(x)   = (y - F(x))^T C^-1 (y - F(x))
        energy(x) = chi2(x) / 2
        score(x)  = J_F(x)^T C^-1 (y - F(x))

    The user gives no adjoint: the score is a vector-Jacobian product of the operator `F`, which
    automatic differentiation finds. A masked datum has no weight, and its value and its noise may
    be NaN. With a full covariance the result is the likelihood of the data that are not masked,
    marginalised over the others.

    Data may be complex. Their transpose is then the Hermitian one, `sigma` is the standard
    deviation of the real part and of the imaginary part each, and `covariance` is Hermitian,
    `C = E[n n^H] / 2`, with `E[n n^T] = 0`. Chi-squared is real, and so are the parameters.

    Every method is called as `(x, y, *operands, noise, mask)`. `x` are the parameters,
    `[batch, *sizes, channels]` or a dictionary by field, and `y` are the data, `[batch, *data]`.
    The arguments that the operator takes after `x` follow, then the noise and the mask, each only
    if it is "given". Too few arguments raise a ValueError.

    Args:
        operator: `operator(x, *operands)`, which returns the data of the batch, `[batch, *data]`;
            or one matrix for all examples, `[n_data, n_params]`; or "given" (the default), a
            matrix for each example, `[batch, n_data, n_params]`, as the first operand. A matrix
            acts on the parameters with all their axes flattened into one.
        sigma: The standard deviation of independent noise, in the unit of the data. Either
            "given" (the default), `[batch]` or `[batch, *data]`, or a positive number or an array
            `[*data]` for all examples. An axis may have length one.
        covariance: The full covariance of the noise, instead of `sigma`. Either "given",
            `[batch, n, n]` for `n` data with all axes flattened into one, or an array `[n, n]`
            for all examples. Defaults to `None`, independent noise.
        mask: Which data count: one for those that do, zero for those that do not. Either "given",
            `[batch, *data]`, or an array `[*data]` for all examples. Defaults to `None`, all data.
            Another number in a mask that is given makes the result NaN, and so does a covariance
            that is not Hermitian.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If `sigma` is not positive where data count, or `covariance` is not Hermitian
            and positive definite. A shape that does not fit is found at the first call.
    """

    def __init__(
        self,
        operator: Callable[..., tf.Tensor] | Constant = GIVEN,
        *,
        sigma: Constant = GIVEN,
        covariance: Constant | None = None,
        mask: Constant | None = None,
    ):
        self._matrix: np.ndarray | None = None
        if not callable(operator) and not _is_given(operator):
            self._matrix = _check_matrix("operator", operator)
        self._operator = operator
        self._full = covariance is not None
        self._mask = mask
        if mask is not None and not _is_given(mask):
            self._mask = checks.array("mask", mask)
            if not np.isin(self._mask, (0, 1)).all():
                raise ValueError("`mask` must hold zeros and ones, got other numbers.")
        self._noise = _check_noise(sigma, covariance, self._mask)

    @property
    def argument_counts(self) -> tuple[int, int | None]:
        """The least and the largest number of arguments after `y`; `None` for no limit."""
        own = _is_given(self._mask) + _is_given(self._noise)
        if not callable(self._operator):
            own += _is_given(self._operator)
            return own, own
        least, most = count_arguments(self._operator, 1)
        return own + least, None if most is None else own + most

    def predict(self, x: Values, *operands: Any) -> tf.Tensor:
        """The data without noise, `[batch, *data]`.

        Args:
            x: The parameters, `[batch, *sizes, channels]` or a dictionary by field.
            *operands: What the operator takes after `x`; if it is "given", the matrix of each
                example, `[batch, n_data, n_params]`.
        """
        if callable(self._operator):
            return self._operator(x, *operands)
        flat = tf.reshape(x, [tf.shape(x)[0], -1])
        if self._matrix is not None:
            if self._matrix.dtype.kind == "c":
                flat = tf.complex(flat, tf.zeros_like(flat))
            return tf.matmul(flat, tf.constant(self._matrix.T, flat.dtype))
        if tf.as_dtype(operands[0].dtype).is_complex:
            flat = tf.complex(flat, tf.zeros_like(flat))
        return tf.linalg.matvec(operands[0], flat)

    def chi2(self, x: Values, y: tf.Tensor, *args: Any) -> tf.Tensor:
        """The sum of squared residuals in units of the noise, `[batch]`.

        Args:
            x: The parameters, `[batch, *sizes, channels]` or a dictionary by field.
            y: The data, `[batch, *data]`.
            *args: The operands, then the noise and the mask if they are "given".
        """
        operands, noise, mask = self._unpack(args)
        residual, weighted = self._weigh(y, self.predict(x, *operands), noise, mask)
        if residual.dtype.is_complex:
            product = tf.math.real(tf.math.conj(residual) * weighted)
        else:
            product = residual * weighted
        return tf.reduce_sum(product, list(range(1, len(residual.shape))))

    def energy(self, x: Values, y: tf.Tensor, *args: Any) -> tf.Tensor:
        """Minus the log likelihood up to a constant, `[batch]`.

        Args:
            x: The parameters, `[batch, *sizes, channels]` or a dictionary by field.
            y: The data, `[batch, *data]`.
            *args: The operands, then the noise and the mask if they are "given".
        """
        return 0.5 * self.chi2(x, y, *args)

    def score(self, x: Values, y: tf.Tensor, *args: Any) -> Values:
        """The gradient of the log likelihood, with the structure and shape of `x`.

        Args:
            x: The parameters, `[batch, *sizes, channels]` or a dictionary by field.
            y: The data, `[batch, *data]`.
            *args: The operands, then the noise and the mask if they are "given".
        """
        operands, noise, mask = self._unpack(args)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            prediction = self.predict(x, *operands)
        weighted: Any = self._weigh(y, prediction, noise, mask)[1]
        # A field that the operator does not use has a score of zero, not None.
        return tape.gradient(
            prediction,
            x,
            output_gradients=weighted,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )

    def count(self, y: tf.Tensor, *args: Any) -> tf.Tensor:
        """How many real numbers there are that count, `[batch]`: what chi-squared has on average.

        A complex datum has two. A masked one has none.

        Args:
            y: The data, `[batch, *data]`.
            *args: The operands, then the noise and the mask if they are "given".
        """
        y = tf.convert_to_tensor(y)
        mask = self._unpack(args)[2]
        counts = tf.ones(tf.shape(y), "float32" if y.dtype.is_integer else y.dtype.real_dtype)
        if mask is not None:
            counts *= _ones_and_zeros(mask, counts, _is_given(self._mask))
        return (1 + y.dtype.is_complex) * tf.reduce_sum(counts, list(range(1, len(y.shape))))

    def simulate(self, x: Values, normals: tf.Tensor, *args: Any) -> tf.Tensor:
        """Data of parameters, `[batch, *data]`, with noise where data are not masked.

        Args:
            x: The parameters, `[batch, *sizes, channels]` or a dictionary by field.
            normals: Independent standard normals, `[batch, *data]`; those of complex data are
                complex, with standard normals in both parts.
            *args: The operands, then the noise and the mask if they are "given".
        """
        operands, noise, mask = self._unpack(args)
        prediction = self.predict(x, *operands)
        normals = tf.cast(normals, prediction.dtype)
        # The precision of each datum is what a residual of one is weighed with.
        precision = self._weigh(prediction + tf.ones_like(prediction), prediction, noise, mask)[1]
        if self._full:
            factor = tf.linalg.cholesky(_hermitian(tf.cast(noise, prediction.dtype)))
            flat = tf.reshape(normals, [tf.shape(prediction)[0], -1, 1])
            return prediction + tf.reshape(tf.matmul(factor, flat), tf.shape(prediction))
        counts = tf.math.real(precision) > 0
        safe = tf.where(counts, precision, tf.ones_like(precision))
        deviation = tf.where(counts, tf.math.rsqrt(safe), tf.zeros_like(safe))
        return prediction + deviation * normals

    def _unpack(self, args: Sequence[Any]) -> tuple[list[Any], Any, Any]:
        """The operands, the noise and the mask, from the call or from the constructor."""
        operands = list(args)
        needed = _is_given(self._mask) + _is_given(self._noise)
        if len(operands) < needed + _is_given(self._operator):
            raise ValueError(
                f"The likelihood needs {needed + _is_given(self._operator)} arguments after "
                f"`y`: operands, then noise, then mask; got {len(operands)}."
            )
        # From the end, because only the operator knows how many operands there are.
        mask = operands.pop() if _is_given(self._mask) else self._mask
        noise = operands.pop() if _is_given(self._noise) else self._noise
        return operands, noise, mask

    def _weigh(
        self, y: tf.Tensor, prediction: tf.Tensor, noise: Any, mask: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The residual `r` and `C^-1 r`, `[batch, *data]`, both zero where data are masked."""
        y = tf.convert_to_tensor(y)
        if y.dtype.is_complex and not prediction.dtype.is_complex:
            raise TypeError(f"`operator` must return complex numbers for `y` of {y.dtype.name}.")
        y = tf.cast(y, prediction.dtype)  # counts are integers
        if not prediction.shape.is_compatible_with(y.shape):
            raise ValueError(
                f"`operator` must return the shape of `y`, {tuple(y.shape)}, "
                f"got {tuple(prediction.shape)}."
            )
        residual = y - prediction
        noise = tf.convert_to_tensor(noise)
        if noise.dtype.is_complex and not residual.dtype.is_complex:
            raise TypeError(f"`covariance` must be real for real data, got {noise.dtype.name}.")
        if not self._full:
            require_real("`sigma`", noise)
        noise = tf.cast(noise, residual.dtype)
        masked = None
        if mask is not None:
            mask = _ones_and_zeros(mask, residual, _is_given(self._mask))
            # A product with zero would not do: what is masked may be NaN or infinite.
            masked = tf.equal(mask, 0)
            residual = tf.where(masked, tf.zeros_like(residual), residual)
        if self._full:
            check_covariance(noise, residual, _is_given(self._noise))
            return residual, _solve(noise, residual, mask)
        check_alignment("sigma", noise, residual, _is_given(self._noise))
        if _is_given(self._noise):
            # One level for each example, [batch], has to line up with the first axis of the data.
            axes = [1] * (len(residual.shape) - len(noise.shape))
            noise = tf.reshape(noise, tf.concat([tf.shape(noise), axes], 0))
        if masked is not None:
            noise = tf.where(masked, tf.ones_like(noise), noise)
        weighted = residual / tf.square(noise)
        return residual, weighted if mask is None else mask * weighted


def _solve(covariance: tf.Tensor, residual: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """`C^-1 r` for a covariance `[n, n]` or `[batch, n, n]` and a residual `[batch, *data]`.

    Rows and columns of masked data are replaced by those of the identity. The Cholesky factor of
    the rest is then that of the data that are not masked.
    """
    count = tf.shape(covariance)[-1]
    flat = tf.reshape(residual, [-1, count])
    if mask is None:
        factor = tf.linalg.cholesky(_hermitian(covariance))
        if len(covariance.shape) == 2:  # one factorisation serves all examples
            solution = tf.transpose(tf.linalg.cholesky_solve(factor, tf.transpose(flat)))
            return tf.reshape(solution, tf.shape(residual))
    else:
        kept = tf.reshape(mask, [-1, count])
        both = kept[:, :, tf.newaxis] * kept[:, tf.newaxis, :]
        # What is masked may be NaN or infinite, which stays so in a product with zero.
        covariance = tf.where(tf.equal(both, 0), tf.zeros_like(both), covariance)
        covariance = covariance * kept[:, :, tf.newaxis] * kept[:, tf.newaxis, :]
        factor = tf.linalg.cholesky(_hermitian(covariance) + tf.linalg.diag(1.0 - kept))
        flat = kept * flat
    solution = tf.linalg.cholesky_solve(factor, tf.expand_dims(flat, -1))[..., 0]
    return tf.reshape(solution, tf.shape(residual))


def _ones_and_zeros(mask: Any, data: tf.Tensor, given: bool) -> tf.Tensor:
    """A mask of the shape and the type of data, `[batch, *data]`, NaN where it is another number.

    No number is a weight between or beyond: a sum with it would be no likelihood.
    """
    mask = tf.convert_to_tensor(mask)
    require_real("`mask`", mask)
    mask = tf.cast(mask, data.dtype)
    check_alignment("mask", mask, data, given, leading=False)
    mask = tf.broadcast_to(mask, tf.shape(data))
    return tf.where(tf.equal(mask, 0) | tf.equal(mask, 1), mask, _nan(mask))


def _nan(like: tf.Tensor) -> tf.Tensor:
    return tf.cast(np.nan, like.dtype)


def _hermitian(covariance: tf.Tensor) -> tf.Tensor:
    """The covariance, or NaN if it is not Hermitian: its factorisation reads one triangle only."""
    gap = tf.abs(covariance - tf.linalg.adjoint(covariance))
    limit = 1e-3 * tf.reduce_max(tf.abs(covariance), axis=(-2, -1), keepdims=True)
    wrong = tf.reduce_any(gap > limit, axis=(-2, -1), keepdims=True)
    return tf.where(wrong, _nan(covariance), covariance)


def _is_given(value: object) -> bool:
    # Compared only if it is a string: comparing an array would give an array.
    return isinstance(value, str) and value == GIVEN


def _check_matrix(name: str, value: Constant) -> np.ndarray:
    """A finite matrix of real or complex numbers."""
    matrix = checks.unmasked(name, value)
    if matrix.dtype.kind != "c":
        return checks.array(name, value, shape=(None, None))
    parts = [checks.array(name, part, shape=(None, None)) for part in (matrix.real, matrix.imag)]
    return parts[0] + 1j * parts[1]


def _check_noise(
    sigma: Constant, covariance: Constant | None, mask: Any
) -> np.ndarray | Literal["given"]:
    if covariance is None:
        if _is_given(sigma):
            return GIVEN
        sigma = checks.array("sigma", sigma)
        wrong = sigma <= 0
        if isinstance(mask, np.ndarray):
            try:
                wrong = wrong & (mask != 0)
            except ValueError:
                raise ValueError(
                    f"`mask` must have the shape of `sigma`, {sigma.shape}, got {mask.shape}."
                ) from None
        if wrong.any():
            raise ValueError(f"`sigma` must be positive, got a minimum of {sigma.min()}.")
        return sigma
    if not _is_given(sigma):
        raise ValueError("`sigma` must be left out with a `covariance`.")
    if _is_given(covariance):
        return GIVEN
    covariance = _check_matrix("covariance", covariance)
    if covariance.dtype.kind != "c":
        covariance = covariance.astype(np.float64)
    try:
        np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        raise ValueError(
            "`covariance` must be square and positive definite, got one of shape "
            f"{covariance.shape} that has no Cholesky factor."
        ) from None
    # NumPy's factorisation reads one triangle only, so it accepts matrices that are not symmetric.
    if not np.allclose(covariance, covariance.conj().T):
        kind = "Hermitian" if covariance.dtype.kind == "c" else "symmetric"
        raise ValueError(f"`covariance` must be {kind}, got one that is not.")
    return covariance
