"""What the width of a numerical derivative adds to the Fisher information.

A difference over the width `δ` gives the slope

    g(δ) = g + a δ² + b δ⁴ + …,

so no number of simulations takes the terms after the first away. From two widths `δ` and `rδ`
Richardson's extrapolation removes the second one:

    ĝ = g(δ) − t,    t = [g(rδ) − g(δ)] / (r² − 1).

With a ratio of two it is `(4 g(δ) − g(2δ)) / 3`. Its noise is that of the simulations over both
widths, combined in the same way: as large as before where the two sides of a derivative share
their noise, and 1.34 times as large where they do not (1.13 times with a ratio of three). For that
it loses a bias which does not fall with the number of simulations. The extrapolated slope is
therefore always taken; to choose by a test would spoil the error.

What is left, `−b r² δ⁴ + …`, is not known. Its size follows from that of the terms which are:
over the wide step the second term is

    ρ = r² |t| / |g|

times the first, where `|·|` is the norm by `C⁻¹`, without its noise, and the smaller of `ĝ` and
`g(rδ)` stands for `g`. If the following terms fall at least as fast, like a geometric series of
ratio `ρ`, all that is left is at most

    |ĝ − g| ≲ |t| (ρ + ρ² + …) = |t| ρ / (1 − ρ).

The mean of a summary like `sin`, `sinh`, `tanh`, `erf` or a Lorentz curve of the parameter leaves
0.3 to 1.2 times its first term, `|t| ρ`. It therefore counts as one standard deviation, for each
parameter by itself, in the direction of `t`. With `ρ ≥ 1` the series is not seen to converge, the
two differences have no slope in common, and nothing is known of the information: its error is
infinite.

A structure of the mean within the narrower step cannot be seen over either width. For data with the
information `F` it cannot be much finer than `1/√F`, so both steps should be no wider than that.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from imnn_tf.fisher.correction import Correction, correct
from imnn_tf.fisher.sample import Sample
from imnn_tf.fisher.variation import variation_of

# The share of det F that may be noise, or come from the width of the step, without a warning.
TOLERATED = 0.1


class Truncation(NamedTuple):
    """How much of the Fisher information comes from the width of the step, and what is left.

    Errors are those of what is extrapolated to a step of zero that come from the terms which the
    extrapolation leaves; one standard deviation, infinite where the terms do not fall.
    """

    narrow: Correction  # of the information over the narrow step
    limit: Correction  # of the information extrapolated to a step of zero
    log_det_std: float  # error of the share of the step in ln det F by the noise of the slope
    growth: np.ndarray  # [n_params], ρ, the second term over the first one, over the wide step
    fisher_error: np.ndarray  # [n_params, n_params]
    log_det_error: np.ndarray  # [2], downwards and upwards
    parameter_error: np.ndarray  # [n_params]

    @property
    def fisher(self) -> np.ndarray:
        """How much of `F` over the narrow step comes from its width, `[n_params, n_params]`."""
        return self.narrow.fisher - self.limit.fisher

    @property
    def log_det(self) -> float:
        """How much of ln det F over the narrow step comes from its width."""
        return float(self.narrow.log_det_fisher - self.limit.log_det_fisher)

    @property
    def parameter_std(self) -> np.ndarray:
        """How much of the forecast errors over the narrow step comes from it, `[n_params]`."""
        return self.narrow.parameter_std - self.limit.parameter_std

    def log_interval(self, level: float) -> np.ndarray:
        """Interval that holds ln det F at a step of zero with a probability of `level`, `[2]`.

        The distance of each end from the centre is the root of the sum of two squares: that of the
        distance by the noise, and that of the error which the extrapolation leaves.

        Args:
            level: The probability.
        """
        ends = self.limit.determinant.log_interval(level)
        left = norm.ppf(0.5 + level / 2) * self.log_det_error
        centre = float(self.limit.log_det_fisher)
        if np.isnan(centre):  # the noise outweighs the slope
            return ends + np.array([0.0, left[1]])
        return centre + np.array([-1, 1]) * np.hypot(ends - centre, left)


def truncation_of(sample: Sample, ratio: np.ndarray) -> Truncation:
    """Richardson's estimate of what the narrow step adds to the Fisher information.

    Args:
        sample: A sample with the derivatives over the narrow step followed by those over the wide
            one.
        ratio: The wide step over the narrow one, `[n_params]`, above one.
    """
    near, far = np.split(sample.slope, 2, axis=-2)
    step = (far - near) / (ratio**2 - 1)[:, np.newaxis]

    def corrected(share: np.ndarray) -> Correction:
        """The correction with each parameter's slope less a share of what the step adds."""
        return correct(sample._replace(slope=near - share[:, np.newaxis] * step))

    one = np.ones(len(ratio))
    narrow, limit = corrected(0 * one), corrected(one)
    growth = _growth(sample, near, step, ratio)
    # The noise of both is that of the same simulations, and cancels in part.
    parts = narrow.determinant.slope_parts - limit.determinant.slope_parts
    log_det_std = float(np.sqrt(np.square(parts).sum()))
    if (growth >= 1).any():
        unknown = (np.full(shape, np.inf) for shape in (narrow.fisher.shape, 2, one.shape))
        return Truncation(narrow, limit, log_det_std, growth, *unknown)
    sides = [
        (corrected(one - each), corrected(one + each)) for each in np.diag(growth / (1 - growth))
    ]
    fisher = [_largest(limit.fisher, [each.fisher for each in pair]) for pair in sides]
    stds = [_largest(limit.parameter_std, [each.parameter_std for each in pair]) for pair in sides]
    log_dets = [_up_and_down(limit, pair) for pair in sides]
    return Truncation(
        narrow,
        limit,
        log_det_std,
        growth,
        *(np.sqrt(np.square(each).sum(axis=0)) for each in (fisher, log_dets, stds)),
    )


