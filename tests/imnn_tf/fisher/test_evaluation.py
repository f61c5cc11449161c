"""`IMNN.evaluate`: the information with its error."""

import copy
import pickle

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf

from imnn_tf import IMNN
from imnn_tf.information import Information, InformationError

STEP = np.array([0.1, 0.1])


def moments_model():
    """A linear network of the draws and their squares, whose F is known: 10 and 5."""
    data = keras.Input((10,), dtype="float64")
    mean = keras.layers.Lambda(lambda x: keras.ops.mean(x, axis=-1, keepdims=True), dtype="float64")
    square = keras.layers.Lambda(
        lambda x: keras.ops.mean(x**2, axis=-1, keepdims=True), dtype="float64"
    )
    joined = keras.layers.Concatenate(dtype="float64")([mean(data), square(data)])
    return keras.Model(data, joined)


def imnn_of(n_s=100, n_d=100, **changes):
    fiducial, derivative = reference.simulations(0, n_s, n_d)
    return IMNN(
        **{
            "θ_fid": reference.THETA_FID,
            "δθ": STEP,
            "fiducial": fiducial,
            "derivative": derivative,
            "model": moments_model(),
            "dtype": tf.float64,
            "verbose": False,
            **changes,
        }
    )


def unmatched(seed, n_s, n_d, delta=STEP):
    """Simulations whose derivatives do not share their noise."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n_d, 2, 2, 10))
    sides = np.array([-0.5, 0.5])[:, None, None] * np.diag(delta)
    varied = reference.simulate(reference.THETA_FID + sides, noise)
    return reference.simulate(reference.THETA_FID, rng.normal(size=(n_s, 10))), varied


def independent(model, fiducial, derivative, delta=STEP):
    """The corrected information, straight from its definition, one pair at a time."""
    x = model(fiducial).numpy()
    y = model(derivative.reshape(-1, 10)).numpy().reshape(*derivative.shape[:3], -1)
    slopes = (y[:, 1] - y[:, 0]) / delta[:, None]
    n_s, s = x.shape
    inverse = np.linalg.inv(np.cov(x, rowvar=False)) * (n_s - s - 2) / (n_s - 1)
    products = np.einsum("ias,st,jbt->ijab", slopes, inverse, slopes)
    pairs = ~np.eye(len(slopes), dtype=bool)
    return products[pairs].mean(0), slopes


@pytest.mark.parametrize("at_once", [None, 17])
@pytest.mark.parametrize("n_d", [7, 40])
def test_it_is_the_mean_over_pairs_of_different_simulations(n_d, at_once):
    imnn = imnn_of(at_once=at_once)
    simulations = unmatched(3, 90, n_d, STEP)
    evaluation = imnn.evaluate(*simulations)
    expected, slopes = independent(imnn.model, *simulations)
    # The mean over pairs of a symmetric matrix; groups of one simulation make it exact.
    np.testing.assert_allclose(evaluation.fisher, (expected + expected.T) / 2, rtol=1e-8)
    np.testing.assert_allclose(evaluation.slope, slopes.mean(0), rtol=1e-8)
    assert (evaluation.n_s, evaluation.n_d) == (90, n_d)


def test_it_is_still_the_named_tuple():
    imnn = imnn_of()
    evaluation = imnn.evaluate(*reference.simulations(1, 200))
    fisher, log_det, covariance, inverse, log_det_c, mean, slope = evaluation
    assert isinstance(evaluation, Information)
    assert len(evaluation) == 7
    assert fisher is evaluation.fisher
    assert log_det is evaluation[1]
    np.testing.assert_allclose(covariance @ inverse, np.eye(2), atol=1e-10)
    np.testing.assert_allclose(log_det_c, np.linalg.slogdet(covariance)[1])
    assert mean.shape == (2,)
    assert slope.shape == (2, 2)


def test_plain_information_is_that_of_the_attributes():
    imnn = imnn_of()
    plain = imnn.evaluate(*reference.simulations(0, 100), debias=False)
    np.testing.assert_allclose(plain.fisher, imnn.F, rtol=1e-10)
    np.testing.assert_allclose(plain.fisher_std, imnn.F_std, rtol=1e-8)
    np.testing.assert_allclose(plain.log_det_fisher, np.linalg.slogdet(imnn.F)[1], rtol=1e-8)
    np.testing.assert_allclose(plain.parameter_std, np.sqrt(np.diag(imnn.Finv)), rtol=1e-8)
    corrected = imnn.evaluate(*reference.simulations(0, 100))
    np.testing.assert_array_equal(corrected.plain.fisher, plain.fisher)
    assert corrected.interval() == plain.interval()
    assert corrected.bias == plain.bias
    assert 0 < corrected.noise_share < corrected.bias < 0.2


@pytest.mark.parametrize("debias", [True, False])
def test_it_survives_copies_and_pickles(debias):
    evaluation = imnn_of().evaluate(*unmatched(1, 30, 400), debias=debias)
    for again in (copy.deepcopy(evaluation), pickle.loads(pickle.dumps(evaluation))):  # noqa: S301
        np.testing.assert_array_equal(again.fisher, evaluation.fisher)
        np.testing.assert_array_equal(again.fisher_std, evaluation.fisher_std)
        np.testing.assert_array_equal(again.parameter_std_error, evaluation.parameter_std_error)
        assert again.interval(0.9) == evaluation.interval(0.9)


def test_errors_are_the_scatter_of_many_evaluations():
    # The slope shares the seeds of the covariance, and their errors nearly cancel in part. With
    # 150 repetitions the scatter is known to 6 %, and that of 300 skewed summaries is not Gaussian.
    imnn = imnn_of()
    found = [imnn.evaluate(*reference.simulations(seed, 300)) for seed in range(1, 151)]
    fishers = np.array([each.fisher for each in found])
    errors = np.sqrt(np.mean([each.fisher_std**2 for each in found], axis=0))
    np.testing.assert_allclose(errors, fishers.std(0), rtol=0.2)
    log_dets = np.array([each.log_det_fisher for each in found])
    scatter = np.sqrt(np.mean([each.log_det_fisher_std**2 for each in found]))
    np.testing.assert_allclose(scatter, log_dets.std(), rtol=0.2)
    stds = np.array([each.parameter_std for each in found])
    scatter = np.sqrt(np.mean([each.parameter_std_error**2 for each in found], axis=0))
    np.testing.assert_allclose(scatter, stds.std(0), rtol=0.2)
    # The error of a mean of 150.
    assert np.abs(log_dets.mean() - np.log(50)) < 4 * log_dets.std() / np.sqrt(150)
    held = [low < 50 < high for low, high in (each.interval() for each in found)]
    assert 0.56 < np.mean(held) < 0.8  # three standard deviations about 0.68


def test_noise_that_outweighs_the_slope_leaves_no_determinant():
    imnn = imnn_of()
    evaluation = imnn.evaluate(*unmatched(4, 200, 4, STEP))
    assert np.linalg.eigvalsh(evaluation.fisher).min() < 0
    assert np.isnan(evaluation.log_det_fisher)
    assert np.isnan(evaluation.parameter_std).all()
    assert evaluation.bias == evaluation.noise_share == 1
    assert np.isfinite(evaluation.fisher_std).all()
    low, high = evaluation.interval()
    assert low == 0
    np.testing.assert_allclose(high, np.exp(evaluation.plain.log_det_fisher))


def test_one_derivative_simulation_tells_no_error():
    imnn = imnn_of()
    fiducial, derivative = reference.simulations(1, 200, 1)
    evaluation = imnn.evaluate(fiducial, derivative)
    np.testing.assert_allclose(evaluation.fisher, evaluation.plain.fisher * 196 / 199)
    assert np.isnan(evaluation.fisher_std).all()
    assert np.isnan(evaluation.log_det_fisher_std)
    assert np.isnan(evaluation.interval()).all()


def test_too_few_fiducial_simulations_are_named():
    imnn = imnn_of()
    fiducial, derivative = reference.simulations(1, 4)
    with pytest.raises(InformationError, match="needs at least 5 fiducial simulations, got 4"):
        imnn.evaluate(fiducial, derivative)
    plain = imnn.evaluate(fiducial, derivative, debias=False)
    assert np.isfinite(plain.fisher).all()


@pytest.mark.parametrize("level", [0, 1, "half"])
def test_levels_are_probabilities(level):
    evaluation = imnn_of().evaluate(*reference.simulations(1, 200))
    with pytest.raises((ValueError, TypeError), match="`level` must be"):
        evaluation.interval(level)


def test_wider_levels_give_wider_intervals():
    evaluation = imnn_of().evaluate(*unmatched(4, 200, 400, STEP))
    assert 0.2 < evaluation.noise_share < 1
    (a, b), (c, d) = evaluation.interval(0.68), evaluation.interval(0.95)
    assert c < a < np.exp(evaluation.log_det_fisher) < b < d


def test_external_summaries_are_part_of_it():
    fiducial, derivative = reference.simulations(0, 300)
    other = reference.simulations(1, 300)

    def mean(data):
        return data.mean(-1, keepdims=True)

    imnn = imnn_of(
        fiducial=fiducial,
        derivative=derivative,
        external_fiducial=mean(fiducial),
        external_derivative=mean(derivative),
        model=reference.dense_model(width=8, dtype="float64"),
    )
    evaluation = imnn.evaluate(*other, *map(mean, other))
    assert evaluation.slope.shape == (2, 3)
    assert evaluation.fisher_std.shape == (2, 2)
    # The mean alone tells all of the first parameter.
    assert abs(evaluation.fisher[0, 0] - 10) < 4 * evaluation.fisher_std[0, 0]


# ---- two widths of the step ----------------------------------------------------------------


def cubic_model():
    """One summary, `m + 20 m³` of the mean: its difference over δ is `1 + 5 δ²` per unit of m."""
    data = keras.Input((10,), dtype="float64")

    def summary(x):
        mean = keras.ops.mean(x, axis=-1, keepdims=True)
        return mean + 20 * mean**3

    return keras.Model(data, keras.layers.Lambda(summary, dtype="float64")(data))


def shifted(seed, n, deltas):
    noise = 1e-3 * np.random.default_rng(seed).normal(size=(n, 10))
    sides = [np.stack([noise - d / 2, noise + d / 2], axis=1) for d in deltas]
    return noise, np.stack(sides, axis=2)


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_truncation_is_what_the_width_of_the_step_adds(order):
    # The slope over the width δ is 1 + 5 δ², and Richardson's extrapolation of it is exact.
    steps = [0.1, 0.2][order]
    fiducial, derivative = shifted(0, 100, steps[:1])
    imnn = IMNN(
        θ_fid=[0.0],
        δθ=steps[:1],
        fiducial=fiducial,
        derivative=derivative,
        model=cubic_model(),
        dtype=tf.float64,
        verbose=False,
    )
    evaluation = imnn.evaluate(*shifted(1, 400, steps), second_δθ=steps[1:])
    np.testing.assert_allclose(evaluation.slope, [[1.05]], rtol=1e-4)
    np.testing.assert_allclose(evaluation.log_det_truncation, 2 * np.log(1.05), rtol=1e-3)
    np.testing.assert_allclose(evaluation.truncation, (1.05**2 - 1) * evaluation.fisher, rtol=1e-3)
    assert not evaluation.steps_too_wide
    narrow = shifted(1, 400, [0.1])
    alone = imnn.evaluate(*narrow, δθ=[0.1])
    assert alone.truncation is alone.log_det_truncation is None
    assert not alone.steps_too_wide
    np.testing.assert_allclose(alone.fisher, 1.05**2 * evaluation.fisher, rtol=1e-3)
    np.testing.assert_allclose(1 - evaluation.bias, (1 - alone.bias) / 1.05**2, rtol=1e-3)
    assert evaluation.noise_share == alone.noise_share
    # The second term of the slope over the wide step is 0.2 of the first.
    left = 2 * np.log1p(0.05 * 0.2 / 0.8)
    expected = np.hypot(alone.log_det_fisher_std, left)
    np.testing.assert_allclose(evaluation.log_det_fisher_std, expected, rtol=0.02)
    ends = np.log(alone.interval()) - 2 * np.log(1.05)
    centre = float(evaluation.log_det_fisher)
    expected = centre + np.array([-1, 1]) * np.hypot(ends - centre, 0.9945 * left)
    np.testing.assert_allclose(np.log(evaluation.interval()), expected, atol=2e-3)
    # The plain information is that over the narrow step, and its error is all of the width's.
    plain = imnn.evaluate(*shifted(1, 400, steps), second_δθ=steps[1:], debias=False)
    np.testing.assert_allclose(plain.fisher, evaluation.plain.fisher)
    np.testing.assert_allclose(plain.fisher, imnn.evaluate(*narrow, δθ=[0.1], debias=False).fisher)
    assert plain.fisher_std > (1.05**2 - 1) * evaluation.fisher
    assert plain.interval() == evaluation.interval()


def test_the_step_may_be_another_than_that_of_the_fit():
    fiducial, derivative = shifted(0, 100, [0.4])
    imnn = IMNN(
        θ_fid=[0.0],
        δθ=[0.4],
        fiducial=fiducial,
        derivative=derivative,
        model=cubic_model(),
        dtype=tf.float64,
        verbose=False,
    )
    narrow = imnn.evaluate(*shifted(1, 400, [0.1]), δθ=[0.1])
    np.testing.assert_allclose(narrow.slope, [[1.05]], rtol=1e-4)
    np.testing.assert_allclose(imnn.evaluate(*shifted(1, 400, [0.4])).slope, [[1.8]], rtol=1e-4)
    both = imnn.evaluate(*shifted(1, 400, [0.1, 0.05]), δθ=[0.1], second_δθ=[0.05])
    np.testing.assert_allclose(both.fisher, narrow.fisher / 1.05**2, rtol=1e-3)
    np.testing.assert_array_equal(imnn.δθ, [0.4])
    with pytest.raises(ValueError, match="`δθ` must be a positive difference"):
        imnn.evaluate(*shifted(1, 400, [0.1]), δθ=[-0.1])


def test_steps_that_are_too_wide_have_no_error(caplog):
    imnn = IMNN(
        **dict(zip(("fiducial", "derivative"), shifted(0, 100, [0.4]), strict=True)),
        θ_fid=[0.0],
        δθ=[0.4],
        model=cubic_model(),
        dtype=tf.float64,
        verbose=False,
    )
    # The slope over the wide step is 4.2 times that at zero.
    wide = imnn.evaluate(*shifted(1, 400, [0.4, 0.8]), second_δθ=[0.8])
    assert wide.steps_too_wide
    assert wide.interval() == (0, np.inf)
    for error in (wide.log_det_fisher_std, wide.fisher_std, wide.parameter_std_error):
        assert np.isinf(error).all()
    assert "The steps of the derivatives are too wide" in caplog.text
    again = pickle.loads(pickle.dumps(wide))  # noqa: S301
    assert again.interval() == (0, np.inf)


def test_summaries_that_are_not_finite_over_the_wide_step_alone_are_named():
    fiducial, derivative = shifted(0, 100, [0.1])
    data = keras.Input((10,), dtype="float64")
    # The logarithm is not defined over the wide step.
    log = keras.layers.Lambda(
        lambda x: keras.ops.log(0.15 + keras.ops.mean(x, axis=-1, keepdims=True)), dtype="float64"
    )
    imnn = IMNN(
        θ_fid=[0.0],
        δθ=[0.1],
        fiducial=fiducial,
        derivative=derivative,
        model=keras.Model(data, log(data)),
        dtype=tf.float64,
        verbose=False,
    )
    with pytest.raises(InformationError, match="derivative simulations are not finite"):
        imnn.evaluate(*shifted(1, 400, [0.1, 0.4]), second_δθ=[0.4])


@pytest.mark.parametrize(
    ("second", "error", "message"),
    [
        ([0.2, 0.05], ValueError, "wider than `δθ` in every parameter or narrower in every one"),
        ([0.1, 0.1], ValueError, "`second_δθ` must be positive, and wider"),
        ([0.2], ValueError, "`second_δθ` must have shape"),
        ("wide", TypeError, "`second_δθ` must"),
    ],
)
def test_a_second_step_is_checked(second, error, message):
    with pytest.raises(error, match=message):
        imnn_of().evaluate(*reference.simulations(1), second_δθ=second)


def test_derivatives_over_both_steps_must_be_given():
    with pytest.raises(ValueError, match="`derivative` must have shape"):
        imnn_of().evaluate(*reference.simulations(1), second_δθ=[0.2, 0.2])


def test_it_says_what_it_found():
    evaluation = imnn_of().evaluate(*reference.simulations(1, 300))
    low, high = evaluation.interval()
    shown = repr(evaluation)
    assert f"68 % interval {low:.4g} to {high:.4g}" in shown
    assert "300 fiducial, 300 for the slope" in shown
    assert "too wide" not in shown
    assert "<table>" in evaluation._repr_html_()
