"""The recurrent inference machine beside torch_rim, on torch_rim's own problem.

Sixteen numbers from a mixture of ten Gaussians of width 0.5, seen through a random 32 x 16
matrix with noise of a random level between 0.01 and 1. Both packages train the same network
on the same 1,000 examples, 50 epochs of batches of 100 at a learning rate of 1e-3, and are
judged on the same 2,000 fresh ones, beside maximum likelihood and the exact posterior mean.
Speeds are measured in turns, so that what else the machine does hits both.

torch_rim needs an environment of its own, with torch==2.13.0 and torch_rim:

    python benchmarks/rim.py --torch path/to/that/python
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rim_tf import RIM, Hourglass, PutzkyWelling, TrajectoryLoss

SIZE, DATA, MODES, WIDTH = 16, 32, 10, 0.5
TRAIN, TEST, BATCH, EPOCHS = 1000, 2000, 100, 50
PREDICTION_BATCHES = (100, 500, 2000)


def centres() -> np.ndarray:
    """The mixture's components."""
    return np.random.default_rng(0).normal(size=(MODES, SIZE))


def draw(count: int, seed: int) -> tuple[np.ndarray, ...]:
    """Examples `(y, x, A, sigma)`, the parameters with their channel last."""
    random = np.random.default_rng(seed)
    x = centres()[random.integers(MODES, size=count)] + WIDTH * random.normal(size=(count, SIZE))
    a = random.normal(size=(count, DATA, SIZE))
    sigma = random.uniform(0.01, 1.0, size=count)
    y = np.einsum("nij,nj->ni", a, x) + sigma[:, None] * random.normal(size=(count, DATA))
    return tuple(v.astype("float32") for v in (y, x[..., None], a, sigma))


