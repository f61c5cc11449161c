"""The hourglass: down to a coarse grid, recurrent units there, and up again."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from imnn_tf.utils import checks
from rim_tf.layers import Convolution, TransposedConvolution, build_chain
from rim_tf.networks.base import PyramidNetwork
from rim_tf.resampling import Downsample, Upsample, check_fir_kernel
from rim_tf.seeds import stream


@keras.saving.register_keras_serializable("rim_tf")
class Hourglass(PyramidNetwork):
    """An encoder and a decoder without skip connections around a two-state GRU block.

    Every level of the encoder is `num_layers` convolutions and a downsampling by two; the
    decoder mirrors it. A size that two does not divide is rounded up on the way down and
    restored on the way up.

    Args:
        channels: Channels of the parameters.
        dimensions: Number of spatial axes, 1 to 3.
        nf: Channels of the first level, 32 by default.
        ch_mult: By how much each downsampling multiplies the channels, (2, 2) by default.
        hidden_units: Channels of the two states of the GRU block together, 32 by default; even.
        num_layers: Convolutions on each level.
        kernel_size: Width of the convolutions, 3 by default.
        conv_kernel_size: Width of the convolutions between and behind the GRUs; `kernel_size`
            when `None`.
        input_kernel_size: Width of the first convolution; `kernel_size` when `None`.
        resample_with_conv: Whether a strided convolution resamples; otherwise `fir_kernel`
            does, followed by a 1x1 convolution.
        fir_kernel: The smoothing filter along each axis, normalised for you.
        activation: What `keras.activations.get` takes, "tanh" by default.
        padding: "zero", the default, "reflect" or "periodic".
        seed: Makes the initial weights reproducible.
        **kwargs: Keras's own, such as `name` and `dtype`.

    Call arguments:
        inputs: `(batch, *sizes, any)`.
        state: As made by `initial_state`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        channels: int,
        dimensions: int = 1,
        *,
        num_layers: int = 2,
        resample_with_conv: bool = True,
        fir_kernel: Sequence[float] = (1, 3, 3, 1),
        **kwargs: Any,
    ):
        super().__init__(channels, dimensions, num_layers=num_layers, **kwargs)
        self.resample_with_conv = checks.flag("resample_with_conv", resample_with_conv)
        self.fir_kernel = check_fir_kernel("fir_kernel", fir_kernel)
        widths, seeds = self._widths(), stream(self.seed)

        self.input_layer = self._convolution(self.nf, next(seeds), self.input_kernel_size)
        self.encoder = [self._stack(width, seeds) for width in widths[:-1]]
        self.down = [self._resampler("down", width, next(seeds)) for width in widths[1:]]
        self.block = self._gru_block(widths[-1], next(seeds))
        self.up = [self._resampler("up", width, next(seeds)) for width in widths[-2::-1]]
        self.decoder = [self._stack(width, seeds) for width in widths[-2::-1]]
        self.output_layer = self._convolution(self.channels, next(seeds), 1, activation=None)

    def _resampler(self, direction: str, filters: int, seed: int | None) -> keras.layers.Layer:
        if self.resample_with_conv:
            strided = Convolution if direction == "down" else TransposedConvolution
            return self._convolution(filters, seed, kind=strided, strides=2, activation=None)
        smooth = Downsample if direction == "down" else Upsample
        initializer = keras.initializers.GlorotUniform(seed)
        return smooth(filters, self.fir_kernel, kernel_initializer=initializer, **self._shared())

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights for inputs of `input_shape`."""
        channels = build_chain([self.input_layer], input_shape[-1])
        for stack, down in zip(self.encoder, self.down, strict=True):
            channels = build_chain([*stack, down], channels)
        self.block.build((None,) * (self.dimensions + 1) + (channels,))
        for up, stack in zip(self.up, self.decoder, strict=True):
            channels = build_chain([up, *stack], channels)
        build_chain([self.output_layer], channels)

    def call(self, inputs: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """Returns the step `(batch, *sizes, channels)` and the new state."""
        x = self.input_layer(inputs)
        sizes = []
        for stack, down in zip(self.encoder, self.down, strict=True):
            for layer in stack:
                x = layer(x)
            sizes.append(tuple(x.shape[1:-1]))
            x = down(x)
        x, state = self.block(x, state)
        for up, stack in zip(self.up, self.decoder, strict=True):
            x = up(x, sizes=sizes.pop())
            for layer in stack:
                x = layer(x)
        return self.output_layer(x), state

    def initial_state(self, batch_size: Any, sizes: Sequence[int]) -> Any:
        """Zeros on the coarsest grid, for parameters of spatial `sizes`."""
        return self.block.initial_state(batch_size, self._grids(sizes)[-1])

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {
            **super().get_config(),
            "resample_with_conv": self.resample_with_conv,
            "fir_kernel": self.fir_kernel,
        }
