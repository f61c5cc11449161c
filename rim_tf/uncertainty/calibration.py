"""Whether the errors of pixels are right: how many pixels are within their intervals."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from scipy.special import erf

from imnn_tf.utils import checks
from imnn_tf.utils.display import number, shown
from rim_tf.problem.parameters import Parameters, Values
from rim_tf.uncertainty.reconstruction import DEVIATIONS, Reconstruction


@shown
class PixelCoverage(NamedTuple):
    """The shares of pixels that are within their intervals.

    Attributes:
        levels: The probabilities that the intervals claim, `[levels]`.
        shares: The shares that they hold, the mean over the images, `[levels]`.
        errors: The standard errors of the shares, from the scatter between images, `[levels]`;
            NaN for a single image. Pixels of one image are not independent.
        by_image: The shares of each image, `[images, levels]`.
    """

    levels: np.ndarray
    shares: np.ndarray
    errors: np.ndarray
    by_image: np.ndarray

    def _facts(self) -> dict[str, str]:
        return {
            f"within {level:.0%}": number(share, error)
            for level, share, error in zip(self.levels, self.shares, self.errors, strict=True)
        }


def pixel_coverage(
    reconstruction: Reconstruction, x: Values, levels: Sequence[float] = (0.5, 0.68, 0.95)
) -> PixelCoverage:
    """How many pixels are within the intervals that are to hold them.

    Args:
        reconstruction: What `PixelErrors.predict` or `Ensemble.predict` returned.
        x: The true parameters, `[batch, *sizes, channels]` or a dictionary by field. NaN does not
            count.
        levels: Probabilities in (0, 1). Defaults to 0.5, 0.68 and 0.95.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a level is out of range, or the shapes differ.
    """
    levels = [checks.real("levels", each, above=0, below=1) for each in levels]
    estimate = reconstruction.x
    tf.nest.assert_same_structure(estimate, x)
    truth = [np.asarray(each) for each in tf.nest.flatten(x)]
    for ours, true in zip(tf.nest.flatten(estimate), truth, strict=True):
        if ours.shape != true.shape:
            raise ValueError(f"`x` must have shape {ours.shape}, got {true.shape}.")
    columns = []
    for level in levels:
        low, high = (tf.nest.flatten(each) for each in reconstruction.interval(level))
        within, known = [], []
        for a, b, true in zip(low, high, truth, strict=True):
            finite = np.isfinite(true)
            within.append(_by_image(finite & (true >= a) & (true <= b)))
            known.append(_by_image(finite))
        columns.append(sum(within) / np.maximum(sum(known), 1))
    by_image = np.stack(columns, axis=-1)
    count = len(by_image)
    errors = np.full(len(levels), np.nan)
    if count > 1:
        errors = by_image.std(axis=0, ddof=1) / np.sqrt(count)
    return PixelCoverage(np.asarray(levels), by_image.mean(axis=0), errors, by_image)


def calibrated_factors(
    reconstruction: Reconstruction, parameters: Parameters, x: Values
) -> np.ndarray:
    """The half-widths, in standard deviations, of intervals that hold what they say of examples.

    Args:
        reconstruction: What was predicted of the examples.
        parameters: Finds their unlinked parameters.
        x: Their true parameters, `[batch, *sizes, channels]` or a dictionary by field. NaN does
            not count.

    Returns:
        The half-widths at the levels that a Gaussian has at `DEVIATIONS`, `[33]`.

    Raises:
        TypeError: If `x` has the wrong type.
        ValueError: If its shape differs, or nothing of it is known.
    """
    estimates = tf.convert_to_tensor(reconstruction.u[:, np.newaxis])
    return interval_factors(reconstruction, parameters.target(x, estimates).numpy())


def interval_factors(reconstruction: Reconstruction, target: Any) -> np.ndarray:
    """The half-widths, in standard deviations, of intervals that hold what they say.

    Args:
        reconstruction: Estimates and standard deviations, unlinked.
        target: The true unlinked parameters, `[batch, *sizes, channels]`. NaN does not count.

    Returns:
        The half-widths at the levels that a Gaussian has at `DEVIATIONS`, `[33]`.

    Raises:
        ValueError: If the shapes differ, or no target is known.
    """
    if target.shape != reconstruction.u.shape:
        raise ValueError(f"`x` must have shape {reconstruction.u.shape}, got {target.shape}.")
    known = np.isfinite(target)
    if not known.any():
        raise ValueError("`x` must hold known parameters, got none.")
    residuals = np.abs(target - reconstruction.u)[known] / reconstruction.deviation[known]
    return np.quantile(residuals, erf(DEVIATIONS / np.sqrt(2.0)))


def _by_image(counted: np.ndarray) -> np.ndarray:
    return counted.reshape(len(counted), -1).sum(axis=1)
