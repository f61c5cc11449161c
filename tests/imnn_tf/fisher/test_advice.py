"""Warnings about information that should not be trusted as it is."""

import logging

import keras
import numpy as np
import pytest
import reference
from fisher_information import gaussian_samples

from imnn_tf import IMNN
from imnn_tf.fisher.advice import halving_factor
from imnn_tf.fisher.correction import noise_share
from imnn_tf.fisher.variation import variation_of

STEP = np.array([0.1, 0.1])


def unmatched(seed, n_s, n_d):
    rng = np.random.default_rng(seed)
    sides = np.array([-0.5, 0.5])[:, None, None] * np.diag(STEP)
    varied = reference.simulate(reference.THETA_FID + sides, rng.normal(size=(n_d, 2, 2, 10)))
    return reference.simulate(reference.THETA_FID, rng.normal(size=(n_s, 10))), varied


def imnn_of(fiducial, derivative, **options):
    return IMNN(
        θ_fid=reference.THETA_FID,
        δθ=STEP,
        fiducial=fiducial,
        derivative=derivative,
        model=reference.dense_model(width=16),
        optimiser=keras.optimizers.Adam(0.01),
        verbose=False,
        **options,
    )


@pytest.mark.parametrize("n_d", [10, 100])
def test_the_factor_halves_the_share(n_d):
    samples = gaussian_samples(np.random.default_rng(0), 20, 1000, n_d, 10, 4.0)
    variation = variation_of(samples)
    for plain, noise in zip(variation.plain, variation.noise, strict=True):
        factor = halving_factor(plain, noise)
        clean = plain - noise
        share = noise_share(clean + noise / factor, noise / factor)
        assert share == pytest.approx(noise_share(plain, noise) / 2, rel=1e-6)
        assert factor > 2


def test_noise_of_more_than_all_has_a_least_factor():
    assert halving_factor(np.eye(2), 2 * np.eye(2)) == 4


def advice(caplog):
    """What was logged about the information, but not about the fit."""
    return [each for each in caplog.records if each.name.startswith("imnn_tf.fisher")]


def test_a_fit_on_noisy_derivatives_warns_once(caplog):
    imnn = imnn_of(*unmatched(0, 300, 30))
    with caplog.at_level(logging.WARNING, "imnn_tf"):
        imnn.fit(5)
    (record,) = advice(caplog)
    said = record.getMessage()
    assert "of det F on the training set is noise of the slope, which has 30 derivative" in said
    assert "derivative simulations, or δθ = [" in said
    assert imnn.measurement.information.noise_share > 0.1


def test_a_fit_on_matched_derivatives_does_not(caplog):
    imnn = imnn_of(*reference.simulations(0, 500))
    with caplog.at_level(logging.WARNING, "imnn_tf"):
        imnn.fit(5)
    assert not advice(caplog)


def test_matched_noise_is_not_said_to_fall_with_the_step(caplog):
    # Three pairs of matched seeds leave noise, of which a wider step would take nothing away.
    imnn = imnn_of(*reference.simulations(0, 300, 3))
    with caplog.at_level(logging.WARNING, "imnn_tf"):
        imnn.fit(5)
    assert all("δθ" not in record.getMessage() for record in advice(caplog))


