"""The example of operators never seen: its training family, its start, and a short run."""

import numpy as np
import pytest
import scripts
import tensorflow as tf

from rim_tf import RIM, GaussianLikelihood, PixelErrors, UNet


@pytest.fixture(scope="module")
def example():
    """The script as a module."""
    return scripts.example("rim_unseen_operators")


def test_random_operators_are_symmetric_and_keep_the_mean(example):
    transfer = example.random_operators(40, (0, tf.constant(0, tf.int64))).numpy()
    half = example.SIZE // 2
    inner = np.fft.fftshift(transfer, (1, 2))[:, 1:, 1:]  # without the highest frequency
    assert inner.shape == (40, 2 * half - 1, 2 * half - 1)
    np.testing.assert_allclose(inner, inner[:, ::-1, ::-1], atol=1e-5)
    np.testing.assert_allclose(transfer[:, 0, 0], 1, atol=1e-6)
    assert np.abs(transfer).max() <= 1
    # Some are blurs, which weaken all modes, and some change signs.
    negative = (transfer < 0).any((1, 2))
    assert 0 < negative.sum() < 40


def test_the_start_is_the_wiener_filter_of_white_fields(example, monkeypatch):
    y = np.random.default_rng(0).normal(size=(1, example.SIZE, example.SIZE, 1)).astype("float32")
    transfer = example.operators()["motion"].astype("float32")
    white = np.full((example.SIZE, example.SIZE), 0.3 * example.SIZE**2)
    monkeypatch.setattr(example, "spectrum", lambda: white)
    got = example.start(tf.constant(y), tf.constant(transfer[None]), tf.constant([0.1]))
    np.testing.assert_allclose(got, example.wiener(y, transfer, 0.1), atol=1e-4)


def test_simulated_errors_are_exact_for_operators_never_seen(example):
    """A RIM that takes no step from the Wiener filter leaves what the posterior's variance says."""
    power = tf.constant(example.spectrum())

    def exact(y, transfer, sigma):
        level = sigma[:, None, None] ** 2 * example.SIZE**2
        return example.blur(y, transfer * power / (transfer**2 * power + level))

    rim = RIM(
        [example.SIZE, example.SIZE],
        UNet(1, 2, nf=4, ch_mult=(2,), hidden_units=4, seed=0),
        likelihood=GaussianLikelihood(example.blur),
        initialization_method="approximate_inverse",
        approximate_inverse_fn=exact,
        T=1,
    )
    errors = PixelErrors(
        rim, UNet(1, 2, nf=4, ch_mult=(2,), hidden_units=4, seed=1), probes=1, simulations=64
    )
    errors.measure_scales(*next(iter(example.training_data(64, seed=5))))
    transfers = np.stack(list(example.operators().values())).astype("float32")
    for sigma in (0.05, 0.3):
        y = np.zeros((len(transfers), example.SIZE, example.SIZE, 1), "float32")
        levels = np.full(len(transfers), sigma, "float32")
        found = errors.predict(y, transfers, levels).deviation[:, 0, 0, 0] ** 2
        known = [example.posterior_variance(transfer, sigma) for transfer in transfers]
        # One simulation scatters by 6 %, and by 17 % where modes are lost.
        np.testing.assert_allclose(found / known, 1, atol=4 * 0.17 / np.sqrt(64))


@pytest.mark.slow
def test_a_short_run_gains_on_the_start(example, monkeypatch):
    motion = {"motion": example.operators()["motion"]}
    monkeypatch.setattr(example, "operators", lambda: motion)
    rim = example.make_rim()
    rim.T = 2  # compiles sooner than eight steps
    example.train(rim, 20)
    errors = example.make_errors(rim, simulations=8)
    example.train_errors(errors, 4)
    result = example.compare(rim, errors, 0.1, 16)["motion"]
    _, begun, ours, best = result["errors"]
    assert best < ours < begun
    # What the RIM gets wrong is counted.
    assert result["variance"] == pytest.approx(ours / best, rel=0.2)
