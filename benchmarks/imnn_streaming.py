"""Fits a data set larger than memory, and measures the peak memory and the speed.

The benchmark writes images of 128 x 128 pixels and their derivatives to TFRecords of a given total
size, and fits them for a few updates while it streams them. Then it does the same with twice the
size. The yardstick is a `tf.data` pipeline that only reads and parses the same files, in parallel
and in whole batches. An update goes through the files twice, so it is compared with two passes of
the pipeline. No peer can run this: imnn-tf 0.2.0 keeps in memory everything that it reads.

    python benchmarks/imnn_streaming.py --gigabytes 8 --folder somewhere/with/room/for/16
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import versions

PIXELS, N_PARAMS = 128, 2
STEP = 0.1
VARIANTS = 1 + 2 * N_PARAMS  # simulations that share a seed
FIELDS = 64
BATCH = 500


def write(folder, n):
    """Writes noise images. One parameter shifts their mean, the other scales their amplitude."""
    from imnn_tf.utils import TFRecords

    shape = (FIELDS, PIXELS, PIXELS)
    noise = np.random.default_rng(0).normal(size=shape).astype("float32")

    def fiducial(seed):
        return np.roll(noise[seed % FIELDS], seed // FIELDS)

    def derivative(seed, side, parameter):
        half = np.float32(STEP / 2 if side else -STEP / 2)
        return fiducial(seed) + half if parameter == 0 else fiducial(seed) * (1 + half)

    writer = TFRecords(record_size=150)
    writer.write_record(n, fiducial, directory=folder)
    writer.write_record(n, derivative, fiducial=False, n_params=N_PARAMS, directory=folder)


def network(keras):
    """A network so light that reading the files, not the network, limits the speed."""
    return keras.Sequential(
        [
            keras.Input((PIXELS, PIXELS)),
            keras.layers.Reshape((PIXELS, PIXELS, 1)),
            keras.layers.AveragePooling2D(8),
            keras.layers.Flatten(),
            keras.layers.Dense(32),
            keras.layers.LeakyReLU(0.01),
            keras.layers.Dense(2),
        ]
    )


# ---- one process for each measurement, because peak memory is per process ----------------


def worker(folder, n):
    """Answers requests for measurements on one data set."""
    import tensorflow as tf
    from peer import serve

    import imnn_tf

    names = ("fiducial", "derivative")
    files = {name: sorted(Path(folder).glob(f"{name}_*.tfrecords")) for name in names}
    imnn = None

    def begin():
        nonlocal imnn
        started = time.perf_counter()
        imnn = imnn_tf.IMNN(
            θ_fid=np.array([0.0, 1.0]),
            δθ=np.array([STEP, STEP]),
            n_s=n,
            n_d=n,
            model=network(tf.keras),
            cache=False,
            verbose=False,
            **files,
        )
        return time.perf_counter() - started

    def update(count):
        started = time.perf_counter()
        imnn.fit(count)
        return (time.perf_counter() - started) / count

    def read_and_parse():
        labels = {"seed": tf.io.FixedLenFeature([], tf.int64)}
        features = {"data": tf.io.FixedLenFeature([], tf.string), **labels}

        def parse(records):
            parsed = tf.io.parse_example(records, features)
            return tf.io.decode_raw(parsed["data"], tf.float32), parsed["seed"]

        every = [str(path) for paths in files.values() for path in paths]
        batches = (
            tf.data.TFRecordDataset(every, buffer_size=2**23, num_parallel_reads=2)
            .batch(BATCH)
            .map(parse, num_parallel_calls=2)
            .prefetch(2)
        )
        started, count = time.perf_counter(), 0
        for _, seeds in batches:
            count += len(seeds)
        assert count == n * VARIANTS
        return time.perf_counter() - started

    def peak_memory():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    serve({"begin": begin, "update": update, "read": read_and_parse, "peak_memory": peak_memory})


def measure(folder, n, rounds):
    """Peak memory, and alternating times of an update and of reading and parsing twice."""
    from peer import Peer

    program = (str(Path(__file__).resolve()), "--worker", str(folder), str(n))
    fit, read = (Peer(sys.executable, *program) for _ in range(2))
    opened = fit.ask("begin")
    fit.ask("update", count=1)  # compiles
    read.ask("read")
    updates, reads = [], []
    for _ in range(rounds):
        updates.append(fit.ask("update", count=1))
        reads.append(2 * read.ask("read"))
    result = {
        "simulations": n * VARIANTS,
        "gigabytes": sum(path.stat().st_size for path in Path(folder).glob("*.tfrecords")) / 1e9,
        "seconds to check and index": opened,
        "seconds of an update": updates,
        "seconds to read and parse twice": reads,
        "peak memory in gigabytes": fit.ask("peak_memory") / 1e9,
    }
    fit.close()
    read.close()
    return result


def main():
    """Measures a data set and another of twice the size."""
    from common import finish, options

    full = {"gigabytes": 8.0, "rounds": 3, "folder": tempfile.gettempdir()}
    quick = {"gigabytes": 0.2, "rounds": 2}
    arguments = options(__doc__, "imnn_streaming", full, quick)
    results = []
    for size in (arguments.gigabytes, 2 * arguments.gigabytes):
        n = round(size * 1e9 / (VARIANTS * 4 * PIXELS**2))
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            write(folder, n)
            results.append(measure(folder, n, arguments.rounds))
    finish("imnn_streaming", arguments.output, {"ours": versions()}, results)


if __name__ == "__main__":
    if "--worker" in sys.argv:
        at = sys.argv.index("--worker")
        worker(sys.argv[at + 1], int(sys.argv[at + 2]))
    else:
        main()
