"""A model applied to batches of simulations, and the statistics of what comes out."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import keras
import tensorflow as tf

from imnn_tf.information import Moments, Statistics, merge, moments, slope
from imnn_tf.simulations.batch import Batch, BatchAt, Part, Simulations
from imnn_tf.utils.autodiff import pushforward

# More draws than the layers of any model make for one batch.
_DRAWS = 2**16

Item = TypeVar("Item")
Result = TypeVar("Result")


def passive_variables(model: Any) -> list[Any]:
    """The variables that a pass over data changes: running averages and states of the noise."""
    metrics = {id(variable) for variable in model.metrics_variables}
    return [v for v in model.non_trainable_variables if id(v) not in metrics]


def seed_states(model: Any) -> list[Any]:
    """The variables of a Keras model that its random layers draw their numbers from."""
    known = {id(variable) for variable in (*model.weights, *model.metrics_variables)}
    states = [variable for variable in model.variables if id(variable) not in known]
    return [state for state in states if tuple(state.shape) == (2,)]


def normalises_by_batch(model: Any) -> bool:
    """Whether any layer of a Keras model takes a batch as a whole."""
    if isinstance(model, keras.layers.BatchNormalization):
        return True
    return any(normalises_by_batch(layer) for layer in getattr(model, "layers", ()))


def summarise(
    model: Any, data: tf.Tensor, *, training: bool, blocks: tuple[int, ...], dtype: tf.DType
) -> tf.Tensor:
    """Summaries of one batch of simulations.

    In training, blocks of simulations that differ only in a parameter see the same noise of the
    random layers: it then cancels in the slope of the mean, which it would else swamp by the
    inverse of a small parameter difference. Layers that normalise by the whole batch must see it
    whole, or they would take away the very difference between its blocks; with those the noise
    is drawn for the whole batch.

    Args:
        model: Keras model from `[batch, *input_shape]` to `[batch, n_summaries]`.
        data: `[batch, *input_shape]`.
        training: Whether the layers act as in training.
        blocks: Sizes of the runs of rows that share their noise.
        dtype: Type of the summaries, whatever type the model computes in.

    Returns:
        `[batch, n_summaries]`.
    """

    def apply(part: tf.Tensor) -> tf.Tensor:
        return tf.cast(model(part, training=training), dtype)

    if not training or model.non_trainable_weights or not seed_states(model):
        return apply(data)
    return tf.concat(_from_one_state(model, apply, tf.split(data, blocks)), axis=0)


def differentiate(
    model: Any, batch: Batch, *, training: bool, dtype: tf.DType
) -> tuple[tf.Tensor, tf.Tensor]:
    """Summaries of one batch and what its exact derivatives add to the slope of their mean.

    Each parameter takes one Jacobian-vector product; the model runs once for all of them, and the
    Jacobian itself is never formed.

    Args:
        model: As in `summarise`.
        batch: Simulations with tangents.
        training: Whether the layers act as in training.
        dtype: Type of the summaries.

    Returns:
        Summaries, `[batch, n_summaries]`, and the slope, `[n_params, n_summaries]`.
    """
    assert batch.tangents is not None
    summaries, derivatives = pushforward(
        lambda data: tf.cast(model(data, training=training), dtype),
        batch.data,
        tf.unstack(batch.tangents, axis=-1),
    )
    if derivatives is None:
        derivatives = [tf.zeros_like(summaries)] * batch.tangents.shape[-1]
    shares = [
        tf.linalg.matvec(derivative, batch.slope[:, parameter], transpose_a=True)
        for parameter, derivative in enumerate(derivatives)
    ]
    return summaries, tf.stack(shares)


def respond(
    model: Any, batch: Batch, simulations: Simulations, *, training: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Summaries of the fiducial simulations of one batch, and what it adds to the slope.

    Returns:
        The network's summaries with the external ones behind them, `[fiducial, n_summaries]`,
        and the slope of their mean, `[n_params, n_summaries]`.
    """
    if batch.tangents is not None:
        summaries, share = differentiate(model, batch, training=training, dtype=simulations.dtype)
    else:
        summaries = summarise(
            model, batch.data, training=training, blocks=simulations.blocks, dtype=simulations.dtype
        )
        summaries, share = _split(summaries, batch)
    if batch.external is None:
        return summaries, share
    if batch.external_tangents is None:
        external, beside = _split(batch.external, batch)
    else:
        external = batch.external
        beside = tf.einsum("bep,bp->pe", batch.external_tangents, batch.slope)
    return tf.concat([summaries, external], axis=1), tf.concat([share, beside], axis=1)


