"""What the pages take for granted: the reader's simulations, models and functions.

Each function is named after a page, and returns the names that are given to its blocks, by the
number of the block from which on they hold. Where a page fits for minutes, the fit is cut short
here, and the code stays what the reader sees.
"""

import keras
import numpy as np
import tensorflow as tf
from reference import DELTA_THETA, THETA_FID, dense_model
from reference import simulations as draws

import imnn_tf
from imnn_tf.imnn import IMNN
from imnn_tf.lfi.calibration import two_samples
from imnn_tf.lfi.density import SplineFlows
from imnn_tf.lfi.density.training import TrainingOptions
from imnn_tf.networks import dense_network
from rim_tf import prediction
from rim_tf.fitting import compilation
from rim_tf.rim import RIM
from rim_tf.uncertainty import pixel_errors
from rim_tf.uncertainty.pixel_errors import PixelErrors

FIELDS = {"θ_fid": np.array([0.25, 1.0]), "δθ": np.array([0.02, 0.1])}


def readme(monkeypatch):
    """Ten draws from a Gaussian, few enough that `patience` ends the fit at once."""
    return {0: {**sets(100), "observation": draws(9, 1)[0]}}


def imnn(monkeypatch):
    """The arguments of a fit that is saved."""
    return {0: {"arguments": arguments()}}


def information(monkeypatch):
    """An IMNN, and simulations over two steps that had no part in a fit."""
    fiducial, narrow = draws(3, 500)
    names = {
        "np": np,
        "imnn": IMNN(**arguments(), verbose=False),
        "fiducial": fiducial,
        "derivative": narrow,
        "narrow": narrow,
        "wide": draws(3, 500, delta_theta=2 * DELTA_THETA)[1],
        "step": DELTA_THETA,
    }
    return {0: names}


def simulations(monkeypatch):
    """Functions for the files, and arguments with external summaries, with maps, and with neither.

    The fits have 20 updates.
    """
    cut_short(monkeypatch, 20)
    given = {key: value for key, value in arguments().items() if key != "model"}
    spectra = {name: moments(array) for name, array in sets(64).items()}
    first = {
        "IMNN": imnn_tf.IMNN,
        "tf": tf,
        "n_s": 20,
        "n_d": 10,
        "get_fiducial": lambda seed: given["fiducial"][seed],
        "get_derivative": lambda seed, side, parameter: given["derivative"][seed, side, parameter],
        "model": dense_model(width=8),
        "make_model": lambda: dense_model(width=8),
        "observation": draws(9, 1)[0],
        "data": given["fiducial"],
        "spectra_of_data": spectra["fiducial"],
        "arguments": {**given, "model": dense_model(width=8)},
        "spectra": spectra["fiducial"],
        "varied_spectra": spectra["derivative"],
        "validation_spectra": spectra["validation_fiducial"],
        "validation_varied_spectra": spectra["validation_derivative"],
    }
    maps = {**FIELDS, "model": dense_network(64, 2), **maps_of(3, 20, 10, 8)}
    maps["model"] = keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten(), maps["model"]])
    return {0: first, 4: {"arguments": maps}, 6: {"arguments": given}}


def fields(monkeypatch):
    """A simulator of fields, and few maps of both sizes. The fits have two updates."""
    cut_short(monkeypatch, 2)

    def simulator(parameters, seed):
        noise = tf.random.stateless_normal([tf.shape(parameters)[0], 128, 128], seed)
        return tf.sqrt(parameters[:, :1, None]) * noise + parameters[:, 1:, None]

    def named(size):
        fiducial, derivative = maps_of(0, 120, 20, size).values()
        validation, validation_derivative = maps_of(1, 20, 4, size).values()
        return {
            "fiducial": fiducial,
            "derivative": derivative,
            "validation": validation,
            "validation_derivative": validation_derivative,
        }

    return {0: {**FIELDS, "simulator": simulator, **named(128)}, 1: named(32)}


def lfi(monkeypatch):
    """Neural posteriors of one flow that is hardly trained, and a C2ST of two folds."""
    monkeypatch.setattr(two_samples, "_FOLDS", 2)
    train_little(monkeypatch)
    return {}


