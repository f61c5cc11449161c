"""Compares the recurrent inference machine with torch_rim, on torch_rim's own problem.

The problem is to reconstruct sixteen numbers from a mixture of ten Gaussians of width 0.5. The data
are their product with a random 32 x 16 matrix, plus noise of a random level between 0.01 and 1.
Both packages train the same network on the same 1,000 examples, for 50 epochs of batches of 100 at
a learning rate of 1e-3. Both are tested on the same 2,000 fresh examples, and compared with maximum
likelihood and the exact posterior mean. The speed measurements alternate, so that other work on the
machine affects both.

torch_rim needs its own environment, with torch==2.13.0 and torch_rim:

    python benchmarks/rim.py --torch path/to/that/python
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from common import finish, options
from machine import versions
from peer import Peer

from rim_tf import RIM, Hourglass, PutzkyWelling, TrajectoryLoss

SIZE, DATA, MODES, WIDTH = 16, 32, 10, 0.5
TRAIN, TEST, BATCH, EPOCHS = 1000, 2000, 100, 50
PREDICTION_BATCHES = (100, 500, 2000)


def centres() -> np.ndarray:
    """The means of the components of the mixture, `(MODES, SIZE)`."""
    return np.random.default_rng(0).normal(size=(MODES, SIZE))


def draw(count: int, seed: int) -> tuple[np.ndarray, ...]:
    """Examples `(y, x, A, sigma)`, where `x` has its channel last."""
    random = np.random.default_rng(seed)
    x = centres()[random.integers(MODES, size=count)] + WIDTH * random.normal(size=(count, SIZE))
    a = random.normal(size=(count, DATA, SIZE))
    sigma = random.uniform(0.01, 1.0, size=count)
    y = np.einsum("nij,nj->ni", a, x) + sigma[:, None] * random.normal(size=(count, DATA))
    return tuple(v.astype("float32") for v in (y, x[..., None], a, sigma))


def maximum_likelihood(y: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Maximum-likelihood estimates `(n, SIZE)`, by least squares for each example."""
    return np.stack([np.linalg.lstsq(m, d)[0] for m, d in zip(a, y, strict=True)])


