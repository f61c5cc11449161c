"""A recurrent inference machine (RIM) for magnetic resonance images from a quarter of the data.

A scanner measures Fourier modes of a complex image, seen through the sensitivities of its coils.
Here photographs with smooth phases stand for the images, and a mask keeps a quarter of the modes.
One network is trained for one coil and for four, on random Cartesian and radial masks, with
patches of 64 x 64 pixels. It is compared with zero-filled, total-variation and wavelet
reconstructions on photographs, masks and sizes that it has not seen. The script needs the optional
dependencies: `pip install ".[examples]"`.

    python examples/rim_mri.py                              train (22 minutes of processor time)
    python examples/rim_mri.py --weights w.weights.h5       evaluate trained weights
    python examples/rim_mri.py --quick                      a short look, without scikit-image
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_images

from imnn_tf.utils import quiet_start

with quiet_start():
    import keras
    import tensorflow as tf
    from mri_scanner import COILS, mask, scan, sense, total_variation, wavelet, zero_filled

    from rim_tf import RIM, GaussianLikelihood, UNet

PATCH = 64
NOISE = 0.01
"""Standard deviation of both parts of the noise in the comparison; white is one."""

HELD_OUT = ("flower", "camera", "chelsea")
WEIGHTS = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2)
"""Regularisations of the classical methods from which the best is chosen."""

PROBLEMS = (
    ("cartesian", 64, 6, 32),
    ("radial", 64, 6, 32),
    ("equidistant", 64, 6, 32),
    ("points", 64, 6, 32),
    ("spiral", 64, 6, 32),
    ("cartesian", 192, 2, 6),
    ("radial", 192, 2, 6),
)
"""Masks, sizes, and how many patches choose a weight and compare. Two masks are in training."""

CYCLES = (2400, 1500)
"""Updates of the training, which lets its learning rate decay twice."""

METHODS = ("zero-filled", "total variation", "wavelet", "RIM")
QUICK = (("cartesian", 32, 1, 2),)


def photographs(quick: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Grey photographs `(height, width)` for training and for testing, of about 300 pixels.

    They are photographs that scikit-learn and scikit-image ship, in their own size or half of it.
    """
    china, flower = load_sample_images().images
    found = {"china": china, "flower": flower}
    if not quick:
        from skimage import data

        left, _, _ = data.stereo_motorcycle()
        names = ("astronaut", "camera", "chelsea", "coffee", "rocket")
        found |= {"motorcycle": left, **{name: getattr(data, name)() for name in names}}
    grey = {}
    for name, image in found.items():
        if image.ndim == 3:
            image = image @ np.array([0.2125, 0.7154, 0.0721])
        grey[name] = _halved(image / 255.0) if min(image.shape) >= 400 else image / 255.0
    tested = [image for name, image in grey.items() if name in HELD_OUT]
    return [image for name, image in grey.items() if name not in HELD_OUT], tested


