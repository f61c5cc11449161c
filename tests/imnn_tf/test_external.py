"""External summaries in addition to the network's, compared with plain NumPy."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf

from imnn_tf import IMNN
from imnn_tf.estimator import Estimator
from imnn_tf.fit.objective import Objective
from imnn_tf.regularisation import DEFAULT_STRENGTH, Regularisation
from imnn_tf.utils import TFRecords

N_S, N_D, DTYPE = 200, 150, tf.float64
FIDUCIAL, DERIVATIVE = reference.simulations(0, N_S, N_D)


def moments_of(draws):
    """Mean and mean square of draws, which keep all information."""
    return np.stack([draws.mean(-1), np.square(draws).mean(-1)], axis=-1)


def one_moment(draws):
    """The mean of draws, which keeps no information on the variance."""
    return draws.mean(-1, keepdims=True)


def imnn_of(summary, **options):
    settings = {
        "θ_fid": reference.THETA_FID,
        "δθ": reference.DELTA_THETA,
        "fiducial": FIDUCIAL,
        "derivative": DERIVATIVE,
        "external_fiducial": summary(FIDUCIAL),
        "external_derivative": summary(DERIVATIVE),
        "model": reference.dense_model(width=8, dtype="float64"),
        "dtype": DTYPE,
        "verbose": False,
    }
    return IMNN(**{**settings, **options})


def information_in_numpy(model, summary):
    """Fisher information, covariance and slope of the model's and the external summaries."""

    def summarise(draws):
        flat = draws.reshape(-1, 10)
        both = np.concatenate([model(flat).numpy(), summary(flat)], axis=1)
        return both.reshape(*draws.shape[:-1], -1)

    x, varied = summarise(FIDUCIAL), summarise(DERIVATIVE)
    slope = (varied[:, 1] - varied[:, 0]).mean(0) / reference.DELTA_THETA[:, None]
    return slope @ np.linalg.inv(np.cov(x, rowvar=False)) @ slope.T, np.cov(x, rowvar=False), slope


@pytest.mark.parametrize("at_once", [None, 64])
def test_the_information_is_that_of_both(at_once):
    imnn = imnn_of(moments_of, at_once=at_once)
    fisher, covariance, slope = information_in_numpy(imnn.model, moments_of)
    np.testing.assert_allclose(imnn.F, fisher, rtol=1e-8)
    np.testing.assert_allclose(imnn.C, covariance, rtol=1e-8)
    np.testing.assert_allclose(imnn.dμ_dθ, slope, rtol=1e-8)
    alone = slope[:, 2:] @ np.linalg.inv(covariance[2:, 2:]) @ slope[:, 2:].T
    np.testing.assert_allclose(imnn.F_external, alone, rtol=1e-8)
    np.testing.assert_allclose(imnn.gain, np.linalg.det(fisher) / np.linalg.det(alone), rtol=1e-6)


def test_the_regulariser_is_that_of_the_network_summaries():
    imnn = imnn_of(moments_of)
    _, covariance, _ = information_in_numpy(imnn.model, moments_of)
    own = covariance[:2, :2]
    divergence = np.trace(own) - np.log(np.linalg.det(own)) - 2
    np.testing.assert_allclose(imnn.reg, divergence, rtol=1e-8)
    imnn.fit(1)
    np.testing.assert_allclose(imnn.history["reg"][0], divergence, rtol=1e-8)
    np.testing.assert_allclose(imnn.history["det_C"][0], np.linalg.det(own), rtol=1e-8)


def exact_gradients(draws):
    """∂d/∂θ of the reference simulations at the fiducial point: one, and half the noise."""
    return np.stack([np.ones_like(draws), draws / 2], axis=-1)


def test_exact_derivatives_of_external_summaries():
    """The mean has the derivative (1, mean / 2), the mean square (2 mean, mean square)."""
    mean, square = moments_of(FIDUCIAL).T
    tangents = np.stack(
        [np.stack([np.ones_like(mean), mean / 2], -1), np.stack([2 * mean, square], -1)], axis=1
    )
    imnn = imnn_of(
        moments_of,
        δθ=None,
        derivative=exact_gradients(FIDUCIAL),
        external_derivative=tangents,
    )
    got = np.array(imnn.dμ_dθ)[:, 2:]
    np.testing.assert_allclose(got, tangents.mean(0).T, rtol=1e-10)


def test_the_network_finds_what_the_external_summaries_lack():
    """The mean alone has a singular F; with the network, det F can be 50."""
    imnn = imnn_of(
        one_moment,
        model=reference.dense_model(width=32, n_summaries=2, dtype="float64"),
        optimiser=keras.optimizers.Adam(3e-3),
        validation_fiducial=reference.simulations(1, 2000)[0],
        validation_derivative=reference.simulations(1, 2000)[1],
        validation_external_fiducial=one_moment(reference.simulations(1, 2000)[0]),
        validation_external_derivative=one_moment(reference.simulations(1, 2000)[1]),
    )
    imnn.fit(300, patience=50)
    assert np.linalg.det(imnn.F) > 25
    assert imnn.gain > 1
    # It is 10 for the mean; the variance of 2,000 simulations has an error of 3 %.
    np.testing.assert_allclose(imnn.F_external[0, 0], 10, rtol=0.1)


