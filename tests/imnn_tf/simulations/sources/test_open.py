"""All kinds of sources hold the same simulations, and what is wrong with one is named."""

import numpy as np
import pytest
import reference
import tensorflow as tf
from sources import DERIVATIVE, FIDUCIAL, N_D, N_S, SOURCES, simulations_of, written

from imnn_tf import IMNN


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
