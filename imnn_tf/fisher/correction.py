"""The Fisher information without the noise of a finite number of simulations, and its error.

Every quantity is corrected for a bias of its own. With `n_s` fiducial simulations of `s` Gaussian
summaries the inverse of their covariance is too large by `(n_s − 1)/(n_s − s − 2)` on average
(Hartlap, Simon & Schneider 2007, astro-ph/0608064). `F⁻¹` follows a Wishart distribution of
`n_s − 1 − s + n_params` degrees of freedom, from which follow the biases of ln det F and of the
errors of the parameters. The noise of the slope is taken away from `F`. What is left of it biases
whatever is not linear in `F` to second order, which is corrected from the variance of `F`.

References:
    Coulton & Wandelt (2023), arXiv:2305.08994, on forecasts from noisy derivatives.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import polygamma, psi
from scipy.stats import t as students_t

from imnn_tf.fisher.sample import Sample
from imnn_tf.fisher.variation import Variance, Variation, variances, variation_of


class Determinant(NamedTuple):
    """ln det F and how it varies, from which intervals are made; each `[]`."""

    log_det: np.ndarray  # without the bias by the covariance, and without the mean of the noise
    log_det_plain: np.ndarray
    n_params: int
    variance: Variance
    linear_bias: np.ndarray  # twice the second-order bias by the noise: of its linear terms
    quadratic_bias: np.ndarray  # and of its quadratic term
    degrees: int  # degrees of freedom of the noise; zero where it is unknown
    slope_parts: np.ndarray  # [derivative_groups], the parts of each group in the linear terms

    @property
    def centre(self) -> np.ndarray:
        """Ln det F without any bias to second order."""
        return self.log_det + np.log1p(self.linear_bias + self.quadratic_bias) / 2

    def log_interval(self, level: float) -> np.ndarray:
        """Interval that holds ln det F with a probability of `level`.

        It holds every value that would not make the estimate an outlier. The error that goes with
        such a value is larger for a smaller value, since the noise of the slope stays. The square
        root of `det F` to the power `1/n_params` is linear in the slope, and so nearly normal.

        Args:
            level: The probability.

        Returns:
            The lower and the upper end, `[..., 2]`. Where the noise outweighs the slope they are
            −∞ and ln det of the plain information; with one derivative simulation they are NaN.
        """
        if not self.degrees:
            return np.full((*self.log_det.shape, 2), np.nan)
        factor = students_t.ppf(0.5 + level / 2, self.variance.freedom) / (2 * self.n_params)
        ends = [
            self.log_det + 2 * self.n_params * np.log(self._end(factor, sign)) for sign in (-1, 1)
        ]
        noisy = np.isnan(self.log_det)
        low, high = np.where(noisy, -np.inf, ends[0]), np.where(noisy, self.log_det_plain, ends[1])
        return np.stack([low, high], axis=-1)

    def _end(self, factor: ArrayLike, sign: int) -> np.ndarray:
        """The end of an interval, as a root of det F in units of the estimated one."""
        p, (linear, quadratic, covariance, cross, _) = self.n_params, self.variance
        shape = np.shape(linear)
        low, high = np.full(shape, 0.02 if sign < 0 else 0.7), np.full(shape, 50.0)
        if sign < 0:
            high = np.full(shape, 1.3)
        for _ in range(50):
            x = (low + high) / 2
            noise = linear / x**2 + quadratic / x**4
            bias = (self.linear_bias + self.quadratic_bias / x**2) / x**2
            shift = np.maximum(noise / (8 * p * p) - bias / (4 * p), -0.5)
            spread = np.sqrt(np.maximum(noise + covariance + cross / x, 0.0))
            inside = sign * (x * (1 + shift) - 1) < np.asarray(factor) * x * spread
            low, high = (
                np.where(inside == (sign > 0), x, low),
                np.where(inside == (sign > 0), high, x),
            )
        return low


class Correction(NamedTuple):
    """Corrected Fisher information, and the errors of it.

    What is not defined is NaN: the determinant and the parameters' errors where `F` has a negative
    eigenvalue, as the noise outweighs the slope; `fisher` where there are fewer fiducial
    simulations than `least_fiducial`; all errors where there is only one derivative simulation.
    Axes before those below stand for several samples.
    """

    fisher: np.ndarray  # [n_params, n_params]
    fisher_std: np.ndarray  # [n_params, n_params]
    log_det_fisher: np.ndarray  # []
    log_det_fisher_std: np.ndarray  # []
    parameter_std: np.ndarray  # [n_params]
    parameter_std_error: np.ndarray  # [n_params]
    plain: np.ndarray  # [n_params, n_params], as it comes from the slope and the covariance
    plain_std: np.ndarray  # [n_params, n_params]
    noise: np.ndarray  # [n_params, n_params], the part of `plain` that is noise of the slope
    determinant: Determinant

    @property
    def bias(self) -> np.ndarray:
        """The share of the plain det F that was taken away, `[]`; one where `F` is not defined."""
        return self.share_of(self.determinant.log_det_plain)

    def share_of(self, log_det: np.ndarray) -> np.ndarray:
        """The share of another det F that this one lacks, `[]`; one where `F` is not defined.

        Args:
            log_det: The logarithm of the other one, `[]`.
        """
        lost = 1 - np.exp(self.log_det_fisher - log_det)
        return np.where(np.isnan(lost), 1.0, lost)

    @property
    def noise_share(self) -> np.ndarray:
        """The share of the plain det F that was noise of the slope, `[]`."""
        return noise_share(self.plain, self.noise)


def least_fiducial(n_summaries: int) -> int:
    """The fewest fiducial simulations for which the mean of the inverse covariance exists."""
    return n_summaries + 3


def correct(sample: Sample) -> Correction:
    """Corrects the Fisher information of a sample, and finds its error."""
    variation = variation_of(sample)
    n_s, s, p = variation.n_s, sample.slope.shape[-1], sample.slope.shape[-2]
    hartlap = (n_s - s - 2) / (n_s - 1) if n_s >= least_fiducial(s) else np.nan
    elements = np.eye(p * p).reshape(p * p, p, p)
    elements = (elements + np.swapaxes(elements, -1, -2)) / 2
    by_element = variances(variation, elements, n_s / max(n_s - s - 4, 1.0)).total
    known = 1.0 if variation.degrees else np.nan
    plain_std = known * np.sqrt(by_element).reshape(variation.plain.shape)
    determinant = _determinant(variation, s)
    parameter_std, parameter_error = _parameter_std(variation, s)
    return Correction(
        fisher=hartlap * variation.fisher,
        fisher_std=hartlap * plain_std,
        log_det_fisher=determinant.centre,
        log_det_fisher_std=known * np.sqrt(determinant.variance.total),
        parameter_std=parameter_std,
        parameter_std_error=known * parameter_error,
        plain=variation.plain,
        plain_std=plain_std,
        noise=variation.noise,
        determinant=determinant,
    )


def _determinant(variation: Variation, s: int) -> Determinant:
    """Corrects ln det F, and finds how it varies."""
    p, n_s = variation.plain.shape[-1], variation.n_s
    degrees = (n_s - 1 - s + p - np.arange(p)) / 2
    sound, fisher = _sound(variation)
    inverse = np.linalg.inv(fisher)
    inflation = n_s * polygamma(1, degrees).sum() / (2 * p)
    variance = variances(variation, inverse[..., np.newaxis, :, :], inflation)
    parts = inverse[..., np.newaxis, :, :] @ variation.slope_parts
    quadratic = np.einsum("...abcd,...bc,...da->...", variation.quadratic, inverse, inverse)
    linear = np.einsum("...kab,...kba->...", parts, parts) - 2 * quadratic
    covariance_bias = p * np.log((n_s - 1) / 2) - psi(degrees).sum()
    log_det = np.linalg.slogdet(fisher)[1] - covariance_bias
    return Determinant(
        log_det=np.where(sound, log_det, np.nan),
        log_det_plain=np.linalg.slogdet(variation.plain)[1],
        n_params=p,
        variance=Variance(*(each[..., 0] for each in variance)),
        linear_bias=linear.clip(min=0),
        quadratic_bias=(quadratic * (1 + 1 / max(variation.degrees, 1))).clip(min=0),
        degrees=variation.degrees,
        slope_parts=np.einsum("...kaa->...k", parts),
    )


def _parameter_std(variation: Variation, s: int) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations of the parameters, `[..., n_params]`, and their errors."""
    p, n_s = variation.plain.shape[-1], variation.n_s
    degrees = n_s - 1 - s + p
    sound, fisher = _sound(variation)
    inverse = np.linalg.inv(fisher)
    marginal = np.diagonal(inverse, axis1=-2, axis2=-1)
    # The gradient of ln (F⁻¹)_αα, but for its sign.
    gradients = inverse[..., :, :, np.newaxis] * inverse[..., :, np.newaxis, :]
    gradients = gradients / marginal[..., np.newaxis, np.newaxis]
    variance = variances(variation, gradients, n_s * polygamma(1, degrees / 2) / 2)
    parts = inverse[..., np.newaxis, :, :] @ variation.slope_parts
    linear = np.einsum("...kxb,...kbc,...cx->...x", parts, parts, inverse, optimize=True)
    quadratic = np.einsum(
        "...xa,...abcd,...bc,...dx->...x", inverse, variation.quadratic, inverse, inverse
    )
    noise = (linear - quadratic * (1 - 1 / max(variation.degrees, 1))).clip(min=0) / marginal
    # The mean of a root is below the root of the mean; the inverse of a noisy F is above F⁻¹.
    bias = 1 + noise / 2 - (variance.linear + variance.quadratic) / 8
    root = 1 + 1 / (4 * degrees)
    std = root * np.sqrt(marginal * (n_s - 1) / degrees) / np.maximum(bias, 0.5)
    std = np.where(sound[..., np.newaxis], std, np.nan)
    return std, std * np.sqrt(variance.total) / 2


def _sound(variation: Variation) -> tuple[np.ndarray, np.ndarray]:
    """Whether `F` is positive definite, `[...]`, and `F`, replaced by the plain one where not."""
    sound = _positive(variation.fisher)
    return sound, np.where(sound[..., np.newaxis, np.newaxis], variation.fisher, variation.plain)


def _positive(fisher: np.ndarray) -> np.ndarray:
    """Whether matrices are positive definite, in units in which their diagonal is one."""
    diagonal = np.diagonal(fisher, axis1=-2, axis2=-1)
    unit = np.sqrt(np.abs(diagonal)).clip(min=np.finfo(float).tiny)
    scaled = fisher / (unit[..., :, np.newaxis] * unit[..., np.newaxis, :])
    return (np.linalg.eigvalsh(scaled)[..., 0] > 0) & (diagonal > 0).all(axis=-1)


def noise_share(plain: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The share of det F that is noise of the slope, `[]`; one where all of it may be."""
    lost = 1 - np.exp(np.linalg.slogdet(plain - noise)[1] - np.linalg.slogdet(plain)[1])
    return np.where(_positive(plain - noise), lost, 1.0)
