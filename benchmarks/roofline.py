"""Compares the time of an update with the limits of the machine, by a roofline model.

The arithmetic and the bytes are counted in the graph of the update itself, including validation
and optimiser. The ceilings are measured in alternation with the updates. They are the matrix
product or convolution with the most arithmetic, at its own shapes; `tf.matmul` at 2000 x 2000; and
copies of the largest tensor and of an array far larger than any cache. The roofline model predicts
that the slower of arithmetic and memory sets the time of an update. All variants are compared with
the arithmetic of the default, so work that a variant repeats counts as time, not as work.
"""

import sys
import time
from pathlib import Path

from common import finish, options
from machine import versions
from peer import Peer, serve

DENSE, CONVOLUTIONAL, MACHINE = "IMNN, dense", "IMNN, convolutional", "RIM, torch_rim's network"
PIXELS, N_S, N_PARAMS, STEP = 32, 500, 2, 0.1
# A variant whose update takes this many times longer than a measurement is timed only once.
PATIENCE = 3

# The variants change arguments of `IMNN`, of `fit` or of `compile`, or environment variables.
HALVES = "two halves in turn"
VARIANTS = {
    DENSE: ("default", "XLA", HALVES, "one thread for each operation", "one thread, " + HALVES),
    CONVOLUTIONAL: ("default", "XLA", HALVES),
    MACHINE: ("default", "without XLA"),
}


# ---- one process for each variant of a case ------------------------------------------------


def convolutional(at_once=None):
    """An IMNN of three strided convolutions on 500 fields with a slope and an amplitude."""
    import keras
    import numpy as np

    import imnn_tf

    def simulations(seed):
        noise = np.random.default_rng(seed).normal(size=(N_S, PIXELS, PIXELS, 1))
        ramp = np.linspace(-1, 1, PIXELS)[:, None, None]
        derivative = np.empty((N_S, 2, N_PARAMS, PIXELS, PIXELS, 1))
        for side, half in enumerate((-STEP / 2, STEP / 2)):
            derivative[:, side, 0] = noise + half * ramp
            derivative[:, side, 1] = noise * (1 + half)
        return noise.astype("float32"), derivative.astype("float32")

    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Conv2D(filters, 3, strides=2, padding="same", activation="leaky_relu")
        for filters in (32, 64, 64)
    ]
    shape = (PIXELS, PIXELS, 1)
    fiducial, derivative = simulations(0)
    validation_fiducial, validation_derivative = simulations(1)
    return imnn_tf.IMNN(
        θ_fid=np.array([0.0, 1.0]),
        δθ=np.full(N_PARAMS, STEP),
        fiducial=fiducial,
        derivative=derivative,
        validation_fiducial=validation_fiducial,
        validation_derivative=validation_derivative,
        model=keras.Sequential(
            [keras.Input(shape), *layers, keras.layers.Flatten(), keras.layers.Dense(N_PARAMS)]
        ),
        at_once=at_once,
        verbose=False,
    )


