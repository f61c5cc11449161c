"""The hourglass: down to a coarse grid, recurrent units there, and up again."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from imnn_tf.utils import checks
from rim_tf.cells import GRUBlock
from rim_tf.layers import PADDINGS, Convolution, TransposedConvolution, build_chain, check_rank
from rim_tf.resampling import Downsample, Upsample, check_fir_kernel
from rim_tf.seeds import spawn


@keras.saving.register_keras_serializable("rim_tf")
class Hourglass(keras.layers.Layer):
    """An encoder and a decoder without skip connections around a two-state GRU block.

    Every level of the encoder is `num_layers` convolutions and a downsampling by two; the
    decoder mirrors it. A size that two does not divide is rounded up on the way down and
    restored on the way up.

    Args:
        channels: Channels of the parameters.
        dimensions: Number of spatial axes, 1 to 3.
        nf: Channels of the first level.
        ch_mult: By how much each downsampling multiplies the channels.
        hidden_units: Channels of the two states of the GRU block together; even.
        num_layers: Convolutions on each level.
        kernel_size: Width of the convolutions.
        conv_kernel_size: Width of the convolutions between and behind the GRUs; `kernel_size`
            when `None`.
        input_kernel_size: Width of the first convolution; `kernel_size` when `None`.
        resample_with_conv: Whether a strided convolution resamples; otherwise `fir_kernel`
            does, followed by a 1x1 convolution.
        fir_kernel: The smoothing filter along each axis, normalised for you.
        activation: What `keras.activations.get` takes.
        padding: "zero", "reflect" or "periodic".
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
        nf: int = 32,
        ch_mult: Sequence[int] = (2, 2),
        hidden_units: int = 32,
        num_layers: int = 2,
        kernel_size: int = 3,
        conv_kernel_size: int | None = None,
        input_kernel_size: int | None = None,
        resample_with_conv: bool = True,
        fir_kernel: Sequence[float] = (1, 3, 3, 1),
        activation: Any = "tanh",
        padding: str = "zero",
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.channels = checks.integer("channels", channels, minimum=1)
        self.dimensions = check_rank("dimensions", dimensions)
        if self.dimensions == 0:
            raise ValueError("`dimensions` must be 1 to 3, got 0: there is nothing to resample.")
        self.nf = checks.integer("nf", nf, minimum=1)
        self.ch_mult = checks.sizes("ch_mult", ch_mult)
        self.hidden_units = checks.integer("hidden_units", hidden_units, minimum=2)
        self.num_layers = checks.integer("num_layers", num_layers, minimum=0)
        self.kernel_size = checks.integer("kernel_size", kernel_size, minimum=1)
        self.conv_kernel_size = conv_kernel_size
        self.input_kernel_size = input_kernel_size
        self.resample_with_conv = checks.flag("resample_with_conv", resample_with_conv)
        self.fir_kernel = check_fir_kernel("fir_kernel", fir_kernel)
        self.activation = keras.activations.get(activation)
        self.padding = checks.choice("padding", padding, PADDINGS)
        self.seed = seed
        self._make_layers()

    def _make_layers(self) -> None:
        widths = [self.nf]
        for factor in self.ch_mult:
            widths.append(widths[-1] * factor)
        seeds = iter(spawn(self.seed, 3 + 2 * len(self.ch_mult) * (1 + self.num_layers)))

        def convolution(filters: int, size: int, activation: Any) -> Convolution:
            initializer = keras.initializers.GlorotUniform(next(seeds))
            return Convolution(
                filters,
                size,
                activation=activation,
                kernel_initializer=initializer,
                **self._shared(),
            )

        def stack(filters: int) -> list[Convolution]:
            return [
                convolution(filters, self.kernel_size, self.activation)
                for _ in range(self.num_layers)
            ]

        first = self.input_kernel_size or self.kernel_size
        self.input_layer = convolution(self.nf, first, self.activation)
        self.encoder = [stack(width) for width in widths[:-1]]
        self.down = [self._resampler("down", width, next(seeds)) for width in widths[1:]]
        self.block = GRUBlock(
            self.hidden_units,
            widths[-1],
            self.kernel_size,
            conv_kernel_size=self.conv_kernel_size,
            seed=next(seeds),
            **self._shared(),
        )
        self.up = [self._resampler("up", width, next(seeds)) for width in widths[-2::-1]]
        self.decoder = [stack(width) for width in widths[-2::-1]]
        self.output_layer = convolution(self.channels, 1, None)

    def _shared(self) -> dict[str, Any]:
        return {"rank": self.dimensions, "padding": self.padding, "dtype": self.dtype_policy}

    def _resampler(self, direction: str, filters: int, seed: int | None) -> keras.layers.Layer:
        initializer = keras.initializers.GlorotUniform(seed)
        options = {"kernel_initializer": initializer, **self._shared()}
        if self.resample_with_conv:
            strided = Convolution if direction == "down" else TransposedConvolution
            return strided(filters, self.kernel_size, strides=2, **options)
        smooth = Downsample if direction == "down" else Upsample
        return smooth(filters, self.fir_kernel, **options)

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
        coarse = [-(-size // 2 ** len(self.ch_mult)) for size in sizes]
        return self.block.initial_state(batch_size, coarse)

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {
            **super().get_config(),
            "channels": self.channels,
            "dimensions": self.dimensions,
            "nf": self.nf,
            "ch_mult": self.ch_mult,
            "hidden_units": self.hidden_units,
            "num_layers": self.num_layers,
            "kernel_size": self.kernel_size,
            "conv_kernel_size": self.conv_kernel_size,
            "input_kernel_size": self.input_kernel_size,
            "resample_with_conv": self.resample_with_conv,
            "fir_kernel": self.fir_kernel,
            "activation": keras.activations.serialize(self.activation),
            "padding": self.padding,
            "seed": self.seed,
        }
