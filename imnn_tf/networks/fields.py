"""Networks for fields and series: whatever is sampled at equal steps along one to three axes."""

import math
from collections.abc import Callable, Sequence

import keras
from numpy.typing import DTypeLike

from imnn_tf.networks.initial import Initial, activation_layer
from imnn_tf.networks.layers import HalveResolution, PeriodicPadding, SubtractMean
from imnn_tf.utils import checks
from imnn_tf.utils.types import KerasLayer, KerasModel

# Width of the kernels of every convolution but the first.
_WIDTH = 3


def field_network(
    shape: Sequence[int],
    n_summaries: int,
    *,
    channels: int | None = None,
    periodic: bool = True,
    pointwise: int | None = None,
    squares: bool = True,
    filters: Sequence[int] = (16, 16, 16, 16),
    stem_width: int = 5,
    activation: str | Callable[..., object] | None = "gelu",
    seed: int | None = None,
    dtype: DTypeLike | str | None = None,
) -> KerasModel:
    """A network for stationary fields in one to three dimensions.

    A convolution sees the field at full resolution. Average pooling and narrower convolutions
    follow in turn. The means over the field of the responses at every scale, and of the squares
    of the first convolution's responses, go into one dense layer. What was measured on Gaussian
    random fields as the share of det F that is kept:

    - A first layer with a stride loses the small scales: 0.42 at 32 × 32, and 0.81 to 0.84 with
      that stride set to 1.
    - Means of every scale: 0.964 at 32 × 32 and 0.953 at 128 × 128 with GELU; 0.947 and 0.945 with
      a leaky ReLU.
    - With squares: 0.992 and 0.993 at 32 × 32 after 400 updates, two seeds; a first version kept
      0.988 at 128 × 128. A weighted sum of squares is nearly sufficient for a Gaussian field. Do
      not expect as much of other fields.
    - Padding a periodic field with zeros costs 0.075 at 32 × 32.
    - At 128 × 128, 0.994 with squares and 0.985 without, with `filters=(8, 8, 8, 8)` and 2,500 and
      2,000 updates, one seed each.
    - For log-normal fields of 32 × 32: 0.875 without `pointwise`, one seed; 0.982 and 0.972 with
      `pointwise=8` and `filters=(8, 8, 8)`, two seeds.

    They were measured with new simulations at every update, Adam at 1e-2 with a cosine decay, and
    `fit(λ=0.1)`: the default strength costs 0.06 to 0.09 here. See docs/fields.md.

    A shift of a periodic field by a multiple of `2 ** (len(filters) - 1)` pixels leaves the
    summaries as they are if every axis is such a multiple too. Other shifts change them slightly,
    because pooling skips places. A network without a second scale, `filters=(16,)`, does not change
    under any shift.

    Args:
        shape: Numbers of pixels along the one to three axes of the field.
        n_summaries: The number of summaries.
        channels: The number of values at a pixel, along a last axis. By default a simulation has
            no such axis.
        periodic: Whether the field continues at its other end. If not, zeros surround it: subtract
            a mean that is far from zero first. Leaving the edges out instead costs more, 0.951
            instead of 0.987 of det F for a series of 200 times.
        pointwise: Width of a hidden layer that every pixel passes on its own. A function of the
            values at a pixel is learned from it and added to them. Its mean over the field goes to
            the last layer, and the first convolution sees the rest. This pays where the field is a
            function of a Gaussian one, such as its exponential. The hidden units begin with bends
            between -2 and 2, so values of that order suit them. By default there are none.
        squares: Whether the responses of the first convolution are also squared.
        filters: The numbers of filters, one for each scale. A scale has half the pixels of the one
            before along each axis.
        stem_width: Width of the kernels of the first convolution, an odd number; the others are 3
            wide.
        activation: Name of a Keras activation or a function; `None` is a leaky ReLU with slope
            0.01.
        seed: Seed of the initial weights; different ones in every call by default.
        dtype: Floating type, or a Keras policy; by default that of Keras.

    Returns:
        A model from `[batch, *shape]`, or `[batch, *shape, channels]` if `channels` is passed, to
        `[batch, n_summaries]`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If there are more than three axes, a size is below one, `stem_width` is even,
            or the field is too small for its scales.

    Example:
        >>> from imnn_tf.networks import field_network
        >>> field_network((32, 32), 2).input_shape
        (None, 32, 32)
        >>> field_network((16, 16, 16), 2, channels=1, periodic=False, filters=(8, 8)).input_shape
        (None, 16, 16, 16, 1)
    """
    shape = checks.sizes("shape", shape)
    if not 1 <= len(shape) <= 3:
        raise ValueError(f"`shape` must have one to three entries, got {len(shape)}.")
    n_summaries = checks.integer("n_summaries", n_summaries, minimum=1)
    checks.flag("periodic", periodic)
    widths = _kernel_widths(shape, filters, stem_width)
    initial = Initial(seed, dtype)

    convolution, averaging = (
        getattr(keras.layers, f"{kind}{len(shape)}D") for kind in ("Conv", "GlobalAveragePooling")
    )
    padding = "valid" if periodic else "same"

    def mean(responses: KerasLayer) -> KerasLayer:
        # The scatter of a mean over n pixels falls as 1/√n. Without this factor the last layer
        # must first grow: at 32 x 32 and 400 updates 0.989 of det F are kept instead of 0.993.
        root_n = math.sqrt(math.prod(responses.shape[1:-1]))
        averaged = averaging(dtype=policy)(responses)
        return keras.layers.Rescaling(root_n, dtype=policy)(averaged)

    policy = initial.policy
    if channels is None:
        x = field = keras.Input(shape, dtype=initial.input_dtype)
        x = keras.layers.Reshape((*shape, 1), dtype=policy)(x)
    else:
        n_channels = checks.integer("channels", channels, minimum=1)
        x = field = keras.Input((*shape, n_channels), dtype=initial.input_dtype)
    means = []
    if pointwise is not None:
        n_hidden = checks.integer("pointwise", pointwise, minimum=1)
        x = _with_learned_function(x, n_hidden, activation, initial)
        # The square of a response with a large mean is mostly the response itself, and activations
        # far from zero are flat. With the mean some networks kept 0.76 of det F instead of 0.97.
        means.append(mean(x))
        x = SubtractMean(dtype=policy)(x)
    for scale, (width, n_filters) in enumerate(zip(widths, filters, strict=True)):
        if scale:
            x = HalveResolution(dtype=policy)(x)
        if periodic and width > 1:
            x = PeriodicPadding(width // 2, dtype=policy)(x)
        name = f"scale_{scale + 1}"
        response = convolution(n_filters, width, padding=padding, name=name, **initial.weights())(x)
        x = activation_layer(activation, policy)(response)
        means.append(mean(x))
        if checks.flag("squares", squares) and scale == 0:
            squared = keras.layers.Multiply(dtype=policy)([response, response])
            means.append(mean(squared))
    x = keras.layers.Concatenate(dtype=policy)(means) if len(means) > 1 else means[0]
    return keras.Model(field, keras.layers.Dense(n_summaries, **initial.weights())(x), name="field")


def series_network(
    length: int,
    n_summaries: int,
    *,
    channels: int | None = None,
    periodic: bool = False,
    squares: bool = True,
    filters: Sequence[int] = (16, 16),
    stem_width: int = 5,
    activation: str | Callable[..., object] | None = "gelu",
    seed: int | None = None,
    dtype: DTypeLike | str | None = None,
) -> KerasModel:
    """A network for stationary time series.

    It is `field_network` along one axis. The score of an autoregressive process is a sum of
    products of values at small lags. Squares of the first convolution's responses contain the
    products up to a lag of `stem_width - 1`.

    For the coefficient and the variance of a process of first order, 200 times long, 0.993, 0.989
    and 0.992 of det F are kept by three seeds after 400 updates with new series and `fit(λ=0.1)`. A
    first kernel 9 wide and a third scale left 0.987, one seed.

    Args:
        length: The number of times.
        n_summaries: The number of summaries.
        channels: The number of values at each time, along a last axis. By default a simulation has
            no such axis.
        periodic: Whether the series continues at its other end. If not, zeros surround it.
        squares: Whether the responses of the first convolution are also squared.
        filters: The numbers of filters, one for each scale. A scale has half the times of the one
            before.
        stem_width: Width of the kernels of the first convolution, an odd number; the others are 3
            wide.
        activation: Name of a Keras activation or a function; `None` is a leaky ReLU with slope
            0.01.
        seed: Seed of the initial weights; different ones in every call by default.
        dtype: Floating type, or a Keras policy; by default that of Keras.

    Returns:
        A model from `[batch, length]`, or `[batch, length, channels]` if `channels` is passed, to
        `[batch, n_summaries]`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a size is below one, `stem_width` is even, or the series is too short for
            its scales.

    Example:
        >>> from imnn_tf.networks import series_network
        >>> series_network(200, 2).input_shape
        (None, 200)
    """
    return field_network(
        (checks.integer("length", length, minimum=1),),
        n_summaries,
        channels=channels,
        periodic=periodic,
        squares=squares,
        filters=filters,
        stem_width=stem_width,
        activation=activation,
        seed=seed,
        dtype=dtype,
    )


def _with_learned_function(
    field: KerasLayer,
    n_hidden: int,
    activation: str | Callable[..., object] | None,
    initial: Initial,
) -> KerasLayer:
    """Fields `[batch, *shape, channels]` to whose values a function of them is added."""
    hidden = keras.layers.Dense(n_hidden, **initial.spread())(field)
    hidden = activation_layer(activation, initial.policy)(hidden)
    learned = keras.layers.Dense(field.shape[-1], **initial.weights())(hidden)
    return keras.layers.Add(name="pointwise", dtype=initial.policy)([field, learned])


def _kernel_widths(shape: Sequence[int], filters: Sequence[int], stem_width: int) -> list[int]:
    """Width of the kernel at each scale, after a check that the field is large enough for all."""
    stem_width = checks.integer("stem_width", stem_width, minimum=1)
    if stem_width % 2 == 0:
        raise ValueError(f"`stem_width` must be odd, got {stem_width}.")
    n_scales = len(checks.sizes("filters", filters))
    if n_scales == 0:
        raise ValueError("`filters` must have at least one entry, got none.")
    widths = [stem_width] + [_WIDTH] * (n_scales - 1)
    size = min(shape)
    for scale, width in enumerate(widths):
        size = -(-size // 2) if scale else size
        if size < width:
            raise ValueError(
                f"`shape` must leave at least {width} pixels along every axis at each of the "
                f"{n_scales} scales of `filters`, got {size} at scale {scale + 1} of {shape}."
            )
    return widths
