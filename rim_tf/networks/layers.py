"""Convolutions in 0 to 3 dimensions with zero, reflecting or periodic padding.

All of them are channels last and take any spatial size. In 0 dimensions they are dense layers.
"""

import inspect
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import keras
import tensorflow as tf

from imnn_tf.utils import checks
from imnn_tf.utils.types import KerasLayer

# A number of entries: an integer, or a scalar tensor if it is only known when the batch comes. To
# the type checker it is `Any`, because the two have the same arithmetic.
Size: TypeAlias = Any

PADDINGS = ("zero", "reflect", "periodic")

# Stated explicitly: with its default TensorFlow cannot differentiate a convolution eagerly in
# three dimensions.
_FORMATS: dict[int, Literal["NWC", "NHWC", "NDHWC"]] = {1: "NWC", 2: "NHWC", 3: "NDHWC"}


def same_padding(size: Size, kernel_size: int, stride: int) -> tuple[Size, Size]:
    """The padding of an axis that makes `ceil(size / stride)` entries come out.

    Args:
        size: The number of entries of the axis, an integer or a scalar.
        kernel_size: The width of the kernel.
        stride: The step of the kernel.

    Returns:
        The number of entries to add before and after the axis. The odd one goes after, as in
        TensorFlow's "SAME".
    """
    total = (-(-size // stride) - 1) * stride + kernel_size - size
    total = max(total, 0) if isinstance(total, int) else tf.maximum(total, 0)
    return total // 2, total - total // 2


def pad_axis(x: tf.Tensor, axis: int, before: Size, after: Size, padding: str) -> tf.Tensor:
    """Extends one axis of a tensor.

    Args:
        x: A tensor `[..., size, ...]`.
        axis: The axis to extend.
        before: The number of entries to add at the start; may exceed the size of the axis.
        after: The number of entries to add at the end; may exceed the size of the axis.
        padding: "zero"; "reflect", which mirrors about the edge entry without repeating it; or
            "periodic".

    Returns:
        The tensor `[..., before + size + after, ...]`.
    """
    known = all(isinstance(each, int) for each in (before, after, x.shape[axis]))
    if known and before == 0 and after == 0:
        return x
    widths = [[0, 0] for _ in x.shape]
    widths[axis] = [before, after]
    if padding == "zero":
        return tf.pad(x, widths)
    size = _size(x, axis)
    # The fast ways below wrap around or reflect only once. Wider padding is rare and may be slow.
    if not known or max(before, after) >= size:
        return tf.gather(x, _source_indices(size, before, after, padding), axis=axis)
    if padding == "reflect":
        return tf.pad(x, widths, mode="REFLECT")
    first = _slice_axis(x, axis, size - before, size)
    last = _slice_axis(x, axis, 0, after)
    return tf.concat([first, x, last], axis)


def spatial_sizes(x: tf.Tensor) -> list[Size]:
    """The sizes of `[batch, *sizes, channels]`, a scalar for one that differs between batches."""
    return [_size(x, axis) for axis in range(1, len(x.shape) - 1)]


def _size(x: tf.Tensor, axis: int) -> Size:
    size = x.shape[axis]
    return tf.shape(x)[axis] if size is None else size


def _source_indices(size: Size, before: Size, after: Size, padding: str) -> tf.Tensor:
    """For each entry of the padded axis, the entry of the axis that it copies."""
    positions = tf.range(-before, size + after)
    if padding == "periodic":
        return positions % size
    # Reflection about both edges has the period 2 size - 2, because no edge entry is repeated. A
    # single entry has nothing to reflect, and is repeated.
    folded = positions % tf.maximum(2 * size - 2, 1)
    return tf.minimum(folded, 2 * size - 2 - folded)


def _slice_axis(x: tf.Tensor, axis: int, start: Size, stop: Size) -> tf.Tensor:
    index = [slice(None)] * axis + [slice(start, stop)]
    return x[tuple(index)]


class ConfiguredLayer(keras.layers.Layer):
    """A layer whose configuration follows from its constructors.

    Every argument that a constructor names is kept as an attribute of the same name, so that no
    layer has to list its arguments a second time for Keras.
    """

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        config = super().get_config()
        for kind in reversed(type(self).__mro__):
            if not issubclass(kind, ConfiguredLayer) or "__init__" not in vars(kind):
                continue
            _, *parameters = inspect.signature(kind.__init__).parameters.values()  # without self
            for parameter in parameters:
                if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
                    config[parameter.name] = _as_config(getattr(self, parameter.name))
        return config


def _as_config(value: Any) -> Any:
    if isinstance(value, keras.initializers.Initializer):
        return keras.initializers.serialize(value)
    return keras.activations.serialize(value) if callable(value) else value


@keras.saving.register_keras_serializable("rim_tf")
class Convolution(ConfiguredLayer):
    """A convolution in 0 to 3 dimensions, followed by an activation.

    With `s` the stride, `p` the padding before the axis and `W` the kernel, in one dimension:

        y[i] = activation(sum_k x[s i + k - p] W[k] + b),      i = 0 ... ceil(size / s) - 1

    In 0 dimensions the layer is dense: `y = activation(x W + b)`.

    Args:
        filters: The number of channels of the output.
        kernel_size: The width of the kernel along every axis; without meaning in 0 dimensions.
            Defaults to 3.
        rank: The number of spatial axes, 0 to 3.
        strides: The step along every axis; without meaning in 0 dimensions. Defaults to 1.
        padding: "zero" (the default), "reflect" or "periodic".
        activation: What `keras.activations.get` takes. Defaults to `None`, the identity.
        use_bias: Whether to add a bias to every channel. Defaults to True.
        kernel_initializer: What `keras.initializers.get` takes. Defaults to "glorot_uniform".
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: `[batch, *sizes, channels]`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    References:
        Dumoulin & Visin (2016), arXiv:1603.07285, chapters 2 and 4.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        *,
        rank: int,
        strides: int = 1,
        padding: str = "zero",
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = checks.integer("filters", filters, minimum=1)
        self.kernel_size = checks.integer("kernel_size", kernel_size, minimum=1)
        self.rank = check_rank("rank", rank)
        self.strides = checks.integer("strides", strides, minimum=1)
        self.padding = checks.choice("padding", padding, PADDINGS)
        self.activation = keras.activations.get(activation)
        self.use_bias = checks.flag("use_bias", use_bias)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.input_spec = keras.layers.InputSpec(ndim=self.rank + 2)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights for inputs `(batch, *sizes, channels)`; only channels must be known."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=self._kernel_shape(input_shape[-1]),
            initializer=self.kernel_initializer,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

    def _kernel_shape(self, channels: int | None) -> tuple[int | None, ...]:
        return (self.kernel_size,) * self.rank + (channels, self.filters)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Returns `[batch, *ceil(sizes / strides), filters]`.

        Args:
            x: `[batch, *sizes, channels]`.
        """
        return self._activate(self._linear(x, tf.convert_to_tensor(self.kernel)))

    def _activate(self, y: tf.Tensor) -> tf.Tensor:
        return self.activation(y if self.bias is None else y + self.bias)

    def _linear(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        if self.rank == 0:
            return tf.matmul(x, kernel)
        if self.padding == "zero":
            return tf.nn.convolution(x, kernel, self.strides, "SAME", _FORMATS[self.rank])
        # TensorFlow itself pads with zeros only.
        for axis in range(1, self.rank + 1):
            widths = same_padding(_size(x, axis), self.kernel_size, self.strides)
            x = pad_axis(x, axis, *widths, self.padding)
        return tf.nn.convolution(x, kernel, self.strides, "VALID", _FORMATS[self.rank])


@keras.saving.register_keras_serializable("rim_tf")
class TransposedConvolution(Convolution):
    """The adjoint of a strided `Convolution`, with weights of its own, and an activation.

    With `s` the stride, `p` the padding of the convolution before the axis and `W` the kernel, in
    one dimension:

        y[j] = activation(sum_i x[i] W[j + p - s i]^T + b),      j = 0 ... size - 1

    A size that the convolution rounded up cannot be inferred from the input, so the sizes of the
    output are an argument of the call. The constructor is that of `Convolution`.

    Call arguments:
        x: `[batch, *ceil(sizes / strides), channels]`.
        sizes: The spatial sizes of the output, integers or scalars.

    References:
        Dumoulin & Visin (2016), arXiv:1603.07285, chapter 4.
    """

    def _kernel_shape(self, channels: int | None) -> tuple[int | None, ...]:
        # The shape of the kernel of the convolution whose adjoint this is: TensorFlow's order.
        return (self.kernel_size,) * self.rank + (self.filters, channels)

    def call(self, x: tf.Tensor, sizes: Sequence[Size] = ()) -> tf.Tensor:
        """Returns `[batch, *sizes, filters]`.

        Args:
            x: `[batch, *ceil(sizes / strides), channels]`.
            sizes: The spatial sizes of the output; none by default, for 0 dimensions.
        """
        return self._activate(self._transpose(x, tf.convert_to_tensor(self.kernel), sizes))

    def _transpose(self, x: tf.Tensor, kernel: tf.Tensor, sizes: Sequence[Size]) -> tf.Tensor:
        if self.rank == 0:
            return tf.matmul(x, kernel, transpose_b=True)
        if self.padding == "zero":
            shape = tf.stack([tf.shape(x)[0], *sizes, self.filters])
            return tf.nn.conv_transpose(x, kernel, shape, self.strides, "SAME", _FORMATS[self.rank])
        # Pad the input, convolve without padding, and cut out the entries wanted. The margin is
        # the largest number of inputs beyond the edge that an output entry sees.
        margin = -(-self.kernel_size // self.strides)
        for axis in range(1, self.rank + 1):
            x = pad_axis(x, axis, margin, margin, self.padding)
        coarse = [_size(x, axis) for axis in range(1, self.rank + 1)]
        full = [(n - 1) * self.strides + self.kernel_size for n in coarse]
        shape = tf.stack([tf.shape(x)[0], *full, self.filters])
        y = tf.nn.conv_transpose(x, kernel, shape, self.strides, "VALID", _FORMATS[self.rank])
        for axis, size in enumerate(sizes, start=1):
            start = margin * self.strides + same_padding(size, self.kernel_size, self.strides)[0]
            y = _slice_axis(y, axis, start, start + size)
        return y


def check_rank(name: str, value: Any) -> int:
    """Checks a number of spatial axes.

    Raises:
        TypeError: If `value` is not an integer.
        ValueError: If `value` is not within 0 to 3.
    """
    rank = checks.integer(name, value, minimum=0)
    if rank > 3:
        raise ValueError(f"`{name}` must be at most 3, got {rank}.")
    return rank


def build_chain(layers: Sequence[KerasLayer], channels: int | None) -> int | None:
    """Builds convolutions that follow one another.

    Args:
        layers: The convolutions, in order.
        channels: The number of channels of the first one's input.

    Returns:
        The number of channels of the last one's output.
    """
    for layer in layers:
        layer.build((None,) * (layer.rank + 1) + (channels,))
        channels = layer.filters
    return channels