def posterior_mean(y: np.ndarray, a: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """The exact posterior mean; the posterior is a mixture with one Gaussian per component."""
    result = np.empty((len(y), SIZE))
    for k in range(len(y)):
        matrix, data, noise = a[k].astype(float), y[k].astype(float), float(sigma[k]) ** 2
        evidence = noise * np.eye(DATA) + WIDTH**2 * matrix @ matrix.T
        gain = WIDTH**2 * np.linalg.solve(evidence, matrix).T
        misfit = data - centres() @ matrix.T
        log_weight = -0.5 * np.einsum("mi,mi->m", misfit, np.linalg.solve(evidence, misfit.T).T)
        weight = np.exp(log_weight - log_weight.max())
        result[k] = weight @ (centres() + misfit @ gain.T) / weight.sum()
    return result


class Ours:
    """This package, with the same methods as `Torch`."""

    def __init__(self, rim: Any, train: tuple[np.ndarray, ...], test: tuple[np.ndarray, ...]):
        self.rim, self.train, self.test = rim, train, test
        self.optimizer: dict[str, Any] = {"learning_rate": 1e-3}

    def fit(self, epochs: int) -> float:
        """Trains and returns the seconds it took; the first time they include compilation."""
        start = time.perf_counter()
        options = {"batch_size": BATCH, "seed": 0, "verbose": 0, **self.optimizer}
        self.rim.fit(self.train, epochs=epochs, **options)
        self.optimizer = {}  # only the first fit makes and compiles an optimiser
        return time.perf_counter() - start

    def predict(self, batch_size: int) -> tuple[float, float]:
        """The error on the fresh examples, and the seconds that predicting them took."""
        y, x, *args = self.test
        start = time.perf_counter()
        estimate = self.rim.predict(y, *args, batch_size=batch_size)
        seconds = time.perf_counter() - start
        return float(np.mean((estimate - x) ** 2)), seconds

    def weights(self) -> int:
        """The number of weights."""
        return int(self.rim.count_params())


class Torch:
    """torch_rim, in a process of its own."""

    def __init__(self, python: str, train: tuple[np.ndarray, ...], test: tuple[np.ndarray, ...]):
        worker = str(Path(__file__).with_name("rim_torch.py"))
        with tempfile.TemporaryDirectory() as folder:
            paths = [str(Path(folder) / f"{name}.npz") for name in ("train", "test")]
            for path, (y, x, a, sigma) in zip(paths, (train, test), strict=True):
                np.savez(path, y=y, x=x, a=a, sigma=sigma)
            # Without -P, Python would import this file instead of torch_rim's package `rim`.
            self.peer = Peer(python, "-P", worker, *paths, str(SIZE), str(BATCH))
            self.weights()  # waits until the worker has read the files

    def fit(self, epochs: int) -> float:
        """Trains and returns the seconds it took."""
        return self.peer.ask("fit", epochs=epochs)

    def predict(self, batch_size: int) -> tuple[float, float]:
        """The error on the fresh examples, and the seconds that predicting them took."""
        return self.peer.ask("predict", batch_size=batch_size)

    def weights(self) -> int:
        """The number of weights."""
        return self.peer.ask("weights")


def score_fn(x: Any, y: Any, a: Any, sigma: Any) -> Any:
    """The score of the likelihood, for `x` with or without a channel axis."""
    flat = tf.reshape(x, [-1, SIZE])
    residual = y - tf.linalg.matvec(a, flat)
    score = tf.linalg.matvec(a, residual, transpose_a=True) / sigma[:, tf.newaxis] ** 2
    return tf.reshape(score, tf.shape(x))


def like_torch() -> RIM:
    """A RIM with the same layers as torch_rim's network."""
    return RIM(
        [SIZE], Hourglass(1, seed=0), score_fn=score_fn, score_preprocessing_method="identity"
    )


def of_our_choice() -> RIM:
    """A RIM with a dense network, for numbers without a grid, that starts from least squares."""

    def least_squares(y: Any, a: Any, sigma: Any) -> Any:
        factor = tf.linalg.cholesky(tf.matmul(a, a, transpose_a=True))
        image = tf.linalg.matvec(a, y, transpose_a=True)
        return tf.linalg.cholesky_solve(factor, image[..., tf.newaxis])[..., 0]

    return RIM(
        [],
        PutzkyWelling(SIZE, 0, features=(256, 256, 256), activation="relu", seed=0),
        score_fn=score_fn,
        score_preprocessing_method="arcsinh",
        initialization_method="approximate_inverse",
        approximate_inverse_fn=least_squares,
    )


def simulations(batch_size: int) -> tf.data.Dataset:
    """Endless batches of new examples."""
    modes = tf.constant(centres(), tf.float32)

    def simulate(index: Any) -> Any:
        def normal(k: int, *shape: int) -> Any:
            return tf.random.stateless_normal([batch_size, *shape], (k, index))

        mode = tf.random.stateless_uniform([batch_size], (0, index), 0, MODES, tf.int32)
        sigma = tf.random.stateless_uniform([batch_size], (1, index), 0.01, 1.0)
        x = tf.gather(modes, mode) + WIDTH * normal(2, SIZE)
        a = normal(3, DATA, SIZE)
        y = tf.linalg.matvec(a, x) + sigma[:, tf.newaxis] * normal(4, DATA)
        return (y, a, sigma), x

    return tf.data.Dataset.counter().map(simulate, 1).prefetch(4)


def speeds(contestants: dict[str, Any], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Updates and predictions a second, in alternating rounds."""
    updates = "updates"
    predictions = {size: f"predictions, {size} at once" for size in PREDICTION_BATCHES}
    rates: dict[str, dict[str, list[float]]] = {
        what: {name: [] for name in contestants} for what in (updates, *predictions.values())
    }
    epochs = 3
    for _ in range(rounds):
        for name, each in contestants.items():
            rates[updates][name].append(epochs * TRAIN / BATCH / each.fit(epochs))
        for size, what in predictions.items():
            for name, each in contestants.items():
                rates[what][name].append(TEST / each.predict(size)[1])
    return rates


def train_our_choice(updates: int, test: tuple[np.ndarray, ...]) -> dict[str, float]:
    """Trains our own recipe on fresh simulations."""
    rim, start = of_our_choice(), time.perf_counter()
    schedule = keras.optimizers.schedules.CosineDecay(2e-3, updates)
    rim.compile(keras.optimizers.Adam(schedule, global_clipnorm=1.0), TrajectoryLoss("last"))
    rim.fit(simulations(500), n_iterations_in_epoch=updates, verbose=0)
    y, x, a, sigma = test
    error = float(np.mean((rim.predict(y, a, sigma) - x[..., 0]) ** 2))
    return {"error": error, "seconds": time.perf_counter() - start, "updates": updates}


def main() -> None:
    """Trains all networks, measures their speeds and writes the results."""
    full = {"rounds": 4, "epochs": EPOCHS, "updates": 3000}
    quick = {"rounds": 2, "epochs": 5, "updates": 100}
    arguments = options(__doc__ or "", "rim", full, quick, peers=("torch",))
    train, test = draw(TRAIN, 1), draw(TEST, 2)
    y, x, a, sigma = test
    contestants: dict[str, Any] = {"rim_tf, the same layers": Ours(like_torch(), train, test)}
    if arguments.torch:
        contestants["torch_rim"] = Torch(arguments.torch, train, test)
    trained = {}
    for name, each in contestants.items():
        seconds, weights = each.fit(arguments.epochs), each.weights()
        trained[name] = {"error": each.predict(500)[0], "seconds": seconds, "weights": weights}
        for size in PREDICTION_BATCHES:
            each.predict(size)  # compiles
    rates = speeds(contestants, arguments.rounds)
    found = {"rim_tf": versions()}
    if arguments.torch:
        found["torch_rim"] = contestants["torch_rim"].peer.ask("versions")
        contestants["torch_rim"].peer.close()
    trained["rim_tf, recipe of our choice"] = train_our_choice(arguments.updates, test)
    references = {
        "maximum likelihood": maximum_likelihood(y, a),
        "exact posterior mean": posterior_mean(y, a, sigma),
    }
    for name, estimate in references.items():
        trained[name] = {"error": float(np.mean((estimate - x[..., 0]) ** 2))}
    result = {"epochs": arguments.epochs, "trained": trained, "rates_per_second": rates}
    finish("rim", arguments.output, found, result)


if __name__ == "__main__":
    main()
