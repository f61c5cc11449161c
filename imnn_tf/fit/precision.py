"""Whether the precision of a model tells the two sides of a derivative apart."""

import logging

import numpy as np
import tensorflow as tf

from imnn_tf.simulations.simulations import Simulations
from imnn_tf.utils.types import KerasModel

logger = logging.getLogger(__name__)

# By how many rounding errors a parameter has to change some number of a simulation. A network adds
# up rounding errors of the same size, so that with 100 the slope is right to about a per cent.
_ROUNDING_ERRORS = 100

# The most simulations of each kind that are looked at, and the most numbers in them.
_ROWS, _NUMBERS = 100, 2**20


def warn_of_rounding(model: KerasModel, data: tf.Tensor, simulations: Simulations) -> None:
    """Logs a warning if differences of simulations drown in the rounding of the simulations.

    That happens to data with a large offset, and with steps that are very small.

    Args:
        model: Keras model from `[batch, *input_shape]` to `[batch, n_network]`.
        data: The first batch of the simulations, `[batch, *input_shape]`.
        simulations: The simulations.
    """
    layout = simulations.layout
    if layout.exact:
        return
    blocks = tf.split(data, simulations.blocks)[1:]
    rows = max(1, min(_ROWS, _NUMBERS // max(1, int(np.prod(blocks[0].shape[1:])))))
    below, above = blocks[: layout.n_params], blocks[layout.n_params :]
    dtype = _coarsest(model, simulations.dtype)
    changes = [_change(low[:rows], high[:rows]) for low, high in zip(below, above, strict=True)]
    most = np.array(changes) / np.finfo(dtype).eps
    small = np.flatnonzero((most > 0) & (most < _ROUNDING_ERRORS))
    if len(small):
        logger.warning(
            "%s changes the simulations by no more than %.2g rounding errors of %s, so the slope "
            "is inexact. Subtract a constant offset from all simulations, take a wider δθ, or "
            "compute in float64, with `dtype` and a model whose `keras.Input` has that dtype.",
            " and ".join(f"Parameter {number}" for number in small),
            most[small].min(),
            dtype,
        )


def _change(below: tf.Tensor, above: tf.Tensor) -> float:
    """The largest relative change, over the numbers of simulations `[rows, *shape]`."""
    low, high = np.asarray(below, np.float64), np.asarray(above, np.float64)
    size = np.sqrt(((low**2 + high**2) / 2).mean(axis=0))
    change = np.sqrt(((high - low) ** 2).mean(axis=0))
    return float(np.divide(change, size, out=np.zeros_like(size), where=size > 0).max(initial=0))


def _coarsest(model: KerasModel, dtype: tf.DType) -> str:
    """The type of the data or that of the model's input, whichever is less exact."""
    names = [dtype.name, *(each.dtype for each in getattr(model, "inputs", None) or ())]
    exact = [name for name in names if name in ("float16", "float32", "float64")]
    return max(exact, key=lambda name: np.finfo(name).eps)
