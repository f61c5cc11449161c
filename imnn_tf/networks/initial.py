"""What the layers of all networks share: their initial weights, type and activation."""

from collections.abc import Callable, Iterator
from itertools import count, repeat

import keras
import numpy as np
from numpy.typing import DTypeLike

from imnn_tf.utils import checks
from imnn_tf.utils.types import KerasLayer

# The slope of a leaky ReLU below zero, that of the reference problem.
_SLOPE = 0.01


class Initial:
    """The type of a network, and initial weights that differ from layer to layer.

    Args:
        seed: Seed of the weights; different ones in every network by default.
        dtype: Floating type or a Keras policy; by default that of Keras.

    Attributes:
        policy: Name of the Keras policy of every layer.
        input_dtype: Name of the type of the network's input.
    """

    def __init__(self, seed: int | None, dtype: DTypeLike | str | None) -> None:
        self._seeds: Iterator[int | None] = (
            repeat(None) if seed is None else count(1000 * checks.integer("seed", seed))
        )
        if dtype is not None and not isinstance(dtype, str | keras.DTypePolicy):
            dtype = getattr(dtype, "name", None) or np.dtype(dtype).name
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        self.policy: str = policy.name
        self.input_dtype: str = policy.variable_dtype

    def weights(self) -> dict[str, object]:
        """Keywords of the next layer that has weights."""
        initialiser = keras.initializers.GlorotUniform(next(self._seeds))
        return {"kernel_initializer": initialiser, "dtype": self.policy}

    def spread(self) -> dict[str, object]:
        """Keywords of the next layer if its units are to bend at different values of order one.

        With biases of zero all units would bend at zero, and be straight for positive fields.
        """
        normal = [keras.initializers.RandomNormal(0.0, 1.0, next(self._seeds)) for _ in range(2)]
        return {
            "kernel_initializer": normal[0],
            "bias_initializer": normal[1],
            "dtype": self.policy,
        }


def activation_layer(activation: str | Callable[..., object] | None, policy: str) -> KerasLayer:
    """A layer that applies an activation; a leaky ReLU with slope 0.01 if that is `None`."""
    if activation is None:
        return keras.layers.LeakyReLU(_SLOPE, dtype=policy)
    return keras.layers.Activation(activation, dtype=policy)
