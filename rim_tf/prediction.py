"""Running a trained RIM: one compiled function for each number of steps, fed in batches."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from imnn_tf.utils import checks
from imnn_tf.utils.types import KerasModel
from rim_tf.problem.parameters import Values


def compiled(rim: KerasModel, steps: int, trajectory: bool, jit: bool) -> Callable[..., Values]:
    """Makes the function from inputs to parameters, which is traced once for each shape.

    Args:
        rim: The model.
        steps: The number of steps.
        trajectory: Whether the function returns all steps or the last one.
        jit: Whether XLA compiles it.

    Returns:
        A function of the tuple `(y, *args)`. It returns the parameters in their own space,
        `[batch, *dimensions, channels]`, or `[batch, T, *dimensions, channels]` with
        `trajectory`.
    """

    def predict(inputs: tuple[Any, ...]) -> Values:
        unlinked = rim(inputs, training=False, T=steps)
        return rim.parameters.link(unlinked if trajectory else unlinked[:, -1])

    # Without AutoGraph: it would rewrite the user's functions, and it fails on some lambdas.
    return tf.function(predict, jit_compile=jit, autograph=False)


def in_batches(
    predict: Callable[..., Values], inputs: Sequence[Any], batch_size: int | None, dtype: str
) -> Any:
    """Runs a compiled function over arrays in batches of one size.

    Args:
        predict: What `compiled` returned, which takes and returns `[batch, ...]`.
        inputs: The observation and the other arguments of the score, `[batch, ...]` each. A scalar
            holds for every example.
        batch_size: The number of examples at once. `None` means all of them up to 256.
        dtype: The type of real numbers.

    Returns:
        The results, `[batch, ...]`, as NumPy arrays.

    Raises:
        TypeError: If `batch_size` is not an integer.
        ValueError: If `batch_size` is not positive, or the batch axes differ.
    """

    def plain(value: Any) -> np.ndarray:
        array = np.asarray(value)
        return array.astype(dtype, copy=False) if array.dtype.kind == "f" else array

    arrays = [tf.nest.map_structure(plain, value) for value in inputs]
    first = tf.nest.flatten(arrays[0])[0]
    if first.ndim == 0 or len(first) == 0:
        raise ValueError(f"`y` must have a batch axis with examples, got shape {first.shape}.")
    count = len(first)
    arrays = [
        tf.nest.map_structure(lambda array, k=k: _with_batch_axis(array, count, k), value)
        for k, value in enumerate(arrays)
    ]
    size = min(count, 256)
    if batch_size is not None:
        size = min(count, checks.integer("batch_size", batch_size, minimum=1))
    results = []
    for start in range(0, count, size):
        # The last batch is filled up with copies of the last example: a smaller one would have
        # to be compiled.
        rows: Any = slice(start, start + size)
        if start + size > count:
            rows = np.minimum(np.arange(start, start + size), count - 1)
        batch = tf.nest.map_structure(
            lambda array, rows=rows: tf.convert_to_tensor(array[rows]), arrays
        )
        results.append(predict(tuple(batch)))
    return tf.nest.map_structure(
        lambda *parts: np.concatenate([part.numpy() for part in parts])[:count], *results
    )


def _with_batch_axis(array: np.ndarray, count: int, position: int) -> np.ndarray:
    if array.ndim == 0:
        return np.full(count, array)
    if len(array) != count:
        raise ValueError(
            f"Argument {position} must have the batch axis of `y`, {count}, "
            f"got shape {array.shape}."
        )
    return array
