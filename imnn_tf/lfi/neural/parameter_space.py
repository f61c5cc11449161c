"""Parameters as real numbers of unit spread, in which no density leaves the support of a prior."""

import numpy as np
from scipy.special import ndtri

from imnn_tf.lfi.neural import regression, truncated_normal

# A box is cut by a Gaussian if its standard deviation is below that of a uniform distribution over
# the box for all but one in twenty simulations. Wider posteriors are more often flat, or of narrow
# parts far from each other.
_MOST, _WIDE = 0.95, 12**-0.5

# Where posteriors are wide, a box is left as it is but for this share of its width at each end.
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
    """A bijection, for each value of the summaries, from the box of a prior onto all real vectors.

    Each parameter `t` is mapped on its own:

    1. Above a bound it becomes `log(t - low)`, and below one `-log(high - t)`. Without bounds, or
       between two, it stays as it is;
    2. to `(t - centre) / scale`, with the median and the spread of the training parameters;
    3. if these have heavy tails, to the inverse hyperbolic sine of that, so that draws from a
       Cauchy prior do not lie a thousand units away;
    4. between two bounds, to the standard normal number that has its probability in a Gaussian
       truncated to the box. The mean and the width of the Gaussian depend on the summaries; see
       `regression.fit`. Far from the bounds, and where there are none, this subtracts the mean and
       divides by the width. It is linear there, as the relation of parameters to good summaries
       often is, and a density need not learn to undo a bend.

    Where the Gaussian would be wider than a uniform distribution over the box for one in twenty
    simulations, it would bend all of the box, though the posterior may have narrow features. There
    steps 1 and 4 are replaced: the parameter becomes the share `(t - low) / (high - low)`, of which
    the first and last 3 % are stretched to infinity: a share `s` below `e = 0.03` becomes
    `e (1 + log(s / e))`, and the last 3 % are its mirror image.

    If posteriors are truncated Gaussians, the mapped parameters are standard normal. A density of
    the mapped parameters is one within the box, so no mass leaks out of it. Its density in the
    parameters is larger by the factor `exp(log_slope)`. A change of the units of the parameters
    changes nothing in the mapped ones.

    Args:
        low: Lower bounds, `(n_params,)`, minus infinity where there is none.
        high: Upper bounds, `(n_params,)`, infinity where there is none.
        parameters: Parameters that training uses, `(n, n_params)`, within the bounds.
        scaled: Scaled summaries of their simulations, `(n, n_scaled)`.

    Attributes:
        box: The numbers of the parameters that step 4 bends.
        ends: The lower and the upper bounds after steps 1 to 3, infinite for other parameters.
    """

    def __init__(
        self, low: np.ndarray, high: np.ndarray, parameters: np.ndarray, scaled: np.ndarray
    ) -> None:
        self._low, self._high = low, high
        below, above = np.isfinite(low), np.isfinite(high)
        self._box, self._from_low, self._to_high = below & above, below & ~above, above & ~below
        self._wide = np.zeros(len(low), bool)
        self._measure(parameters)
        self._regression = regression.fit(self.straight(parameters), scaled, *self.ends)
        # The widths of the Gaussians, with those of the box in the same units.
        width = self.ends[1] - self.ends[0]
        self._wide = np.quantile(self._regression(scaled)[1], _MOST, axis=0) > _WIDE * width
        if self._wide.any():
            self._measure(parameters)  # The Gaussians of these are not used, and the others stay.

    def _measure(self, parameters: np.ndarray) -> None:
        """Finds the units of the parameters, and the bounds in these units."""
        line = self._onto_line(parameters)
        self._centre, self._scale = np.median(line, axis=0), spread(line)
        first, last = np.quantile(line, [0.0005, 0.9995], axis=0)
        self._heavy = ~self._box & (last - first > _HEAVY * _HALF_OF_NORMAL * self._scale)
        cut = self._box & ~self._wide
        low, high = np.where(cut, self._low, -np.inf), np.where(cut, self._high, np.inf)
        self.box = np.flatnonzero(cut)
        self.ends = (low - self._centre) / self._scale, (high - self._centre) / self._scale

    def at(self, scaled: np.ndarray) -> "Coordinates":
        """The map for observations, by their scaled summaries, `(m, n_scaled)`."""
        mean, std = self._regression(scaled)
        return Coordinates(self, np.where(self._wide, 0, mean), np.where(self._wide, 1, std))

    def straight(self, parameters: np.ndarray) -> np.ndarray:
        """Parameters, `(..., n_params)`, after the steps that do not depend on the summaries."""
        scaled = (self._onto_line(parameters) - self._centre) / self._scale
        return np.where(self._heavy, np.arcsinh(scaled), scaled)

    def parameters(self, straight: np.ndarray) -> np.ndarray:
        """The parameters, `(..., n_params)`, that `straight` maps to given numbers."""
        bounded = np.clip(straight, -_MOST_EXPONENT, _MOST_EXPONENT)
        line = self._centre + self._scale * np.where(self._heavy, np.sinh(bounded), straight)
        exponent = np.clip(line, -_MOST_EXPONENT, _MOST_EXPONENT)
        low, high = np.where(self._wide, self._low, 0), np.where(self._wide, self._high, 1)
        # Each half of the box is measured from its own end, which is exact next to the end.
        near = 0.5 - np.abs(line)
        share = np.where(near < _EDGE, _EDGE * np.exp(np.minimum(near / _EDGE - 1, 0)), near)
        inside = np.where(line < 0, low + (high - low) * share, high - (high - low) * share)
        parameters = np.where(self._wide, inside, line)
        parameters = np.where(self._from_low, self._low + np.exp(exponent), parameters)
        parameters = np.where(self._to_high, self._high - np.exp(-exponent), parameters)
        return np.clip(parameters, self._low, self._high)

    def log_slope(self, parameters: np.ndarray) -> np.ndarray:
        """Logarithms of the slopes of `straight`, at and for each parameter, `(..., n_params)`."""
        line = self._onto_line(parameters)
        width = np.where(self._wide, self._high, 1) - np.where(self._wide, self._low, 0)
        steep = np.maximum(1 - (0.5 - np.abs(line)) / _EDGE, 0)  # log of the slope in a share
        slope = np.where(self._wide, steep - np.log(width), 0.0)
        slope = np.where(self._from_low, -line, np.where(self._to_high, line, slope))
        scaled = (line - self._centre) / self._scale
        # log(1 + s^2) / 2 without the square, which might overflow.
        bend = np.where(self._heavy, np.log(np.hypot(1, scaled)), 0.0)
        return slope - bend - np.log(self._scale)

    def _onto_line(self, parameters: np.ndarray) -> np.ndarray:
        low, high = np.where(self._box, self._low, 0), np.where(self._box, self._high, 1)
        width, least = high - low, np.finfo(float).tiny
        lower, upper = (parameters - low) / width, (high - parameters) / width
        share = np.clip(np.minimum(lower, upper), _MARGIN, 0.5)
        near = np.where(share < _EDGE, _EDGE * (1 + np.log(share / _EDGE)), share)
        stretched = np.where(lower < upper, near - 0.5, 0.5 - near)
        inside = np.clip(parameters, low + _MARGIN * width, high - _MARGIN * width)
        line = np.where(self._box, np.where(self._wide, stretched, inside), parameters)
        start = np.where(self._from_low, self._low, 0)
        end = np.where(self._to_high, self._high, 0)
        from_low = np.log(np.maximum(parameters - start, least))
        to_high = -np.log(np.maximum(end - parameters, least))
        return np.where(self._from_low, from_low, np.where(self._to_high, to_high, line))


