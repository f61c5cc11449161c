"""The U-Net with recurrent units on its bottleneck and, if wanted, on every skip."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from imnn_tf.utils import checks
from rim_tf.cells import ConvGRUCell, GRUBlock
from rim_tf.layers import PADDINGS, Convolution, TransposedConvolution, build_chain, check_rank
from rim_tf.seeds import spawn


@keras.saving.register_keras_serializable("rim_tf")
class UNet(keras.layers.Layer):
    """An encoder and a decoder joined on every level, with memory where they meet.

    Args:
        channels: Channels of the parameters.
        dimensions: Number of spatial axes, 1 to 3.
        nf: Channels of the first level.
        ch_mult: By how much each downsampling multiplies the channels.
        hidden_units: Channels of the two states of the bottleneck's GRU block; even.
        recurrent_skips: Whether a GRU with as many channels as its level sits on every skip.
        combine_method: "cat" joins skip and decoder along the channels, "sum" adds them.
        num_layers: Convolutions on each level, on either side.
        kernel_size: Width of the convolutions.
        conv_kernel_size: Width of the convolutions between and behind the bottleneck's GRUs;
            `kernel_size` when `None`.
        input_kernel_size: Width of the first convolution; `kernel_size` when `None`.
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

    References:
        Adam et al. (2023), arXiv:2301.04168, figure 2, for recurrent units on every skip.
    """

    def __init__(
        self,
        channels: int,
        dimensions: int = 2,
        *,
        nf: int = 32,
        ch_mult: Sequence[int] = (2, 2),
        hidden_units: int = 32,
        recurrent_skips: bool = False,
        combine_method: str = "cat",
        num_layers: int = 1,
        kernel_size: int = 3,
        conv_kernel_size: int | None = None,
        input_kernel_size: int | None = None,
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
        self.recurrent_skips = checks.flag("recurrent_skips", recurrent_skips)
        self.combine_method = checks.choice("combine_method", combine_method, ("cat", "sum"))
        self.num_layers = checks.integer("num_layers", num_layers, minimum=1)
        self.kernel_size = checks.integer("kernel_size", kernel_size, minimum=1)
        self.conv_kernel_size = conv_kernel_size
        self.input_kernel_size = input_kernel_size
        self.activation = keras.activations.get(activation)
        self.padding = checks.choice("padding", padding, PADDINGS)
        self.seed = seed
        self._make_layers()

    def _make_layers(self) -> None:
        widths = [self.nf]
        for factor in self.ch_mult:
            widths.append(widths[-1] * factor)
        seeds = iter(spawn(self.seed, 3 + len(self.ch_mult) * (3 + 2 * self.num_layers)))

        def convolution(filters: int, size: int = self.kernel_size, **options: Any) -> Any:
            return self._convolution(filters, size, next(seeds), **options)

        def stack(filters: int) -> list[Any]:
            return [convolution(filters) for _ in range(self.num_layers)]

        up: dict[str, Any] = {"kind": TransposedConvolution, "strides": 2}
        self.input_layer = convolution(self.nf, self.input_kernel_size or self.kernel_size)
        self.encoder = [stack(width) for width in widths[:-1]]
        self.down = [convolution(width, strides=2) for width in widths[1:]]
        self._make_memory(widths, seeds)
        self.up = [convolution(width, **up) for width in widths[-2::-1]]
        self.decoder = [stack(width) for width in widths[-2::-1]]
        self.output_layer = convolution(self.channels, 1, activation=None)

    def _convolution(
        self, filters: int, size: int, seed: int | None, kind: Any = Convolution, **options: Any
    ) -> Any:
        return kind(
            filters,
            size,
            kernel_initializer=keras.initializers.GlorotUniform(seed),
            **{"activation": self.activation, **self._shared(), **options},
        )

    def _make_memory(self, widths: Sequence[int], seeds: Iterator[int | None]) -> None:
        """The recurrent units: on the bottleneck, and on the skips if wanted."""
        self.block = GRUBlock(
            self.hidden_units,
            widths[-1],
            self.kernel_size,
            conv_kernel_size=self.conv_kernel_size,
            seed=next(seeds),
            **self._shared(),
        )
        self.skips = [
            ConvGRUCell(width, self.kernel_size, seed=next(seeds), **self._shared())
            for width in widths[:-1]
            if self.recurrent_skips
        ]

    def _shared(self) -> dict[str, Any]:
        return {"rank": self.dimensions, "padding": self.padding, "dtype": self.dtype_policy}

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights for inputs of `input_shape`."""
        lead = (None,) * (self.dimensions + 1)
        channels = build_chain([self.input_layer], input_shape[-1])
        for level, (stack, down) in enumerate(zip(self.encoder, self.down, strict=True)):
            channels = build_chain(stack, channels)
            if self.recurrent_skips:
                self.skips[level].build((*lead, channels))
            channels = build_chain([down], channels)
        self.block.build((*lead, channels))
        for up, stack in zip(self.up, self.decoder, strict=True):
            build_chain([up], channels)
            joined = 2 * up.filters if self.combine_method == "cat" else up.filters
            channels = build_chain(stack, joined)
        build_chain([self.output_layer], channels)

    def call(self, inputs: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """Returns the step `(batch, *sizes, channels)` and the new state."""
        x = self.input_layer(inputs)
        skips = []
        for stack, down in zip(self.encoder, self.down, strict=True):
            for layer in stack:
                x = layer(x)
            skips.append(x)
            x = down(x)
        x, block_state = self.block(x, state["bottleneck"])
        if self.recurrent_skips:
            skips = [
                cell(skip, old)
                for cell, skip, old in zip(self.skips, skips, state["skips"], strict=True)
            ]
        new_state = {"bottleneck": block_state}
        if self.recurrent_skips:
            new_state["skips"] = list(skips)
        for up, stack in zip(self.up, self.decoder, strict=True):
            skip = skips.pop()
            x = up(x, sizes=tuple(skip.shape[1:-1]))
            x = tf.concat([x, skip], -1) if self.combine_method == "cat" else x + skip
            for layer in stack:
                x = layer(x)
        return self.output_layer(x), new_state

    def initial_state(self, batch_size: Any, sizes: Sequence[int]) -> dict[str, Any]:
        """Zeros for every recurrent unit, for parameters of spatial `sizes`."""
        grids = [list(sizes)]
        for _ in self.ch_mult:
            grids.append([-(-size // 2) for size in grids[-1]])
        state = {"bottleneck": self.block.initial_state(batch_size, grids[-1])}
        if self.recurrent_skips:
            state["skips"] = [
                cell.initial_state(batch_size, grid)
                for cell, grid in zip(self.skips, grids[:-1], strict=True)
            ]
        return state

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {
            **super().get_config(),
            "channels": self.channels,
            "dimensions": self.dimensions,
            "nf": self.nf,
            "ch_mult": self.ch_mult,
            "hidden_units": self.hidden_units,
            "recurrent_skips": self.recurrent_skips,
            "combine_method": self.combine_method,
            "num_layers": self.num_layers,
            "kernel_size": self.kernel_size,
            "conv_kernel_size": self.conv_kernel_size,
            "input_kernel_size": self.input_kernel_size,
            "activation": keras.activations.serialize(self.activation),
            "padding": self.padding,
            "seed": self.seed,
        }
