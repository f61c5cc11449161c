"""Gated recurrent units whose matrices are convolutions, in 0 to 3 dimensions."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from imnn_tf.utils import checks
from rim_tf.layers import PADDINGS, Convolution, check_rank
from rim_tf.seeds import initializers, spawn


@keras.saving.register_keras_serializable("rim_tf")
class ConvGRUCell(keras.layers.Layer):
    r"""A gated recurrent unit in 0 to 3 dimensions.

    With `*` a convolution (a matrix product in 0 dimensions) and `.` the product of entries,
    one step from the state `h` under the input `x` is, in Keras's convention where the gate
    `z` keeps the old state,

        z  = sigmoid(W_z * x + U_z * h + b_z)
        r  = sigmoid(W_r * x + U_r * h + b_r)
        a  = tanh(W_a * x + b_a + r . (U_a * h + c_a))      reset_after=True
        a  = tanh(W_a * x + b_a + U_a * (r . h))            reset_after=False
        h' = z . h + (1 - z) . a

    Sonnet and the paper below write the last line with `z` and `1 - z` exchanged, which is
    the same family of functions. The default applies the reset gate after the convolution,
    as Keras does: then one convolution of the state serves all three gates. In 0 dimensions
    the cell is `keras.layers.GRUCell` up to the second bias of its two gates, which adds
    nothing to the first.

    Args:
        units: Channels of the state.
        kernel_size: Width of the kernels along every axis.
        rank: Number of spatial axes, 0 to 3.
        padding: "zero", "reflect" or "periodic".
        reset_after: Whether the reset gate acts after the convolution of the state.
        seed: Makes the initial weights reproducible.
        **kwargs: Keras's own, such as `name` and `dtype`.

    Call arguments:
        x: `(batch, *sizes, channels)`.
        state: `(batch, *sizes, units)`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    References:
        Cho et al. (2014), arXiv:1406.1078, equations 5 to 8; Ballas et al. (2016),
        arXiv:1511.06432, equations 4 to 7, for convolutions.
    """

    def __init__(
        self,
        units: int,
        kernel_size: int = 3,
        *,
        rank: int,
        padding: str = "zero",
        reset_after: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = checks.integer("units", units, minimum=1)
        self.kernel_size = checks.integer("kernel_size", kernel_size, minimum=1)
        self.rank = check_rank("rank", rank)
        self.padding = checks.choice("padding", padding, PADDINGS)
        self.reset_after = checks.flag("reset_after", reset_after)
        self.seed = seed
        kernel, recurrent, candidate = initializers(
            seed, "glorot_uniform", "orthogonal", "orthogonal"
        )

        def convolution(filters: int, initializer: Any, use_bias: bool) -> Convolution:
            return Convolution(
                filters,
                self.kernel_size,
                rank=self.rank,
                padding=self.padding,
                use_bias=use_bias,
                kernel_initializer=initializer,
                dtype=self.dtype_policy,
            )

        gates = 3 if reset_after else 2
        self.of_input = convolution(3 * self.units, kernel, True)
        self.of_state = convolution(gates * self.units, recurrent, False)
        self.of_reset = None if reset_after else convolution(self.units, candidate, False)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights for inputs of `input_shape`."""
        state_shape = (*input_shape[:-1], self.units)
        self.of_input.build(input_shape)
        self.of_state.build(state_shape)
        if self.of_reset is not None:
            self.of_reset.build(state_shape)
            return
        self.candidate_bias = self.add_weight(
            name="candidate_bias", shape=(self.units,), initializer="zeros"
        )

    def call(self, x: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        """Returns the next state, which is also the cell's output."""
        for_z, for_r, for_a = tf.split(self.of_input(x), 3, axis=-1)
        if self.of_reset is None:
            state_z, state_r, state_a = tf.split(self.of_state(state), 3, axis=-1)
            reset = tf.sigmoid(for_r + state_r)
            candidate = tf.tanh(for_a + reset * (state_a + self.candidate_bias))
        else:
            state_z, state_r = tf.split(self.of_state(state), 2, axis=-1)
            reset = tf.sigmoid(for_r + state_r)
            candidate = tf.tanh(for_a + self.of_reset(reset * state))
        keep = tf.sigmoid(for_z + state_z)
        return keep * state + (1.0 - keep) * candidate

    def initial_state(self, batch_size: Any, sizes: Sequence[int]) -> tf.Tensor:
        """Zeros of shape `(batch_size, *sizes, units)`."""
        return tf.zeros([batch_size, *sizes, self.units], self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "kernel_size": self.kernel_size,
            "rank": self.rank,
            "padding": self.padding,
            "reset_after": self.reset_after,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable("rim_tf")
class GRUBlock(keras.layers.Layer):
    """Two gated recurrent units with a convolution between and one behind.

        h1' = GRU_1(x, h1)
        h2' = GRU_2(tanh(V * h1'), h2)
        out = W * h2'

    Both states are new at every step.

    Args:
        units: Channels of the two states together; even.
        filters: Channels of the output.
        kernel_size: Width of the kernels inside the cells.
        conv_kernel_size: Width of the kernels of `V` and `W`; the cells' when `None`.
        rank: Number of spatial axes, 0 to 3.
        padding: "zero", "reflect" or "periodic".
        reset_after: As for `ConvGRUCell`.
        seed: Makes the initial weights reproducible.
        **kwargs: Keras's own, such as `name` and `dtype`.

    Call arguments:
        x: `(batch, *sizes, channels)`.
        state: The two states, `(batch, *sizes, units / 2)` each.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or `units` is odd.

    References:
        Morningstar et al. (2019), arXiv:1901.01359, section 2.2.
    """

    def __init__(
        self,
        units: int,
        filters: int,
        kernel_size: int = 5,
        *,
        rank: int,
        conv_kernel_size: int | None = None,
        padding: str = "zero",
        reset_after: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = checks.integer("units", units, minimum=2)
        if self.units % 2:
            raise ValueError(f"`units` must be even, half for each state, got {self.units}.")
        self.filters = checks.integer("filters", filters, minimum=1)
        self.kernel_size = checks.integer("kernel_size", kernel_size, minimum=1)
        self.conv_kernel_size = self.kernel_size
        if conv_kernel_size is not None:
            self.conv_kernel_size = checks.integer("conv_kernel_size", conv_kernel_size, minimum=1)
        self.rank = check_rank("rank", rank)
        self.padding = checks.choice("padding", padding, PADDINGS)
        self.reset_after = checks.flag("reset_after", reset_after)
        self.seed = seed
        self._make_layers()

    def _make_layers(self) -> None:
        seeds = spawn(self.seed, 4)
        shared = {"rank": self.rank, "padding": self.padding, "dtype": self.dtype_policy}
        half = self.units // 2
        self.first, self.second = (
            ConvGRUCell(
                half,
                self.kernel_size,
                reset_after=self.reset_after,
                seed=seed,
                **shared,
            )
            for seed in seeds[:2]
        )
        self.between = Convolution(
            half,
            self.conv_kernel_size,
            use_bias=False,
            activation="tanh",
            kernel_initializer=keras.initializers.GlorotUniform(seeds[2]),
            **shared,
        )
        self.behind = Convolution(
            self.filters,
            self.conv_kernel_size,
            use_bias=False,
            kernel_initializer=keras.initializers.GlorotUniform(seeds[3]),
            **shared,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights for inputs of `input_shape`."""
        state_shape = (*input_shape[:-1], self.units // 2)
        self.first.build(input_shape)
        for layer in (self.between, self.second, self.behind):
            layer.build(state_shape)

    def call(self, x: tf.Tensor, state: Sequence[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns the output `(batch, *sizes, filters)` and the two new states."""
        first = self.first(x, state[0])
        second = self.second(self.between(first), state[1])
        return self.behind(second), [first, second]

    def initial_state(self, batch_size: Any, sizes: Sequence[int]) -> list[tf.Tensor]:
        """Two tensors of zeros, `(batch_size, *sizes, units / 2)`."""
        return [cell.initial_state(batch_size, sizes) for cell in (self.first, self.second)]

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "rank": self.rank,
            "conv_kernel_size": self.conv_kernel_size,
            "padding": self.padding,
            "reset_after": self.reset_after,
            "seed": self.seed,
        }
