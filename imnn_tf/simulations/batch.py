"""What every source of simulations gives: batches of data, each simulation with a small label."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf


class Batch(NamedTuple):
    """Simulations and what each adds to the statistics of the whole.

    The fiducial simulations stand first, the derivative simulations behind them. Each contributes
    on its own, with its weight; padding has the weight zero.
    """

    data: tf.Tensor  # [batch, *input_shape]
    fiducial: tf.Tensor  # [fiducial], weights in mean and covariance, one or zero
    # Weights in the slope of the mean: of the derivative simulations, `[batch − fiducial,
    # n_params]`, or of the exact derivatives, `[batch, n_params]`.
    slope: tf.Tensor
    tangents: tf.Tensor | None = None  # [batch, *input_shape, n_params], ∂d/∂θ where it is exact
    external: tf.Tensor | None = None  # [batch, n_external], summaries beside the network's
    external_tangents: tf.Tensor | None = None  # [batch, n_external, n_params], where exact


# One of several parts of the batches: of `count` parts, part `index` has every `count`-th batch,
# beginning with that of its own index.
Part = tuple[tf.Tensor | int, int]

BatchAt = Callable[[tf.Tensor], Batch]


class Passes(Protocol):
    """Starts passes over parts of the batches."""

    def __call__(self, part: Part = (0, 1), /) -> BatchAt:
        """Starts one over a part, all batches if it is left out."""


class Simulations(Protocol):
    """A set of simulations, in batches of one size."""

    n_batches: int
    n_params: int
    n_external: int  # number of external summaries, beside the network's
    dtype: tf.DType
    compilable: bool  # whether all that makes the batches is code that XLA may compile
    blocks: tuple[int, ...]  # rows of a batch that are fiducial, then of each parameter and side

    def begin(self, update: tf.Tensor | int = 0) -> Passes:
        """Makes the simulations of an update ready.

        Args:
            update: Its number, `[]`, int64: simulations made on the fly are other ones for every
                update, and the same for the same.

        Returns:
            Starts a pass over a part of the batches, all if it is given none; every pass has the
            same batches. A pass returns the batch of a given index; the indices of its part must
            be gone through in their order.
        """


def slope_weights(n_d: int, delta_theta: np.ndarray) -> np.ndarray:
    """Weights of a derivative simulation in the slope of the mean.

    Args:
        n_d: Number of derivative simulations of each parameter and side.
        delta_theta: Differences of the parameters between the sides, `[n_params]`.

    Returns:
        `[2, n_params, n_params]`: for the side (below, above) and the parameter varied, the
        weight in each row of the slope: `∓1/(n_d δθ_α)` in that of the parameter varied.
    """
    above = np.diag(1 / (n_d * np.asarray(delta_theta)))
    return np.stack([-above, above])
