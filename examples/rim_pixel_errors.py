"""An error for every pixel of denoised photographs, and how many pixels are within it.

A recurrent inference machine (RIM) learns to denoise patches of photographs. A second network
learns how far its pixels are from the truth, on patches that the RIM has not seen. The intervals
are calibrated on further photographs, and tested on others. The script needs the optional
dependencies: `pip install ".[examples]"`.

    python examples/rim_pixel_errors.py             train (some six minutes of processor time)
    python examples/rim_pixel_errors.py --quick     a short look, without scikit-image
"""

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_images

from imnn_tf.utils import quiet_start

with quiet_start():
    import keras
    import tensorflow as tf
    from rim_mri import patches

    from rim_tf import RIM, GaussianLikelihood, PixelErrors, UNet, pixel_coverage

PATCH = 40
SIGMA = (0.04, 0.2)
"""Noise levels of the training, as fractions of white."""

LEVELS = (0.06, 0.1, 0.2)
"""Noise levels of the test."""

GROUPS = {
    "RIM": ("china", "astronaut", "motorcycle", "rocket", "coins"),
    "errors": ("chelsea", "retina", "brick", "clock"),
    "calibration": ("coffee", "grass", "immunohistochemistry", "hubble_deep_field"),
    "test": ("flower", "camera", "moon", "gravel", "cell", "page"),
}
"""Which photographs serve what. No one serves two things."""


def photographs(quick: bool) -> dict[str, dict[str, np.ndarray]]:
    """Grey photographs `(height, width)` of about 300 pixels, with white at one, by their use."""
    china, flower = (image / 255.0 for image in load_sample_images().images)
    if quick:
        halves = {"errors": china[:, 320:], "calibration": flower[:, 320:], "test": flower}
        return {use: {use: _grey(image)} for use, image in {"RIM": china, **halves}.items()}
    from skimage import data

    found = {"china": china, "flower": flower, "motorcycle": data.stereo_motorcycle()[0] / 255.0}
    return {
        use: {
            name: _grey(found[name] if name in found else getattr(data, name)() / 255.0)
            for name in names
        }
        for use, names in GROUPS.items()
    }


def _grey(image: np.ndarray) -> np.ndarray:
    """A photograph in grey, and of a few hundred pixels: each pixel is the mean of several."""
    if image.ndim == 3:
        image = image[..., :3] @ np.array([0.2125, 0.7154, 0.0721])
    factor = max(min(image.shape) // 250, 1)
    height, width = (size // factor for size in image.shape)
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor)
    return blocks.mean((1, 3)).astype("float32")


def training_data(images: list[np.ndarray], batch_size: int, seed: int) -> tf.data.Dataset:
    """Endless batches `((y, sigma), x)` of patches with new noise and new noise levels."""
    clean = tf.constant(patches(images, 8000, PATCH, seed)[..., np.newaxis])

    def simulate(index: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], tf.Tensor]:
        chosen = tf.random.stateless_uniform([batch_size], (seed, index), 0, len(clean), tf.int32)
        x = tf.gather(clean, chosen)
        low, high = np.log(SIGMA)
        sigma = tf.exp(tf.random.stateless_uniform([batch_size], (seed + 1, index), low, high))
        noise = tf.random.stateless_normal(x.shape, (seed + 2, index))
        return (x + sigma[:, tf.newaxis, tf.newaxis, tf.newaxis] * noise, sigma), x

    return tf.data.Dataset.counter().map(simulate, 2).prefetch(4)


def identity(x: tf.Tensor) -> tf.Tensor:
    """The operator: the data are the image and noise."""
    return x


def noisy(y: tf.Tensor, sigma: tf.Tensor) -> tf.Tensor:
    """Where the RIM starts."""
    return y


def log_error(x: tf.Tensor, trajectory: tf.Tensor) -> tf.Tensor:
    """The logarithm of the error of each example and step, `(batch, T)`: all noise levels count."""
    return tf.math.log(tf.reduce_mean((trajectory - x[:, tf.newaxis]) ** 2, [2, 3, 4]))


def make_rim() -> RIM:
    """A RIM with a U-Net, which takes three steps from the noisy image."""
    return RIM(
        [None, None],
        UNet(1, 2, nf=16, ch_mult=(2, 2), hidden_units=32, activation="relu", seed=1),
        likelihood=GaussianLikelihood(identity, sigma="given"),
        initialization_method="approximate_inverse",
        approximate_inverse_fn=noisy,
        T=3,
    )


