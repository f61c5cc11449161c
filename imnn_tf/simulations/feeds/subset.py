"""Some of the simulations in memory, chosen anew for every update."""

import tensorflow as tf

from imnn_tf.simulations.batch import Part, Rows, RowsAt, row_of
from imnn_tf.simulations.layout import Layout
from imnn_tf.simulations.mapping import fold_in
from imnn_tf.utils.seeds import stateless_seed
from imnn_tf.utils.tensors import known_shape

# Separates these random numbers from those of other uses of the same seed.
_STREAM = 0x5B


class SubsetFeed:
    """A random part of simulations in memory; see `Feed` for the attributes.

    An update sees each simulation at most once. The members of a derivative are chosen together.

    Args:
        held: All simulations, `[n_batches, rows, *shape]`, and, where derivatives are exact, the
            derivatives, `[n_batches, rows, *shape, n_params]`.
        layout: Where each of all simulations stands.
        part: Where each of the chosen simulations stands.
        seed: A non-negative integer that, with the number of the update, decides the choice.
    """

    compilable = True
    failure = None
    held = None

    def __init__(self, held: Rows, layout: Layout, part: Layout, seed: int) -> None:
        self.shape = known_shape(held[0])[2:]
        self._rows = [tf.reshape(stack, [-1, *stack.shape[2:]]) for stack in held]
        self._layout, self._part = layout, part
        self._numbers = tf.constant(part.numbers, tf.int32)
        self._seed = fold_in(tf.constant(stateless_seed(seed), tf.int32), _STREAM)

    def rows(self, update: tf.Tensor | int, part: Part) -> RowsAt:
        """Starts a pass over the simulations that are chosen for an update.

        Args:
            update: The number of the update, `[]`.
            part: The part of the batches, which makes no difference.

        Returns:
            A function of the index of a batch, `[]`. It gives the simulations, `[rows, *shape]`,
            and, where derivatives are exact, the derivatives, `[rows, *shape, n_params]`.
        """
        del part
        seed = fold_in(self._seed, tf.cast(update, tf.int32))
        places = self._exact_places(seed) if self._layout.exact else self._places(seed)
        return lambda index: tuple(tf.gather(rows, row_of(places, index)) for rows in self._rows)

    def _places(self, seed: tf.Tensor) -> tf.Tensor:
        """The place in all simulations of each row of each batch, `[n_batches, rows]`."""
        whole, part = self._layout, self._part
        n_fiducial, n_pairs = whole.blocks[0], whole.blocks[1]
        fiducial, pairs = tf.split(self._numbers, [part.blocks[0], sum(part.blocks[1:])], axis=1)
        fiducial = tf.gather(_choose(whole.n_s, part.n_s, fold_in(seed, 0)), fiducial)
        pairs = tf.gather(_choose(whole.n_d, part.n_d, fold_in(seed, 1)), pairs)
        block = tf.repeat(tf.range(2 * whole.n_params), part.blocks[1])
        return tf.concat(
            [
                fiducial // n_fiducial * whole.rows + fiducial % n_fiducial,
                pairs // n_pairs * whole.rows + n_fiducial + block * n_pairs + pairs % n_pairs,
            ],
            axis=1,
        )

    def _exact_places(self, seed: tf.Tensor) -> tf.Tensor:
        """The same where derivatives are exact: those of the first `n_d` simulations are known."""
        whole, part = self._layout, self._part
        known = _choose(whole.n_d, part.n_d, fold_in(seed, 0))
        other = _choose(whole.n_s - whole.n_d, part.n_s - part.n_d, fold_in(seed, 1)) + whole.n_d
        return tf.gather(tf.concat([known, other], axis=0), self._numbers)


def _choose(n: int, k: int, seed: tf.Tensor) -> tf.Tensor:
    """`k` different numbers below `n`, `[k]`."""
    return tf.math.top_k(tf.random.stateless_uniform([n], seed), k, sorted=False).indices
