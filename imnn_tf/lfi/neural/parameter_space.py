"""Parameters as real numbers of unit spread, in which no density leaves the support of a prior."""

import numpy as np
from scipy.special import ndtri

# A box is left as it is but for this share of its width next to each end.
_EDGE = 0.03

# Parameters of a box stay this share of its width away from its ends. A draw on an end itself,
# which rounding can make, would be infinitely far away.
_MARGIN = 1e-12

# Tails are heavy if the central 99.9 % of the draws are this many times as wide as the central
# half. It is 5 for a Gaussian, 11 for a Laplace and 640 for a Cauchy distribution.
_HEAVY = 12.0

# The width of the central half of a standard normal distribution.
_HALF_OF_NORMAL = 2 * float(ndtri(0.75))

# The largest exponent of a number that stays finite.
_MOST_EXPONENT = 700.0


class ParameterSpace:
    """A bijection from the box that encloses the support of a prior onto all real vectors.

    Each parameter `t` is mapped on its own:

    1. onto the real line. Without bounds it is there already. Above a bound it becomes
       `log(t - low)`, and below one `-log(high - t)`. Between two, it becomes the share
       `(t - low) / (high - low)`, of which the first and last 3 % are stretched to infinity: a
       share `s` below `e = 0.03` becomes `e (1 + log(s / e))`, and the last 3 % are its mirror
       image. In the middle of a box this is linear, as the relation of parameters to good
       summaries often is, and a density need not learn to undo a bend;
    2. to `(line - centre) / scale`, with the median and the spread of the training parameters;
    3. if these have heavy tails, to the inverse hyperbolic sine of that, so that draws from a
       Cauchy prior do not lie a thousand units away.

    A density of the mapped parameters is one within the box, so no mass leaks out of it. Its
    density in the parameters is larger by the factor `exp(log_slope)`. A change of the units of the
    parameters changes nothing in the mapped ones.

    Args:
        low: Lower bounds, `(n_params,)`, minus infinity where there is none.
        high: Upper bounds, `(n_params,)`, infinity where there is none.
        parameters: Parameters that training uses, `(n, n_params)`, within the bounds.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray, parameters: np.ndarray) -> None:
        self._low, self._high = low, high
        below, above = np.isfinite(low), np.isfinite(high)
        self._box, self._from_low, self._to_high = below & above, below & ~above, above & ~below
        line = self._onto_line(parameters)
        self._centre, self._scale = np.median(line, axis=0), spread(line)
        first, last = np.quantile(line, [0.0005, 0.9995], axis=0)
        self._heavy = last - first > _HEAVY * _HALF_OF_NORMAL * self._scale

    def forward(self, parameters: np.ndarray) -> np.ndarray:
        """Maps parameters within the bounds, `(..., n_params)`, to real numbers."""
        scaled = (self._onto_line(parameters) - self._centre) / self._scale
        return np.where(self._heavy, np.arcsinh(scaled), scaled)

    def inverse(self, mapped: np.ndarray) -> np.ndarray:
        """Maps real numbers, `(..., n_params)`, to parameters within the bounds."""
        bounded = np.clip(mapped, -_MOST_EXPONENT, _MOST_EXPONENT)
        line = self._centre + self._scale * np.where(self._heavy, np.sinh(bounded), mapped)
        exponent = np.clip(line, -_MOST_EXPONENT, _MOST_EXPONENT)
        low, high = np.where(self._box, self._low, 0), np.where(self._box, self._high, 1)
        # Each half of the box is measured from its own end, which is exact next to the end.
        near = 0.5 - np.abs(line)
        share = np.where(near < _EDGE, _EDGE * np.exp(np.minimum(near / _EDGE - 1, 0)), near)
        inside = np.where(line < 0, low + (high - low) * share, high - (high - low) * share)
        parameters = np.where(self._box, inside, line)
        parameters = np.where(self._from_low, self._low + np.exp(exponent), parameters)
        parameters = np.where(self._to_high, self._high - np.exp(-exponent), parameters)
        return np.clip(parameters, self._low, self._high)

    def log_slope(self, parameters: np.ndarray) -> np.ndarray:
        """The logarithm of the determinant of the derivative of `forward`.

        Args:
            parameters: Parameters within the bounds, `(..., n_params)`.

        Returns:
            Logarithms, `(...)`.
        """
        line = self._onto_line(parameters)
        width = np.where(self._box, self._high, 1) - np.where(self._box, self._low, 0)
        steep = np.maximum(1 - (0.5 - np.abs(line)) / _EDGE, 0)  # log of the slope in a share
        slope = np.where(self._box, steep - np.log(width), 0.0)
        slope = np.where(self._from_low, -line, slope)
        slope = np.where(self._to_high, line, slope)
        scaled = (line - self._centre) / self._scale
        # log(1 + s^2) / 2 without the square, which might overflow.
        bend = np.where(self._heavy, np.log(np.hypot(1, scaled)), 0.0)
        return (slope - bend - np.log(self._scale)).sum(axis=-1)

    def _onto_line(self, parameters: np.ndarray) -> np.ndarray:
        low, high = np.where(self._box, self._low, 0), np.where(self._box, self._high, 1)
        width, least = high - low, np.finfo(float).tiny
        lower, upper = (parameters - low) / width, (high - parameters) / width
        share = np.clip(np.minimum(lower, upper), _MARGIN, 0.5)
        near = np.where(share < _EDGE, _EDGE * (1 + np.log(share / _EDGE)), share)
        line = np.where(lower < upper, near - 0.5, 0.5 - near)
        line = np.where(self._box, line, parameters)
        start = np.where(self._from_low, self._low, 0)
        end = np.where(self._to_high, self._high, 0)
        from_low = np.log(np.maximum(parameters - start, least))
        to_high = -np.log(np.maximum(end - parameters, least))
        return np.where(self._from_low, from_low, np.where(self._to_high, to_high, line))


def spread(values: np.ndarray) -> np.ndarray:
    """A scale of each column that outliers do not move: 1 for draws from N(0, 1).

    It is that of the central half. If more than half of the values are equal, it is the median
    distance of the others from them, and 1 if all are equal.

    Args:
        values: Numbers, `(n, columns)`.

    Returns:
        Scales, `(columns,)`, positive.
    """
    lower, centre, upper = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
    scales = upper / _HALF_OF_NORMAL - lower / _HALF_OF_NORMAL  # in this order nothing overflows
    for column in np.flatnonzero(~(scales > 0)):
        distances = np.abs(values[:, column] - centre[column])
        apart = distances[distances > 0]
        scales[column] = np.median(apart) if len(apart) else 1.0
    return scales
