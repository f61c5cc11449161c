"""What a RIM needs of a network, and the check that a network has it."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import keras
import tensorflow as tf

from imnn_tf.utils import checks

# The hidden state of a network: any nest of tensors, each with the batch as its first axis.
State: TypeAlias = Any


class StepNetwork(Protocol):
    """What a RIM needs of a network, which must also be a Keras layer.

    Attributes:
        channels: The number of channels of the parameters, and so of a step.
    """

    channels: int

    def initial_state(self, batch_size: Any, sizes: Sequence[int]) -> State:
        """The hidden state before the first step.

        Args:
            batch_size: The number of examples, a number or a tensor `[]`.
            sizes: The spatial sizes of the parameters. Sizes that differ from batch to batch are
                tensors `[]`.

        Returns:
            Any nest of tensors `[batch_size, ...]`.
        """

    def __call__(self, inputs: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """One step.

        Args:
            inputs: The iterate, the score and, if it is shown, the observation, side by side as
                channels, `[batch, *sizes, any]`.
            state: The hidden state, any nest of tensors `[batch, ...]`.

        Returns:
            The step, `[batch, *sizes, channels]`, and the new hidden state, of the structure and
            the shapes of `state`.
        """


def check_network(network: Any, dimensions: Sequence[int | None], input_channels: int) -> None:
    """Makes the weights of a network, and checks that it is what a RIM needs.

    Args:
        network: The network, with the attribute `channels` already checked.
        dimensions: The spatial sizes of the parameters, `None` for a size that is not known.
        input_channels: The number of channels that the network will see.

    Raises:
        TypeError: If it is not a Keras layer, or has no method `initial_state`.
        ValueError: If it has another number of dimensions, or if a step or a new state has a
            wrong shape.
    """
    if not isinstance(network, keras.layers.Layer):
        raise TypeError(
            f"`network` must be a keras.layers.Layer or keras.Model, got {type(network).__name__}."
        )
    checks.function("network.initial_state", getattr(network, "initial_state", None))
    rank = getattr(network, "dimensions", None)
    if isinstance(rank, int) and rank != len(dimensions):
        raise ValueError(
            f"`network` must have as many dimensions as `dimensions` {tuple(dimensions)}, "
            f"got {rank}."
        )
    # The weights do not depend on the sizes, so any number will do for those that are not known.
    sizes = [16 if size is None else size for size in dimensions]
    state = network.initial_state(1, sizes)
    step, new_state = network(tf.zeros([1, *sizes, input_channels]), state)
    expected = [1, *sizes, network.channels]
    if step.shape.as_list() != expected:
        raise ValueError(f"`network` must return a step {expected}, got {step.shape}.")
    old, new = (tf.nest.map_structure(tf.shape, each) for each in (state, new_state))
    tf.nest.assert_same_structure(old, new)
    for was, now in zip(tf.nest.flatten(old), tf.nest.flatten(new), strict=True):
        if was.numpy().tolist() != now.numpy().tolist():
            raise ValueError(
                f"`network` must return states of the shapes it got, {was.numpy()}, "
                f"got {now.numpy()}."
            )
