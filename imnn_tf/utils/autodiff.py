"""Derivatives along given directions."""

from collections.abc import Callable, Sequence

import tensorflow as tf


def pushforward(
    function: Callable[[tf.Tensor], tf.Tensor], at: tf.Tensor, along: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, list[tf.Tensor] | None]:
    """A function's value and its derivatives along several directions, `J v`.

    The product with the transposed Jacobian, `Jᵀ u`, is linear in `u`, and its derivative by `u`
    along `v` is `J v`. So the function runs once for all directions, where a `ForwardAccumulator`
    would have to run it for each; and the value of `Jᵀ u` itself is never computed in a graph,
    which prunes it.

    Args:
        function: Differentiable TensorFlow code.
        at: Where, of any shape.
        along: Directions, each of the shape of `at`.

    Returns:
        The value, and for each direction a derivative of its shape; `None` for these where the
        value does not depend on `at`.
    """
    with tf.GradientTape(persistent=True) as outer:
        with tf.GradientTape() as inner:
            inner.watch(at)
            value = function(at)
        cotangent = tf.zeros_like(value)
        outer.watch(cotangent)
        pullback = inner.gradient(value, at, output_gradients=cotangent)
    if pullback is None:
        return value, None
    zero = tf.UnconnectedGradients.ZERO
    derivatives = [
        outer.gradient(pullback, cotangent, output_gradients=v, unconnected_gradients=zero)
        for v in along
    ]
    return value, derivatives
