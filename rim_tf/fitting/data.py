"""Training data in the layouts that users have, as the batches that Keras takes.

Keras takes `((y, *args), x)` or `((y, *args), x, weights)`: `y` is the observation, `args` are the
other arguments of the score, and `x` are the parameters. Users also have `(y, x, *args)`, as
arrays, as a `tf.data.Dataset` of examples or of batches, or as a sequence of examples.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from imnn_tf.utils import checks
from rim_tf.problem.observation import as_arrays

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

    def one_epoch(self) -> "Batches":
        """The batches of the first epoch alone, whatever number of them Keras takes at once."""
        if self.steps is None:
            return self
        return Batches(self.data.take(self.steps), self.steps)


class _Place(NamedTuple):
    """The place in a fit from which data are wanted: arguments of `arrange`."""

    seed: int
    steps: int | None
    first_epoch: int

    def batches(
        self, one_pass: Callable[[tf.Tensor], tf.data.Dataset], per_pass: int
    ) -> tf.data.Dataset:
        """The batches of pass after pass over the data, from this place on.

        Args:
            one_pass: From the number of a pass to its batches.
            per_pass: The number of batches in a pass.
        """
        number, done = divmod(self.first_epoch * (self.steps or per_pass), per_pass)
        return tf.data.Dataset.counter(number).flat_map(one_pass).skip(done)


def arrange(
    data: Data,
    target: Data = None,
    weights: Data = None,
    *,
    batch_size: int | None,
    dtype: str = "float32",
    check: Callable[[Any, np.ndarray | None], None] = lambda target, weights: None,
    shuffle: bool = False,
    seed: int = 0,
    steps: int | None = None,
    first_epoch: int = 0,
) -> Batches:
    """Makes batches, in an order that depends on nothing but the seed and the epoch's number.

    A fit that is resumed at some epoch therefore sees what the uninterrupted one would have seen.
    The random state of a data set that shuffles itself is the user's.

    Args:
        data: `(y, x, *args)` or, with `target`, `y` or `(y, *args)`, as arrays `[batch, ...]`; a
            data set of either layout; or a sequence of examples `(y, x, *args)`, `[...]` each.
        target: The parameters `x`, `[batch, *sizes, channels]` or a dictionary by field, if `data`
            does not hold them. Defaults to `None`.
        weights: Keras's `sample_weight`, `[batch]`, `[batch, *sizes]` or
            `[batch, *sizes, channels]`. Defaults to `None`. A data set holds its own.
        batch_size: The number of examples in a batch. With `None`, arrays come in batches of 32,
            and a data set is taken to hold batches already.
        dtype: The type of real numbers of the model, to which those of arrays are converted.
            Defaults to "float32".
        check: Called with the parameters and the weights if they are arrays, to refuse some of
            them. Defaults to none.
        shuffle: Whether each epoch has its own order, which takes examples, not batches.
            Defaults to False.
        seed: Decides the orders. Defaults to 0.
        steps: The number of batches in an epoch, which goes on where the last one ended. Defaults
            to `None`, one pass over the data.
        first_epoch: The number of the first epoch to come. Defaults to 0.

    Returns:
        The batches, and how many of them make an epoch.

    Raises:
        TypeError: If `data` has none of these layouts, or another argument has the wrong type.
        ValueError: If `batch_size` is not positive, if the batch axes differ, if targets or
            weights come beside a data set, or if a data set has no end and `steps` is missing.
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
        if data.cardinality() == tf.data.INFINITE_CARDINALITY and steps is None:
            raise ValueError("`n_iterations_in_epoch` must be given for a data set without end.")
        if batch_size is not None and data.cardinality() >= 0:
            return _from_examples(data, batch_size, shuffle, _Place(seed, steps, first_epoch))
        if batch_size is not None:  # endless, or of a length that only a pass would tell
            data = data.batch(batch_size)
        if steps is not None:
            # Read again from its beginning, because only that is known to give the same batches.
            data = data.repeat().skip(first_epoch * steps)
        return Batches(data, steps)
    if isinstance(data, keras.utils.PyDataset):
        start = None if steps is None else first_epoch * steps
        return Batches(Rearranged(data, _as_keras_takes, start), steps)
    element = _gather(data, target, weights, dtype)
    check(element[1], element[2] if len(element) > 2 else None)
    return _from_arrays(element, batch_size or 32, shuffle, _Place(seed, steps, first_epoch))


