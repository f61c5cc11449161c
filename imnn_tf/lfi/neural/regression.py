"""A truncated Gaussian whose mean and width depend on other numbers, fitted to pairs."""

from collections.abc import Sequence
from functools import reduce
from itertools import chain, combinations_with_replacement
from math import comb
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from imnn_tf.lfi.neural.truncated_normal import log_mass

# Pairs that are used at most, and inputs beyond which none are used.
_MOST_PAIRS, _MOST_INPUTS = 20_000, 200

# Strengths of the ridge, and the share of the pairs that chooses among them.
_STRENGTHS, _HELD_OUT = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4), 0.2

# The ridge of the constants, and of all coefficients where there are so many pairs for each.
_LEAST_STRENGTH, _PAIRS_OF_ONE = 1e-6, 20

# The largest standard deviation, in widths of a box: a truncated Gaussian of this is nearly flat.
_WIDEST = 2.0

# Logarithms of standard deviations stay within this of zero. Parameters are of order one;
# posteriors that are still narrower are left to the density.
_MOST_LOG = 12.0

# How far means lie from a box at most, in standard deviations.
_FURTHEST = 8.0

# What a weaker ridge must gain in the mean log density to be preferred.
_LEAST_GAIN = 1e-4

# The highest degree of polynomials of inputs, and the most of their terms. What a higher degree
# must gain in the mean log density to be preferred: less is learnt as well by the density.
_DEGREES, _MOST_TERMS, _GAIN_OF_DEGREE = 3, 21, 0.01

# Inputs within this are taken to powers, and others as if they lay there.
_POWERS_WITHIN = 3.0

# When a fit ends. The last one is tight: units of the user, which change roundings, should not
# change where it ends.
_ROUGH: Any = {"maxiter": 500, "ftol": 1e-8, "gtol": 1e-4, "maxcor": 20}
_TIGHT: Any = {"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 20}

_HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)

# The numbers of the inputs that a term multiplies. That of the constant is empty.
Term = tuple[int, ...]


