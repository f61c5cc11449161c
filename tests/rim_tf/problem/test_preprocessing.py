import keras
import numpy as np
import pytest
import tensorflow as tf

from rim_tf.problem.preprocessing import (
    METHODS,
    Adam,
    Arcsinh,
    Identity,
    RMSprop,
    get_preprocessing,
)

SCORES = (
    np.random.default_rng(0).normal(size=(6, 2, 4, 1))
    * 10.0 ** np.arange(-3, 3)[:, None, None, None]
)


def walk(method, scores):
    """What the network would see at each step, and the last memory."""
    memory, seen = method.initial_state(tf.constant(scores[0])), []
    for step, score in enumerate(scores):
        value, memory = method(tf.constant(score), memory, step)
        seen.append(np.asarray(value))
    return np.stack(seen), memory


def test_identity_and_arcsinh():
    np.testing.assert_array_equal(walk(Identity(), SCORES)[0], SCORES)
    np.testing.assert_allclose(walk(Arcsinh(), SCORES)[0], np.arcsinh(SCORES), rtol=1e-12)


@pytest.mark.parametrize(
    ("method", "optimizer", "moments"),
    [
        (
            Adam(0.8, 0.95, 1e-5),
            lambda: keras.optimizers.Adam(1.0, beta_1=0.8, beta_2=0.95, epsilon=1e-5),
            ("_momentums", "_velocities"),
        ),
        (
            RMSprop(0.85, 1e-5),
            lambda: keras.optimizers.RMSprop(1.0, rho=0.85, epsilon=1e-5),
            ("_velocities",),
        ),
    ],
    ids=["adam", "rmsprop"],
)
def test_moments_and_steps_are_those_of_keras(method, optimizer, moments):
    variable = keras.Variable(np.zeros(SCORES.shape[1:]), dtype="float64")
    theirs, steps = optimizer(), []
    for score in SCORES:
        before = variable.numpy()
        theirs.apply([tf.constant(score)], [variable])
        steps.append(before - variable.numpy())
    seen, memory = walk(method, SCORES)
    np.testing.assert_allclose(seen, steps, rtol=1e-6)  # Keras powers its betas in float32
    for ours, name in zip(memory, moments, strict=True):
        np.testing.assert_allclose(ours, getattr(theirs, name)[0], rtol=1e-6)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_a_score_of_zero_has_a_finite_gradient(name, jit):
    method = get_preprocessing(name)

    @tf.function(jit_compile=jit)
    def slope(score):
        with tf.GradientTape() as tape:
            tape.watch(score)
            memory = method.initial_state(score)
            for step in range(3):
                seen, memory = method(score, memory, step)
        return tape.gradient(seen, score)

    assert np.isfinite(slope(tf.constant([0.0, 1.0, 0.0, -1e-3]))).all()


@pytest.mark.parametrize("name", METHODS)
def test_memory_is_handed_on_not_kept(name):
    """Two interleaved trajectories see what each would see alone."""
    method = get_preprocessing(name)
    alone = walk(method, SCORES)[0], walk(method, -2.0 * SCORES)[0]
    memories = [method.initial_state(tf.constant(SCORES[0])) for _ in range(2)]
    for step, score in enumerate(SCORES):
        for which, factor in enumerate((1.0, -2.0)):
            value, memories[which] = method(tf.constant(factor * score), memories[which], step)
            np.testing.assert_array_equal(value, alone[which][step])


@pytest.mark.parametrize("method", [Identity(), Arcsinh(), Adam(0.5, 0.6, 0.1), RMSprop(0.3)])
def test_round_trip(method):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(method))
    assert type(again) is type(method)
    assert again.get_config() == method.get_config()


def test_names_take_the_rims_keywords():
    adam = get_preprocessing("ADAM", beta_1=0.1, beta_2=0.2, epsilon=0.3)
    assert adam.get_config() == {"beta_1": 0.1, "beta_2": 0.2, "epsilon": 0.3}
    assert get_preprocessing("RMSprop", epsilon=0.3).epsilon == 0.3
    assert get_preprocessing(adam) is adam


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: get_preprocessing("adamw"), ValueError, "must be one of 'scaled'"),
        (lambda: get_preprocessing(3), TypeError, "must be callable, got int"),
        (lambda: get_preprocessing(np.tanh), TypeError, "initial_state` must be callable"),
        (lambda: Adam(beta_1=1.0), ValueError, "`beta_1` must be less than 1"),
        (lambda: RMSprop(epsilon=0.0), ValueError, "`epsilon` must be greater than 0"),
    ],
)
def test_bad_arguments_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