def arrange_validation(data: Data, **options: Any) -> Batches:
    """Makes batches of validation data.

    Args:
        data: What `arrange` takes as `data`, or Keras's `(inputs, x)` or `(inputs, x, weights)`, as
            arrays `[batch, ...]`.
        **options: Further arguments of `arrange`.

    Returns:
        The batches, and how many of them there are.
    """
    target = weights = None
    # A first entry that is itself a tuple can only be Keras's (y, *args).
    if isinstance(data, tuple | list) and isinstance(data[0], tuple | list):
        data, target, *rest = data
        weights = rest[0] if rest else None
    return arrange(data, target, weights, **options).one_epoch()


class Rearranged(keras.utils.PyDataset):
    """A Keras data set in another layout.

    Args:
        data: The data set.
        rearrange: From the entries of a batch, as its arguments, to the batch in the new layout.
        start: The number of batches to leave out at the start of an endless repetition. Defaults
            to `None`, a single pass.
    """

    def __init__(
        self,
        data: keras.utils.PyDataset,
        rearrange: Callable[..., tuple[Any, ...]],
        start: int | None = None,
    ):
        super().__init__(data.workers, data.use_multiprocessing, data.max_queue_size)
        self.data = data
        self.rearrange = rearrange
        self.start = start

    @property
    def num_batches(self) -> int | None:
        """The number of batches; `None` without end."""
        return self.data.num_batches if self.start is None else None

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """The batch of a number."""
        if self.start is not None:
            index += self.start
            index %= self.data.num_batches or index + 1
        batch = self.data[index]
        return self.rearrange(*batch) if isinstance(batch, tuple | list) else self.rearrange(batch)

    def on_epoch_begin(self) -> None:
        """Tells the data set that an epoch begins."""
        self.data.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Tells the data set that an epoch ends."""
        self.data.on_epoch_end()


def first_batch(data: Any) -> tuple[Any, ...]:
    """The first batch `((y, *args), x)` of what `arrange` returned, with its weights if it has any.

    Args:
        data: A data set of batches, or a `keras.utils.PyDataset`.
    """
    return data[0] if isinstance(data, keras.utils.PyDataset) else next(iter(data))


@contextlib.contextmanager
def data_may_end() -> Iterator[None]:
    """Keeps Keras from warning at the end of the first pass over data of unknown length."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Your input ran out of data", UserWarning)
        yield


def inputs_only(
    data: Any,
    counts: tuple[int, int | None],
    sizes: Sequence[int | None],
    fields: Mapping[str, int] | None,
) -> Any:
    """A data set that holds what `predict` needs, whatever it held.

    Args:
        data: A data set of batches `y`, `(y, *args)`, `(y, x, *args)` or `((y, *args), ...)`.
        counts: The least and the largest number of `args`; `None` for no limit.
        sizes: The sizes of the parameters `x` behind the batch axis; `None` for any.
        fields: The names of the fields, if `x` is a dictionary of them.

    Returns:
        A data set of batches `((y, *args),)`.

    Raises:
        ValueError: If it has none of these layouts, or could have two of them.
    """

    def select(y: Any, *rest: Any) -> tuple[Any, ...]:
        if isinstance(y, tuple | list):
            return (tuple(y),)
        least, most = counts
        without, with_parameters = (
            least <= count and (most is None or count <= most)
            for count in (len(rest), len(rest) - 1)
        )
        if not without and not with_parameters:
            words = f"{least}" if least == most else f"{least} to {most}" if most else f"{least}"
            raise ValueError(
                "`y` must hold (y, *args) or (y, x, *args) for a score that takes "
                f"{words} arguments after `y`, got {1 + len(rest)} entries."
            )
        if without and with_parameters:
            # Then the shape of the second entry decides.
            with_parameters = bool(rest) and _could_be_parameters(rest[0], sizes, fields)
            if with_parameters:
                raise ValueError(
                    "`y` must hold ((y, *args),) for a score that takes any number of arguments: "
                    "its second entry could be the parameters or an argument."
                )
        return ((y, *rest[1:]) if with_parameters else (y, *rest),)

    if isinstance(data, tf.data.Dataset):
        return data.map(select)
    return Rearranged(data, select)


