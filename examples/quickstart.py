"""The main job, start to finish: simulate, fit an IMNN, estimate, infer.

Ten numbers are drawn from a Gaussian of unknown mean and variance. Everything about this problem
is known exactly, so that every answer can be checked: at mean 0 and variance 1 the Fisher
information is diag(10, 5), with determinant 50, and the posterior is a formula.
"""

import argparse
import time
from pathlib import Path

import keras
import matplotlib as mpl
import numpy as np
import tensorflow_probability as tfp

from imnn_tf import IMNN
from imnn_tf.lfi import GaussianApproximation

N_DRAWS = 10
THETA_FID = np.array([0.0, 1.0])
DELTA_THETA = np.array([0.1, 0.1])
LABELS = [r"mean $\mu$", r"variance $\Sigma$"]


def simulate(parameters, noise):
    """Gaussian draws of mean and variance `parameters[..., 2]` from standard normal noise."""
    return parameters[..., :1] + np.sqrt(parameters[..., 1:]) * noise


def simulations(seed, n):
    """Simulations at the fiducial point, and the same noise with each parameter varied."""
    noise = np.random.default_rng(seed).normal(size=(n, N_DRAWS))
    half_step = np.array([-0.5, 0.5])[:, None, None] * np.diag(DELTA_THETA)
    fiducial = simulate(THETA_FID, noise)  # (n, 10)
    derivative = simulate(THETA_FID + half_step, noise[:, None, None])  # (n, 2, 2, 10)
    return fiducial, derivative


def compressor(seed):
    """Ten numbers in, two summaries out.

    With only a thousand simulations a network soon knows them by heart. Noise on its input in
    training holds that off.
    """
    initialiser = keras.initializers.GlorotUniform
    return keras.Sequential(
        [
            keras.Input((N_DRAWS,)),
            keras.layers.GaussianNoise(0.3, seed=seed),
            keras.layers.Dense(128, kernel_initializer=initialiser(seed)),
            keras.layers.LeakyReLU(0.01),
            keras.layers.Dense(128, kernel_initializer=initialiser(seed + 1)),
            keras.layers.LeakyReLU(0.01),
            keras.layers.Dense(2, kernel_initializer=initialiser(seed + 2)),
        ]
    )


class ExactPosterior(GaussianApproximation):
    """The likelihood of the draws themselves, in the place of a Gaussian in the estimate."""

    def log_gaussian(self, grid, shape):
        """Log likelihood of all draws at the parameters `grid`."""
        mean, variance = grid.T
        chi2 = ((self.data[:, None] - mean[:, None]) ** 2).sum(-1) / variance
        return (-0.5 * (chi2 + N_DRAWS * np.log(2 * np.pi * variance))).reshape(-1, *shape)


def main(folder, seed):
    """Runs the whole job, prints what it found and leaves its figures in `folder`."""
    started = time.perf_counter()
    fiducial, derivative = simulations(seed, 1000)
    validation_fiducial, validation_derivative = simulations(seed + 1, 1000)

    imnn = IMNN(
        θ_fid=THETA_FID,
        δθ=DELTA_THETA,
        fiducial=fiducial,
        derivative=derivative,
        validation_fiducial=validation_fiducial,
        validation_derivative=validation_derivative,
        model=compressor(seed),
        optimiser=keras.optimizers.Adam(3e-3),
    )
    imnn.fit(patience=50)
    fitted = time.perf_counter()

    # A hundred thousand simulations that neither chose the weights nor when to stop.
    fresh = imnn.evaluate(*simulations(seed + 2, 100_000))
    observation = simulations(seed + 4, 1)[0]
    estimate = imnn.get_estimate(observation).numpy()[0]

    folder.mkdir(parents=True, exist_ok=True)
    figures = [folder / "fit.png", folder / "posterior.png"]
    imnn.plot(known_det_fisher=50)[0].figure.savefig(figures[0])
    plot_posterior(imnn, observation, figures[1])

    updates = len(imnn.history["det_F"])
    print(f"updates              {updates}, in {fitted - started:.1f} s with compilation")
    print(f"information kept     det F = {np.linalg.det(fresh.fisher):.1f} of 50")
    print("                     on 100,000 fresh simulations, of 1,000 to learn from")
    print(f"covariance           {np.round(fresh.covariance.numpy().astype(float), 3).tolist()}")
    print(f"estimate             mean {estimate[0]:+.3f}, variance {estimate[1]:.3f}")
    print(f"of the sample        mean {observation.mean():+.3f}, variance {observation.var():.3f}")
    print(f"wall time            {time.perf_counter() - started:.1f} s")
    for path in figures:
        print(f"figure               {path}")


def plot_posterior(imnn, observation, path):
    """The Gaussian approximation beside the exact posterior."""
    uniform = tfp.distributions.Uniform
    shared = {
        "target_data": observation,
        "prior": tfp.distributions.Blockwise([uniform(-10.0, 10.0), uniform(0.1, 10.0)]),
        "get_estimate": imnn.get_estimate,
        "labels": LABELS,
    }
    exact = ExactPosterior(Fisher=None, **shared)
    approximation = GaussianApproximation(Fisher=imnn.F, **shared)
    axes = exact.plot(label="exact posterior", color="C0")
    approximation.plot(ax=axes, label="Gaussian approximation", color="C1")
    axes[0, 0].figure.savefig(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("figures"), help="where figures go")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    mpl.use("Agg")
    main(arguments.folder, arguments.seed)
