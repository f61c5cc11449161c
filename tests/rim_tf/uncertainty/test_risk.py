"""Stein's estimate of the error of an observation, against errors that are known."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rim_tf import RIM, GaussianLikelihood, PixelErrors, PutzkyWelling, pixel_coverage

SIZE = 300
SHRINK = 0.6  # of the estimate: the posterior mean for parameters of variance 1.5 and unit noise


@keras.saving.register_keras_serializable("test_risk")
def shrunk(y, *args):
    return SHRINK * tf.cast(y, tf.float32)


@keras.saving.register_keras_serializable("test_risk")
def shrunk_parts(y, mask):
    y = tf.where(mask > 0, y, tf.zeros_like(y))
    return SHRINK * tf.stack([tf.math.real(y), tf.math.imag(y)], axis=-1)


@keras.saving.register_keras_serializable("test_risk")
def unchanged(x, *args):
    return x


def as_complex(x):
    return tf.complex(x[..., 0], x[..., 1])


def errors_of(likelihood, start, channels=1, probes=4):
    """The errors of a RIM that gives its start; both networks are untrained."""

    def network(seed):
        return PutzkyWelling(channels, features=(4, 4, 4), dimensions=1, seed=seed)

    rim = RIM(
        [None],
        network(0),
        likelihood=likelihood,
        initialization_method="approximate_inverse",
        approximate_inverse_fn=start,
        T=1,
    )
    return PixelErrors(rim, network(1), probes=1, risk_probes=probes)


def observed(power, seed, count=20):
    """Data with unit noise, `[count, SIZE, 1]`, of parameters of a variance each, and these."""
    random = np.random.default_rng(seed)
    x = np.sqrt(power)[:, None, None] * random.normal(size=(count, SIZE, 1))
    return (x + random.normal(size=x.shape)).astype("float32"), x.astype("float32")


def scaled_errors(probes=4):
    errors = errors_of(GaussianLikelihood(unchanged, sigma=1.0), shrunk, probes=probes)
    errors.measure_scales(*observed(np.full(20, 1.5), 0))
    return errors


def terms_of(errors, *inputs):
    inputs = [tf.convert_to_tensor(each) for each in inputs]
    found = errors.found(inputs, training=False)
    terms = errors.risk.terms(errors.rim, found, errors.draws, inputs)
    return terms.numpy(), found.numpy()


def test_the_risk_is_the_squared_error_of_the_data():
    errors, power = scaled_errors(), np.geomspace(0.1, 20, 20)
    y, x = observed(power, 1)
    terms, found = terms_of(errors, y)
    # |0.6 y - y|^2 - n + 2 (0.6 n) for this estimate, which random signs know exactly.
    exact = (1 - SHRINK) ** 2 * (y**2).sum((1, 2)) - SIZE + 2 * SHRINK * SIZE
    np.testing.assert_allclose(terms[:, 0], exact, rtol=1e-3, atol=0.1)
    # Without cross terms, the predicted one is the sum of the variances.
    np.testing.assert_allclose(terms[:, 1], np.exp(found[:, -1]).sum((1, 2)), rtol=1e-4)
    np.testing.assert_array_equal(terms[:, 2], SIZE)
    # Its difference from the actual error has the variance of a sum over independent data.
    actual = ((SHRINK * y - x) ** 2).sum((1, 2))
    deviation = np.sqrt(SIZE * (2 * (1 - 2 * SHRINK) ** 2 + 4 * (1 - SHRINK) ** 2 * power))
    units = (exact - actual) / deviation
    assert abs(units.mean()) < 3 / np.sqrt(len(units))
    assert 0.5 < units.std() < 1.6


def test_the_risk_of_complex_and_masked_data_is_that_of_those_that_count():
    likelihood = GaussianLikelihood(lambda x: as_complex(x), sigma=0.5, mask="given")
    errors = errors_of(likelihood, shrunk_parts, channels=2)
    random = np.random.default_rng(2)
    x = random.normal(size=(5, SIZE, 2)).astype("float32")
    y = (x + 0.5 * random.normal(size=x.shape)).astype("float32")
    mask = np.float32(random.random((5, SIZE)) < 0.6)
    y[mask == 0] = np.nan
    y = (y[..., 0] + 1j * y[..., 1]).astype("complex64")
    errors.measure_scales((y, mask), x)
    terms, _ = terms_of(errors, y, mask)
    count = 2 * mask.sum(1)
    np.testing.assert_array_equal(terms[:, 2], count)
    power = np.where(mask > 0, np.abs(y) ** 2, 0).sum(1) / 0.5**2
    exact = (1 - SHRINK) ** 2 * power - count + 2 * SHRINK * count
    np.testing.assert_allclose(terms[:, 0], exact, rtol=1e-3, atol=0.1)


def test_errors_follow_observations_that_are_unlike_the_training_data():
    power = np.tile([0.1, 1.5, 6.0, 20.0], 5)
    y, x = observed(power, 3)
    exact = (1 - SHRINK) ** 2 * power + SHRINK**2
    plain, corrected = (scaled_errors(probes).predict(y) for probes in (0, 4))
    ratios = [(each.deviation[:, 0, 0] ** 2 / exact).reshape(5, 4) for each in (plain, corrected)]
    assert ratios[0][:, 0].min() > 1.05
    assert ratios[0][:, 3].max() < 0.6
    # The relative error of the risk is 9 % of 300 data at a variance of 0.9, and less above. The
    # ratio is drawn to one by a tenth.
    assert np.abs(ratios[1] - 1).max() < 0.5
    np.testing.assert_allclose(ratios[1].mean(axis=0), 1, atol=0.2)
    shares = pixel_coverage(corrected, x, [0.68]).by_image[:, 0].reshape(5, 4).mean(axis=0)
    assert np.abs(shares - 0.68).max() < 0.07


def test_calibration_measures_the_typical_ratio_and_its_spread():
    errors = scaled_errors()
    # Predicted variances of half of the actual ones: the ratio is two, with a spread of its own.
    errors.scales.of_residuals.assign(np.float32(np.sqrt(0.6 / 2)) * np.ones(1))
    random = np.random.default_rng(5)
    power = random.uniform(0.5, 2.5, 200)
    y, x = observed(power, 5, count=200)
    simulated = np.exp(terms_of(errors, y[:1])[1][0, -1, 0, 0])
    errors.calibrate(y, x)
    exact = ((1 - SHRINK) ** 2 * power + SHRINK**2) / simulated
    assert abs(float(errors.risk.typical) / exact.mean() - 1) < 0.05
    assert abs(float(errors.risk.spread) - exact.std() / exact.mean()) < 0.1
    share = pixel_coverage(errors.predict(y), x, [0.68]).shares[0]
    assert abs(share - 0.68) < 0.002


def test_an_observation_of_which_nothing_counts_keeps_its_error():
    likelihood = GaussianLikelihood(unchanged, sigma=1.0, mask="given")
    errors = errors_of(likelihood, lambda y, mask: tf.zeros_like(y))
    y, x = observed(np.full(20, 1.5), 0)
    errors.measure_scales((y, np.ones_like(y)), x)
    found = errors.predict(y[:2], np.stack([np.ones_like(y[0]), np.zeros_like(y[0])]))
    assert np.isfinite(found.deviation).all()
    with pytest.raises(ValueError, match="`y` must hold data that count"):
        errors.calibrate(y, x, np.zeros_like(y))


def test_integers_are_data_as_other_numbers_are():
    errors = scaled_errors()
    y = np.round(3 * observed(np.full(4, 1.5), 7, count=4)[0])
    expected = errors.predict(y).deviation
    np.testing.assert_allclose(errors.predict(y.astype("int32")).deviation, expected, rtol=1e-6)


def test_a_saved_model_has_what_was_measured(tmp_path):
    errors = scaled_errors()
    y, x = observed(np.linspace(0.5, 2.5, 20), 6)
    errors.calibrate(y, x)
    errors.save(tmp_path / "errors.keras")
    loaded = keras.saving.load_model(
        tmp_path / "errors.keras",
        custom_objects={"likelihood": GaussianLikelihood(unchanged, sigma=1.0)},
    )
    assert loaded.risk_probes == 4
    assert float(loaded.risk.spread) == float(errors.risk.spread)
    np.testing.assert_allclose(loaded.predict(y).deviation, errors.predict(y).deviation, rtol=1e-6)


def test_a_likelihood_without_data_is_refused():
    rim = RIM([None], PutzkyWelling(1, features=(4, 4, 4), dimensions=1), score_fn=lambda x, y: y)
    network = PutzkyWelling(1, features=(4, 4, 4), dimensions=1)
    with pytest.raises(ValueError, match=r"`risk_probes` must be 0 .* simulate and chi2 and count"):
        PixelErrors(rim, network, risk_probes=2)
    with pytest.raises(ValueError, match="`risk_probes` must be at least 0"):
        PixelErrors(rim, network, risk_probes=-1)
