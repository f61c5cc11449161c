"""What is known of a tensor before it has a value."""

from typing import cast

import numpy as np
import tensorflow as tf


def known_shape(tensor: tf.Tensor) -> tuple[int, ...]:
    """The static shape of a tensor of any shape, none of whose sizes is unknown."""
    return tuple(cast(list[int], list(tensor.shape)))


def identity_like(matrix: tf.Tensor) -> tf.Tensor:
    """The identity matrix, `[n, n]`, of the size and the type of a square matrix, `[n, n]`."""
    return tf.eye(known_shape(matrix)[0], dtype=matrix.dtype)


def rounding_error(tensor: tf.Tensor) -> float:
    """The relative rounding error, a number, of the floating type of a tensor of any shape."""
    return float(np.finfo(tensor.dtype.name).eps)
