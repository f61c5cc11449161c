"""Running a trained RIM: one compiled function for each number of steps, fed in batches."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from imnn_tf.utils import checks


def compiled(rim: Any, steps: int, trajectory: bool, jit: bool) -> Callable[..., Any]:
    """The function from inputs to parameters, for tensors of fixed shapes.

    Args:
        rim: The model.
        steps: The number of steps.
        trajectory: Whether it returns all steps or the last.
        jit: Whether XLA compiles it.
    """

    def predict(inputs: tuple[Any, ...]) -> Any:
        unlinked = rim(inputs, training=False, T=steps)
        return rim.parameters.link(unlinked if trajectory else unlinked[:, -1])

    return tf.function(predict, jit_compile=jit, autograph=False)


def in_batches(
    predict: Callable[..., Any], inputs: Sequence[Any], batch_size: int | None, dtype: str
) -> Any:
    """Runs a compiled function over arrays in batches of one size.

    The last batch is filled up with copies of an example, so that nothing is compiled twice.

    Args:
        predict: As made by `compiled`.
        inputs: The observation and the score's other arguments.
        batch_size: How many examples at once; all, up to 256, when `None`.
        dtype: The precision of real numbers.

    Returns:
        The results as NumPy arrays.

    Raises:
        TypeError: If `batch_size` is not an integer.
        ValueError: If it is not positive, or the batch axes differ.
    """
    arrays = [tf.nest.map_structure(lambda v: _plain(v, dtype), value) for value in inputs]
    count = _count(tf.nest.flatten(arrays[0])[0])
    arrays = [
        tf.nest.map_structure(lambda v, k=k: _batched(v, count, k), value)
        for k, value in enumerate(arrays)
    ]
    size = min(count, 256)
    if batch_size is not None:
        size = min(count, checks.integer("batch_size", batch_size, minimum=1))
    results = []
    for start in range(0, count, size):
        rows = np.minimum(np.arange(start, start + size), count - 1)
        part = slice(start, start + size) if start + size <= count else rows
        batch = tf.nest.map_structure(lambda v, part=part: v[part], arrays)
        batch = tf.nest.map_structure(tf.convert_to_tensor, batch)
        results.append(predict(tuple(batch)))
    return tf.nest.map_structure(
        lambda *parts: np.concatenate([part.numpy() for part in parts])[:count], *results
    )


def inputs_of(data: Any) -> Any:
    """The model's inputs in an element of a data set, whichever way it is laid out."""
    if not isinstance(data, tuple | list):
        return data
    y, *rest = data
    if isinstance(y, tuple | list):
        return y
    return (y, *rest[1:])


def _plain(value: Any, dtype: str) -> np.ndarray:
    array = np.asarray(value)
    return array.astype(dtype, copy=False) if array.dtype.kind == "f" else array


def _count(y: np.ndarray) -> int:
    if y.ndim == 0 or len(y) == 0:
        raise ValueError(f"`y` must have a batch axis with examples, got shape {y.shape}.")
    return len(y)


def _batched(array: np.ndarray, count: int, position: int) -> np.ndarray:
    if array.ndim == 0:
        return np.full(count, array)
    if len(array) != count:
        raise ValueError(
            f"Argument {position} must have the batch axis of `y`, {count}, "
            f"got shape {array.shape}."
        )
    return array