def make_errors(rim: RIM) -> PixelErrors:
    """The errors of its pixels, by a network of the same kind."""
    network = UNet(1, 2, nf=16, ch_mult=(2, 2), hidden_units=32, seed=2)
    return PixelErrors(rim, network, probes=3)


def train(model: RIM | PixelErrors, images: list[np.ndarray], updates: int, seed: int) -> None:
    """Trains either of the two."""
    rate = keras.optimizers.schedules.CosineDecay(2e-3, updates)
    optimizer = keras.optimizers.Adam(rate, epsilon=1e-12, global_clipnorm=1.0)
    model.compile(optimizer, *([log_error] if isinstance(model, RIM) else []))
    steps = max(updates // 10, 1)
    data = training_data(images, 8, seed)
    model.fit(data, epochs=updates // steps, n_iterations_in_epoch=steps, verbose=2)


def observe(
    images: list[np.ndarray], sigma: float, size: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The middle of each image and its data, `(n, size, size, 1)`, and the noise level, `(n,)`."""
    middles = []
    for image in images:
        top, left = ((n - size) // 2 for n in image.shape)
        middles.append(image[top : top + size, left : left + size])
    x = np.stack(middles)[..., np.newaxis]
    noise = np.random.default_rng(seed).normal(size=x.shape)
    return x, (x + sigma * noise).astype("float32"), np.full(len(x), sigma, "float32")


def calibrate(errors: PixelErrors, images: list[np.ndarray], size: int) -> None:
    """Calibrates with all noise levels alike."""
    parts = [observe(images, level, size, seed=3 + k) for k, level in enumerate(LEVELS)]
    x, y, sigma = (np.concatenate(part) for part in zip(*parts, strict=True))
    errors.calibrate(y, x, sigma, batch_size=4)


def report(
    errors: PixelErrors, images: dict[str, np.ndarray], size: int, folder: Path
) -> dict[float, np.ndarray]:
    """Prints the shares of the pixels within the 68 % intervals, and draws one noise level."""
    print("sigma   PSNR  share of pixels in 68 % intervals, and of each photograph")
    shares = {}
    for level in LEVELS:
        x, y, sigma = observe(list(images.values()), level, size, seed=7)
        found = errors.predict(y, sigma, batch_size=4)
        coverage = pixel_coverage(found, x, [0.68])
        shares[level] = coverage.by_image[:, 0]
        psnr = -10 * np.log10(np.mean((found.x - x) ** 2))
        each = ", ".join(f"{n} {s:.3f}" for n, s in zip(images, shares[level], strict=True))
        print(
            f"{level:5.2f} {psnr:6.2f}  {coverage.shares[0]:.3f} ± {coverage.errors[0]:.3f}: {each}"
        )
        if level == LEVELS[1]:
            draw(x[0, ..., 0], y[0, ..., 0], found.x[0, ..., 0], found.error[0, ..., 0], folder)
    return shares


def draw(x: np.ndarray, y: np.ndarray, estimate: np.ndarray, error: np.ndarray, folder: Path):
    """Draws an image, its reconstruction, what that leaves, and the errors that are expected."""
    figure, axes = plt.subplots(1, 5, figsize=(15, 3.2), layout="constrained")
    limit = np.quantile(error, 0.995)
    panels = (
        ("truth", x, "gray", 0, 1),
        ("data", y, "gray", 0, 1),
        ("RIM", estimate, "gray", 0, 1),
        ("|RIM - truth|", np.abs(estimate - x), "viridis", 0, limit),
        ("expected error", error, "viridis", 0, limit),
    )
    for axis, (title, image, colours, low, high) in zip(axes, panels, strict=True):
        axis.imshow(image, cmap=colours, vmin=low, vmax=high)
        axis.set_title(title)
        axis.set_xticks([])
        axis.set_yticks([])
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / "rim_pixel_errors.png", dpi=80)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> dict[float, np.ndarray]:
    """Trains both networks, calibrates, and shows what the intervals hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a short look, without scikit-image")
    parser.add_argument("--folder", type=Path, default=Path("figures"), help="for the figure")
    options = parser.parse_args(arguments)
    images = photographs(options.quick)
    updates, size = (4, 48) if options.quick else (2000, 180)
    begun = time.process_time()
    rim = make_rim()
    train(rim, list(images["RIM"].values()), updates, seed=10)
    errors = make_errors(rim)
    train(errors, list(images["errors"].values()), updates // 2, seed=20)
    print(f"training took {time.process_time() - begun:.0f} s of processor time")
    calibrate(errors, list(images["calibration"].values()), size)
    return report(errors, images["test"], size, options.folder)


if __name__ == "__main__":
    main()
