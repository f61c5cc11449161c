"""Gaussian random fields with the power spectrum A k^-B: the simulator of this example.

It uses NumPy alone, so that the workers of a cluster need nothing else.
"""

import time

import numpy as np

SIZE = 16
THETA_FID = np.array([1.0, 0.5])
DELTA_THETA = np.array([0.1, 0.1])

# The seeds of validation simulations begin here.
VALIDATION = 10**6

# What a simulation costs. The field itself takes some 50 μs, and the clusters that people need run
# simulators that are slow.
SECONDS = 0.01

# |k| of each mode of a real field, in radians per pixel, and how many real numbers it holds. The
# mode k = 0 has no power.
K = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None]) * 2 * np.pi
K[0, 0] = 1.0
COUNT = np.full(K.shape, 2.0)
COUNT[:, [0, -1]], COUNT[0, 0] = 1.0, 0.0


def field(theta, seed):
    """A field `[SIZE, SIZE]` with the parameters `theta`. The same seed gives the same noise."""
    time.sleep(SECONDS)
    noise = np.random.default_rng(seed).normal(size=(SIZE, SIZE))
    amplitude = np.sqrt(theta[0]) * K ** (-theta[1] / 2) * (COUNT > 0)
    return np.fft.irfft2(np.fft.rfft2(noise) * amplitude, s=(SIZE, SIZE)).astype("float32")


def fiducial(seed):
    """The fiducial field of a seed."""
    return field(THETA_FID, seed)


def derivative(seed, side, parameter):
    """The field of a seed below (`side` 0) or above (1) the fiducial value of one parameter."""
    theta = THETA_FID.copy()
    theta[parameter] += (side - 0.5) * DELTA_THETA[parameter]
    return field(theta, seed)


def simulator(theta, seeds):
    """Fields `[n, SIZE, SIZE]` with the parameters `[n, 2]`, for inference."""
    return np.stack([field(row, seed) for row, seed in zip(theta, seeds, strict=True)])


def exact_fisher():
    """F = 1/2 Σ dlnP dlnPᵀ over the real numbers in the modes, at the fiducial parameters."""
    slopes = np.stack([np.full(K.size, 1 / THETA_FID[0]), -np.log(K).ravel()])
    return 0.5 * (slopes * COUNT.ravel()) @ slopes.T
