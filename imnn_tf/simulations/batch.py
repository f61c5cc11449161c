"""What every source of simulations gives: batches of data, each simulation with a small label."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf


class Batch(NamedTuple):
    """Simulations and what each adds to the statistics of the whole.

    A simulation contributes on its own, so batches need no order and no grouping, and a row
    whose labels are all zero is padding.
    """

    data: tf.Tensor  # [batch, *input_shape]
    fiducial: tf.Tensor  # [batch], one for a simulation at the fiducial parameters, else zero
    slope: tf.Tensor  # [batch, n_params], its weights in the slope of the mean, zero at fiducial
    tangents: tf.Tensor | None = None  # [batch, *input_shape, n_params], ∂d/∂θ where it is exact


class Simulations(Protocol):
    """A set of simulations, in batches of one size."""

    n_batches: int
    n_params: int
    dtype: tf.DType
    compilable: bool  # whether all that makes the batches is code that XLA may compile
    blocks: tuple[int, ...]  # sizes of the runs of rows in a batch that share their noise

    def begin(self, update: tf.Tensor | int = 0) -> Callable[[tf.Tensor], Batch]:
        """Starts a pass over the simulations.

        Args:
            update: The number of the update they are for, `[]`, int64: simulations made on the
                fly are other ones for every update, and the same for the same.

        Returns:
            The batch of a given index. Two calls with one index give the same batch, so that
            one update may go through them twice.
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
