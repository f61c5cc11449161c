"""How the estimate of a Fisher information varies from one set of simulations to another.

The slope of the mean of the summaries is `g + e`, where `e` is the noise of a finite number of
derivative simulations, and their covariance is `C + ΔC`. Then `(g + e) (C + ΔC)⁻¹ (g + e)ᵀ` differs
from `F = g C⁻¹ gᵀ` by

    g C⁻¹ eᵀ + e C⁻¹ gᵀ           linear in the noise of the slope,
    e C⁻¹ eᵀ                      quadratic in it, with a mean above zero,
    −(g + e) C⁻¹ ΔC C⁻¹ (g + e)ᵀ  linear in the error of the covariance.

The parts of each group of simulations in these terms tell their variance. The noise that is left in
`g + e` is part of the linear terms as they are seen; what it adds is known and taken away.
"""

from typing import NamedTuple

import numpy as np

from imnn_tf.fisher.sample import Sample

# The variance, from one network to another, of the ratio of the error that the covariance of the
# summaries has to the one it would have if the summaries were Gaussian.
_DEPARTURE_FROM_GAUSSIAN = 0.25


class Variation(NamedTuple):
    """An estimate of the Fisher information, and the parts that groups have in its error.

    Axes before those below stand for several samples.
    """

    plain: np.ndarray  # [n_params, n_params], g C⁻¹ gᵀ as it is
    noise: np.ndarray  # [n_params, n_params], the part of it that is noise of the slope
    slope: np.ndarray  # [n_params, n_summaries], g in units in which C is the identity
    noise_covariance: np.ndarray  # [n_params, n_params, n_summaries, n_summaries], in these units
    slope_parts: np.ndarray  # [derivative_groups, n_params, n_params]
    covariance_parts: np.ndarray  # [fiducial_groups, n_params, n_params]
    quadratic: np.ndarray  # [n_params] * 4, covariance of the term quadratic in the noise
    n_s: float  # number of fiducial simulations
    matched: bool  # whether fiducial and derivative groups of one number may share their seeds

    @property
    def fisher(self) -> np.ndarray:
        """Information without the noise of the slope, `[n_params, n_params]`."""
        return self.plain - self.noise

    @property
    def degrees(self) -> int:
        """Degrees of freedom of the noise of the slope; zero where it is unknown."""
        return self.slope_parts.shape[-3] - 1


class Variance(NamedTuple):
    """Variance of quantities made of the Fisher information, each `[..., n]`."""

    linear: np.ndarray  # of the terms linear in the noise of the slope
    quadratic: np.ndarray  # of the term quadratic in it
    covariance: np.ndarray  # of the term linear in the error of the covariance
    cross: np.ndarray  # twice the covariance of the first and the third
    freedom: np.ndarray  # effective degrees of freedom of the sum

    @property
    def total(self) -> np.ndarray:
        """The variance of the quantities."""
        least = self.quadratic + np.square(np.sqrt(self.linear) - np.sqrt(self.covariance))
        return np.maximum(self.linear + self.quadratic + self.covariance + self.cross, least)


def variation_of(sample: Sample) -> Variation:
    """The plain estimate of the Fisher information, and how it varies."""
    spread, mean_slope = sample.spread(), sample.mean_slope()
    n_s, n_d, groups = sample.n_s.sum(), sample.n_d.sum(), len(sample.n_d)
    whitener = np.linalg.inv(np.linalg.cholesky(spread.sum(axis=-3) / (n_s - 1)))
    each = whitener[..., np.newaxis, :, :]
    slope = mean_slope @ _transposed(whitener)
    # Weighted such that their sum of squares is the variance of the mean of all.
    weights = np.sqrt(sample.n_d / (n_d * max(groups - 1, 1)))[:, np.newaxis, np.newaxis]
    residuals = weights * (sample.slope - mean_slope[..., np.newaxis, :, :])
    residuals = residuals @ _transposed(each)
    towards = residuals @ _transposed(slope)[..., np.newaxis, :, :]
    *first, p, s = residuals.shape
    flat = residuals.reshape(*first, p * s)
    noise_covariance = (_transposed(flat) @ flat).reshape(*first[:-1], p, s, p, s)
    noise_covariance = np.swapaxes(noise_covariance, -3, -2)
    # What a group adds to the covariance beyond its share, as a change of the information.
    spread = each @ spread @ _transposed(each) / n_s
    parts = np.einsum("...abst,...kst->...kab", noise_covariance, spread, optimize=True)
    wide = slope[..., np.newaxis, :, :]
    parts = parts - wide @ spread @ _transposed(wide)
    share = (sample.n_s / n_s)[:, np.newaxis, np.newaxis]
    parts = parts - share * parts.sum(axis=-3, keepdims=True)
    return Variation(
        plain=slope @ _transposed(slope),
        noise=np.einsum("...abss->...ab", noise_covariance),
        slope=slope,
        noise_covariance=noise_covariance,
        slope_parts=towards + _transposed(towards),
        covariance_parts=parts * np.sqrt(len(sample.n_s) / (len(sample.n_s) - 1)),
        quadratic=_quadratic(noise_covariance, groups - 1),
        n_s=float(n_s),
        matched=len(sample.n_s) == groups,
    )