def _halved(image: np.ndarray) -> np.ndarray:
    """The image `(height, width)` at half its size, each pixel the mean of four."""
    height, width = (size // 2 for size in image.shape)
    return image[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean((1, 3))


def patches(images: list[np.ndarray], count: int, size: int, seed: int) -> np.ndarray:
    """Random patches `(count, size, size)` of the images in turn, turned and mirrored."""
    random = np.random.default_rng(seed)
    result = np.empty((count, size, size), "float32")
    for index, patch in enumerate(result):
        image = images[index % len(images)]
        top, left = (random.integers(n - size + 1) for n in image.shape)
        turned = np.rot90(image[top : top + size, left : left + size], random.integers(4))
        patch[:] = turned[:, :: random.choice((-1, 1))]
    return result


def training_data(images: list[np.ndarray], batch_size: int, seed: int) -> tf.data.Dataset:
    """Endless batches `((y, coils, mask, sigma), x)`, of one coil and of several in turn."""
    clean = tf.constant(patches(images, 5000, PATCH, seed))
    random = np.random.default_rng(seed)
    masks = [
        mask(kind, PATCH, number, random.uniform(0.18, 0.34))
        for number in range(500)
        for kind in ("cartesian", "radial")
    ]
    # The lines of a scanner run along either axis.
    masks = tf.constant([each.T if random.uniform() < 0.5 else each for each in masks])

    def draw(array: tf.Tensor, number: int, index: tf.Tensor) -> tf.Tensor:
        chosen = tf.random.stateless_uniform(
            [batch_size], (seed + number, index), 0, len(array), tf.int32
        )
        return tf.gather(array, chosen)

    def simulate(index: tf.Tensor) -> Any:
        sigma = NOISE * tf.random.stateless_uniform([batch_size], (seed + 50, index), 0.5, 2.0)
        contrast = tf.random.stateless_uniform([batch_size, 1, 1], (seed + 51, index), 0.5, 1.0)
        coils = tf.where(index % 2 == 0, 1, COILS)
        images = contrast * draw(clean, 52, index)
        return scan(images, draw(masks, 53, index), coils, sigma, (seed, index))

    return tf.data.Dataset.counter().map(simulate, 2).prefetch(4)


def start(y: tf.Tensor, coils: tf.Tensor, kept: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
    """Where the RIM starts, `(batch, size, size, 2)`: some iterations of total variation.

    The weight suits no problem in particular. One coil needs more regularisation than several.
    """
    weight = 8e-3 / tf.sqrt(tf.cast(tf.shape(coils)[1], "float32"))
    return total_variation(y, coils, kept, weight, tf.constant(60))


def log_error(x: tf.Tensor, trajectory: tf.Tensor) -> tf.Tensor:
    """The logarithm of the error of each example, `(batch,)`, later steps counting more.

    It is the PSNR but for a factor. Squared errors of one coil are ten times those of four, which
    would decide a mean of them.
    """
    errors = tf.reduce_mean((trajectory - x[:, tf.newaxis]) ** 2, [2, 3, 4])
    weights = np.arange(1.0, trajectory.shape[1] + 1)
    return tf.reduce_sum((weights / weights.sum()).astype("float32") * tf.math.log(errors), 1)


def make_rim() -> RIM:
    """A RIM with a U-Net, which takes four steps."""
    return RIM(
        [None, None],
        UNet(2, 2, nf=32, hidden_units=64, activation="relu", seed=1),
        likelihood=GaussianLikelihood(sense),
        initialization_method="approximate_inverse",
        approximate_inverse_fn=start,
        T=4,
    )


def train(rim: RIM, images: list[np.ndarray], updates: int, seed: int) -> None:
    """Trains with Keras's optimiser and `fit`, and keeps the moving average of the weights."""
    warmup = min(100, updates // 10)
    rate = keras.optimizers.schedules.CosineDecay(
        1e-4, updates - warmup, alpha=0.01, warmup_target=2e-3, warmup_steps=warmup
    )
    optimizer = keras.optimizers.Adam(
        rate, epsilon=1e-12, global_clipnorm=1.0, use_ema=True, ema_momentum=0.99
    )
    rim.compile(optimizer, log_error)
    data = training_data(images, 4, seed)
    steps = max(updates // 20, 1)
    rim.fit(data, epochs=updates // steps, steps_per_epoch=steps, verbose=2, shuffle=False)


def psnr(estimate: Any, truth: Any) -> float:
    """Peak signal-to-noise ratio of complex images, in decibels, the mean over the batch.

    The error is the mean of `|estimate - truth|^2` over the pixels, and white is one.
    """
    square = np.sum((np.asarray(estimate) - np.asarray(truth)) ** 2, -1)
    return float(np.mean(-10 * np.log10(square.mean((1, 2)))))


def problem(images: list[np.ndarray], kind: str, coils: int, size: int, count: int) -> Any:
    """`((y, coils, mask, sigma), x)` for `count` patches, each with a mask of its own."""
    masks = np.stack([mask(kind, size, 10000 + number) for number in range(count)])
    sigma = np.full(count, NOISE, "float32")
    return scan(patches(images, count, size, seed=count), masks, coils, sigma, (size, coils))


def best_weight(method: Callable[..., Any], inputs: Any, x: Any) -> float:
    """The weight of a classical reconstruction with the highest PSNR."""
    return max(WEIGHTS, key=lambda weight: psnr(method(*inputs[:3], tf.constant(weight)), x))


def compare(
    rim: RIM, trained: list[np.ndarray], tested: list[np.ndarray], quick: bool
) -> dict[str, dict[str, Any]]:
    """PSNRs, printed, and one image of every method, for every mask, number of coils and size.

    The weight of a classical method is the best for photographs of the training set with the same
    kind of mask, number of coils and size.
    """
    results: dict[str, dict[str, Any]] = {}
    print(f"{'PSNR in decibels':26}" + "".join(f"{name:>17}" for name in METHODS))
    for kind, size, tune, count in QUICK if quick else PROBLEMS:
        for coils in (1, COILS):
            inputs, x = problem(tested, kind, coils, size, count)
            images = {"truth": x, "zero-filled": zero_filled(*inputs)}
            example = problem(trained, kind, coils, size, tune)
            for name, method in (("total variation", total_variation), ("wavelet", wavelet)):
                images[name] = method(*inputs[:3], tf.constant(best_weight(method, *example)))
            images["RIM"] = rim.predict(*inputs, batch_size=8)
            values = {name: psnr(images[name], x) for name in METHODS}
            title = f"{kind}, {coils} coil{'s' * (coils > 1)}, {size}"
            print(f"{title:26}" + "".join(f"{each:17.2f}" for each in values.values()), flush=True)
            magnitudes = {name: np.linalg.norm(each[0], axis=-1) for name, each in images.items()}
            results[title] = {"psnr": values, "images": magnitudes}
    return results


def draw(results: dict[str, dict[str, Any]], folder: Path) -> None:
    """Draws the magnitudes of the first image of every problem with the largest size."""
    size = max(len(result["images"]["truth"]) for result in results.values())
    drawn = {t: r for t, r in results.items() if len(r["images"]["truth"]) == size}
    figure, axes = plt.subplots(
        len(drawn), len(METHODS) + 1, figsize=(15, 3.2 * len(drawn)), layout="constrained"
    )
    for row, (title, result) in zip(axes, drawn.items(), strict=True):
        for axis, (name, image) in zip(row, result["images"].items(), strict=True):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1)
            axis.set_title(name, fontsize=9)
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(title)
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / "rim_mri.png", dpi=80)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Trains the RIM or loads its weights, compares the methods and shows the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--updates", type=int, nargs="+", help=f"of every decay of the rate; defaults to {CYCLES}"
    )
    parser.add_argument("--weights", type=Path, help="file of weights to load instead of training")
    parser.add_argument("--quick", action="store_true", help="a short look, without scikit-image")
    parser.add_argument("--folder", type=Path, default=Path("figures"), help="for the results")
    options = parser.parse_args(arguments)
    trained, tested = photographs(options.quick)
    rim = make_rim()
    if options.weights is None:
        begun = time.process_time()
        cycles = options.updates or ((4,) if options.quick else CYCLES)
        for number, updates in enumerate(cycles, start=1):
            train(rim, trained, updates, seed=100 * number)
        print(f"training took {time.process_time() - begun:.0f} s of processor time")
        options.folder.mkdir(exist_ok=True)
        rim.save_weights(options.folder / "rim_mri.weights.h5")
    else:
        rim.load_weights(options.weights)
    results = compare(rim, trained, tested, options.quick)
    draw(results, options.folder)
    return results


if __name__ == "__main__":
    main()
