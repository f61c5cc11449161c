"""The U-Net with recurrent units at its bottleneck and, on request, on every skip."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from imnn_tf.utils import checks
from imnn_tf.utils.seeds import layer_seeds
from imnn_tf.utils.types import KerasLayer
from rim_tf.networks.base import PyramidNetwork
from rim_tf.networks.cells import ConvGRUCell
from rim_tf.networks.layers import Convolution, TransposedConvolution, build_chain, spatial_sizes
from rim_tf.networks.protocol import State


@keras.saving.register_keras_serializable("rim_tf")
class UNet(PyramidNetwork):
    """An encoder and a decoder that are joined on every level, with a `GRUBlock` where they meet.

    Args:
        channels: The number of channels of the parameters.
        dimensions: The number of spatial axes, 1 to 3. Defaults to 2.
        nf: The number of channels of the first level. Defaults to 32.
        ch_mult: The factors by which the downsamplings multiply the number of channels, one for
            each level. Defaults to (2, 2).
        hidden_units: The number of channels of the two states of the bottleneck's GRU block
            together; even. Defaults to 32.
        recurrent_skips: Whether every skip has a GRU, with as many channels as its level.
            Defaults to False.
        combine_method: "cat" (the default) concatenates skip and decoder along the channels,
            "sum" adds them.
        num_layers: The number of convolutions on each level of the encoder and of the decoder.
            Defaults to 1.
        kernel_size: The width of the convolutions. Defaults to 3.
        conv_kernel_size: The width of the convolutions between and after the bottleneck's GRUs.
            Defaults to `None`, `kernel_size`.
        input_kernel_size: The width of the first convolution. Defaults to `None`, `kernel_size`.
        activation: What `keras.activations.get` takes. Defaults to "tanh".
        padding: "zero" (the default), "reflect" or "periodic".
        seed: A non-negative integer that makes the initial weights reproducible. Defaults to
            `None`, seeds that Keras draws.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: `[batch, *sizes, any]`.
        state: The states of all recurrent units, `[batch, ...]` each, from `initial_state`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    References:
        Ronneberger et al. (2015), arXiv:1505.04597, figure 1, for the U-Net; Adam et al. (2023),
        arXiv:2301.04168, figure 2, for recurrent units on every skip.
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
        # Without a convolution after the join, nothing would mix the skip with the decoder.
        checks.integer("num_layers", self.num_layers, minimum=1)
        self.recurrent_skips = checks.flag("recurrent_skips", recurrent_skips)
        self.combine_method = checks.choice("combine_method", combine_method, ("cat", "sum"))
        widths, seeds = self._widths(), layer_seeds(self.seed)
        finer, coarser = widths[:-1], widths[1:]

        def resampler(filters: int, kind: type[Convolution]) -> KerasLayer:
            return self._convolution(filters, next(seeds), kind=kind, strides=2)

        # The order below decides which seed each layer gets, and the order of saved variables.
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
        self.output_layer = self._read_out(1)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights for inputs `(batch, *sizes, channels)`; only channels must be known."""
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

    def call(self, inputs: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """Returns the step, `[batch, *sizes, channels]`, and the new states, of the old shapes.

        Args:
            inputs: `[batch, *sizes, any]`.
            state: The states of all recurrent units, in the form that `initial_state` describes,
                `[batch, ...]` each.
        """
        x = self.input_layer(inputs)
        skips = []
        for stack, down in zip(self.encoder, self.down, strict=True):
            for layer in stack:
                x = layer(x)
            skips.append(x)
            x = down(x)
        x, block_state = self.block(x, state["bottleneck"])
        new_state = {"bottleneck": block_state}
        if self.recurrent_skips:
            skips = [
                cell(skip, old)
                for cell, skip, old in zip(self.skips, skips, state["skips"], strict=True)
            ]
            new_state["skips"] = list(skips)  # a copy, because the decoder empties the list
        for up, stack in zip(self.up, self.decoder, strict=True):
            skip = skips.pop()
            x = up(x, sizes=spatial_sizes(skip))
            x = tf.concat([x, skip], -1) if self.combine_method == "cat" else x + skip
            for layer in stack:
                x = layer(x)
        return self.output_layer(x), new_state

    def initial_state(self, batch_size: Any, sizes: Sequence[int]) -> State:
        """Zeros for every recurrent unit.

        Args:
            batch_size: The number of examples, a number or a tensor `[]`.
            sizes: The spatial sizes of the parameters. Each level has these sizes halved once more,
                rounded up.

        Returns:
            A dictionary. "bottleneck" holds the two states of the GRU block,
            `[batch_size, *coarsest, hidden_units / 2]` each. With recurrent skips, "skips" holds
            one state for each level above, `[batch_size, *level, channels]`, with the sizes and
            the number of channels of that level, the finest first.
        """
        grids = self._grids(sizes)
        state = {"bottleneck": self.block.initial_state(batch_size, grids[-1])}
        if self.recurrent_skips:
            state["skips"] = [
                cell.initial_state(batch_size, grid)
                for cell, grid in zip(self.skips, grids[:-1], strict=True)
            ]
        return state
