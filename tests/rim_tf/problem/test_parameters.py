import numpy as np
import pytest
import tensorflow as tf

from rim_tf.problem.links import LINKS, Link, get_link
from rim_tf.problem.parameters import Parameters

FIELDS = {"source": 2, "mass": 1}


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_inverse_undoes_the_link(name, dtype):
    u = tf.constant(np.linspace(-3, 3, 31), dtype)
    link = LINKS[name]
    tolerance = 1e-4 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(link.inverse(link.forward(u)), u, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["exp", "power10", "sigmoid", "softplus"])
def test_targets_on_the_boundary_stay_finite(name):
    edges = [0.0, 1.0] if name == "sigmoid" else [0.0]
    assert np.isfinite(LINKS[name].inverse(tf.constant(edges))).all()


@pytest.mark.parametrize("name", ["exp", "power10", "softplus"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_targets_of_any_scale_come_back(name, dtype):
    """Thirty decades below one, images of 0 to 255, and ten thousand times that."""
    x = tf.constant([*np.logspace(-30, 2, 33), 88.0, 89.0, 255.0, 2.55e6], dtype)
    link = LINKS[name]
    # The number before the rounding of its logarithm: up to 70 times one part in 2**23.
    tolerance = 3e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(link.forward(link.inverse(x)), x, rtol=tolerance)


def test_links_have_the_values_of_their_names():
    x = tf.constant([0.0, 1.0], "float64")
    np.testing.assert_allclose(LINKS["power10"].forward(x), [1.0, 10.0])
    np.testing.assert_allclose(LINKS["exp"].forward(x), np.exp([0.0, 1.0]))
    np.testing.assert_allclose(LINKS["softplus"].forward(x), np.log1p(np.exp([0.0, 1.0])))
    np.testing.assert_allclose(LINKS["tanh"].inverse(tf.tanh(x)), x)


def test_fields_split_link_and_come_back():
    parameters = Parameters(3, FIELDS, {"source": "exp", "mass": tf.sinh}, {"mass": tf.asinh})
    u = tf.constant(np.random.default_rng(0).normal(size=(2, 5, 3)))
    x = parameters.link(u)
    np.testing.assert_allclose(x["source"], np.exp(u[..., :2]))
    np.testing.assert_allclose(x["mass"], np.sinh(u[..., 2:]))
    np.testing.assert_allclose(parameters.unlink(dict(reversed(x.items()))), u)


def test_a_link_of_ones_own():
    link = Link(lambda u: u**3, lambda x: x ** (1 / 3))
    assert get_link(link) is link
    assert float(Parameters(1, None, link).link(tf.constant(2.0))) == 8.0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: get_link("log"), ValueError, "`link_function` must be one of 'identity'"),
        (lambda: get_link(tf.exp), ValueError, "`inverse_link_function` must be given"),
        (lambda: get_link("exp", tf.math.log), ValueError, "must be left out unless"),
        (lambda: get_link(3), TypeError, "`link_function` must be callable, got int"),
        (
            lambda: Parameters(2, FIELDS),
            ValueError,
            "as many channels as the network, 2, got 3",
        ),
        (lambda: Parameters(2, {}), TypeError, "`fields` must be a dictionary"),
        (lambda: Parameters(3, FIELDS, "exp"), TypeError, "must be a dictionary with `fields`"),
        (
            lambda: Parameters(3, FIELDS, {"dust": "exp"}),
            ValueError,
            r"must name only the fields \['source', 'mass'\], got \['dust'\]",
        ),
        (
            lambda: Parameters(3, FIELDS).unlink(tf.zeros((1, 3))),
            TypeError,
            "must be a dictionary of",
        ),
        (
            lambda: Parameters(3, FIELDS).unlink({"source": tf.zeros((1, 2))}),
            ValueError,
            r"must have the fields \['source', 'mass'\], got \['source'\]",
        ),
    ],
)
def test_bad_arguments_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_probabilities_near_zero_and_one_come_back(dtype):
    """Thirty decades above zero, and all numbers of the type next to one."""
    link = LINKS["sigmoid"]
    x = tf.constant(np.logspace(-30, -1, 30), dtype)
    tolerance = 3e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(link.forward(link.inverse(x)), x, rtol=tolerance)
    gaps = np.finfo(dtype).epsneg * 2.0 ** np.arange(12)
    inverse = np.asarray(link.inverse(tf.constant((1 - gaps).astype(dtype))), "float64")
    np.testing.assert_allclose(inverse, np.log((1 - gaps) / gaps), rtol=1e-6)
    np.testing.assert_allclose(link.inverse(tf.constant([1.0], dtype)), inverse[:1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_next_to_one_come_back_through_tanh(dtype):
    gaps = np.finfo(dtype).epsneg * 2.0 ** np.arange(12)
    x = np.concatenate([1 - gaps, gaps - 1, [1e-30, -1e-30, 0.0]]).astype(dtype)
    inverse = np.asarray(LINKS["tanh"].inverse(tf.constant(x)), "float64")
    expected = 0.5 * np.log((2 - gaps) / gaps)
    np.testing.assert_allclose(inverse[:12], expected, rtol=1e-6)
    np.testing.assert_allclose(inverse[12:24], -expected, rtol=1e-6)
    np.testing.assert_allclose(inverse[24:], x[24:], rtol=1e-6)
    edges = LINKS["tanh"].inverse(tf.constant([-1.0, 1.0], dtype))
    np.testing.assert_allclose(edges, [-inverse[0], inverse[0]])
