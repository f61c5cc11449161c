"""Gated recurrent units whose matrices are convolutions, in 0 to 3 dimensions."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from imnn_tf.utils import checks
from imnn_tf.utils.seeds import layer_seeds
from rim_tf.networks.layers import PADDINGS, ConfiguredLayer, Convolution, check_rank


@keras.saving.register_keras_serializable("rim_tf")
class ConvGRUCell(ConfiguredLayer):
    r"""A gated recurrent unit in 0 to 3 dimensions.

    With `*` a convolution (a matrix product in 0 dimensions) and `.` the product of entries, the
    cell takes a step from the state `h` to `h'` under the input `x`:

        z  = sigmoid(W_z * x + U_z * h + b_z)
        r  = sigmoid(W_r * x + U_r * h + b_r)
        a  = tanh(W_a * x + b_a + r . (U_a * h + c_a))      reset_after=True
        a  = tanh(W_a * x + b_a + U_a * (r . h))            reset_after=False
        h' = z . h + (1 - z) . a

    The gate `z` keeps the old state, as in Cho et al. and Keras. Ballas et al. and Sonnet
    exchange `z` and `1 - z` in the last line, which describes the same family of functions.

    By default the reset gate acts after the convolution of the state, as in Keras. One
    convolution of the state then serves both gates and the candidate `a`. In 0 dimensions the cell
    equals `keras.layers.GRUCell`, except that Keras gives both gates a second bias, which only
    adds to the first.

    Args:
        units: The number of channels of the state.
        kernel_size: The width of the kernels along every axis. Defaults to 3.
        rank: The number of spatial axes, 0 to 3.
        padding: "zero" (the default), "reflect" or "periodic".
        reset_after: Whether the reset gate acts after the convolution of the state. Defaults to
            True.
        seed: A non-negative integer that makes the initial weights reproducible. Defaults to
            `None`, seeds that Keras draws.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: `[batch, *sizes, channels]`.
        state: `[batch, *sizes, units]`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    References:
        Cho et al. (2014), arXiv:1406.1078, equations 5 to 8, for the unit; Ballas et al. (2016),
        arXiv:1511.06432, equations 4 to 7, for its convolutions.
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
        # Keras's initialisers for a GRU: orthogonal matrices keep the norm of the state. `get`
        # draws from Keras's global generator, so it decides which weights an unseeded cell has
        # after `keras.utils.set_random_seed`. Calling the classes would change them.
        kernel, recurrent, candidate = (
            type(keras.initializers.get(name))(seed=each)
            for name, each in zip(
                ("glorot_uniform", "orthogonal", "orthogonal"), layer_seeds(seed), strict=False
            )
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
        # Without biases: those of the input's convolution add to the same sums.
        self.of_state = convolution(gates * self.units, recurrent, False)
        self.of_reset = None if reset_after else convolution(self.units, candidate, False)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights for inputs `(batch, *sizes, channels)`; only channels must be known."""
        state_shape = (*input_shape[:-1], self.units)
        self.of_input.build(input_shape)
        self.of_state.build(state_shape)
        if self.of_reset is not None:
            self.of_reset.build(state_shape)
            return
        # c_a, which the reset gate multiplies, so that b_a cannot stand in for it.
        self.candidate_bias = self.add_weight(
            name="candidate_bias", shape=(self.units,), initializer="zeros"
        )

    def call(self, x: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        """Returns the new state, `[batch, *sizes, units]`, which is also the cell's output.

        Args:
            x: `[batch, *sizes, channels]`.
            state: The state before, `[batch, *sizes, units]`.
        """
        # The channels hold z, r and a in this order, which saved weights rely on.
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
        """Zeros, `[batch_size, *sizes, units]`.

        Args:
            batch_size: The number of examples, a number or a tensor `[]`.
            sizes: The spatial sizes of the state.
        """
        return tf.zeros([batch_size, *sizes, self.units], self.compute_dtype)


@keras.saving.register_keras_serializable("rim_tf")
class GRUBlock(ConfiguredLayer):
    """Two gated recurrent units with a convolution between them and another after them.

        h1' = GRU_1(x, h1)
        h2' = GRU_2(tanh(V * h1'), h2)
        out = W * h2'

    Both states change at every step.

    Args:
        units: The number of channels of the two states together; even.
        filters: The number of channels of the output.
        kernel_size: The width of the kernels inside the cells. Defaults to 5.
        rank: The number of spatial axes, 0 to 3.
        conv_kernel_size: The width of the kernels of `V` and `W`. Defaults to `None`, the width
            inside the cells.
        padding: "zero" (the default), "reflect" or "periodic".
        reset_after: Whether the reset gates act after the convolution of the state, as for
            `ConvGRUCell`. Defaults to True.
        seed: A non-negative integer that makes the initial weights reproducible. Defaults to
            `None`, seeds that Keras draws.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        x: `[batch, *sizes, channels]`.
        state: The two states `h1` and `h2`, `[batch, *sizes, units / 2]` each.

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
        seeds = layer_seeds(seed)
        shared: dict[str, Any] = {
            "rank": self.rank,
            "padding": self.padding,
            "dtype": self.dtype_policy,
        }
        half = self.units // 2

        def cell() -> ConvGRUCell:
            return ConvGRUCell(
                half, self.kernel_size, reset_after=reset_after, seed=next(seeds), **shared
            )

        def convolution(filters: int, activation: str | None) -> Convolution:
            return Convolution(
                filters,
                self.conv_kernel_size,
                use_bias=False,
                activation=activation,
                kernel_initializer=keras.initializers.GlorotUniform(next(seeds)),
                **shared,
            )

        # The order decides which seed each layer gets, and the order of the saved variables.
        self.first, self.second = cell(), cell()
        self.between = convolution(half, "tanh")
        self.behind = convolution(self.filters, None)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights for inputs `(batch, *sizes, channels)`; only channels must be known."""
        state_shape = (*input_shape[:-1], self.units // 2)
        self.first.build(input_shape)
        for layer in (self.between, self.second, self.behind):
            layer.build(state_shape)

    def call(self, x: tf.Tensor, state: Sequence[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns the output, `[batch, *sizes, filters]`, and the new states, of the old shapes.

        Args:
            x: `[batch, *sizes, channels]`.
            state: The two states, `[batch, *sizes, units / 2]` each.
        """
        first = self.first(x, state[0])
        second = self.second(self.between(first), state[1])
        return self.behind(second), [first, second]

    def initial_state(self, batch_size: Any, sizes: Sequence[int]) -> list[tf.Tensor]:
        """Two tensors of zeros, `[batch_size, *sizes, units / 2]`.

        Args:
            batch_size: The number of examples, a number or a tensor `[]`.
            sizes: The spatial sizes of the states.
        """
        return [cell.initial_state(batch_size, sizes) for cell in (self.first, self.second)]
