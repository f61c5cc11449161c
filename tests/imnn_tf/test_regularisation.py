"""The regularisers, their coupling and the loss, against closed forms and finite differences."""

import numpy as np
import pytest
import tensorflow as tf
from summaries import TOLERANCE, draws, dtypes, modes, statistics_of

from imnn_tf import information as info
from imnn_tf import regularisation


@pytest.mark.parametrize(
    "regulariser", [regularisation.divergence_from_identity, regularisation.distance_from_identity]
)
def test_regularisers_vanish_with_their_gradient_at_the_identity(regulariser):
    # A sample covariance would be the identity only within rounding.
    scatter = tf.eye(3, dtype=tf.float64) * 9
    moments = info.Moments(tf.constant(10.0, tf.float64), tf.zeros(3, tf.float64), scatter)
    with tf.GradientTape() as tape:
        tape.watch(scatter)
        result = info.fisher_information(
            info.Statistics(moments._replace(scatter=scatter), tf.eye(3, dtype=tf.float64))
        )
        value = regulariser(result)
    np.testing.assert_allclose(value, 0, atol=1e-12)
    np.testing.assert_allclose(tape.gradient(value, scatter), 0, atol=1e-12)


@modes
@dtypes
def test_regularisers_are_their_formulas(mode, dtype):
    x = draws(dtype)
    C = np.cov(x.astype("float64"), rowvar=False)
    result = info.fisher_information(statistics_of(x, np.eye(3, dtype=dtype)))
    divergence = np.trace(C) - np.linalg.slogdet(C)[1] - 3
    distance = np.linalg.norm(C - np.eye(3)) + np.linalg.norm(np.linalg.inv(C) - np.eye(3))
    for regulariser, exact in (
        (regularisation.divergence_from_identity, divergence),
        (regularisation.distance_from_identity, distance),
    ):
        np.testing.assert_allclose(mode(regulariser)(result), exact, rtol=TOLERANCE[dtype])


def test_divergence_is_twice_that_between_the_gaussians():
    import tensorflow_probability as tfp

    x = draws()
    result = info.fisher_information(statistics_of(x, np.eye(3)))
    normal = tfp.distributions.MultivariateNormalTriL
    centred = normal(tf.zeros(3, tf.float64), tf.linalg.cholesky(result.covariance))
    standard = normal(tf.zeros(3, tf.float64), tf.eye(3, dtype=tf.float64))
    np.testing.assert_allclose(
        regularisation.divergence_from_identity(result),
        2 * centred.kl_divergence(standard),
        rtol=1e-10,
    )


@pytest.mark.parametrize(("closeness", "rate"), [(0.01, 240.7), (0.1, 0.953)])
def test_coupling_rate_of_strength_ten(closeness, rate):
    assert regularisation.coupling_rate(10, closeness) == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize(("strength", "closeness"), [(10, 0.2), (0.5, 0.01)])
def test_coupling_rate_must_be_positive(strength, closeness):
    with pytest.raises(ValueError, match="must give 0 < ϵ\\(λ−1\\)"):
        regularisation.coupling_rate(strength, closeness)


def test_published_coupling_reaches_its_closeness_condition():
    # The rate is chosen so that r(ϵ) = λϵ/(ϵ + e^{−αϵ}) with e^{−αϵ} = ϵ(λ−1) + ϵ²/(1+ϵ).
    strength, closeness = 10.0, 0.1
    rate = regularisation.coupling_rate(strength, closeness)
    got = regularisation.coupling(tf.constant(closeness, tf.float64), strength, rate)
    exact = strength * closeness / (closeness + closeness * 9 + closeness**2 / (1 + closeness))
    np.testing.assert_allclose(got, exact)
    far = regularisation.coupling(tf.constant(100.0, tf.float64), strength, rate)
    np.testing.assert_allclose(far, strength)


@pytest.mark.parametrize("name", regularisation.DEFAULT_STRENGTH)
def test_losses_are_their_formulas_and_their_gradients_finite_differences(name):
    x, slope = draws(n=40), np.random.default_rng(6).normal(size=(2, 3))
    strength, rate = 10.0, regularisation.coupling_rate(10.0, 0.1)

    def loss(scatter, slope):
        moments = info.moments(tf.constant(x))._replace(scatter=scatter)
        information = info.fisher_information(info.Statistics(moments, slope))
        return regularisation.Regularisation(name, strength, 0.1).loss(information)

    scatter = np.cov(x, rowvar=False) * 39
    C = scatter / 39
    Cinv = np.linalg.inv(C)
    distance = np.linalg.norm(C - np.eye(3)) + np.linalg.norm(Cinv - np.eye(3))
    penalty = {
        "divergence": strength * (np.trace(C) - np.linalg.slogdet(C)[1] - 3),
        "published": strength * distance**2 / (distance + np.exp(-rate * distance)),
    }[name]
    exact = penalty - np.linalg.slogdet(slope @ Cinv @ slope.T)[1]
    np.testing.assert_allclose(loss(scatter, slope).total, exact, rtol=1e-9)

    values = [tf.constant(scatter), tf.constant(slope)]
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = loss(*values).total
    gradients = tape.gradient(total, values)
    rng = np.random.default_rng(7)
    for index, gradient in enumerate(gradients):
        direction = rng.normal(size=gradient.shape)
        if index == 0:
            direction += direction.T  # a scatter is symmetric
        step = 1e-5
        shifted = [list(values) for _ in range(2)]
        shifted[0][index] = values[index] + step * direction
        shifted[1][index] = values[index] - step * direction
        numerical = (loss(*shifted[0]).total - loss(*shifted[1]).total) / (2 * step)
        np.testing.assert_allclose(np.sum(gradient * direction), numerical, rtol=1e-6)
