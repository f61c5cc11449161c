"""Every kind of source that a user can pass, with the same simulations in it."""

import numpy as np
import reference
import tensorflow as tf

from imnn_tf.simulations.batch import WHOLE
from imnn_tf.utils import TFRecords

N_S, N_D = 30, 20
# TFRecord files hold numbers in single precision.
FIDUCIAL, DERIVATIVE = (part.astype("float32") for part in reference.simulations(0, N_S, N_D))


def written(folder, compression=None):
    writer = TFRecords(record_size=0.0005, compression=compression, verbose=False)
    return (
        writer.write_record(N_S, lambda seed: FIDUCIAL[seed], directory=folder),
        writer.write_record(
            N_D,
            lambda seed, derivative, parameter: DERIVATIVE[seed, derivative, parameter],
            fiducial=False,
            n_params=2,
            directory=folder,
        ),
    )


def mapped(folder):
    paths = folder / "fiducial.npy", folder / "derivative.npy"
    for path, array in zip(paths, (FIDUCIAL, DERIVATIVE), strict=True):
        np.save(path, array)
    return tuple(np.load(path, mmap_mode="r") for path in paths)


def labelled_fiducial():
    for seed in np.random.default_rng(0).permutation(N_S):
        yield FIDUCIAL[seed], seed


def labelled_derivative():
    for place in np.random.default_rng(0).permutation(N_D * 4):
        label = np.unravel_index(place, (N_D, 2, 2))
        yield DERIVATIVE[label], tuple(label)


def data_sets_of_generators():
    simulation, index = tf.TensorSpec((10,), tf.float32), tf.TensorSpec((), tf.int64)
    from_generator = tf.data.Dataset.from_generator
    return (
        from_generator(labelled_fiducial, output_signature=(simulation, index)),
        from_generator(labelled_derivative, output_signature=(simulation, (index,) * 3)),
    )


def data_sets_of_arrays():
    seeds = np.random.default_rng(0).permutation(N_S)
    labels = [np.unravel_index(place, (N_D, 2, 2)) for place in range(N_D * 4)]
    from_slices = tf.data.Dataset.from_tensor_slices
    return (
        from_slices((FIDUCIAL[seeds], seeds)),
        from_slices((np.stack([DERIVATIVE[label] for label in labels]), np.array(labels))),
    )


def yielding(array):
    def load(*label):
        yield array[label], label if len(label) > 1 else label[0]

    return load


SOURCES = {
    "arrays": lambda folder: (FIDUCIAL, DERIVATIVE),
    "files mapped into memory": mapped,
    "functions": lambda folder: (lambda s: FIDUCIAL[s], lambda s, d, p: DERIVATIVE[s, d, p]),
    "generators": lambda folder: (yielding(FIDUCIAL), yielding(DERIVATIVE)),
    "data sets of generators": lambda folder: data_sets_of_generators(),
    "data sets of arrays": lambda folder: data_sets_of_arrays(),
    "TFRecords": written,
    "compressed TFRecords": lambda folder: written(folder, compression="GZIP"),
    "shuffled files": lambda folder: tuple(files[::-1] for files in written(folder)),
    "paths as strings": lambda folder: tuple([str(p) for p in files] for files in written(folder)),
}
UNORDERED = ("data sets of generators", "data sets of arrays", "compressed TFRecords")


def simulations_of(sources, *, n_d=N_D, delta_theta=reference.DELTA_THETA, **options):
    given = {"dtype": tf.float32, "n_s": N_S, "n_d": n_d, **options}
    return reference.as_simulations(*sources, 2, delta_theta, **given)


def batches_of(simulations, update=0, part=WHOLE):
    started = simulations.batches(update, part)
    return [started.at(index) for index in range(part.first, simulations.n_batches, part.step)]


def assert_same_batches(ours, theirs):
    for batch, same in zip(ours, theirs, strict=True):
        for got, exact in zip(batch, same, strict=True):
            assert (got is None) == (exact is None)
            if got is not None:
                np.testing.assert_array_equal(got, exact)
