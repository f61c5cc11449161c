"""Writes the files in `version_0_3`. Run it with version 0.3 installed:

    python tests/compatibility/write_version_0_3.py FOLDER

It uses public names only. The test of the files imports the settings of every fit and inference
from here, so that it repeats the calls that wrote them.
"""

import shutil
import sys
from contextlib import suppress
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from imnn_tf import IMNN, lfi, refine
from imnn_tf.utils import TFRecords
from rim_tf import RIM, GaussianLikelihood, Hourglass, PutzkyWelling, UNet

VERSION_0_3 = Path(__file__).parent / "version_0_3"

N_S, N_D, N_DRAWS = 40, 20, 10
THETA_FID, DELTA_THETA = np.array([0.0, 1.0]), np.array([0.1, 0.1])


class Killed(BaseException):
    """Ends a fit without giving it the chance to save, as the end of its process would."""


class Kill(keras.callbacks.Callback):
    """Kills a fit after a number of updates."""

    def __init__(self, updates):
        super().__init__()
        self.updates = updates

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.updates:
            raise Killed


# ---- IMNN --------------------------------------------------------------------------------


def make_simulations(seed):
    """Fiducial `[n_s, 10]` and derivative `[n_d, 2, 2, 10]` draws of a normal distribution."""
    noise = np.random.default_rng(seed).normal(size=(N_S, N_DRAWS))
    sides = np.array([-0.5, 0.5])[:, None, None] * np.diag(DELTA_THETA)
    mean, variance = np.split(THETA_FID + sides, 2, axis=-1)
    varied = mean + np.sqrt(variance) * noise[:N_D, None, None]
    return noise.astype("float32"), varied.astype("float32")


def write_simulations(folder):
    """Writes the simulations of all fits. A later NumPy might draw others."""
    fiducial, derivative = make_simulations(0)
    validation_fiducial, validation_derivative = make_simulations(1)
    np.savez(
        folder / "simulations.npz",
        fiducial=fiducial,
        derivative=derivative,
        validation_fiducial=validation_fiducial,
        validation_derivative=validation_derivative,
        data=make_simulations(2)[0][:5],
    )


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


def make_optimiser():
    return keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.4, 5, 0.9))


FITTED, FURTHER = 13, 4
KILLED, CHECKPOINT, WHOLE = 7, 3, 10
PUBLISHED = {"regulariser": "published", "λ": 8.0, "ε": 0.1}
MOVES = {"tolerance": 1e-6, "max_steps": 3, "n_iterations": 4, "bounds": ([-2, 0.3], [2, 3])}


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


def write_fits(folder):
    simulations, data = read_simulations(folder)
    place = folder / "imnn"
    for save in (True, False):
        options = {"save": save, "model": make_model(), "optimiser": make_optimiser()}
        fitted = open_fit(place, "fitted", simulations, **options)
        fitted.fit(FITTED)
    write_results(folder, "fitted", results_of(fitted, data))
    # The best weights, which the fit ends on, must differ from the latest, where it resumes.
    assert np.argmax(fitted.history["val_det_F"]) < FITTED - 1
    fitted.fit(FURTHER)
    write_results(folder, "fitted_further", results_of(fitted, data))

    # Two batches in each update.
    options = {"at_once": 25, "optimiser": keras.optimizers.Adam(0.1)}
    killed = open_fit(place, "killed", simulations, save=True, model=make_model(), **options)
    with suppress(Killed):
        killed.fit(WHOLE, checkpoint=CHECKPOINT, callbacks=[Kill(KILLED)], **PUBLISHED)
    whole = open_fit(place, "killed", simulations, model=make_model(), **options)
    whole.fit(WHOLE, **PUBLISHED)
    write_results(folder, "killed_further", results_of(whole, data))

    for save in (True, False):
        options = {"save": save, "model": make_model("float64", 0.0)}
        moved = open_moved(place, optimiser=make_optimiser(), **options)
        refine(moved, data.astype("float64"), **MOVES)
    write_results(folder, "moved", results_of(moved, data))
    moved.fit(FURTHER)
    write_results(folder, "moved_further", results_of(moved, data))


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
    pmc(draws, 64, criterion=1)
    names = ("parameters", "estimates", "distances", "weighting", "tolerance", "num_draws")
    return {name: getattr(pmc, name) for name in names}


THETA = np.arange(24.0).reshape(12, 2) + 1


def run_simulations(store, simulator):
    return lfi.simulate(simulator, THETA, batch_size=3, seed=13, store=store, progress=False)


def failing_draws(parameters, seeds):
    if (parameters > 15).any():
        raise RuntimeError("from the middle on")
    return gaussian_draws(parameters, seeds)


