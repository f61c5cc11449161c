"""Errors on every pixel of photographs that no network has seen.

A recurrent inference machine (RIM) removes noise from photographs, and a `PixelErrors` says how
far each pixel is from the truth. Of seventeen photographs that scikit-image and scikit-learn ship,
both networks are trained on seven, drawn at random. The other ten test the errors: two at a time,
with intervals that the other eight calibrate. The script needs the optional dependencies:
`pip install ".[examples]"`.

    python examples/rim_pixel_errors.py            train (some minutes)
    python examples/rim_pixel_errors.py --quick    a short look
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from imnn_tf.utils import quiet_start

with quiet_start():
    import keras
    import tensorflow as tf

    from rim_tf import (
        RIM,
        GaussianLikelihood,
        PixelErrors,
        Reconstruction,
        UNet,
        pixel_coverage,
    )

NAMES = [
    *("astronaut", "brick", "camera", "chelsea", "china", "clock", "coffee", "coins", "flower"),
    *("grass", "gravel", "hubble_deep_field", "immunohistochemistry", "moon", "motorcycle"),
    *("retina", "rocket"),
]
SHARES = {"training": 7, "test": 10}
"""How many photographs each group has."""

FOLDS = 5
"""The parts of the test photographs. Each is tested after a calibration on the other parts."""

PATCH = 40
SIZE = 192
"""The sizes of the patches of the training, and of the photographs of the test."""

NOISE = (0.03, 0.2)
"""The range of the standard deviations of the noise; white is one."""

LEVELS = (0.05, 0.1, 0.15)
"""The noise that every photograph of the test is seen through."""

FIGURES = Path("figures")


def groups(names: list[str], seed: int = 0) -> dict[str, list[str]]:
    """The names of the photographs of each group: the groups are drawn, not chosen."""
    order = iter(np.random.default_rng(seed).permutation(sorted(names)))
    return {group: [str(next(order)) for _ in range(count)] for group, count in SHARES.items()}


def photographs() -> dict[str, np.ndarray]:
    """The grey photographs `(height, width)` by name, large ones at half their size."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    found = dict(zip(("china", "flower"), load_sample_images().images, strict=True))
    found["motorcycle"] = data.stereo_motorcycle()[0]
    found |= {name: getattr(data, name)() for name in NAMES if name not in found}
    return {name: _grey(image) for name, image in found.items()}


def _grey(image: np.ndarray) -> np.ndarray:
    image = image / 255.0
    if image.ndim == 3:
        image = image @ np.array([0.2125, 0.7154, 0.0721])
    return _halved(image) if min(image.shape) >= 400 else image


