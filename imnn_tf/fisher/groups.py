"""Statistics of the summaries of groups of simulations, in one pass over the batches.

Simulation number `i` belongs to group `i mod n_groups`, whether it is a fiducial or a derivative
simulation. Simulations that share a seed are therefore in one group. The groups differ by chance
alone, which tells the error of everything that is made of all of them.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from imnn_tf.fit.passes import Summariser, sum_over_batches, summarise
from imnn_tf.information import Moments, Statistics
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


class _Sums(NamedTuple):
    """Sums over the simulations of each group, about a point among their summaries.

    Adding a batch to them takes fewer operations than merging moments, which counts where batches
    are small. About a point that near, sums of squares lose no digits.
    """

    centre: tf.Tensor  # [n_summaries], the mean of the first batch; zero before it
    # Sums of products of 1 and the summaries less the centre: number, sums, sums of squares.
    products: tf.Tensor  # [n_groups, 1 + n_summaries, 1 + n_summaries]
    slope: tf.Tensor  # [n_groups, n_params, n_summaries]

    def statistics(self) -> Statistics:
        """The moments of each group, and what it adds to the slope, `[n_groups]` first."""
        count, sums = self.products[:, 0, 0], self.products[:, 0, 1:]
        number = count[:, tf.newaxis]
        shift = tf.math.divide_no_nan(sums, number)
        scatter = self.products[:, 1:, 1:] - sums[:, :, tf.newaxis] * shift[:, tf.newaxis, :]
        mean = tf.where(number > 0, self.centre + shift, 0)
        return Statistics(Moments(count, mean, scatter), self.slope)


def _partial(summariser: Summariser, simulations: Simulations, part: Part) -> Statistics:
    """Statistics of the groups in a part of the batches."""
    batches, dtype = simulations.batches(0, part), simulations.dtype
    n, n_params = summariser.n_summaries, simulations.n_params

    def add(index: tf.Tensor, total: _Sums) -> _Sums:
        return _with_batch(total, summariser, batches.at(index), simulations, index)

    zero = _Sums(
        tf.zeros([n], dtype),
        tf.zeros([N_GROUPS, 1 + n, 1 + n], dtype),
        tf.zeros([N_GROUPS, n_params, n], dtype),
    )
    return sum_over_batches(None, simulations, add, zero, part).statistics()


def _with_batch(
    total: _Sums, summariser: Summariser, batch: Batch, simulations: Simulations, index: tf.Tensor
) -> _Sums:
    """The sums with those of one more batch."""
    summaries, varied = summarise(summariser.model, batch, simulations, training=False)
    # Indexing an eager tensor takes several times as long as these functions do.
    column = tf.expand_dims(batch.fiducial_weights, 1)
    mean = tf.math.divide_no_nan(tf.reduce_sum(summaries * column, axis=0), tf.reduce_sum(column))
    started = tf.reduce_any(tf.not_equal(total.products, 0))
    centre = tf.where(started, total.centre, mean)
    rows = _by_group(tf.concat([column, (summaries - centre) * column], axis=1))
    products = tf.matmul(rows, rows, transpose_a=True)
    if isinstance(varied, tf.Tensor):
        # A derivative simulation has a weight for its own parameter only.
        sides = tf.reduce_sum(batch.slope_weights, axis=1, keepdims=True) * varied
        sides = tf.reshape(sides, [2, simulations.n_params, -1, known_shape(varied)[1]])
        slopes = tf.transpose(tf.reduce_sum(sides, axis=0), [1, 0, 2])
    else:
        slopes = tf.stack(varied, axis=1) * tf.expand_dims(batch.slope_weights, 2)
    slope = tf.reduce_sum(_by_group(slopes), axis=1)
    return _Sums(
        centre,
        total.products + _from_batch(products, index, known_shape(summaries)[0]),
        total.slope + _from_batch(slope, index, known_shape(slopes)[0]),
    )


def _by_group(rows: tf.Tensor) -> tf.Tensor:
    """Sorts the rows of a batch by the group that they belong to in the first batch.

    Args:
        rows: `[rows, ...]`.

    Returns:
        `[n_groups, rows of a group, ...]`, with zeros where a group has fewer rows.
    """
    count, *shape = known_shape(rows)
    padding = -count % N_GROUPS
    if padding:
        rows = tf.pad(rows, [[0, padding], *([[0, 0]] * len(shape))])
    rows = tf.reshape(rows, [-1, N_GROUPS, *shape])
    return tf.transpose(rows, [1, 0, *range(2, 2 + len(shape))])


def _from_batch(grouped: tf.Tensor, index: tf.Tensor, count: int) -> tf.Tensor:
    """Gives the groups of a batch the numbers that they have in the whole.

    Args:
        grouped: Sums over the groups of a batch, `[n_groups, ...]`.
        index: The number `b` of the batch, `[]`.
        count: The number of rows of a batch, of which row `j` of batch `b` belongs to simulation
            `b count + j`.
    """
    if count % N_GROUPS == 0:
        return grouped
    return tf.roll(grouped, tf.cast(index, tf.int32) * count, axis=0)