def write_inferences(folder):
    place = folder / "lfi"
    data = read_simulations(folder)[1]
    abc = open_abc(place / "abc", Counting(gaussian_draws), data)
    write_results(folder, "abc", run_abc(abc, place / "simulations"))
    abc.result(1).save(place / "posterior.npz")
    later = open_abc(None, Counting(gaussian_draws), data)
    run_abc(later)
    later(20)
    write_results(folder, "abc_further", {"estimates": later.estimates})

    pmc = open_pmc(place / "pmc", Counting(shifted))
    write_results(folder, "pmc", run_pmc(pmc))
    later = open_pmc(None, Counting(shifted))
    run_pmc(later)
    write_results(folder, "pmc_further", run_pmc(later, 24))

    with suppress(lfi.SimulationError):
        run_simulations(place / "simulate", Counting(failing_draws))
    whole = run_simulations(None, Counting(gaussian_draws))
    write_results(folder, "simulate", {"x": whole.x})


# ---- RIM ---------------------------------------------------------------------------------

EPOCHS, STOPPED_AT = 4, 7
TRAINING = {"batch_size": 8, "verbose": 0, "learning_rate": 3e-3, "warmup": 10, "ema_decay": 0.9}
# No epoch halves the loss, so every epoch after the first counts as a miss.
STOPS = {"patience": STOPPED_AT - 1, "tolerance": 0.5, "checkpoints": 2, "models_to_keep": 1}


def score_fn(x, y, sigma):
    """Score of `y = x + sigma n` with one noise level for each example."""
    return (y[..., tf.newaxis] - x) / sigma[:, tf.newaxis, tf.newaxis] ** 2


def make_rim(network=None, *, compiled=True, **options):
    """A RIM of a vector of six numbers, compiled without XLA."""
    network = network or PutzkyWelling(1, 1, features=(3, 4, 3), seed=0)
    settings = {"score_fn": score_fn, "T": 3, "score_preprocessing_method": "adam"}
    if "likelihood" in options:
        del settings["score_fn"]
    rim = RIM([6], network, link_function="softplus", **{**settings, **options})
    if compiled:
        rim.compile(jit_compile=False)
    return rim


def make_examples():
    """Training data `(y, x, sigma)`: 16 positive vectors of six numbers."""
    random = np.random.default_rng(21)
    x, sigma = random.uniform(0.2, 2.0, size=(16, 6)), random.uniform(0.2, 0.6, size=16)
    y = x + sigma[:, None] * random.normal(size=x.shape)
    return {"y": y.astype("float32"), "x": x[..., None].astype("float32"), "sigma": sigma}


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


def write_rims(folder):
    place = folder / "rim"
    examples = make_examples()
    write_results(folder, "examples", examples)
    first = make_rim()
    history = train(first, examples, place / "checkpoints", EPOCHS)
    found = {**training_of(first, history), "trajectory": predict(first, examples)}
    write_results(folder, "rim", found)
    copy = folder / "copy"
    shutil.copytree(place / "checkpoints", copy)
    later = make_rim()
    history = train(later, examples, copy, 20)
    shutil.rmtree(copy)
    assert len(history["loss"]) == STOPPED_AT
    write_results(folder, "rim_further", training_of(later, history))
    # Zipped, because Keras does not compress its archives.
    with ZipFile(place / "models.zip", "w", ZIP_DEFLATED) as models:
        for name, make in ARCHIVED.items():
            rim = make()
            data = (examples["y"], examples["x"], examples["sigma"])
            rim.fit(data, epochs=2, seed=6, **{**TRAINING, "ema_decay": 0.0})
            path = folder / f"{name}.keras"
            rim.save(path)
            models.write(path, path.name)
            path.unlink()
            found = {"trajectory": predict(rim, examples)}
            history = rim.fit(data, epochs=1, seed=7, batch_size=8, verbose=0).history
            write_results(folder, name, {**found, "loss": history["loss"]})


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


def write_files(folder):
    place = folder / "tfrecords"
    simulations = read_simulations(folder)[0]
    found = open_records(simulations["fiducial"], simulations["derivative"])
    write_results(folder, "tfrecords", {"F": found.F})
    write_records(place / "gzip", simulations, "GZIP")
    files = write_records(place / "plain", simulations)
    open_records(*files, cache=place / "copy")
    # The names of the copies depend on the path and time of the files, which the test changes.
    for path in (place / "copy").iterdir():
        path.rename(path.with_stem(path.stem.partition("-")[0]))


# ---- All of them -------------------------------------------------------------------------


def write_results(folder, name, results):
    (folder / "expected").mkdir(exist_ok=True)
    np.savez_compressed(folder / "expected" / f"{name}.npz", **results)


def main(folder):
    folder.mkdir(parents=True)
    write_simulations(folder)
    for write in (write_fits, write_inferences, write_rims, write_files):
        write(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
