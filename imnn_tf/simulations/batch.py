"""Batches of simulations, each simulation with the weights it has in the statistics."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import tensorflow as tf


class Batch(NamedTuple):
    """Simulations and what each contributes to the statistics of the whole set.

    The fiducial simulations stand first and the derivative simulations follow them. Each
    contributes on its own. Rows that pad a batch have the weight zero.
    """

    data: tf.Tensor  # [batch, *input_shape]
    fiducial_weights: tf.Tensor  # [n_fiducial], one or zero, in the mean and the covariance
    # Weights in the slope of the mean, ±1 / (n_d δθ) of the derivative simulations,
    # [batch − n_fiducial, n_params], or 1 / n_d of exact derivatives, [batch, n_params].
    slope_weights: tf.Tensor
    tangents: tf.Tensor | None = None  # [batch, *input_shape, n_params], exact derivatives ∂d/∂θ
    external: tf.Tensor | None = None  # [batch, n_external], external summaries
    external_tangents: tf.Tensor | None = None  # [batch, n_external, n_params], their derivatives


class Part(NamedTuple):
    """One of several parts of the batches: every `step`-th, from batch `first` on."""

    first: tf.Tensor | int  # []
    step: int


WHOLE = Part(0, 1)

# The simulations of a batch, `[batch, *input_shape]`, and, where derivatives are exact, the
# derivatives, `[batch, *input_shape, n_params]`.
Rows: TypeAlias = tuple[tf.Tensor, ...]
RowsAt: TypeAlias = Callable[[tf.Tensor], Rows]


def row_of(stack: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Takes one row of a stack of rows. Taking the only row there is makes no copy.

    Args:
        stack: The rows, `[n_rows, *shape]`.
        index: The index of the row, `[]`.

    Returns:
        The row, `[*shape]`.
    """
    return tf.squeeze(stack, axis=0) if stack.shape[0] == 1 else stack[index]