def _could_be_parameters(
    value: Any, sizes: Sequence[int | None], fields: Mapping[str, int] | None
) -> bool:
    if fields is not None:
        return isinstance(value, Mapping) and set(value) == set(fields)
    return not isinstance(value, Mapping) and tf.TensorShape([None, *sizes]).is_compatible_with(
        value.shape
    )


def _as_keras_takes(y: Any, x: Any, *rest: Any) -> tuple[Any, ...]:
    """`((y, *args), x)` from `(y, x, *args)`. What has Keras's layout already is left alone."""
    if isinstance(y, tuple | list):
        return (tuple(y), x, *rest)
    return (y, *rest), x


def _gather(data: Data, target: Data, weights: Data, dtype: str) -> tuple[Nest, ...]:
    """All examples as arrays, `((y, *args), x)`, followed by the weights if there are any."""
    if target is None:
        # A column of numbers may be a list, but not a tuple: those are examples.
        listed = isinstance(data, tuple | list)
        if not listed or (data and all(isinstance(each, tuple) for each in data)):
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
    inputs = tuple(as_arrays(each, dtype) for each in inputs)
    element: tuple[Nest, ...] = (inputs, as_arrays(target, dtype))
    if weights is not None:
        element = (*element, as_arrays(weights, dtype))
    count = max(array.shape[0] for array in tf.nest.flatten(element) if array.ndim)
    element = tf.nest.map_structure(
        lambda array: array if array.ndim else np.full(count, array), element
    )
    counts = {len(array) for array in tf.nest.flatten(element)}
    if len(counts) != 1:
        raise ValueError(f"Training data must share their batch axis, got {sorted(counts)}.")
    if counts == {0}:
        raise ValueError("Training data must hold examples, got none.")
    if weights is not None and not np.isrealobj(element[2]):
        raise TypeError(f"`sample_weight` must be real, got {element[2].dtype}.")
    if weights is not None and not np.all(element[2] >= 0):
        wrong = element[2][~(element[2] >= 0)].flat[0]  # NaN included
        raise ValueError(f"`sample_weight` must hold numbers of at least 0, got {wrong}.")
    return element


def _from_arrays(element: Nest, batch_size: int, shuffle: bool, place: _Place) -> Batches:
    count = len(tf.nest.flatten(element)[0])
    tensors = tf.nest.map_structure(tf.convert_to_tensor, element)

    def one_pass(number: tf.Tensor) -> tf.data.Dataset:
        order = tf.range(count)
        if shuffle:
            # Not `Dataset.shuffle`: its order also depends on the passes that came before.
            shuffle_by = tf.random.experimental.stateless_shuffle  # type: ignore[attr-defined] # no stub
            order = shuffle_by(order, (place.seed, number))
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

    per_pass = -(-count // batch_size)
    # Rows are gathered a batch at a time, which is faster than batching single examples.
    batches = place.batches(one_pass, per_pass).map(
        lambda rows: tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), tensors)
    )
    return Batches(batches.prefetch(2), place.steps or per_pass)


def _from_examples(
    examples: tf.data.Dataset, batch_size: int, shuffle: bool, place: _Place
) -> Batches:
    count = int(examples.cardinality())

    def one_pass(number: tf.Tensor) -> tf.data.Dataset:
        order = examples
        if shuffle:
            # A shuffle takes a single seed, so every pass needs one of its own.
            limits: Any = {"minval": None, "maxval": None}  # all integers
            own: Any = tf.random.stateless_uniform(
                [], tf.stack([place.seed, number]), dtype=tf.int64, **limits
            )
            order = _shuffled(order, count, own)
        return order.batch(batch_size)

    per_pass = -(-count // batch_size)
    return Batches(place.batches(one_pass, per_pass).prefetch(2), place.steps or per_pass)


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