def rim(monkeypatch):
    """A linear problem of sixteen numbers, and operators. The fits have two epochs of two steps."""
    fit = RIM.fit

    def few_epochs(self, *data, epochs=1, **options):
        if isinstance(self, RIM):
            self.T = min(self.T, 2)
        return fit(self, *data, epochs=min(epochs, 2), verbose=0, **options)

    for model in (RIM, PixelErrors):
        monkeypatch.setattr(model, "fit", few_epochs)
    for module in (compilation, prediction, pixel_errors):  # XLA compiles for long
        monkeypatch.setattr(module, "resolve_jit", lambda rim, jit_compile: False)

    def examples(seed, count):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(count, 16, 1)).astype("float32")
        A = rng.normal(size=(count, 32, 16)).astype("float32")
        sigma = rng.uniform(0.1, 1, count).astype("float32")
        noise = sigma[:, None] * rng.normal(size=(count, 32))
        return x, (A @ x)[..., 0] + noise.astype("float32"), A, sigma

    x, y, A, sigma = examples(0, 8)
    x2, y2, A2, sigma2 = examples(1, 8)
    x_new, y_new, A_new, sigma_new = examples(2, 4)

    def energy(u, data):
        return tf.reduce_sum((u - data) ** 2, axis=[1, 2, 3])

    def lens(fields, data):
        return energy(fields["source"] * fields["mass"], data)

    names = {
        **{"x": x, "y": y, "A": A, "sigma": sigma, "x2": x2, "y2": y2, "A2": A2},
        **{"sigma2": sigma2, "y_new": y_new, "A_new": A_new, "sigma_new": sigma_new},
        "x_new": x_new,
        **{"matrix": A[0], "C": np.eye(32, dtype="float32"), "energy": energy, "lens": lens},
        "forward": lambda signal, matrix: tf.linalg.matvec(matrix, signal[..., 0]),
        **{"f": tf.math.softplus, "f_inverse": lambda value: tf.math.log(tf.math.expm1(value))},
    }
    return {0: names}


def install(monkeypatch):
    """Nothing."""
    return {}


def own_maps(monkeypatch):
    """Few updates, and neural posteriors that are hardly trained."""
    fit = IMNN.fit

    def few_updates(self, n_iterations, **options):
        options["validation_freq"] = 2
        return fit(self, 4, **options)

    monkeypatch.setattr(IMNN, "fit", few_updates)
    train_little(monkeypatch)
    return {}


PAGES = (
    "readme",
    "own_maps",
    "install",
    "imnn",
    "information",
    "simulations",
    "fields",
    "lfi",
    "rim",
)


def sets(count):
    """Arrays under the names of the arguments of `IMNN`."""
    fiducial, derivative = draws(0, count)
    validation_fiducial, validation_derivative = draws(1, count)
    return {
        "fiducial": fiducial,
        "derivative": derivative,
        "validation_fiducial": validation_fiducial,
        "validation_derivative": validation_derivative,
    }


def arguments():
    """The arguments of an IMNN of the reference problem with a small model."""
    return {"θ_fid": THETA_FID, "δθ": DELTA_THETA, "model": dense_model(width=8), **sets(64)}


def cut_short(monkeypatch, most):
    """Ends every fit after a number of updates."""
    fit = IMNN.fit

    def short(self, n_iterations=None, *given, validation_freq=None, batch_size=None, **options):
        count = min(n_iterations or most, most)
        freq = None if validation_freq is None else min(validation_freq, count)
        return fit(self, count, *given, validation_freq=freq, batch_size=batch_size, **options)

    monkeypatch.setattr(IMNN, "fit", short)


def train_little(monkeypatch):
    """Makes the density estimator of one flow, and trains it for two epochs."""
    options = TrainingOptions(members=1, epochs=2, jit_compile=False)
    monkeypatch.setitem(SplineFlows.__init__.__kwdefaults__, "training", options)


def maps_of(seed, n_s, n_d, size):
    """Maps of white noise whose variance and mean are the parameters, as arguments of `IMNN`."""
    rng = np.random.default_rng(seed)
    sides = np.array([-0.5, 0.5])[:, None, None] * np.diag(FIELDS["δθ"])
    variance, mean = np.moveaxis(FIELDS["θ_fid"] + sides, -1, 0)[..., None, None]
    varied = np.sqrt(variance) * rng.normal(size=(n_d, 1, 1, size, size)) + mean
    fiducial = np.sqrt(FIELDS["θ_fid"][0]) * rng.normal(size=(n_s, size, size))
    return {"fiducial": fiducial + FIELDS["θ_fid"][1], "derivative": varied}


def moments(data):
    """The mean and the standard deviation of simulations `[..., 10]`."""
    return np.stack([data.mean(-1), data.std(-1)], axis=-1)
