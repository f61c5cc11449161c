"""Parameters as real numbers of unit spread, in which no density leaves the support of a prior."""

import numpy as np
from scipy.special import ndtri

from imnn_tf.lfi.neural import regression, truncated_normal
from imnn_tf.lfi.neural.regression import Conditional

# A box is cut by a Gaussian if its standard deviation is below that of a uniform distribution over
# the box for all but one in twenty simulations. Wider posteriors are more often flat, or of narrow
# parts far from each other.
_MOST, _WIDE = 0.95, 12**-0.5

# What the logarithm of a parameter must gain in the mean log density to be preferred, and the share
# of the median below which a parameter does not count for it.
_GAIN_OF_LOGARITHM, _ZERO = 0.01, 1e-6

# A Gaussian that depends on other parameters must leave distances with this spread at least, and
# with its inverse at most. Otherwise it did not fit, as where these parameters determine it.
_LEAST_SPREAD = 0.3

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
       between two, it stays as it is. Between two that are not negative it becomes `log(t)` where
       that makes the Gaussian of step 4 fit better, as it does for variances, unless there are
       fewer than 40 simulations for each scaled summary, and 40 more;
    2. to `(t - centre) / scale`, with the median and the spread of the training parameters;
    3. if these have heavy tails, to the inverse hyperbolic sine of that, so that draws from a
       Cauchy prior do not lie a thousand units away;
    4. to its distance from the mean of a Gaussian, in units of the width; see `regression.fit`.
       Mean and width depend on the summaries, and on these distances of the parameters before it.
       So the Gaussians know how parameters depend on each other, and what the bounds of one tell of
       the next. The parameters that are determined best come first;
    5. between two bounds, to the standard normal number that has its probability in the Gaussian
       truncated to the box. Far from the bounds this changes nothing. The map is linear there, as
       the relation of parameters to good summaries often is, and a density need not learn to undo a
       bend.

    Where the Gaussian would be wider than a uniform distribution over the box for one in twenty
    simulations, it would bend all of the box, though the posterior may have narrow features. There
    step 1 is replaced and steps 4 and 5 are left out: the parameter becomes the share
    `(t - low) / (high - low)`, of which the first and last 3 % are stretched to infinity: a share
    `s` below `e = 0.03` becomes `e (1 + log(s / e))`, and the last 3 % are its mirror image.

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
        box: Whether step 5 bends a parameter, `(n_params,)`.
        ends: The lower and the upper bounds after steps 1 to 3, infinite for other parameters.
        gaussians: The Gaussians of step 4, and `None` where it is left out, by the number of the
            parameter, in the order in which parameters depend on each other.
    """

    def __init__(
        self, low: np.ndarray, high: np.ndarray, parameters: np.ndarray, scaled: np.ndarray
    ) -> None:
        self._low, self._high = low, high
        below, above = np.isfinite(low), np.isfinite(high)
        self._box, self._from_low, self._to_high = below & above, below & ~above, above & ~below
        self._wide, self._logged = np.zeros((2, len(low)), bool)
        # A logarithm ends at the lower bound, or far below all parameters if that is zero.
        smallest = np.where(parameters > 0, parameters, np.inf).min(axis=0)
        self._least = np.maximum(low * (1 + _MARGIN), np.minimum(_ZERO * smallest, _MARGIN * high))
        self._least = np.where(self._box & (low >= 0), self._least, 1.0)
        alone, stds = self._alone(parameters, scaled)
        # The widths of the Gaussians, with those of the box in the same units.
        too_wide = np.quantile(stds, _MOST, axis=0) > _WIDE * (self.ends[1] - self.ends[0])
        self._wide, self._logged = too_wide, self._logged & ~too_wide
        self._measure(parameters)  # Other parameters stay as they were.
        self.gaussians: dict[int, Conditional | None] = {}
        straight, inputs = self.straight(parameters), list(scaled.T)
        for i in map(
            int, np.argsort(np.where(self._wide, np.inf, np.median(stds, axis=0)), kind="stable")
        ):
            if self._wide[i]:
                self.gaussians[i] = None
                continue
            gaussian = self._fitted(i, straight, inputs) if self.gaussians else alone[i]
            distance = _distance(straight[:, i], gaussian, inputs)
            if not _LEAST_SPREAD < distance.std() < 1 / _LEAST_SPREAD:
                gaussian = alone[i]  # the parameters before this one determine it
                distance = _distance(straight[:, i], gaussian, inputs)
            self.gaussians[i] = gaussian
            inputs.append(distance)

    def _alone(
        self, parameters: np.ndarray, scaled: np.ndarray
    ) -> tuple[list[Conditional], np.ndarray]:
        """Chooses logarithms; the Gaussian of each parameter given summaries, and their widths."""
        columns = range(parameters.shape[1])
        self._measure(parameters)
        straight, slopes = self.straight(parameters), self.log_slope(parameters)
        inputs = list(scaled.T)
        plain = [self._fitted(i, straight, inputs) for i in columns]
        enough = regression.are_enough(len(scaled), 1 + scaled.shape[1])
        self._logged = self._box & (self._low >= 0) & enough
        self._measure(parameters)
        bent, bent_slopes = self.straight(parameters), self.log_slope(parameters)
        alone, stds = [], []
        for i in columns:
            chosen = plain[i]
            if self._logged[i]:
                logged = self._fitted(i, bent, inputs)
                losses = -chosen.log_prob(straight[:, i], inputs) - slopes[:, i]
                lower = -logged.log_prob(bent[:, i], inputs) - bent_slopes[:, i]
                # Numbers that are zero, as of counts, have an infinite density in a logarithm.
                apart = parameters[:, i] > _ZERO * np.median(parameters[:, i])
                self._logged[i] = regression.gains(losses[apart], lower[apart], _GAIN_OF_LOGARITHM)
                chosen = logged if self._logged[i] else chosen
            alone.append(chosen)
            stds.append(np.broadcast_to(chosen(inputs)[1], len(parameters)))
        self._measure(parameters)
        return alone, np.stack(stds, axis=1)

    def _fitted(self, i: int, straight: np.ndarray, inputs: list[np.ndarray]) -> Conditional:
        """The Gaussian of one parameter given inputs, `(n,)` each."""
        ends = [float(end[i]) for end in self.ends]
        return regression.fit(straight[:, i], np.stack(inputs, axis=1), *ends)

    def _measure(self, parameters: np.ndarray) -> None:
        """Finds the units of the parameters, and the bounds in these units."""
        line = self._onto_line(parameters)
        self._centre, self._scale = np.median(line, axis=0), spread(line)
        first, last = np.quantile(line, [0.0005, 0.9995], axis=0)
        self._heavy = ~self._box & (last - first > _HEAVY * _HALF_OF_NORMAL * self._scale)
        self.box = self._box & ~self._wide
        with np.errstate(divide="ignore"):  # The logarithm of a bound may be minus infinity.
            low, high = (
                np.where(self._logged, np.log(np.where(self._logged, end, 1)), end)
                for end in (self._low, self._high)
            )
        low, high = np.where(self.box, low, -np.inf), np.where(self.box, high, np.inf)
        self.ends = (low - self._centre) / self._scale, (high - self._centre) / self._scale

    def at(self, scaled: np.ndarray) -> "Coordinates":
        """The map for observations, by their scaled summaries, `(m, n_scaled)`."""
        return Coordinates(self, scaled)

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
        parameters = np.where(self._logged, np.exp(exponent), parameters)
        parameters = np.where(self._from_low, self._low + np.exp(exponent), parameters)
        parameters = np.where(self._to_high, self._high - np.exp(-exponent), parameters)
        return np.clip(parameters, self._low, self._high)

    def log_slope(self, parameters: np.ndarray) -> np.ndarray:
        """Logarithms of the slopes of `straight`, at and for each parameter, `(..., n_params)`."""
        line = self._onto_line(parameters)
        width = np.where(self._wide, self._high, 1) - np.where(self._wide, self._low, 0)
        steep = np.maximum(1 - (0.5 - np.abs(line)) / _EDGE, 0)  # log of the slope in a share
        slope = np.where(self._wide, steep - np.log(width), 0.0)
        slope = np.where(self._from_low | self._logged, -line, slope)
        slope = np.where(self._to_high, line, slope)
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
        most = high - _MARGIN * width
        positive = np.where(self._logged, np.clip(parameters, self._least, most), 1)
        inside = np.clip(parameters, low + _MARGIN * width, most)
        inside = np.where(self._logged, np.log(positive), inside)
        line = np.where(self._box, np.where(self._wide, stretched, inside), parameters)
        start = np.where(self._from_low, self._low, 0)
        end = np.where(self._to_high, self._high, 0)
        from_low = np.log(np.maximum(parameters - start, least))
        to_high = -np.log(np.maximum(end - parameters, least))
        return np.where(self._from_low, from_low, np.where(self._to_high, to_high, line))


def _distance(values: np.ndarray, gaussian: Conditional, inputs: list[np.ndarray]) -> np.ndarray:
    """Distances of values, `(n,)`, from the means of a Gaussian, in its widths."""
    mean, std = gaussian(inputs)
    return (values - mean) / std


class Coordinates:
    """The map of a `ParameterSpace` at some observations.

    Args:
        space: The parameter space.
        scaled: The scaled summaries of the observations, `(m, n_scaled)`.
    """

    def __init__(self, space: ParameterSpace, scaled: np.ndarray) -> None:
        self._space, self._scaled = space, scaled

    def forward(self, parameters: np.ndarray) -> np.ndarray:
        """Maps parameters within the bounds, `(m, ..., n_params)`, to real numbers."""
        return self._mapped_and_log_slopes(parameters)[0]

    def log_slope(self, parameters: np.ndarray) -> np.ndarray:
        """The logarithm of the determinant of the derivative of `forward`.

        A parameter depends on those before it alone, so it is the sum over the parameters.

        Args:
            parameters: Parameters within the bounds, `(m, ..., n_params)`.

        Returns:
            Logarithms, `(m, ...)`.
        """
        slopes = self._space.log_slope(parameters) + self._mapped_and_log_slopes(parameters)[1]
        return slopes.sum(axis=-1)

    def inverse(self, mapped: np.ndarray) -> np.ndarray:
        """Maps real numbers, `(m, ..., n_params)`, to parameters within the bounds."""
        straight, inputs = np.array(mapped, float), self._summaries(mapped.ndim)
        for i, gaussian in self._space.gaussians.items():
            if gaussian is None:
                continue
            mean, std = gaussian(inputs)
            distance = mapped[..., i]
            if self._space.box[i]:
                ends = [(end[i] - mean) / std for end in self._space.ends]
                distance = truncated_normal.inverse(distance, *ends)
            inputs.append(distance)
            straight[..., i] = mean + std * distance
        return self._space.parameters(straight)

    def _mapped_and_log_slopes(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mapped parameters, and the logarithms of the slopes of steps 4 and 5 for each."""
        mapped, inputs = self._space.straight(parameters), self._summaries(parameters.ndim)
        slopes = np.zeros_like(mapped)
        for i, gaussian in self._space.gaussians.items():
            if gaussian is None:
                continue
            mean, std = gaussian(inputs)
            distance = (mapped[..., i] - mean) / std
            inputs.append(distance)
            slopes[..., i], mapped[..., i] = -np.log(std), distance
            if self._space.box[i]:
                ends = [(end[i] - mean) / std for end in self._space.ends]
                mapped[..., i] = truncated_normal.forward(distance, *ends)
                slopes[..., i] += truncated_normal.log_slope(distance, mapped[..., i], *ends)
        return mapped, slopes

    def _summaries(self, ndim: int) -> list[np.ndarray]:
        """Scaled summaries, each with one axis fewer than parameters of `ndim` axes."""
        shape = (-1, *[1] * (ndim - 2))
        return [column.reshape(shape) for column in self._scaled.T]


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