def variances(variation: Variation, gradients: np.ndarray, inflation: float = 1.0) -> Variance:
    """Variances of quantities made of the Fisher information.

    Args:
        variation: The estimate, and how it varies.
        gradients: The gradients of the quantities by the information, symmetric,
            `[..., n, n_params, n_params]`.
        inflation: The variance due to the covariance of Gaussian summaries over its value to first
            order in `1/n_s`, which is too small where simulations are few.

    Returns:
        The variances, `[..., n]` each.
    """
    degrees = max(variation.degrees, 1)
    linear, covariance = (
        np.einsum("...nab,...kab->...nk", gradients, parts)
        for parts in (variation.slope_parts, variation.covariance_parts)
    )
    quadratic = np.einsum(
        "...nab,...abcd,...ncd->...n", gradients, variation.quadratic, gradients, optimize=True
    ).clip(min=0)
    groups = covariance.shape[-1]
    gaussian = _gaussian_variance(variation, gradients)
    # The squares of few simulations tell little of the true variance: Gaussian ones tell more.
    uncertainty = (2 + 12 * groups / variation.n_s) / groups
    trust = _DEPARTURE_FROM_GAUSSIAN / (_DEPARTURE_FROM_GAUSSIAN + uncertainty)
    first_order = gaussian + trust * (np.square(covariance).sum(axis=-1) - gaussian)
    # The inflation is known for a slope without noise. Where noise outweighs the slope, there is
    # no such part.
    noiseless = gradients @ variation.fisher[..., np.newaxis, :, :]
    noiseless = np.einsum("...nab,...nba->...n", noiseless, noiseless).clip(min=0)
    noiseless = 2 * noiseless / variation.n_s
    by_covariance = first_order + (inflation - 1) * np.minimum(first_order, noiseless)
    cross = np.zeros_like(quadratic)
    if variation.matched:
        cross = 2 * np.sqrt(by_covariance / first_order) * (linear * covariance).sum(axis=-1)
    by_slope = (np.square(linear).sum(axis=-1) - 2 * quadratic).clip(min=0)
    quadratic = quadratic * (1 + 1 / degrees)  # the noise that is taken away is an estimate, too
    spread = np.square(by_slope + quadratic) / degrees
    spread = spread + np.square(by_covariance * trust) * uncertainty / 2
    total = by_slope + quadratic + by_covariance
    return Variance(by_slope, quadratic, by_covariance, cross, np.square(total) / spread)


def _gaussian_variance(variation: Variation, gradients: np.ndarray) -> np.ndarray:
    """Variance due to the covariance, to first order in `1/n_s`, if the summaries were Gaussian."""
    slope = variation.slope[..., np.newaxis, :, :]
    metric = _transposed(slope) @ gradients @ slope - np.einsum(
        "...nab,...abst->...nst", gradients, variation.noise_covariance, optimize=True
    )
    return 2 * np.einsum("...nst,...nts->...n", metric, metric) / variation.n_s


def _quadratic(noise_covariance: np.ndarray, degrees: int) -> np.ndarray:
    """Covariance of the elements of `e C⁻¹ eᵀ` for Gaussian noise `e`, without bias.

    Args:
        noise_covariance: An estimate of the covariance of `e`, `[..., p, p, s, s]`, in units in
            which `C` is the identity.
        degrees: Its degrees of freedom.

    Returns:
        `[..., p, p, p, p]`.
    """
    *first, p, _, s, _ = noise_covariance.shape
    if degrees < 2:
        return np.zeros((*first, p, p, p, p))
    flat = noise_covariance.reshape(*first, p * p, s * s)
    products = (flat @ _transposed(flat)).reshape(*first, p, p, p, p)
    # Cov(e_a·e_b, e_c·e_d) is the sum of two ways to pair them.
    seen = np.swapaxes(products, -3, -2)
    seen = seen + np.swapaxes(seen, -2, -1)
    noise = np.einsum("...abss->...ab", noise_covariance)
    # The square of an estimate of the covariance is too large, as Wishart's moments tell.
    excess = 2 / degrees * noise[..., :, :, np.newaxis, np.newaxis] * noise[..., None, None, :, :]
    return degrees**2 / ((degrees + 2) * (degrees - 1)) * (seen - excess)


def _transposed(matrix: np.ndarray) -> np.ndarray:
    return np.swapaxes(matrix, -1, -2)
