"""Truncated Gaussians whose means and widths depend on summaries, fitted to pairs."""

from itertools import combinations_with_replacement
from math import comb
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from imnn_tf.lfi.neural.truncated_normal import log_mass

# Pairs that are used at most, and summaries beyond which none are used.
_MOST_PAIRS, _MOST_SUMMARIES = 20_000, 200

# Strengths of the ridge, and the share of the pairs that chooses among them.
_STRENGTHS, _HELD_OUT = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4), 0.2

# The largest standard deviation, in widths of a box: a truncated Gaussian of this is nearly flat.
_WIDEST = 2.0

# Logarithms of standard deviations stay within this of zero. Parameters are of order one;
# posteriors that are still narrower are left to the density.
_MOST_LOG = 12.0

# How far means lie from a box at most, in standard deviations.
_FURTHEST = 8.0

# What a weaker ridge must gain in the mean log density to be preferred.
_LEAST_GAIN = 1e-4

# The highest degree of polynomials of summaries, and the most of their terms. What a higher degree
# must gain in the mean log density to be preferred: less is learnt as well by the density.
_DEGREES, _MOST_TERMS, _GAIN_OF_DEGREE = 3, 21, 0.01

# Summaries within this are taken to powers, and others as if they lay there.
_POWERS_WITHIN = 3.0

# When a fit ends. The last one is tight: units of the user, which change roundings, should not
# change where it ends.
_ROUGH: Any = {"maxiter": 500, "ftol": 1e-8, "gtol": 1e-4, "maxcor": 20}
_TIGHT: Any = {"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 20}

_HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)