def test_a_step_that_is_too_wide_warns(caplog):
    data = keras.Input((10,))

    def steep(x):
        mean = keras.ops.mean(x, axis=-1, keepdims=True)
        return mean + 20 * mean**3

    model = keras.Model(data, keras.layers.Lambda(steep)(data))
    noise = 1e-3 * np.random.default_rng(0).normal(size=(300, 10))

    def pairs(*steps):
        return np.stack([np.stack([noise - d / 2, noise + d / 2], 1) for d in steps], axis=2)

    imnn = IMNN(
        θ_fid=[0.0], δθ=[0.2], fiducial=noise, derivative=pairs(0.2), model=model, verbose=False
    )
    with caplog.at_level(logging.WARNING, "imnn_tf"):
        # The data are 0.2/0.0003 errors apart, so one width already gives a warning.
        imnn.evaluate(noise, pairs(0.2))
        (record,) = advice(caplog)
        assert "`δθ` is wide in units of the error 1/√F of a parameter" in record.getMessage()
        caplog.clear()
        # The slope over 0.2 is 1.2 of the true one, so det F is 1.44 times too large.
        imnn.evaluate(noise, pairs(0.2, 0.3), second_δθ=[0.3])
        (record,) = advice(caplog)
        assert "is 1.44 times that extrapolated to a step of zero" in record.getMessage()
        assert "Both steps of the derivatives are wide" in record.getMessage()
        caplog.clear()
        imnn.evaluate(noise, pairs(2e-4, 4e-4), δθ=[2e-4], second_δθ=[4e-4])
    assert not advice(caplog)


@pytest.mark.parametrize(("n_d", "warned"), [(10, True), (400, False)])
def test_summaries_that_rare_simulations_carry_warn(caplog, n_d, warned):
    # The exponential of a normal number has a kurtosis of 114.
    data = keras.Input((1,))
    model = keras.Model(data, keras.layers.Lambda(keras.ops.exp)(data))
    noise = np.random.default_rng(0).normal(size=(20_000, 1))
    pairs = np.stack([noise[:n_d] - 0.05, noise[:n_d] + 0.05], axis=1)[:, :, None]
    imnn = IMNN(θ_fid=[0.0], δθ=[0.1], fiducial=noise, derivative=pairs, model=model, verbose=False)
    with caplog.at_level(logging.WARNING, "imnn_tf"):
        evaluation = imnn.evaluate(noise, pairs)
    assert evaluation.kurtosis.shape == (1,)
    assert bool(advice(caplog)) is warned
    if warned:
        assert "Rare simulations carry the summaries on the simulations" in caplog.text


def test_a_network_that_tells_the_sides_of_a_step_apart_has_no_error(caplog):
    # Of normal data about θ it gives a number that is almost constant near θ = 0 and grows steeply
    # on both sides. Its true det F is 0.026 of the exact one, and over a step of 8 it is huge.
    data = keras.Input((1,))
    model = keras.Model(data, keras.layers.Lambda(lambda x: x**9)(data))
    noise = np.random.default_rng(0).normal(size=(20_000, 1))

    def pairs(step):
        return np.stack([noise[:10] - step / 2, noise[:10] + step / 2], axis=1)[:, :, None]

    imnn = IMNN(
        θ_fid=[0.0], δθ=[8.0], fiducial=noise, derivative=pairs(8.0), model=model, verbose=False
    )
    with caplog.at_level(logging.WARNING, "imnn_tf"):
        evaluation = imnn.evaluate(noise, pairs(8.0))
    np.testing.assert_array_equal(evaluation.heavy_tails, [0])
    # Moments of a normal number: E[9 x⁸] and E[x¹⁸].
    truth = (9 * 105) ** 2 / 34_459_425
    assert evaluation.plain.fisher[0, 0] > 1000 * truth
    assert evaluation.steps_too_wide
    assert evaluation.interval() == (0, np.inf)
    for error in (evaluation.log_det_fisher_std, evaluation.fisher_std, imnn.F_std):
        assert np.isinf(error).all()
    assert "so the error of det F is infinite" in caplog.text
    narrow = imnn.evaluate(noise, pairs(0.1), δθ=[0.1])
    assert not narrow.steps_too_wide


def test_the_plot_has_a_band_of_the_corrected_value():
    imnn = imnn_of(*reference.simulations(0, 300))
    assert not imnn.plot()[0].patches
    imnn.fit(5)
    (band,) = imnn.plot()[0].patches
    low, high = imnn.measurement.information.interval()
    np.testing.assert_allclose([band.get_y(), band.get_y() + band.get_height()], [low, high])
    other = imnn.evaluate(*reference.simulations(1, 300))
    (band,) = imnn.plot(evaluation=other)[0].patches
    np.testing.assert_allclose(band.get_y(), other.interval()[0])
