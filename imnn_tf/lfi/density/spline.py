"""Monotonic rational-quadratic splines with linear tails.

Durkan et al. (2019), arXiv:1906.04032, section 3.1 and appendix A.1. TensorFlow Probability's
`RationalQuadraticSpline` computes the same function, by a search and six gathers. With few bins it
costs less to compare with every knot and to sum what is selected: XLA makes one loop of it.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from imnn_tf.utils.tensors import known_shape

# Bins are at least this share of the interval wide and high, and slopes at least this steep.
_LEAST_SHARE = 1e-3
_LEAST_SLOPE = 1e-3

# No affine map stretches or shrinks by more than exp(3).
_LARGEST_LOG_SCALE = 3.0

# What is added to a raw slope, so that a raw slope of zero is a slope of one.
_RAW_SLOPE_OF_ONE = float(np.log(np.expm1(1 - _LEAST_SLOPE)))


class Knots(NamedTuple):
    """Splines on an interval `[-bound, bound]`; outside they are the identity."""

    widths: tf.Tensor  # [..., bins], of the bins, with the sum 2 bound
    heights: tf.Tensor  # [..., bins], of the bins, with the sum 2 bound
    left_slopes: tf.Tensor  # [..., bins], at the left end of each bin; the first is 1
    right_slopes: tf.Tensor  # [..., bins], at the right end of each bin; the last is 1
    bound: float


class Transform(NamedTuple):
    """Affine maps, and a spline after each."""

    shift: tf.Tensor  # [...]
    log_scale: tf.Tensor  # [...], natural logarithm
    knots: Knots

    def forward(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The values at `x`, and the logarithms of the slopes there, both `[...]`."""
        y, log_slope = forward((x + self.shift) * tf.exp(self.log_scale), self.knots)
        return y, log_slope + self.log_scale

    def inverse(self, y: tf.Tensor) -> tf.Tensor:
        """The arguments of values `y`, `[...]`."""
        return inverse(y, self.knots) * tf.exp(-self.log_scale) - self.shift


class Bin(NamedTuple):
    """The bin that each of some numbers is in, each part `[...]`."""

    left: tf.Tensor
    width: tf.Tensor
    bottom: tf.Tensor
    height: tf.Tensor
    left_slope: tf.Tensor
    right_slope: tf.Tensor


def n_raw(bins: int) -> int:
    """The number of raw numbers that decide about a transform with so many bins."""
    return 3 * bins + 1


def transform_of(raw: tf.Tensor, bound: float) -> Transform:
    """The transform of some raw numbers. Zeros give the identity.

    Args:
        raw: Any finite numbers, `[..., 3 bins + 1]`: those of the knots, a shift and a scale.
        bound: The spline is the identity outside `[-bound, bound]`.
    """
    for_knots, shift, scale = tf.split(raw, [known_shape(raw)[-1] - 2, 1, 1], axis=-1)
    # Bounded, so that an observation unlike all others gives no infinities.
    log_scale = _LARGEST_LOG_SCALE * tf.tanh(scale / _LARGEST_LOG_SCALE)
    return Transform(tf.squeeze(shift, -1), tf.squeeze(log_scale, -1), knots_of(for_knots, bound))


def knots_of(raw: tf.Tensor, bound: float) -> Knots:
    """The spline of some raw numbers. Zeros give the identity.

    Args:
        raw: Any finite numbers, `[..., 3 bins - 1]`: raw widths, raw heights, raw slopes.
        bound: The spline is the identity outside `[-bound, bound]`.
    """
    bins = (known_shape(raw)[-1] + 1) // 3
    widths, heights, slopes = tf.split(raw, [bins, bins, bins - 1], axis=-1)
    scale, least = 2 * bound * (1 - bins * _LEAST_SHARE), 2 * bound * _LEAST_SHARE
    inner = _LEAST_SLOPE + tf.math.softplus(slopes + _RAW_SLOPE_OF_ONE)
    one = tf.ones_like(tf.reduce_sum(raw, axis=-1, keepdims=True))
    return Knots(
        least + scale * tf.nn.softmax(widths),
        least + scale * tf.nn.softmax(heights),
        tf.concat([one, inner], axis=-1),
        tf.concat([inner, one], axis=-1),
        bound,
    )


