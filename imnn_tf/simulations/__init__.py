"""Where simulations come from; every source gives the same batches."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from imnn_tf.simulations.arrays import ArraySimulations
from imnn_tf.utils import checks

__all__ = ["ArraySimulations", "as_simulations"]


def as_simulations(
    fiducial: Any,
    derivative: Any,
    delta_theta: Any,
    *,
    dtype: tf.DType,
    at_once: int | None = None,
    map_fn: Callable[[tf.Tensor], tf.Tensor] | None = None,
    role: str = "",
) -> ArraySimulations:
    """What the user passed, as a source of batches.

    Args:
        fiducial: Array of simulations at the fiducial parameters, `[n_s, *input_shape]`.
        derivative: Array of simulations off the fiducial, `[n_d, 2, n_params, *input_shape]`,
            those below at `[:, 0]`, those above at `[:, 1]`.
        delta_theta: Differences of the parameters between above and below, `[n_params]`.
        dtype: Floating type of the batches.
        at_once: Fiducial simulations in a batch; all if left out.
        map_fn: Applied to each simulation.
        role: `"validation_"` for the names of arguments in messages.

    Raises:
        TypeError: If a source is not an array of real numbers.
        ValueError: If a shape is not as above, or a number is not finite.
    """
    name = f"{role}fiducial"
    fiducial = _as_array(name, fiducial)
    if fiducial.ndim < 2:
        raise ValueError(f"`{name}` must have shape (n_s, *input_shape), got {fiducial.shape}.")
    n_params = np.size(delta_theta)
    input_shape = fiducial.shape[1:]
    derivative = _as_array(f"{role}derivative", derivative)
    if derivative.shape[1:] != (2, n_params, *input_shape) or not len(derivative):
        raise ValueError(
            f"`{role}derivative` must have shape (n_d, 2, n_params, *input_shape) = (n_d, "
            f"{', '.join(map(str, (2, n_params, *input_shape)))}), the simulations below the "
            f"fiducial at [:, 0] and those above at [:, 1], got {derivative.shape}."
        )
    return ArraySimulations(
        fiducial,
        derivative,
        np.asarray(delta_theta, np.float64),
        dtype=dtype,
        at_once=at_once,
        map_fn=map_fn,
    )


def _as_array(name: str, value: Any) -> np.ndarray:
    if value is None or callable(value):
        raise TypeError(f"`{name}` must be an array of simulations, got {value!r}.")
    return checks.array(name, value)
