"""Whether the sides of derivative simulations stand where their parameters should."""

import logging

import numpy as np
import tensorflow as tf

from imnn_tf.simulations.layout import Layout
from imnn_tf.utils.tensors import known_shape

logger = logging.getLogger(__name__)

# Derivative simulations that are compared, at least and at most, and numbers of all of them.
_LEAST, _MOST, _NUMBERS = 10, 200, 10_000_000

# The ratio of squares below which axes count as exchanged. Of 10 simulations whose sides do not
# share their noise, one set in 50,000 comes below it by chance.
_RATIO = 0.05


def warn_of_exchanged(name: str, data: tf.Tensor, layout: Layout) -> None:
    """Warns if the axes of sides and parameters of two parameters seem to be exchanged.

    The members of a derivative share their noise. So the mean over both sides is the same for
    every parameter, to second order in `δθ`, and the mean over the parameters differs between the
    sides, to first order. With exchanged axes it is the other way round.

    Args:
        name: The argument that derivative simulations were passed in.
        data: The first batch, `[rows, *shape]`.
        layout: Where each simulation stands in it.
    """
    if layout.exact or layout.n_params != 2 or layout.n_d < _LEAST:
        return
    varied = tf.reshape(data[layout.blocks[0] :], [2, 2, layout.blocks[1], -1])
    size = max(known_shape(varied)[-1], 1)
    rows = min(layout.blocks[1], _MOST, max(_LEAST, _NUMBERS // size))
    if rows < _LEAST:
        return
    sides = varied[:, :, :rows].numpy().astype(np.float64)
    between_sides = np.square(sides[1].sum(axis=0) - sides[0].sum(axis=0)).mean()
    between_parameters = np.square(sides[:, 1].sum(axis=0) - sides[:, 0].sum(axis=0)).mean()
    # Two parameters that cancel leave nothing but second orders between the sides.
    crossed = np.square(sides[1, 1] - sides[1, 0] - sides[0, 1] + sides[0, 0]).mean()
    if between_sides < _RATIO * between_parameters and between_parameters > _RATIO * crossed:
        logger.warning(
            "`%s` seems to have the axes of sides and parameters exchanged: the mean over the "
            "first axis, which should be the sides, differs between parameters %.3g times as much "
            "as the mean over the parameters differs between the sides. Below the fiducial point "
            "must be `[:, 0]`, above it `[:, 1]`, and parameter α `[:, :, α]`.",
            name,
            np.sqrt(between_parameters / between_sides) if between_sides > 0 else np.inf,
        )
