import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from imnn_tf.lfi.density import spline

BOUND, BINS = 4.0, 6


@pytest.fixture(scope="module")
def knots():
    raw = 1.5 * np.random.default_rng(0).normal(size=(300, 2, 3 * BINS - 1))
    return spline.knots_of(tf.constant(raw), BOUND)


@pytest.fixture(scope="module")
def x():
    # About one in three is outside the interval.
    return tf.constant(np.random.default_rng(1).normal(scale=4, size=(300, 2)))


@pytest.fixture(scope="module")
def reference(knots):
    return tfp.bijectors.RationalQuadraticSpline(
        knots.widths, knots.heights, knots.right_slopes[..., :-1], range_min=-BOUND
    )


@pytest.mark.parametrize("jit_compile", [None, False, True], ids=["eager", "graph", "xla"])
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_it_is_the_spline_of_tensorflow_probability(knots, x, reference, dtype, jit_compile):
    function = spline.forward
    if jit_compile is not None:
        function = tf.function(function, jit_compile=jit_compile)
    typed = spline.Knots(*(tf.cast(part, dtype) for part in knots[:4]), BOUND)
    y, log_slope = function(tf.cast(x, dtype), typed)
    tolerance = 1e-3 if dtype == tf.float32 else 1e-10
    np.testing.assert_allclose(y, reference.forward(x), atol=tolerance)
    np.testing.assert_allclose(log_slope, reference.forward_log_det_jacobian(x), atol=tolerance)
    np.testing.assert_allclose(
        spline.inverse(tf.cast(x, dtype), typed), reference.inverse(x), atol=tolerance
    )


def test_the_inverse_undoes_it(knots, x):
    y, _ = spline.forward(x, knots)
    np.testing.assert_allclose(spline.inverse(y, knots), x, atol=1e-9)


def test_the_log_slope_is_that_of_automatic_differentiation(knots, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y, log_slope = spline.forward(x, knots)
    np.testing.assert_allclose(log_slope, np.log(tape.gradient(y, x)), atol=1e-9)


def test_outside_it_is_the_identity(knots):
    for far in (-1e30, -BOUND, BOUND, 1e30):
        y, log_slope = spline.forward(tf.fill([300, 2], tf.constant(far, tf.float64)), knots)
        assert np.all(y == far)
        assert np.all(log_slope == 0)
        assert np.all(spline.inverse(y, knots) == far)


def test_zeros_are_the_identity(x):
    identity = spline.knots_of(tf.zeros([300, 2, 3 * BINS - 1], tf.float64), BOUND)
    y, log_slope = spline.forward(x, identity)
    np.testing.assert_allclose(y, x, atol=1e-12)
    np.testing.assert_allclose(log_slope, 0, atol=1e-12)


@pytest.mark.parametrize("bins", [2, 3, 16])
def test_extreme_raw_numbers_give_finite_values_and_gradients(bins):
    generator = np.random.default_rng(2)
    raw = generator.choice([-1e4, -30, 0, 30, 1e4], size=(2000, 3 * bins - 1))
    raw = tf.constant(raw, tf.float32)
    x = tf.constant(generator.uniform(-BOUND, BOUND, size=2000), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([raw, x])
        y, log_slope = spline.forward(x, spline.knots_of(raw, BOUND))
        total = tf.reduce_sum(log_slope - y**2)
    assert np.isfinite(y).all()
    assert np.isfinite(log_slope).all()
    assert all(np.isfinite(gradient).all() for gradient in tape.gradient(total, [raw, x]))
    assert np.isfinite(spline.inverse(y, spline.knots_of(raw, BOUND))).all()


def test_at_its_knots_it_is_continuous(knots):
    starts = tf.cumsum(knots.widths, axis=-1)[..., 2] - BOUND
    below, _ = spline.forward(starts - 1e-9, knots)
    above, _ = spline.forward(starts + 1e-9, knots)
    np.testing.assert_allclose(below, above, atol=1e-5)


def test_a_transform_is_an_affine_map_and_a_spline(x):
    raw = tf.constant(np.random.default_rng(4).normal(size=(300, 2, spline.n_raw(BINS))))
    transform = spline.transform_of(raw, BOUND)
    y, log_slope = transform.forward(x)
    shifted = (x + transform.shift) * tf.exp(transform.log_scale)
    expected, expected_slope = spline.forward(shifted, spline.knots_of(raw[..., :-2], BOUND))
    np.testing.assert_allclose(y, expected)
    np.testing.assert_allclose(log_slope, expected_slope + transform.log_scale)
    np.testing.assert_allclose(transform.inverse(y), x, atol=1e-9)
