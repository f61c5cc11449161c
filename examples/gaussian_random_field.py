"""An IMNN compresses an image: a Gaussian random field with an unknown power spectrum.

The field has 128 x 128 pixels and the power spectrum P(k) = A k^-B. Its Fisher information about A
and B is a sum over its modes, so the exact answer is known. The input of the network is the image.
Its first layer computes the mean power in a few broad bands of the Fourier transform. The network
learns the weight of each band from simulations that are made for one update and never used again.
A neural posterior then learns from the network's estimates of 4,000 fields at draws from the prior,
and is compared with the exact posterior.

    python examples/gaussian_random_field.py                          train, measure, infer
    python examples/gaussian_random_field.py --updates 30 --sets 2 --draws 500    a short look
    python examples/gaussian_random_field.py --network convolutions --updates 1000
    python examples/gaussian_random_field.py --network field --updates 2500    no Fourier transform
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from imnn_tf.utils import quiet_start

with quiet_start():
    import keras
    import tensorflow as tf
    import tensorflow_probability as tfp

    from imnn_tf import IMNN
    from imnn_tf.lfi import GaussianApproximation, NeuralPosterior, calibration
    from imnn_tf.networks import field_network

SIZE = 128
THETA_FID = np.array([1.0, 0.5])
# No wider than the error of either parameter, 0.011. Over a wider step a network can learn to tell
# the two sides apart, and det F from the difference then exceeds the true value.
DELTA_THETA = np.array([0.01, 0.01])
TARGET = np.array([1.03, 0.53])
LABELS = ["amplitude $A$", "slope $B$"]
# Each parameter is uniform between these.
PRIOR = (0.1, 1.25)

# Numbers of simulations: at the fiducial parameters, and on each side of each derivative. The sides
# share their noise, which cancels, so few are enough for summaries that are linear in the power.
VALIDATION = (2000, 50)
FRESH = (1000, 20)


def modes(size):
    """The modes of a real field: ln |k| of each, and how many real numbers each holds.

    Both arrays are `[size, size // 2 + 1]`, with k in radians per pixel. `rfft2` leaves out modes
    that are complex conjugates of others, so most of its modes hold two real numbers. The mode
    k = 0 has no power here and holds none.
    """
    k = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) * 2 * np.pi
    count = np.full(k.shape, 2.0)
    count[:, [0, -1]] = 1
    k[0, 0], count[0, 0] = 1, 0
    return np.log(k), count


def exact_fisher(log_k, count=1.0):
    """F = 1/2 Σ dlnP dlnPᵀ over the real numbers in the modes, at the fiducial parameters."""
    slopes = np.stack([np.full(log_k.size, 1 / THETA_FID[0]), -log_k.ravel()])
    return 0.5 * (slopes * np.ravel(count)) @ slopes.T


def published_fisher():
    """F as the JAX IMNN's example computes it, from one quadrant with one real number per mode."""
    k = np.fft.fftfreq(SIZE)[1 : SIZE // 2] * 2 * np.pi
    return exact_fisher(np.log(np.hypot(k[:, None], k[None])))


def simulator(parameters, seed):
    """Filters white noise into fields `[batch, SIZE, SIZE]` with the parameters `[batch, 2]`."""
    log_k, count = (tf.constant(each, tf.float32) for each in modes(SIZE))
    A, B = (parameters[:, i, None, None] for i in range(2))
    amplitude = tf.sqrt(A) * tf.exp(-0.5 * B * log_k) * tf.cast(count > 0, tf.float32)
    # Philox is the fastest of TensorFlow's generators on a CPU; making noise is most of the work.
    shape = [tf.shape(parameters)[0], SIZE, SIZE]
    noise = tf.signal.rfft2d(tf.random.stateless_normal(shape, seed, alg="philox"))
    return tf.signal.irfft2d(noise * tf.cast(amplitude, tf.complex64), [SIZE, SIZE])


_simulate = tf.function(
    simulator,
    input_signature=[tf.TensorSpec([None, 2]), tf.TensorSpec([2], tf.int32)],
    autograph=False,
)


def fields(parameters, n, seed):
    """An array of `n` fields with the same parameters."""
    repeated = tf.constant(np.repeat([parameters], n, axis=0), tf.float32)
    return _simulate(repeated, tf.constant(seed, tf.int32)).numpy()


def fields_at(theta, rng):
    """Fields `[n, SIZE, SIZE]`, one at each of the parameters `[n, 2]`."""
    seed = rng.integers(2**31, size=2)
    return _simulate(tf.constant(theta, tf.float32), tf.constant(seed, tf.int32)).numpy()


def simulations(seed, n_s, n_d):
    """Fields at the fiducial point, and fields at varied parameters that share their noise."""
    half_step = np.array([-0.5, 0.5])[:, None, None] * np.diag(DELTA_THETA)
    points = (THETA_FID + half_step).reshape(-1, 2)
    varied = np.stack([fields(point, n_d, [seed, 1]) for point in points], axis=1)
    return fields(THETA_FID, n_s, [seed, 0]), varied.reshape(n_d, 2, 2, SIZE, SIZE)


def periodogram(field):
    """The power of each mode; its expectation is P(k)."""
    return np.abs(np.fft.rfft2(field)) ** 2 / SIZE**2


@keras.saving.register_keras_serializable("imnn_tf.examples")
class BandPowers(keras.layers.Layer):
    """Mean power of a square periodic field in broad bands of |k|.

    The bands are triangles in ln k that overlap by half. A weighted sum of them is therefore the
    power weighted by a piecewise linear function of ln k. The layer has no trainable weights.

    Args:
        bands: The number of bands.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, bands, **kwargs):
        super().__init__(**kwargs)
        self.bands = bands

    def build(self, input_shape):
        """Places the bands between the longest and the shortest wavelength."""
        size = input_shape[-1]
        log_k, count = (each.ravel()[1:] for each in modes(size))
        centres = np.linspace(log_k.min(), log_k.max(), self.bands)
        triangles = np.stack([np.interp(log_k, centres, each) for each in np.eye(self.bands)], 1)
        triangles *= count[:, None]
        self._means = tf.constant(triangles / triangles.sum(0) / size**2, tf.float32)

    def call(self, field):
        """Band powers `[batch, bands]` of fields `[batch, size, size]`."""
        modes = tf.signal.rfft2d(tf.cast(field, tf.float32))
        power = tf.square(tf.math.real(modes)) + tf.square(tf.math.imag(modes))
        return tf.reshape(power, [-1, np.prod(power.shape[1:])])[:, 1:] @ self._means

    def get_config(self):
        """The arguments of the constructor."""
        return {**super().get_config(), "bands": self.bands}


def fourier(seed, bands=12):
    """A network from an image to two summaries, which are weighted sums of band powers."""
    powers = BandPowers(bands)
    # Bands differ in power and in their number of modes, so each is scaled by its own scatter.
    standard = keras.layers.Normalization()
    standard.adapt(powers(fields(THETA_FID, 500, [seed, 2])).numpy())
    weigh = keras.layers.Dense(2, kernel_initializer=keras.initializers.GlorotUniform(seed))
    return keras.Sequential([keras.Input((SIZE, SIZE)), powers, standard, weigh])


def convolutions(seed):
    """A network from an image to two summaries by four strided convolutions."""
    layers = [keras.Input((SIZE, SIZE)), keras.layers.Reshape((SIZE, SIZE, 1))]
    for depth, filters in enumerate([8, 16, 32, 32]):
        initialiser = keras.initializers.HeNormal(seed + depth)
        layers += [
            keras.layers.Conv2D(filters, 5, 2, padding="same", kernel_initializer=initialiser),
            keras.layers.LeakyReLU(0.1),
        ]
    weigh = keras.layers.Dense(2, kernel_initializer=keras.initializers.GlorotUniform(seed + 9))
    return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), weigh])


def field(seed):
    """The network for fields of any kind, which looks at every pixel and averages every scale."""
    return field_network((SIZE, SIZE), 2, filters=(8, 8, 8, 8), seed=seed)


class Recipe(NamedTuple):
    """A network and how it is trained."""

    build: Callable[[int], keras.Model]
    rate: float  # the learning rate at the start
    update: tuple[int, int]  # numbers of simulations in each update, as above
    strength: float | None = None  # of the regularisation
    # The validation set is noisy: the more often it is used, the likelier it prefers earlier
    # weights by chance.
    validations: int = 5


NETWORKS = {
    "fourier": Recipe(fourier, 0.1, (200, 10)),
    "convolutions": Recipe(convolutions, 3e-3, (200, 10)),
    "field": Recipe(field, 1e-2, (50, 5), strength=0.1, validations=1),
}


def train(network, updates, seed):
    """Fits a network on new simulations at every update; a validation set chooses the weights."""
    recipe = NETWORKS[network]
    fiducial, derivative = simulations(seed + 1, *VALIDATION)
    imnn = IMNN(
        θ_fid=THETA_FID,
        δθ=DELTA_THETA,
        n_s=recipe.update[0],
        n_d=recipe.update[1],
        simulator=simulator,
        seed=seed,
        validation_fiducial=fiducial,
        validation_derivative=derivative,
        model=recipe.build(seed),
        optimiser=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(recipe.rate, updates)
        ),
    )
    # The learning rate falls to zero, so the last weights are about the best.
    freq = max(updates // recipe.validations, 1)
    imnn.fit(updates, λ=recipe.strength, validation_freq=freq)
    return imnn


class Measured(NamedTuple):
    """The information that a compression keeps, measured on fresh simulations."""

    det_fisher: float
    error: float
    share: float  # of the exact det F
    share_error: float


def jackknife(function, sets):
    """A function of the mean over independent sets, and its error by leaving out one at a time."""
    n = len(sets)
    without = np.array([function(np.delete(sets, i, axis=0).mean(0)) for i in range(n)])
    return function(sets.mean(0)), np.sqrt((n - 1) * without.var())


def det_fisher(moments):
    """Determinant of F from the covariance of the summaries and the slope of their mean."""
    covariance, slope = moments
    return np.linalg.det(slope @ np.linalg.solve(covariance, slope.T))


def kept_share(joint):
    """Share of det F that summaries keep, from the covariance `[4, 4]` of score and summaries.

    The slope of the mean of any statistic is its covariance with the score. The information of a
    statistic is therefore the part of the score's covariance that the statistic explains.
    """
    score, cross, own = joint[:2, :2], joint[:2, 2:], joint[2:, 2:]
    return np.linalg.det(cross @ np.linalg.solve(own, cross.T)) / np.linalg.det(score)


def score(field):
    """The gradient of the log likelihood at the fiducial point, up to a constant, `[batch, 2]`."""
    log_k, count = modes(SIZE)
    excess = 0.5 * count * periodogram(field) * np.exp(THETA_FID[1] * log_k) / THETA_FID[0]
    return np.stack([excess.sum((1, 2)) / THETA_FID[0], -(excess * log_k).sum((1, 2))], axis=1)


def measure(imnn, first_seed, n_sets):
    """The information kept, by `evaluate` and by the score, on independent sets of fresh fields."""
    moments, joint = [], []
    for seed in range(first_seed, first_seed + n_sets):
        fiducial, derivative = simulations(seed, *FRESH)
        info = imnn.evaluate(fiducial, derivative)
        moments.append([info.covariance, info.slope])
        summaries = imnn.model.predict(fiducial, batch_size=250, verbose=0)
        joint.append(np.cov(score(fiducial).T, summaries.T))
    return Measured(
        *jackknife(det_fisher, np.array(moments, np.float64)),
        *jackknife(kept_share, np.array(joint)),
    )


class ExactPosterior(GaussianApproximation):
    """The exact posterior, from the Gaussian likelihood of the modes instead of the estimate's."""

    def log_gaussian(self, grid, shape):
        """Log likelihood `[targets, *shape]` at the parameters `grid`, `[n, 2]`."""
        log_k, count = (each.ravel()[1:] for each in modes(SIZE))
        power = count * periodogram(self.data).reshape(len(self.data), -1)[:, 1:]
        # A scales all modes alike, so the sum over modes is computed only once for each B.
        slopes, place = np.unique(grid[:, 1], return_inverse=True)
        chi2 = (power @ np.exp(np.outer(log_k, slopes)))[:, place] / grid[:, 0]
        log_det = count.sum() * np.log(grid[:, 0]) - (count @ log_k) * grid[:, 1]
        return (-0.5 * (chi2 + log_det)).reshape(-1, *shape)


class Inferred(NamedTuple):
    """The exact posterior of the target, and two that know its estimate alone."""

    exact: ExactPosterior
    neural: NeuralPosterior
    gaussian: GaussianApproximation


def infer(imnn, target, draws, seed):
    """All posteriors of the target; the neural one learns from fields at draws from the prior."""
    uniform = tfp.distributions.Uniform(*PRIOR)
    shared = {
        "target_data": target,
        "prior": tfp.distributions.Blockwise([uniform, uniform]),
        "get_estimate": imnn.get_estimate,
        "labels": LABELS,
    }
    neural = NeuralPosterior(simulator=fields_at, seed=seed, progress=False, **shared)
    neural(draws, at_once=250)  # 250 fields are in memory at a time
    exact = ExactPosterior(Fisher=None, **shared)
    return Inferred(exact, neural, GaussianApproximation(Fisher=imnn.F, **shared))


def told_apart(inferred, seed):
    """How often a classifier tells samples of either from exact ones: 0.5 is as if by chance."""
    exact = inferred.exact.result(n=10_000, seed=seed)
    others = (
        inferred.neural.result(n_samples=10_000, seed=seed + 1),
        inferred.gaussian.result(n=10_000, seed=seed + 2),
    )
    return [calibration.c2st(other, exact, seed=seed) for other in others]


def plot(imnn, exact, fresh, target, inferred, path):
    """Draws the target field, the history of the fit, and the posteriors."""
    figure = plt.figure(figsize=(12, 6.5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.35])
    image, history = left.subplots(2, 1, height_ratios=[1.3, 1])
    left.colorbar(image.imshow(target[0], cmap="RdBu_r"), ax=image)
    image.set(title=f"target field, $A={TARGET[0]}$, $B={TARGET[1]}$", xticks=[], yticks=[])
    recorded = imnn.history
    history.plot(np.array(recorded["det_F"]) / exact, color="C0", alpha=0.4, label="training")
    validated = np.array(recorded["val_det_F"]) / exact
    history.plot(recorded["val_iteration"], validated, marker=".", color="C1", label="validation")
    history.axhline(1, color="black", linestyle="--", linewidth=0.8, label="exact")
    updates = len(recorded["det_F"])
    history.plot(updates, fresh.share, "o", color="C2", label="fresh, against the score")
    history.set(xlabel="updates", ylabel=r"$\det F$, share of the exact", ylim=(0, 1.5))
    history.legend(fontsize="small", loc="lower right")
    axes = right.subplots(2, 2)
    inferred.exact.plot(ax=axes, label="exact posterior", color="C0", known=TARGET)
    inferred.neural.plot(ax=axes, label="neural posterior", color="C2", n_samples=10_000)
    inferred.gaussian.plot(ax=axes, label="Gaussian approximation", color="C1")
    figure.savefig(path, dpi=90)


def main(folder, network, updates, sets, draws, seed):
    """Runs everything, prints the results and saves the figure in `folder`."""
    started, cpu = time.perf_counter(), time.process_time()
    imnn = train(network, updates, seed)
    trained, cpu = time.perf_counter(), time.process_time() - cpu
    fresh = measure(imnn, seed + 3, sets)
    target = fields(TARGET, 1, [seed + 2, 0])
    estimate = imnn.get_estimate(target).numpy()[0]
    exact = np.linalg.det(exact_fisher(*modes(SIZE)))

    measured = time.perf_counter()
    inferred = infer(imnn, target, draws, seed)
    inference = time.perf_counter() - measured
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "gaussian_random_field.png"
    plot(imnn, exact, fresh, target, inferred, path)
    neural, gaussian = told_apart(inferred, seed)

    numbers = int(modes(SIZE)[1].sum())
    print(f"exact                det F = {exact:.2f}, of {numbers} real numbers")
    print(f"                     det F = {np.linalg.det(published_fisher()):.2f}, of one quadrant")
    print(f"kept, fresh fields   det F = {fresh.det_fisher:.0f} +- {fresh.error:.0f},", end=" ")
    print(f"{fresh.det_fisher / exact:.3f} +- {fresh.error / exact:.3f} of the exact")
    print(f"against the score    {fresh.share:.5f} +- {fresh.share_error:.5f} of the exact")
    print(f"                     measured on {sets} x {FRESH[0]} fields not used in the fit")
    print(f"estimate             A {estimate[0]:.3f}, B {estimate[1]:.3f}; true {TARGET.tolist()}")
    print(f"told from the exact  neural posterior {neural:.3f}, ", end="")
    print(f"Gaussian approximation {gaussian:.3f}; by chance 0.5")
    print(f"inference            {draws} fields simulated and trained on in {inference:.1f} s")
    print(f"training             {updates} updates in {trained - started:.1f} s, with compilation")
    print(f"                     {cpu:.0f} s of processor time")
    print(f"wall time            {time.perf_counter() - started:.1f} s")
    print(f"figure               {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("figures"), help="folder for figures")
    parser.add_argument("--network", choices=NETWORKS, default="fourier")
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--sets", type=int, default=20, help="sets of fresh fields to measure on")
    parser.add_argument("--draws", type=int, default=4000, help="fields for the neural posterior")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    mpl.use("Agg")
    main(**vars(arguments))
