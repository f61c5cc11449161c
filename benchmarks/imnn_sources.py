"""Measures the updates a second with every source of simulations.

imnn-tf 0.2.0 is measured too where it has the same source. The problem is the reference problem of
`imnn_in_memory.py`, with validation at every update on a set from the same kind of source.

    python benchmarks/imnn_sources.py --predecessor path/to/its/python
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from imnn_in_memory import N_DRAWS, N_S, SETTINGS, initial_weights, network, simulations

# Sources whose simulations are held in memory after they are read; then all of them.
HELD = ("arrays", "functions", "TFRecords", "data sets")
OURS = (*HELD, "exact derivatives", "TFRecords, streamed", "simulator, differenced", "simulator")
PREFIXES = ("", "validation_")  # of the training set, seed 0, and the validation set, seed 1
THEIRS = ("arrays", "functions", "TFRecords")


# ---- the two sides, each in its own process ----------------------------------------------


def labelled(array):
    """A function that yields a simulation with its label, as imnn-tf 0.2.0 expects."""

    def load(*label):
        yield array[label].astype("float32"), label if len(label) > 1 else label[0]

    return load


def write_records(folder):
    """Writes the simulations as TFRecords, which both packages can read."""
    from imnn_tf.utils import TFRecords

    writer = TFRecords(record_size=1, verbose=False)
    for seed, prefix in enumerate(PREFIXES):
        fiducial, derivative = (part.astype("float32") for part in simulations(seed, N_S))
        writer.write_record(
            N_S, fiducial.__getitem__, directory=folder, filename=f"{prefix}fiducial"
        )
        writer.write_record(
            N_S,
            lambda *label, derivative=derivative: derivative[label],
            fiducial=False,
            n_params=2,
            directory=folder,
            filename=f"{prefix}derivative",
        )


def stored(source, folder, seed):
    """The `fiducial` and `derivative` arguments of either package for a source."""
    fiducial, derivative = (part.astype("float32") for part in simulations(seed, N_S))
    if source == "functions":
        return labelled(fiducial), labelled(derivative)
    if source.startswith("TFRecords"):
        names = (f"{PREFIXES[seed]}fiducial", f"{PREFIXES[seed]}derivative")
        return tuple(sorted(str(p) for p in Path(folder).glob(f"{name}_*")) for name in names)
    if source == "data sets":
        import tensorflow as tf

        from_slices = tf.data.Dataset.from_tensor_slices
        labels = np.stack(np.unravel_index(np.arange(4 * N_S), (N_S, 2, 2)), axis=1)
        flat = derivative.reshape(-1, N_DRAWS)
        return from_slices((fiducial, np.arange(N_S))), from_slices((flat, labels))
    if source == "exact derivatives":
        return fiducial, np.stack([np.ones_like(fiducial), fiducial / 2], axis=-1)
    return fiducial, derivative


def simulate(parameters, seed):
    """Gaussian draws `[batch, 10]` with the means and variances `parameters`, `[batch, 2]`."""
    import tensorflow as tf

    noise = tf.random.stateless_normal([tf.shape(parameters)[0], N_DRAWS], seed)
    return parameters[:, :1] + tf.sqrt(parameters[:, 1:]) * noise


def worker(side):
    """Answers requests for one side of the comparison."""
    import tensorflow as tf
    from peer import serve

    import imnn_tf

    fits = {}

    def begin(source, folder):
        model = network(tf.keras)
        model.set_weights(initial_weights())
        settings = {**SETTINGS, "model": model, "optimiser": tf.keras.optimizers.Adam(1e-3)}
        if source.startswith("simulator"):
            settings["simulator"] = simulate
        else:
            for seed, prefix in enumerate(PREFIXES):
                pair = stored(source, folder, seed)
                settings[f"{prefix}fiducial"], settings[f"{prefix}derivative"] = pair
        if source in ("exact derivatives", "simulator"):
            del settings["δθ"]
        if source == "TFRecords, streamed":
            settings["cache"] = False
        if side == "predecessor":  # 0.2.0 has no default for `at_once`
            settings["at_once"] = None if source == "arrays" else N_S
        fits[source] = imnn_tf.IMNN(**settings, verbose=side == "predecessor")

    def fit(source, updates):
        started = time.perf_counter()
        fits[source].fit(n_iterations=updates)
        return time.perf_counter() - started

    serve({"begin": begin, "fit": fit})


# ---- the comparison ----------------------------------------------------------------------


def rates_of(peer, sources, folder, seconds):
    """Begins every fit, and finds how many updates of each take about `seconds`."""
    updates = {}
    for source in sources:
        peer.ask("begin", source=source, folder=str(folder))
        peer.ask("fit", source=source, updates=2)  # compiles
        count = 2
        for share in (0.2, 1):  # long enough for the overhead of `fit` not to count
            once = peer.ask("fit", source=source, updates=count) / count
            count = max(2, int(share * seconds / once))
        updates[source] = count
    return updates


def main():
    """Runs the comparison and writes the results."""
    from common import finish, options
    from peer import Peer

    full, quick = {"repeats": 5, "seconds": 1.5}, {"repeats": 2, "seconds": 0.3}
    arguments = options(__doc__, "imnn_sources", full, quick, peers=("predecessor",))
    here = str(Path(__file__).resolve())
    sides = {"ours": (Peer(sys.executable, here, "--worker", "ours"), OURS)}
    if arguments.predecessor:
        theirs = Peer(arguments.predecessor, here, "--worker", "predecessor")
        sides["imnn-tf 0.2.0"] = (theirs, THEIRS)
    rates = {name: {source: [] for source in sources} for name, (_, sources) in sides.items()}
    with tempfile.TemporaryDirectory() as folder:
        write_records(folder)
        updates = {
            name: rates_of(peer, sources, folder, arguments.seconds)
            for name, (peer, sources) in sides.items()
        }
        for _ in range(arguments.repeats):
            for source in OURS:
                for name, (peer, sources) in sides.items():
                    if source in sources:
                        n = updates[name][source]
                        taken = peer.ask("fit", source=source, updates=n)
                        rates[name][source].append(n / taken)
        versions = {name: peer.ask("versions") for name, (peer, _) in sides.items()}
        for peer, _ in sides.values():
            peer.close()
    finish("imnn_sources", arguments.output, versions, {"updates_per_second": rates})


if __name__ == "__main__":
    if "--worker" in sys.argv:
        worker(sys.argv[sys.argv.index("--worker") + 1])
    else:
        main()
