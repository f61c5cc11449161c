"""A simulated magnetic-resonance scanner, and the classical ways to invert it.

A scanner measures Fourier modes of a complex image, seen through the sensitivities of its coils. A
mask tells which modes are kept. `rim_mri.py` uses this module.
"""

from typing import Any

import numpy as np
import tensorflow as tf

COILS = 4
"""The largest number of coils."""


def frequencies(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The two components of every mode, `(size, size)` each, in cycles per image."""
    k = np.fft.fftfreq(size, 1 / size)
    return np.meshgrid(k, k, indexing="ij")


def mask(kind: str, size: int, seed: int, kept: float = 0.25) -> np.ndarray:
    """A mask `(size, size)` with ones for the fraction `kept` of the modes, zero frequency first.

    "cartesian" keeps random lines, more of them at low frequencies, and "radial" keeps lines
    through the centre at a random angle. The others are never used in training: "equidistant"
    lines, "points" at random and a "spiral".
    """
    random = np.random.default_rng(seed)
    kx, ky = frequencies(size)
    radius = np.hypot(kx, ky)
    line = np.abs(ky)
    if kind == "equidistant":
        centre = line <= 0.04 * size
        spacing = round(size * (1 - centre[0].mean()) / (kept * size - centre[0].sum()))
        return np.where(centre | (ky % spacing == random.integers(spacing)), 1, 0).astype("float32")
    if kind == "cartesian":
        # Gumbel noise on the logarithm of a density draws from it without drawing a line twice.
        order = -2.0 * np.log(1 + 8 * line / size) + random.gumbel(size=size)
        return _largest(np.where(line <= 0.04 * size, np.inf, order), kept)
    if kind == "points":
        order = -4.0 * np.log(1 + 8 * radius / size) + random.gumbel(size=radius.shape)
        return _largest(np.where(radius <= 0.06 * size, np.inf, order), kept)
    angle, start = np.arctan2(ky, kx), random.uniform(0, np.pi)
    if kind == "radial":
        # The distance from the nearest of as many lines as cover a little less than `kept`.
        lines = round(1.1 * kept * size)
        turn = (angle - start) / np.pi * lines
        return _largest(-np.abs(turn - np.round(turn)) / lines * radius, kept)
    turn = radius / (size / 2) * kept * size / 2 - (angle - start) / (2 * np.pi)
    return _largest(-np.abs(turn - np.round(turn)) - (radius < 2) * -1e3, kept)


def _largest(order: np.ndarray, kept: float) -> np.ndarray:
    """Ones for the fraction `kept` of the entries with the largest order."""
    chosen = np.zeros(order.size, "float32")
    chosen[np.argsort(-order, axis=None, kind="stable")[: round(kept * order.size)]] = 1
    return chosen.reshape(order.shape)


def sense(x: tf.Tensor, coils: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """The modes that every coil measures, `(batch, coils, size, size)`, without noise.

    Args:
        x: Real and imaginary part of the images, `(batch, size, size, 2)`.
        coils: The sensitivities, complex, `(batch, coils, size, size)`.
        kept: The masks, `(batch, size, size)`.
    """
    image = tf.complex(x[..., 0], x[..., 1])[:, tf.newaxis]
    size = tf.cast(tf.shape(x)[1], coils.dtype)
    return tf.signal.fft2d(coils * image) / size * tf.cast(kept, coils.dtype)[:, tf.newaxis]


def zero_filled(y: tf.Tensor, coils: tf.Tensor, kept: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
    """The adjoint of `sense`, `(batch, size, size, 2)`: modes that were not measured are zero."""
    size = tf.cast(tf.shape(y)[-1], coils.dtype)
    images = tf.signal.ifft2d(y * tf.cast(kept, y.dtype)[:, tf.newaxis]) * size
    total = tf.reduce_sum(tf.math.conj(coils) * images, 1)
    return tf.stack([tf.math.real(total), tf.math.imag(total)], -1)


def waves(count: int, size: int, seed: tuple[int, tf.Tensor]) -> tf.Tensor:
    """Smooth random fields `(count, size, size)` of order one: waves longer than the image."""
    k = tf.random.stateless_uniform([count, 3, 2, 1, 1], (seed[0], seed[1]), -0.8, 0.8)
    shift = tf.random.stateless_uniform([count, 3, 1, 1], (seed[0] + 1, seed[1]), 0.0, 2 * np.pi)
    place = tf.linspace(0.0, 2 * np.pi, size)
    return tf.reduce_mean(tf.sin(k[:, :, 0] * place[:, None] + k[:, :, 1] * place + shift), 1)


def sensitivities(count: int, coils: Any, size: int, seed: tuple[int, tf.Tensor]) -> tf.Tensor:
    """Complex sensitivities `(count, coils, size, size)` whose squares sum to one in every pixel.

    Up to `COILS` coils sit around the image and see what is near. A single one sees all alike.
    """
    angle = 2 * np.pi * tf.range(COILS, dtype="float32") / COILS
    angle += tf.random.stateless_uniform([count, 1], (seed[0], seed[1]), 0.0, 2 * np.pi)
    place = tf.linspace(-1.0, 1.0, size)
    x = place[:, None] - 1.1 * tf.cos(angle)[..., None, None]
    y = place - 1.1 * tf.sin(angle)[..., None, None]
    reach = tf.exp(-(x**2 + y**2) / 2)[:, :coils]
    reach /= tf.sqrt(tf.reduce_sum(reach**2, 1, keepdims=True))
    phase = 2 * waves(count * COILS, size, (seed[0] + 1, seed[1]))
    phase = tf.reshape(phase, [count, COILS, size, size])[:, :coils]
    return tf.complex(reach * tf.cos(phase), reach * tf.sin(phase))


def scan(images: Any, kept: Any, coils: Any, sigma: Any, seed: tuple[int, Any]) -> Any:
    """What a scanner measures: `((y, coils, mask, sigma), x)` for images `(batch, size, size)`.

    Args:
        images: Magnitudes of the images, `(batch, size, size)`. They are given smooth phases.
        kept: A mask for each, `(batch, size, size)`.
        coils: The number of coils.
        sigma: The standard deviation of both parts of the noise, `(batch,)`.
        seed: Two integers.
    """
    count, size = images.shape[0], images.shape[1]
    phase = 3 * waves(count, size, seed)
    x = tf.stack([images * tf.cos(phase), images * tf.sin(phase)], -1)
    maps = sensitivities(count, coils, size, (seed[0] + 10, seed[1]))
    clean = sense(x, maps, kept)
    noise = [
        tf.random.stateless_normal(tf.shape(clean), (seed[0] + part, seed[1])) for part in (20, 21)
    ]
    scale = tf.cast(sigma, clean.dtype)[:, None, None, None]
    y = clean + scale * tf.complex(*noise) * tf.cast(kept, clean.dtype)[:, None]
    return (y, maps, kept, sigma), x


def residual_score(x: tf.Tensor, y: tf.Tensor, coils: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """Minus the gradient of half the squared residual, `(batch, size, size, 2)`."""
    return zero_filled(y - sense(x, coils, kept), coils, kept)


@tf.function
def total_variation(
    y: tf.Tensor, coils: tf.Tensor, kept: tf.Tensor, weight: tf.Tensor, iterations: int = 300
) -> tf.Tensor:
    """The minimum of `|y - A x|^2 / 2 + weight TV(x)`, with one edge for both parts of a pixel.

    The method is that of Condat (2013), doi:10.1007/s10957-012-0245-9, algorithm 3.1.
    """
    x = zero_filled(y, coils, kept)
    dual = tf.zeros_like(tf.stack([x, x], -1))
    for _ in tf.range(iterations):
        back = dual - tf.stack([tf.roll(dual[..., k], 1, 1 + k) for k in (0, 1)], -1)
        new = x + residual_score(x, y, coils, kept) + tf.reduce_sum(back, -1)
        ahead = 2 * new - x
        slope = tf.stack([tf.roll(ahead, -1, axis) - ahead for axis in (1, 2)], -1)
        dual += slope / 16
        dual /= tf.maximum(1.0, tf.norm(dual, axis=(-2, -1), keepdims=True) / weight)
        x = new
    return x


def wavelet_bands(size: int, levels: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Transfer functions of Daubechies' wavelets with two vanishing moments, without decimation.

    Returns:
        The bands `(bands, size, size)`, whose squares sum to one, and the factor of each threshold,
        `(bands,)`, with which the result is the mean of the orthogonal transform's over all shifts.
    """
    root = np.sqrt(3)
    low = np.array([1 + root, 3 + root, 3 - root, 1 - root]) / 8
    high = low[::-1] * [1, -1, 1, -1]
    turn = -2j * np.pi * np.arange(size)[:, None] / size * np.arange(4)
    smooth, bands, factors = np.ones((size, size), complex), [], []
    for level in range(levels):
        rough, fine = (np.exp(turn * 2**level) @ taps for taps in (low, high))
        for a, b in ((rough, fine), (fine, rough), (fine, fine)):
            bands.append(smooth * np.outer(a, b))
            factors.append(2.0 ** -(level + 1))
        smooth = smooth * np.outer(rough, rough)
    return np.stack([*bands, smooth]).astype("complex64"), np.array([*factors, 0], "float32")


@tf.function
def wavelet(
    y: tf.Tensor, coils: tf.Tensor, kept: tf.Tensor, weight: tf.Tensor, iterations: int = 100
) -> tf.Tensor:
    """Wavelets with soft thresholds in FISTA: Beck & Teboulle (2009), doi:10.1137/080716542."""
    bands, factors = wavelet_bands(y.shape[-1])
    threshold = weight * factors[:, None, None]
    x = ahead = zero_filled(y, coils, kept)
    momentum = 1.0
    for _ in tf.range(iterations):
        step = ahead + residual_score(ahead, y, coils, kept)
        modes = tf.signal.fft2d(tf.complex(step[..., 0], step[..., 1]))[:, tf.newaxis]
        parts = tf.signal.ifft2d(modes * bands)
        shrunk = 1 - tf.minimum(1.0, tf.math.divide_no_nan(threshold, tf.abs(parts)))
        modes = tf.signal.fft2d(parts * tf.cast(shrunk, parts.dtype)) * bands.conj()
        image = tf.signal.ifft2d(tf.reduce_sum(modes, 1))
        new = tf.stack([tf.math.real(image), tf.math.imag(image)], -1)
        faster = (1 + tf.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / faster * (new - x)
        x, momentum = new, faster
    return x
