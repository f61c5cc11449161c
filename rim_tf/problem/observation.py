"""What a RIM takes from an observation: tensors, the sizes that it decides, and its channels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from imnn_tf.utils import checks
from imnn_tf.utils.types import Numbers


def complex_type(dtype: str) -> str:
    """The type of complex numbers whose parts have a real type."""
    return "complex128" if dtype == "float64" else "complex64"


def as_array(value: Numbers, dtype: str) -> np.ndarray:
    """Converts a value to an array in the precision of a model.

    Args:
        value: Anything that `np.asarray` takes.
        dtype: The type of real numbers. Complex ones get that of the same precision, and integers
            keep theirs.

    Raises:
        TypeError: If it does not hold numbers.
        ValueError: If anything is masked.
    """
    array = checks.unmasked("an array of the data", value)
    if array.dtype.kind not in "biufc" and array.dtype.name != "bfloat16":
        raise TypeError(f"An array of the data must hold numbers, got {array.dtype}.")
    wanted = {"f": dtype, "c": complex_type(dtype)}.get(array.dtype.kind)
    return array if wanted is None else array.astype(wanted, copy=False)


def as_arrays(value: Any, dtype: str) -> Any:
    """Converts an argument to an array, or each part of one that has several.

    Args:
        value: Anything that `np.asarray` takes, or a nest of arrays. Lists of numbers are an array.
        dtype: The type of real numbers, as `as_array` takes it.
    """
    leaves = tf.nest.flatten(value)
    if isinstance(value, list) and not any(getattr(leaf, "ndim", 0) for leaf in leaves):
        return as_array(value, dtype)
    return tf.nest.map_structure(lambda each: as_array(each, dtype), value)


def as_tensors(inputs: Any, dtype: str) -> list[Any]:
    """Converts the inputs of a RIM to tensors, with real and complex numbers in one precision.

    Args:
        inputs: The observation `y`, or a tuple `(y, *args)` with the other arguments of the score,
            all `[batch, ...]`.
        dtype: The type of real numbers. Complex ones get that of the same precision, and integers
            keep theirs.

    Returns:
        The list `[y, *args]` of tensors, in the same shapes.
    """

    def convert(value: Any) -> tf.Tensor:
        tensor = tf.convert_to_tensor(value)
        if tensor.dtype.is_complex:
            return tf.cast(tensor, complex_type(dtype))
        return tf.cast(tensor, dtype) if tensor.dtype.is_floating else tensor

    inputs = inputs if isinstance(inputs, tuple | list) else (inputs,)
    return [tf.nest.map_structure(convert, value) for value in inputs]


def observed_sizes(y: tf.Tensor, dimensions: Sequence[int | None]) -> list[Any]:
    """The spatial sizes of the parameters, taken from the observation where they are not known.

    Args:
        y: The observation, `[batch, ...]`.
        dimensions: The spatial sizes of the parameters, `None` for one that is not known.

    Returns:
        One integer for each of `dimensions`, or a tensor `[]` for a size that differs from batch
        to batch.

    Raises:
        ValueError: If the observation does not have the axis of a size that is not known.
    """
    sizes: list[Any] = []
    for axis, size in enumerate(dimensions, start=1):
        if size is not None:
            sizes.append(size)
        elif axis >= len(y.shape):
            raise ValueError(
                f"`dimensions` {tuple(dimensions)} leaves sizes to the observation, "
                f"but that has shape {y.shape}."
            )
        else:  # what is not even known of the observation may differ from batch to batch
            sizes.append(tf.shape(y)[axis] if y.shape[axis] is None else y.shape[axis])
    return sizes


def require_real(name: str, value: tf.Tensor, advice: str = "") -> None:
    """Checks that a tensor is not complex: a cast to real numbers would drop the imaginary part.

    Args:
        name: What the tensor is, for the message.
        value: The tensor.
        advice: What to do instead, a clause that ends the sentence. Defaults to none.

    Raises:
        TypeError: If it is complex.
    """
    if value.dtype.is_complex:
        raise TypeError(f"{name} must be real, got {value.dtype.name}{advice}.")


def as_channels(y: tf.Tensor, dimensions: Sequence[int | None], channels: int) -> list[tf.Tensor]:
    """The observation as channels on the grid of the parameters.

    Args:
        y: The observation, `[batch, *dimensions, channels]`; the last axis may be missing if
            there is one channel. The real parts of complex channels come first, then the
            imaginary parts.
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
    if y.dtype.is_complex:
        y = tf.concat([tf.math.real(y), tf.math.imag(y)], -1)
    expected = (*dimensions, channels)
    if not tf.TensorShape(expected).is_compatible_with(y.shape[1:]):
        raise ValueError(
            f"`y` must have shape (batch, *{expected}) to be shown to the network as "
            f"`observation_channels` says, got {y.shape}."
        )
    return [y]
