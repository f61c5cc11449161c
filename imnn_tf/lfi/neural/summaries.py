"""Summaries as numbers that a network can take, and whether an observation resembles them."""

import numpy as np

from imnn_tf.lfi.neural.parameter_space import spread

# Scaled summaries are left as they are up to this distance from the median, in units of their
# spread. From there on they grow with the logarithm of the distance, up to the limit.
_LINEAR, _LIMIT = 5.0, 20.0

# The logarithm of a summary of one sign is taken too if its 95 % quantile is more than this many
# times its 5 % quantile, and it alone if the ratio is more than the second number.
_WIDE, _VERY_WIDE = 10.0, 1000.0

# A summary whose values differ by no more than this share of them is regarded as constant.
_ROUNDING = 1e-13

# The share of right observations that are said to be unlike the training summaries, and the number
# of these beyond which the full covariance of the summaries is used for it, per summary.
FALSE_ALARMS = 1e-3
_ROWS_PER_SUMMARY, _MOST_CORRELATED = 10, 500

# Eigenvalues of the correlations of summaries are at least this large: a summary that repeats
# others in all simulations has to repeat them in an observation too, up to rounding.
_LEAST_EIGENVALUE = 1e-8


class SummaryScaling:
    """Summaries in units of their spread, without outliers.

    For each summary:

    1. it is dropped if it is the same in all simulations, up to rounding;
    2. if it has one sign throughout and its central 90 % span a factor of more than 10, its
       logarithm becomes a further summary; if they span more than 1,000, the logarithm takes its
       place;
    3. the median is subtracted, and the rest divided by the spread of the central half, which
       outliers do not move;
    4. beyond 5 of these units, `u` becomes `5 (1 + log(u / 5))`, up to 20: values beyond 100 units
       are not told from one another.

    Args:
        summaries: Summaries of the training simulations, `(n, n_summaries)`, finite.

    Attributes:
        constants: The values, `(n_summaries,)`, of the summaries that never vary, NaN for others.

    Raises:
        ValueError: If no summary varies.
    """

    def __init__(self, summaries: np.ndarray) -> None:
        low, high = summaries.min(axis=0), summaries.max(axis=0)
        self._kept = high / 2 - low / 2 > _ROUNDING * np.maximum(np.abs(low), np.abs(high))
        self.constants = np.where(self._kept, np.nan, low)
        if not self._kept.any():
            raise ValueError(
                "`get_estimate` must return summaries that vary between simulations, got "
                f"{len(summaries)} times {low.tolist()}."
            )
        kept = summaries[:, self._kept]
        self._sign = np.where(low > 0, 1.0, np.where(high < 0, -1.0, 0.0))[self._kept]
        ends = np.abs(np.quantile(kept, [0.05, 0.95], axis=0))
        with np.errstate(divide="ignore", over="ignore"):
            ratio = np.where(self._sign != 0, ends.max(axis=0) / ends.min(axis=0), 1.0)
        self._plain, self._logged = ratio <= _VERY_WIDE, ratio > _WIDE
        values = self._columns(summaries)
        self._centre, self._scale = np.median(values, axis=0), spread(values)

    def __call__(self, summaries: np.ndarray) -> np.ndarray:
        """Scales summaries, `(n, n_summaries)`, to `(n, n_scaled)`."""
        with np.errstate(over="ignore"):
            units = (self._columns(summaries) - self._centre) / self._scale
        size = np.minimum(np.abs(units), np.finfo(float).max)
        tail = _LINEAR * (1 + np.log(np.maximum(size, _LINEAR) / _LINEAR))
        return np.sign(units) * np.minimum(np.where(size > _LINEAR, tail, size), _LIMIT)

    def differs(self, summaries: np.ndarray) -> np.ndarray:
        """Which rows, `(n,)`, differ in a summary that is the same in all simulations."""
        constants = self.constants[~self._kept]
        gap = np.abs(summaries[:, ~self._kept] - constants)
        return (gap > 1e-6 * np.abs(constants) + np.finfo(float).tiny).any(axis=1)

    def _columns(self, summaries: np.ndarray) -> np.ndarray:
        """Summaries, and logarithms of some; minus infinity for a sign that none had before."""
        kept = summaries[:, self._kept]
        sizes = np.maximum((self._sign * kept)[:, self._logged], 0)
        with np.errstate(divide="ignore"):
            return np.concatenate([kept[:, self._plain], np.log(sizes)], axis=1)


class Familiarity:
    """How unlike all training summaries an observation is.

    The distance of an observation is that of Mahalanobis, by the mean and covariance of half of the
    training simulations; with few simulations for each summary, the covariances between summaries
    are left out. The p-value of an observation is the rank of its distance among those of the other
    half. If the observation comes from the prior and the simulator, all orders are as likely, so
    the p-value is below a level with at most the probability of that level, whatever the
    distribution is (Vovk, Gammerman & Shafer 2005, "Algorithmic learning in a random world",
    section 4.1).

    Args:
        scaled: Scaled summaries of the training simulations, `(n, n_scaled)`, in random order.
    """

    def __init__(self, scaled: np.ndarray) -> None:
        known, others = scaled[::2], scaled[1::2]
        self._mean = known.mean(axis=0)
        n, size = known.shape
        scale = known.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        self._whiten = np.diag(1 / scale) if size <= _MOST_CORRELATED else 1 / scale
        if n >= _ROWS_PER_SUMMARY * size and size <= _MOST_CORRELATED:
            units = (known - self._mean) / scale
            values, vectors = np.linalg.eigh(units.T @ units / n)
            values = np.maximum(values, _LEAST_EIGENVALUE)
            self._whiten = (vectors / np.sqrt(values)) / scale[:, np.newaxis]
        self._distances = np.sort(self._distance(others))

    def p_values(self, scaled: np.ndarray) -> np.ndarray:
        """The p-values, `(m,)`, of observations, `(m, n_scaled)`."""
        further = len(self._distances) - np.searchsorted(self._distances, self._distance(scaled))
        return (1 + further) / (1 + len(self._distances))

    @property
    def level(self) -> float:
        """The false alarm rate of `p <= level`: `FALSE_ALARMS`, or more with few simulations."""
        return max(FALSE_ALARMS, 1 / (1 + len(self._distances)))

    def _distance(self, scaled: np.ndarray) -> np.ndarray:
        centred = scaled - self._mean
        white = centred @ self._whiten if self._whiten.ndim == 2 else centred * self._whiten
        return (white**2).sum(axis=1)
