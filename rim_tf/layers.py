"""Convolutions in 0 to 3 dimensions that pad by zeros, reflection or periodically.

All are channels last, take any spatial size, and in 0 dimensions are dense layers.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from imnn_tf.utils import checks

PADDINGS = ("zero", "reflect", "periodic")

# Always said: without it TensorFlow cannot differentiate eagerly in three dimensions.
_FORMATS = {1: "NWC", 2: "NHWC", 3: "NDHWC"}


def same_padding(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Entries to add before and after an axis so that `ceil(size / stride)` come out."""
    total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


def _source_indices(size: int, before: int, after: int, padding: str) -> np.ndarray:
    """Which entry of an axis each entry of the padded axis is a copy of."""
    positions = np.arange(-before, size + after)
    if padding == "periodic":
        return positions % size
    if size == 1:
        return np.zeros_like(positions)
    folded = positions % (2 * size - 2)
    return np.minimum(folded, 2 * size - 2 - folded)


def pad_axis(x: tf.Tensor, axis: int, before: int, after: int, padding: str) -> tf.Tensor:
    """Extends one axis of a tensor.

    Args:
        x: Any tensor whose size along `axis` is known, unless `padding` is "zero".
        axis: The axis to extend.
        before: Entries to add at its start; may exceed the axis's own size.
        after: Entries to add at its end.
        padding: "zero"; "reflect", mirrored about the edge entry, which is not repeated; or
            "periodic".

    Returns:
        The tensor with `before + after` more entries along `axis`.
    """
    if before == 0 and after == 0:
        return x
    if padding == "zero":
        widths = [[0, 0] for _ in x.shape]
        widths[axis] = [before, after]
        return tf.pad(x, widths)
    size = x.shape[axis]
    if max(before, after) >= size:  # wraps more than once: rare, so clarity before speed
        return tf.gather(x, _source_indices(size, before, after, padding), axis=axis)
    if padding == "reflect":
        widths = [[0, 0] for _ in x.shape]
        widths[axis] = [before, after]
        return tf.pad(x, widths, mode="REFLECT")
    first = _slice_axis(x, axis, size - before, size)
    last = _slice_axis(x, axis, 0, after)
    return tf.concat([first, x, last], axis)


def _slice_axis(x: tf.Tensor, axis: int, start: int, stop: int) -> tf.Tensor:
    index = [slice(None)] * axis + [slice(start, stop)]
    return x[tuple(index)]


@keras.saving.register_keras_serializable("rim_tf")
class Convolution(keras.layers.Layer):
    """A convolution in 0 to 3 dimensions; in 0 dimensions a dense layer.

    The output has `ceil(size / strides)` entries along every spatial axis.

    Args:
        filters: Channels of the output.
        kernel_size: Width of the kernel along every axis; without meaning in 0 dimensions.
        rank: Number of spatial axes, 0 to 3.
        strides: Step along every axis; without meaning in 0 dimensions.
        padding: "zero", "reflect" or "periodic".
        activation: What `keras.activations.get` takes.
        use_bias: Whether to add a bias to every channel.
        kernel_initializer: What `keras.initializers.get` takes.
        **kwargs: Keras's own, such as `name` and `dtype`.

    Call arguments:
        x: `(batch, *sizes, channels)`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
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
        """Makes the kernel and the bias for inputs of `input_shape`."""
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
        """Returns `(batch, *ceil(sizes / strides), filters)`."""
        y = self._linear(x, tf.convert_to_tensor(self.kernel))
        if self.bias is not None:
            y = y + self.bias
        return self.activation(y)

    def _linear(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        if self.rank == 0:
            return tf.matmul(x, kernel)
        if self.padding == "zero":
            return tf.nn.convolution(x, kernel, self.strides, "SAME", _FORMATS[self.rank])
        for axis in range(1, self.rank + 1):
            widths = same_padding(x.shape[axis], self.kernel_size, self.strides)
            x = pad_axis(x, axis, *widths, self.padding)
        return tf.nn.convolution(x, kernel, self.strides, "VALID", _FORMATS[self.rank])

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "rank": self.rank,
            "strides": self.strides,
            "padding": self.padding,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable("rim_tf")
class TransposedConvolution(Convolution):
    """Undoes the shape change of a strided `Convolution`: its adjoint, with weights of its own.

    A size lost to rounding up cannot be inferred from the input, so the size wanted is an
    argument of the call.

    Args: as for `Convolution`.

    Call arguments:
        x: `(batch, *ceil(sizes / strides), channels)`.
        sizes: The spatial sizes wanted.
    """

    def _kernel_shape(self, channels: int | None) -> tuple[int | None, ...]:
        return (self.kernel_size,) * self.rank + (self.filters, channels)

    def call(self, x: tf.Tensor, sizes: tuple[int, ...] = ()) -> tf.Tensor:
        """Returns `(batch, *sizes, filters)`."""
        y = self._transpose(x, tf.convert_to_tensor(self.kernel), sizes)
        if self.bias is not None:
            y = y + self.bias
        return self.activation(y)

    def _transpose(self, x: tf.Tensor, kernel: tf.Tensor, sizes: tuple[int, ...]) -> tf.Tensor:
        if self.rank == 0:
            return tf.matmul(x, kernel, transpose_b=True)
        if self.padding == "zero":
            shape = [tf.shape(x)[0], *sizes, self.filters]
            return tf.nn.conv_transpose(x, kernel, shape, self.strides, "SAME", _FORMATS[self.rank])
        return self._transpose_padded(x, kernel, sizes)

    def _transpose_padded(
        self, x: tf.Tensor, kernel: tf.Tensor, sizes: tuple[int, ...]
    ) -> tf.Tensor:
        # Every output entry sees at most this many inputs beyond the edge.
        margin = -(-self.kernel_size // self.strides)
        for axis in range(1, self.rank + 1):
            x = pad_axis(x, axis, margin, margin, self.padding)
        full = [(n - 1) * self.strides + self.kernel_size for n in x.shape[1:-1]]
        shape = [tf.shape(x)[0], *full, self.filters]
        y = tf.nn.conv_transpose(x, kernel, shape, self.strides, "VALID", _FORMATS[self.rank])
        for axis, size in enumerate(sizes, start=1):
            start = margin * self.strides + same_padding(size, self.kernel_size, self.strides)[0]
            y = _slice_axis(y, axis, start, start + size)
        return y


def check_rank(name: str, value: Any) -> int:
    """A number of spatial axes, 0 to 3.

    Raises:
        TypeError: If it is not an integer.
        ValueError: If it is not within 0 to 3.
    """
    rank = checks.integer(name, value, minimum=0)
    if rank > 3:
        raise ValueError(f"`{name}` must be at most 3, got {rank}.")
    return rank


def build_chain(layers: Sequence[Any], channels: int | None) -> int | None:
    """Builds convolutions that follow one another; returns the last one's channels."""
    for layer in layers:
        layer.build((None,) * (layer.rank + 1) + (channels,))
        channels = layer.filters
    return channels