class Coordinates:
    """The map of a `ParameterSpace` at some observations.

    Args:
        space: The parameter space.
        mean: Means of the truncated Gaussians before their truncation, `(m, n_params)`.
        std: Their standard deviations, `(m, n_params)`.
    """

    def __init__(self, space: ParameterSpace, mean: np.ndarray, std: np.ndarray) -> None:
        self._space, self._mean, self._std = space, mean, std

    def forward(self, parameters: np.ndarray) -> np.ndarray:
        """Maps parameters within the bounds, `(m, ..., n_params)`, to real numbers."""
        return self._units_and_mapped(parameters)[1]

    def inverse(self, mapped: np.ndarray) -> np.ndarray:
        """Maps real numbers, `(m, ..., n_params)`, to parameters within the bounds."""
        box, ends = self._box_and_ends(mapped.ndim)
        units = np.array(mapped, float)
        units[..., box] = truncated_normal.inverse(units[..., box], *ends)
        mean, std = self._gaussians(mapped.ndim)
        return self._space.parameters(mean + std * units)

    def log_slope(self, parameters: np.ndarray) -> np.ndarray:
        """The logarithm of the determinant of the derivative of `forward`.

        Args:
            parameters: Parameters within the bounds, `(m, ..., n_params)`.

        Returns:
            Logarithms, `(m, ...)`.
        """
        units, mapped = self._units_and_mapped(parameters)
        box, ends = self._box_and_ends(parameters.ndim)
        slope = self._space.log_slope(parameters) - np.log(self._gaussians(parameters.ndim)[1])
        slope[..., box] += truncated_normal.log_slope(units[..., box], mapped[..., box], *ends)
        return slope.sum(axis=-1)

    def _units_and_mapped(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances from the mean in widths, and mapped parameters, both as `parameters`."""
        mean, std = self._gaussians(parameters.ndim)
        units = (self._space.straight(parameters) - mean) / std
        mapped = units.copy()
        box, ends = self._box_and_ends(parameters.ndim)
        mapped[..., box] = truncated_normal.forward(units[..., box], *ends)
        return units, mapped

    def _gaussians(self, ndim: int) -> tuple[np.ndarray, np.ndarray]:
        """Means and widths for arrays of `ndim` axes."""
        between = tuple(range(1, ndim - 1))
        return np.expand_dims(self._mean, between), np.expand_dims(self._std, between)

    def _box_and_ends(self, ndim: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """The columns that have two bounds, and these, in widths from the mean."""
        box, (mean, std) = self._space.box, self._gaussians(ndim)
        return box, [(end[box] - mean[..., box]) / std[..., box] for end in self._space.ends]


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
