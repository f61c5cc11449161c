"""Measures how much of the information a fit keeps by default, over thirteen problems.

Every problem has an exact Fisher information. A fit stops by patience, as the README's does. The
share of det F that it keeps is measured on simulations that neither the fit nor its validation set
has seen. Other settings than the defaults are given as `name:learning rate:weight decay:λ`;
`version-0.3` is Adam at 1e-3 with λ = 5 and without whitening. Problems that are not run keep the
results that the file has.
"""

import itertools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from common import finish, options
from machine import versions

import imnn_tf
from imnn_tf.fit import whitening

L = keras.layers
FRESH = (4000, 1000)
OLD = "version-0.3"


@dataclass(frozen=True)
class Data:
    """What is simulated: `simulate(parameters [n, 2], noise [n, *shape])` gives `[n, *shape]`."""

    simulate: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    theta: tuple[float, float]
    step: tuple[float, float]
    shape: tuple[int, ...]
    fisher: np.ndarray
    external: Callable[[tf.Tensor], tf.Tensor] | None = None


@dataclass(frozen=True)
class Problem:
    """Data, a network, and how many simulations there are."""

    data: Data
    network: Callable[[tuple[int, ...]], keras.Model]
    n_s: int
    n_d: int
    on_the_fly: bool = False


# ---- data ----------------------------------------------------------------------------------------


def draws(n: int) -> Data:
    """Independent draws from a normal distribution; the parameters are its mean and variance."""
    return Data(
        lambda theta, noise: theta[:, :1] + tf.sqrt(theta[:, 1:]) * noise,
        (0.0, 1.0),
        (0.1, 0.1),
        (n,),
        np.diag([n, n / 2]),
    )


