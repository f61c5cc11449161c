"""The plain convolutional network of the first recurrent inference machine."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from imnn_tf.utils import checks
from rim_tf.cells import ConvGRUCell
from rim_tf.layers import PADDINGS, Convolution, TransposedConvolution, build_chain, check_rank
from rim_tf.seeds import spawn


@keras.saving.register_keras_serializable("rim_tf")
class PutzkyWelling(keras.layers.Layer):
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
        kernel_size: Width of the convolutions.
        strides: Factor between the grid of the parameters and that of the state.
        activation: What `keras.activations.get` takes.
        padding: "zero", "reflect" or "periodic".
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
        kernel_size: int = 3,
        strides: int = 2,
        activation: Any = "tanh",
        padding: str = "zero",
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.channels = checks.integer("channels", channels, minimum=1)
        self.dimensions = check_rank("dimensions", dimensions)
        self.features = checks.sizes("features", features, length=3)
        self.kernel_size = checks.integer("kernel_size", kernel_size, minimum=1)
        self.strides = checks.integer("strides", strides, minimum=1)
        self.activation = keras.activations.get(activation)
        self.padding = checks.choice("padding", padding, PADDINGS)
        self.seed = seed
        shared = {"rank": self.dimensions, "padding": self.padding, "dtype": self.dtype_policy}
        seeds = iter(spawn(seed, 4))

        def convolution(filters: int, kind: Any, **options: Any) -> Any:
            initializer = keras.initializers.GlorotUniform(next(seeds))
            return kind(
                filters, self.kernel_size, kernel_initializer=initializer, **options, **shared
            )

        before, units, after = self.features
        resampling = {"strides": self.strides, "activation": self.activation}
        self.down = convolution(before, Convolution, **resampling)
        self.cell = ConvGRUCell(units, self.kernel_size, seed=next(seeds), **shared)
        self.up = convolution(after, TransposedConvolution, **resampling)
        self.output_layer = convolution(self.channels, Convolution)

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
            "channels": self.channels,
            "dimensions": self.dimensions,
            "features": self.features,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "activation": keras.activations.serialize(self.activation),
            "padding": self.padding,
            "seed": self.seed,
        }
