"""The scales of a problem, measured, used and stored."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from problems import SIZE, draw, score_fn, small_network, small_rim

from rim_tf import RIM, PutzkyWelling
from rim_tf.problem.preprocessing import Scaled

SCALED = {"score_preprocessing_method": "scaled"}


def values(rim):
    """The scales by name."""
    return {each.name: np.asarray(each) for each in rim.scales.variables}


def root_mean_square(x, axes):
    return np.sqrt(np.mean(np.square(x), axes))


def test_the_network_sees_one_factor_for_each_example():
    scores = np.random.default_rng(0).normal(size=(4, 6, 2)) * [[[1e-8]], [[1]], [[1e3]], [[0]]]
    seen, memory = Scaled()(tf.constant(scores), (), 0)
    size = np.maximum(root_mean_square(scores, (1, 2)), 1e-6)[:, None, None]
    np.testing.assert_allclose(seen, scores * np.arcsinh(size) / size, rtol=1e-12)
    assert memory == ()
    infinite = Scaled()(tf.constant([[[1e30], [2.0]]], tf.float32), (), 0)[0]
    assert np.isfinite(infinite).all()


def two_channels(x, y, sigma):
    return (y - x) / sigma[:, None, None] ** 2


def test_scales_are_those_of_numpy():
    random = np.random.default_rng(1)
    x = random.normal(size=(7, 5, 2)) * [3.0, 1e-2]
    sigma = 10 ** random.uniform(-2, 2, 7)
    y = x + sigma[:, None, None]
    start = y + 1.0
    rim = RIM(
        [5],
        PutzkyWelling(2, 1, features=(2, 2, 2)),
        score_fn=two_channels,
        observation_channels=2,
        initialization_method="approximate_inverse",
        approximate_inverse_fn=lambda y, sigma: y + 1.0,
        dtype="float64",
    )
    assert not rim.scales.measured
    rim.measure_scales((y, sigma), x)
    assert rim.scales.measured
    scores = [root_mean_square((y - u) / sigma[:, None, None] ** 2, 1) for u in (start, x)]
    expected = {
        "of_parameters": root_mean_square(x, (0, 1)),
        "of_steps": root_mean_square(x - start, (0, 1)),
        "of_scores": np.exp(np.mean(np.log(np.maximum(*scores)), 0)),
        "of_data": root_mean_square(y, (0, 1)),
        "measured": 1.0,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(values(rim)[name], value, rtol=1e-12, err_msg=name)


def test_what_has_no_weight_or_no_size_does_not_count():
    """Neither a target without weight, nor an example without score, nor an empty channel."""
    y, x, a, sigma = draw(6, 2)
    a[0] = 0
    y[0] = 0
    x[3] = np.nan
    weights = np.ones(6, "float32")
    weights[3] = 0
    rim, kept = small_rim(**SCALED), [1, 2, 4, 5]
    rim.measure_scales((y, a, sigma), x, weights)
    found = values(rim)
    start = tf.zeros_like(x)
    # Example 3 has a score at the start only, where it is measured.
    target = np.where(np.isnan(x), 0, x)
    sizes = np.maximum(*(root_mean_square(score_fn(u, y, a, sigma), 1) for u in (start, target)))
    mean = np.exp(np.mean(np.log(sizes[[*kept, 3]])))
    np.testing.assert_allclose(found["of_scores"], [mean], rtol=1e-5)
    rim.measure_scales((y, a, sigma), np.zeros_like(x))
    np.testing.assert_array_equal(values(rim)["of_parameters"], [1.0])


def test_the_first_fit_measures_on_its_first_batch_and_later_ones_do_not():
    y, x, a, sigma = draw(8, 3)
    rim = small_rim(**SCALED)
    rim.compile(jit_compile=False)
    rim.fit((y, x, a, sigma), batch_size=8, verbose=0, seed=0)
    first = values(rim)
    other = small_rim(**SCALED)
    other.measure_scales((y, a, sigma), x)
    for name, value in values(other).items():
        np.testing.assert_allclose(first[name], value, rtol=1e-6)
    rim.fit((y, 5 * x, a, sigma), verbose=0, seed=0)
    for name, value in values(rim).items():
        np.testing.assert_array_equal(first[name], value)


@pytest.mark.parametrize("layout", ["data set", "PyDataset", "examples"])
def test_every_layout_of_data_is_measured(layout):
    y, x, *args = draw(8, 3)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            rows = slice(4 * index, 4 * index + 4)
            return (y[rows], *(each[rows] for each in args)), x[rows]

    rim = small_rim(**SCALED)
    rim.compile(jit_compile=False)
    data = {
        "data set": tf.data.Dataset.from_tensor_slices((y, x, *args)).batch(4),
        "PyDataset": Batches(),
        "examples": list(zip(y, x, *args, strict=True)),
    }[layout]
    rim.fit(data, verbose=0, shuffle=False, batch_size=4 if layout == "examples" else None)
    expected = root_mean_square(x[:4], (0, 1))
    np.testing.assert_allclose(values(rim)["of_parameters"], expected, rtol=1e-6)


def test_one_example_is_as_in_a_batch():
    y, x, *args = draw(5, 4)
    rim = small_rim(**SCALED)
    rim.measure_scales((y, *args), x)
    whole = rim((y, *args))
    for k in range(5):
        alone = rim((y[k : k + 1], *(each[k : k + 1] for each in args)))
        np.testing.assert_allclose(alone[0], whole[k], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("unit", [2.0**-10, 2.0**10])
def test_a_fit_in_another_unit_is_the_same_fit(unit):
    """The data, their noise and the parameters in units of `unit`. Powers of two round alike."""
    y, x, a, sigma = draw(32, 5)
    results = []
    for each in (1.0, unit):
        rim = small_rim(**SCALED)
        data = tuple(v.astype("float32") for v in (each * y, each * x, a, each * sigma))
        rim.compile(jit_compile=False)  # with the default Adam
        history = rim.fit(data, epochs=3, batch_size=8, verbose=0, seed=0).history
        trajectory = rim((data[0], a, data[3]))
        results.append((np.array(history["loss"]) / each**2, trajectory / each))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-3)
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-2, atol=1e-3)


def test_a_killed_fit_that_shuffles_its_stream_resumes_exactly(tmp_path):
    data = draw(12, 6)

    def fit(epochs, folder=None):
        examples = tf.data.Dataset.from_tensor_slices(data)
        stream = examples.shuffle(12, seed=3).repeat().batch(4)
        rim = small_rim(**SCALED)
        rim.compile(jit_compile=False)
        options = {"n_iterations_in_epoch": 3, "verbose": 0, "seed": 0, "checkpoints": 1}
        rim.fit(stream, epochs=epochs, checkpoints_directory=folder, **options)
        return rim

    whole = fit(4)
    fit(2, tmp_path)
    resumed = fit(4, tmp_path)
    again = RIM.from_checkpoints(tmp_path, "newest", score_fn=score_fn)
    for rim in (resumed, again):
        for ours, theirs in zip(rim.variables, whole.variables, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_files_without_scales_say_what_to_do(tmp_path):
    """Version 0.3 had none, and would be read with other numbers than it was trained with."""
    old = small_rim()
    old.save_weights(tmp_path / "old.weights.h5")
    with pytest.raises(ValueError, match=r"The default of version 0[.]3 was 'identity'"):
        small_rim(**SCALED).load_weights(tmp_path / "old.weights.h5")
    old.fit(draw(4, 7), verbose=0, checkpoints_directory=tmp_path / "fit")
    with pytest.raises(ValueError, match="`score_preprocessing_method` must be as in"):
        small_rim(**SCALED).fit(draw(4, 7), verbose=0, checkpoints_directory=tmp_path / "fit")
    with pytest.raises(ValueError, match="`score_preprocessing_method` must be 'scaled'"):
        old.measure_scales(*draw(4, 7)[:2])


def test_replicas_use_the_same_scales(mirrored):
    data = draw(8, 8)
    results = []
    for strategy in (tf.distribute.OneDeviceStrategy("CPU:0"), mirrored):
        with strategy.scope():
            rim = small_rim(**SCALED)
            rim.compile(keras.optimizers.SGD(0.02), jit_compile=False)
        rim.fit(data, batch_size=4, verbose=0, seed=0)
        results.append(rim.get_weights())
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_half_precision_sees_numbers_that_it_can_hold():
    """Scores of 1e6 and parameters of 1e5 are beyond float16."""
    network = small_network(dtype="mixed_float16")
    assert network.compute_dtype == "float16"
    rim = RIM([SIZE], network, score_fn=lambda x, y: (y[..., None] - x) * 1e6, T=2)
    x = 1e5 * np.random.default_rng(9).normal(size=(8, SIZE, 1)).astype("float32")
    rim.measure_scales(x[..., 0], x)
    assert np.isfinite(rim(x[..., 0])).all()
