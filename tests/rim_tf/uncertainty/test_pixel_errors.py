"""The errors of pixels, against posteriors that are known."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import norm

from rim_tf import RIM, GaussianLikelihood, PixelErrors, PutzkyWelling, UNet, pixel_coverage
from rim_tf.uncertainty.likelihood import PixelLikelihood

SIZE = 16


def gain_score(x, y, gain, sigma):
    return gain[..., None] * (y - gain[..., None] * x) / sigma[:, None, None] ** 2


def wiener(y, gain, sigma):
    """The posterior mean for white parameters of variance one."""
    gain = gain[..., None]
    return gain * y / (gain**2 + sigma[:, None, None] ** 2)


def white_signals(count, seed, unit=1.0):
    """Data of gains that differ from pixel to pixel: `(y, x, gain, sigma)`, and the variances."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, SIZE, 1))
    gain = random.uniform(0.0, 2.0, (count, SIZE))
    sigma = np.exp(random.uniform(np.log(0.3), np.log(3.0), count))
    y = gain[..., None] * x + sigma[:, None, None] * random.normal(size=x.shape)
    variance = 1.0 / (1.0 + (gain / sigma[:, None]) ** 2)
    arrays = (y * unit, x * unit, gain, sigma * unit)
    return tuple(each.astype("float32") for each in arrays), variance * unit**2


def exact_rim(unit=1.0):
    """An untrained RIM returns its start, which is the posterior mean."""

    def start(y, gain, sigma):
        return wiener(y, gain, sigma / unit)

    return RIM(
        [SIZE],
        PutzkyWelling(1, 1, nf=4, units=4, seed=0),
        score_fn=gain_score,
        initialization_method="approximate_inverse",
        approximate_inverse_fn=start,
        T=1,
    )


def network(seed=1):
    return UNet(1, 1, nf=16, ch_mult=(2,), hidden_units=16, num_layers=1, seed=seed)


def trained(unit=1.0, epochs=6, count=4000):
    errors = PixelErrors(exact_rim(unit), network(), probes=2)
    data, _ = white_signals(count, 0, unit)
    rate = keras.optimizers.schedules.CosineDecay(4e-3, epochs * count // 50)
    errors.fit(data, epochs=epochs, batch_size=50, learning_rate=rate, seed=0, verbose=0)
    return errors


@pytest.fixture(scope="module")
def errors():
    return trained()


def test_variances_are_those_of_the_posterior(errors):
    (y, x, *args), variance = white_signals(2000, 1)
    predicted = errors.predict(y, *args)
    ratio = predicted.deviation[..., 0] ** 2 / variance
    # Variances go from 0.02 to 1. Each is found to a tenth, and the mean of 2,000 to 3 %.
    assert np.std(np.log(variance)) > 0.8
    assert np.sqrt(np.mean(np.log(ratio) ** 2)) < 0.1
    assert abs(np.mean(ratio) - 1) < 0.03
    coverage = pixel_coverage(predicted, x)
    for share, level, error in zip(
        coverage.shares, coverage.levels, coverage.errors, strict=True
    ):
        assert abs(share - level) < 0.01 + 3 * error
