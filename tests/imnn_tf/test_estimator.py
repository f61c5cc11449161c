"""The fitted compression, used without an IMNN."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf

from imnn_tf import Estimator, estimator
from imnn_tf.utils import checkpoint
from imnn_tf.utils.checkpoint import CorruptFileError


def linear_estimator(dtype="float64"):
    """Data `d = (θ₁, θ₂, θ₁ + θ₂) + n` with n ~ N(0, 1), which are their own summaries."""
    model = keras.Sequential([keras.Input((3,), dtype=dtype), keras.layers.Identity(dtype=dtype)])
    slope = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]], dtype)
    theta_fid = np.array([0.5, -0.5])
    return Estimator(
        model,
        theta_fid=theta_fid,
        mean=theta_fid @ slope,
        slope=slope,
        inverse_covariance=np.eye(3),
        inverse_fisher=np.linalg.inv(slope @ slope.T),
    )


def test_estimates_of_a_linear_model_are_least_squares():
    data = np.random.default_rng(0).normal(size=(7, 3))
    got = linear_estimator()(data)
    design = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    exact = np.linalg.lstsq(design, data.T, rcond=None)[0].T
    np.testing.assert_allclose(got, exact)


def test_much_data_is_taken_in_parts(monkeypatch):
    data = np.random.default_rng(0).normal(size=(50, 3))
    whole = linear_estimator()(data)
    monkeypatch.setattr(estimator, "_NUMBERS_AT_ONCE", 21)
    np.testing.assert_array_equal(linear_estimator()(data), whole)


@pytest.mark.parametrize("convert", [np.asarray, tf.constant])
def test_complex_data_are_refused(convert):
    data = convert(np.full((2, 3), 1 + 2j))
    with pytest.raises(TypeError, match=r"`data` must hold real numbers, got .* ?complex128"):
        linear_estimator()(data)


def test_masked_and_foreign_arrays():
    data = np.random.default_rng(0).normal(size=(7, 3))
    np.testing.assert_array_equal(linear_estimator()(data.astype(">f8")), linear_estimator()(data))
    with pytest.raises(ValueError, match="`data` must not have masked values"):
        linear_estimator()(np.ma.masked_greater(data, 1))


def test_data_may_be_of_any_type_and_symbolic():
    compress = linear_estimator("float32")
    data = np.array([[1, 2, 3], [4, 5, 6]])
    exact = compress(data.astype("float32"))
    assert exact.dtype == tf.float32
    for same in (data, data.astype("float64"), data.tolist(), tf.constant(data)):
        np.testing.assert_array_equal(compress(same), exact)
    np.testing.assert_array_equal(tf.function(compress)(tf.constant(data)), exact)


@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 3, 1)])
def test_data_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"`data` must have shape \(batch, 3\), got"):
        linear_estimator()(np.zeros(shape))


def test_saved_files_make_estimates_in_a_new_process(tmp_path):
    model = reference.dense_model(width=8)
    fitted = Estimator(
        model,
        theta_fid=[0.0, 1.0],
        mean=np.float32([0.1, 0.2]),
        slope=np.float32([[1, 2], [3, 5]]),
        inverse_covariance=np.eye(2),
        inverse_fisher=np.eye(2),
    )
    fitted.save(tmp_path / "fitted")
    data, _ = reference.simulations(0, 4)
    np.save(tmp_path / "data.npy", data)
    program = (
        "import sys, numpy as np, imnn_tf\n"
        "estimate = imnn_tf.Estimator.load(sys.argv[1])(np.load(sys.argv[2]))\n"
        "print(estimate.numpy().tolist())"
    )
    paths = [str(tmp_path / "fitted"), str(tmp_path / "data.npy")]
    run = subprocess.run(
        [sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True
    )
    np.testing.assert_array_equal(json.loads(run.stdout), fitted(data))


def test_the_statistics_have_the_names_of_the_papers(tmp_path):
    linear_estimator().save_statistics(tmp_path / "estimator.npz")
    with np.load(tmp_path / "estimator.npz") as stored:
        assert set(stored.files) == {"Finv", "θ_fid", "dμ_dθ", "Cinv", "μ"}
        assert stored["dμ_dθ"].shape == (2, 3)


def test_a_file_of_another_fit_is_noticed(tmp_path):
    linear_estimator().save(tmp_path)
    (tmp_path / "other").mkdir()
    linear_estimator("float32").save_statistics(tmp_path / "estimator.npz")
    with pytest.raises(CorruptFileError, match=r"estimator\.npz is damaged or not of one piece"):
        Estimator.load(tmp_path)


def test_code_in_a_model_is_not_executed(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x)])
    linear = linear_estimator("float32")
    linear.model = model
    linear.save(tmp_path)
    with pytest.raises(ValueError, match="Lambda"):
        Estimator.load(tmp_path)
    given = Estimator.load(tmp_path, model=model)
    np.testing.assert_array_equal(given(np.ones((1, 3))), linear(np.ones((1, 3))))


def test_a_folder_without_a_fit_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"manifest\.json"):
        Estimator.load(tmp_path)


def constant_estimator(number):
    """An estimator whose model and statistics tell which of several it is."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.set_weights([np.full((3, 3), number), np.zeros(3)])
    return Estimator(
        model,
        theta_fid=[number],
        mean=np.full(3, number, "float32"),
        slope=np.ones((1, 3), "float32"),
        inverse_covariance=np.eye(3),
        inverse_fisher=np.eye(1),
    )