class Conditional(NamedTuple):
    """A truncated Gaussian for one number given inputs.

    Its mean before the truncation, and the logarithm of its standard deviation, are polynomials in
    the inputs. The deviation stays within what the pairs have.
    """

    terms: list[Term]  # the constant first
    means: np.ndarray  # [n_terms]
    log_stds: np.ndarray  # [n_terms]
    low: float  # the bounds
    high: float
    least: float  # the smallest logarithm of a standard deviation
    most: float  # the largest

    def __call__(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations given all inputs, arrays that broadcast."""
        mean, raw = np.zeros(()), np.zeros(())
        for term, by_mean, by_log_std in zip(self.terms, self.means, self.log_stds, strict=True):
            value = product(inputs, term)
            mean, raw = mean + by_mean * value, raw + by_log_std * value
        std = np.exp(np.clip(_bounded(raw, self.low, self.high), self.least, self.most))
        return _near(mean, std, self.low, self.high), std

    def log_prob(self, values: np.ndarray, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Logarithms of the density of values given inputs, all of which broadcast."""
        mean, std = self(inputs)
        mass = log_mass((self.low - mean) / std, (self.high - mean) / std)
        return -(((values - mean) / std) ** 2) / 2 - np.log(std) - mass - _HALF_LOG_2PI


def product(inputs: Sequence[np.ndarray], term: Term) -> np.ndarray:
    """The product of the inputs that a term names.

    Several factors are cut off at -3 and 3, so that products stay small far away, and divided so
    that a product is as large as its factors there.
    """
    if len(term) < 2:
        return inputs[term[0]] if term else np.ones(())
    factors = [np.clip(inputs[i], -_POWERS_WITHIN, _POWERS_WITHIN) for i in term]
    return reduce(np.multiply, factors) / _POWERS_WITHIN ** (len(term) - 1)


def terms_up_to(degree: int, n_inputs: int) -> list[Term]:
    """The constant, the inputs, and their products of up to `degree` factors, by degree."""
    orders = range(degree + 1)
    return list(chain(*(combinations_with_replacement(range(n_inputs), n) for n in orders)))


def fit(values: np.ndarray, inputs: np.ndarray, low: float, high: float) -> Conditional:
    """Fits the most probable truncated Gaussian of few terms.

    The degree of the polynomials is raised from 1 to at most 3 while that makes a fifth of the
    pairs more probable, by 0.01 and by two standard errors, after a fit to the others, and there
    are at most 21 terms. There a ridge keeps the coefficients small. It is the strongest one,
    unless a weaker one makes the fifth more probable, by 1e-4 and by two standard errors. Where
    there are fewer than 20 pairs for each coefficient of degree 1, no inputs are used, unless the
    fifth favours them in the same way.

    Where there are 20 pairs for each coefficient, the last fit has hardly any ridge. Instead
    coefficients that do not differ from zero are left out by the Bayesian information criterion
    (Schwarz 1978, Ann. Stat. 6, 461), because each that is kept adds its error to all posteriors.

    Args:
        values: `[n]`, of order one.
        inputs: `[n, n_inputs]`, of order one. Of more than 200 none are used.
        low: Lower bound of the values, minus infinity where there is none.
        high: Upper bound of the values, infinity where there is none.
    """
    values, inputs = values[:_MOST_PAIRS], inputs[:_MOST_PAIRS]
    n, size = inputs.shape
    highest = 0
    if size <= _MOST_INPUTS:
        counts = [comb(size + degree, degree) for degree in range(2, _DEGREES + 1)]
        highest = 1 + sum(count <= _MOST_TERMS for count in counts)
    likelihood = _Likelihood(low, high)
    begin = np.zeros((2, 1))
    begin[:, 0] = values.mean(), np.log(max(values.std(), np.exp(-_MOST_LOG)))
    terms: list[Term] = [()]
    x, strength, losses = np.ones((n, 1)), _STRENGTHS[0], None
    # The matrices are small. Where other processes have the processors, the threads of BLAS would
    # wait for each other ten times as long as they work.
    with threadpool_limits(1, user_api="blas"):
        if highest and not are_enough(n, 1 + size):
            _, _, losses = _fit_held_out(values, x, begin, likelihood)
        for degree in range(1, highest + 1):
            more = terms_up_to(degree, size)
            columns = np.broadcast_arrays(*(product(list(inputs.T), each) for each in more))
            design = np.stack(columns, axis=1)
            start, weakest, lower = _fit_held_out(values, design, begin, likelihood)
            if losses is not None and not gains(losses, lower, _GAIN_OF_DEGREE):
                break
            begin, terms, x, strength, losses = start, more, design, weakest, lower
        enough = are_enough(n, len(terms))
        ridge, kept = _LEAST_STRENGTH if enough else strength, np.ones((2, len(terms)), bool)
        found = likelihood.fitted(_padded(begin, x), values, x, ridge, _TIGHT)
        if enough:
            needed = _needed(found, likelihood.slopes(found, values, x))
            fewer = likelihood.fitted(found, values, x, ridge, _TIGHT, needed)
            loss, higher = (likelihood.loss(each, values, x)[0] for each in (found, fewer))
            # The curvature may mislead. What was left out must not have been needed together.
            if higher - loss <= np.log(n) * (1 + (~needed).sum()) / n:
                found, kept = fewer, needed
    logs = _bounded(x @ found[1], low, high)
    used = np.flatnonzero(kept.any(axis=0))
    terms, (means, log_stds) = [terms[i] for i in used], found[:, used]
    return Conditional(terms, means, log_stds, low, high, logs.min(), logs.max())


def are_enough(n: int, n_terms: int) -> bool:
    """Whether there are 20 pairs for each coefficient of so many terms, in mean and width."""
    return n >= _PAIRS_OF_ONE * 2 * n_terms


def _fit_held_out(
    values: np.ndarray, x: np.ndarray, begin: np.ndarray, likelihood: "_Likelihood"
) -> tuple[np.ndarray, float, np.ndarray]:
    """The coefficients of the best ridge, its strength, and the losses of the pairs held out."""
    held = max(1, int(_HELD_OUT * len(x)))
    start = _padded(begin, x)
    best, chosen, losses = start, _STRENGTHS[0], None
    for strength in _STRENGTHS:
        start = likelihood.fitted(start, values[held:], x[held:], strength, _ROUGH)
        lower = likelihood.losses(start, values[:held], x[:held])
        # A weaker one than a useless one may be useful, so all are tried.
        if losses is None or gains(losses, lower, _LEAST_GAIN):
            best, chosen, losses = start, strength, lower
    assert losses is not None  # the first strength is taken
    return best, chosen, losses


def _padded(coefficients: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Coefficients, `[2, fewer]`, with zeros for the further terms of `x`."""
    return np.pad(coefficients, ((0, 0), (0, x.shape[1] - coefficients.shape[1])))


def gains(losses: np.ndarray, lower: np.ndarray, least: float) -> bool:
    """Whether losses, `(n,)`, fall in the mean by `least`, and by two of its standard errors."""
    if len(losses) == 0:
        return False
    falls = losses - lower
    return bool(falls.mean() > max(least, 2 * falls.std() / np.sqrt(len(falls))))


def _needed(coefficients: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Which coefficients the Bayesian information criterion keeps, as `coefficients`.

    One after the other is left out, while the log likelihood falls by less than `log(n) / 2`. How
    much it falls, and where the others move, follows from its curvature at the maximum, for which
    the products of the slopes of each pair are summed.

    Args:
        coefficients: The most probable ones, `[2, n_terms]`. The constants stay.
        slopes: The gradient of minus the log density of each pair, `[n, 2 * n_terms]`.
    """
    n, size = slopes.shape
    constants = 0, size // 2
    information = slopes.T @ slopes
    scale = np.sqrt(np.diag(information))
    scale = np.where(scale > 0, scale, 1)  # where nothing is known, a coefficient is left out
    # Inputs that are nearly equal make it nearly singular. It is scaled, and inverted anew each
    # time, because the errors of updates of the inverse would add up.
    scaled = information / np.outer(scale, scale) + _LEAST_STRENGTH**2 * np.eye(size)
    values, left = coefficients.ravel() * scale, np.arange(size)
    while True:
        covariance = np.linalg.inv(scaled[np.ix_(left, left)])
        falls = values**2 / np.maximum(np.diag(covariance), np.finfo(float).tiny)
        falls[np.isin(left, constants)] = np.inf
        out = int(np.argmin(falls))
        if falls[out] >= np.log(n):
            break
        values = np.delete(values - covariance[out] * values[out] / covariance[out, out], out)
        left = np.delete(left, out)
    return np.isin(np.arange(size), left).reshape(coefficients.shape)


class _Likelihood:
    """The likelihood of truncated Gaussians, and its maximum.

    Coefficients are those of means and of logarithms of standard deviations, `[2, n_terms]`. Values
    are `[n]`, and the terms of their inputs, a constant first, are `x`, `[n, n_terms]`.
    """

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = low, high

    def loss(
        self, coefficients: np.ndarray, values: np.ndarray, x: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Minus the mean log density but for a constant, and its gradient, `[2, n_terms]`."""
        losses, *slopes = self._each(coefficients, values, x)
        return losses.mean(), np.stack([x.T @ each for each in slopes]) / len(x)

    def losses(self, coefficients: np.ndarray, values: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Minus each log density but for a constant, `[n]`."""
        return self._each(coefficients, values, x)[0]

    def slopes(self, coefficients: np.ndarray, values: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The gradient of minus each log density, `[n, 2 * n_terms]`."""
        _, *slopes = self._each(coefficients, values, x)
        return np.concatenate([x * each[:, np.newaxis] for each in slopes], axis=1)

    def _each(
        self, coefficients: np.ndarray, values: np.ndarray, x: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Losses, and their slopes by the polynomials of mean and log deviation, each `[n]`."""
        wanted, raw = coefficients @ x.T
        log_std = _bounded(raw, self._low, self._high)
        std = np.exp(log_std)
        mean = _near(wanted, std, self._low, self._high)
        units, low, high = ((each - mean) / std for each in (values, self._low, self._high))
        mass = log_mass(low, high)
        losses = log_std + units**2 / 2 + mass
        at_low, at_high = (np.exp(-(end**2) / 2 - _HALF_LOG_2PI - mass) for end in (low, high))
        ends = high * at_high if np.isfinite(self._high) else np.zeros_like(mass)
        ends = ends - low * at_low if np.isfinite(self._low) else ends
        by_mean = (-units - at_high + at_low) / std
        # A mean that is held near the box moves with the width alone.
        held = mean != wanted
        by_log_std = 1 - units**2 - ends
        by_log_std += np.where(held, np.sign(mean - wanted) * -_FURTHEST * std * by_mean, 0)
        slope = np.where(np.abs(raw) < _MOST_LOG, np.exp(np.minimum(log_std - raw, 0)), 0)
        return losses, np.where(held, 0, by_mean), by_log_std * slope

    def fitted(
        self,
        start: np.ndarray,
        values: np.ndarray,
        x: np.ndarray,
        strength: float,
        ends: Any,
        kept: np.ndarray | None = None,
    ) -> np.ndarray:
        """The coefficients with the least penalised loss.

        Args:
            start: The coefficients that the search begins with.
            values: `[n]`.
            x: `[n, n_terms]`.
            strength: That of the ridge.
            ends: When to end, as scipy's L-BFGS-B takes it.
            kept: Which coefficients are fitted, `[2, n_terms]`. The others are zero. By default all
                are fitted.
        """
        kept = np.ones(start.shape, bool) if kept is None else kept
        penalty = np.full(start.shape, strength)
        penalty[:, 0] = _LEAST_STRENGTH

        def expanded(few: np.ndarray) -> np.ndarray:
            coefficients = np.zeros(start.shape)
            coefficients[kept] = few
            return coefficients

        def objective(few: np.ndarray) -> tuple[float, np.ndarray]:
            coefficients = expanded(few)
            loss, gradient = self.loss(coefficients, values, x)
            penalised = loss + (penalty * coefficients**2).sum() / 2
            return penalised, (gradient + penalty * coefficients)[kept]

        found = minimize(objective, start[kept], jac=True, method="L-BFGS-B", options=ends)
        return expanded(found.x)


def _near(mean: np.ndarray, std: np.ndarray, low: float, high: float) -> np.ndarray:
    """Means that lie no further from a box than `_FURTHEST` standard deviations."""
    reach = _FURTHEST * std
    return np.clip(mean, low - reach, high + reach)


def _bounded(raw: np.ndarray, low: float, high: float) -> np.ndarray:
    """Logarithms of standard deviations: of the harmonic sum of `exp(raw)` and the widest."""
    return -np.log(np.exp(-np.clip(raw, -_MOST_LOG, _MOST_LOG)) + 1 / (_WIDEST * (high - low)))
