"""`remat=True` computes every step again in the backward pass, with the same gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from problems import SIZE, draw, energy_fn, small_network, small_rim

from rim_tf import RIM, UNet
from rim_tf.problem.preprocessing import METHODS
from rim_tf.recomputation import recomputed


def gradients(rim, data, jit_compile=None):
    """The loss and its gradients with respect to the weights and to the data."""
    y, x, *args = (tf.constant(each) for each in data)

    def slopes(y):
        with tf.GradientTape() as tape:
            tape.watch(y)
            loss = tf.reduce_mean((rim((y, *args)) - x[:, tf.newaxis]) ** 2)
        return loss, tape.gradient(loss, [y, *rim.trainable_variables])

    if jit_compile is not None:
        slopes = tf.function(slopes, jit_compile=jit_compile, autograph=False)
    loss, found = slopes(y)
    return [loss, *found]


def check(options, jit_compile, rtol=1e-5):
    data = draw(4, 0)
    ours, theirs = (
        gradients(small_rim(remat=remat, T=3, **options), data, jit_compile)
        for remat in (True, False)
    )
    for got, want in zip(ours, theirs, strict=True):
        assert np.any(want != 0)
        np.testing.assert_allclose(got, want, rtol, rtol * np.abs(want).max())


@pytest.mark.parametrize("jit_compile", [None, False, True], ids=["eager", "graph", "XLA"])
@pytest.mark.parametrize("method", ["scaled", "adam"])
def test_gradients_are_those_without(method, jit_compile):
    options = {"score_preprocessing_method": method, "score_gradient": True}
    check({**options, "energy_fn": energy_fn}, jit_compile, 1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_of_the_weights_are_those_without(method):
    options = {"score_preprocessing_method": method, "observation_channels": 0}
    data = draw(4, 0)
    ours, theirs = (
        gradients(small_rim(remat=remat, T=3, energy_fn=energy_fn, **options), data, False)
        for remat in (True, False)
    )
    for got, want in zip(ours[2:], theirs[2:], strict=True):  # the score has no slope by the data
        np.testing.assert_allclose(got, want, 1e-5, 1e-5 * np.abs(want).max())


def test_a_fit_is_the_same_and_the_choice_is_saved(tmp_path):
    weights = []
    for remat in (True, False):
        rim = RIM(
            [SIZE],
            UNet(1, 1, nf=2, hidden_units=2, recurrent_skips=True, seed=0),
            energy_fn=energy_fn,
            T=2,
            remat=remat,
        )
        assert rim.get_config()["remat"] is remat
        rim.compile(keras.optimizers.SGD(1e-2), jit_compile=False)
        rim.fit(draw(8, 1), epochs=2, seed=0, verbose=0)
        weights.append(rim.get_weights())
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_integers_and_nests_pass_through():
    def function(pair, index):
        return {"a": pair[0] * pair[1] ** 2, "b": index + 1}

    x, y = tf.constant(3.0), tf.constant(2.0)
    with tf.GradientTape() as tape:
        tape.watch((x, y))
        result = recomputed(function)((x, y), tf.constant(4))
        total = result["a"]
    assert int(result["b"]) == 5
    np.testing.assert_allclose(tape.gradient(total, (x, y)), [4.0, 12.0])


@pytest.mark.parametrize(("dtype", "unit"), [("mixed_float16", 1.0), ("mixed_bfloat16", 1e3)])
def test_mixed_precision_trains_and_stays_finite(dtype, unit):
    """With noise of 1e-3, whose scores are beyond float16."""
    y, x, a, _ = draw(32, 2)
    sigma = np.full(32, 1e-3, "float32")
    network = small_network(dtype=dtype)
    rim = small_rim(network=network, score_preprocessing_method="scaled", remat=True)
    rim.compile(jit_compile=False)
    data = (unit * y, unit * x, a, sigma)
    loss = rim.fit(data, epochs=4, batch_size=8, seed=0, verbose=0).history["loss"]
    assert np.isfinite(loss).all()
    assert loss[-1] < loss[0]
    assert all(np.isfinite(each).all() for each in rim.get_weights())


def test_a_network_that_draws_random_numbers_is_refused():
    class Noisy(keras.layers.Layer):
        channels = 1

        def __init__(self):
            super().__init__()
            self.dropout = keras.layers.Dropout(0.5, seed=0)

        def initial_state(self, batch_size, sizes):
            return tf.zeros([batch_size, 1])

        def call(self, inputs, state):
            return self.dropout(inputs[..., :1]), state

    with pytest.raises(ValueError, match="`remat` must be False for a network with variables"):
        small_rim(network=Noisy(), remat=True)

    class Tape(Noisy):
        def call(self, inputs, state):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                square = tf.reduce_sum(inputs**2)
            slope = tape.gradient(square, inputs, unconnected_gradients="zero")
            return slope[..., :1], state

        def __init__(self):
            keras.layers.Layer.__init__(self)

    with pytest.raises(ValueError, match="`remat` must be False for a network that uses a"):
        small_rim(network=Tape(), remat=True)
    with pytest.raises(TypeError, match="`remat` must be True or False"):
        small_rim(remat=1)
