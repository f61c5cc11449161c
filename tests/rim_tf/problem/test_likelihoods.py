import numpy as np
import pytest
import tensorflow as tf

from rim_tf.problem.likelihoods import GaussianLikelihood
from rim_tf.problem.scores import score_from_energy

BATCH, DATA, SIZE = 3, 6, 4
WRAPS = {
    "eager": lambda f: f,
    "graph": tf.function,
    "xla": lambda f: tf.function(f, jit_compile=True),
}
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(BATCH, SIZE, 1))
Y = RANDOM.normal(size=(BATCH, DATA))
A = RANDOM.normal(size=(BATCH, DATA, SIZE))
ROOT = RANDOM.normal(size=(BATCH, DATA, 2 * DATA))
COVARIANCE = ROOT @ ROOT.transpose(0, 2, 1) / DATA
SIGMA = RANDOM.uniform(0.5, 2.0, size=(BATCH, DATA))
MASK = np.array([[1, 1, 0, 1, 0, 1], [1, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 0]], float)


def reference(y, a, x, covariance, mask):
    """Score and chi-squared of one example, from the covariance of the data that count."""
    keep = mask.astype(bool)
    residual = (y - a @ x)[keep]
    weighted = np.linalg.solve(covariance[np.ix_(keep, keep)], residual)
    return a[keep].T @ weighted, residual @ weighted


CASES = {
    "level for each example": (
        GaussianLikelihood(),
        lambda k: np.diag(np.full(DATA, SIGMA[k, 0] ** 2)),
        (SIGMA[:, 0],),
        False,
    ),
    "map for each example": (
        GaussianLikelihood(),
        lambda k: np.diag(SIGMA[k] ** 2),
        (SIGMA,),
        False,
    ),
    "fixed map": (
        GaussianLikelihood(sigma=SIGMA[0]),
        lambda k: np.diag(SIGMA[0] ** 2),
        (),
        False,
    ),
    "fixed level, mask for each example": (
        GaussianLikelihood(sigma=0.7, mask="given"),
        lambda k: 0.49 * np.eye(DATA),
        (MASK,),
        True,
    ),
    "full for each example": (
        GaussianLikelihood(covariance="given"),
        lambda k: COVARIANCE[k],
        (COVARIANCE,),
        False,
    ),
    "full for each example, masks": (
        GaussianLikelihood(covariance="given", mask="given"),
        lambda k: COVARIANCE[k],
        (COVARIANCE, MASK),
        True,
    ),
    "fixed full": (
        GaussianLikelihood(covariance=COVARIANCE[1]),
        lambda k: COVARIANCE[1],
        (),
        False,
    ),
    "fixed full, masks": (
        GaussianLikelihood(covariance=COVARIANCE[1], mask="given"),
        lambda k: COVARIANCE[1],
        (MASK,),
        True,
    ),
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_score_energy_and_chi2_are_the_formulas(case, wrap):
    likelihood, covariance, extra, masked = case
    inputs = [tf.constant(v) for v in (X, Y, A, *extra)]
    mask = MASK if masked else np.ones((BATCH, DATA))
    expected = [reference(Y[k], A[k], X[k, :, 0], covariance(k), mask[k]) for k in range(BATCH)]
    score, chi2, energy = (
        wrap(getattr(likelihood, name))(*inputs) for name in ("score", "chi2", "energy")
    )
    np.testing.assert_allclose(score[..., 0], [each[0] for each in expected], rtol=1e-9)
    np.testing.assert_allclose(chi2, [each[1] for each in expected], rtol=1e-9)
    np.testing.assert_allclose(energy, chi2 / 2)
    from_energy = score_from_energy(likelihood.energy)(*inputs)
    np.testing.assert_allclose(score, from_energy, rtol=1e-9)


def test_matrix_and_function_and_argument_are_the_same_operator():
    x, y, a = (tf.constant(v) for v in (X, Y, np.broadcast_to(A[0], A.shape)))
    scores = [
        GaussianLikelihood(operator, sigma=0.3).score(x, y, *extra)
        for operator, extra in (
            (A[0], ()),
            ("given", (a,)),
            (lambda x, a: tf.linalg.matvec(a, x[..., 0]), (a,)),
        )
    ]
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-12)
    np.testing.assert_allclose(scores[2], scores[0], rtol=1e-12)