def told_apart(delta: np.ndarray, fisher: np.ndarray) -> np.ndarray:
    """Whether the two sides of each step can be told apart so well that det F may be too high.

    For a Gaussian likelihood a difference overestimates the information by a factor of up to
    `sinh(a)/a` with `a = F δθ²/4`. More than `TOLERATED` counts.

    Args:
        delta: Width of each numerical derivative, `[n_params]`.
        fisher: The plain information, `[n_params, n_params]`.

    Returns:
        One truth value for each parameter, `[n_params]`.
    """
    a = np.square(delta) * np.diag(fisher) / 4
    return np.sinh(np.minimum(a, 50.0)) > (1 + TOLERATED) * a


def _growth(sample: Sample, near: np.ndarray, step: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """The second term of the slope over the first one, over the wide step, `[n_params]`.

    Args:
        sample: The sample.
        near: The slope over the narrow step in each group, `[groups, n_params, n_summaries]`.
        step: What the narrow step adds to it, of the same shape.
        ratio: The wide step over the narrow one, `[n_params]`.
    """
    second = step * np.square(ratio)[:, np.newaxis]
    size, over_wide, extrapolated = (
        np.diagonal(variation_of(sample._replace(slope=slope)).fisher)
        for slope in (second, near - step + second, near - step)
    )
    first = np.minimum(over_wide, extrapolated)
    with np.errstate(divide="ignore", invalid="ignore"):
        growth = np.sqrt(size / first)
    return np.where(size <= 0, 0.0, np.where(first > 0, growth, np.inf))


def _largest(centre: np.ndarray, values: list[np.ndarray]) -> np.ndarray:
    """The larger distance of two values from the centre; infinite where one is not defined."""
    return np.nan_to_num(np.abs(values - centre).max(axis=0), nan=np.inf)


def _up_and_down(limit: Correction, sides: tuple[Correction, Correction]) -> np.ndarray:
    """How far ln det F goes down and up from its limit, `[2]`, by one parameter's slope."""
    if np.isnan(limit.log_det_fisher):  # the interval goes from zero to the plain one
        rise = [each.determinant.log_det_plain for each in sides]
        return np.array([np.inf, max(0.0, *(rise - limit.determinant.log_det_plain))])
    change = np.array([each.log_det_fisher for each in sides]) - limit.log_det_fisher
    change = np.nan_to_num(change, nan=-np.inf)
    return np.array([-min(0.0, *change), max(0.0, *change)])
