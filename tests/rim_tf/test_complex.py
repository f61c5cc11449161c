"""Complex data: real parameters, or complex ones as two channels."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from problems import SIZE, small_network

from rim_tf import RIM, GaussianLikelihood, PutzkyWelling

DATA, NOISE = 6, 0.3


def forward(x, a):
    """`A z` for the complex numbers `z` whose parts are the channels of `x`."""
    return tf.linalg.matvec(a, tf.complex(x[..., 0], x[..., 1]))


def draw(count, seed):
    """`(y, x, a)` in double precision, as NumPy makes them."""
    random = np.random.default_rng(seed)
    x, noise = random.normal(size=(count, SIZE, 2)), random.normal(size=(count, DATA, 2))
    a = random.normal(size=(count, DATA, SIZE, 2)) @ [1, 1j]
    y = np.einsum("nij,nj->ni", a, x @ [1, 1j]) + NOISE * noise @ [1, 1j]
    return y, x, a


def make_rim(**options):
    network = PutzkyWelling(2, 1, features=(16, 24, 16), seed=0)
    likelihood = GaussianLikelihood(forward, sigma=NOISE)
    options = {"likelihood": likelihood, "score_preprocessing_method": "arcsinh", **options}
    return RIM([SIZE], network, T=4, **options)


def test_a_complex_problem_is_learnt():
    """Zeros have error one, and least squares 0.2."""
    rim = make_rim()
    rim.compile(keras.optimizers.Adam(3e-3), jit_compile=False)
    rim.fit(draw(1024, 0), epochs=12, batch_size=32, seed=0, verbose=0)
    y, x, a = draw(256, 1)
    error = np.mean((rim.predict(y, a, jit_compile=False) - x) ** 2)
    assert error < 0.45
    logs = rim.evaluate((y, x, a), verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["error"], error, rtol=1e-4)
    residual = y - np.einsum("nij,nj->ni", a, rim.predict(y, a, jit_compile=False) @ [1, 1j])
    chi2 = np.sum(np.abs(residual) ** 2, 1) / NOISE**2
    np.testing.assert_allclose(logs["chi2"], chi2.mean(), rtol=1e-4)


def test_the_score_of_complex_parameters_is_that_of_both_parts():
    y, x, a = draw(3, 0)
    score = GaussianLikelihood(forward, sigma=NOISE).score(tf.constant(x), y, tf.constant(a))
    residual = y - np.einsum("nij,nj->ni", a, x @ [1, 1j])
    expected = np.einsum("nij,ni->nj", a.conj(), residual) / NOISE**2
    np.testing.assert_allclose(score, np.stack([expected.real, expected.imag], -1), rtol=1e-12)


@pytest.mark.parametrize("jit_compile", [True, False])
def test_data_of_double_precision_are_taken_by_a_rim_of_single_precision(jit_compile):
    y, _, a = draw(3, 0)
    rim = make_rim()
    found = rim.predict(y, a, jit_compile=jit_compile)
    want = rim((y.astype("complex64"), a.astype("complex64")))[:, -1]
    np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-4)
    double = RIM(
        [SIZE],
        PutzkyWelling(2, 1, features=(16, 24, 16), seed=0, dtype="float64"),
        likelihood=GaussianLikelihood(forward, sigma=NOISE),
        T=4,
        dtype="float64",
    )
    assert double.predict(y, a, jit_compile=jit_compile).dtype == np.float64


def test_a_complex_observation_is_shown_in_its_parts():
    y = draw(3, 0)[0][:, :SIZE].astype("complex64")
    shown = []

    class Watching(PutzkyWelling):
        def call(self, inputs, state):
            shown.append(inputs)
            return super().call(inputs, state)

    network = Watching(1, 1, features=(2, 2, 2))
    rim = RIM([SIZE], network, score_fn=lambda x, y: -x, observation_channels=2, T=1)
    shown.clear()
    rim(y)
    np.testing.assert_array_equal(shown[0][..., 2], y.real)
    np.testing.assert_array_equal(shown[0][..., 3], y.imag)


def complex_score(x, y):
    return tf.complex(x, x)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"x": np.ones((2, SIZE, 1), "complex64")}, "The parameters `x` must be real"),
        ({"sample_weight": np.ones(2, "complex64")}, "`sample_weight` must be real"),
        ({"score_fn": complex_score}, "`score_fn`'s result must be real"),
        (
            {
                "initialization_method": "approximate_inverse",
                "approximate_inverse_fn": complex_score,
            },
            "`approximate_inverse_fn`'s result must be real",
        ),
    ],
)
def test_an_imaginary_part_is_not_dropped(options, words):
    options = {"x": np.ones((2, SIZE, 1), "float32"), "score_fn": lambda x, y: y - x, **options}
    y, x = np.ones((2, SIZE, 1), "float32"), options.pop("x")
    weights = options.pop("sample_weight", None)
    if "approximate_inverse_fn" in options:
        options["approximate_inverse_fn"] = lambda y: complex_score(y, y)
    rim = RIM([SIZE], small_network(), T=1, **options)
    rim.compile(jit_compile=False)
    with pytest.raises(TypeError, match=words):
        rim.fit((y, x), sample_weight=weights, verbose=0)


def test_noise_and_masks_are_real():
    x = tf.ones((2, SIZE, 1))
    y = tf.complex(x[..., 0], x[..., 0])

    def identity(x):
        return tf.complex(x[..., 0], x[..., 0])

    given = GaussianLikelihood(identity)
    with pytest.raises(TypeError, match="`sigma` must be real, got complex64"):
        given.chi2(x, y, y)
    masked = GaussianLikelihood(identity, sigma=1.0, mask="given")
    with pytest.raises(TypeError, match="`mask` must be real, got complex64"):
        masked.chi2(x, y, y)
    real = GaussianLikelihood(lambda x: x[..., 0], sigma=1.0)
    with pytest.raises(TypeError, match="`operator` must return complex numbers for `y`"):
        real.chi2(x, y)


def test_counts_may_be_integers():
    likelihood = GaussianLikelihood(lambda x: x[..., 0], sigma=2.0)
    counts = tf.constant([[3, 7, 1]], tf.uint8)
    x = tf.ones((1, 3, 1))
    np.testing.assert_allclose(likelihood.chi2(x, counts), [(2**2 + 6**2) / 4])