def test_images_and_nonlinear_operators():
    random = np.random.default_rng(1)
    x, y = (tf.constant(random.normal(size=(2, 5, 4, 1))) for _ in range(2))
    mask = (random.uniform(size=(5, 4, 1)) < 0.5).astype(float)
    likelihood = GaussianLikelihood(lambda x: tf.exp(x) * x, sigma=0.5, mask=mask)
    slope = np.exp(x) * (1 + x)
    residual = (y - np.exp(x) * x) * mask / 0.25
    np.testing.assert_allclose(likelihood.score(x, y), slope * residual, rtol=1e-12)


def test_chi2_of_the_truth_is_the_number_of_data():
    """Mean over 4000 examples of a chi-squared of 6 degrees: 6 within 5 of its deviations."""
    random = np.random.default_rng(2)
    count = 4000
    noise = np.linalg.cholesky(COVARIANCE[0]) @ random.normal(size=(count, DATA, 1))
    x = np.zeros((count, SIZE, 1))
    likelihood = GaussianLikelihood(A[0], covariance=COVARIANCE[0])
    chi2 = likelihood.chi2(tf.constant(x), tf.constant(noise[..., 0]))
    assert abs(np.mean(chi2) - DATA) < 5 * np.sqrt(2 * DATA / count)


IMAGE = np.ones((3, 4, 4, 1))


@pytest.mark.parametrize("wrap", [WRAPS["eager"], WRAPS["graph"]], ids=["eager", "graph"])
@pytest.mark.parametrize(
    ("likelihood", "x", "y", "extra", "words"),
    [
        (
            GaussianLikelihood(tf.identity, sigma=np.ones((4, 4))),
            IMAGE,
            IMAGE,
            (),
            r"`sigma` must be a number or have shape \(4, 4, 1\), got \(4, 4\)",
        ),
        (
            GaussianLikelihood(tf.identity, sigma=1.0, mask=np.ones(4)),
            IMAGE,
            IMAGE,
            (),
            r"`mask` must be a number or have shape \(4, 4, 1\), got \(4,\)",
        ),
        (
            GaussianLikelihood(tf.identity, sigma="given"),
            IMAGE,
            IMAGE,
            (np.ones((3, 1, 4, 4, 1)),),
            r"`sigma` must have leading axes of the data, \(3, 4, 4, 1\), got \(3, 1, 4, 4, 1\)",
        ),
        (
            GaussianLikelihood(tf.identity, sigma="given"),
            IMAGE,
            IMAGE,
            (np.ones((3, 2)),),
            r"`sigma` must have leading axes of the data, \(3, 4, 4, 1\), got \(3, 2\)",
        ),
        (
            GaussianLikelihood(tf.identity, sigma=1.0, mask="given"),
            np.ones((4, 4)),
            np.ones((4, 4)),
            (np.ones(4),),
            r"`mask` must have all axes of the data, \(4, 4\), got \(4,\)",
        ),
        (
            GaussianLikelihood(tf.identity, covariance=np.eye(2)),
            np.ones((3, 4)),
            np.ones((3, 4)),
            (),
            r"`covariance` must have shape \(4, 4\) for data of shape \(3, 4\), got \(2, 2\)",
        ),
        (
            GaussianLikelihood(tf.identity, covariance="given"),
            np.ones((3, 4)),
            np.ones((3, 4)),
            (np.ones((3, 4)),),
            r"`covariance` must have shape \(batch, 4, 4\) for data of .*, got \(3, 4\)",
        ),
        (
            GaussianLikelihood(lambda x: x[..., 0], sigma=1.0),
            IMAGE,
            IMAGE,
            (),
            r"`operator` must return the shape of `y`, \(3, 4, 4, 1\), got \(3, 4, 4\)",
        ),
    ],
)
def test_shapes_that_would_broadcast_are_named(likelihood, x, y, extra, words, wrap):
    inputs = [tf.constant(value) for value in (x, y, *extra)]
    for method in ("score", "chi2"):
        with pytest.raises(ValueError, match=words):
            wrap(getattr(likelihood, method))(*inputs)


