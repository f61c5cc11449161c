"""A complete run: simulate, fit an IMNN, estimate the parameters, infer their posterior.

A simulation is ten draws from a Gaussian of unknown mean and variance. The exact answers for this
problem are known, so every result can be checked. At mean 0 and variance 1 the Fisher information
is diag(10, 5), with determinant 50, and the posterior has a closed form.
"""

import argparse
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np

from imnn_tf.utils import quiet_start

with quiet_start():
    import keras
    import tensorflow_probability as tfp

    from imnn_tf import IMNN
    from imnn_tf.lfi import GaussianApproximation

N_DRAWS = 10
THETA_FID = np.array([0.0, 1.0])
DELTA_THETA = np.array([0.1, 0.1])
LABELS = [r"mean $\mu$", r"variance $\Sigma$"]


def simulate(parameters, noise):
    """Turns standard normal noise into draws of mean and variance `parameters`, `[..., 2]`."""
    return parameters[..., :1] + np.sqrt(parameters[..., 1:]) * noise


def simulations(seed, n):
    """Simulations at the fiducial point, and at varied parameters with the same noise."""
    noise = np.random.default_rng(seed).normal(size=(n, N_DRAWS))
    half_step = np.array([-0.5, 0.5])[:, None, None] * np.diag(DELTA_THETA)
    fiducial = simulate(THETA_FID, noise)  # (n, 10)
    derivative = simulate(THETA_FID + half_step, noise[:, None, None])  # (n, 2, 2, 10)
    return fiducial, derivative


def compressor(seed):
    """The network: ten numbers in, two summaries out.

    A network quickly memorises a training set of only a thousand simulations. Noise on its input
    during training prevents that.
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
    """The exact posterior, from the likelihood of the draws instead of that of the estimate."""

    def log_gaussian(self, grid, shape):
        """Log likelihood of all draws at the parameters `grid`."""
        mean, variance = grid.T
        chi2 = ((self.data[:, None] - mean[:, None]) ** 2).sum(-1) / variance
        return (-0.5 * (chi2 + N_DRAWS * np.log(2 * np.pi * variance))).reshape(-1, *shape)


def main(folder, seed):
    """Runs everything, prints the results and saves the figures in `folder`."""
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
    )
    imnn.fit(patience=50)
    fitted = time.perf_counter()

    # Fresh simulations: they chose neither the weights nor when to stop.
    fresh = imnn.evaluate(*simulations(seed + 2, 100_000))
    observation = simulations(seed + 4, 1)[0]
    estimate = imnn.get_estimate(observation).numpy()[0]

    folder.mkdir(parents=True, exist_ok=True)
    figures = [folder / "fit.png", folder / "posterior.png"]
    imnn.plot(known_det_fisher=50)[0].figure.savefig(figures[0])
    plot_posterior(imnn, observation, figures[1])

    updates = len(imnn.history["det_F"])
    print(f"updates              {updates} in {fitted - started:.1f} s, with compilation")
    low, high = fresh.interval()
    print(f"information kept     det F = {np.exp(fresh.log_det_fisher):.1f} of 50,", end=" ")
    print(f"{low:.1f} to {high:.1f} with 68 % probability")
    print("                     measured on 100,000 fresh simulations, trained on 1,000")
    print(f"covariance           {np.round(fresh.covariance.numpy().astype(float), 3).tolist()}")
    print(f"estimate             mean {estimate[0]:+.3f}, variance {estimate[1]:.3f}")
    print(f"sample               mean {observation.mean():+.3f}, variance {observation.var():.3f}")
    print(f"wall time            {time.perf_counter() - started:.1f} s")
    for path in figures:
        print(f"figure               {path}")


def plot_posterior(imnn, observation, path):
    """Draws the Gaussian approximation and the exact posterior in one figure."""
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
    parser.add_argument("--folder", type=Path, default=Path("figures"), help="folder for figures")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    mpl.use("Agg")
    main(arguments.folder, arguments.seed)
