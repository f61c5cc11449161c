"""Exact derivatives, computed by Jacobian-vector products."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from gradients import MODELS, objective_of, one_tape_gradient

from imnn_tf import IMNN
from imnn_tf.fit.passes import Summariser
from imnn_tf.utils import TFRecords

N_S, N_D = 40, 25


def gradients_of(fiducial):
    """Derivatives `[n, 10, 2]` of fiducial simulations of the reference problem.

    d = θ₁ + √θ₂ z, so ∂d/∂θ₁ = 1 and ∂d/∂θ₂ = z/2 at (0, 1).
    """
    return np.stack([np.ones_like(fiducial), fiducial / 2], axis=-1)


def source(at_once=None, n_d=N_D, **settings):
    fiducial, _ = reference.simulations(0, N_S)
    return reference.held(
        fiducial,
        gradients_of(fiducial[:n_d]),
        None,
        dtype=tf.float64,
        at_once=at_once,
        **settings,
    )


@pytest.mark.parametrize("at_once", [None, 7])
def test_slope_is_the_mean_of_jacobian_times_derivative(at_once):
    model = reference.dense_model(width=16, dtype="float64")
    simulations = source(at_once)
    total = Summariser(model, 2).statistics(simulations)
    fiducial, _ = reference.simulations(0, N_S)
    data = tf.constant(fiducial[:N_D])
    with tf.GradientTape() as tape:
        tape.watch(data)
        summaries = model(data)
    jacobian = tape.batch_jacobian(summaries, data)
    exact = np.einsum("isd,idp->ps", jacobian, gradients_of(fiducial[:N_D])) / N_D
    np.testing.assert_allclose(total.slope, exact)
    x = model(fiducial).numpy()
    np.testing.assert_allclose(total.moments.scatter, np.cov(x, rowvar=False) * (N_S - 1))


def test_numerical_derivatives_tend_to_the_exact_ones():
    model = keras.Sequential(
        [
            keras.Input((10,), dtype="float64"),
            keras.layers.Dense(16, activation="tanh", dtype="float64"),
            keras.layers.Dense(2, dtype="float64"),
        ]
    )
    exact = source(n_d=N_S)
    slopes = [
        Summariser(model, 2).statistics(simulations).slope
        for simulations in (
            exact,
            reference.held(
                *reference.simulations(0, N_S, delta_theta=np.array([1e-4, 1e-4])),
                np.array([1e-4, 1e-4]),
                dtype=tf.float64,
            ),
        )
    ]
    np.testing.assert_allclose(slopes[1], slopes[0], rtol=1e-6)


def test_images_keep_their_axes():
    rng = np.random.default_rng(0)
    fiducial, derivative = rng.normal(size=(6, 4, 3, 2)), rng.normal(size=(6, 4, 3, 2, 3))
    weights = rng.normal(size=(24, 4))
    model = keras.Sequential(
        [
            keras.Input((4, 3, 2), dtype="float64"),
            keras.layers.Flatten(dtype="float64"),
            keras.layers.Dense(4, use_bias=False, dtype="float64"),
        ]
    )
    model.set_weights([weights])
    simulations = reference.held(fiducial, derivative, None, dtype=tf.float64, at_once=4)
    total = Summariser(model, 4).statistics(simulations)
    exact = derivative.mean(0).reshape(24, 3).T @ weights
    np.testing.assert_allclose(total.slope, exact)
    np.testing.assert_array_equal(simulations.derivative, derivative)
    np.testing.assert_array_equal(simulations.fiducial, fiducial)


@pytest.mark.parametrize("at_once", [40, 11])
@pytest.mark.parametrize("name", ["plain", "dropout"])
def test_streamed_gradient_is_that_of_one_tape(name, at_once):
    model, same = MODELS[name](), MODELS[name]()
    simulations = source(at_once)
    result = objective_of(model).streamed_gradient(simulations)
    loss, gradients = one_tape_gradient(objective_of(same), simulations)
    np.testing.assert_allclose(result.loss.total, loss, rtol=1e-9)
    for got, exact in zip(result.gradients, gradients, strict=True):
        np.testing.assert_allclose(got, exact, rtol=1e-7, atol=1e-9)
    for got, exact in zip(model.non_trainable_variables, same.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(got.numpy(), exact.numpy())


def test_gradient_is_the_finite_difference():
    model = MODELS["plain"]()
    objective, simulations = objective_of(model), source()
    gradients = objective.gradient(simulations).gradients
    rng = np.random.default_rng(0)
    weights = model.get_weights()
    directions = [rng.normal(size=weight.shape) for weight in weights]
    losses = []
    for step in (1e-6, -1e-6):
        model.set_weights([w + step * d for w, d in zip(weights, directions, strict=True)])
        losses.append(objective.gradient(simulations).loss.total)
    exact = sum(np.sum(g * d) for g, d in zip(gradients, directions, strict=True))
    np.testing.assert_allclose(exact, (losses[0] - losses[1]) / 2e-6, rtol=1e-5)


def test_map_fn_is_differentiated_through():
    fiducial, _ = reference.simulations(0, N_S)
    squared = reference.held(
        fiducial**2, 2 * fiducial[..., None] * gradients_of(fiducial), None, dtype=tf.float64
    )
    mapped = source(n_d=N_S, map_fn=tf.square)
    for got, exact in zip(mapped.batches().at(0)[:4], squared.batches().at(0)[:4], strict=True):
        np.testing.assert_allclose(got, exact)


def as_records(folder):
    fiducial, _ = reference.simulations(0, N_S)
    derivative = gradients_of(fiducial)
    writer = TFRecords(record_size=0.001, verbose=False)
    return (
        writer.write_record(N_S, lambda seed: fiducial[seed], directory=folder),
        writer.write_record(
            N_D, lambda seed: derivative[seed], directory=folder, filename="derivative"
        ),
    )


def as_functions(folder):
    fiducial, _ = reference.simulations(0, N_S)
    derivative = gradients_of(fiducial)
    return lambda seed: fiducial[seed], lambda seed: (derivative[seed], seed)


@pytest.mark.parametrize("make", [as_records, as_functions])
def test_other_sources_hold_the_same(make, tmp_path):
    fiducial, derivative = make(tmp_path)
    simulations = reference.as_simulations(
        fiducial, derivative, 2, None, dtype=tf.float32, n_s=N_S, n_d=N_D
    )
    exact, _ = reference.simulations(0, N_S)
    np.testing.assert_array_equal(simulations.fiducial, exact.astype("float32"))
    np.testing.assert_array_equal(
        simulations.derivative, gradients_of(exact[:N_D]).astype("float32")
    )


def test_a_fit_with_exact_derivatives():
    fiducial, _ = reference.simulations(0, 300)
    validation, _ = reference.simulations(1, 300)
    imnn = IMNN(
        θ_fid=reference.THETA_FID,
        fiducial=fiducial,
        derivative=gradients_of(fiducial[:200]),
        validation_fiducial=validation,
        validation_derivative=gradients_of(validation),
        model=reference.dense_model(width=32),
        optimiser=keras.optimizers.Adam(0.01),
        verbose=False,
    )
    assert (imnn.n_s, imnn.n_d, imnn.δθ) == (300, 200, None)
    imnn.fit(40)
    assert imnn.history["val_det_F"][-1] > 10 * imnn.history["val_det_F"][0]
    # The pairs share their noise, so both slopes agree to O(δθ²).
    numerical = IMNN(
        θ_fid=reference.THETA_FID,
        δθ=[1e-3, 1e-3],
        fiducial=validation,
        derivative=reference.simulations(1, 300, delta_theta=np.array([1e-3, 1e-3]))[1],
        model=imnn.model,
    )
    np.testing.assert_allclose(imnn.F, numerical.F, rtol=0.01, atol=0.02)


@pytest.mark.parametrize(
    ("derivative", "message"),
    [
        (np.zeros((5, 2, 2, 10)), r"where `δθ` is left out, have shape .*\(n_d, 10, 2\)"),
        (np.zeros((9, 10, 2)), r"derivatives of the first n_d of 8 fiducial simulations"),
    ],
)
def test_bad_derivatives_are_named(derivative, message):
    with pytest.raises(ValueError, match=message):
        reference.as_simulations(np.zeros((8, 10)), derivative, 2, None, dtype=tf.float32)


def test_normalisation_by_the_batch_is_refused():
    fiducial, _ = reference.simulations(0, 30)
    inner = keras.Sequential([keras.Input((10,)), keras.layers.BatchNormalization()])
    model = keras.Sequential([keras.Input((10,)), inner, keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="`model` must not have BatchNormalization with exact"):
        IMNN(θ_fid=[0, 1], fiducial=fiducial, derivative=gradients_of(fiducial), model=model)
