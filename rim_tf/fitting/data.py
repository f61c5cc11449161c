"""Training data in the layouts that users have, as the batches that Keras takes.

Keras takes `((y, *args), x)` or `((y, *args), x, weights)`: `y` is the observation, `args` are the
other arguments of the score, and `x` are the parameters. Users also have `(y, x, *args)`, as
arrays, as a `tf.data.Dataset` of examples or of batches, or as a sequence of examples.
"""

from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from imnn_tf.utils import checks

# Data in any of the layouts above; a nest of arrays or tensors.
Data: TypeAlias = Any
Nest: TypeAlias = Any

# What TensorFlow takes for the global seed where none was set.
_SEED_WITHOUT_GLOBAL = 87654321


class Batches(NamedTuple):
    """What goes into Keras's `fit` and `evaluate`.

    Attributes:
        data: A data set of batches `((y, *args), x)`, or a `keras.utils.PyDataset`.
        steps: The number of batches in an epoch, or `None` if the data set ends after one.
    """

    data: Any
    steps: int | None


def arrange(
    data: Data,
    target: Data = None,
    weights: Data = None,
    *,
    batch_size: int | None,
    shuffle: bool = False,
    seed: int = 0,
    first_epoch: int = 0,
) -> Batches:
    """Makes batches, in an order that depends on nothing but the seed and the epoch's number.

    A fit that is resumed at some epoch therefore sees what the uninterrupted one would have seen.

    Args:
        data: `(y, x, *args)` or, with `target`, `y` or `(y, *args)`, as arrays `[batch, ...]`; a
            data set of either layout; or a sequence of examples `(y, x, *args)`, `[...]` each.
        target: The parameters `x`, `[batch, *sizes, channels]` or a dictionary by field, if `data`
            does not hold them. Defaults to `None`.
        weights: Keras's `sample_weight`, `[batch]`, `[batch, *sizes]` or
            `[batch, *sizes, channels]`. Defaults to `None`. A data set holds its own.
        batch_size: The number of examples in a batch. With `None`, arrays come in batches of 32,
            and a data set is taken to hold batches already.
        shuffle: Whether each epoch has its own order, which takes examples, not batches.
            Defaults to False.
        seed: Decides the orders. Defaults to 0.
        first_epoch: The number of the first epoch to come. Defaults to 0.

    Returns:
        The batches, and how many of them make an epoch.

    Raises:
        TypeError: If `data` has none of these layouts, or another argument has the wrong type.
        ValueError: If `batch_size` is not positive, if the batch axes differ, or if targets or
            weights come with a data set.
    """
    if batch_size is not None:
        checks.integer("batch_size", batch_size, minimum=1)
    checks.flag("shuffle", shuffle)
    if isinstance(data, tf.data.Dataset | keras.utils.PyDataset):
        for name, value in (("y", target), ("sample_weight", weights)):
            if value is not None:
                raise ValueError(f"`{name}` must be part of a data set, not given beside it.")
    if isinstance(data, tf.data.Dataset):
        data = data.map(_as_keras_takes)
        if batch_size is None:
            return Batches(data, None)
        return _from_examples(data, batch_size, shuffle, seed, first_epoch)
    if isinstance(data, keras.utils.PyDataset):
        return Batches(data, None)
    element = _gather(data, target, weights)
    return _from_arrays(element, batch_size or 32, shuffle, seed, first_epoch)


def arrange_validation(data: Data, batch_size: int | None) -> Batches:
    """Makes batches of validation data.

    Args:
        data: What `arrange` takes as `data`, or Keras's `(inputs, x)` or `(inputs, x, weights)`, as
            arrays `[batch, ...]`.
        batch_size: The number of examples in a batch. With `None`, arrays come in batches of 32,
            and a data set is taken to hold batches already.

    Returns:
        The batches, and how many of them there are.
    """
    target = weights = None
    # A first entry that is itself a tuple can only be Keras's (y, *args).
    if isinstance(data, tuple | list) and isinstance(data[0], tuple | list):
        data, target, *rest = data
        weights = rest[0] if rest else None
    return arrange(data, target, weights, batch_size=batch_size)


