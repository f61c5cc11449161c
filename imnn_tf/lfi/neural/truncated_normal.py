"""Numbers within bounds as standard normal ones, by the distribution of a truncated Gaussian.

All functions take arrays that broadcast. Bounds may be infinite. They work with logarithms of
tails, from the side on which these are small, so bounds may lie far from the mean on either side.
"""

import numpy as np
from scipy.special import log_ndtr, ndtri_exp

_LOG_HALF = -np.log(2.0)


def forward(units: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The standard normal numbers that have the probabilities of truncated ones.

    Args:
        units: Numbers between the bounds.
        low: Lower bounds.
        high: Upper bounds.

    Returns:
        `ndtri((ndtr(units) - ndtr(low)) / (ndtr(high) - ndtr(low)))`. This is `units` where both
        bounds are infinite.
    """
    mass = log_mass(low, high)
    below = np.minimum(log_mass(low, units) - mass, 0)
    above = np.minimum(log_mass(units, high) - mass, 0)
    return np.where(below < _LOG_HALF, ndtri_exp(below), -ndtri_exp(above))


def inverse(normal: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The numbers between the bounds that `forward` maps to some normal ones."""
    mass = log_mass(low, high)
    below = np.logaddexp(log_ndtr(low), log_ndtr(normal) + mass)
    above = np.logaddexp(log_ndtr(-high), log_ndtr(-normal) + mass)
    return np.where(below < above, ndtri_exp(below), -ndtri_exp(above))


def log_slope(
    units: np.ndarray, normal: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """The logarithm of the derivative of `normal = forward(units, low, high)` by `units`."""
    return (normal**2 - units**2) / 2 - log_mass(low, high)


def log_mass(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The logarithm of the probability of a standard normal number between bounds."""
    # Of the two tails those are subtracted that are small.
    flipped = low > -np.asarray(high)
    start, end = np.where(flipped, -high, low), np.where(flipped, -low, high)
    log_end = log_ndtr(end)
    with np.errstate(divide="ignore"):
        return log_end + np.log(-np.expm1(np.minimum(log_ndtr(start) - log_end, 0)))
