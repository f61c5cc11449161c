"""Scores: gradients of the log probability, from functions and energies, through links.

The network steps through unlinked numbers `u`, with parameters `x = link(u)`. Its score is the
gradient with respect to `u`, by the chain rule `J_link(u)^T score(x)`. The energy is minus the
log probability up to a constant, so that `score = -d energy / d x`.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from rim_tf.parameters import Values

ScoreFunction = Callable[..., Values]
EnergyFunction = Callable[..., tf.Tensor]


def vectorized(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one example, as a function of a batch."""

    def batched(*arguments: Any) -> Any:
        return tf.vectorized_map(lambda example: function(*example), arguments)

    return batched


def score_from_energy(energy_fn: EnergyFunction) -> ScoreFunction:
    """The score that belongs to an energy.

    Args:
        energy_fn: `energy_fn(x, y, *args)`, one energy for each example, `(batch,)`. The
            energy of an example may depend on no other example.

    Returns:
        `score_fn(x, y, *args)`, of the structure and shape of `x`.
    """

    def score_fn(x: Values, *args: Any) -> Values:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            energy = tf.reduce_sum(energy_fn(x, *args))
        return tf.nest.map_structure(
            tf.negative,
            tape.gradient(energy, x, unconnected_gradients=tf.UnconnectedGradients.ZERO),
        )

    return score_fn


def through_link(score_fn: ScoreFunction, link: Callable[[tf.Tensor], Values]) -> ScoreFunction:
    """The score with respect to unlinked parameters, by the chain rule.

    Args:
        score_fn: `score_fn(x, y, *args)` of the parameters.
        link: From unlinked numbers to the parameters.

    Returns:
        `score_fn(u, y, *args)`, of the shape of `u`.
    """

    def unlinked_score_fn(u: tf.Tensor, *args: Any) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(u)
            x = link(u)
        return tape.gradient(
            x,
            u,
            output_gradients=score_fn(x, *args),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )

    return unlinked_score_fn


def unlinked_score(
    link: Callable[[tf.Tensor], Values],
    *,
    score_fn: ScoreFunction | None = None,
    energy_fn: EnergyFunction | None = None,
    vectorize: bool = False,
    gradient: bool = False,
) -> ScoreFunction:
    """The score a RIM takes its steps by.

    Args:
        link: From unlinked numbers to the parameters.
        score_fn: `score_fn(x, y, *args)`; the energy is used when `None`.
        energy_fn: `energy_fn(x, y, *args)`.
        vectorize: Whether the function given is of one example, without the batch axis.
        gradient: Whether training differentiates through the score. Without, the score is an
            input to the network like any other, and no second derivatives are taken.

    Returns:
        `score_fn(u, y, *args)`, `(batch, *sizes, channels)`.

    Raises:
        ValueError: If neither function is given.
    """
    batched = vectorized if vectorize else lambda function: function
    if score_fn is not None:
        score = through_link(batched(score_fn), link)
    elif energy_fn is not None:
        energy = batched(energy_fn)
        score = score_from_energy(lambda u, *args: energy(link(u), *args))
    else:
        raise ValueError("One of `score_fn` and `energy_fn` must be given, got neither.")
    if gradient:
        return score
    return lambda u, *args: tf.stop_gradient(score(tf.stop_gradient(u), *args))