def test_estimates_need_the_external_summaries(tmp_path):
    imnn = imnn_of(moments_of, save=True, directory=tmp_path)
    imnn.fit(2)
    data = FIDUCIAL[:5]
    x = np.concatenate([imnn.model(data).numpy(), moments_of(data)], axis=1)
    weights = np.array(imnn.Finv @ imnn.dμ_dθ @ imnn.Cinv)
    expected = reference.THETA_FID + (x - np.array(imnn.μ)) @ weights.T
    np.testing.assert_allclose(imnn.get_estimate(data, moments_of(data)), expected, rtol=1e-8)
    loaded = Estimator.load(tmp_path / "model")
    np.testing.assert_allclose(loaded(data, moments_of(data)), expected, rtol=1e-8)
    for wrong in (None, moments_of(data)[:, :1]):
        with pytest.raises(ValueError, match=r"`external` must have shape \(batch, 2\), got"):
            imnn.get_estimate(data, wrong)
    plain = imnn_of(moments_of, external_fiducial=None, external_derivative=None)
    with pytest.raises(ValueError, match=r"`external` must be left out"):
        plain.get_estimate(data, moments_of(data))


def written(folder):
    writer = TFRecords(verbose=False)
    fiducial, derivative = (moments_of(part) for part in (FIDUCIAL, DERIVATIVE))
    given = {"directory": folder}
    return (
        writer.write_record(N_S, lambda s: fiducial[s], filename="external_fiducial", **given),
        writer.write_record(
            N_D,
            lambda *label: derivative[label],
            fiducial=False,
            n_params=2,
            filename="external_derivative",
            **given,
        ),
    )


@pytest.mark.parametrize("source", ["functions", "TFRecords"])
def test_external_summaries_come_from_any_source(source, tmp_path):
    fiducial, derivative = (
        written(tmp_path)
        if source == "TFRecords"
        else (
            lambda seed: moments_of(FIDUCIAL[seed]),
            lambda *label: moments_of(DERIVATIVE[label]),
        )
    )
    numbers = {"external_fiducial": fiducial, "external_derivative": derivative}
    imnn = imnn_of(moments_of, n_s=N_S, n_d=N_D, **numbers)
    # The files hold numbers in single precision.
    np.testing.assert_allclose(imnn.F, imnn_of(moments_of).F, rtol=1e-4)


def test_information_on_other_simulations():
    fiducial, derivative = reference.simulations(5, 300)
    imnn = imnn_of(moments_of)
    info = imnn.evaluate(fiducial, derivative, moments_of(fiducial), moments_of(derivative))
    x = np.concatenate([imnn.model(fiducial).numpy(), moments_of(fiducial)], axis=1)
    np.testing.assert_allclose(info.covariance, np.cov(x, rowvar=False), rtol=1e-8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"external_derivative": None}, "`external_fiducial` and `external_derivative` must be"),
        (
            {"external_fiducial": moments_of(FIDUCIAL)[:-1]},
            r"`external_fiducial` must hold the summaries of the simulations in `fiducial`",
        ),
        (
            {"external_derivative": moments_of(DERIVATIVE)[..., :1]},
            r"`external_derivative` must have shape \(n_d, 2, n_params, \*input_shape\)",
        ),
        (
            {
                "external_fiducial": FIDUCIAL[..., None],
                "external_derivative": DERIVATIVE[..., None],
            },
            r"`external_fiducial` must have shape \(n_s, n_external\), got \(200, 10, 1\)",
        ),
        (
            {"validation_fiducial": FIDUCIAL, "validation_derivative": DERIVATIVE},
            r"`validation_external_fiducial` must hold summaries of .* shape, \(2,\), got \(0,\)",
        ),
        (
            {
                "validation_external_fiducial": moments_of(FIDUCIAL),
                "validation_external_derivative": moments_of(DERIVATIVE),
            },
            "`validation_external_fiducial` must be given with `validation_fiducial`",
        ),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        imnn_of(moments_of, **changes)


def test_the_gradient_is_by_the_weights_of_the_network_alone():
    """It agrees with finite differences of the loss in NumPy."""
    imnn = imnn_of(moments_of)
    objective = Objective(imnn._summariser, Regularisation())
    gradients = objective.gradient(imnn._training).gradients
    rng = np.random.default_rng(0)
    weights = imnn.model.get_weights()
    directions = [rng.normal(size=weight.shape) for weight in weights]

    def loss(step):
        moved = [w + step * d for w, d in zip(weights, directions, strict=True)]
        imnn.model.set_weights(moved)
        fisher, covariance, _ = information_in_numpy(imnn.model, moments_of)
        own = covariance[:2, :2]
        divergence = np.trace(own) - np.log(np.linalg.det(own)) - 2
        return DEFAULT_STRENGTH["divergence"] * divergence - np.log(np.linalg.det(fisher))

    slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
    exact = sum(np.sum(g * d) for g, d in zip(gradients, directions, strict=True))
    np.testing.assert_allclose(exact, slope, rtol=1e-6)


def test_the_gain_is_large_if_external_summaries_lack_a_parameter():
    imnn = imnn_of(one_moment)
    assert imnn.F_external.shape == (2, 2)
    assert imnn.gain > 100 or imnn.gain == float("inf")
