"""A dense network, for data that are a vector of numbers."""

from collections.abc import Callable, Sequence

import keras
from numpy.typing import DTypeLike

from imnn_tf.networks.initial import Initial, activation_layer
from imnn_tf.utils import checks
from imnn_tf.utils.types import KerasModel


def dense_network(
    n_inputs: int,
    n_summaries: int,
    *,
    hidden: Sequence[int] = (128, 128),
    activation: str | Callable[..., object] | None = None,
    seed: int | None = None,
    dtype: DTypeLike | str | None = None,
) -> KerasModel:
    """A network for vectors whose entries have no order that could be used.

    Two hidden layers of 128 with a leaky ReLU are the network of the reference problem, the mean
    and the variance of ten Gaussian draws. Fitted with the defaults on 1,000 stored simulations it
    keeps det F = 44.7 of 50, and 50.0 with new simulations at every update.

    Args:
        n_inputs: Length of one simulation.
        n_summaries: The number of summaries.
        hidden: Widths of the hidden layers; none make the summaries linear in the data.
        activation: Name of a Keras activation or a function; by default a leaky ReLU with slope
            0.01.
        seed: Seed of the initial weights; different ones in every call by default.
        dtype: Floating type, or a Keras policy; by default that of Keras.

    Returns:
        A model from `[batch, n_inputs]` to `[batch, n_summaries]`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a size is below one.

    Example:
        >>> from imnn_tf.networks import dense_network
        >>> dense_network(10, 2).output_shape
        (None, 2)

    References:
        Charnock, Lavaux & Wandelt (2018), arXiv:1802.03537.
    """
    n_inputs = checks.integer("n_inputs", n_inputs, minimum=1)
    n_summaries = checks.integer("n_summaries", n_summaries, minimum=1)
    initial = Initial(seed, dtype)
    x = data = keras.Input((n_inputs,), dtype=initial.input_dtype)
    for width in checks.sizes("hidden", hidden):
        x = keras.layers.Dense(width, **initial.weights())(x)
        x = activation_layer(activation, initial.policy)(x)
    return keras.Model(data, keras.layers.Dense(n_summaries, **initial.weights())(x), name="dense")
