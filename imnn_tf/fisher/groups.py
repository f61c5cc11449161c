"""Statistics of the summaries of groups of simulations, in one pass over the batches.

Simulation number `i` belongs to group `i mod n_groups`, whether it is a fiducial or a derivative
simulation. Simulations that share a seed are therefore in one group. The groups differ by chance
alone, which tells the error of everything that is made of all of them.
"""

import numpy as np
import tensorflow as tf

from imnn_tf import information
from imnn_tf.fit.passes import Summariser, sum_over_batches, summaries_and_derivatives
from imnn_tf.information import Moments, Statistics, merge
from imnn_tf.simulations.batch import Batch, Part
from imnn_tf.simulations.simulations import Simulations
from imnn_tf.utils.tensors import known_shape

# The relative error of a variance from so many groups is 18 %.
N_GROUPS = 64


def group_statistics(summariser: Summariser, simulations: Simulations) -> Statistics:
    """Statistics of the summaries of each group of simulations, in the memory of a batch.

    Args:
        summariser: The model, with the external summaries beside it.
        simulations: The simulations.

    Returns:
        The moments of each group, `[n_groups]` first, and what each adds to the slope of all,
        `[n_groups, n_params, n_summaries]`. Groups without simulations have zeros.
    """
    fixed = simulations.fixed(0)
    return summariser.replicas.statistics(lambda part: _partial(summariser, fixed, part))


def group_sizes(count: int) -> np.ndarray:
    """How many of `count` simulations are in each group, `[n_groups]`."""
    return np.bincount(np.arange(count) % N_GROUPS, minlength=N_GROUPS)


def total_statistics(groups: Statistics) -> Statistics:
    """The statistics of all groups, eager tensors, together; computed in double precision."""
    (count, mean, scatter), slope = tf.nest.map_structure(
        lambda part: np.asarray(part, np.float64), groups
    )
    centre = count @ mean / count.sum()
    shift = mean - centre
    between = (count[:, np.newaxis] * shift).T @ shift
    total = Moments(count.sum(), centre, scatter.sum(axis=0) + between)
    dtype = groups.slope.dtype
    return Statistics(
        Moments(*(tf.constant(part, dtype) for part in total)),
        tf.constant(slope.sum(axis=0), dtype),
    )


def _partial(summariser: Summariser, simulations: Simulations, part: Part) -> Statistics:
    """Statistics of the groups in a part of the batches."""
    batches, dtype = simulations.batches(0, part), simulations.dtype
    n, shape = summariser.n_summaries, (N_GROUPS,)

    def add(index: tf.Tensor, total: Statistics) -> Statistics:
        more = _of_batch(summariser, batches.at(index), simulations, index)
        return Statistics(merge(total.moments, more.moments), total.slope + more.slope)

    empty = Moments(
        tf.zeros(shape, dtype), tf.zeros([*shape, n], dtype), tf.zeros([*shape, n, n], dtype)
    )
    zero = Statistics(empty, tf.zeros([*shape, simulations.n_params, n], dtype))
    return sum_over_batches(None, simulations, add, zero, part)


def _of_batch(
    summariser: Summariser, batch: Batch, simulations: Simulations, index: tf.Tensor
) -> Statistics:
    """Statistics of the groups in one batch."""
    summaries, varied = summaries_and_derivatives(
        summariser.model, batch, simulations, training=False
    )
    weights = batch.slope_weights
    if isinstance(varied, tf.Tensor):
        # A derivative simulation has a weight for its own parameter only.
        sides = tf.reduce_sum(weights, axis=1, keepdims=True) * varied
        sides = tf.reshape(sides, [2, simulations.n_params, -1, known_shape(varied)[1]])
        slopes = tf.transpose(tf.reduce_sum(sides, axis=0), [1, 0, 2])
    else:
        slopes = tf.stack(varied, axis=1) * weights[:, :, tf.newaxis]
    weighted = tf.concat([summaries, batch.fiducial_weights[:, tf.newaxis]], axis=1)
    sizes = [known_shape(summaries)[1], 1]
    grouped, counted = tf.split(_by_group(weighted, index), sizes, axis=2)
    moments = information.moments(grouped, tf.squeeze(counted, axis=2))
    return Statistics(moments, tf.reduce_sum(_by_group(slopes, index), axis=1))


def _by_group(rows: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Sorts the rows of a batch by the group of the simulation that they belong to.

    Args:
        rows: `[rows, ...]`, of which row `j` of batch `b` belongs to simulation `b rows + j`.
        index: The number `b` of the batch, `[]`.

    Returns:
        `[n_groups, rows of a group, ...]`, with zeros where a group has fewer rows.
    """
    count, *shape = known_shape(rows)
    padding = -count % N_GROUPS
    if padding:
        rows = tf.pad(rows, [[0, padding], *([[0, 0]] * len(shape))])
    rows = tf.reshape(rows, [-1, N_GROUPS, *shape])
    if count % N_GROUPS:
        rows = tf.roll(rows, tf.cast(index, tf.int32) * count, axis=1)
    return tf.transpose(rows, [1, 0, *range(2, 2 + len(shape))])