def test_two_save_and_one_loads_without_a_mixture(tmp_path):
    constant_estimator(0).save(tmp_path)
    savers = [constant_estimator(number) for number in (1, 2)]
    stop = time.monotonic() + 5

    def save(saver):
        while time.monotonic() < stop:
            saver.save(tmp_path)

    loads = 0
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(save, saver) for saver in savers]
        while time.monotonic() < stop:
            loaded = Estimator.load(tmp_path)
            assert loaded.theta_fid == loaded.mean[0] == loaded.model.get_weights()[0][0, 0]
            loads += 1
        for each in running:
            each.result()
    assert loads > 5
    assert {path.name for path in tmp_path.iterdir()} == {
        "manifest.json",
        "model.keras",
        "estimator.npz",
    }


def test_code_is_not_executed_where_keras_was_told_to_execute_it(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x)])
    linear = linear_estimator("float32")
    linear.model = model
    linear.save(tmp_path)
    before = keras.src.saving.serialization_lib.in_safe_mode()
    keras.config.enable_unsafe_deserialization()
    try:
        with pytest.raises(ValueError, match="Lambda"):
            Estimator.load(tmp_path)
        with pytest.raises(ValueError, match="Lambda"):
            estimator.load_model(tmp_path)
        assert keras.src.saving.serialization_lib.in_safe_mode() is False
    finally:
        keras.src.backend.common.global_state.set_global_attribute("safe_mode_saving", before)


def test_a_damaged_model_is_named(tmp_path):
    linear_estimator().save(tmp_path)
    path = tmp_path / "model.keras"
    content = path.read_bytes()
    for damaged in (b"", content[:-30], content[:100] + b"!" + content[101:]):
        path.write_bytes(damaged)
        with pytest.raises(CorruptFileError, match=r"model\.keras is damaged"):
            estimator.load_model(tmp_path)
        with pytest.raises(CorruptFileError, match=r"model\.keras is damaged"):
            Estimator.load(tmp_path)


def test_another_file_of_arrays_is_named(tmp_path):
    linear_estimator().save(tmp_path)
    checkpoint.write_arrays(tmp_path / "estimator.npz", {"a": np.ones(3)})
    hashes = {name: checkpoint.sha256(tmp_path / name) for name in ("model.keras", "estimator.npz")}
    checkpoint.write_json(tmp_path / "manifest.json", {"sha256": hashes})
    with pytest.raises(CorruptFileError, match=r"estimator\.npz is damaged: it has no Finv"):
        Estimator.load(tmp_path)


def test_an_axis_of_one_channel_may_be_left_out_or_added():
    """A fit takes maps `(n, 4, 3)` for a model of `(4, 3, 1)`, and so does what it saves."""
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(5, 4, 3)).astype("float32")
    model = keras.Sequential(
        [keras.Input((4, 3, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    statistics = {
        "theta_fid": np.zeros(2, "float32"),
        "mean": rng.normal(size=2).astype("float32"),
        "slope": rng.normal(size=(2, 2)).astype("float32"),
        "inverse_covariance": np.eye(2, dtype="float32"),
        "inverse_fisher": np.eye(2, dtype="float32"),
    }
    for shape in ((4, 3), (4, 3, 1)):
        made = Estimator(model, **statistics, input_shape=shape)
        np.testing.assert_array_equal(made(maps), made(maps[..., None]))
    with pytest.raises(ValueError, match=r"must have shape \(batch, 4, 3, 1\), got \(4, 3\)"):
        made(maps[0])


def test_what_an_estimator_shows():
    shown = repr(linear_estimator("float32"))
    assert shown.startswith("Estimator(parameters: ")
    assert "forecast errors: " in shown
