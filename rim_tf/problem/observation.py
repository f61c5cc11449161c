"""What a RIM takes from an observation: tensors, the sizes that it decides, and its channels."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def as_tensors(inputs: Any, dtype: str) -> list[Any]:
    """Converts the inputs of a RIM to tensors, with real numbers in one precision.

    Args:
        inputs: The observation `y`, or a tuple `(y, *args)` with the other arguments of the score,
            all `[batch, ...]`.
        dtype: The type of real numbers. Integers keep theirs.

    Returns:
        The list `[y, *args]` of tensors, in the same shapes.
    """

    def convert(value: Any) -> tf.Tensor:
        tensor = tf.convert_to_tensor(value)
        return tf.cast(tensor, dtype) if tensor.dtype.is_floating else tensor

    inputs = inputs if isinstance(inputs, tuple | list) else (inputs,)
    return [tf.nest.map_structure(convert, value) for value in inputs]


def observed_sizes(y: tf.Tensor, dimensions: Sequence[int | None]) -> list[int]:
    """The spatial sizes of the parameters, taken from the observation where they are not known.

    Args:
        y: The observation, `[batch, ...]`.
        dimensions: The spatial sizes of the parameters, `None` for one that is not known.

    Returns:
        One number for each of `dimensions`.

    Raises:
        ValueError: If the observation does not have the axis of a size that is not known.
    """
    seen = y.shape[1 : 1 + len(dimensions)].as_list()
    seen += [None] * (len(dimensions) - len(seen))
    sizes = [want or got for want, got in zip(dimensions, seen, strict=True)]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        raise ValueError(
            f"`dimensions` {tuple(dimensions)} leaves sizes to the observation, "
            f"but that has shape {y.shape}."
        )
    return known


def as_channels(y: tf.Tensor, dimensions: Sequence[int | None], channels: int) -> list[tf.Tensor]:
    """The observation as channels on the grid of the parameters.

    Args:
        y: The observation, `[batch, *dimensions, channels]`; the last axis may be missing if
            there is one channel.
        dimensions: The spatial sizes of the parameters, `None` for one that is not known.
        channels: The number of channels that the network is to see.

    Returns:
        `[batch, *dimensions, channels]` in a list, which is empty if there are no channels.

    Raises:
        ValueError: If the observation has another shape.
    """
    if not channels:
        return []
    if len(y.shape) == len(dimensions) + 1:
        y = tf.expand_dims(y, -1)
    expected = (*dimensions, channels)
    if not tf.TensorShape(expected).is_compatible_with(y.shape[1:]):
        raise ValueError(
            f"`y` must have shape (batch, *{expected}) to be shown to the network as "
            f"`observation_channels` says, got {y.shape}."
        )
    return [y]
