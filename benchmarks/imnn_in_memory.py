"""This package and imnn-tf 0.2.0 on the same arrays, weights, model and number of updates.

Mean and variance of ten Gaussian draws (the exact det F is 50), a thousand simulations and as
many derivatives, two hidden layers of 128, validation at every update. Run by `make bench`.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import numpy as np

N_DRAWS, N_S, WIDTH = 10, 1000, 128
STEP = 0.1


def simulations(seed, n):
    """Fiducial `[n, 10]` and derivative `[n, 2, 2, 10]` simulations of matched seeds."""
    noise = np.random.default_rng(seed).normal(size=(n, N_DRAWS))
    derivative = np.empty((n, 2, 2, N_DRAWS))
    for side, half in enumerate((-STEP / 2, STEP / 2)):
        derivative[:, side, 0] = noise + half
        derivative[:, side, 1] = noise * np.sqrt(1 + half)
    return noise, derivative


# What both packages are told of the problem.
SETTINGS = {
    "n_s": N_S,
    "n_d": N_S,
    "n_params": 2,
    "n_summaries": 2,
    "θ_fid": np.array([0.0, 1.0]),
    "δθ": np.array([STEP, STEP]),
    "input_shape": (N_DRAWS,),
}


def network(keras):
    """The network of both, in the Keras of either."""
    return keras.Sequential(
        [
            keras.Input(shape=(N_DRAWS,)),
            keras.layers.Dense(WIDTH),
            keras.layers.LeakyReLU(0.01),
            keras.layers.Dense(WIDTH),
            keras.layers.LeakyReLU(0.01),
            keras.layers.Dense(2),
        ]
    )


def initial_weights():
    """The same weights for both, from Glorot's uniform distribution."""
    rng = np.random.default_rng(10)
    weights = []
    for size, units in ((N_DRAWS, WIDTH), (WIDTH, WIDTH), (WIDTH, 2)):
        limit = np.sqrt(6 / (size + units))
        weights += [rng.uniform(-limit, limit, (size, units)), np.zeros(units)]
    return [weight.astype("float32") for weight in weights]


def det_fisher(predict, seed=2, n=100_000):
    """Det F of a compression on simulations that no fit has seen, computed by NumPy alone."""
    fiducial, derivative = (part.astype("float32") for part in simulations(seed, n))
    covariance = np.cov(predict(fiducial), rowvar=False)
    slope = [
        (predict(derivative[:, 1, p]) - predict(derivative[:, 0, p])).mean(0) / STEP
        for p in range(2)
    ]
    slope = np.array(slope, "float64")
    return float(np.linalg.det(slope @ np.linalg.inv(covariance) @ slope.T))


# ---- the two sides, each in its own process ----------------------------------------------


def worker(side):
    """Serves one side of the comparison."""
    import tensorflow as tf
    from peer import serve

    import imnn_tf

    keras = tf.keras
    model = network(keras)
    fiducial, derivative = simulations(0, N_S)
    validation_fiducial, validation_derivative = simulations(1, N_S)
    imnn = None

    def begin(learning_rate):
        nonlocal imnn
        model.set_weights(initial_weights())
        imnn = imnn_tf.IMNN(
            **SETTINGS,
            fiducial=fiducial,
            derivative=derivative,
            validation_fiducial=validation_fiducial,
            validation_derivative=validation_derivative,
            model=model,
            optimiser=keras.optimizers.Adam(learning_rate),
            verbose=side == "predecessor",  # without it, this one ends silently on any error
        )

    def fit(updates, **settings):
        started = time.perf_counter()
        imnn.fit(n_iterations=updates, **settings)
        return time.perf_counter() - started

    def score():
        history = imnn.history["val_det_F"]
        predict = lambda data: model.predict(data, batch_size=20_000, verbose=0)  # noqa: E731
        return {
            "updates": len(history),
            "validation": float(np.max(history)),
            "fresh": det_fisher(predict),
        }

    def first_passing(threshold):
        reached = np.flatnonzero(np.array(imnn.history["val_det_F"]) >= threshold)
        return int(reached[0]) + 1 if reached.size else None

    def matmul_rate(rows, inner, columns, seconds=0.3):
        a, b = tf.random.normal((rows, inner)), tf.random.normal((inner, columns))

        @tf.function
        def several():
            total = tf.constant(0.0)
            for _ in range(10):  # each waits for the one before
                total = tf.matmul(a, b + 1e-30 * total)[0, 0]
            return total

        several()
        started, calls = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            several()
            calls += 1
        return 2 * rows * inner * columns * 10 * calls / (time.perf_counter() - started)

    serve(
        {
            "begin": begin,
            "fit": fit,
            "score": score,
            "first_passing": first_passing,
            "matmul_rate": matmul_rate,
            "versions": lambda: {"tensorflow": tf.__version__, "imnn_tf": imnn_tf.__version__},
        }
    )


