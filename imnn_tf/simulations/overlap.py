"""Whether simulations that are to judge a fit are those that it was made on."""

import logging
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from imnn_tf.simulations.batch import Part
from imnn_tf.simulations.simulations import Simulations

logger = logging.getLogger(__name__)

# Numbers of each simulation that are compared first. Few simulations agree in so many by chance.
_PROBED = 16

# Simulations that agree in those are compared as a whole, the first of them.
_COMPARED = 100


class _Rows(NamedTuple):
    """Simulations of one kind."""

    data: tf.Tensor  # [rows, numbers], among other rows
    where: np.ndarray  # [n], the rows in which they stand
    probes: np.ndarray  # [n, probes], some numbers of each


def warn_of_shared(name: str, simulations: Simulations, seen: Simulations, role: str) -> None:
    """Warns if simulations are among others that had a part in a fit.

    Of sets that are not held in memory, the first batches are compared.

    Args:
        name: What stands before the names of the arguments of `simulations`, such as
            `"validation_"`.
        simulations: Simulations that are to judge the fit, of the shape of the others.
        seen: Simulations that had a part in it.
        role: What these are, for the message.
    """
    known = _rows(seen)
    for kind, found in _rows(simulations).items():
        shared = _shared(found, known[kind])
        if shared:
            logger.warning(
                "`%s%s` should hold simulations that had no part in the fit, with seeds of their "
                "own. %d of %d that were compared are in the %s too, so det F on them is too high.",
                name,
                kind,
                shared,
                len(found.where),
                role,
            )


def _rows(simulations: Simulations) -> dict[str, _Rows]:
    """The simulations at hand, by their kind: all if they are held, or those of the first batch.

    Exact derivatives are no simulations, so there are fiducial ones alone where derivatives are
    exact.
    """
    layout, held = simulations.layout, simulations.feed.held
    if held is None:
        first = Part(0, layout.n_batches)  # a stream reads ahead, but not beyond its part
        data = simulations.feed.rows(0, first)(tf.constant(0))[0]
    else:
        data = tf.reshape(held[0], [-1, *held[0].shape[2:]])
    flat = tf.reshape(data, [len(data), -1])
    size = int(np.prod(simulations.input_shape))
    probed = np.random.default_rng(0).permutation(size)[:_PROBED]
    probes = tf.gather(flat, probed, axis=1).numpy()
    # Where each kind stands, `[n_batches, rows]`.
    places = {"fiducial": layout.fiducial_weights > 0}
    if not layout.exact:
        fiducial, derivative = np.zeros((2, layout.n_batches, layout.rows), bool)
        fiducial[:, : layout.blocks[0]] = places["fiducial"]
        derivative[:, layout.blocks[0] :] = (layout.slope_weights != 0).any(axis=-1)
        places = {"fiducial": fiducial, "derivative": derivative}
    rows = {}
    for kind, each in places.items():
        where = np.flatnonzero(each if held is not None else each[0])
        rows[kind] = _Rows(flat, where, probes[where])
    return rows


def _shared(found: _Rows, known: _Rows) -> int:
    """How many simulations are among others, or are those in the same place."""
    places = {probe.tobytes(): i for i, probe in enumerate(known.probes)}
    if len(places) < len(known.probes):
        # Simulations that take few values repeat by themselves; not all in the same order.
        n = min(len(found.probes), len(known.probes))
        pairs = [(i, i) for i in range(n)]
        if not np.array_equal(found.probes[:n], known.probes[:n]):
            return 0
    else:
        among = ((i, places.get(probe.tobytes())) for i, probe in enumerate(found.probes))
        pairs = [(i, j) for i, j in among if j is not None]
    same = sum(
        np.array_equal(found.data[found.where[i]], known.data[known.where[j]])
        for i, j in pairs[:_COMPARED]
    )
    return len(pairs) if same == len(pairs[:_COMPARED]) else same
