import numpy as np
import problems
import pytest
import tensorflow as tf

from rim_tf.problem.links import LINKS, get_link
from rim_tf.problem.parameters import Parameters
from rim_tf.problem.scores import score_from_energy, unlinked_score, vectorized

WRAPS = {
    "eager": lambda f: f,
    "graph": tf.function,
    "xla": lambda f: tf.function(f, jit_compile=True),
}


def energy(x, y, a):
    """Half the squared residual of a matrix, on the first channel, and a quartic."""
    residual = y - tf.linalg.matvec(a, x[..., 0])
    return 0.5 * tf.reduce_sum(residual**2, -1) + 0.1 * tf.reduce_sum(x**4, (1, 2))


def score(x, y, a):
    residual = y - tf.linalg.matvec(a, x[..., 0])
    return tf.linalg.matvec(a, residual, transpose_a=True)[..., None] - 0.4 * x**3


def example_energy(x, y, a):
    return energy(x[None], y[None], a[None])[0]


@pytest.fixture
def problem():
    random = np.random.default_rng(0)
    u = tf.constant(0.5 * random.normal(size=(4, 5, 1)))
    return (
        u,
        tf.constant(random.normal(size=(4, 7))),
        tf.constant(random.normal(size=(4, 7, 5))),
    )


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_score_is_minus_the_energys_gradient(problem, wrap):
    u, y, a = problem
    np.testing.assert_allclose(wrap(score_from_energy(energy))(u, y, a), score(u, y, a), rtol=1e-12)


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("name", LINKS)
def test_chain_rule_agrees_with_autodiff_of_the_composition(problem, wrap, name):
    u, y, a = problem
    link = get_link(name).forward
    with tf.GradientTape() as tape:
        tape.watch(u)
        composed = -tf.reduce_sum(energy(link(u), y, a))
    expected = tape.gradient(composed, u)
    for options in (
        {"score_fn": score},
        {"energy_fn": energy},
        {"energy_fn": example_energy, "vectorize": True},
    ):
        result = wrap(unlinked_score(link, **options))(u, y, a)
        np.testing.assert_allclose(result, expected, rtol=1e-10)


def test_vectorized_score_is_the_batched_one(problem):
    single = vectorized(lambda x, y, a: score(x[None], y[None], a[None])[0])
    np.testing.assert_allclose(single(*problem), score(*problem), rtol=1e-12)


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("options", [{"score_fn": score}, {"energy_fn": energy}])
def test_gradient_through_the_score_is_an_option(problem, gradient, options):
    u, y, a = problem
    function = unlinked_score(tf.exp, gradient=gradient, **options)
    with tf.GradientTape() as tape:
        tape.watch(u)
        total = tf.reduce_sum(function(u, y, a) ** 2)
    result = tape.gradient(total, u)
    if not gradient:
        assert result is None
        return
    step = 1e-6
    for entry in range(3):
        bump = np.zeros(u.shape)
        bump[entry, entry, 0] = step
        upper, lower = (tf.reduce_sum(function(u + s * bump, y, a) ** 2) for s in (1, -1))
        np.testing.assert_allclose(result[entry, entry, 0], (upper - lower) / (2 * step), rtol=1e-5)


def test_an_energy_without_a_field_leaves_that_field_alone():
    parameters = Parameters(2, {"source": 1, "mass": 1}, {"source": "exp"})
    u = tf.constant(np.random.default_rng(4).normal(size=(3, 5, 2)))
    score_fn = unlinked_score(
        parameters.link, energy_fn=lambda x: tf.reduce_sum(x["source"], (1, 2))
    )
    np.testing.assert_allclose(score_fn(u), np.stack([-np.exp(u[..., 0]), 0 * u[..., 0]], -1))


def test_gathered_entries_have_a_dense_score():
    u = tf.constant(np.random.default_rng(5).normal(size=(3, 5)))
    score_fn = score_from_energy(lambda x: tf.reduce_sum(tf.gather(x, [1, 1]) ** 2, -1))
    expected = np.zeros((3, 5))
    expected[1] = -4 * u[1]
    np.testing.assert_allclose(score_fn(u), expected)


FIELDS = {"source": 1, "mass": 1}