def test_axes_of_length_one_may_broadcast():
    """A level for each row, for all columns and examples, in every way to say it."""
    image = np.random.default_rng(0).normal(size=(3, 4, 4, 1))
    rows = np.arange(1.0, 5.0).reshape(4, 1, 1)
    expected = np.sum((image / rows) ** 2, (1, 2, 3))
    for sigma in (rows, rows[np.newaxis], np.broadcast_to(rows, (4, 4, 1))):
        chi2 = GaussianLikelihood(tf.zeros_like, sigma=sigma).chi2(tf.constant(image), image)
        np.testing.assert_allclose(chi2, expected, rtol=1e-12)
    given = np.broadcast_to(rows[..., 0, 0], (3, 4))
    chi2 = GaussianLikelihood(tf.zeros_like).chi2(tf.constant(image), image, given)
    np.testing.assert_allclose(chi2, expected, rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_what_is_masked_may_be_anything(bad, wrap):
    """Data, noise levels and covariances without meaning, where nothing was measured."""
    spoil = MASK == 0
    kept = MASK[:, :, np.newaxis] * MASK[:, np.newaxis] > 0
    for likelihood, noise, spoiled in (
        (GaussianLikelihood(mask="given"), SIGMA, np.where(spoil, bad, SIGMA)),
        (
            GaussianLikelihood(covariance="given", mask="given"),
            COVARIANCE,
            np.where(kept, COVARIANCE, bad),
        ),
    ):
        for name in ("score", "chi2"):
            method = wrap(getattr(likelihood, name))
            x, a, mask = tf.constant(X), tf.constant(A), tf.constant(MASK)
            clean = method(x, tf.constant(Y), a, tf.constant(noise), mask)
            dirty = method(x, tf.constant(np.where(spoil, bad, Y)), a, tf.constant(spoiled), mask)
            np.testing.assert_allclose(dirty, clean, rtol=1e-12)


def test_a_fixed_level_of_zero_may_be_masked():
    sigma = np.where(MASK[0] == 0, 0.0, SIGMA[0])
    likelihood = GaussianLikelihood(A[0], sigma=sigma, mask=MASK[0])
    expected = GaussianLikelihood(A[0], sigma=SIGMA[0], mask=MASK[0])
    x = tf.constant(X)
    np.testing.assert_allclose(likelihood.score(x, Y), expected.score(x, Y), rtol=1e-12)
    with pytest.raises(ValueError, match="`sigma` must be positive"):
        GaussianLikelihood(A[0], sigma=sigma, mask=1 - MASK[0])


IMAGINARY = np.random.default_rng(3).normal(size=(BATCH, DATA, SIZE))
COMPLEX_Y = Y + 1j * Y[::-1]
HERMITIAN = COVARIANCE[0] + 1j * (ROOT[0, :, :DATA] - ROOT[0, :, :DATA].T) / 20


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("noise", ["level", "masked", "covariance", "masked covariance"])
def test_complex_data_are_their_real_and_imaginary_parts(noise, wrap):
    """The same problem with real data, in which the two parts stand one behind the other."""
    matrix = A[0] + 1j * IMAGINARY[0]
    stacked = np.concatenate([matrix.real, matrix.imag])
    mask = MASK[0] if "masked" in noise else np.ones(DATA)
    options, real_options = {"sigma": SIGMA[0]}, {"sigma": np.tile(SIGMA[0], 2)}
    if "covariance" in noise:
        both = np.block([[HERMITIAN.real, -HERMITIAN.imag], [HERMITIAN.imag, HERMITIAN.real]])
        options, real_options = {"covariance": HERMITIAN}, {"covariance": both}
    ours = GaussianLikelihood(matrix, mask=mask, **options)
    real = GaussianLikelihood(stacked, mask=np.tile(mask, 2), **real_options)
    x, y = tf.constant(X), tf.constant(COMPLEX_Y)
    parts = tf.concat([tf.math.real(y), tf.math.imag(y)], -1)
    for name in ("score", "chi2", "energy"):
        value = wrap(getattr(ours, name))(x, y)
        assert value.dtype == tf.float64
        np.testing.assert_allclose(value, getattr(real, name)(x, parts), rtol=1e-9)
    np.testing.assert_allclose(score_from_energy(ours.energy)(x, y), ours.score(x, y), rtol=1e-9)


def test_a_complex_operator_and_covariance_may_come_with_each_example():
    matrix = A + 1j * IMAGINARY
    fixed = GaussianLikelihood(matrix[0], covariance=HERMITIAN)
    given = GaussianLikelihood(covariance="given")
    x, y = tf.constant(X), tf.constant(COMPLEX_Y)
    each = [np.broadcast_to(value, (BATCH, *value.shape)) for value in (matrix[0], HERMITIAN)]
    np.testing.assert_allclose(given.score(x, y, *each), fixed.score(x, y), rtol=1e-9)
    with pytest.raises(TypeError, match="`covariance` must be real for real data"):
        GaussianLikelihood(A[0], covariance=HERMITIAN).chi2(x, tf.constant(Y))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: GaussianLikelihood(covariance=HERMITIAN + 1j * np.ones((DATA, DATA)) / 9),
            ValueError,
            "`covariance` must be Hermitian",
        ),
        (lambda: GaussianLikelihood(sigma=0.0), ValueError, "`sigma` must be positive"),
        (
            lambda: GaussianLikelihood(sigma=1.0, covariance=np.eye(2)),
            ValueError,
            "`sigma` must be left out with a `covariance`",
        ),
        (
            lambda: GaussianLikelihood(covariance=-np.eye(2)),
            ValueError,
            "`covariance` must be square and positive definite",
        ),
        (
            lambda: GaussianLikelihood(covariance=[[1.0, 0.5], [0.0, 1.0]]),
            ValueError,
            "`covariance` must be symmetric",
        ),
        (lambda: GaussianLikelihood(np.ones(3)), ValueError, "`operator` must have shape"),
        (lambda: GaussianLikelihood(mask=["a"]), TypeError, "`mask` must hold real numbers"),
        (
            lambda: GaussianLikelihood(mask="given").chi2(X, Y, A, SIGMA),
            ValueError,
            "needs 3 arguments after `y`: operands, then noise, then mask; got 2",
        ),
    ],
)
def test_bad_arguments_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("kind", ["sigma", "given", "covariance", "complex", "masked"])
def test_simulated_noise_has_the_covariance_that_is_weighed_with(kind):
    """Chi-squared of the truth is that of the normals, whatever the noise."""
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 4, 1))
    normals = random.normal(size=(200, 4))
    args, options = [], {}
    root = random.normal(size=(4, 4)) + 3 * np.eye(4)
    if kind == "sigma":
        options = {"sigma": [0.1, 1.0, 3.0, 10.0]}
    elif kind == "covariance":
        options = {"covariance": root @ root.T}
    else:
        args = [random.uniform(0.1, 3.0, 200)]
    if kind == "masked":
        options = {"mask": [1, 0, 1, 1]}
        normals[:, 1] = 0
    dtype = np.complex128 if kind == "complex" else np.float64
    if kind == "complex":
        normals = normals + 1j * random.normal(size=(200, 4))
    likelihood = GaussianLikelihood(
        lambda x: tf.cast(tf.sin(x[..., 0]), tf.as_dtype(dtype)), **options
    )
    y = likelihood.simulate(tf.constant(x), tf.constant(normals), *args)
    chi2 = likelihood.chi2(tf.constant(x), y, *args)
    np.testing.assert_allclose(chi2, np.sum(np.abs(normals) ** 2, axis=1), rtol=1e-6)
    if kind == "masked":
        np.testing.assert_array_equal(y[:, 1], np.sin(x[:, 1, 0]))
