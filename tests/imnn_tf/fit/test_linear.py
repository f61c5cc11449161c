"""The least that a fit should keep: what a linear compression does."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf

from imnn_tf import IMNN
from imnn_tf.fit.linear import linear_log_det_fisher
from imnn_tf.fit.passes import Summariser

THETA, STEP = np.zeros(2), np.full(2, 0.2)


def templates(shape):
    """A slope and a constant along the first axis, the same along the others."""
    place = np.linspace(-1, 1, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    return np.stack([np.broadcast_to(place, shape), np.ones(shape)]).astype("float32")


def signals(shape, n, seed, noise=1.0):
    """Two templates in white noise, for which the score of the raw data is sufficient."""
    data = noise * np.random.default_rng(seed).normal(size=(n, *shape))
    half = STEP.reshape(-1, *[1] * len(shape)) / 2 * templates(shape)
    return data.astype("float32"), (data[:, None, None] + np.stack([-half, half])).astype("float32")


def exact_log_det(shape, noise=1.0):
    flat = templates(shape).reshape(2, -1) / noise
    return np.linalg.slogdet(flat @ flat.T)[1]


def linear(shape, n=2000, model=None, **options):
    model = model or keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    train, test = (signals(shape, n, seed) for seed in (1, 2))
    imnn = IMNN(
        θ_fid=THETA,
        δθ=STEP,
        fiducial=train[0],
        derivative=train[1],
        validation_fiducial=test[0],
        validation_derivative=test[1],
        model=model,
        verbose=False,
        **options,
    )
    return imnn


@pytest.mark.parametrize(
    ("shape", "loss"),
    # Averaging the slope over blocks loses what it varies within a block.
    [((6,), 0.0), ((40,), 0.0), ((12, 7), 0.0), ((32, 32), 0.012), ((8, 8, 8, 2), 0.1)],
)
def test_it_is_the_information_of_signals_in_noise(shape, loss):
    imnn = linear(shape)
    got = linear_log_det_fisher(imnn._summariser, imnn._training, imnn._validation)
    # ln det F has an error of 2 √(1/n), and the weights lose n_features / n_s.
    assert -loss - 0.1 - 0.1 < got - exact_log_det(shape) < 0.1


def test_batches_do_not_change_it():
    results = []
    for options in ({}, {"at_once": 300}):
        imnn = linear((12, 7), **options)
        results.append(linear_log_det_fisher(imnn._summariser, imnn._training, imnn._validation))
    np.testing.assert_allclose(results[1], results[0], rtol=1e-4)


def test_constant_entries_do_no_harm():
    train, test = (signals((10,), 1000, seed) for seed in (1, 2))
    for fiducial, derivative in (train, test):
        fiducial[:, 3], derivative[..., 3] = 5.0, 5.0
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(2)])
    held = [reference.held(*each, STEP, dtype=tf.float32) for each in (train, test)]
    left = np.delete(templates((10,)), 3, axis=1)
    got = linear_log_det_fisher(Summariser(model, 2), *held)
    np.testing.assert_allclose(got, np.linalg.slogdet(left @ left.T)[1], atol=0.2)


def test_a_fit_that_keeps_less_says_so_once(caplog):
    imnn = linear((30,))
    imnn.model.layers[-1].set_weights([np.eye(30, 2) + 0.1 * np.eye(30, 2, -7), np.zeros(2)])
    imnn.fit(3)
    messages = [record.message for record in caplog.records]
    assert len(messages) == 1
    assert "A linear compression of the same simulations keeps" in messages[0]
    assert f"{np.exp(exact_log_det((30,))):.2g}"[0] in messages[0]


def test_a_fit_that_keeps_as_much_says_nothing(caplog):
    imnn = linear((30,))
    w = templates((30,)).T
    w = w @ np.linalg.inv(np.linalg.cholesky(w.T @ w)).T
    imnn.model.layers[-1].set_weights([w, np.zeros(2)])
    imnn.fit(3)
    assert not caplog.records


def without_validation(n=1000, seed=1):
    fiducial, derivative = signals((30,), n, seed)
    model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(2)])
    return IMNN(
        θ_fid=THETA, δθ=STEP, fiducial=fiducial, derivative=derivative, model=model, verbose=False
    )


@pytest.mark.parametrize(("n", "seed"), [(100, 0), (100, 1), (300, 2), (1000, 3)])
def test_without_validation_the_exact_score_is_as_good(caplog, n, seed):
    imnn = without_validation(n=n, seed=seed)
    w = templates((30,)).T
    w = w @ np.linalg.inv(np.linalg.cholesky(w.T @ w)).T
    imnn.model.layers[-1].set_weights([w, np.zeros(2)])
    imnn.fit(1)
    assert "A linear compression" not in caplog.text


def test_without_validation_a_fit_that_keeps_less_says_so(caplog):
    imnn = without_validation()
    imnn.model.layers[-1].set_weights([np.eye(30, 2) + 0.1 * np.eye(30, 2, -7), np.zeros(2)])
    imnn.fit(1)
    assert "on the training set. A linear compression of the same simulations" in caplog.text
