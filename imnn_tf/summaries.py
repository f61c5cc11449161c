"""A model applied to batches of simulations, and the statistics of what comes out."""

from typing import Any

import tensorflow as tf

from imnn_tf.information import Moments, Statistics, merge, moments, slope
from imnn_tf.simulations.batch import Batch, Simulations


def seed_states(model: Any) -> list[Any]:
    """The variables of a Keras model that its random layers draw their numbers from."""
    known = {id(variable) for variable in (*model.weights, *model.metrics_variables)}
    return [variable for variable in model.variables if id(variable) not in known]


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
    seeds = seed_states(model) if training and not model.non_trainable_weights else []
    if not seeds:
        return tf.cast(model(data, training=training), dtype)
    start = [tf.identity(seed) for seed in seeds]
    summaries = []
    for block in tf.split(data, blocks):
        _assign(seeds, start)
        summaries.append(model(block, training=True))
    return tf.cast(tf.concat(summaries, axis=0), dtype)


def count_summaries(model: Any, simulations: Simulations) -> int:
    """Length of the summaries that a model makes of simulations.

    Raises:
        ValueError: If the model does not take them, or does not give `[batch, n_summaries]`.
    """
    first = simulations.begin()(tf.constant(0)).data[:2]
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


def statistics(summaries: tf.Tensor, batch: Batch) -> Statistics:
    """What the summaries of one batch add to the statistics of the whole."""
    return Statistics(moments(summaries, batch.fiducial), slope(summaries, batch.slope))


def accumulate(
    model: Any, simulations: Simulations, batch_at: Any, *, training: bool, n_summaries: int
) -> Statistics:
    """Statistics of all simulations, a batch at a time.

    Args:
        model: As in `summarise`.
        simulations: Where the batches come from.
        batch_at: The pass over them, as `simulations.begin` gives it.
        training: Whether the layers act as in training.
        n_summaries: Length of a summary.
    """

    def add(index: tf.Tensor, total: Statistics) -> tuple[tf.Tensor, Statistics]:
        batch = batch_at(index)
        summaries = summarise(
            model,
            batch.data,
            training=training,
            blocks=simulations.blocks,
            dtype=simulations.dtype,
        )
        part = statistics(summaries, batch)
        merged = merge(total.moments, part.moments)
        return index + 1, Statistics(merged, total.slope + part.slope)

    dtype = simulations.dtype
    zero = Statistics(
        Moments(
            tf.zeros([], dtype),
            tf.zeros([n_summaries], dtype),
            tf.zeros([n_summaries, n_summaries], dtype),
        ),
        tf.zeros([simulations.n_params, n_summaries], dtype),
    )
    if simulations.n_batches == 1:
        return add(tf.constant(0), zero)[1]
    _, total = tf.while_loop(
        lambda index, _: index < simulations.n_batches,
        add,
        (tf.constant(0), zero),
        parallel_iterations=1,
    )
    return total


def _assign(variables: list[Any], values: list[tf.Tensor]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
