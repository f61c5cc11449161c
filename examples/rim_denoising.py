"""Denoises a real photograph with a RIM trained on another one.

Trains one network for all noise levels on patches of one of scikit-learn's two sample
photographs, and compares it on the other with scikit-image's wavelet, total-variation and
non-local-means denoisers, each at its best setting for that very image. Needs the extra
`examples`.

    python examples/rim_denoising.py                 train (about 20 minutes on two cores)
    python examples/rim_denoising.py --updates 300   a short look
    python examples/rim_denoising.py --weights w.weights.h5    evaluate what was trained
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import skimage.restoration as restoration
import tensorflow as tf
from skimage.transform import rescale
from sklearn.datasets import load_sample_images

from rim_tf import RIM, TrajectoryLoss, UNet

LEVELS = (15, 25, 50)
"""Noise levels of the comparison, in grey levels of 255."""

UNIT = 25.5
"""Grey levels in one unit of the parameters, so that scores are of order one."""

WHITE = 255 / UNIT
PATCH = 40
FIGURES = Path("figures")


def photographs() -> tuple[np.ndarray, np.ndarray]:
    """The temple to train on and the flower to test on, grey, in units of `UNIT`."""
    to_grey = np.array([0.2125, 0.7154, 0.0721])
    temple, flower = (image @ to_grey / UNIT for image in load_sample_images().images)
    return temple.astype("float32"), flower.astype("float32")


def patches(image: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Random patches, `(count, PATCH, PATCH, 1)`.

    One photograph is a narrow prior. Patches are therefore taken at scales both coarser and
    finer than its own, turned, mirrored, and with contrast and brightness drawn anew.
    """
    random = np.random.default_rng(seed)
    factors = (0.45, 0.6, 0.8, 1.0, 1.5, 2.0)
    scales = [rescale(image, factor, anti_aliasing=factor < 1) for factor in factors]
    result = np.empty((count, PATCH, PATCH, 1), "float32")
    for row in result:
        source = scales[random.integers(len(scales))]
        top, left = (random.integers(size - PATCH + 1) for size in source.shape)
        patch = np.rot90(source[top : top + PATCH, left : left + PATCH], random.integers(4))
        patch = patch[:, :: random.choice((-1, 1))]
        if random.uniform() < 0.5:
            patch = WHITE - patch
        contrast = random.uniform(0.4, 1.0)
        row[..., 0] = contrast * patch + random.uniform(0, 1 - contrast) * WHITE
    return result


