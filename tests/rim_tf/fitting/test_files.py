"""What a RIM is read from: damage is found, and nothing in it is run."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.common import global_state
from problems import draw, score_fn, small_rim

from imnn_tf.utils import checkpoint
from rim_tf import RIM, TrajectoryLoss
from rim_tf.fitting.checkpoints import write_configuration

FUNCTIONS = {"score_fn": score_fn}


def fitted(directory):
    rim = small_rim()
    rim.compile(jit_compile=False)
    rim.fit(draw(4, 0), verbose=0, seed=0, checkpoints_directory=directory)
    return rim


def damaged(content, random):
    """The content with one bit flipped, or without its end."""
    place = int(random.integers(len(content)))
    if random.integers(4) == 0:
        return content[:place]
    return (
        content[:place] + bytes([content[place] ^ 1 << random.integers(8)]) + content[place + 1 :]
    )


def test_damage_of_the_configuration_is_found(tmp_path):
    fitted(tmp_path)
    path = tmp_path / "rim.json"
    whole, random = path.read_bytes(), np.random.default_rng(0)
    want = RIM.from_checkpoints(tmp_path, **FUNCTIONS).get_config()
    for _ in range(30):
        path.write_bytes(damaged(whole, random))
        try:
            config = RIM.from_checkpoints(tmp_path, **FUNCTIONS).get_config()
        except checkpoint.CorruptFileError:
            continue
        # Blanks between the entries say nothing.
        assert json.dumps(config) == json.dumps(want)
    path.write_bytes(whole.replace(b'"T": 2', b'"T": 3'))
    with pytest.raises(ValueError, match=r"rim\.json is damaged"):
        RIM.from_checkpoints(tmp_path, **FUNCTIONS)
    with pytest.raises(ValueError, match=r"rim\.json is damaged"):
        small_rim().fit(draw(4, 0), epochs=2, verbose=0, checkpoints_directory=tmp_path)


def test_damage_of_weights_is_found(tmp_path):
    rim = small_rim()
    path = tmp_path / "rim.weights.h5"
    rim.save_weights(path)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    want = rim.get_weights()
    other = small_rim()
    for variable in other.variables:
        variable.assign(tf.zeros_like(variable))
    zeros = other.get_weights()
    for _ in range(30):
        path.write_bytes(damaged(whole, random))
        # A file whose end is missing has no digest, and HDF5 finds that.
        with pytest.raises((ValueError, OSError)):
            other.load_weights(path)
        for variable, zero in zip(other.get_weights(), zeros, strict=True):
            np.testing.assert_array_equal(variable, zero)
    path.write_bytes(whole)
    other.load_weights(path)
    for ours, theirs in zip(other.get_weights(), want, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert list(tmp_path.iterdir()) == [path]


def test_weights_are_exchanged_with_keras(tmp_path):
    """Files that Keras wrote without a digest are read, and Keras reads those with one."""
    rim, other = small_rim(), small_rim()
    for variable in other.variables:
        variable.assign(tf.zeros_like(variable))
    keras.Model.save_weights(rim, tmp_path / "keras.weights.h5")
    rim.save_weights(tmp_path / "rim.weights.h5")
    for load, name in ((other.load_weights, "keras"), (small_rim().load_weights, "rim")):
        load(tmp_path / f"{name}.weights.h5")
    keras.Model.load_weights(other, tmp_path / "rim.weights.h5")
    for ours, theirs in zip(other.get_weights(), rim.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_damaged_model_is_not_loaded(tmp_path):
    rim = small_rim()
    path = tmp_path / "rim.keras"
    rim.save(path)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(15):
        content = damaged(whole, random)
        path.write_bytes(content)
        try:
            again = keras.saving.load_model(path, custom_objects=FUNCTIONS)
        except Exception:  # zipfile, h5py and Keras have errors of a dozen types for damage
            continue
        # What is not read, such as the date of a part, says nothing.
        assert json.dumps(again.get_config()) == json.dumps(rim.get_config())
        for ours, theirs in zip(again.get_weights(), rim.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@keras.saving.register_keras_serializable("test_files")
class WithCode(keras.layers.Layer):
    """A network with a layer that Keras stores as code."""

    channels = 1

    def __init__(self, inner=None, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner or keras.layers.Lambda(lambda inputs: inputs[..., 1:])

    def initial_state(self, batch_size, sizes):
        return tf.zeros([batch_size, 1])

    def call(self, inputs, state):
        return self.inner(inputs), state

    def get_config(self):
        return {**super().get_config(), "inner": keras.saving.serialize_keras_object(self.inner)}

    @classmethod
    def from_config(cls, config):
        inner = keras.saving.deserialize_keras_object(config.pop("inner"))
        return cls(inner, **config)


@pytest.fixture
def unsafe():
    before = global_state.get_global_attribute("safe_mode_saving")
    keras.config.enable_unsafe_deserialization()
    yield
    global_state.set_global_attribute("safe_mode_saving", before)


@pytest.mark.usefixtures("unsafe")
def test_code_in_a_file_is_never_run(tmp_path):
    rim = RIM([5], WithCode(), score_fn=score_fn, T=2)
    rim.save(tmp_path / "rim.keras")
    for safe_mode in (True, False):
        with pytest.raises(ValueError, match="Lambda"):
            keras.saving.load_model(tmp_path / "rim.keras", FUNCTIONS, safe_mode=safe_mode)
    with pytest.raises(ValueError, match="Lambda"):
        RIM.from_config(rim.get_config(), FUNCTIONS)
    write_configuration(rim, tmp_path)
    with pytest.raises(ValueError, match="Lambda"):
        RIM.from_checkpoints(tmp_path, **FUNCTIONS)


@pytest.mark.parametrize("optimizer", ["adam", keras.optimizers.SGD])
def test_a_rim_that_was_compiled_and_never_fitted_is_loaded(tmp_path, optimizer):
    rim = small_rim()
    optimizer = optimizer if isinstance(optimizer, str) else optimizer(0.1, momentum=0.9)
    rim.compile(optimizer, TrajectoryLoss("linear"), jit_compile=False)
    rim.save(tmp_path / "rim.keras")
    again = keras.saving.load_model(tmp_path / "rim.keras", custom_objects=FUNCTIONS)
    for model in (rim, again):
        model.fit(draw(8, 0), verbose=0, seed=1)
    for ours, theirs in zip(again.variables, rim.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
