"""The flows with weights as they could be after a training, but random."""

import numpy as np
import pytest
import tensorflow as tf

from imnn_tf.lfi.density.architecture import Architecture, Layout, Shape, draw_degrees
from imnn_tf.lfi.density.flow import Flows
from imnn_tf.lfi.density.linear import LinearStart

MEMBERS, SUMMARIES = 2, 3


def random_flows(n_params, coupling=False, scale=0.05):
    """Flows, and weights of which no splines are the identity."""
    generator = np.random.default_rng(n_params)
    settings = Architecture(transforms=3, bins=5, width=16, coupling=coupling)
    shape = Shape(MEMBERS, n_params, SUMMARIES)
    layout = Layout(settings, shape, draw_degrees(settings, shape, generator))
    weights = layout.initial(generator)
    weights += scale * generator.normal(size=weights.shape).astype(np.float32)
    lower = np.tril(0.3 * generator.normal(size=(MEMBERS, n_params, n_params)), -1)
    start = LinearStart(
        generator.normal(size=(MEMBERS, SUMMARIES, n_params)).astype(np.float32),
        generator.normal(size=(MEMBERS, 1, n_params)).astype(np.float32),
        (lower + 0.8 * np.eye(n_params)).astype(np.float32),
    )
    return Flows(layout, start), weights


def rows(array):
    """The same rows for each member."""
    return np.broadcast_to(array.astype(np.float32), (MEMBERS, *array.shape))


@pytest.fixture(scope="module")
def summaries():
    return np.random.default_rng(5).normal(size=SUMMARIES)


@pytest.mark.parametrize("n_params", [1, 2])
def test_the_density_integrates_to_one(n_params, summaries):
    flows, weights = random_flows(n_params)
    points = np.linspace(-12, 12, 24001 if n_params == 1 else 801)
    grid = np.stack(np.meshgrid(*[points] * n_params, indexing="ij"), axis=-1)
    theta = grid.reshape(-1, n_params)
    every = np.broadcast_to(np.zeros(len(theta), int), (MEMBERS, len(theta)))
    logarithms = flows.log_prob_of_rows(
        weights, rows(theta), summaries[None].astype(np.float32), every
    ).astype(np.float64)
    volume = (points[1] - points[0]) ** n_params
    np.testing.assert_allclose(np.exp(logarithms).sum(axis=1) * volume, 1, atol=2e-3)


@pytest.mark.parametrize("coupling", [False, True], ids=["autoregressive", "coupling"])
@pytest.mark.parametrize("n_params", [1, 2, 5])
def test_the_inverse_leads_back(n_params, coupling):
    flows, weights = random_flows(n_params, coupling)
    generator = np.random.default_rng(1)
    z = generator.normal(size=(MEMBERS, 500, n_params)).astype(np.float32)
    x = generator.normal(size=(MEMBERS * 500, SUMMARIES)).astype(np.float32)
    each = np.arange(MEMBERS * 500).reshape(MEMBERS, 500)
    theta = flows.inverse_of_rows(weights, z, x, each)
    logarithms = flows.log_prob_of_rows(weights, theta, x, each)
    # The change of variables, with the determinant of the inverse by automatic differentiation.
    member, some = 0, slice(0, 20)
    with tf.GradientTape(persistent=True) as tape:
        variable = tf.constant(z[:, some])
        tape.watch(variable)
        inverse = flows.inverse(tf.constant(weights), variable, tf.constant(x[each[:, some]]))
        inverse = inverse[member]
    jacobian = tape.jacobian(inverse, variable, experimental_use_pfor=False).numpy()[:, :, member]
    determinants = np.linalg.det(np.stack([jacobian[each, :, each] for each in range(20)]))
    normal = -0.5 * np.sum(z[member, some] ** 2 + np.log(2 * np.pi), axis=-1)
    expected = normal - np.log(np.abs(determinants))
    np.testing.assert_allclose(logarithms[member, some], expected, rtol=1e-4, atol=2e-3)


def test_each_parameter_depends_on_those_before_it_alone():
    flows, weights = random_flows(4, scale=0.5)
    layout, generator = flows._layout, np.random.default_rng(2)
    theta = tf.constant(generator.normal(size=(MEMBERS, 1, 4)).astype(np.float32))
    given = tf.fill([MEMBERS, 1, layout.settings.width + 4 * 16], 5.0)  # all units are active
    for transform, conditioner in enumerate(layout.unpack(tf.constant(weights)).conditioners):
        with tf.GradientTape() as tape:
            tape.watch(theta)
            widths = flows._transform(conditioner, given, theta).knots.widths
        jacobian = tape.jacobian(widths, theta).numpy()  # [members, 1, 4, 5, members, 1, 4]
        for member in range(MEMBERS):
            depends = np.any(jacobian[member, 0, :, :, member, 0] != 0, axis=1)
            degrees = layout.degrees[transform, member]
            np.testing.assert_array_equal(depends, degrees[:, None] > degrees)


def test_far_from_everything_the_density_is_finite():
    flows, weights = random_flows(3)
    theta = np.random.default_rng(3).standard_cauchy(size=(400, 3)) * 1e3
    x = np.random.default_rng(4).standard_cauchy(size=(400, SUMMARIES)).astype(np.float32) * 1e3
    each = np.broadcast_to(np.arange(400), (MEMBERS, 400))
    assert np.isfinite(flows.log_prob_of_rows(weights, rows(theta), x, each)).all()
    z = np.random.default_rng(5).normal(size=(400, 3))
    assert np.isfinite(flows.inverse_of_rows(weights, rows(z), x, each)).all()
