"""A notebook that was written for the predecessor runs unchanged, from the import to the plot."""

import glob
import random

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
import reference

N_S, N_D = 200, 100


def data():
    """Simulations in double precision, under the names of the notebooks."""
    fiducial, derivative = reference.simulations(0, N_S, N_D)
    validation_fiducial, validation_derivative = reference.simulations(1, N_S, N_D)
    return {
        "fiducial": fiducial,
        "derivative": derivative,
        "validation_fiducial": validation_fiducial,
        "validation_derivative": validation_derivative,
    }


def generators():
    """A function of a seed for each array, whose generator gives one simulation and its label."""

    def fiducial(seed, values):
        yield values[seed], seed

    def derivative(seed, derivative, parameter, values):
        yield values[seed, derivative, parameter], (seed, derivative, parameter)

    arrays = data()
    return {
        "fiducial": lambda seed: fiducial(seed, arrays["fiducial"]),
        "derivative": lambda seed, der, par: derivative(seed, der, par, arrays["derivative"]),
        "validation_fiducial": lambda seed: fiducial(seed, arrays["validation_fiducial"]),
        "validation_derivative": lambda seed, der, par: derivative(
            seed, der, par, arrays["validation_derivative"]
        ),
    }


def records():
    """Lists of files in no order, as `glob` makes them."""
    from imnn_tf.utils import TFRecords

    arrays = data()
    writer = TFRecords(record_size=0.01)
    for validation, prefix in ((False, ""), (True, "validation_")):
        fiducial, derivative = arrays[f"{prefix}fiducial"], arrays[f"{prefix}derivative"]
        writer.write_record(
            n_sims=N_S,
            get_simulation=lambda seed, values=fiducial: values[seed].astype(np.float32),
            fiducial=True,
            validation=validation,
            directory="data/tfrecords",
        )
        writer.write_record(
            n_sims=N_D,
            get_simulation=lambda seed, derivative, parameter, values=derivative: values[
                seed, derivative, parameter
            ].astype(np.float32),
            fiducial=False,
            n_params=2,
            validation=validation,
            directory="data/tfrecords",
        )
    files = {name: glob.glob(f"data/tfrecords/{name}*.tfrecords") for name in arrays}
    for found in files.values():
        assert len(found) > 1
        random.Random(0).shuffle(found)
    return files


# A fit from functions or files costs more for each update, so those are short.
@pytest.mark.parametrize(
    ("simulations", "min_iterations"), [(data, 1000), (generators, 30), (records, 30)]
)
def test_a_notebook_runs_unchanged(simulations, min_iterations, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from imnn_tf import IMNN, __version__

    assert __version__
    imnn = IMNN(
        n_s=N_S,
        n_d=N_D,
        n_params=2,
        n_summaries=2,
        model=reference.dense_model(),
        optimiser=keras.optimizers.Adam(),
        θ_fid=np.array([0.0, 1.0]),
        δθ=np.array([0.1, 0.1]),
        input_shape=(10,),
        **simulations(),
        at_once=N_S,
        check_shape=True,
        verbose=False,
        directory="model",
        filename="model",
        save=True,
    )
    imnn.fit(patience=10, min_iterations=min_iterations)
    imnn.plot(known_det_fisher=50)
    plt.close("all")

    updates = len(imnn.history["det_F"])
    assert updates == len(imnn.history["val_det_F"]) > min_iterations
    F = np.array(imnn.F)
    assert F.shape == (2, 2)
    assert np.linalg.det(F) == pytest.approx(max(imnn.history["val_det_F"]), rel=1e-3)
    # 1,000 updates of a narrow network reach most of the information of so few simulations.
    assert min_iterations < 1000 or 25 < np.linalg.det(F) < 60

    target = reference.simulations(2, 5)[0]
    estimate = np.array(imnn.get_estimate(target))
    assert estimate.shape == (5, 2)
    np.testing.assert_array_equal(imnn.get_estimate(target.astype(np.float32)), estimate)
    # A script that has only the files makes the same estimate from them.
    stored = np.load("model/model/estimator.npz")
    summaries = keras.saving.load_model("model/model/model.keras").predict(target, verbose=0)
    weights = stored["Finv"] @ stored["dμ_dθ"] @ stored["Cinv"]
    expected = stored["θ_fid"] + (summaries - stored["μ"]) @ weights.T
    np.testing.assert_allclose(estimate, expected, rtol=1e-4, atol=1e-4)
