"""One RIM inverts operators that it has never seen.

The images are periodic Gaussian random fields with a known spectrum. The best possible
reconstruction, the Wiener filter with the true operator, is therefore known for every problem.
The network sees an operator only through the score and the start. It is trained on Gaussian blurs
of random widths and on random gains of the Fourier modes, and tested on motion blur, defocus, a
square blur and the loss of random Fourier modes. A second network learns the errors of its pixels,
whose exact variance is known too.

    python examples/rim_unseen_operators.py                train (twelve processor minutes)
    python examples/rim_unseen_operators.py --updates 50     a short run
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from imnn_tf.utils import quiet_start

with quiet_start():
    import keras
    import tensorflow as tf

    from rim_tf import RIM, GaussianLikelihood, PixelErrors, UNet, pixel_coverage

SIZE = 32
NOISE = (0.05, 0.3)
FIGURES = Path("figures")


def wave_numbers() -> tuple[np.ndarray, np.ndarray]:
    """The two components of every Fourier mode, in cycles per image."""
    k = np.fft.fftfreq(SIZE, 1 / SIZE)
    return np.meshgrid(k, k, indexing="ij")


def spectrum() -> np.ndarray:
    """Variance of each Fourier mode, `~ 1 / k^3` at large k; the fields have unit variance."""
    square = sum(k**2 for k in wave_numbers())
    power = 1.0 / (1.0 + square) ** 1.5
    return (power * SIZE**2 / power.mean()).astype("float32")


def blur(image: tf.Tensor, transfer: tf.Tensor) -> tf.Tensor:
    """Multiplies the Fourier modes of `(batch, SIZE, SIZE, 1)` images by `(batch, SIZE, SIZE)`."""
    field = image[..., 0]
    modes = tf.signal.fft2d(tf.complex(field, tf.zeros_like(field)))
    blurred = tf.signal.ifft2d(modes * tf.complex(transfer, tf.zeros_like(transfer)))
    return tf.math.real(blurred)[..., tf.newaxis]


def random_operators(batch_size: int, seed: tuple[int, tf.Tensor]) -> tf.Tensor:
    """Transfer functions for training, `(batch, SIZE, SIZE)`.

    They are real, and symmetric but for the highest frequency, where `blur` takes the real part.

    Half of them are Gaussian blurs, with two random widths along random axes. A quarter multiply
    every mode by a random number between -1 and 1, and a quarter do both. No operator of the
    comparison is among them, but whatever these do to a mode is: weaken it, lose it, turn its sign.
    """
    kx, ky = (tf.constant(k, tf.float32) for k in wave_numbers())
    stream, index = seed
    u = tf.random.stateless_uniform([4, batch_size, 1, 1], (stream, index))
    width, other, angle = 2.5 * u[0], 2.5 * u[1], np.pi * u[2]
    along = kx * tf.cos(angle) + ky * tf.sin(angle)
    across = ky * tf.cos(angle) - kx * tf.sin(angle)
    blurs = tf.exp(-0.5 * (2 * np.pi / SIZE) ** 2 * ((width * along) ** 2 + (other * across) ** 2))
    gains = tf.random.stateless_uniform([batch_size, SIZE, SIZE], (stream + 1, index), -1.0, 1.0)
    power = tf.random.stateless_uniform([batch_size, 1, 1], (stream + 2, index), 0.0, 3.0)
    gains = tf.sign(gains) * tf.abs(gains) ** power
    # The kernel is real, so a mode and its mirror image have the same gain; the mean is kept.
    opposite = np.roll(np.arange(SIZE)[::-1], 1)
    mirrored = tf.gather(tf.gather(gains, opposite, axis=1), opposite, axis=2)
    gains = tf.where(kx + 2 * SIZE * ky > 0, gains, mirrored)
    gains = tf.where((kx == 0) & (ky == 0), tf.ones_like(gains), gains)
    return tf.where(u[3] < 0.5, blurs, tf.where(u[3] < 0.75, gains, gains * blurs))


def training_data(batch_size: int, seed: int) -> tf.data.Dataset:
    """Endless batches `((y, transfer, sigma), x)` of fields, seen through random operators."""
    root = tf.constant(np.sqrt(spectrum()))

    def simulate(index: tf.Tensor) -> Any:
        shape = [batch_size, SIZE, SIZE, 1]
        x = blur(tf.random.stateless_normal(shape, (seed, index)), root / SIZE)
        transfer = random_operators(batch_size, (seed + 10, index))
        sigma = tf.random.stateless_uniform([batch_size], (seed + 1, index), *NOISE)
        noise = tf.random.stateless_normal(shape, (seed + 2, index))
        y = blur(x, transfer) + sigma[:, tf.newaxis, tf.newaxis, tf.newaxis] * noise
        return (y, transfer, sigma), x

    return tf.data.Dataset.counter().map(simulate, 2).prefetch(4)


def start(y: tf.Tensor, transfer: tf.Tensor, sigma: tf.Tensor) -> tf.Tensor:
    """Where the RIM starts: the inverse for white fields of variance 0.3, which these are not.

    It undoes what the operator does to strong modes, and leaves the spectrum to be learned.
    """
    return blur(y, transfer / (transfer**2 + sigma[:, tf.newaxis, tf.newaxis] ** 2 / 0.3))


def operators() -> dict[str, np.ndarray]:
    """Transfer functions, all symmetric and so real: one like those in training, four new."""
    kx, ky = wave_numbers()
    square = kx**2 + ky**2
    offset = np.minimum(np.arange(SIZE), SIZE - np.arange(SIZE))
    dx, dy = np.meshgrid(offset, offset, indexing="ij")

    def transfer(kernel: np.ndarray) -> np.ndarray:
        return np.fft.fft2(kernel / kernel.sum()).real

    kept = np.random.default_rng(0).uniform(size=(SIZE, SIZE)) < 0.4
    mirrored = np.roll(kept[::-1, ::-1], 1, (0, 1))
    return {
        "round": np.exp(-0.5 * square * (2 * np.pi / SIZE) ** 2),
        "motion": transfer((dx == 0) & (dy <= 3)),
        "defocus": transfer(dx**2 + dy**2 <= 2.5**2),
        "square": transfer((dx <= 1) & (dy <= 1)),
        "lost modes": ((kept | mirrored) | (square < 9)).astype(float),
    }


def wiener(y: np.ndarray, transfer: np.ndarray, sigma: float) -> np.ndarray:
    """The Wiener filter: the exact posterior mean, given the spectrum of the fields."""
    power = spectrum()
    gain = transfer * power / (transfer**2 * power + sigma**2 * SIZE**2)
    return np.fft.ifft2(gain * np.fft.fft2(y[..., 0])).real[..., None]


def posterior_variance(transfer: np.ndarray, sigma: float) -> float:
    """The exact variance of every pixel, given the spectrum: the same for all, by symmetry."""
    power = spectrum() / SIZE**2
    return float(np.mean(power * sigma**2 / (transfer**2 * power + sigma**2)))


def make_rim() -> RIM:
    """A RIM with a periodic U-Net that has a memory on every level; it takes eight steps."""
    network = UNet(
        1,
        2,
        nf=16,
        ch_mult=(2, 2),
        hidden_units=32,
        recurrent_skips=True,
        activation="relu",
        padding="periodic",
        seed=1,
    )
    return RIM(
        [SIZE, SIZE],
        network,
        likelihood=GaussianLikelihood(blur),
        initialization_method="approximate_inverse",
        approximate_inverse_fn=start,
        T=8,
    )


def make_errors(rim: RIM, simulations: int = 64) -> PixelErrors:
    """The errors of its pixels, by a network of the same kind.

    The likelihood simulates, so that they start from what the RIM leaves of data with the operator
    and noise of each observation. Of one simulation that has an error of 6 %, and of 17 % where
    modes are lost; 64 leave 1 and 2 %.
    """
    network = UNet(1, 2, nf=16, ch_mult=(2, 2), hidden_units=32, padding="periodic", seed=2)
    return PixelErrors(rim, network, probes=8, simulations=simulations)


def log_error(x: tf.Tensor, trajectory: tf.Tensor) -> tf.Tensor:
    """The logarithm of the error of each example and step, `(batch, T)`.

    Errors grow with the noise and with the blur. In their mean the difficult problems would count
    most, and what the network gets wrong is what the easy ones need: to fit precise data.
    """
    return tf.math.log(tf.reduce_mean((trajectory - x[:, tf.newaxis]) ** 2, [2, 3, 4]))


def train(rim: RIM, updates: int) -> None:
    """Trains on simulations that are never used twice."""
    schedule = keras.optimizers.schedules.CosineDecay(2e-3, updates)
    rim.compile(keras.optimizers.Adam(schedule, epsilon=1e-12, global_clipnorm=1.0), log_error)
    steps = max(updates // 10, 1)
    rim.fit(
        training_data(8, seed=0), epochs=updates // steps, n_iterations_in_epoch=steps, verbose=2
    )


def train_errors(errors: PixelErrors, updates: int) -> None:
    """Trains on simulations that neither network has seen."""
    schedule = keras.optimizers.schedules.CosineDecay(1e-3, updates)
    errors.compile(keras.optimizers.Adam(schedule, epsilon=1e-12, global_clipnorm=1.0))
    steps = max(updates // 4, 1)
    # Data are simulated of these fields: a batch of the fit has too few that differ.
    (y, *args), x = next(iter(training_data(64, seed=2000)))
    errors.measure_scales((y, *args), x)
    data = training_data(8, seed=1000)
    errors.fit(data, epochs=updates // steps, n_iterations_in_epoch=steps, verbose=2)


def compare(
    rim: RIM, errors: PixelErrors, sigma: float, count: int = 64
) -> dict[str, dict[str, Any]]:
    """Errors, chi-squared, variances and one example for every operator, at noise `sigma`."""
    random = np.random.default_rng(3)
    white = random.normal(size=(count, SIZE, SIZE, 1)).astype("float32")
    x = blur(white, np.sqrt(spectrum()) / SIZE).numpy()
    results = {}
    for name, transfer in operators().items():
        repeated = np.repeat(transfer[None], count, 0).astype("float32")
        noise = sigma * random.normal(size=x.shape).astype("float32")
        y = blur(x, repeated).numpy() + noise
        levels = np.full(count, sigma, "float32")
        estimate, best = rim.predict(y, repeated, levels), wiener(y, transfer, sigma)
        begun = start(y, repeated, tf.constant(levels)).numpy()
        chi2 = GaussianLikelihood(blur).chi2(estimate, y, repeated, levels)
        found = errors.predict(y, repeated, levels, batch_size=16)
        results[name] = {
            "images": {"truth": x[0], "data": y[0], "RIM": estimate[0], "Wiener": best[0]},
            "errors": [float(np.mean((each - x) ** 2)) for each in (y, begun, estimate, best)],
            "chi2": float(np.mean(chi2) / SIZE**2),
            "variance": float(np.mean(found.deviation**2) / posterior_variance(transfer, sigma)),
            "coverage": pixel_coverage(found, x, [0.683]),
        }
    return results


def report(results: dict[str, dict[str, Any]]) -> None:
    """Prints a table of errors and draws the first example of every operator."""
    names = ("data", "start", "RIM", "Wiener", "ratio", "chi2/n", "variance", "in 68.3 %")
    print(f"{'operator':14}" + "".join(f"{name:>10}" for name in names))
    for name, result in results.items():
        data, begun, ours, best = result["errors"]
        ratio, chi2 = ours / best, result["chi2"]
        measured = (data, begun, ours, best, ratio, chi2, result["variance"])
        share = result["coverage"].shares[0]
        print(f"{name:14}" + "".join(f"{each:10.4f}" for each in measured) + f"{share:10.3f}")
    figure, axes = plt.subplots(len(results), 4, figsize=(9, 11), layout="constrained")
    for row, (name, result) in zip(axes, results.items(), strict=True):
        limit = np.abs(result["images"]["truth"]).max()
        for axis, (title, image) in zip(row, result["images"].items(), strict=True):
            axis.imshow(image[..., 0], vmin=-limit, vmax=limit, cmap="RdBu_r")
            axis.set_title(title)
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(name)
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "rim_unseen_operators.png", dpi=90)


def main() -> None:
    """Trains the RIM, compares it with the Wiener filter and reports the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=1200)
    parser.add_argument("--error-updates", type=int, default=100, help="of the network of errors")
    parser.add_argument("--sigma", type=float, default=0.1, help="noise level of the comparison")
    options = parser.parse_args()
    rim = make_rim()
    train(rim, options.updates)
    errors = make_errors(rim)
    train_errors(errors, options.error_updates)
    report(compare(rim, errors, options.sigma))


if __name__ == "__main__":
    main()
