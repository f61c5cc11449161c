"""Parameters with an error for every pixel, and how several of them become one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.special import erf, erfinv

from imnn_tf.utils import checks
from imnn_tf.utils.display import Shown, number
from rim_tf.problem.parameters import Values

DEVIATIONS = np.linspace(0.0, 4.0, 33)
"""Where half-widths of intervals are tabulated, in standard deviations of a Gaussian."""

ONE_SIGMA = float(erf(np.sqrt(0.5)))
"""The level of one standard deviation of a Gaussian, 0.683."""


@dataclass(frozen=True, repr=False)
class Reconstruction(Shown):
    """Parameters with an error for every pixel.

    Attributes:
        u: The unlinked estimates, `[batch, *sizes, channels]`.
        deviation: Their standard deviations, of the same shape.
        link: The function from unlinked numbers to parameters, which must be monotonic for each
            pixel on its own, as all named links are.
        factors: The half-widths of intervals in standard deviations, at the levels that a
            Gaussian has at `DEVIATIONS`, `[33]`. Those of a Gaussian unless they were calibrated.
    """

    u: np.ndarray
    deviation: np.ndarray
    link: Callable[..., Values]
    factors: np.ndarray = field(default_factory=DEVIATIONS.copy)

    def _facts(self) -> dict[str, str]:
        deviation = np.sqrt(np.mean(np.square(self.deviation, dtype=float)))
        return {
            "shape": str(self.u.shape),
            "root mean variance": number(deviation),
            "intervals": kind_of_intervals(self.factors),
        }

    @property
    def x(self) -> Values:
        """The parameters, `[batch, *sizes, channels]` or a dictionary by field."""
        return _linked(self.link, self.u)

    @property
    def error(self) -> Values:
        """Half the width of the 68.3 % intervals, of the shape of `x`."""
        low, high = self.interval(ONE_SIGMA)
        return tf.nest.map_structure(lambda a, b: 0.5 * (b - a), low, high)

    def interval(self, level: float = 0.68) -> tuple[Values, Values]:
        """Intervals that hold each pixel with a probability.

        Args:
            level: The probability, in (0, 1). Defaults to 0.68.

        Returns:
            Their lower and their upper ends, of the shape of `x` each.

        Raises:
            TypeError: If `level` is not a number.
            ValueError: If `level` is not in (0, 1).
        """
        width = self.half_width(level) * self.deviation
        ends = [_linked(self.link, each) for each in (self.u - width, self.u + width)]
        # A link may fall.
        low = tf.nest.map_structure(np.minimum, *ends)
        return low, tf.nest.map_structure(np.maximum, *ends)

    def half_width(self, level: float) -> float:
        """Half the width of the intervals of a level, in standard deviations."""
        level = checks.real("level", level, above=0, below=1)
        gaussian = np.sqrt(2.0) * erfinv(level)
        if gaussian > DEVIATIONS[-1]:  # beyond the table the tail of a Gaussian is added
            return float(self.factors[-1] * gaussian / DEVIATIONS[-1])
        return float(np.interp(gaussian, DEVIATIONS, self.factors))


def kind_of_intervals(factors: np.ndarray) -> str:
    """Whether intervals are those of a Gaussian, or calibrated.

    Args:
        factors: The half-widths at the levels that a Gaussian has at `DEVIATIONS`, `[33]`.
    """
    return "Gaussian" if np.allclose(factors, DEVIATIONS, rtol=1e-6) else "calibrated"


def combine(reconstructions: Sequence[Reconstruction]) -> Reconstruction:
    """The mixture of several reconstructions of the same data, with the intervals of a Gaussian.

        u = mean_i u_i,     deviation^2 = mean_i deviation_i^2 + mean_i (u_i - u)^2

    Args:
        reconstructions: One or more, of the same shapes.
    """
    u = np.mean([each.u for each in reconstructions], axis=0)
    within = np.mean([each.deviation**2 for each in reconstructions], axis=0)
    between = np.mean([(each.u - u) ** 2 for each in reconstructions], axis=0)
    return Reconstruction(u, np.sqrt(within + between), reconstructions[0].link)


def _linked(link: Callable[..., Values], u: np.ndarray) -> Any:
    return tf.nest.map_structure(lambda each: each.numpy(), link(tf.convert_to_tensor(u)))