@pytest.mark.parametrize(
    ("fields", "options", "words"),
    [
        (None, {"energy_fn": lambda x: np.ones(3)}, "`energy_fn` must be a differentiable"),
        (None, {"score_fn": lambda x: None}, "`score_fn` must return the shape of `x`, .*None"),
        (None, {"score_fn": lambda x: x[..., 0]}, r"`score_fn` must return .* got \(3, 5\)"),
        (FIELDS, {"score_fn": lambda x: x["mass"]}, r"return the fields \['source', 'mass'\]"),
        (FIELDS, {"score_fn": lambda x: {"mass": x["mass"]}}, r"got \['mass'\]"),
        (FIELDS, {"score_fn": lambda x: {**x, "mass": None}}, "the shape of `x`, .*None"),
    ],
)
def test_scores_that_do_not_fit_are_named(fields, options, words):
    link = Parameters(2, fields).link
    with pytest.raises(ValueError, match=words):
        unlinked_score(link, **options)(tf.ones((3, 5, 2)))


@pytest.mark.parametrize(
    ("energy", "error", "words"),
    [
        (lambda x: tf.reduce_sum(x**2), ValueError, r"must return the shape \(3,\), got \(\)"),
        (lambda x: x[..., 0] ** 2, ValueError, r"must return the shape \(3,\), got \(3, 4\)"),
        (
            lambda x: tf.cast(x[:, 0, 0], "complex128"),
            TypeError,
            "`energy_fn` must return real numbers, got complex128",
        ),
    ],
)
def test_energies_of_another_shape_are_refused(energy, error, words):
    with pytest.raises(error, match=words):
        unlinked_score(tf.identity, energy_fn=energy)(tf.ones((3, 4, 1), "float64"))


def test_scores_of_numpy_are_converted():
    score = np.random.default_rng(6).normal(size=(3, 4, 1))
    for dtype in ("float32", "float64"):
        found = unlinked_score(tf.identity, score_fn=lambda x: score)(tf.ones((3, 4, 1), dtype))
        assert found.dtype == dtype
        np.testing.assert_allclose(found, score, rtol=1e-6)


@pytest.mark.parametrize("kind", ["score_fn", "energy_fn"])
@pytest.mark.parametrize("fit", [False, True])
@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            lambda x, y, a, sigma: {}["table"],
            r"must take \(x, y, \*args\), here .*5, 1\) float32, .*KeyError: 'table'",
        ),
        (lambda x, y, a, sigma: tf.linalg.matvec(a, y), "It raised .*Dimensions must be equal"),
        (lambda x, y, a, sigma: np.asarray(x), "It raised NotImplementedError"),
        (lambda x, y, a, sigma: None, "must return the shape .*, got None"),
        (lambda x, y, a, sigma: [x, y], "must return"),
        (lambda x, y, a, sigma: object(), "must return tensors, got object"),
    ],
)
def test_a_function_that_fails_is_named(kind, fit, function, words):
    y, x, a, sigma = problems.draw(6, 0)
    rim = problems.small_rim(**{kind: function})
    rim.compile()
    data = y, a, sigma
    run = (lambda: rim.fit(data, x, verbose=0)) if fit else lambda: rim.predict(*data)
    with pytest.raises((ValueError, TypeError), match=f"`{kind}` (?s:.*){words}"):
        run()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (lambda y, a, s: (list(y), a, s), "got 7; a list is the observation and these arguments"),
        (lambda y, a, s: ([y, y],), r"`y` must come with 2 more arguments .*, got 1; a list"),
        (lambda y, a, s: (y,), r"`y` must come with 2 more arguments of the score, got 0\."),
        (lambda y, a, s: (y, a, s, s), r"2 more arguments of the score, got 3\."),
    ],
)
def test_predict_says_how_many_arguments_there_are(more, words):
    y, _, a, sigma = problems.draw(6, 0)
    with pytest.raises(ValueError, match=words):
        problems.small_rim().predict(*more(y, a, sigma))


def test_fields_share_the_chain_rule():
    parameters = Parameters(3, {"source": 2, "mass": 1}, {"source": "exp"})
    u = tf.constant(np.random.default_rng(1).normal(size=(2, 4, 3)))

    def joint(x, y):
        return tf.reduce_sum(x["source"] ** 2 * x["mass"] * y, (1, 2))

    def joint_score(x, y):
        return {
            "source": -2 * x["source"] * x["mass"] * y,
            "mass": -tf.reduce_sum(x["source"] ** 2 * y, -1, keepdims=True),
        }

    y = tf.constant(np.random.default_rng(2).normal(size=(2, 4, 1)))
    from_energy = unlinked_score(parameters.link, energy_fn=joint)(u, y)
    from_score = unlinked_score(parameters.link, score_fn=joint_score)(u, y)
    with tf.GradientTape() as tape:
        tape.watch(u)
        composed = -tf.reduce_sum(joint(parameters.link(u), y))
    expected = tape.gradient(composed, u)
    np.testing.assert_allclose(from_energy, expected, rtol=1e-12)
    np.testing.assert_allclose(from_score, expected, rtol=1e-12)
