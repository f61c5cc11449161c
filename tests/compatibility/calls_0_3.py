"""The calls that version 0.3 wrote the files in `version_0_3` by, with their settings.

They use public names only, so that the test repeats them with any later version.
"""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from imnn_tf import IMNN, lfi
from imnn_tf.utils import TFRecords
from rim_tf import RIM, GaussianLikelihood, Hourglass, PutzkyWelling, UNet

VERSION_0_3 = Path(__file__).parent / "version_0_3"

N_S, N_D, N_DRAWS = 40, 20, 10
THETA_FID, DELTA_THETA = np.array([0.0, 1.0]), np.array([0.1, 0.1])


# ---- IMNN --------------------------------------------------------------------------------


def read_simulations(folder):
    with np.load(folder / "simulations.npz") as stored:
        arrays = dict(stored)
    return arrays, arrays.pop("data")


def make_model(dtype="float32", dropout=0.1):
    """A dense layer of 8 units and a dropout layer; two summaries.

    The last layer has no bias. The loss does not depend on it, so Adam would scale the rounding
    errors of its gradient to full steps, which differ between machines.
    """
    glorot = keras.initializers.GlorotUniform
    return keras.Sequential(
        [
            keras.Input((N_DRAWS,), dtype=dtype),
            keras.layers.Dense(8, "tanh", kernel_initializer=glorot(0), dtype=dtype),
            keras.layers.Dropout(dropout, seed=1, dtype=dtype),
            keras.layers.Dense(2, use_bias=False, kernel_initializer=glorot(1), dtype=dtype),
        ]
    )


STRENGTH = 5.0  # the default of version 0.3


def make_optimiser():
    return keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.4, 5, 0.9))


FITTED, FURTHER, WHOLE = 13, 4, 10
PUBLISHED = {"regulariser": "published", "λ": 8.0, "ε": 0.1}


def open_fit(folder, filename, simulations, **options):
    """An IMNN of stored simulations."""
    settings = {"θ_fid": THETA_FID, "δθ": DELTA_THETA, "verbose": False}
    return IMNN(directory=folder, filename=filename, **settings, **simulations, **options)


def simulator(parameters, seed):
    noise = tf.random.stateless_normal(
        [tf.shape(parameters)[0], N_DRAWS], seed, dtype=parameters.dtype
    )
    return parameters[:, :1] + tf.sqrt(parameters[:, 1:]) * noise


def open_moved(folder, **options):
    """An IMNN of simulations on the fly, in double precision, whose fiducial point moves."""
    settings = {"θ_fid": THETA_FID, "δθ": DELTA_THETA, "n_s": N_S, "n_d": N_D, "seed": 3}
    settings |= {"simulator": simulator, "dtype": tf.float64, "verbose": False}
    return IMNN(directory=folder, filename="moved", **settings, **options)


def results_of(imnn, data):
    """All that a fitted IMNN tells."""
    found = {name: getattr(imnn, name) for name in ("F", "Finv", "C", "Cinv", "μ", "dμ_dθ")}
    found |= {"reg": imnn.reg, "r": imnn.r, "θ_fid": imnn.θ_fid}
    found["estimates"] = imnn.get_estimate(data)
    found |= {f"history/{name}": values for name, values in imnn.history.items()}
    found |= {f"weights/{k}": weights for k, weights in enumerate(imnn.model.get_weights())}
    return {name: np.array(value) for name, value in found.items()}


# ---- Likelihood-free inference -----------------------------------------------------------


class SixtyFourths:
    """A prior on the multiples of 1/64 between 0 and 4.

    A store is identified by the bits of its parameters. Sums of these numbers are exact, so the
    first generation of proposals is the same on every machine.
    """

    event_shape = (1,)
    low, high = np.zeros(1), np.full(1, 4.0)

    def sample(self, n, seed):
        return np.random.default_rng(seed).integers(0, 256, (n, 1)) / 64

    def log_prob(self, x):
        return np.full(np.shape(x)[:-1], -np.log(4.0))


class Counting:
    """A simulator that counts its simulations."""

    def __init__(self, function):
        self.function, self.count = function, 0

    def __call__(self, parameters, seeds):
        self.count += len(parameters)
        return self.function(parameters, seeds)


def gaussian_draws(parameters, seeds):
    """Ten draws of a mean and a variance for each row of parameters."""
    noise = [np.random.default_rng(seed).normal(size=N_DRAWS) for seed in seeds]
    return parameters[:, :1] + np.sqrt(parameters[:, 1:]) * np.stack(noise)


def shifted(parameters, seeds):
    """Three data around one parameter, all multiples of 1/64."""
    noise = [np.random.default_rng(seed).integers(-8, 9, 3) for seed in seeds]
    return parameters + np.stack(noise) / 64


def mean_variance(data):
    return np.stack([data.mean(axis=1), data.var(axis=1)], axis=1)


