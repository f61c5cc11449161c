"""Derivatives along directions."""

import numpy as np
import pytest
import tensorflow as tf

from imnn_tf.utils.autodiff import pushforward

AT = np.array([[0.3, 2.0], [-1.0, 0.5], [0.7, 1.1]])


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: tf.function(f, autograph=False)])
def test_derivatives_are_those_worked_out_by_hand(wrap):
    x, y = AT.T
    along = [np.tile([1.0, 0.0], (3, 1)), np.array([[0.0, 1.0], [2.0, 1.0], [0.0, 0.0]])]
    calls = []

    def function(at):
        calls.append(1)
        return tf.stack([at[:, 0] * at[:, 1], tf.sin(at[:, 0]), tf.ones_like(at[:, 0])], axis=1)

    value, derivatives = wrap(
        lambda at: pushforward(function, at, [tf.constant(v) for v in along])
    )(tf.constant(AT))
    np.testing.assert_allclose(value, np.stack([x * y, np.sin(x), np.ones(3)], axis=1))
    for got, (a, b) in zip(derivatives, (direction.T for direction in along), strict=True):
        np.testing.assert_allclose(got, np.stack([a * y + b * x, a * np.cos(x), 0 * x], axis=1))
    assert len(calls) == 1


def test_a_linear_function_and_a_loop_have_their_derivatives():
    def function(at):
        return tf.while_loop(lambda k, _: k < 3, lambda k, z: (k + 1, 2 * z), (0, at))[1]

    _, (derivative,) = tf.function(
        lambda at: pushforward(function, at, [tf.ones_like(at)]), autograph=False
    )(tf.constant(AT))
    np.testing.assert_allclose(derivative, np.full((3, 2), 8.0))


def test_a_constant_function_has_no_derivatives():
    value, derivatives = pushforward(lambda at: tf.constant([1.0]), tf.constant(AT), [])
    assert value.shape == (1,)
    assert derivatives is None
