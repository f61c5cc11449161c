"""A RIM that is trained on the likelihood of an observation unlike its training data."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rim_tf import RIM, GaussianLikelihood, PutzkyWelling

SIZE, SIGMA = 16, 0.1


def identity(x):
    return x[..., 0]


def signals(count, seed, scale=1.0):
    random = np.random.default_rng(seed)
    x = scale * random.normal(size=(count, SIZE, 1))
    y = x[..., 0] + SIGMA * random.normal(size=(count, SIZE))
    return y.astype("float32"), x.astype("float32")


@pytest.fixture(scope="module")
def rim():
    """Trained on signals of order one."""
    model = RIM(
        [SIZE],
        PutzkyWelling(1, features=(16, 16, 16), dimensions=1, seed=0),
        likelihood=GaussianLikelihood(identity, sigma=SIGMA),
        T=3,
    )
    model.compile(keras.optimizers.Adam(3e-3, epsilon=1e-12), jit_compile=False)
    model.fit(signals(640, 0), epochs=8, seed=0, verbose=0)
    return model


def chi2(rim, y, counted=SIZE):
    """The misfit of the first data, `[batch, counted]`."""
    whole = np.pad(y, [(0, 0), (0, SIZE - counted)])
    x = rim.predict(whole, jit_compile=False)[:, :counted]
    return float(np.sum((y - x[..., 0]) ** 2, axis=1).mean() / SIGMA**2)


def test_an_unusual_observation_is_fitted_up_to_its_noise(rim):
    y, x = signals(1, 1, scale=30.0)
    before = [variable.numpy() for variable in rim.variables]
    adapted = rim.adapt(y, updates=400, learning_rate=3e-3, verbose=False)
    assert chi2(rim, y) > 20 * SIZE
    # It ends at the first update that reaches chi-squared, not far below it.
    assert 0.3 * SIZE < chi2(adapted, y) <= SIZE
    errors = [np.mean((each.predict(y, jit_compile=False) - x) ** 2) for each in (rim, adapted)]
    assert errors[1] < 0.2 * errors[0]
    for variable, value in zip(rim.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_the_first_update_follows_the_likelihood(rim):
    """Adam's first step is the learning rate times the sign of the gradient."""
    y, _ = signals(2, 2, scale=10.0)
    adapted = rim.adapt(y, updates=1, learning_rate=1e-4, verbose=False)
    with tf.GradientTape() as tape:
        u = rim(y)[:, -1]
        energy = tf.reduce_sum((y - u[..., 0]) ** 2) / (2 * SIGMA**2)
    gradients = tape.gradient(energy, rim.trainable_variables)
    pairs = zip(rim.trainable_variables, adapted.trainable_variables, gradients, strict=True)
    for own, other, gradient in pairs:
        clear = np.abs(gradient) > 1e-3 * np.abs(gradient).max()
        moved = (other - own).numpy()[clear]
        np.testing.assert_allclose(moved, -1e-4 * np.sign(gradient)[clear], rtol=0.05)


def test_an_observation_that_is_explained_changes_nothing(rim):
    y, _ = signals(1, 3)
    adapted = rim.adapt(y, chi2=1e9, verbose=False)
    np.testing.assert_array_equal(adapted(y), rim(y))


def test_a_limit_needs_a_likelihood():
    network = PutzkyWelling(1, features=(4, 4, 4), dimensions=1, seed=0)
    rim = RIM([SIZE], network, score_fn=lambda x, y: y[..., None] - x, T=1)
    with pytest.raises(ValueError, match="`chi2` must be None"):
        rim.adapt(np.zeros((1, SIZE)), chi2=1.0)
    with pytest.raises(ValueError, match="`updates` must be"):
        rim.adapt(np.zeros((1, SIZE)), updates=-1)
    moved = rim.adapt(np.ones((1, SIZE)), updates=2, learning_rate=0.1, verbose=False)
    assert np.abs(moved.predict(np.ones((1, SIZE))) - 1).mean() < 1


@pytest.mark.parametrize("mask", [None, "given", "fixed"])
@pytest.mark.parametrize("kind", [np.float32, np.complex64])
def test_masked_data_do_not_count(mask, kind):
    """Data of pure noise have a chi-squared of one for each number that counts."""
    random = np.random.default_rng(4)
    kept = np.zeros((3, SIZE), "float32")
    kept[:, : SIZE // 4] = 1.0
    kept[2] = 1.0
    options = {None: {}, "given": {"mask": "given"}, "fixed": {"mask": kept[0]}}[mask]
    likelihood = GaussianLikelihood(lambda x: tf.cast(x[..., 0], kind), sigma=SIGMA, **options)
    y = SIGMA * random.normal(size=(3, SIZE, 2))
    y = (y[..., 0] + 1j * y[..., 1] if kind is np.complex64 else y[..., 0]).astype(kind)
    args = (kept,) if mask == "given" else ()
    counted = {None: [SIZE] * 3, "given": [4, 4, SIZE], "fixed": [4] * 3}[mask]
    expected = np.array(counted) * (2 if kind is np.complex64 else 1)
    np.testing.assert_array_equal(likelihood.count(y, *args), expected)


def test_updates_go_on_to_the_number_of_data_that_are_not_masked():
    """Most data are masked: where all of them would count, no update would be made."""
    kept = np.zeros(SIZE, "float32")
    kept[:2] = 1.0
    masked = RIM(
        [SIZE],
        PutzkyWelling(1, features=(8, 8, 8), dimensions=1, seed=0),
        likelihood=GaussianLikelihood(identity, sigma=SIGMA, mask=kept),
        T=2,
    )
    # An untrained RIM leaves zeros, so chi-squared is 8: above two data, below all sixteen.
    y = np.full((1, SIZE), 2 * SIGMA, "float32")
    assert chi2(masked, y[:, :2], 2) == pytest.approx(8.0)
    adapted = masked.adapt(y, updates=300, learning_rate=3e-3, verbose=False)
    assert 0.5 < chi2(adapted, y[:, :2], 2) <= 2.0
