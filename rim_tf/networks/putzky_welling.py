"""The plain convolutional network of the first recurrent inference machine."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from imnn_tf.utils import checks
from imnn_tf.utils.seeds import layer_seeds
from rim_tf.networks.base import Network
from rim_tf.networks.cells import ConvGRUCell
from rim_tf.networks.layers import TransposedConvolution, build_chain, spatial_sizes


@keras.saving.register_keras_serializable("rim_tf")
class PutzkyWelling(Network):
    """A convolution down, one GRU, a convolution up, and a linear read-out.

        u  = tanh(V_1 * inputs)          with the stride `strides`
        h' = GRU(u, h)
        v  = tanh(V_2 *^T h')            back to the size of the inputs
        step = V_3 * v

    The batch normalisation of the paper is left out: all steps would share its statistics, and
    their scores differ by orders of magnitude. In 0 dimensions the convolutions are dense
    layers, which makes this the network for a vector of parameters.

    Args:
        channels: The number of channels of the parameters.
        dimensions: The number of spatial axes, 0 to 3. Defaults to 2.
        features: The numbers of channels of the first convolution, of the state, and of the
            second convolution. Defaults to (64, 256, 64).
        kernel_size: The width of the convolutions. Defaults to 3.
        strides: The factor between the grid of the parameters and that of the state. Defaults
            to 2.
        activation: What `keras.activations.get` takes. Defaults to "tanh".
        padding: "zero" (the default), "reflect" or "periodic".
        seed: A non-negative integer that makes the initial weights reproducible. Defaults to
            `None`, seeds that Keras draws.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: `[batch, *sizes, any]`.
        state: `[batch, *ceil(sizes / strides), features[1]]`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    References:
        Putzky & Welling (2017), arXiv:1706.04008, section 4.1.
    """

    def __init__(
        self,
        channels: int,
        dimensions: int = 2,
        *,
        features: Sequence[int] = (64, 256, 64),
        strides: int = 2,
        **kwargs: Any,
    ):
        super().__init__(channels, dimensions, **kwargs)
        self.features = checks.sizes("features", features, length=3)
        self.strides = checks.integer("strides", strides, minimum=1)
        before, units, after = self.features
        # The order below decides which seed each layer gets, and the order of saved variables.
        seeds = layer_seeds(self.seed)
        self.down = self._convolution(before, next(seeds), strides=self.strides)
        self.cell = ConvGRUCell(units, self.kernel_size, seed=next(seeds), **self._shared())
        self.up = self._convolution(
            after, next(seeds), kind=TransposedConvolution, strides=self.strides
        )
        self.output_layer = self._read_out()

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights for inputs `(batch, *sizes, channels)`; only channels must be known."""
        channels = build_chain([self.down], input_shape[-1])
        self.cell.build((None,) * (self.dimensions + 1) + (channels,))
        build_chain([self.up, self.output_layer], self.cell.units)

    def call(self, inputs: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the step, `[batch, *sizes, channels]`, and the new state, of the old shape.

        Args:
            inputs: `[batch, *sizes, any]`.
            state: `[batch, *ceil(sizes / strides), features[1]]`.
        """
        state = self.cell(self.down(inputs), state)
        x = self.up(state, sizes=spatial_sizes(inputs))
        return self.output_layer(x), state

    def initial_state(self, batch_size: Any, sizes: Sequence[int]) -> tf.Tensor:
        """Zeros, `[batch_size, *ceil(sizes / strides), features[1]]`.

        Args:
            batch_size: The number of examples, a number or a tensor `[]`.
            sizes: The spatial sizes of the parameters.
        """
        return self.cell.initial_state(batch_size, [-(-n // self.strides) for n in sizes])
