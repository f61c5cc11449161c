"""Compares this package with imnn-tf 0.2.0 on the same arrays, model, weights and updates.

The reference problem: each simulation is ten Gaussian draws, the parameters are their mean and
variance, and the exact det F is 50. There are a thousand simulations and as many derivatives. The
network has two hidden layers of 128 units and is validated at every update. `make bench` runs this
file.
"""

import sys
import time
from pathlib import Path

import numpy as np

N_DRAWS, N_S, WIDTH = 10, 1000, 128
STEP = 0.1


def simulations(seed, n):
    """Fiducial `[n, 10]` and derivative `[n, 2, 2, 10]` simulations with the same seeds."""
    noise = np.random.default_rng(seed).normal(size=(n, N_DRAWS))
    derivative = np.empty((n, 2, 2, N_DRAWS))
    for side, half in enumerate((-STEP / 2, STEP / 2)):
        derivative[:, side, 0] = noise + half
        derivative[:, side, 1] = noise * np.sqrt(1 + half)
    return noise, derivative


# Arguments that describe the problem to both packages.
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
    """The network, built with the Keras of either package."""
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
    """Initial weights for both packages, from Glorot's uniform distribution."""
    rng = np.random.default_rng(10)
    weights = []
    for size, units in ((N_DRAWS, WIDTH), (WIDTH, WIDTH), (WIDTH, 2)):
        limit = np.sqrt(6 / (size + units))
        weights += [rng.uniform(-limit, limit, (size, units)), np.zeros(units)]
    return [weight.astype("float32") for weight in weights]


def det_fisher(predict, seed=2, n=100_000):
    """Det F of a compression on simulations that no fit has seen, computed with NumPy alone."""
    fiducial, derivative = (part.astype("float32") for part in simulations(seed, n))
    covariance = np.cov(predict(fiducial), rowvar=False)
    slope = [
        (predict(derivative[:, 1, p]) - predict(derivative[:, 0, p])).mean(0) / STEP
        for p in range(2)
    ]
    slope = np.array(slope, "float64")
    return float(np.linalg.det(slope @ np.linalg.inv(covariance) @ slope.T))


def reference_fit(learning_rate=1e-3, **settings):
    """An IMNN for the reference problem, from the installed versions of `imnn_tf` and Keras."""
    import tensorflow as tf

    import imnn_tf

    fiducial, derivative = simulations(0, N_S)
    validation_fiducial, validation_derivative = simulations(1, N_S)
    model = network(tf.keras)
    model.set_weights(initial_weights())
    return imnn_tf.IMNN(
        **SETTINGS,
        fiducial=fiducial,
        derivative=derivative,
        validation_fiducial=validation_fiducial,
        validation_derivative=validation_derivative,
        model=model,
        optimiser=tf.keras.optimizers.Adam(learning_rate),
        **settings,
    )


# ---- the two sides, each in its own process ----------------------------------------------


def worker(side):
    """Answers requests for one side of the comparison."""
    from peer import serve

    imnn = model = None

    def begin(learning_rate):
        nonlocal imnn, model
        # Without `verbose`, imnn-tf 0.2.0 exits silently on any error.
        imnn = reference_fit(learning_rate, verbose=side == "predecessor")
        model = imnn.model

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

    def matmul_rate(rows, width):
        from yardsticks import matmul

        return matmul(rows, width).rate()

    serve(
        {
            "begin": begin,
            "fit": fit,
            "score": score,
            "first_passing": first_passing,
            "matmul_rate": matmul_rate,
        }
    )


# ---- the comparison ----------------------------------------------------------------------

# Multiplications and additions of one update with validation: two forward passes, and a backward
# pass that needs no gradient with respect to the input.
LAYERS = N_DRAWS * WIDTH + WIDTH * WIDTH + WIDTH * 2
UPDATE_FLOP = 2 * 5 * N_S * (3 * LAYERS - N_DRAWS * WIDTH) + 2 * 5 * N_S * LAYERS


def compare(peers, repeats, updates):
    """Updates a second of each side, in alternating rounds."""
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
                ours.ask("matmul_rate", rows=5 * N_S, width=WIDTH),
                ours.ask("matmul_rate", rows=2000, width=2000),
            )
        )
    return rates, ceilings


def race(peer, budgets, learning_rate, piece):
    """Det F after given wall times of fitting, including compilation."""
    peer.ask("begin", learning_rate=learning_rate)
    elapsed, rows = 0.0, []
    for budget in budgets:
        while elapsed < budget:
            elapsed += peer.ask("fit", updates=piece)
        rows.append({"seconds": elapsed, **peer.ask("score")})
    return rows


def time_to_pass(peer, threshold):
    """Updates and seconds until det F of the validation set reaches `threshold`."""
    peer.ask("begin", learning_rate=3e-3)
    compiling = peer.ask("fit", updates=1)
    seconds, updates = compiling, None
    while updates is None:
        seconds += peer.ask("fit", updates=10)
        updates = peer.ask("first_passing", threshold=threshold)
    return {"updates": updates, "seconds": seconds, "of which compilation": compiling}


def main():
    """Runs the comparison and writes the results."""
    from common import finish, options
    from peer import Peer

    full = {"repeats": 9, "updates": 100, "budgets": (1.0, 2.0, 5.0, 20.0, 71.0)}
    quick = {"repeats": 3, "updates": 50, "budgets": (1.0, 2.0)}
    arguments = options(__doc__, "imnn_in_memory", full, quick, peers=("predecessor",))
    here = str(Path(__file__).resolve())
    peers = {name: Peer(sys.executable, here, "--worker", "ours") for name in ("ours", "ours, XLA")}
    if arguments.predecessor:
        peers["imnn-tf 0.2.0"] = Peer(arguments.predecessor, here, "--worker", "predecessor")
    rates, ceilings = compare(peers, arguments.repeats, arguments.updates)
    result = {
        "updates_per_second": rates,
        "matmul_flop_per_second": ceilings,
        "update_flop": UPDATE_FLOP,
        "race": {"ours": race(peers["ours"], [b for b in arguments.budgets if b <= 5], 3e-3, 25)},
    }
    if arguments.predecessor:
        theirs = race(peers["imnn-tf 0.2.0"], arguments.budgets, 1e-3, 25)
        result["race"]["imnn-tf 0.2.0"] = theirs
    result["passes_43"] = {name: time_to_pass(peers["ours"], 43) for name in ("ours", "ours again")}
    versions = {name: peer.ask("versions") for name, peer in peers.items()}
    for peer in peers.values():
        peer.close()
    finish("imnn_in_memory", arguments.output, versions, result)


if __name__ == "__main__":
    if "--worker" in sys.argv:
        worker(sys.argv[sys.argv.index("--worker") + 1])
    else:
        main()
