"""The plain convolutional network of the first recurrent inference machine."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from imnn_tf.utils import checks
from rim_tf.cells import ConvGRUCell
from rim_tf.layers import TransposedConvolution, build_chain
from rim_tf.networks.base import Network
from rim_tf.seeds import spawn


@keras.saving.register_keras_serializable("rim_tf")
class PutzkyWelling(Network):
    """A convolution down, one GRU, a convolution up, and a linear read-out.

        u  = tanh(V_1 * inputs)          stride `strides`
        h' = GRU(u, h)
        v  = tanh(V_2 *^T h')            back to the size of the inputs
        step = V_3 * v

    The batch normalisation of the paper is left out: its statistics would be shared by steps
    whose scores differ by orders of magnitude. In 0 dimensions the convolutions are dense
    layers, which makes it the network for a vector of parameters.

    Args:
        channels: Channels of the parameters.
        dimensions: Number of spatial axes, 0 to 3.
        features: Channels of the first convolution, of the state, and of the second.
        kernel_size: Width of the convolutions, 3 by default.
        strides: Factor between the grid of the parameters and that of the state.
        activation: What `keras.activations.get` takes, "tanh" by default.
        padding: "zero", the default, "reflect" or "periodic".
        seed: Makes the initial weights reproducible.
        **kwargs: Keras's own, such as `name` and `dtype`.

    Call arguments:
        inputs: `(batch, *sizes, any)`.
        state: `(batch, *ceil(sizes / strides), features[1])`.

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
        of_down, of_cell, of_up, of_output = spawn(self.seed, 4)
        up: dict[str, Any] = {"kind": TransposedConvolution, "strides": self.strides}
        self.down = self._convolution(before, of_down, strides=self.strides)
        self.cell = ConvGRUCell(units, self.kernel_size, seed=of_cell, **self._shared())
        self.up = self._convolution(after, of_up, **up)
        self.output_layer = self._convolution(self.channels, of_output, activation=None)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights for inputs of `input_shape`."""
        channels = build_chain([self.down], input_shape[-1])
        self.cell.build((None,) * (self.dimensions + 1) + (channels,))
        build_chain([self.up, self.output_layer], self.cell.units)

    def call(self, inputs: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the step `(batch, *sizes, channels)` and the new state."""
        state = self.cell(self.down(inputs), state)
        x = self.up(state, sizes=tuple(inputs.shape[1:-1]))
        return self.output_layer(x), state

    def initial_state(self, batch_size: Any, sizes: Sequence[int]) -> tf.Tensor:
        """Zeros on the coarse grid, for parameters of spatial `sizes`."""
        return self.cell.initial_state(batch_size, [-(-n // self.strides) for n in sizes])

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {
            **super().get_config(),
            "features": self.features,
            "strides": self.strides,
        }
