"""What the layers of all networks share: their initial weights, type and activation."""

from collections.abc import Callable, Iterator
from itertools import count, repeat

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import DTypeLike

from imnn_tf.utils import checks
from imnn_tf.utils.types import Json, KerasLayer

# The slope of a leaky ReLU below zero, that of the reference problem.
_SLOPE = 0.01

# Units that see single values bend between -2 and 2, about as sharply as eight of them are apart.
# With normal kernels and biases most of them bend far from all values of a log-normal field.
_REACH, _STEEPNESS = 2.0, 2.0


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
        """Keywords of the next layer if its units are to bend at different values of order one."""
        return {
            "kernel_initializer": Directions(_STEEPNESS, next(self._seeds)),
            "bias_initializer": EvenlySpread(_STEEPNESS * _REACH),
            "dtype": self.policy,
        }


@keras.saving.register_keras_serializable("imnn_tf")
class Directions(keras.initializers.Initializer):
    """Kernels of units that point in random directions, with the same length.

    Of two opposite directions the one whose first entry is positive is drawn. For an activation
    such as `x Φ(x)` the other one differs by a linear function only.

    Args:
        length: Length of the weights of each unit.
        seed: Seed of the directions; different ones in every call by default.
    """

    def __init__(self, length: float, seed: int | None = None) -> None:
        self.length, self.seed = length, seed

    def __call__(self, shape: tuple[int, ...], dtype: str | None = None) -> tf.Tensor:
        """Kernels `[n_inputs, n_units]`."""
        drawn = np.random.default_rng(self.seed).standard_normal(shape)
        drawn *= self.length * np.sign(drawn[:1]) / np.linalg.norm(drawn, axis=0)
        return keras.ops.convert_to_tensor(drawn, dtype)

    def get_config(self) -> dict[str, Json]:
        """The arguments of the constructor."""
        return {"length": self.length, "seed": self.seed}


@keras.saving.register_keras_serializable("imnn_tf")
class EvenlySpread(keras.initializers.Initializer):
    """Biases at the centres of equal parts of the interval from `-limit` to `limit`.

    Args:
        limit: Half the length of the interval.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def __call__(self, shape: tuple[int, ...], dtype: str | None = None) -> tf.Tensor:
        """Biases `[n_units]`, from the largest to the smallest."""
        (n_units,) = shape
        centres = self.limit * (1 - (2 * np.arange(n_units) + 1) / n_units)
        return keras.ops.convert_to_tensor(centres, dtype)

    def get_config(self) -> dict[str, Json]:
        """The arguments of the constructor."""
        return {"limit": self.limit}


def activation_layer(activation: str | Callable[..., object] | None, policy: str) -> KerasLayer:
    """A layer that applies an activation; a leaky ReLU with slope 0.01 if that is `None`."""
    if activation is None:
        return keras.layers.LeakyReLU(_SLOPE, dtype=policy)
    return keras.layers.Activation(activation, dtype=policy)