def inputs_of(element: Data) -> Data:
    """The model's inputs in an element of a data set: `y`, or `(y, *args)`.

    Args:
        element: `y`, `(y, x, *args)`, or `((y, *args), ...)`, all tensors `[batch, ...]`.

    Returns:
        The inputs, tensors `[batch, ...]`.
    """
    if not isinstance(element, tuple | list):
        return element
    y, *rest = element
    if isinstance(y, tuple | list):
        return y
    return (y, *rest[1:])


def _as_keras_takes(y: Any, x: Any, *rest: Any) -> tuple[Any, ...]:
    """`((y, *args), x)` from `(y, x, *args)`. What has Keras's layout already is left alone."""
    if isinstance(y, tuple | list):
        return (tuple(y), x, *rest)
    return (y, *rest), x


def _gather(data: Data, target: Data, weights: Data) -> tuple[Nest, ...]:
    """All examples as arrays, `((y, *args), x)`, followed by the weights if there are any."""
    if target is None:
        if not isinstance(data, tuple | list):
            if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
                raise TypeError(
                    "Training data must be arrays (y, x, *args), a tf.data.Dataset, or a "
                    f"sequence of examples, got {type(data).__name__}."
                )
            # By index: a sequence without __iter__ ends an iteration only by an IndexError.
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
    element: Nest, batch_size: int, shuffle: bool, seed: int, first_epoch: int
) -> Batches:
    count = len(tf.nest.flatten(element)[0])
    tensors = tf.nest.map_structure(tf.convert_to_tensor, element)

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.range(count)
        if shuffle:
            # Not `Dataset.shuffle`: its order also depends on the epochs that came before.
            shuffle_by = tf.random.experimental.stateless_shuffle  # type: ignore[attr-defined] # no stub
            order = shuffle_by(order, (seed, epoch))
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

    # Rows are gathered a batch at a time, which is faster than batching single examples.
    batches = tf.data.Dataset.counter(first_epoch).flat_map(one_epoch)
    batches = batches.map(
        lambda rows: tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), tensors)
    )
    return Batches(batches.prefetch(2), -(-count // batch_size))


def _from_examples(
    examples: tf.data.Dataset, batch_size: int, shuffle: bool, seed: int, first_epoch: int
) -> Batches:
    count = int(examples.cardinality())
    if count < 0:  # endless, or of a length that only a pass would tell
        return Batches(examples.batch(batch_size).prefetch(2), None)

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = examples
        if shuffle:
            # A shuffle takes a single seed, so every epoch needs one of its own.
            limits: Any = {"minval": None, "maxval": None}  # all integers
            own: Any = tf.random.stateless_uniform(
                [], tf.stack([seed, epoch]), dtype=tf.int64, **limits
            )
            order = _shuffled(order, count, own)
        return order.batch(batch_size)

    batches = tf.data.Dataset.counter(first_epoch).flat_map(one_epoch)
    return Batches(batches.prefetch(2), -(-count // batch_size))


def _shuffled(examples: tf.data.Dataset, count: int, seed: tf.Tensor) -> tf.data.Dataset:
    """`Dataset.shuffle` of all examples, without the global seed that it mixes in."""
    variant = tf.raw_ops.ShuffleDataset(
        # The raw operation takes the data set as the tensor that stands for it.
        input_dataset=tf.data.experimental.to_variant(examples),
        buffer_size=tf.constant(count, tf.int64),
        seed=tf.constant(_SEED_WITHOUT_GLOBAL, tf.int64),
        seed2=tf.math.floormod(seed, tf.constant(2**31 - 1, tf.int64)),  # as TensorFlow does
        output_types=tf.nest.flatten(tf.compat.v1.data.get_output_types(examples)),
        output_shapes=tf.nest.flatten(tf.compat.v1.data.get_output_shapes(examples)),
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(variant, examples.element_spec)
