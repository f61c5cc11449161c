"""An IMNN compresses log-normal maps of which only a thousand are stored.

The logarithm of a map is a Gaussian field with the power spectrum A k^-B, so the exact Fisher
information about A and B is known. The network is not told of the logarithm. Its first layers
learn a function of the value at a pixel. The symmetries of the maps make each of them worth many.

    python examples/lognormal_fields.py                                the recipe of docs/fields.md
    python examples/lognormal_fields.py --maps 200 --updates 20        a short look
"""

import argparse
import time
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from imnn_tf.utils import quiet_start

with quiet_start():
    import keras

    from imnn_tf import IMNN
    from imnn_tf.networks import field_network

SIZE = 32
THETA_FID = np.array([0.25, 1.0])
DELTA_THETA = np.array([0.02, 0.1])
LABELS = ["$A$", "$B$"]

# The recipe: the learning rate at the start, the strength of the regularisation, and the number of
# maps that an update sees.
RATE, STRENGTH, BATCH = 1e-2, 0.1, 100

# |k| of each mode of a real field, in radians per pixel, and how many real numbers it holds. The
# mode k = 0 has no power.
K = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None]) * 2 * np.pi
K[0, 0] = 1.0
COUNT = np.full(K.shape, 2.0)
COUNT[:, [0, -1]], COUNT[0, 0] = 1.0, 0.0


def lognormal(theta, noise):
    """Maps `[..., SIZE, SIZE]` with the parameters `theta`, from standard normal noise."""
    amplitude = np.sqrt(theta[0]) * K ** (-theta[1] / 2) * (COUNT > 0)
    field = np.fft.irfft2(np.fft.rfft2(noise) * amplitude, s=(SIZE, SIZE))
    return np.exp(field).astype("float32")


