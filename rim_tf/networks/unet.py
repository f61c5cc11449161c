"""The U-Net with recurrent units on its bottleneck and, if wanted, on every skip."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from imnn_tf.utils import checks
from rim_tf.cells import ConvGRUCell
from rim_tf.layers import Convolution, TransposedConvolution, build_chain
from rim_tf.networks.base import PyramidNetwork
from rim_tf.seeds import stream


@keras.saving.register_keras_serializable("rim_tf")
class UNet(PyramidNetwork):
    """An encoder and a decoder joined on every level, with memory where they meet.

    Args:
        channels: Channels of the parameters.
        dimensions: Number of spatial axes, 1 to 3.
        nf: Channels of the first level, 32 by default.
        ch_mult: By how much each downsampling multiplies the channels, (2, 2) by default.
        hidden_units: Channels of the two states of the bottleneck's GRU block, 32 by default;
            even.
        recurrent_skips: Whether a GRU with as many channels as its level sits on every skip.
        combine_method: "cat" joins skip and decoder along the channels, "sum" adds them.
        num_layers: Convolutions on each level, on either side, 1 by default.
        kernel_size: Width of the convolutions, 3 by default.
        conv_kernel_size: Width of the convolutions between and behind the bottleneck's GRUs;
            `kernel_size` when `None`.
        input_kernel_size: Width of the first convolution; `kernel_size` when `None`.
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

    References:
        Adam et al. (2023), arXiv:2301.04168, figure 2, for recurrent units on every skip.
    """

    def __init__(
        self,
        channels: int,
        dimensions: int = 2,
        *,
        recurrent_skips: bool = False,
        combine_method: str = "cat",
        **kwargs: Any,
    ):
        super().__init__(channels, dimensions, **kwargs)
        checks.integer("num_layers", self.num_layers, minimum=1)
        self.recurrent_skips = checks.flag("recurrent_skips", recurrent_skips)
        self.combine_method = checks.choice("combine_method", combine_method, ("cat", "sum"))
        widths, seeds = self._widths(), stream(self.seed)
        finer, coarser = widths[:-1], widths[1:]

        def resampler(filters: int, kind: Any) -> Any:
            return self._convolution(filters, next(seeds), kind=kind, strides=2)

        self.input_layer = self._convolution(self.nf, next(seeds), self.input_kernel_size)
        self.encoder = [self._stack(width, seeds) for width in finer]
        self.down = [resampler(width, Convolution) for width in coarser]
        self.block = self._gru_block(widths[-1], next(seeds))
        self.skips = [
            ConvGRUCell(width, self.kernel_size, seed=next(seeds), **self._shared())
            for width in finer
            if self.recurrent_skips
        ]
        self.up = [resampler(width, TransposedConvolution) for width in finer[::-1]]
        self.decoder = [self._stack(width, seeds) for width in finer[::-1]]
        self.output_layer = self._convolution(self.channels, next(seeds), 1, activation=None)

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
        grids = self._grids(sizes)
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
            "recurrent_skips": self.recurrent_skips,
            "combine_method": self.combine_method,
        }