def random_field(size: int, log_normal: bool, external: bool = False) -> Data:
    """A periodic field with power `A k^−B`, or the exponential of one."""
    k = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) * 2 * np.pi
    count = np.full(k.shape, 2.0)
    count[:, [0, -1]], count[0, 0], k[0, 0] = 1, 0, 1
    log_k = tf.constant(np.log(k), tf.float32)

    def simulate(theta: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        A, B = (theta[:, i, None, None] for i in range(2))
        amplitude = tf.sqrt(A) * tf.exp(-0.5 * B * log_k) * tf.cast(count > 0, tf.float32)
        modes = tf.signal.rfft2d(noise) * tf.cast(amplitude, tf.complex64)
        gaussian = tf.signal.irfft2d(modes, [size, size])
        return tf.exp(gaussian) if log_normal else gaussian

    edges = np.quantile(k[count > 0], [0, 0.2, 0.5, 1])
    bins = [(k >= low) & (k <= high) & (count > 0) for low, high in itertools.pairwise(edges)]

    def band_powers(fields: tf.Tensor) -> tf.Tensor:
        power = tf.abs(tf.signal.rfft2d(fields)) ** 2 / size**2
        return tf.stack([tf.reduce_mean(tf.boolean_mask(power, b, axis=1), 1) for b in bins], 1)

    slopes = np.stack([np.full(k.size, 4.0 if log_normal else 1.0), -np.log(k).ravel()])
    return Data(
        simulate,
        (0.25, 1.0) if log_normal else (1.0, 0.5),
        (0.02, 0.1) if log_normal else (0.1, 0.1),
        (size, size),
        0.5 * (slopes * count.ravel()) @ slopes.T,
        band_powers if external else None,
    )


def autoregressive(n: int) -> Data:
    """A stationary series `x_t = φ x_(t−1) + ε_t`; the parameters are φ and the variance of ε."""
    lag = np.subtract.outer(np.arange(n), np.arange(n))

    def simulate(theta: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        phi, sigma = theta[:, 0, None, None], tf.sqrt(theta[:, 1:])
        weights = tf.where(lag >= 0, phi ** np.maximum(lag, 0).astype("float32"), 0.0)
        first = tf.where(np.arange(n) == 0, tf.sqrt(1 - phi[:, 0] ** 2), 1.0)
        return sigma * tf.linalg.matvec(weights, noise / first)

    def covariance(theta: np.ndarray) -> np.ndarray:
        return theta[1] / (1 - theta[0] ** 2) * theta[0] ** np.abs(lag)

    theta, half = np.array([0.5, 1.0]), 1e-5
    slopes = [
        np.linalg.solve(covariance(theta), covariance(theta + e) - covariance(theta - e))
        / (2 * half)
        for e in half * np.eye(2)
    ]
    fisher = np.array([[0.5 * np.trace(a @ b) for b in slopes] for a in slopes])
    return Data(simulate, (0.5, 1.0), (0.05, 0.1), (n,), fisher)


# ---- networks, as people write them --------------------------------------------------------------


def dense(shape: tuple[int, ...]) -> keras.Model:
    """Two hidden layers."""
    hidden = [L.Dense(128), L.LeakyReLU(0.01), L.Dense(128), L.LeakyReLU(0.01)]
    return keras.Sequential([keras.Input(shape), *hidden, L.Dense(2)])


def residual(shape: tuple[int, ...]) -> keras.Model:
    """Two hidden layers with a path around each; convolutions for images."""
    inputs = keras.Input(shape)
    image = len(shape) == 2
    x = L.Reshape((*shape, 1))(inputs) if image else inputs
    x = L.Conv2D(16, 3, 2, padding="same")(x) if image else L.Dense(64)(x)
    for _ in range(2):
        layer = L.Conv2D(16, 3, padding="same") if image else L.Dense(64)
        x = L.Add()([x, layer(L.Activation("relu")(x))])
    x = L.GlobalAveragePooling2D()(L.Activation("relu")(x)) if image else L.Activation("relu")(x)
    return keras.Model(inputs, L.Dense(2)(x))


def convolutions(shape: tuple[int, ...], stride: int) -> keras.Model:
    """Two convolutions with a stride, or with an average over pairs of pixels between them."""
    between = [L.AveragePooling2D(2)] if stride == 1 else []
    return keras.Sequential(
        [
            keras.Input(shape),
            L.Reshape((*shape, 1)),
            L.Conv2D(16, 3, stride, padding="same", activation="relu"),
            *between,
            L.Conv2D(32, 3, stride, padding="same", activation="relu"),
            L.GlobalAveragePooling2D(),
            L.Dense(32, activation="relu"),
            L.Dense(2),
        ]
    )


def strided(shape: tuple[int, ...]) -> keras.Model:
    """Two convolutions with a stride of two."""
    return convolutions(shape, 2)


def pooled(shape: tuple[int, ...]) -> keras.Model:
    """Two convolutions that see every pixel."""
    return convolutions(shape, 1)


def series(shape: tuple[int, ...]) -> keras.Model:
    """Two convolutions along time."""
    hidden = [L.Conv1D(units, 5, padding="same", activation="relu") for units in (16, 32)]
    last = [L.GlobalAveragePooling1D(), L.Dense(32, activation="relu"), L.Dense(2)]
    return keras.Sequential([keras.Input(shape), L.Reshape((*shape, 1)), *hidden, *last])


def objects(shape: tuple[int, ...]) -> keras.Model:
    """A dense network for each object, and one for the mean over them."""
    hidden = [L.Dense(32, activation="relu"), L.Dense(32, activation="relu")]
    last = [L.GlobalAveragePooling1D(), L.Dense(32, activation="relu"), L.Dense(2)]
    return keras.Sequential([keras.Input(shape), L.Reshape((*shape, 1)), *hidden, *last])


PROBLEMS = {
    "reference, dense, 200 stored": Problem(draws(10), dense, 200, 200),
    "reference, dense, 1,000 stored": Problem(draws(10), dense, 1000, 1000),
    "reference, residual, 5,000 stored": Problem(draws(10), residual, 5000, 5000),
    "reference, dense, on the fly": Problem(draws(10), dense, 1000, 1000, on_the_fly=True),
    "Gaussian field 32, strided, 1,000 stored": Problem(
        random_field(32, False), strided, 1000, 250
    ),
    "Gaussian field 64, pooled, on the fly": Problem(
        random_field(64, False), pooled, 100, 25, on_the_fly=True
    ),
    "Gaussian field 128, residual, 200 stored": Problem(
        random_field(128, False), residual, 200, 50
    ),
    "log-normal field 32, strided, 1,000 stored": Problem(
        random_field(32, True), strided, 1000, 250
    ),
    "log-normal field 64, pooled, 200 stored": Problem(random_field(64, True), pooled, 200, 50),
    "log-normal field 128, strided, 200 stored": Problem(random_field(128, True), strided, 200, 50),
    "log-normal field 32 and band powers, residual, 1,000 stored": Problem(
        random_field(32, True, external=True), residual, 1000, 250
    ),
    "AR(1) series of 100, convolutions, 5,000 stored": Problem(
        autoregressive(100), series, 5000, 500
    ),
    "100 objects, dense, 1,000 stored": Problem(draws(100), objects, 1000, 250),
}


# ---- fits ----------------------------------------------------------------------------------------


def simulated(data: Data, parameters: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Simulations `[n, *shape]`, a part at a time."""
    theta = tf.constant(np.broadcast_to(parameters, (len(noise), 2)), tf.float32)
    parts = [slice(i, i + 500) for i in range(0, len(noise), 500)]
    noise = noise.astype("float32")
    return np.concatenate([data.simulate(theta[part], noise[part]).numpy() for part in parts])


def stored(problem: Problem, n_s: int, n_d: int, seed: int, role: str = "") -> dict[str, Any]:
    """The arguments of `IMNN` or `IMNN.evaluate` for simulations in arrays."""
    data, random = problem.data, np.random.default_rng(seed)
    theta, step = np.array(data.theta), np.array(data.step)
    fiducial = simulated(data, theta, random.standard_normal((n_s, *data.shape)))
    noise = random.standard_normal((n_d, *data.shape))
    sides = [
        np.stack([simulated(data, theta + half * row, noise) for row in np.diag(step)], axis=1)
        for half in (-0.5, 0.5)
    ]
    arrays = {f"{role}fiducial": fiducial, f"{role}derivative": np.stack(sides, axis=1)}
    if data.external is not None:
        flat = arrays[f"{role}derivative"].reshape(-1, *data.shape)
        powers = data.external(flat).numpy().reshape(n_d, 2, 2, -1)
        arrays[f"{role}external_fiducial"] = data.external(fiducial).numpy()
        arrays[f"{role}external_derivative"] = powers
    return arrays


def optimiser(settings: str) -> tuple[Any, float | None]:
    """The optimiser and λ of some settings."""
    if settings == "default":
        return None, None
    name, rate, decay, strength = ("adam:1e-3:0:5" if settings == OLD else settings).split(":")
    given = {"name": name, "learning_rate": float(rate), "weight_decay": float(decay) or None}
    return keras.optimizers.get({"class_name": name, "config": given}), float(strength)


def fit(problem: Problem, settings: str, seed: int, limits: dict[str, int]) -> dict[str, float]:
    """The share of det F that one fit keeps of fresh simulations."""
    data = problem.data
    keras.utils.set_random_seed(seed)
    given, strength = optimiser(settings)
    if problem.on_the_fly:

        def simulator(theta: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
            shape = [tf.shape(theta)[0], *data.shape]
            return data.simulate(theta, tf.random.stateless_normal(shape, key))

        simulations = {"simulator": simulator, "n_s": problem.n_s, "n_d": problem.n_d}
    else:
        simulations = stored(problem, problem.n_s, problem.n_d, 100 * seed + 1)
        simulations |= stored(problem, problem.n_s, problem.n_d, 100 * seed + 2, "validation_")
    imnn = imnn_tf.IMNN(
        θ_fid=np.array(data.theta),
        δθ=np.array(data.step),
        model=problem.network(data.shape),
        optimiser=given,
        verbose=False,
        **simulations,
    )
    least = 0.0 if settings == OLD else whitening.SMALLEST_VARIANCE
    start = time.process_time()
    with mock.patch.object(whitening, "SMALLEST_VARIANCE", least):
        imnn.fit(λ=strength, **limits)
    seconds = time.process_time() - start
    n_s, n_d = FRESH if np.prod(data.shape) < 5000 else (FRESH[0] // 4, FRESH[1] // 4)
    log_det = imnn.evaluate(**stored(problem, n_s, n_d, 100 * seed + 3)).log_det_fisher
    return {
        "share": float(np.exp(log_det) / np.linalg.det(data.fisher)),
        "updates": len(imnn.history["loss"]),
        "processor_seconds": seconds,
        "distance": float(np.abs(imnn.C - np.eye(2 + imnn.n_external))[:2, :2].max()),
    }


def earlier(output: Path) -> dict[str, Any]:
    """The results that a file already has, by problem and settings."""
    return json.loads(output.read_text())["result"]["problems"] if output.exists() else {}


def main() -> None:
    """Runs the benchmark."""
    arguments = options(
        __doc__,
        "imnn_defaults",
        {"settings": ("default",), "seeds": 3, "n_iterations": 500, "patience": 50, "only": ("",)},
        {"seeds": 1, "n_iterations": 60, "patience": 20},
    )
    limits = {"n_iterations": arguments.n_iterations, "patience": arguments.patience}
    result = earlier(arguments.output)
    for name, problem in PROBLEMS.items():
        if not any(part in name for part in arguments.only):
            continue
        result.setdefault(name, {})
        for settings in arguments.settings:
            fits = [fit(problem, settings, seed, limits) for seed in range(arguments.seeds)]
            result[name][settings] = fits
            shares = ", ".join(f"{each['share']:.3f} ({each['updates']})" for each in fits)
            sys.stderr.write(f"{name}, {settings}: {shares}\n")
    ordered = {name: result[name] for name in PROBLEMS if name in result}
    finish(
        "imnn_defaults",
        arguments.output,
        {"ours": versions()},
        {"limits": limits, "problems": ordered},
    )


if __name__ == "__main__":
    main()