def imnn_worker(case, variant):
    """Functions that time and count an update of an IMNN, with validation at every update."""
    import arithmetic
    from imnn_in_memory import N_S as N_S_DENSE
    from imnn_in_memory import reference_fit

    if case == DENSE:
        at_once = N_S_DENSE // 2 if HALVES in variant else None
        imnn = reference_fit(verbose=False, at_once=at_once)
    else:
        imnn = convolutional(at_once=N_S // 2 if HALVES in variant else None)

    def update(count):
        started = time.perf_counter()
        imnn.fit(count, jit_compile=variant == "XLA")
        return (time.perf_counter() - started) / count

    return update, lambda: arithmetic.count_update(imnn)


def rim_worker(variant):
    """Functions that time and count an update of the RIM, on one batch."""
    import arithmetic
    import keras
    import tensorflow as tf
    from denoising import updates
    from rim import BATCH, draw, like_torch

    from rim_tf import TrajectoryLoss

    rim = like_torch()
    jit = {"jit_compile": False} if variant == "without XLA" else {}
    rim.compile(keras.optimizers.Adam(1e-3), TrajectoryLoss(), **jit)
    y, x, *args = draw(BATCH, 1)

    def count():
        inputs = (tuple(tf.constant(part) for part in (y, *args)), tf.constant(x))
        return arithmetic.count(lambda *data: rim.train_step(data), *inputs)

    return lambda count: updates(rim, (y, x, *args), count) / count, count


def worker(case, variant):
    """Answers requests for one variant of a case."""
    import arithmetic
    import yardsticks

    update, count = rim_worker(variant) if case == MACHINE else imnn_worker(case, variant)
    ceilings = {}

    def begin():
        work = count()
        ceilings["shapes"] = arithmetic.yardstick(work.heaviest)
        ceilings["matmul, 2000 cubed"] = yardsticks.matmul(2000, 2000)
        ceilings["copy of the largest tensor"] = yardsticks.copy(work.largest)
        ceilings["copy of 256 MB"] = yardsticks.copy(256e6)
        return {**work._replace(heaviest=str(work.heaviest.type))._asdict()}

    serve(
        {
            "begin": begin,
            "update": update,
            "ceilings": lambda seconds: {name: y.rate(seconds) for name, y in ceilings.items()},
        }
    )


# ---- the measurement -----------------------------------------------------------------------


def measure(case, rounds, seconds):
    """Times of an update of each variant, and the ceilings, in alternating rounds."""
    peers, counts, slow = {}, {}, {}
    one_thread = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "2"}
    for variant in VARIANTS[case]:
        environment = one_thread if variant.startswith("one thread") else {}
        program = (str(Path(__file__).resolve()), "--worker", case, variant)
        peers[variant] = Peer(sys.executable, *program, environment=environment)
    work, failed = peers["default"].ask("begin"), {}
    for variant, peer in list(peers.items()):
        try:
            peer.ask("update", count=1)  # compiles
            once = peer.ask("update", count=1)
            counts[variant] = max(1, int(seconds / once))
            if variant != "default" and once > PATIENCE * seconds:  # one time is enough
                slow[variant] = [once]
                peers.pop(variant).close()
        except RuntimeError as error:  # the report shows it instead of a time
            if variant == "default":
                raise
            failed[variant] = next(x for x in str(error).splitlines() if "Error" in x[:80])
            del peers[variant]
    taken, ceilings = {variant: [] for variant in peers}, {}
    for _ in range(rounds):
        for variant, peer in peers.items():
            taken[variant].append(peer.ask("update", count=counts[variant]))
        for name, rate in peers["default"].ask("ceilings", seconds=seconds / 2).items():
            ceilings.setdefault(name, []).append(rate)
    for peer in peers.values():
        peer.close()
    shapes = f"{work['heaviest']} at these shapes"
    ceilings = {shapes if name == "shapes" else name: rate for name, rate in ceilings.items()}
    measured = {"ceilings": ceilings, "seconds": {**taken, **slow}, "failed": failed}
    return {"work": work, "shapes": shapes, **measured}


def main():
    """Measures all cases and writes the results."""
    full, quick = {"rounds": 7, "seconds": 1.0}, {"rounds": 2, "seconds": 0.3}
    arguments = options(__doc__, "roofline", full, quick)
    if arguments.quick:  # XLA's convolutions take minutes on a CPU
        VARIANTS[CONVOLUTIONAL] = ("default", HALVES)
    result = {case: measure(case, arguments.rounds, arguments.seconds) for case in VARIANTS}
    finish("roofline", arguments.output, {"ours": versions()}, result)


if __name__ == "__main__":
    if "--worker" in sys.argv:
        at = sys.argv.index("--worker")
        worker(*sys.argv[at + 1 : at + 3])
    else:
        main()