def simulations(n_maps, seed):
    """Maps at the fiducial point, and a quarter as many on each side of each derivative."""
    rng = np.random.default_rng(seed)
    fiducial = lognormal(THETA_FID, rng.normal(size=(n_maps, SIZE, SIZE)))
    noise = rng.normal(size=(n_maps // 4, SIZE, SIZE))
    half_steps = np.array([-0.5, 0.5])[:, None, None] * np.diag(DELTA_THETA)
    varied = [[lognormal(THETA_FID + step, noise) for step in side] for side in half_steps]
    return fiducial, np.moveaxis(np.array(varied), 2, 0)


def exact_fisher():
    """F = 1/2 Σ dlnP dlnPᵀ over the real numbers in the modes of the logarithm."""
    slopes = np.stack([np.full(K.size, 1 / THETA_FID[0]), -np.log(K).ravel()])
    return 0.5 * (slopes * COUNT.ravel()) @ slopes.T


def train(n_maps, updates, seed):
    """Fits the network of the recipe on stored maps, and as many for validation."""
    fiducial, derivative = simulations(n_maps, 1)
    validation, validation_derivative = simulations(n_maps, 2)
    imnn = IMNN(
        θ_fid=THETA_FID,
        δθ=DELTA_THETA,
        fiducial=fiducial,
        derivative=derivative,
        validation_fiducial=validation,
        validation_derivative=validation_derivative,
        model=field_network((SIZE, SIZE), 2, pointwise=8, filters=(8, 8, 8), seed=seed),
        optimiser=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(RATE, updates)),
        augment="shift, flip, rotate",
        seed=seed,
    )
    # The learning rate falls to zero, so the last weights are about the best. The validation set
    # is there in case they are not: it is used a few times only.
    freq = max(updates // 10, 1)
    imnn.fit(updates, λ=STRENGTH, validation_freq=freq, batch_size=min(BATCH, n_maps))
    return imnn


def efficient_estimates(field):
    """Estimates `[n, 2]` from the exact score of the logarithm, which keep all the information."""
    power = np.abs(np.fft.rfft2(np.log(field.astype(float)))) ** 2 / SIZE**2
    excess = 0.5 * COUNT * (power * K ** THETA_FID[1] / THETA_FID[0] - 1)
    scores = [excess.sum((1, 2)) / THETA_FID[0], -(excess * np.log(K)).sum((1, 2))]
    return THETA_FID + np.linalg.solve(exact_fisher(), scores).T


def responses(model, field):
    """What the convolution of each scale makes of one map, each `[size, size, filters]`."""
    scales = [layer for layer in model.layers if layer.name.startswith("scale_")]
    return [part[0] for part in keras.Model(model.input, [s.output for s in scales])(field[None])]


def learned_function(model, values):
    """The function of the value at a pixel that the first convolution sees, `[SIZE**2]`."""
    learned = keras.Model(model.input, model.get_layer("pointwise").output)
    return learned(values.reshape(1, SIZE, SIZE).astype("float32")).numpy().ravel()


def as_logarithm(function, values, weights):
    """The multiple of the function, plus a constant, that is nearest to the logarithm."""
    slope, offset = np.polyfit(function, np.log(values), 1, w=np.sqrt(weights))
    return slope * function + offset


def plot(imnn, fresh, path):
    """Draws what the network sees of a map, what it has learned, and its estimates."""
    figure, axes = plt.subplots(2, 4, figsize=(13, 6.4), layout="constrained")
    field = fresh[0]
    axes[0, 0].imshow(field, cmap="magma")
    axes[0, 0].set_title("a map")
    for scale, (ax, response) in enumerate(
        zip(axes[0, 1:], responses(imnn.model, field), strict=True)
    ):
        widest = response[..., int(np.argmax(np.std(response, (0, 1))))]
        ax.imshow(widest, cmap="RdBu", norm=mpl.colors.CenteredNorm(np.mean(widest)))
        ax.set_title(f"scale {scale + 1}: a filter, {len(widest)} x {len(widest)}")
    for ax in axes[0]:
        ax.set_axis_off()

    ax = axes[1, 0]
    values = np.linspace(*np.quantile(fresh, [0.001, 0.999]), SIZE**2)
    density = np.histogram(fresh, np.append(values, values[-1] * 2 - values[-2]))[0]
    function = learned_function(imnn.model, values)
    ax.plot(values, np.log(values), "k", lw=3, alpha=0.3, label="logarithm")
    ax.plot(values, as_logarithm(function, values, density), "C3--", label="learned")
    ax.set(xlabel="value at a pixel", title="function of a pixel")
    ax.legend()

    ax = axes[1, 1]
    exact = np.linalg.det(exact_fisher())
    updates = 1 + np.arange(len(imnn.history["det_F"]))
    ax.plot(updates, np.array(imnn.history["det_F"]) / exact, label="training maps")
    validated = np.array(imnn.history["val_iteration"])
    ax.plot(validated, np.array(imnn.history["val_det_F"]) / exact, "o", label="validation maps")
    ax.axhline(1, color="k", lw=1)
    ax.set(xlabel="update", title="share of the exact det F", ylim=(0, None))
    ax.legend()

    estimates, efficient = imnn.get_estimate(fresh).numpy(), efficient_estimates(fresh)
    for i, ax in enumerate(axes[1, 2:]):
        ax.scatter(efficient[:, i], estimates[:, i], s=3, alpha=0.4)
        ax.axline((THETA_FID[i], THETA_FID[i]), slope=1, color="k", lw=1)
        ax.set(xlabel="from the exact score", ylabel="from the network", title=LABELS[i])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(folder, maps, updates, seed):
    """Runs everything, prints the results and saves the figure in `folder`."""
    started = time.process_time()
    imnn = train(maps, updates, seed)
    seconds = time.process_time() - started
    fresh, fresh_derivative = simulations(5000, 3)
    info = imnn.evaluate(fresh, fresh_derivative)
    exact = exact_fisher()
    share = np.exp(float(info.log_det_fisher)) / np.linalg.det(exact)
    errors = np.sqrt(np.diag(np.linalg.inv(info.fisher)) / np.diag(np.linalg.inv(exact)))

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lognormal_fields.png"
    plot(imnn, fresh[:1000], path)
    print(f"exact        det F = {np.linalg.det(exact):.1f}")
    print(f"kept         {share:.3f} of it on 5000 fresh maps, after a fit to {maps} stored maps")
    print(f"errors       {errors[0]:.3f} and {errors[1]:.3f} of the exact ones")
    print(f"training     {updates} updates, {seconds:.0f} s of processor time")
    print(f"figure       {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("figures"), help="folder for figures")
    parser.add_argument("--maps", type=int, default=1000, help="number of stored maps")
    parser.add_argument("--updates", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0, help="of the network and the symmetries")
    arguments = parser.parse_args()
    mpl.use("Agg")
    main(**vars(arguments))
