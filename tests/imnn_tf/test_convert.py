"""Fits that imnn-tf 0.2 saved, made here by what it called: Keras 2 and `np.savez`."""

import keras
import numpy as np
import pytest
import tf_keras

from imnn_tf import IMNN, Estimator
from imnn_tf.convert import convert

STATISTICS = {
    "Finv": np.array([[0.1, 0.01], [0.01, 0.2]], np.float32),
    "θ_fid": np.array([0.5, 1.0], np.float32),
    "dμ_dθ": np.array([[1.0, 0.2], [0.1, 2.0]], np.float32),
    "Cinv": np.array([[1.0, 0.3], [0.3, 2.0]], np.float32),
    "μ": np.array([0.1, -0.2], np.float32),
}


def dense():
    return tf_keras.Sequential(
        [
            tf_keras.Input((10,)),
            tf_keras.layers.Dense(16),
            tf_keras.layers.LeakyReLU(0.01),
            tf_keras.layers.Dense(2),
        ]
    )


def convolutions():
    data = tf_keras.Input((8, 8, 1))
    hidden = tf_keras.layers.Conv2D(4, 3, strides=2, activation="relu")(data)
    hidden = tf_keras.layers.BatchNormalization()(hidden)
    hidden = tf_keras.layers.GlobalAveragePooling2D()(hidden)
    return tf_keras.Model(data, tf_keras.layers.Dense(2)(hidden))


def saved(folder, model):
    """The folder of a fit: the model before it, and the weights after it."""
    model.save(folder, save_format="tf")
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.1, 0.5, each.shape) for each in model.get_weights()])
    model.save_weights(folder / "weights.h5")
    np.savez(folder / "estimator.npz", **STATISTICS)
    return folder


@pytest.mark.parametrize("make", [dense, convolutions])
def test_a_converted_fit_gives_the_same_estimates(tmp_path, make):
    model = make()
    old = saved(tmp_path / "old", model)
    data = np.random.default_rng(1).normal(size=(5, *model.input_shape[1:])).astype("float32")
    step = STATISTICS["Finv"] @ STATISTICS["dμ_dθ"] @ STATISTICS["Cinv"]
    expected = STATISTICS["θ_fid"] + (model(data).numpy() - STATISTICS["μ"]) @ step.T
    np.testing.assert_allclose(convert(old, tmp_path / "new")(data), expected, rtol=1e-4)
    estimator = Estimator.load(tmp_path / "new")
    np.testing.assert_allclose(estimator(data), expected, rtol=1e-4)
    assert isinstance(estimator.model, keras.Model)
    IMNN(
        θ_fid=[0.5, 1.0],
        δθ=[0.1, 0.1],
        fiducial=np.zeros((20, *data.shape[1:])),
        derivative=np.zeros((20, 2, 2, *data.shape[1:])),
        model=estimator.model,
        verbose=False,
    )


def test_what_cannot_be_converted_is_named(tmp_path):
    old = saved(tmp_path / "old", dense())
    with pytest.raises(ValueError, match="`new` must be another folder"):
        convert(old, old)
    with pytest.raises(FileNotFoundError, match=r"no mine\.h5 in `old`"):
        convert(old, tmp_path / "new", weight_file="mine")
    few = {name: STATISTICS[name] for name in ("Finv", "Cinv")}
    np.savez(old / "estimator.npz", **few)
    with pytest.raises(ValueError, match=r"`old` must have θ_fid in estimator\.npz"):
        convert(old, tmp_path / "new")
    assert not (tmp_path / "new").exists()
