"""Where simulations come from; every source gives the same batches."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from imnn_tf.simulations import datasets, loaders
from imnn_tf.simulations.arrays import ArraySimulations
from imnn_tf.simulations.collect import collect
from imnn_tf.simulations.simulator import Simulator, SimulatorSimulations
from imnn_tf.utils import checks
from imnn_tf.utils.tfrecords import read_records

__all__ = ["ArraySimulations", "Simulator", "SimulatorSimulations", "as_simulations"]


def as_simulations(
    fiducial: Any,
    derivative: Any,
    n_params: int,
    delta_theta: np.ndarray | None,
    *,
    dtype: tf.DType,
    n_s: int | None = None,
    n_d: int | None = None,
    input_shape: Sequence[int] | None = None,
    at_once: int | None = None,
    map_fn: Callable[[tf.Tensor], tf.Tensor] | None = None,
    role: str = "",
) -> ArraySimulations:
    """What the user passed, as a source of batches.

    Both kinds of simulations come as an array; a function of their labels; TFRecord files in the
    format of `imnn_tf.utils.tfrecords`; or a `tf.data.Dataset` of simulations with their labels.

    Args:
        fiducial: Simulations at the fiducial parameters, as an array `[n_s, *input_shape]`, or
            labelled by `seed`.
        derivative: Simulations off the fiducial, as an array `[n_d, 2, n_params, *input_shape]`,
            those below at `[:, 0]`, those above at `[:, 1]`, or labelled by
            `(seed, derivative, parameter)`. Where they are exact, `∂d/∂θ` of the first `n_d`
            fiducial simulations, `[n_d, *input_shape, n_params]` or labelled by `seed`.
        n_params: Number of parameters.
        delta_theta: Differences of the parameters between above and below, `[n_params]`; `None`
            where the derivatives are exact.
        dtype: Floating type of the batches.
        n_s: Number of fiducial simulations; needed by a function only.
        n_d: Number of derivative simulations of each parameter and side, likewise.
        input_shape: Shape of one simulation; needed by TFRecord files without a manifest only.
        at_once: Fiducial simulations in a batch; all if left out.
        map_fn: Applied to each simulation.
        role: `"validation_"` for the names of arguments in messages.

    Raises:
        TypeError: If a source is none of the above.
        ValueError: If a shape is not as above, a number is not finite, or a simulation is missing
            or comes twice.
    """
    name = f"{role}fiducial"
    shape = None if input_shape is None else tuple(input_shape)
    fiducial = _as_array(name, fiducial, ("n_s", n_s), (), dtype, shape)
    if fiducial.ndim < 2:
        raise ValueError(f"`{name}` must have shape (n_s, *input_shape), got {fiducial.shape}.")
    shape = fiducial.shape[1:]
    name, count = f"{role}derivative", ("n_d", n_d)
    if delta_theta is None:
        derivative = _as_array(name, derivative, count, (), dtype, (*shape, n_params))
        _check_exact(name, derivative, fiducial, n_params)
    else:
        derivative = _as_array(name, derivative, count, (2, n_params), dtype, shape)
        _check_numerical(name, derivative, shape, n_params)
    return ArraySimulations(
        fiducial,
        derivative,
        delta_theta,
        dtype=dtype,
        at_once=at_once,
        map_fn=map_fn,
    )


def _check_numerical(
    name: str, derivative: np.ndarray, shape: tuple[int, ...], n_params: int
) -> None:
    if derivative.shape[1:] != (2, n_params, *shape) or not len(derivative):
        raise ValueError(
            f"`{name}` must have shape (n_d, 2, n_params, *input_shape) = (n_d, "
            f"{', '.join(map(str, (2, n_params, *shape)))}), the simulations below the "
            f"fiducial at [:, 0] and those above at [:, 1], got {derivative.shape}."
        )


def _check_exact(name: str, derivative: np.ndarray, fiducial: np.ndarray, n_params: int) -> None:
    shape = fiducial.shape[1:]
    if derivative.shape[1:] != (*shape, n_params) or not 0 < len(derivative) <= len(fiducial):
        raise ValueError(
            f"`{name}` must, where `δθ` is left out, have shape (n_d, *input_shape, n_params) = "
            f"(n_d, {', '.join(map(str, (*shape, n_params)))}), the derivatives of the first n_d "
            f"of {len(fiducial)} fiducial simulations, got {derivative.shape}."
        )


def _as_array(
    name: str,
    value: Any,
    count: tuple[str, int | None],
    inner: tuple[int, ...],
    dtype: tf.DType,
    input_shape: tuple[int, ...] | None,
) -> np.ndarray:
    """Simulations from any source, `[count, *inner, *input_shape]`."""
    counts = (count[1], *inner)
    target = dtype.as_numpy_dtype
    if isinstance(value, tf.data.Dataset):
        value = datasets.read(name, value, counts, dtype=target, input_shape=input_shape)
    elif _are_paths(value):
        labelled = read_records(value, derivative=bool(inner), input_shape=input_shape)
        value = collect(name, labelled, counts, dtype=target, input_shape=input_shape)
    elif callable(value):
        if count[1] is None:
            raise TypeError(f"`{count[0]}` must be given where `{name}` is a function.")
        n = checks.integer(count[0], count[1], minimum=1)
        value = loaders.load(name, value, (n, *inner), dtype=target, input_shape=input_shape)
    elif value is None:
        raise TypeError(f"`{name}` must be an array, a function, TFRecord files or a data set.")
    return checks.array(name, value)


def _are_paths(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(path, str | Path) for path in value)
    )
