"""Derivatives along given directions."""

from collections.abc import Callable, Sequence
from typing import cast

import tensorflow as tf


def pushforward(
    function: Callable[[tf.Tensor], tf.Tensor], at: tf.Tensor, along: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, list[tf.Tensor] | None]:
    """A function's value and its derivatives `J v` along several directions `v`.

    The product `Jᵀ u` with the transposed Jacobian is linear in `u`, and its derivative with
    respect to `u` along `v` is `J v`. The function therefore runs once for all directions, where a
    `ForwardAccumulator` would run it once for each. In a graph `Jᵀ u` itself is never computed,
    because the graph is pruned of it.

    Args:
        function: Differentiable TensorFlow code. It takes a tensor of the shape of `at`, and
            returns one of any shape.
        at: The point at which to differentiate, of any shape.
        along: The directions, each of the shape of `at`.

    Returns:
        The value, and one derivative of the value's shape for each direction; `None` in place of
        the derivatives if the value does not depend on `at`.
    """
    with tf.GradientTape(persistent=True) as outer:
        with tf.GradientTape() as inner:
            inner.watch(at)
            value = function(at)
        cotangent = tf.zeros_like(value)
        outer.watch(cotangent)
        gradient = inner.gradient(value, at, output_gradients=[cotangent])
    # The stubs leave out that the gradient is `None` where nothing connects the two tensors.
    pullback = cast(tf.Tensor | None, gradient)
    if pullback is None:
        return value, None
    zero = tf.UnconnectedGradients.ZERO
    derivatives = [
        outer.gradient(pullback, cotangent, output_gradients=[v], unconnected_gradients=zero)
        for v in along
    ]
    return value, cast(list[tf.Tensor], derivatives)  # those of dense tensors are dense
