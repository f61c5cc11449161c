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


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
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