# ---- the comparison ----------------------------------------------------------------------

# Multiplications and additions of one update with validation: forward twice, and backward
# through all but the input.
LAYERS = N_DRAWS * WIDTH + WIDTH * WIDTH + WIDTH * 2
UPDATE_FLOP = 2 * 5 * N_S * (3 * LAYERS - N_DRAWS * WIDTH) + 2 * 5 * N_S * LAYERS


def compare(peers, repeats, updates):
    """Updates a second of each side, taking turns."""
    rates = {name: [] for name in peers}
    ceilings = []
    settings = {name: {"jit_compile": True} if name == "ours, XLA" else {} for name in peers}
    for name, peer in peers.items():
        peer.ask("begin", learning_rate=1e-3)
        peer.ask("fit", updates=10, **settings[name])  # compiles
    for _ in range(repeats):
        for name, peer in peers.items():
            rates[name].append(updates / peer.ask("fit", updates=updates, **settings[name]))
        ours = peers["ours"]
        ceilings.append(
            (
                ours.ask("matmul_rate", rows=5 * N_S, inner=WIDTH, columns=WIDTH),
                ours.ask("matmul_rate", rows=2000, inner=2000, columns=2000),
            )
        )
    return {name: np.array(values) for name, values in rates.items()}, np.array(ceilings)


def race(peer, budgets, learning_rate, piece):
    """Det F after given wall times of fitting, compilation included."""
    peer.ask("begin", learning_rate=learning_rate)
    elapsed, rows = 0.0, []
    for budget in budgets:
        while elapsed < budget:
            elapsed += peer.ask("fit", updates=piece)
        rows.append({"seconds": elapsed, **peer.ask("score")})
    return rows


def main():
    """Runs the comparison and writes what it found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--predecessor", required=True, help="Python of its environment")
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results/imnn_in_memory.json")
    )
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--budgets", type=float, nargs="+", default=[1, 2, 5, 20, 71])
    arguments = parser.parse_args()
    here = str(Path(__file__).resolve())
    from peer import Peer

    peers = {
        "ours": Peer(sys.executable, here, "--worker", "ours"),
        "ours, XLA": Peer(sys.executable, here, "--worker", "ours"),
        "imnn-tf 0.2.0": Peer(arguments.predecessor, here, "--worker", "predecessor"),
    }
    rates, ceilings = compare(peers, arguments.repeats, arguments.updates)
    theirs = rates["imnn-tf 0.2.0"]
    result = {
        "machine": f"{platform.processor() or platform.machine()}, 2 cores",
        "versions": {name: peer.ask("versions") for name, peer in peers.items()},
        "updates_per_second": {name: values.tolist() for name, values in rates.items()},
        "matmul_flop_per_second": ceilings.tolist(),
        "update_flop": UPDATE_FLOP,
    }
    for name, values in rates.items():
        share = UPDATE_FLOP * np.median(values) / np.median(ceilings, axis=0)
        print(
            f"{name:14s} {np.median(values):6.0f} updates/s "
            f"({values.min():.0f} to {values.max():.0f}), "
            f"{np.median(values / theirs):.2f} times the predecessor; "
            f"{100 * share[0]:.0f} % of tf.matmul at these shapes, {100 * share[1]:.0f} % at large"
        )
    result["race"] = {
        "ours": race(peers["ours"], [b for b in arguments.budgets if b <= 5], 3e-3, 25),
        "imnn-tf 0.2.0": race(peers["imnn-tf 0.2.0"], arguments.budgets, 1e-3, 25),
    }
    for name, rows in result["race"].items():
        for row in rows:
            print(
                f"{name:14s} {row['seconds']:6.1f} s {row['updates']:6d} updates: best validation "
                f"{row['validation']:.1f}, det F on fresh simulations {row['fresh']:.1f}"
            )
    passing = {}
    for name in ("ours", "ours again"):
        passing[name] = time_to_pass(peers["ours"], 43)
        print(f"{name}: validation passes 43 after {passing[name]}")
    result["passes_43"] = passing
    for peer in peers.values():
        peer.close()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def time_to_pass(peer, threshold):
    """Updates and seconds until the validation set has this det F."""
    peer.ask("begin", learning_rate=3e-3)
    compiling = peer.ask("fit", updates=1)
    seconds, updates = compiling, None
    while updates is None:
        seconds += peer.ask("fit", updates=10)
        updates = peer.ask("first_passing", threshold=threshold)
    return {"updates": updates, "seconds": seconds, "of which compilation": compiling}


if __name__ == "__main__":
    if "--worker" in sys.argv:
        worker(sys.argv[sys.argv.index("--worker") + 1])
    else:
        main()
