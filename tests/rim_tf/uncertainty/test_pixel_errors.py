"""The errors of pixels, against posteriors that are known."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import norm

from rim_tf import (
    RIM,
    Ensemble,
    GaussianLikelihood,
    PixelErrors,
    PutzkyWelling,
    UNet,
    pixel_coverage,
)
from rim_tf.uncertainty import pixel_errors
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


def scaled(x, gain):
    return gain[..., None] * x


def exact_rim(unit=1.0, likelihood=None):
    """An untrained RIM returns its start, which is the posterior mean."""

    def start(y, gain, sigma):
        return wiener(y, gain, sigma / unit)

    return RIM(
        [SIZE],
        PutzkyWelling(1, features=(4, 4, 4), dimensions=1, seed=0),
        score_fn=gain_score if likelihood is None else None,
        likelihood=likelihood,
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
    # Variances go from 0.02 to 1. Each is found to 11 %, and their mean much better.
    assert np.std(np.log(variance)) > 0.8
    assert np.sqrt(np.mean(np.log(ratio) ** 2)) < 0.15
    assert abs(np.mean(ratio) - 1) < 0.03
    coverage = pixel_coverage(predicted, x)
    for share, level, error in zip(coverage.shares, coverage.levels, coverage.errors, strict=True):
        assert abs(share - level) < 0.01 + 3 * error


@pytest.mark.parametrize("dimension", [SIZE, None])
def test_simulations_give_the_typical_error_of_any_problem_without_training(dimension):
    (y, x, *args), _ = white_signals(200, 12)
    rim = exact_rim(likelihood=GaussianLikelihood(scaled))
    if dimension is None:
        rim = RIM(
            [None],
            PutzkyWelling(1, features=(4, 4, 4), dimensions=1, seed=0),
            likelihood=GaussianLikelihood(scaled),
            initialization_method="approximate_inverse",
            approximate_inverse_fn=wiener,
            T=1,
        )
    errors = PixelErrors(rim, network(), probes=16)
    errors.measure_scales((y, *args), x)
    gain, sigma = args[0][:40], np.geomspace(0.03, 30.0, 40).astype("float32")
    y = scaled(x[:40], gain) + sigma[:, None, None] * np.random.default_rng(0).normal(
        size=(40, SIZE, 1)
    )
    found = errors.predict(y, gain, sigma)
    variances = found.deviation[..., 0] ** 2
    np.testing.assert_array_equal(np.ptp(variances, axis=1), 0)  # the network was not trained
    share = gain**2 / (gain**2 + sigma[:, None] ** 2)  # of the truth in the posterior mean
    # Data are simulated of true parameters of variance one, or of the estimate.
    power = 1.0 if dimension else found.u[..., 0] ** 2
    exact = ((1 - share) ** 2 * power + share**2 * (sigma[:, None] / gain) ** 2).mean(axis=1)
    ratio = variances.mean(axis=1) / exact
    # 16 simulations of 16 independent pixels each have 9 % of Monte Carlo error; a few pixels that
    # the data do not hold make most of the variance where the noise is low.
    assert np.all(np.abs(ratio[10:] - 1) < 0.4)
    assert abs(np.mean(ratio) - 1) < 0.15


def test_more_simulations_bring_the_typical_error_closer():
    """Of white signals with a gain of zero the mean square is all that is to be found."""
    size, count = SIZE, 128
    (_, x, _, sigma), _ = white_signals(count, 16)
    gain = np.zeros((count, size), "float32")
    errors = PixelErrors(
        exact_rim(likelihood=GaussianLikelihood(scaled)), network(), probes=2, simulations=64
    )
    args = (sigma[:, None, None] * np.ones_like(x), gain, sigma)
    errors.measure_scales(args, x)
    found = errors.predict(*(each[:3] for each in args))
    # The estimate is zero, and 64 signals of 16 numbers give their variance to 4.4 %.
    kept = np.mean(x[:64] ** 2)
    np.testing.assert_allclose(found.deviation**2, kept, rtol=1e-4)
    assert abs(kept - 1) < 4 * np.sqrt(2 / (64 * size))
    again = PixelErrors.from_config(
        errors.get_config(),
        {"likelihood": GaussianLikelihood(scaled), "approximate_inverse_fn": wiener},
    )
    assert again.simulations == 64
    assert "probes: 2, and 64 simulations" in repr(again)
    with pytest.raises(ValueError, match="`simulations` must be"):
        PixelErrors(errors.rim, network(), probes=4, simulations=3)


def test_a_fit_does_not_depend_on_units(errors):
    (y, _, *args), _ = white_signals(50, 1)
    (scaled, _, gain, sigma), _ = white_signals(50, 1, unit=1e4)
    other = trained(unit=1e4)
    # The same arithmetic but for rounding, which training amplifies.
    np.testing.assert_allclose(
        other.predict(scaled, gain, sigma).deviation,
        1e4 * errors.predict(y, *args).deviation,
        rtol=0.05,
    )


def test_an_example_has_the_same_error_alone_and_among_others(errors):
    (y, _, *args), _ = white_signals(20, 2)
    together = errors.predict(y, *args)
    alone = errors.predict(y[7:8], *(each[7:8] for each in args))
    np.testing.assert_allclose(alone.deviation[0], together.deviation[7], rtol=1e-4)
    np.testing.assert_array_equal(alone.u[0], together.u[7])


def test_the_rim_stays_as_it_is_and_its_later_training_changes_nothing():
    (y, x, *args), _ = white_signals(40, 3)
    rim = exact_rim()
    rim.fit((y, x, *args), epochs=1, seed=0, verbose=0)
    before = [variable.numpy() for variable in rim.variables]
    errors = PixelErrors(rim, network(), probes=1)
    errors.fit((y, x, *args), epochs=1, seed=0, verbose=0)
    assert rim.trainable_variables
    for variable, value in zip(rim.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    expected = errors.predict(y, *args)
    np.testing.assert_allclose(expected.x, rim.predict(y, *args), rtol=1e-5, atol=1e-6)
    rim.fit((y, x, *args), epochs=2, learning_rate=0.1, seed=0, verbose=0)
    again = errors.predict(y, *args)
    np.testing.assert_array_equal(again.u, expected.u)
    np.testing.assert_array_equal(again.deviation, expected.deviation)


def test_an_untrained_network_gives_the_typical_error():
    (y, x, *args), _ = white_signals(400, 4)
    errors = PixelErrors(exact_rim(), network(), probes=2)
    errors.measure_scales((y, *args), x)
    residual = x - wiener(y, *args)
    size = np.sqrt(np.mean(residual**2))
    np.testing.assert_allclose(errors.predict(y, *args).deviation, size, rtol=1e-5)


def test_the_loss_is_the_likelihood_of_every_probe():
    random = np.random.default_rng(5)
    truth, estimate = random.normal(size=(2, 3, 4, 1))
    variances = random.normal(size=(3, 2, 4, 1))
    predicted = np.concatenate([estimate[:, np.newaxis], variances], axis=1)
    expected = np.mean(
        [-norm.logpdf(truth, estimate, np.exp(variances[:, k] / 2)) for k in range(2)]
    )
    assert float(PixelLikelihood()(truth, predicted)) == pytest.approx(expected)
    last = -norm.logpdf(truth, estimate, np.exp(variances[:, 1] / 2)).mean()
    assert float(PixelLikelihood("last")(truth, predicted)) == pytest.approx(last)


def test_the_logged_share_counts_entries_with_weight():
    (y, x, *args), _ = white_signals(30, 6)
    errors = PixelErrors(exact_rim(), network(), probes=1)
    errors.measure_scales((y, *args), x)
    errors.compile()
    masked = x.copy()
    masked[:, :5] = np.nan
    weights = np.isfinite(masked).astype("float32")[..., 0]
    logged = errors.evaluate(
        (y, *args), masked, sample_weight=weights, batch_size=7, verbose=0, return_dict=True
    )
    predicted = errors.predict(y, *args)
    inside = np.abs(x - predicted.u) <= predicted.deviation
    assert logged["within"] == pytest.approx(inside[:, 5:].mean(), abs=1e-6)
    expected = -norm.logpdf(x, predicted.u, predicted.deviation)[:, 5:].mean()
    assert logged["loss"] == pytest.approx(expected, rel=1e-4)


def test_a_saved_model_predicts_the_same(errors, tmp_path):
    (y, x, *args), _ = white_signals(30, 7)
    errors.calibrate(y, x, *args)
    expected = errors.predict(y, *args)
    errors.save(tmp_path / "errors.keras")
    functions = {"score_fn": gain_score, "approximate_inverse_fn": wiener}
    loaded = keras.saving.load_model(tmp_path / "errors.keras", custom_objects=functions)
    found = loaded.predict(y, *args)
    np.testing.assert_allclose(found.deviation, expected.deviation, rtol=1e-5)
    for ours, theirs in zip(found.interval(0.9), expected.interval(0.9), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_fit_that_is_resumed_is_the_same_to_the_bit(tmp_path):
    data, _ = white_signals(40, 8)
    options = {"batch_size": 10, "seed": 0, "verbose": 0, "learning_rate": 1e-3}

    def fit(folder, *epochs):
        for number in epochs:
            errors = PixelErrors(exact_rim(), network(), probes=2)
            errors.fit(data, epochs=number, checkpoints_directory=tmp_path / folder, **options)
        return errors

    whole, resumed = fit("whole", 4), fit("resumed", 2, 4)
    for one, other in zip(whole.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)
    loaded = PixelErrors.from_checkpoints(
        tmp_path / "whole", "newest", score_fn=gain_score, approximate_inverse_fn=wiener
    )
    y, _, *args = data
    np.testing.assert_allclose(
        loaded.predict(y, *args).deviation, whole.predict(y, *args).deviation, rtol=1e-5
    )
    with pytest.raises(ValueError, match="`probes` must be as in the fit"):
        PixelErrors(exact_rim(), network(), probes=3).fit(
            data, epochs=5, checkpoints_directory=tmp_path / "whole", **options
        )


def test_xla_changes_nothing(errors, monkeypatch):
    (y, _, *args), _ = white_signals(10, 13)
    expected = errors.predict(y, *args)
    monkeypatch.setattr(pixel_errors, "resolve_jit", lambda rim, jit_compile: True)
    errors.compilation.predictors.clear()
    found = errors.predict(y, *args)
    np.testing.assert_allclose(found.deviation, expected.deviation, rtol=1e-4)


def test_data_sets_are_predicted_as_arrays_are(errors):
    (y, x, *args), _ = white_signals(20, 9)
    data = tf.data.Dataset.from_tensor_slices(((y, *args), x)).batch(8)
    expected = errors.predict(y, *args)
    found = errors.predict(data, verbose=0)
    np.testing.assert_allclose(found.deviation, expected.deviation, rtol=1e-4)
    with pytest.raises(ValueError, match="`y` must hold arrays"):
        errors.predict(data, batch_size=3)
    with pytest.raises(TypeError, match="data set"):
        errors.predict(y, *args, verbose=0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"rim": keras.Sequential()}, TypeError, "`rim` must be a `RIM`, got Sequential"),
        ({"network": UNet(2, 1)}, ValueError, "`network` must have as many channels"),
        ({"network": UNet(1, 2)}, ValueError, "as many dimensions"),
        ({"probes": 0}, ValueError, "`probes` must be"),
        ({"probes": 1.5}, TypeError, "`probes` must be"),
        ({"seed": -1}, ValueError, "`seed` must be"),
        ({"simulations": 8}, ValueError, "`simulations` must be None for a likelihood without"),
    ],
)
def test_bad_arguments_are_refused(change, error, message):
    arguments = {"rim": exact_rim(), "network": network(), **change}
    with pytest.raises(error, match=message):
        PixelErrors(arguments.pop("rim"), arguments.pop("network"), **arguments)


def test_another_loss_is_refused():
    with pytest.raises(TypeError, match="`loss` must be a `PixelLikelihood`"):
        PixelErrors(exact_rim(), network()).compile(loss="mse")


def test_a_log_variance_far_off_cannot_make_the_probes_overflow():
    (y, x, *args), _ = white_signals(10, 10)
    far = network()
    errors = PixelErrors(exact_rim(), far, probes=3)
    errors.measure_scales((y, *args), x)
    bias = far.output_layer.bias
    bias.assign(tf.fill(bias.shape, 100.0))
    assert np.isfinite(errors((y, *args)).numpy()).all()


def test_fields_and_links_have_errors_of_their_own():
    random = np.random.default_rng(11)
    x = {"a": np.exp(random.normal(size=(40, 4, 1))), "b": random.normal(size=(40, 4, 1))}
    y = np.concatenate([np.log(x["a"]), x["b"]], -1) + 0.1 * random.normal(size=(40, 4, 2))
    rim = RIM(
        [4],
        PutzkyWelling(2, features=(4, 4, 4), dimensions=1, seed=0),
        energy_fn=lambda x, y: tf.reduce_sum(
            (y - tf.concat([tf.math.log(x["a"]), x["b"]], -1)) ** 2, [1, 2]
        ),
        fields={"a": 1, "b": 1},
        link_function={"a": "exp"},
        T=1,
    )
    errors = PixelErrors(rim, UNet(2, 1, nf=4, ch_mult=(2,), hidden_units=4, seed=1), probes=1)
    errors.fit((y, x), epochs=1, seed=0, verbose=0)
    errors.calibrate(y, x)
    predicted = errors.predict(y)
    assert set(predicted.x) == set(predicted.error) == {"a", "b"}
    low, _high = predicted.interval(0.9)
    assert (low["a"] > 0).all()
    shares = pixel_coverage(predicted, {k: v.astype("float32") for k, v in x.items()}, [0.9]).shares
    assert shares == pytest.approx([0.9], abs=0.02)


def test_a_model_that_was_not_fitted_refuses_to_guess():
    (y, x, *args), _ = white_signals(20, 14)
    errors = PixelErrors(exact_rim(), network(), probes=1)
    message = "must be fitted, or given scales by `measure_scales`"
    data = tf.data.Dataset.from_tensor_slices(((y, *args), x)).batch(8)
    for use in (
        lambda: errors((y, *args)),
        lambda: errors.predict(y, *args),
        lambda: errors.predict(data, verbose=0),
        lambda: Ensemble([errors, errors]).predict(y, *args),
        lambda: errors.calibrate(y, x, *args),
    ):
        with pytest.raises(ValueError, match=message):
            use()
    errors.compile()
    with pytest.raises(ValueError, match=message):
        errors.evaluate((y, *args), x, verbose=0)
    errors.measure_scales((y, *args), x)
    assert np.isfinite(errors.predict(y, *args).deviation).all()


def test_a_model_says_what_it_is(tmp_path):
    (y, x, *args), _ = white_signals(20, 15)
    own = network()
    likelihood = GaussianLikelihood(scaled)
    errors = PixelErrors(exact_rim(likelihood=likelihood), own, probes=2)
    assert repr(errors) == (
        f"PixelErrors(parameters: of shape ({SIZE}, 1), rim: 1 steps, PutzkyWelling, "
        f"{errors.rim.network.count_params():,} weights, network: UNet, "
        f"{own.count_params():,} weights, probes: 2, and 2 simulations, "
        "typical error: not measured, `fit` will do it, intervals: Gaussian, state: not fitted)"
    )
    assert errors._repr_html_().count("<tr>") == 7
    assert "probes: 2, typical error" in repr(PixelErrors(exact_rim(), network(), probes=2))
    errors.fit((y, x, *args), epochs=2, seed=0, verbose=0, checkpoints_directory=tmp_path)
    errors.calibrate(y, x, *args)
    size = np.sqrt(np.mean((x - errors.predict(y, *args).u) ** 2))
    assert f"typical error: {size:.4g}, intervals: calibrated, " in repr(errors)
    assert "state: fitted for 2 epochs, loss " in repr(errors)
    loaded = PixelErrors.from_checkpoints(
        tmp_path, approximate_inverse_fn=wiener, likelihood=likelihood
    )
    assert "state: weights of epoch" in repr(loaded)