class Regression(NamedTuple):
    """A truncated Gaussian for each parameter given summaries.

    Its mean before the truncation, and the logarithm of its standard deviation, are polynomials in
    the summaries. Both stay within what the pairs have.
    """

    degree: int  # of the polynomials; 0 if summaries are not used
    means: np.ndarray  # [n_terms, n_params]; the terms are those of `terms`
    log_stds: np.ndarray  # [n_terms, n_params]
    low: np.ndarray  # [n_params], bounds of the parameters
    high: np.ndarray  # [n_params]
    least: np.ndarray  # [n_params], the smallest logarithm of a standard deviation
    most: np.ndarray  # [n_params], the largest

    def __call__(self, summaries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations, both `[n, n_params]`, for summaries `[n, n_summaries]`."""
        x = terms(summaries, self.degree)
        log_std = _bounded(x @ self.log_stds, self.low, self.high)
        std = np.exp(np.clip(log_std, self.least, self.most))
        return _near(x @ self.means, std, self.low, self.high), std


def fit(
    parameters: np.ndarray, summaries: np.ndarray, low: np.ndarray, high: np.ndarray
) -> Regression:
    """Fits the most probable truncated Gaussians.

    A ridge keeps the coefficients small. Its strength is the one with which a fifth of the pairs is
    most probable after a fit to the others, or a stronger one that is as good up to 1e-4. The
    degree of the polynomials is raised, for each parameter, from 1 to at most 3 while that makes
    these pairs more probable by 0.01 and there are at most 21 terms.

    Args:
        parameters: `[n, n_params]`, of order one.
        summaries: `[n, n_summaries]`, of order one. Of more than 200 none are used.
        low: Bounds of the parameters, `[n_params]`, minus infinity where there is none.
        high: Bounds of the parameters, `[n_params]`, infinity where there is none.
    """
    theta, x = parameters[:_MOST_PAIRS], summaries[:_MOST_PAIRS]
    highest = 0
    if x.shape[1] <= _MOST_SUMMARIES:
        counts = [comb(x.shape[1] + degree, degree) for degree in range(2, _DEGREES + 1)]
        highest = 1 + sum(count <= _MOST_TERMS for count in counts)
    designs = [terms(x, degree) for degree in range(min(1, highest), highest + 1)]
    columns = [slice(i, i + 1) for i in range(theta.shape[1])]
    # The matrices are small. Where other processes have the processors, the threads of BLAS would
    # wait for each other ten times as long as they work.
    with threadpool_limits(1, user_api="blas"):
        found = [
            _fit_one(theta[:, one], designs, _Likelihood(low[one], high[one])) for one in columns
        ]
    # Terms of lower degree come first, and the others of a parameter without them are zero.
    size = max(each.shape[1] for each in found)
    degree = next(i for i, each in enumerate(designs, min(1, highest)) if each.shape[1] == size)
    padded = [np.pad(each, ((0, 0), (0, size - each.shape[1]), (0, 0))) for each in found]
    means, log_stds = np.concatenate(padded, axis=2)
    logs = _bounded(terms(x, degree) @ log_stds, low, high)
    return Regression(degree, means, log_stds, low, high, logs.min(axis=0), logs.max(axis=0))


def terms(summaries: np.ndarray, degree: int) -> np.ndarray:
    """A constant, the summaries, and their products of up to `degree` factors.

    Products are of summaries that are cut off at -3 and 3, so that they stay small far away.

    Args:
        summaries: `[n, n_summaries]`.
        degree: The most factors. With 0 there is only the constant.

    Returns:
        The terms by degree, `[n, n_terms]`.
    """
    near = np.clip(summaries, -_POWERS_WITHIN, _POWERS_WITHIN)
    parts = [np.ones((len(summaries), 1))]
    if degree > 0:
        parts.append(summaries)
    for factors in range(2, degree + 1):
        chosen = combinations_with_replacement(range(summaries.shape[1]), factors)
        products = [near[:, list(each)].prod(axis=1) for each in chosen]
        # As large as the summaries themselves at the ends of where they are multiplied.
        parts.append(np.stack(products, axis=1) / _POWERS_WITHIN ** (factors - 1))
    return np.concatenate(parts, axis=1)


def _fit_one(theta: np.ndarray, designs: list[np.ndarray], likelihood: "_Likelihood") -> np.ndarray:
    """The coefficients, `[2, n_terms, 1]`, for one parameter, `[n, 1]`, and terms of any degree."""
    begin = np.zeros((2, 1, 1))
    begin[0], begin[1] = theta.mean(), np.log(theta.std())
    chosen, strength, least = designs[0], _STRENGTHS[0], np.inf
    for x in designs if designs[-1].shape[1] > 1 else ():
        start, weakest, loss = _fit_held_out(theta, x, begin, likelihood)
        if loss > least - _GAIN_OF_DEGREE:
            break
        begin, chosen, strength, least = start, x, weakest, loss
    return likelihood.fitted(_padded(begin, chosen), theta, chosen, strength, _TIGHT)


def _fit_held_out(
    theta: np.ndarray, x: np.ndarray, begin: np.ndarray, likelihood: "_Likelihood"
) -> tuple[np.ndarray, float, float]:
    """The coefficients of the best ridge, its strength, and its loss on the pairs held out."""
    held = max(1, int(_HELD_OUT * len(x)))
    start = best = _padded(begin, x)
    chosen, least = _STRENGTHS[0], np.inf
    for strength in _STRENGTHS:
        start = likelihood.fitted(start, theta[held:], x[held:], strength, _ROUGH)
        loss = likelihood.loss(start, theta[:held], x[:held])[0]
        if loss > least - _LEAST_GAIN:
            break
        best, chosen, least = start, strength, loss
    return best, chosen, least


def _padded(coefficients: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Coefficients, `[2, fewer, 1]`, with zeros for the further terms of `x`."""
    return np.pad(coefficients, ((0, 0), (0, x.shape[1] - coefficients.shape[1]), (0, 0)))


class _Likelihood:
    """The likelihood of truncated Gaussians, and its maximum."""

    def __init__(self, low: np.ndarray, high: np.ndarray) -> None:
        self._low, self._high = low, high

    def loss(
        self, coefficients: np.ndarray, theta: np.ndarray, x: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Minus the mean log density, summed over parameters, and its gradient.

        Args:
            coefficients: Those of means and of logarithms of standard deviations,
                `[2, n_terms, n_params]`.
            theta: `[n, n_params]`.
            x: Terms of the summaries, a constant first, `[n, n_terms]`.
        """
        raw = x @ coefficients[1]
        log_std = _bounded(raw, self._low, self._high)
        std = np.exp(log_std)
        wanted = x @ coefficients[0]
        mean = _near(wanted, std, self._low, self._high)
        units, low, high = ((each - mean) / std for each in (theta, self._low, self._high))
        mass = np.zeros_like(units)
        box = np.isfinite(self._low) & np.isfinite(self._high)
        mass[:, box] = log_mass(low[:, box], high[:, box])
        total = (log_std + units**2 / 2 + mass).sum()
        at_low, at_high = (np.exp(-(end**2) / 2 - _HALF_LOG_2PI - mass) for end in (low, high))
        ends = np.where(np.isfinite(high), high, 0) * at_high
        ends -= np.where(np.isfinite(low), low, 0) * at_low
        by_mean = (-units - at_high + at_low) / std
        # A mean that is held near the box moves with the width alone.
        held = mean != wanted
        by_log_std = 1 - units**2 - ends
        by_log_std += np.where(held, np.sign(mean - wanted) * -_FURTHEST * std * by_mean, 0)
        by_mean = np.where(held, 0, by_mean)
        slope = np.where(np.abs(raw) < _MOST_LOG, np.exp(np.minimum(log_std - raw, 0)), 0)
        gradient = [x.T @ each for each in (by_mean, by_log_std * slope)]
        n = len(theta)
        return total / n, np.stack(gradient) / n

    def fitted(
        self,
        start: np.ndarray,
        theta: np.ndarray,
        x: np.ndarray,
        strength: float,
        ends: Any,
    ) -> np.ndarray:
        """The coefficients, `[2, n_terms, n_params]`, with the least penalised loss."""
        penalty = np.full(start.shape, strength)
        penalty[:, 0] = 1e-6

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            coefficients = flat.reshape(start.shape)
            loss, gradient = self.loss(coefficients, theta, x)
            penalised = loss + (penalty * coefficients**2).sum() / 2
            return penalised, (gradient + penalty * coefficients).ravel()

        found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options=ends)
        return found.x.reshape(start.shape)


def _near(mean: np.ndarray, std: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Means that lie no further from a box than `_FURTHEST` standard deviations."""
    reach = _FURTHEST * std
    return np.clip(mean, low - reach, high + reach)


def _bounded(raw: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Logarithms of standard deviations: of the harmonic sum of `exp(raw)` and the widest."""
    both = np.isfinite(low) & np.isfinite(high)
    least = np.where(both, 1 / (_WIDEST * (np.where(both, high, 1) - np.where(both, low, 0))), 0)
    return -np.log(np.exp(-np.clip(raw, -_MOST_LOG, _MOST_LOG)) + least)