def observe(x: tf.Tensor, level: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """The observation: the noisy image, and the noise level as a second channel."""
    return tf.concat([x + level * noise, level * tf.ones_like(x)], -1)


def training_data(clean: np.ndarray, batch_size: int, seed: int) -> tf.data.Dataset:
    """Endless batches `(y, x)`; noise and its level are new in every one."""

    def noisy(x: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        level = tf.random.stateless_uniform([], (seed, index), 5.0, 55.0) / UNIT
        return observe(x, level, tf.random.stateless_normal(x.shape, (seed + 1, index))), x

    order = tf.data.Dataset.from_tensor_slices(clean).shuffle(len(clean), seed).repeat()
    numbered = tf.data.Dataset.zip(order, tf.data.Dataset.counter())
    return numbered.map(noisy, 2).batch(batch_size, drop_remainder=True).prefetch(4)


def make_rim() -> RIM:
    """A U-Net that takes three steps from the noisy image."""
    network = UNet(
        1,
        2,
        nf=24,
        ch_mult=(2, 2),
        hidden_units=64,
        input_kernel_size=5,
        activation="relu",
        padding="reflect",
        seed=1,
    )
    return RIM(
        [None, None],
        network,
        score_fn=lambda x, y: (y[..., :1] - x) / y[..., 1:] ** 2,
        initialization_method="approximate_inverse",
        approximate_inverse_fn=lambda y: y[..., :1],
        observation_channels=2,
        T=3,
    )


def train(rim: RIM, image: np.ndarray, updates: int, batch_size: int = 12) -> None:
    """Trains with Keras's own `fit`; the averaged weights are kept."""
    data = training_data(patches(image, 12000, seed=2), batch_size, seed=3)
    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(2e-3, updates, warmup_target=2e-3),
        global_clipnorm=1.0,
        use_ema=True,
        ema_momentum=0.995,
    )
    rim.compile(optimizer, TrajectoryLoss("linear"))
    steps = max(updates // 20, 1)
    rim.fit(data, epochs=updates // steps, steps_per_epoch=steps, verbose=2, shuffle=False)


def psnr(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio of images in units of `UNIT`, in decibels."""
    return float(20 * np.log10(WHITE) - 10 * np.log10(np.mean((estimate - truth) ** 2)))


def rivals(sigma: float) -> dict[str, list[Callable[[np.ndarray], np.ndarray]]]:
    """Each of scikit-image's denoisers at the settings to choose the best from."""

    def wavelet(image: np.ndarray) -> np.ndarray:
        return restoration.cycle_spin(
            image,
            restoration.denoise_wavelet,
            max_shifts=3,
            func_kw={"sigma": sigma, "mode": "soft", "rescale_sigma": True},
            workers=1,
        )

    def variation(weight: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda image: restoration.denoise_tv_chambolle(image, weight * sigma)

    def means(strength: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda image: restoration.denoise_nl_means(
            image, patch_size=5, patch_distance=8, h=strength * sigma, sigma=sigma
        )

    return {
        "wavelet": [wavelet],
        "total variation": [variation(weight) for weight in (0.6, 0.8, 1.0, 1.2, 1.5, 2.0)],
        "non-local means": [means(strength) for strength in (0.4, 0.6, 0.8, 1.0)],
    }


def compare(rim: RIM, image: np.ndarray) -> dict[int, dict[str, np.ndarray]]:
    """Every method's reconstruction of the image at every noise level."""
    truth = image / WHITE
    results = {}
    for level in LEVELS:
        noise = np.random.default_rng(level).normal(size=image.shape).astype("float32")
        y = observe(image[None, ..., None], level / UNIT, noise[None, ..., None])
        noisy = y[0, ..., 0].numpy()
        images = {"noisy": noisy, "RIM": rim.predict(y)[0, ..., 0]}
        for name, settings in rivals(level / 255).items():
            candidates = [setting(noisy / WHITE) for setting in settings]
            best = min(candidates, key=lambda estimate: np.mean((estimate - truth) ** 2))
            images[name] = best * WHITE
        results[level] = images
    return results


def report(results: dict[int, dict[str, np.ndarray]], truth: np.ndarray) -> None:
    """Prints the table and draws a detail of every reconstruction."""
    names = list(results[LEVELS[0]])
    print("sigma " + "".join(f"{name:>17}" for name in names))
    for level, images in results.items():
        print(f"{level:5d} " + "".join(f"{psnr(images[name], truth):17.2f}" for name in names))
    detail = (slice(110, 270), slice(220, 420))
    figure, axes = plt.subplots(
        len(LEVELS), len(names) + 1, figsize=(15, 7.5), squeeze=False, layout="constrained"
    )
    for row, (level, images) in zip(axes, results.items(), strict=True):
        for axis, (name, shown) in zip(row, {"truth": truth, **images}.items(), strict=True):
            axis.imshow(shown[detail], cmap="gray", vmin=0, vmax=WHITE)
            quality = "" if name == "truth" else f" {psnr(shown, truth):.2f} dB"
            axis.set_title(name + quality, fontsize=9)
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(f"sigma = {level}")
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / "rim_denoising.png", dpi=110)


def main() -> None:
    """Trains or loads, compares, reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=5000)
    parser.add_argument("--weights", type=Path, help="load these instead of training")
    options = parser.parse_args()
    temple, flower = photographs()
    rim = make_rim()
    if options.weights is None:
        train(rim, temple, options.updates)
        FIGURES.mkdir(exist_ok=True)
        rim.save_weights(FIGURES / "rim_denoising.weights.h5")
    else:
        rim.load_weights(options.weights)
    report(compare(rim, flower), flower)


if __name__ == "__main__":
    main()
