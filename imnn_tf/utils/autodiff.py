"""Derivatives along given directions, and the memory that gradients take."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import tensorflow as tf

# No public name reaches the registry.
from tensorflow.python.framework.ops import gradient_registry


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


@contextmanager
def gradients_of(owner: object) -> Iterator[None]:
    """Lets the gradients that are traced inside the block be forgotten with an object.

    In a graph `tf.custom_gradient` registers a function under a new name, for good, and through its
    tensors the function holds the graph and all graphs around it. Layers use such gradients too:
    the activation `silu` has one.

    Args:
        owner: The object to which the graph belongs.
    """
    before = set(gradient_registry.list())
    try:
        yield
    finally:
        weakref.finalize(owner, _forget_gradients, set(gradient_registry.list()) - before)


def _forget_gradients(names: set[str]) -> None:
    for name in names:
        gradient_registry._registry.pop(name, None)