def _halved(image: np.ndarray) -> np.ndarray:
    """The image `(height, width)` at half its size, each pixel the mean of four."""
    height, width = (size // 2 for size in image.shape)
    return image[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean((1, 3))


def patches(images: list[np.ndarray], count: int, seed: int) -> np.ndarray:
    """Random patches `(count, PATCH, PATCH, 1)` of the images in turn.

    A few photographs are a narrow prior. Each patch is therefore turned, mirrored and sometimes
    inverted, comes from the photograph or from it at half its size, and has a contrast and a
    brightness of its own.
    """
    random = np.random.default_rng(seed)
    sizes = [(image, _halved(image)) for image in images]
    result = np.empty((count, PATCH, PATCH, 1), "float32")
    for index, patch in enumerate(result):
        image = sizes[index % len(sizes)][random.choice(2, p=(0.7, 0.3))]
        top, left = (random.integers(size - PATCH + 1) for size in image.shape)
        turned = np.rot90(image[top : top + PATCH, left : left + PATCH], random.integers(4))
        turned = turned[:, :: random.choice((-1, 1))]
        contrast = random.uniform(0.5, 1.0) * random.choice((-1, 1))
        patch[..., 0] = 0.5 + contrast * (turned - 0.5) + random.uniform(-0.1, 0.1)
    return result


def training_data(images: list[np.ndarray], batch_size: int, seed: int) -> tf.data.Dataset:
    """Endless batches `((y, sigma), x, weight)` with new noise and new noise levels.

    The weight makes all noise levels count alike in the loss of the RIM. The likelihood of the
    errors needs none.
    """
    clean = tf.constant(patches(images, 6000, seed))

    def noisy(index: tf.Tensor) -> Any:
        chosen = tf.random.stateless_uniform([batch_size], (seed, index), 0, len(clean), tf.int32)
        x = tf.gather(clean, chosen)
        sigma = tf.random.stateless_uniform([batch_size], (seed + 1, index), *NOISE)
        noise = tf.random.stateless_normal(x.shape, (seed + 2, index))
        return (x + sigma[:, None, None, None] * noise, sigma), x, NOISE[0] / sigma

    return tf.data.Dataset.counter().map(noisy, 2).prefetch(4)


def observed(
    images: list[np.ndarray], size: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The middle of each photograph through each of `LEVELS`.

    Returns:
        The data and the truth, `(photographs * levels, size, size, 1)`, and the noise, one number
        for each.
    """
    middle = []
    for image in images:
        top, left = ((each - size) // 2 for each in image.shape)
        middle.append(image[top : top + size, left : left + size, None])
    x = np.repeat(np.stack(middle), len(LEVELS), 0).astype("float32")
    sigma = np.tile(LEVELS, len(images)).astype("float32")
    noise = np.random.default_rng(seed).normal(size=x.shape).astype("float32")
    return x + sigma[:, None, None, None] * noise, x, sigma


def make_rim() -> RIM:
    """A RIM of photographs of any size, which takes three steps from the noisy image."""
    network = UNet(1, 2, nf=16, ch_mult=(2, 2), hidden_units=32, activation="relu", seed=1)
    return RIM(
        [None, None],
        network,
        likelihood=GaussianLikelihood(lambda x: x),
        initialization_method="approximate_inverse",
        approximate_inverse_fn=lambda y, sigma: y,
        T=3,
    )


def make_errors(rim: RIM) -> PixelErrors:
    """The errors of its pixels, by a network of the same kind."""
    network = UNet(1, 2, nf=16, ch_mult=(2, 2), hidden_units=32, seed=2)
    return PixelErrors(rim, network, probes=2, risk_probes=4)


def train(model: RIM | PixelErrors, data: tf.data.Dataset, updates: int, rate: float) -> None:
    """Trains either model, with a learning rate that decays to zero."""
    steps = max(updates // 5, 1)
    model.fit(
        data,
        epochs=updates // steps,
        n_iterations_in_epoch=steps,
        learning_rate=keras.optimizers.schedules.CosineDecay(rate, updates),
        clip=1.0,
        verbose=2,
    )


class Tested(NamedTuple):
    """Photographs of a part of the test at all noise levels, `(photographs * levels, ...)` each."""

    y: np.ndarray
    x: np.ndarray
    found: Reconstruction


def cross_validated(errors: PixelErrors, images: list[np.ndarray], size: int) -> list[Tested]:
    """The errors of each part of the photographs, calibrated on the other parts."""
    y, x, sigma = observed(images, size, seed=30)
    parts = []
    for chosen in np.array_split(np.arange(len(x)), FOLDS):
        others = np.setdiff1d(np.arange(len(x)), chosen)
        errors.calibrate(y[others], x[others], sigma[others], batch_size=6)
        found = errors.predict(y[chosen], sigma[chosen], batch_size=6)
        parts.append(Tested(y[chosen], x[chosen], found))
    return parts


def by_error(parts: list[Tested], bins: int = 5) -> list[tuple[float, ...]]:
    """Whether errors are right where they are small and where they are large.

    Returns:
        For each bin, with as many pixels as the others: the root mean square of the predicted
        standard deviation, that of the actual error, and the share of the pixels that are within
        their 68 % intervals.
    """
    rows = []
    for part in parts:
        low, high = part.found.interval(0.68)
        within = (low <= part.x) & (part.x <= high)
        each = (part.found.deviation, part.found.x - part.x, within)
        rows.append(np.stack([values.ravel() for values in each]))
    predicted, actual, within = np.concatenate(rows, axis=1)
    return [
        (
            float(np.sqrt(np.mean(predicted[chosen] ** 2))),
            float(np.sqrt(np.mean(actual[chosen] ** 2))),
            float(within[chosen].mean()),
        )
        for chosen in np.array_split(np.argsort(predicted), bins)
    ]


def report(names: list[str], parts: list[Tested]) -> None:
    """Prints the coverage of every photograph, of every noise and of small and large errors."""
    levels = [0.5, 0.68, 0.95]
    shares = [pixel_coverage(part.found, part.x, levels).by_image for part in parts]
    table = np.concatenate(shares).reshape(len(names), len(LEVELS), -1)
    print("share of the pixels within    50 %     68 %     95 % intervals")
    rows = dict(zip(names, table.mean(1), strict=True))
    rows |= {f"noise {level}": each for level, each in zip(LEVELS, table.mean(0), strict=True)}
    rows["all"] = table.mean((0, 1))
    rows["standard error"] = table.mean(1).std(0, ddof=1) / np.sqrt(len(names))
    for name, row in rows.items():
        print(f"{name:24}" + "".join(f"{share:9.3f}" for share in row))
    print("pixels by their predicted error:  predicted   actual   within 68 %")
    for number, (predicted, actual, share) in enumerate(by_error(parts), start=1):
        print(f"{number:30}{predicted:14.4f}{actual:9.4f}{share:14.3f}")


def draw(names: list[str], parts: list[Tested]) -> None:
    """Draws the first photograph of each part at the middle noise, with its errors."""
    titles = ("photograph", "data", "RIM", "predicted error", "actual error")
    figure, axes = plt.subplots(
        len(parts), 5, figsize=(12, 2.45 * len(parts)), squeeze=False, layout="constrained"
    )
    index, each = len(LEVELS) // 2, len(names) // len(parts)
    for row, name, (y, x, found) in zip(axes, names[::each], parts, strict=True):
        error = np.abs(found.x[index] - x[index])
        images = (x[index], y[index], found.x[index], found.error[index], error)
        largest = np.quantile(error, 0.99)  # a few errors are far larger
        for axis, title, image in zip(row, titles, images, strict=True):
            colours = (
                {"cmap": "magma", "vmin": 0, "vmax": largest}
                if "error" in title
                else {"cmap": "gray", "vmin": 0, "vmax": 1}
            )
            axis.imshow(image[..., 0], **colours)
            axis.set_title(title, fontsize=9)
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(name)
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "rim_pixel_errors.png", dpi=80)


def main() -> None:
    """Trains both networks, and tests the errors on other photographs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--error-updates", type=int, default=2500, help="of the network of errors")
    parser.add_argument("--quick", action="store_true", help="few updates and small photographs")
    options = parser.parse_args()
    updates, error_updates, size = options.updates, options.error_updates, SIZE
    if options.quick:
        updates, error_updates, size = 20, 10, 64
    images, names = photographs(), groups(NAMES)
    chosen = {group: [images[name] for name in names[group]] for group in names}
    rim = make_rim()
    train(rim, training_data(chosen["training"], 8, seed=10), updates, 2e-3)
    errors = make_errors(rim)
    train(errors, training_data(chosen["training"], 8, seed=20), error_updates, 1e-3)
    parts = cross_validated(errors, chosen["test"], size)
    report(names["test"], parts)
    draw(names["test"], parts)


if __name__ == "__main__":
    main()
