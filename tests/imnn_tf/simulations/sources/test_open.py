"""All kinds of sources hold the same simulations, and what is wrong with one is named."""

import numpy as np
import pytest
import reference
import tensorflow as tf
from sources import DERIVATIVE, FIDUCIAL, N_D, N_S, SOURCES, simulations_of, written

from imnn_tf import IMNN
from imnn_tf.utils.tfrecords import serialise as _serialise


@pytest.mark.parametrize("source", SOURCES)
def test_sources_hold_the_same_simulations(source, tmp_path):
    simulations = simulations_of(SOURCES[source](tmp_path))
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


def test_functions_need_a_number_of_seeds():
    with pytest.raises(TypeError, match="`n_s` must be given where `fiducial` is a function"):
        reference.as_simulations(lambda seed: seed, DERIVATIVE, 2, np.ones(2), dtype=tf.float32)


def test_data_sets_without_labels_are_refused():
    dataset = tf.data.Dataset.from_tensor_slices(FIDUCIAL)
    with pytest.raises(TypeError, match=r"data set of \(simulation, label\) pairs"):
        reference.as_simulations(dataset, DERIVATIVE, 2, np.ones(2), dtype=tf.float32)


def test_a_missing_file_is_noticed(tmp_path):
    fiducial, derivative = written(tmp_path)
    assert len(fiducial) > 2
    with pytest.raises(ValueError, match="`fiducial` must hold all 30 simulations"):
        reference.as_simulations(
            [*fiducial[:1], *fiducial[2:]], derivative, 2, np.ones(2), dtype=tf.float32, n_s=N_S
        )


@pytest.mark.parametrize("n_s", [N_S, None])
@pytest.mark.parametrize("compression", [None, "GZIP"])
def test_a_deleted_last_file_is_noticed(tmp_path, compression, n_s):
    fiducial, derivative = written(tmp_path, compression)
    fiducial[-1].unlink()
    files = sorted(tmp_path.glob("fiducial_*.tfrecords"))
    with pytest.raises(ValueError, match="`fiducial` must hold all 30 simulations"):
        simulations_of((files, derivative), n_s=n_s)


def test_a_map_of_a_file_is_checked_like_an_array(tmp_path):
    for dtype in ("float32", "float64"):
        array = np.array(FIDUCIAL, dtype)
        array[-1, -1] = np.nan
        np.save(tmp_path / "x.npy", array)
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        with pytest.raises(ValueError, match="`fiducial` must be finite, got 1 infinite or NaN"):
            simulations_of((mapped, DERIVATIVE))


def data_set(simulations, labels):
    return tf.data.Dataset.from_tensor_slices((simulations, labels))


def refused(error, message, fiducial, n_s=N_S):
    with pytest.raises(error, match=message):
        simulations_of((fiducial, DERIVATIVE), n_s=n_s)


@pytest.mark.filterwarnings("error")
def test_imaginary_parts_are_not_dropped():
    message = r"`fiducial` must hold real numbers, got ndarray of complex64 at \(0,\)"
    refused(TypeError, message, data_set(FIDUCIAL * np.complex64(1j), np.arange(N_S)))
    refused(TypeError, message, lambda seed: FIDUCIAL[seed] * np.complex64(1j))


@pytest.mark.parametrize("n_s", [N_S, None])
def test_labels_are_integers(n_s):
    message = r"`fiducial` must have labels that are integers, got 0\.0"
    refused(ValueError, message, data_set(FIDUCIAL, np.arange(N_S) * 1.0), n_s)


def test_a_huge_label_does_not_ask_for_memory():
    labels = np.arange(N_S)
    labels[3] = 2**40
    message = r"`fiducial` must hold every simulation, got 30 with labels up to 1099511627776"
    refused(ValueError, message, data_set(FIDUCIAL, labels), None)


def test_a_huge_label_in_a_file_does_not_ask_for_memory(tmp_path):
    huge = _serialise(FIDUCIAL[0], (2**40,))
    with tf.io.TFRecordWriter(str(tmp_path / "x.tfrecords")) as writer:
        writer.write(huge)
    with pytest.raises(ValueError, match="`fiducial` must hold every simulation, got 1 with"):
        simulations_of(([tmp_path / "x.tfrecords"], DERIVATIVE), n_s=None, input_shape=(10,))
