"""Training data, in whichever layout the user has them, as Keras wants them.

Keras wants `((y, *args), x)` or `((y, *args), x, weights)`. Users also have `(y, x, *args)`,
as arrays, as a `tf.data.Dataset` of examples or of batches, or as a sequence of examples.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from imnn_tf.utils import checks


class TrainingData(NamedTuple):
    """What goes into Keras's `fit`."""

    data: Any
    """A data set of batches `((y, *args), x)`, or what Keras takes itself."""
    steps: int | None
    """Batches in an epoch, if the data set does not end there by itself."""


def arrange(
    data: Any,
    target: Any = None,
    weights: Any = None,
    *,
    batch_size: int | None,
    shuffle: bool = False,
    seed: int = 0,
    first_epoch: int = 0,
) -> TrainingData:
    """Batches for Keras, in an order that only the seed and the epoch's number decide.

    A fit that resumes at some epoch therefore sees what the uninterrupted one would have.

    Args:
        data: `(y, x, *args)` or, with `target`, `y` or `(y, *args)`, as arrays; a data set of
            either layout; or a sequence of examples `(y, x, *args)`.
        target: The parameters `x`, when `data` does not hold them.
        weights: Keras's `sample_weight`; a data set holds its own.
        batch_size: Examples in a batch. A data set has its own when this is `None`.
        shuffle: Whether each epoch has an order of its own; needs examples, not batches.
        seed: Decides the orders.
        first_epoch: The number of the first epoch to come.

    Returns:
        The batches and how many make an epoch.

    Raises:
        TypeError: If the data are nothing of the kind.
        ValueError: If the batch axes differ, or something is given beside a data set.
    """
    if batch_size is not None:
        checks.integer("batch_size", batch_size, minimum=1)
    if isinstance(data, tf.data.Dataset | keras.utils.PyDataset):
        for name, value in (("y", target), ("sample_weight", weights)):
            if value is not None:
                raise ValueError(f"`{name}` must be part of a data set, not given beside it.")
    if isinstance(data, tf.data.Dataset):
        data = data.map(_as_keras_wants)
        if batch_size is None:
            return TrainingData(data, None)
        return _from_examples(data, batch_size, shuffle, seed, first_epoch)
    if isinstance(data, keras.utils.PyDataset):
        return TrainingData(data, None)
    element = _gather(data, target, weights)
    return _from_arrays(element, batch_size or 32, shuffle, seed, first_epoch)


def as_tensors(inputs: Any, dtype: str) -> list[Any]:
    """A model's inputs as tensors, real numbers in the precision given.

    Args:
        inputs: `y`, or a tuple `(y, *args)`.
        dtype: The precision of real numbers; integers stay what they are.
    """

    def convert(value: Any) -> tf.Tensor:
        tensor = tf.convert_to_tensor(value)
        return tf.cast(tensor, dtype) if tensor.dtype.is_floating else tensor

    inputs = inputs if isinstance(inputs, tuple | list) else (inputs,)
    return [tf.nest.map_structure(convert, value) for value in inputs]


def _as_keras_wants(y: Any, x: Any, *rest: Any) -> tuple[Any, ...]:
    if isinstance(y, tuple | list):
        return (tuple(y), x, *rest)
    return (y, *rest), x


def _gather(data: Any, target: Any, weights: Any) -> tuple[Any, ...]:
    """All examples as arrays, `((y, *args), x)` with weights behind if there are any."""
    if target is None:
        if not isinstance(data, tuple | list):
            if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
                raise TypeError(
                    "Training data must be arrays (y, x, *args), a tf.data.Dataset, or a "
                    f"sequence of examples, got {type(data).__name__}."
                )
            examples = [data[index] for index in range(len(data))]
            data = [np.stack(column) for column in zip(*examples, strict=True)]
        if len(data) < 2:
            raise ValueError(f"Training data must hold (y, x, *args), got {len(data)} entries.")
        data, target = (data[0], *data[2:]), data[1]
    inputs = tuple(data) if isinstance(data, tuple | list) else (data,)
    element = (inputs, target) if weights is None else (inputs, target, weights)
    element = tf.nest.map_structure(_to_array, element)
    count = max(array.shape[0] for array in tf.nest.flatten(element) if array.ndim)
    element = tf.nest.map_structure(
        lambda array: array if array.ndim else np.full(count, array), element
    )
    counts = {len(array) for array in tf.nest.flatten(element)}
    if len(counts) != 1:
        raise ValueError(f"Training data must share their batch axis, got {sorted(counts)}.")
    return element


def _to_array(value: Any) -> np.ndarray:
    array = np.asarray(value)
    return array.astype(keras.config.floatx()) if array.dtype.kind == "f" else array


def _from_arrays(
    element: Any, batch_size: int, shuffle: bool, seed: int, first_epoch: int
) -> TrainingData:
    count = len(tf.nest.flatten(element)[0])
    tensors = tf.nest.map_structure(tf.convert_to_tensor, element)

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.range(count)
        if shuffle:
            order = tf.random.experimental.stateless_shuffle(order, (seed, epoch))
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

    batches = tf.data.Dataset.counter(first_epoch).flat_map(one_epoch)
    batches = batches.map(
        lambda rows: tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), tensors)
    )
    return TrainingData(batches.prefetch(2), -(-count // batch_size))


def _from_examples(
    examples: tf.data.Dataset, batch_size: int, shuffle: bool, seed: int, first_epoch: int
) -> TrainingData:
    count = int(examples.cardinality())
    if count < 0:  # endless, or of a length that only a pass would tell
        return TrainingData(examples.batch(batch_size).prefetch(2), None)

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = examples
        if shuffle:
            order = order.shuffle(count, _mix(seed, epoch), reshuffle_each_iteration=False)
        return order.batch(batch_size)

    batches = tf.data.Dataset.counter(first_epoch).flat_map(one_epoch)
    return TrainingData(batches.prefetch(2), -(-count // batch_size))


def _mix(seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """One seed of its own for every epoch."""
    return tf.random.stateless_uniform([], (seed, epoch), minval=None, maxval=None, dtype=tf.int64)