def open_abc(store, simulator, data):
    tfd = tfp.distributions
    prior = tfd.Blockwise([tfd.Uniform(-4.0, 4.0), tfd.Uniform(0.25, 4.0)])
    fisher = np.diag([10.0, 5.0])
    options = {"seed": 11, "store": store, "progress": False}
    return lfi.ApproximateBayesianComputation(
        data[:2].astype("float64"), prior, fisher, mean_variance, simulator, **options
    )


def run_abc(abc, save_sims=None):
    """Simulates in two calls. Each has its own folder in the store."""
    abc(40, at_once=15)
    abc(30, save_sims=save_sims)
    abc.accept_reject(5.0)
    return {name: getattr(abc, name) for name in ("parameters", "estimates", "distances")}


def open_pmc(store, simulator):
    targets = np.array([[1.0, 1.0, 1.25], [2.5, 2.75, 2.75]])
    options = {"seed": 12, "store": store, "progress": False}
    return lfi.PopulationMonteCarlo(
        targets,
        SixtyFourths(),
        np.array([[4.0]]),
        lambda data: data.sum(axis=1, keepdims=True) / 4,
        simulator,
        **options,
    )


def run_pmc(pmc, draws=16):
    """Advances by one generation; on a later call only if `draws` has changed."""
    pmc(draws, 64, criterion=1, percentile=75)  # the default of version 0.3
    names = ("parameters", "estimates", "distances", "weighting", "tolerance", "num_draws")
    return {name: getattr(pmc, name) for name in names}


THETA = np.arange(24.0).reshape(12, 2) + 1


def run_simulations(store, simulator):
    return lfi.simulate(simulator, THETA, batch_size=3, seed=13, store=store, progress=False)


# ---- RIM ---------------------------------------------------------------------------------

EPOCHS, STOPPED_AT = 4, 7
TRAINING = {"batch_size": 8, "verbose": 0, "learning_rate": 3e-3, "warmup": 10, "ema_decay": 0.9}
# No epoch halves the loss, so every epoch after the first counts as a miss.
STOPS = {"patience": STOPPED_AT - 1, "tolerance": 0.5, "checkpoints": 2, "models_to_keep": 1}


def score_fn(x, y, sigma):
    """Score of `y = x + sigma n` with one noise level for each example."""
    return (y[..., tf.newaxis] - x) / sigma[:, tf.newaxis, tf.newaxis] ** 2


def make_rim(network=None, **options):
    """A RIM of a vector of six numbers, compiled without XLA."""
    network = network or PutzkyWelling(1, 1, features=(3, 4, 3), seed=0)
    settings = {"score_fn": score_fn, "T": 3, "score_preprocessing_method": "adam"}
    if "likelihood" in options:
        del settings["score_fn"]
    rim = RIM([6], network, link_function="softplus", **{**settings, **options})
    rim.compile(jit_compile=False)
    return rim


def train(rim, examples, directory, epochs, seed=5):
    data = (examples["y"], examples["x"], examples["sigma"])
    options = {"checkpoints_directory": directory, "seed": seed, **TRAINING, **STOPS}
    return rim.fit(data, epochs=epochs, **options).history


def training_of(rim, history):
    """Weights and history of a trained RIM."""
    found = {f"weights/{k}": variable for k, variable in enumerate(rim.get_weights())}
    return found | {f"history/{name}": values for name, values in history.items()}


def predict(rim, examples):
    return rim.predict(examples["y"], examples["sigma"], T=4, trajectory=True, jit_compile=False)


LIKELIHOOD = GaussianLikelihood(lambda x: x[..., 0])
ARCHIVED = {
    "putzky_welling": lambda: make_rim(score_preprocessing_method="rmsprop"),
    "hourglass": lambda: make_rim(
        Hourglass(1, 1, nf=2, ch_mult=(2,), hidden_units=2, num_layers=1, seed=1),
        score_preprocessing_method="arcsinh",
        initialization_method="model",
    ),
    "unet": lambda: make_rim(
        UNet(1, 1, nf=2, ch_mult=(1,), hidden_units=2, recurrent_skips=True, seed=2),
        likelihood=LIKELIHOOD,
        observation_channels=1,
    ),
}
FUNCTIONS = {
    "putzky_welling": {"score_fn": score_fn},
    "hourglass": {"score_fn": score_fn},
    "unet": {"likelihood": LIKELIHOOD},
}


# ---- Files of simulations ----------------------------------------------------------------


def write_records(folder, simulations, compression=None):
    """Writes one file of fiducial and three of derivative simulations."""
    fiducial, derivative = simulations["fiducial"], simulations["derivative"]
    writer = TFRecords(record_size=0.003, compression=compression, verbose=False)
    return (
        writer.write_record(N_S, lambda seed: fiducial[seed], directory=folder),
        writer.write_record(
            N_D,
            lambda *label: derivative[label],
            fiducial=False,
            n_params=2,
            directory=folder,
        ),
    )


def open_records(fiducial, derivative, **options):
    return IMNN(
        θ_fid=THETA_FID,
        δθ=DELTA_THETA,
        fiducial=fiducial,
        derivative=derivative,
        model=make_model(),
        verbose=False,
        **options,
    )
