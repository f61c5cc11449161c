"""How much of an exactly known Fisher information fits with the networks keep."""

import keras
import numpy as np
import pytest
import scripts
import tensorflow as tf

from imnn_tf import IMNN, networks

N_OBJECTS = 100


def kept_share(score, summaries):
    """Share of det F that summaries keep, from their covariance with the score."""
    joint = np.cov(score.T, summaries.T)
    own, cross, exact = joint[2:, 2:], joint[:2, 2:], joint[:2, :2]
    return np.linalg.det(cross @ np.linalg.solve(own, cross.T)) / np.linalg.det(exact)


def fit(model, updates, validation, **given):
    """Fits with Adam at 1e-2 and a cosine decay on new simulations, and keeps the last weights."""
    schedule = keras.optimizers.schedules.CosineDecay(1e-2, updates)
    imnn = IMNN(
        n_s=100,
        seed=0,
        model=model,
        optimiser=keras.optimizers.Adam(schedule),
        validation_fiducial=validation[0],
        validation_derivative=validation[1],
        verbose=False,
        **given,
    )
    # Without a validation set the fit would keep the weights of its luckiest batch.
    imnn.fit(updates, λ=0.1, validation_freq=updates)


@pytest.fixture
def example(monkeypatch):
    """The example of Gaussian random fields, with 32 x 32 pixels."""
    module = scripts.example("gaussian_random_field")
    monkeypatch.setattr(module, "SIZE", 32)
    return module


@pytest.mark.torture
def test_a_field_network_keeps_the_information_of_a_gaussian_field(example, monkeypatch):
    # The error of a parameter is four times as large as at 128 x 128.
    monkeypatch.setattr(example, "DELTA_THETA", np.array([0.04, 0.04]))
    model = networks.field_network((32, 32), 2, seed=0)
    fit(
        model,
        400,
        example.simulations(1, 500, 50),
        n_d=10,
        θ_fid=example.THETA_FID,
        δθ=example.DELTA_THETA,
        simulator=example.simulator,
    )
    fields = example.fields(example.THETA_FID, 6000, [999, 0])
    summaries = model.predict(fields, batch_size=500, verbose=0)
    assert kept_share(example.score(fields), summaries) > 0.97


@pytest.mark.slow
def test_a_learned_function_finds_the_logarithm_of_a_field(example, monkeypatch):
    """The seed is one that kept 0.76 while the first convolution saw the mean of the field."""
    monkeypatch.setattr(example, "THETA_FID", np.array([0.25, 1.0]))
    monkeypatch.setattr(example, "DELTA_THETA", np.array([0.02, 0.1]))
    fiducial, derivative = example.simulations(1, 500, 50)
    model = networks.field_network((32, 32), 2, pointwise=8, filters=(8, 8, 8), seed=3)
    fit(
        model,
        400,
        (np.exp(fiducial), np.exp(derivative)),
        n_d=5,
        θ_fid=example.THETA_FID,
        δθ=example.DELTA_THETA,
        simulator=lambda parameters, seed: tf.exp(example.simulator(parameters, seed)),
    )
    fields = example.fields(example.THETA_FID, 6000, [999, 0])
    summaries = model.predict(np.exp(fields), batch_size=500, verbose=0)
    # Without a learned function 0.88 is kept after 500 updates.
    assert kept_share(example.score(fields), summaries) > 0.95


def objects(parameters, seed):
    """Catalogues `[batch, N_OBJECTS, 1]` of Gaussian objects with a mean and a variance."""
    noise = tf.random.stateless_normal([tf.shape(parameters)[0], N_OBJECTS], seed)
    return (parameters[:, :1] + tf.sqrt(parameters[:, 1:]) * noise)[..., None]


@pytest.mark.parametrize("information", [True, False])
def test_a_set_network_keeps_the_information_of_catalogues_of_any_length(information):
    theta, step = np.array([0.0, 1.0]), np.array([0.1, 0.1])
    noise = np.random.default_rng(77).normal(size=(500, N_OBJECTS)).astype(np.float32)
    sides = theta + np.array([-0.5, 0.5])[:, None, None] * np.diag(step)
    varied = sides[..., :1] + np.sqrt(sides[..., 1:]) * noise[:200, None, None]
    model = networks.set_network(1, 2, information=information, seed=0)
    fit(
        model,
        300,
        (noise[..., None], varied[..., None]),
        n_d=50,
        θ_fid=theta,
        δθ=step,
        simulator=objects,
    )
    rng = np.random.default_rng(5)
    for n, n_catalogues, least in [(10, 4000, 0.97), (100, 4000, 0.98), (1000, 2000, 0.98)]:
        x = rng.normal(size=(n_catalogues, n)).astype(np.float32)
        score = np.stack([x.sum(1), (x**2 - 1).sum(1) / 2], axis=1)
        batch = max(1, 20000 // n)
        summaries = model.predict(x[..., None], batch_size=batch, verbose=0)
        assert kept_share(score, summaries) > (least if information else 0.98), n


LENGTH, COEFFICIENT = 200, 0.5


def series(parameters, seed):
    """Stationary autoregressive series `[batch, LENGTH]` with a coefficient and a variance."""
    shape = [LENGTH, tf.shape(parameters)[0]]
    coefficient = parameters[:, 0]
    steps = tf.random.stateless_normal(shape, seed) * tf.sqrt(parameters[:, 1])
    first = steps[0] / tf.sqrt(1 - coefficient**2)
    rest = tf.scan(lambda last, step: coefficient * last + step, steps[1:], first)
    return tf.transpose(tf.concat([first[None], rest], axis=0))


def test_a_series_network_keeps_the_information_of_an_autoregressive_process():
    theta, step = np.array([COEFFICIENT, 1.0]), np.array([0.04, 0.08])

    def draw(point, n, seed):
        return series(tf.constant(np.repeat([point], n, axis=0), tf.float32), [seed, 8]).numpy()

    sides = [[draw(theta + sign * row / 2, 100, 9) for row in np.diag(step)] for sign in (-1, 1)]
    model = networks.series_network(LENGTH, 2, seed=0)
    fit(
        model,
        400,
        (draw(theta, 500, 7), np.moveaxis(np.array(sides), 2, 0)),
        n_d=20,
        θ_fid=theta,
        δθ=step,
        simulator=series,
    )
    x = draw(theta, 8000, 10)
    steps = x[:, 1:] - COEFFICIENT * x[:, :-1]
    first = x[:, 0] ** 2
    score = np.stack(
        [
            (steps * x[:, :-1]).sum(1) + COEFFICIENT * first,
            ((steps**2).sum(1) + (1 - COEFFICIENT**2) * first) / 2,
        ],
        axis=1,
    )
    assert kept_share(score, model.predict(x, batch_size=500, verbose=0)) > 0.97
