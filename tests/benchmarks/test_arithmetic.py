"""Arithmetic counted in graphs against products of sizes."""

import arithmetic
import keras
import pytest
import tensorflow as tf


def gradient_of(model):
    def gradient(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x) ** 2)
        return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    return gradient


def test_dense_layers():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(7), keras.layers.Dense(3)])
    work = arithmetic.count(gradient_of(model), tf.ones([11, 5]))
    # Forward, by the weights, and by the inputs of all layers but the first.
    assert work.flop == 2 * 11 * (3 * (5 * 7 + 7 * 3) - 5 * 7)
    assert work.heaviest.outputs[0].shape == (11, 7)


def test_convolutions():
    layers = [keras.layers.Conv2D(n, 3, strides=2, padding="same") for n in (4, 6)]
    model = keras.Sequential([keras.Input((8, 8, 2)), *layers])
    work = arithmetic.count(gradient_of(model), tf.ones([10, 8, 8, 2]))
    first, second = 16 * 9 * 2 * 4, 4 * 9 * 4 * 6
    assert work.flop == 2 * 10 * (2 * first + 3 * second)
    assert work.heaviest.type == "Conv2D"


def test_what_a_condition_does_when_all_is_well():
    def conditional(x):
        return tf.cond(tf.reduce_sum(x) > 0, lambda: x @ x, lambda: x @ x @ x)

    work = arithmetic.count(conditional, tf.ones([4, 4]))
    assert work.flop == 2 * 4**3
    assert work.core_bytes == 3 * 16 * 4


def test_a_loop_of_unknown_length_is_refused():
    def loop(x):
        return tf.while_loop(lambda y: tf.reduce_sum(y) < 9, lambda y: [y @ y], [x])

    with pytest.raises(ValueError, match="How often"):
        arithmetic.count(loop, tf.ones([4, 4]))