def maximum_likelihood(y: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Least squares, example by example."""
    return np.stack([np.linalg.lstsq(m, d)[0] for m, d in zip(a, y, strict=True)])


def posterior_mean(y: np.ndarray, a: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """The exact mean: the posterior is a mixture again, one Gaussian for each component."""
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
    """This package, in the role of torch_rim's worker."""

    def __init__(self, rim: Any, train: tuple[np.ndarray, ...], test: tuple[np.ndarray, ...]):
        self.rim, self.train, self.test = rim, train, test
        self.optimizer: dict[str, Any] = {"learning_rate": 1e-3}

    def fit(self, epochs: int) -> float:
        """Trains; how many seconds it took, the first time with compilation."""
        start = time.perf_counter()
        options = {"batch_size": BATCH, "seed": 0, "verbose": 0, **self.optimizer}
        self.rim.fit(self.train, epochs=epochs, **options)
        self.optimizer = {}  # only the first fit makes, and compiles, an optimiser
        return time.perf_counter() - start

    def predict(self, batch_size: int) -> tuple[float, float]:
        """Error on the fresh examples, and how many seconds they took."""
        y, x, *args = self.test
        start = time.perf_counter()
        estimate = self.rim.predict(y, *args, batch_size=batch_size)
        return float(np.mean((estimate - x) ** 2)), time.perf_counter() - start


def score_fn(x: Any, y: Any, a: Any, sigma: Any) -> Any:
    """Of the likelihood; `x` may have a channel or not."""
    flat = tf.reshape(x, [-1, SIZE])
    residual = y - tf.linalg.matvec(a, flat)
    score = tf.linalg.matvec(a, residual, transpose_a=True) / sigma[:, tf.newaxis] ** 2
    return tf.reshape(score, tf.shape(x))


def like_torch() -> RIM:
    """torch_rim's network, layer by layer."""
    return RIM([SIZE], Hourglass(1, seed=0), score_fn=score_fn)


def of_our_choice() -> RIM:
    """A dense network, since sixteen numbers are no field, that starts from least squares."""

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
    """Endless batches of examples no one has seen before."""
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


class Torch:
    """torch_rim, in a process of its own."""

    def __init__(self, python: str, folder: Path):
        worker = Path(__file__).with_name("rim_torch.py")
        # -P: or this file, of the same name, would be imported for torch_rim's package.
        self.process = subprocess.Popen(
            [python, "-P", str(worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        paths = {name: str(folder / f"{name}.npz") for name in ("train", "test")}
        self._send({**paths, "size": SIZE, "batch": BATCH})

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def ask(self, do: str, **options: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer."""
        self._send({"do": do, **options})
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def fit(self, epochs: int) -> float:
        """Trains; how many seconds it took."""
        return self.ask("fit", epochs=epochs)["seconds"]

    def predict(self, batch_size: int) -> tuple[float, float]:
        """Error on the fresh examples, and how many seconds they took."""
        answer = self.ask("predict", batch_size=batch_size)
        return answer["error"], answer["seconds"]


def speeds(contestants: dict[str, Any], rounds: int) -> dict[str, dict[str, float]]:
    """Updates and predictions a second, the best of several rounds taken in turns."""
    result: dict[str, dict[str, float]] = {name: {} for name in contestants}

    def best(name: str, what: str, rate: float) -> None:
        result[name][what] = max(result[name].get(what, 0.0), rate)

    epochs = 3
    for _ in range(rounds):
        for name, each in contestants.items():
            updates = epochs * TRAIN // BATCH
            best(name, "updates a second", updates / each.fit(epochs))
        for size in PREDICTION_BATCHES:
            for name, each in contestants.items():
                label = f"predictions a second, {size} at once"
                best(name, label, TEST / each.predict(size)[1])
    return result


def main() -> None:
    """Trains all, then measures all in turns, and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", help="the Python of torch_rim's environment")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--updates", type=int, default=3000, help="of the recipe of our choice")
    options = parser.parse_args()
    train, test = draw(TRAIN, 1), draw(TEST, 2)
    y, x, a, sigma = test
    for name, estimate in {
        "maximum likelihood": maximum_likelihood(y, a),
        "posterior mean": posterior_mean(y, a, sigma),
    }.items():
        print(f"{name}: error {np.mean((estimate - x[..., 0]) ** 2):.4f}", flush=True)
    contestants: dict[str, Any] = {
        "rim_tf, the same layers": Ours(like_torch(), train, test),
    }
    for name, each in contestants.items():
        print(f"{name}: {each.rim.count_params()} weights", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, data in {"train": train, "test": test}.items():
            np.savez(Path(folder) / name, y=data[0], x=data[1], a=data[2], sigma=data[3])
        if options.torch:
            contestants["torch_rim"] = Torch(options.torch, Path(folder))
            count = contestants["torch_rim"].ask("count")["weights"]
            print(f"torch_rim: {count} weights", flush=True)
        for name, each in contestants.items():
            seconds = each.fit(EPOCHS)
            error, _ = each.predict(500)
            print(f"{name}: error {error:.4f} after {seconds:.0f} s", flush=True)
        for name, rates in speeds(contestants, options.rounds).items():
            for what, rate in rates.items():
                print(f"{name}: {rate:.1f} {what}", flush=True)
        if options.torch:
            contestants["torch_rim"].process.stdin.close()
            contestants["torch_rim"].process.wait()
    report_our_choice(options.updates, test)


def report_our_choice(updates: int, test: tuple[np.ndarray, ...]) -> None:
    """Trains the recipe of our choice on fresh simulations."""
    rim, start = of_our_choice(), time.perf_counter()
    schedule = keras.optimizers.schedules.CosineDecay(2e-3, updates)
    rim.compile(keras.optimizers.Adam(schedule, global_clipnorm=1.0), TrajectoryLoss("last"))
    rim.fit(simulations(500), n_iterations_in_epoch=updates, verbose=0)
    y, x, a, sigma = test
    error = np.mean((rim.predict(y, a, sigma) - x[..., 0]) ** 2)
    seconds = time.perf_counter() - start
    print(f"rim_tf, recipe of our choice: error {error:.4f} after {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