def forward(x: tf.Tensor, knots: Knots) -> tuple[tf.Tensor, tf.Tensor]:
    """The splines' values, and the logarithms of their slopes.

    Args:
        x: Finite numbers, `[...]`.
        knots: A spline for each of them.

    Returns:
        Two tensors `[...]`.
    """
    inside = tf.abs(x) < knots.bound
    clipped = tf.clip_by_value(x, -knots.bound, knots.bound)
    bin_ = _bin(clipped, knots, knots.widths)
    share = tf.clip_by_value((clipped - bin_.left) / bin_.width, 0, 1)
    both = share * (1 - share)
    mean_slope = bin_.height / bin_.width
    below = mean_slope + (bin_.right_slope + bin_.left_slope - 2 * mean_slope) * both
    y = bin_.bottom + bin_.height * (mean_slope * share**2 + bin_.left_slope * both) / below
    return tf.where(inside, y, x), tf.where(inside, _log_slope(bin_, share), 0)


def inverse(y: tf.Tensor, knots: Knots) -> tf.Tensor:
    """Where the splines have given values.

    Args:
        y: Finite numbers, `[...]`.
        knots: A spline for each of them.

    Returns:
        The arguments, `[...]`.
    """
    inside = tf.abs(y) < knots.bound
    clipped = tf.clip_by_value(y, -knots.bound, knots.bound)
    bin_ = _bin(clipped, knots, knots.heights)
    rise = tf.clip_by_value(clipped - bin_.bottom, 0, bin_.height)
    mean_slope = bin_.height / bin_.width
    bend = rise * (bin_.right_slope + bin_.left_slope - 2 * mean_slope)
    a = bin_.height * (mean_slope - bin_.left_slope) + bend
    b = bin_.height * bin_.left_slope - bend
    c = -mean_slope * rise
    # Of the two forms of the root this one does not cancel.
    root = tf.sqrt(tf.maximum(b**2 - 4 * a * c, 0))
    share = tf.clip_by_value(2 * c / (-b - root), 0, 1)
    return tf.where(inside, bin_.left + share * bin_.width, y)


def _bin(at: tf.Tensor, knots: Knots, sizes: tf.Tensor) -> Bin:
    """The bins in which numbers `[...]` are, along the axis whose bins have `sizes`."""
    starts = tf.cumsum(sizes, axis=-1, exclusive=True) - knots.bound
    passed = tf.cast(tf.expand_dims(at, -1) >= starts, at.dtype)  # [..., bins]
    first, others = tf.split(passed, [1, known_shape(passed)[-1] - 1], axis=-1)
    before = tf.concat([others, tf.zeros_like(first)], axis=-1)  # bins that end left of the number
    chosen = passed - before

    def total(mask: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(mask * values, axis=-1)

    return Bin(
        total(before, knots.widths) - knots.bound,
        total(chosen, knots.widths),
        total(before, knots.heights) - knots.bound,
        total(chosen, knots.heights),
        total(chosen, knots.left_slopes),
        total(chosen, knots.right_slopes),
    )


def _log_slope(bin_: Bin, share: tf.Tensor) -> tf.Tensor:
    """The logarithm of the slope at a share of a bin, both `[...]`; equation 5 of the paper."""
    both = share * (1 - share)
    mean_slope = bin_.height / bin_.width
    above = bin_.right_slope * share**2 + 2 * mean_slope * both + bin_.left_slope * (1 - share) ** 2
    below = mean_slope + (bin_.right_slope + bin_.left_slope - 2 * mean_slope) * both
    return 2 * tf.math.log(mean_slope) + tf.math.log(above) - 2 * tf.math.log(below)
