"""A recurrent inference machine (RIM), trained on one photograph, denoises another.

One network is trained for all noise levels on patches of one of scikit-learn's two sample
photographs. On the other photograph it is compared with scikit-image's wavelet, total-variation
and non-local-means denoisers, each at its best setting for that image. The script needs the
optional dependencies: `pip install ".[examples]"`.

    python examples/rim_denoising.py                           train (16 minutes of processor time)
    python examples/rim_denoising.py --updates 1000            a short run
    python examples/rim_denoising.py --weights w.weights.h5    evaluate trained weights
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import skimage.restoration as restoration
from skimage.transform import rescale
from sklearn.datasets import load_sample_images

from imnn_tf.utils import quiet_start

with quiet_start():
    import keras
    import tensorflow as tf

    from rim_tf import RIM, TrajectoryLoss, UNet

LEVELS = (15, 25, 50)
"""Noise levels of the comparison, in grey levels of 255."""

UNIT = 25.5
"""One unit of the parameters, in grey levels, chosen so that scores are of order one."""

TO_GREY = np.array([0.2125, 0.7154, 0.0721])
WHITE = 255 / UNIT
PATCH = 40
FIGURES = Path("figures")


def photographs() -> tuple[np.ndarray, np.ndarray]:
    """The temple in colour, for training, and the flower in grey, for testing, both in `UNIT`s."""
    temple, flower = (image / UNIT for image in load_sample_images().images)
    return temple.astype("float32"), (flower @ TO_GREY).astype("float32")


def patches(image: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Random grey patches `(count, PATCH, PATCH, 1)` of a colour photograph.

    One photograph is a narrow prior. Each patch is therefore rescaled, turned, mirrored and
    sometimes inverted, and gets random colour weights, contrast and brightness.
    """
    random = np.random.default_rng(seed)
    factors = (0.45, 0.6, 0.8, 1.0, 1.5, 2.0)
    scales = [rescale(image, f, anti_aliasing=f < 1, channel_axis=-1) for f in factors]
    result = np.empty((count, PATCH, PATCH, 1), "float32")
    for row in result:
        source = scales[random.integers(len(scales))]
        top, left = (random.integers(size - PATCH + 1) for size in source.shape[:2])
        grey = source[top : top + PATCH, left : left + PATCH] @ random.dirichlet((1, 1, 1))
        patch = np.rot90(grey, random.integers(4))[:, :: random.choice((-1, 1))]
        if random.uniform() < 0.5:
            patch = WHITE - patch
        contrast = random.uniform(0.4, 1.0)
        row[..., 0] = contrast * patch + random.uniform(0, 1 - contrast) * WHITE
    return result


def observe(x: tf.Tensor, level: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """The observation: the noisy image, and the noise level as a second channel."""
    return tf.concat([x + level * noise, level * tf.ones_like(x)], -1)


def training_data(clean: np.ndarray, batch_size: int, seed: int) -> tf.data.Dataset:
    """Endless batches `((y,), x, weight)` with new noise and new noise levels.

    Squared errors grow roughly in proportion to the noise level. The weight is its inverse, so
    that all levels count alike in the loss.
    """

    def noisy(x: tf.Tensor, index: tf.Tensor) -> tuple[tuple[tf.Tensor], tf.Tensor, tf.Tensor]:
        level = tf.random.stateless_uniform([], (seed, index), 5.0, 55.0) / UNIT
        noise = tf.random.stateless_normal(x.shape, (seed + 1, index))
        return (observe(x, level, noise),), x, 1 / level

    order = tf.data.Dataset.from_tensor_slices(clean).shuffle(len(clean), seed).repeat()
    numbered = tf.data.Dataset.zip(order, tf.data.Dataset.counter())
    return numbered.map(noisy, 2).batch(batch_size, drop_remainder=True).prefetch(4)


def make_rim() -> RIM:
    """A RIM with a U-Net, which takes three steps from the noisy image."""
    network = UNet(
        1,
        2,
        nf=24,
        ch_mult=(2, 2),
        hidden_units=64,
        input_kernel_size=5,
        activation="relu",
        seed=1,
    )
    return RIM(
        [None, None],
        network,
        score_fn=lambda x, y: (y[..., :1] - x) / y[..., 1:] ** 2,
        score_preprocessing_method="identity",  # the images already have a unit of order one
        initialization_method="approximate_inverse",
        approximate_inverse_fn=lambda y: y[..., :1],
        observation_channels=2,
        T=3,
    )


def train(rim: RIM, image: np.ndarray, updates: int, batch_size: int = 4) -> None:
    """Trains with Keras's optimiser and `fit`, and keeps the moving average of the weights."""
    data = training_data(patches(image, 20000, seed=2), batch_size, seed=3)
    warmup = min(100, updates // 10)
    rate = keras.optimizers.schedules.CosineDecay(
        1e-4, updates - warmup, alpha=0.01, warmup_target=1e-3, warmup_steps=warmup
    )
    optimizer = keras.optimizers.Adam(rate, global_clipnorm=1.0, use_ema=True, ema_momentum=0.999)
    rim.compile(optimizer, TrajectoryLoss("linear"))
    steps = max(updates // 20, 1)
    rim.fit(data, epochs=updates // steps, steps_per_epoch=steps, verbose=2, shuffle=False)


def predict_eight_ways(rim: RIM, y: np.ndarray) -> np.ndarray:
    """Mean prediction `(1, h, w, 1)` over the eight ways to turn and mirror the observation."""
    total = np.zeros((*y.shape[:-1], 1), "float32")
    for mirror in (1, -1):
        for turns in range(4):
            turned = np.rot90(y[:, :, ::mirror], turns, (1, 2))
            total += np.rot90(rim.predict(turned), -turns, (1, 2))[:, :, ::mirror] / 8
    return total


def psnr(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio of images in units of `UNIT`, in decibels."""
    return float(20 * np.log10(WHITE) - 10 * np.log10(np.mean((estimate - truth) ** 2)))


def rivals(sigma: float) -> dict[str, list[Callable[[np.ndarray], np.ndarray]]]:
    """scikit-image's denoisers, each with the settings from which the best is chosen."""

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
        y = observe(image[None, ..., None], level / UNIT, noise[None, ..., None]).numpy()
        noisy = y[0, ..., 0]
        images = {
            "noisy": noisy,
            "RIM": rim.predict(y)[0, ..., 0],
            "RIM, eight ways": predict_eight_ways(rim, y)[0, ..., 0],
        }
        for name, settings in rivals(level / 255).items():
            candidates = [setting(noisy / WHITE) for setting in settings]
            best = min(candidates, key=lambda estimate: np.mean((estimate - truth) ** 2))
            images[name] = best * WHITE
        results[level] = images
    return results


def report(results: dict[int, dict[str, np.ndarray]], truth: np.ndarray) -> None:
    """Prints a table of PSNRs and draws a detail of every reconstruction."""
    names = list(results[LEVELS[0]])
    print("sigma " + "".join(f"{name:>17}" for name in names))
    for level, images in results.items():
        print(f"{level:5d} " + "".join(f"{psnr(images[name], truth):17.2f}" for name in names))
    detail = (slice(110, 270), slice(220, 420))
    figure, axes = plt.subplots(
        len(LEVELS), len(names) + 1, figsize=(17, 6.3), squeeze=False, layout="constrained"
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
    figure.savefig(FIGURES / "rim_denoising.png", dpi=80)


def main() -> None:
    """Trains the RIM or loads its weights, compares the methods and reports the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=16000)
    parser.add_argument("--weights", type=Path, help="file of weights to load instead of training")
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
