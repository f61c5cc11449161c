"""Running a trained RIM: one compiled function for each number of steps, fed in batches."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from imnn_tf.utils import checks
from imnn_tf.utils.types import KerasModel
from rim_tf.fitting.compilation import resolve_jit
from rim_tf.fitting.data import Data, data_may_end, inputs_only
from rim_tf.problem.observation import as_arrays
from rim_tf.problem.parameters import Values


def predict(
    rim: KerasModel,
    y: Data,
    *args: Any,
    T: int | None = None,
    batch_size: int | None = None,
    trajectory: bool = False,
    jit_compile: bool | str = "auto",
    **kwargs: Any,
) -> Any:
    """Estimates the parameters, in their own space.

    Args:
        rim: The model.
        y: The observation, `[batch, ...]`; or a tuple of it and the other arguments of the score;
            or a `tf.data.Dataset` or `keras.utils.PyDataset` of batches, which Keras's own
            `predict` runs through. They hold `y`, `(y, *args)`, or what `fit` takes, whose
            parameters are left out. With a `batch_size`, a `tf.data.Dataset` holds examples.
        *args: The other arguments of the score, each with the batch as its first axis. A scalar
            holds for every example.
        T: The number of steps. Defaults to `None`, the model's own.
        batch_size: The number of examples at once. Defaults to `None`, all of them up to 256.
        trajectory: Whether to return all steps and not the last one alone. Defaults to False.
        jit_compile: Whether XLA compiles the function, as for `compile`. Defaults to "auto".
        **kwargs: Arguments of Keras's own `predict`, if `y` is a data set: `verbose`, `steps`,
            `callbacks`.

    Returns:
        An array `[batch, *dimensions, channels]`, with `trajectory` an array
        `[batch, T, *dimensions, channels]`, or a dictionary of such arrays by field. For a data
        set whose sizes differ from batch to batch, a list with the result of each batch.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, the batch axes differ, or a data set could
            have two layouts.
    """
    if isinstance(y, tf.data.Dataset | keras.utils.PyDataset):
        if args or T is not None or trajectory:
            raise ValueError("`y` must hold arrays for `T`, `trajectory` or more arguments.")
        if batch_size is not None:
            if not isinstance(y, tf.data.Dataset):
                raise ValueError("`batch_size` must be left out for a PyDataset: it holds batches.")
            y = y.batch(checks.integer("batch_size", batch_size, minimum=1))
        sizes = (*rim.dimensions, rim.channels)
        data = inputs_only(y, rim.argument_counts, sizes, rim.parameters.fields)
        with data_may_end():
            if None in rim.dimensions:
                return _of_any_sizes(rim, data, **kwargs)
            return keras.Model.predict(rim, data, **kwargs)
    if kwargs:
        raise TypeError(f"`predict` must be given a data set for the arguments {list(kwargs)}.")
    inputs = tuple(y) + args if isinstance(y, tuple | list) else (y, *args)
    _require_arguments(rim, y, len(inputs) - 1)
    steps = rim.T if T is None else checks.integer("T", T, minimum=1)
    key = (steps, trajectory, resolve_jit(rim, jit_compile) is True)
    # Kept, because a new function would be compiled again.
    predictors = rim.compilation.predictors
    if key not in predictors:
        predictors[key] = compiled(rim, *key)
    return in_batches(predictors[key], inputs, batch_size, rim.variable_dtype)


def _require_arguments(rim: KerasModel, y: Data, got: int) -> None:
    """Checks the number of the arguments of the score after `y`."""
    least, most = rim.argument_counts
    if got < least or (most is not None and got > most):
        wanted = f"{least}" if most == least else f"at least {least}"
        if most is not None and most > least:
            wanted = f"{least} to {most}"
        words = f"`y` must come with {wanted} more arguments of the score, got {got}"
        if isinstance(y, tuple | list):
            words += (
                f"; a {type(y).__name__} is the observation and these arguments, and several "
                "observations are one array, as of `np.stack`"
            )
        raise ValueError(f"{words}.")


def plot_trajectory(
    rim: KerasModel, y: Data, *args: Any, truth: Values = None, **options: Any
) -> Any:
    """Draws how the parameters of one example change from step to step.

    Args:
        rim: The model.
        y: The observation, `[batch, ...]`.
        *args: The other arguments of the score, `[batch, ...]` each.
        truth: The true parameters, `[batch, *dimensions, channels]` or a dictionary by field,
            drawn beside the steps. Defaults to `None`.
        **options: `T`, the number of steps, and what `rim_tf.plotting.plot_trajectory` takes.

    Returns:
        The Matplotlib axes, `[panels]`, or `[fields, panels]`.
    """
    from rim_tf import plotting  # not above: nothing else needs Matplotlib

    trajectory = rim.predict(y, *args, T=options.pop("T", None), trajectory=True)
    return plotting.plot_trajectory(trajectory, truth=truth, **options)


class _Flat(keras.Model):
    """The last step of a RIM, flattened, and its shape: batches of any sizes can be joined."""

    def __init__(self, rim: KerasModel):
        super().__init__(autocast=False, name="flat", dtype=rim.dtype_policy)
        self.rim = rim

    def call(self, inputs: Data) -> Any:
        """For the parameters or each of their fields, entries `[n]` and shape `[1, axes]`."""
        values = self.rim.parameters.link(self.rim(inputs, training=False)[:, -1])
        return tf.nest.map_structure(
            lambda each: {"entries": tf.reshape(each, [-1]), "shape": tf.shape(each)[tf.newaxis]},
            values,
        )


def _of_any_sizes(rim: KerasModel, data: Any, **kwargs: Any) -> Any:
    """The parameters for each batch of a data set, in one array if all have the same sizes."""
    predictors = rim.compilation.predictors
    if "any sizes" not in predictors:
        with rim.distribute_strategy.scope():
            # In a function, because Keras would take a model for a layer of the RIM.
            predictors["any sizes"] = functools.partial(_Flat.predict, _Flat(rim))
    flat = predictors["any sizes"](data, **kwargs)
    fields = rim.parameters.fields
    parts: dict[str, list[np.ndarray]] = {}
    for name, each in (flat if fields else {"": flat}).items():
        pieces = np.split(each["entries"], np.cumsum(each["shape"].prod(axis=1))[:-1])
        shapes = zip(pieces, each["shape"], strict=True)
        parts[name] = [piece.reshape(shape) for piece, shape in shapes]
    if all(len({piece.shape[1:] for piece in pieces}) == 1 for pieces in parts.values()):
        joined = {name: np.concatenate(pieces) for name, pieces in parts.items()}
        return joined if fields else joined[""]
    if not fields:
        return parts[""]
    return [dict(zip(parts, batch, strict=True)) for batch in zip(*parts.values(), strict=True)]


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
    arrays = [as_arrays(value, dtype) for value in inputs]
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