def _split(summaries: tf.Tensor, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
    """The summaries of the fiducial simulations, and what the others add to the slope."""
    sizes = [labels.shape[0] for labels in (batch.fiducial, batch.slope)]
    fiducial, varied = tf.split(summaries, sizes)
    return fiducial, slope(varied, batch.slope)


def statistics(model: Any, batch: Batch, simulations: Simulations, *, training: bool) -> Statistics:
    """What one batch adds to the statistics of the whole."""
    summaries, share = respond(model, batch, simulations, training=training)
    return Statistics(moments(summaries, batch.fiducial), share)


def accumulate(
    model: Any,
    simulations: Simulations,
    batch_at: BatchAt,
    *,
    training: bool,
    n_summaries: int,
    part: Part = (0, 1),
) -> Statistics:
    """Statistics of all simulations, or of a part of the batches, a batch at a time.

    Args:
        model: As in `summarise`.
        simulations: Where the batches come from.
        batch_at: The pass over them, as `simulations.begin` gives it.
        training: Whether the layers act as in training.
        n_summaries: Length of a summary, with the external ones.
        part: Which batches.
    """

    def add(index: tf.Tensor, total: Statistics) -> Statistics:
        more = statistics(model, batch_at(index), simulations, training=training)
        return Statistics(merge(total.moments, more.moments), total.slope + more.slope)

    dtype = simulations.dtype
    zero = Statistics(
        Moments(
            tf.zeros([], dtype),
            tf.zeros([n_summaries], dtype),
            tf.zeros([n_summaries, n_summaries], dtype),
        ),
        tf.zeros([simulations.n_params, n_summaries], dtype),
    )
    return fold(model if training else None, simulations, add, zero, part=part)


def fold(
    model: Any,
    simulations: Simulations,
    add: Callable[[tf.Tensor, Result], Result],
    start: Result,
    *,
    part: Part = (0, 1),
) -> Result:
    """Adds up something of each batch.

    Args:
        model: The model, if its random layers draw.
        simulations: Where the batches come from.
        add: The sum so far with the batch of an index.
        start: The sum of none.
        part: Which batches.
    """
    if simulations.n_batches == 1:
        return add(tf.constant(0), start)
    draw_for = noise_of_batches(model)

    def body(index: tf.Tensor, total: Result) -> tuple[tf.Tensor, Result]:
        draw_for(index)
        return index + part[1], add(index, total)

    _, total = tf.while_loop(
        lambda index, _: index < simulations.n_batches,
        body,
        (tf.convert_to_tensor(part[0]), start),
        parallel_iterations=1,
    )
    draw_for(tf.constant(simulations.n_batches))
    return total


def noise_of_batches(model: Any | None) -> Callable[[tf.Tensor], None]:
    """Lets the random layers of a model draw for a batch by its index, whatever went before it.

    It then does not matter where and in which order the batches are gone through.
    """
    states = [] if model is None else seed_states(model)
    before = [tf.identity(state) for state in states]

    def draw_for(index: tf.Tensor) -> None:
        for state, value in zip(states, before, strict=True):
            # Keras's states are a seed and a count of draws.
            state.assign(value + tf.cast([0, _DRAWS * index], value.dtype))

    return draw_for


def count_summaries(model: Any, simulations: Simulations) -> int:
    """Length of the summaries that a model makes of simulations.

    Raises:
        ValueError: If the model does not take them, or does not give `[batch, n_summaries]`.
    """
    first = simulations.begin()()(tf.constant(0)).data[:2]
    try:
        shape = tuple(model(first, training=False).shape)
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(
            f"`model` must take batches of simulations of shape {tuple(first.shape[1:])}, but "
            f"failed on one: {error}"
        ) from error
    if len(shape) != 2 or shape[0] != len(first):
        raise ValueError(
            "`model` must map a batch of simulations to (batch, n_summaries), got "
            f"{shape} from a batch of {len(first)}."
        )
    return shape[1]


def _from_one_state(
    model: Any, function: Callable[[Item], Result], items: Iterable[Item]
) -> list[Result]:
    """Calls a function of each item, with running averages and noise as before the first."""
    passive = passive_variables(model)
    start = [tf.identity(variable) for variable in passive]
    results = []
    for item in items:
        for variable, value in zip(passive, start, strict=True):
            variable.assign(value)
        results.append(function(item))
    return results
