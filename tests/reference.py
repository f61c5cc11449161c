"""The reference problem: the mean and the variance of ten Gaussian draws.

At mean 0 and variance 1 the Fisher information of n draws is diag(n, n/2), here diag(10, 5).
"""

import keras
import numpy as np

from imnn_tf.simulations import SetArguments, SimulationOptions
from imnn_tf.simulations.fiducial import FiducialPoint
from imnn_tf.simulations.open import open_stored

N_DRAWS = 10
THETA_FID = np.array([0.0, 1.0])
DELTA_THETA = np.array([0.1, 0.1])
FISHER = np.diag([10.0, 5.0])


def simulate(parameters, noise):
    """Draws with the given mean and variance `[..., 2]` from standard normal noise."""
    return parameters[..., :1] + np.sqrt(parameters[..., 1:]) * noise


def simulations(seed, n_s=1000, n_d=None, delta_theta=DELTA_THETA):
    """Fiducial `[n_s, 10]` and derivative `[n_d, 2, 2, 10]` simulations with matched seeds."""
    noise = np.random.default_rng(seed).normal(size=(n_s, N_DRAWS))
    sides = np.array([-0.5, 0.5])[:, None, None] * np.diag(delta_theta)
    varied = simulate(THETA_FID + sides[None], noise[: n_d or n_s, None, None])
    return simulate(THETA_FID, noise), varied


def dense_model(seed=0, width=128, n_summaries=2, dtype="float32", extra=(), activation=None):
    """The model of the reference problem, with further layers before the last."""
    initialiser = keras.initializers.GlorotUniform
    layers = [keras.Input((N_DRAWS,), dtype=dtype)]
    for index in range(2):
        layers.append(
            keras.layers.Dense(width, kernel_initializer=initialiser(seed + index), dtype=dtype)
        )
        layers.append(
            keras.layers.Activation(activation, dtype=dtype)
            if activation
            else keras.layers.LeakyReLU(0.01, dtype=dtype)
        )
    last = keras.layers.Dense(n_summaries, kernel_initializer=initialiser(seed + 2), dtype=dtype)
    return keras.Sequential([*layers, *extra, last])


def as_simulations(fiducial, derivative, n_params, delta_theta, *, dtype, **options):
    """Batches of simulations from any source."""
    point = FiducialPoint(np.zeros(n_params), delta_theta, dtype)
    given = SimulationOptions(point, dtype=dtype, **options)
    return open_stored(given, SetArguments(fiducial, derivative))


def held(fiducial, derivative, delta_theta, **options):
    """Batches of simulations in arrays."""
    n_params = derivative.shape[-1] if delta_theta is None else derivative.shape[2]
    return as_simulations(fiducial, derivative, n_params, delta_theta, **options)
