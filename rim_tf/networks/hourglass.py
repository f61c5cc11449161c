"""The hourglass: down to a coarse grid, recurrent units there, and up again."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from imnn_tf.utils import checks
from imnn_tf.utils.seeds import layer_seeds
from imnn_tf.utils.types import KerasLayer
from rim_tf.networks.base import PyramidNetwork
from rim_tf.networks.layers import Convolution, TransposedConvolution, build_chain, spatial_sizes
from rim_tf.networks.protocol import State
from rim_tf.networks.resampling import Downsample, Upsample, check_fir_kernel


@keras.saving.register_keras_serializable("rim_tf")
class Hourglass(PyramidNetwork):
    """An encoder and a decoder without skip connections around a `GRUBlock`.

    Every level of the encoder consists of `num_layers` convolutions and a downsampling by two.
    The decoder mirrors the encoder. A size that two does not divide is rounded up on the way down
    and restored on the way up.

    Args:
        channels: The number of channels of the parameters.
        dimensions: The number of spatial axes, 1 to 3. Defaults to 1.
        nf: The number of channels of the first level. Defaults to 32.
        ch_mult: The factors by which the downsamplings multiply the number of channels, one for
            each level. Defaults to (2, 2).
        hidden_units: The number of channels of the two states of the GRU block together; even.
            Defaults to 32.
        num_layers: The number of convolutions on each level of the encoder and of the decoder.
            Defaults to 2.
        kernel_size: The width of the convolutions. Defaults to 3.
        conv_kernel_size: The width of the convolutions between and after the GRUs. Defaults to
            `None`, `kernel_size`.
        input_kernel_size: The width of the first convolution. Defaults to `None`, `kernel_size`.
        resample_with_conv: Whether convolutions with a stride of two resample the grid (the
            default). Otherwise `fir_kernel` does, and a convolution of width one mixes the
            channels.
        fir_kernel: The smoothing filter along each axis, of any positive sum. Defaults to
            (1, 3, 3, 1).
        activation: What `keras.activations.get` takes. Defaults to "tanh".
        padding: "zero" (the default), "reflect" or "periodic".
        seed: A non-negative integer that makes the initial weights reproducible. Defaults to
            `None`, seeds that Keras draws.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: `[batch, *sizes, any]`.
        state: The two states of the GRU block, `[batch, *coarsest, hidden_units / 2]` each, from
            `initial_state`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    References:
        Morningstar et al. (2019), arXiv:1901.01359, section 2.2, for the block in the middle.
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
        # The order below decides which seed each layer gets, and the order of saved variables.
        widths, seeds = self._widths(), layer_seeds(self.seed)
        self.input_layer = self._convolution(self.nf, next(seeds), self.input_kernel_size)
        self.encoder = [self._stack(width, seeds) for width in widths[:-1]]
        self.down = [self._resampler("down", width, next(seeds)) for width in widths[1:]]
        self.block = self._gru_block(widths[-1], next(seeds))
        self.up = [self._resampler("up", width, next(seeds)) for width in widths[-2::-1]]
        self.decoder = [self._stack(width, seeds) for width in widths[-2::-1]]
        self.output_layer = self._read_out(1)

    def _resampler(self, direction: str, filters: int, seed: int | None) -> KerasLayer:
        if self.resample_with_conv:
            strided = Convolution if direction == "down" else TransposedConvolution
            return self._convolution(filters, seed, kind=strided, strides=2, activation=None)
        smooth = Downsample if direction == "down" else Upsample
        initializer = keras.initializers.GlorotUniform(seed)
        return smooth(filters, self.fir_kernel, kernel_initializer=initializer, **self._shared())

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights for inputs `(batch, *sizes, channels)`; only channels must be known."""
        channels = build_chain([self.input_layer], input_shape[-1])
        for stack, down in zip(self.encoder, self.down, strict=True):
            channels = build_chain([*stack, down], channels)
        self.block.build((None,) * (self.dimensions + 1) + (channels,))
        for up, stack in zip(self.up, self.decoder, strict=True):
            channels = build_chain([up, *stack], channels)
        build_chain([self.output_layer], channels)

    def call(self, inputs: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """Returns the step, `[batch, *sizes, channels]`, and the new states, of the old shapes.

        Args:
            inputs: `[batch, *sizes, any]`.
            state: The two states of the GRU block, `[batch, *coarsest, hidden_units / 2]` each.
        """
        x = self.input_layer(inputs)
        sizes = []
        for stack, down in zip(self.encoder, self.down, strict=True):
            for layer in stack:
                x = layer(x)
            sizes.append(spatial_sizes(x))
            x = down(x)
        x, state = self.block(x, state)
        for up, stack in zip(self.up, self.decoder, strict=True):
            x = up(x, sizes=sizes.pop())
            for layer in stack:
                x = layer(x)
        return self.output_layer(x), state

    def initial_state(self, batch_size: Any, sizes: Sequence[int]) -> State:
        """Zeros for both states of the GRU block, `[batch_size, *coarsest, hidden_units / 2]` each.

        Args:
            batch_size: The number of examples, a number or a tensor `[]`.
            sizes: The spatial sizes of the parameters. The coarsest grid has these sizes halved
                once for each entry of `ch_mult`, rounded up each time.
        """
        return self.block.initial_state(batch_size, self._grids(sizes)[-1])
