"""Several coils with complex sensitivities (SENSE), as real and imaginary parts in two channels."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from rim_tf import RIM, GaussianLikelihood, PutzkyWelling

SIZE, COILS, NOISE = 6, 3, 0.2


def sense(x, coils, mask):
    """Masked Fourier data of every coil, `[batch, coils, SIZE, SIZE]`, of a complex image.

    Args:
        x: The parts of the image, `[batch, SIZE, SIZE, 2]`.
        coils: The sensitivities, complex, `[batch, coils, SIZE, SIZE]`.
        mask: Ones and zeros, `[batch, SIZE, SIZE]`.
    """
    image = tf.complex(x[..., 0], x[..., 1])[:, tf.newaxis]
    seen = tf.signal.fft2d(coils * image) / SIZE
    return seen * tf.cast(mask, seen.dtype)[:, tf.newaxis]


def sense_adjoint(r, coils, mask):
    """The adjoint, `sum_c conj(s_c) F^H M r_c`, in NumPy."""
    images = np.fft.ifft2(r * mask[:, None], norm="ortho")
    total = np.sum(coils.conj() * images, 1)
    return np.stack([total.real, total.imag], -1)


def draw(count, seed, dtype="float64"):
    """`(y, x, coils, mask)`; the noise of every part has the standard deviation `NOISE`."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, SIZE, SIZE, 2))
    coils = random.normal(size=(count, COILS, SIZE, SIZE, 2)) @ [1, 1j] / COILS**0.5
    mask = (random.uniform(size=(count, 1, SIZE)) < 0.7) * np.ones((1, SIZE, 1))
    noise = random.normal(size=(*coils.shape, 2)) @ [1, 1j]
    seen = np.fft.fft2(coils * (x @ [1, 1j])[:, None], norm="ortho") + NOISE * noise
    complex_type = "complex128" if dtype == "float64" else "complex64"
    y = seen * mask[:, None]
    return y.astype(complex_type), x.astype(dtype), coils.astype(complex_type), mask.astype(dtype)


def test_the_score_is_that_of_the_adjoint():
    y, x, coils, mask = draw(3, 0)
    likelihood = GaussianLikelihood(sense, sigma=NOISE)
    residual = y - mask[:, None] * np.fft.fft2(coils * (x @ [1, 1j])[:, None], norm="ortho")
    expected = sense_adjoint(residual, coils, mask) / NOISE**2
    arguments = (tf.constant(x), y, tf.constant(coils), tf.constant(mask))
    np.testing.assert_allclose(likelihood.score(*arguments), expected, rtol=1e-10, atol=1e-10)
    chi2 = np.sum(np.abs(residual) ** 2, (1, 2, 3)) / NOISE**2
    np.testing.assert_allclose(likelihood.chi2(*arguments), chi2, rtol=1e-12)


def test_coils_with_correlated_circular_noise():
    """One covariance between coils, `E[n n^H] / 2`, for every point of the Fourier plane."""
    y, x, coils, mask = draw(2, 1)
    random = np.random.default_rng(2)
    root = random.normal(size=(COILS, COILS, 2)) @ [1, 1j]
    between = root @ root.conj().T + np.eye(COILS)
    covariance = np.kron(between, np.eye(SIZE**2))
    likelihood = GaussianLikelihood(sense, covariance=covariance)
    residual = y - mask[:, None] * np.fft.fft2(coils * (x @ [1, 1j])[:, None], norm="ortho")
    weighted = np.einsum("cd,bdij->bcij", np.linalg.inv(between), residual)
    arguments = (tf.constant(x), y, tf.constant(coils), tf.constant(mask))
    expected = sense_adjoint(weighted, coils, mask)
    np.testing.assert_allclose(likelihood.score(*arguments), expected, rtol=1e-8, atol=1e-8)
    chi2 = np.sum(residual.conj() * weighted, (1, 2, 3)).real
    np.testing.assert_allclose(likelihood.chi2(*arguments), chi2, rtol=1e-10)


def test_a_matrix_between_coils_gives_the_most_likely_image():
    """At the generalised least-squares solution of the whole linear system the score is zero."""
    y, x, coils, mask = draw(1, 3)
    basis = np.eye(2 * SIZE**2).reshape(-1, SIZE, SIZE, 2)
    repeated = [tf.repeat(tf.constant(each), len(basis), 0) for each in (coils, mask)]
    matrix = np.asarray(sense(tf.constant(basis), *repeated)).reshape(len(basis), -1).T
    parts = [np.concatenate([each.real, each.imag]) for each in (matrix, y.ravel())]
    best = np.linalg.lstsq(*parts, rcond=None)[0].reshape(x.shape)
    score = GaussianLikelihood(sense, sigma=NOISE).score(
        tf.constant(best), y, tf.constant(coils), tf.constant(mask)
    )
    np.testing.assert_allclose(score, np.zeros_like(x), atol=1e-9)


@pytest.mark.slow
def test_a_rim_learns_to_join_the_coils():
    """Below the error of the initialisation, zero, from the defaults."""
    rim = RIM(
        [SIZE, SIZE],
        PutzkyWelling(2, 2, features=(16, 16, 16), strides=1, seed=0),
        likelihood=GaussianLikelihood(sense, sigma=NOISE),
        T=4,
    )
    rim.compile(keras.optimizers.Adam(3e-3), jit_compile=False)
    rim.fit(draw(256, 4, "float32"), epochs=6, batch_size=16, seed=0, verbose=0)
    y, x, coils, mask = draw(64, 5, "float32")
    error = np.mean((rim.predict(y, coils, mask, jit_compile=False) - x) ** 2)
    assert error < 0.75 * np.mean(x**2)
