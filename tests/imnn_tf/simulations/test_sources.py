"""Every source of the same simulations gives the same statistics, and names what is wrong."""

import numpy as np
import pytest
import reference
import tensorflow as tf

from imnn_tf import IMNN
from imnn_tf.utils import TFRecords

N_S, N_D = 30, 20
# What TFRecord files hold is single precision.
FIDUCIAL, DERIVATIVE = (part.astype("float32") for part in reference.simulations(0, N_S, N_D))


def labelled_fiducial():
    for seed in np.random.default_rng(0).permutation(N_S):
        yield FIDUCIAL[seed], seed


def labelled_derivative():
    for place in np.random.default_rng(0).permutation(N_D * 4):
        label = np.unravel_index(place, (N_D, 2, 2))
        yield DERIVATIVE[label], tuple(label)


def datasets():
    simulation, index = tf.TensorSpec((10,), tf.float32), tf.TensorSpec((), tf.int64)
    from_generator = tf.data.Dataset.from_generator
    return (
        from_generator(labelled_fiducial, output_signature=(simulation, index)),
        from_generator(labelled_derivative, output_signature=(simulation, (index,) * 3)),
    )


def written(folder, *, compression=None, record_size=0.0005):
    writer = TFRecords(record_size=record_size, compression=compression, verbose=False)
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


def yielding(array):
    def load(*label):
        yield array[label], label if len(label) > 1 else label[0]

    return load


SOURCES = {
    "arrays": lambda folder: (FIDUCIAL, DERIVATIVE),
    "functions": lambda folder: (lambda s: FIDUCIAL[s], lambda s, d, p: DERIVATIVE[s, d, p]),
    "generators": lambda folder: (yielding(FIDUCIAL), yielding(DERIVATIVE)),
    "data sets": lambda folder: datasets(),
    "TFRecords": written,
    "compressed TFRecords": lambda folder: written(folder, compression="GZIP"),
    "shuffled files": lambda folder: tuple(files[::-1] for files in written(folder)),
    "paths as strings": lambda folder: tuple([str(p) for p in files] for files in written(folder)),
}


@pytest.mark.parametrize("source", SOURCES)
def test_sources_hold_the_same_simulations(source, tmp_path):
    fiducial, derivative = SOURCES[source](tmp_path)
    simulations = reference.as_simulations(
        fiducial, derivative, 2, reference.DELTA_THETA, dtype=tf.float32, n_s=N_S, n_d=N_D
    )
    np.testing.assert_array_equal(simulations.fiducial, FIDUCIAL)
    np.testing.assert_array_equal(simulations.derivative, DERIVATIVE)


@pytest.mark.parametrize("source", SOURCES)
def test_sources_give_the_same_information(source, tmp_path):
    fiducial, derivative = SOURCES[source](tmp_path)
    given = {
        "θ_fid": reference.THETA_FID,
        "δθ": reference.DELTA_THETA,
        "model": reference.dense_model(width=8),
        "n_s": N_S,
        "n_d": N_D,
        "verbose": False,
    }
    arrays = IMNN(fiducial=FIDUCIAL, derivative=DERIVATIVE, **given)
    other = IMNN(
        fiducial=fiducial,
        derivative=derivative,
        validation_fiducial=fiducial,
        validation_derivative=derivative,
        at_once=N_S,
        **given,
    )
    np.testing.assert_array_equal(other.F, arrays.F)


@pytest.mark.parametrize(
    ("fiducial", "message"),
    [
        (
            lambda seed: FIDUCIAL[seed][: 10 - seed],
            r"simulations of shape \(10,\), got \(9,\) at \(1,\)",
        ),
        (
            lambda seed: (FIDUCIAL[seed], seed + 1),
            r"answer with the label it is asked for, \(0,\), got 1",
        ),
        (
            lambda seed: (x for x in ()),
            r"yield a simulation for every label, got nothing for \(0,\)",
        ),
        (lambda seed: np.full(10, np.nan), "`fiducial` must be finite"),
    ],
)
def test_bad_functions_are_named(fiducial, message):
    with pytest.raises(ValueError, match=message):
        reference.as_simulations(fiducial, DERIVATIVE, 2, np.ones(2), dtype=tf.float32, n_s=3)


def test_functions_need_a_number_of_seeds():
    with pytest.raises(TypeError, match="`n_s` must be given where `fiducial` is a function"):
        reference.as_simulations(lambda seed: seed, DERIVATIVE, 2, np.ones(2), dtype=tf.float32)


def dataset_of(seeds, count=None):
    seeds = tf.constant(seeds, tf.int64)
    return tf.data.Dataset.from_tensor_slices((tf.gather(FIDUCIAL, seeds % N_S), seeds))


@pytest.mark.parametrize(
    ("seeds", "n_s", "message"),
    [
        ([0, 1, 3], 4, r"all 4 simulations, labelled \(seed,\), got 3; missing \(2,\)"),
        ([0, 1, 1, 2], 3, r"every simulation once, got \(1,\) twice"),
        ([0, 1, 5], 3, r"labels \(seed,\) below \(3,\), got \(5,\)"),
        (list(range(2, 30)), None, r"all 30 simulations, .* got 28; missing \(0,\), \(1,\)\."),
        ([9], 20, r"missing \(0,\), \(1,\), \(2,\), \(3,\), \(4,\), \.\.\."),
    ],
)
def test_missing_and_doubled_simulations_are_named(seeds, n_s, message):
    with pytest.raises(ValueError, match=message):
        reference.as_simulations(
            dataset_of(seeds), DERIVATIVE, 2, np.ones(2), dtype=tf.float32, n_s=n_s
        )


def test_data_sets_without_labels_are_refused():
    dataset = tf.data.Dataset.from_tensor_slices(FIDUCIAL)
    with pytest.raises(TypeError, match=r"data set of \(simulation, label\) pairs"):
        reference.as_simulations(dataset, DERIVATIVE, 2, np.ones(2), dtype=tf.float32)


def test_a_missing_file_is_missed(tmp_path):
    fiducial, derivative = written(tmp_path)
    assert len(fiducial) > 2
    with pytest.raises(ValueError, match="`fiducial` must hold all 30 simulations"):
        reference.as_simulations(
            [*fiducial[:1], *fiducial[2:]], derivative, 2, np.ones(2), dtype=tf.float32, n_s=N_S
        )
