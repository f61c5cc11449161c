"""The networks that people start from: shapes, symmetries, serialisation, arguments."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import reference

from imnn_tf import IMNN, Estimator, networks

NETWORKS = {
    "line": (lambda **more: networks.field_network((32,), 3, **more), (32,)),
    "image": (lambda **more: networks.field_network((32, 24), 3, channels=2, **more), (32, 24, 2)),
    "odd": (lambda **more: networks.field_network((33, 27), 3, **more), (33, 27)),
    "volume": (
        lambda **more: networks.field_network((16, 16, 16), 3, filters=(4, 4), **more),
        (16, 16, 16),
    ),
    "open": (
        lambda **more: networks.field_network(
            (32, 24), 3, periodic=False, filters=(8, 8, 8), **more
        ),
        (32, 24),
    ),
    "pointwise": (
        lambda **more: networks.field_network(
            (16, 12), 3, channels=2, pointwise=4, filters=(4, 4), **more
        ),
        (16, 12, 2),
    ),
    "series": (lambda **more: networks.series_network(100, 3, **more), (100,)),
    "set": (lambda **more: networks.set_network(2, 3, **more), (7, 2)),
    "masked": (lambda **more: networks.set_network(2, 3, mask=True, **more), (7, 3)),
    "sums": (lambda **more: networks.set_network(2, 3, information=False, **more), (7, 2)),
    "dense": (lambda **more: networks.dense_network(10, 3, **more), (10,)),
}


def data(shape, n=4, seed=0, dtype="float32"):
    values = np.random.default_rng(seed).normal(size=(n, *shape)).astype(dtype)
    return values


def catalogue(lengths, longest, n_features=2, padding=0.0):
    """Catalogues of different lengths with their mask, padded with a value."""
    result = np.full((len(lengths), longest, n_features + 1), padding, np.float32)
    result[..., -1] = 0
    rng = np.random.default_rng(3)
    for row, length in enumerate(lengths):
        result[row, :length, :-1] = rng.normal(size=(length, n_features))
        result[row, :length, -1] = 1
    return result


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shapes_types_and_seeds(name, dtype):
    build, shape = NETWORKS[name]
    model = build(seed=1, dtype=dtype)
    values = data(shape, dtype=dtype)
    summaries = model(values)
    assert tuple(summaries.shape) == (4, 3)
    assert summaries.dtype == dtype
    assert np.std(summaries, axis=0).min() > 0
    np.testing.assert_array_equal(build(seed=1, dtype=dtype)(values), summaries)
    assert not np.allclose(build(seed=2, dtype=dtype)(values), summaries)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_has_a_gradient(name):
    import tensorflow as tf

    build, shape = NETWORKS[name]
    model = build(seed=1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(data(shape)) ** 2)
    for weight, gradient in zip(
        model.trainable_weights, tape.gradient(loss, model.trainable_weights), strict=True
    ):
        assert np.abs(gradient).max() > 0, weight.path


@pytest.mark.parametrize("name", NETWORKS)
def test_saving_and_loading(name, tmp_path):
    build, shape = NETWORKS[name]
    model = build(seed=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(data(shape)), model(data(shape)))


def test_a_fresh_process_loads_all_kinds(tmp_path):
    for name in ("image", "pointwise", "masked", "sums"):
        NETWORKS[name][0](seed=1).save(tmp_path / f"{name}.keras")
    program = (
        "import sys, keras, imnn_tf.networks\n"
        "for name in ('image', 'pointwise', 'masked', 'sums'):\n"
        "    keras.saving.load_model(f'{sys.argv[1]}/{name}.keras')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_an_estimator_loads_without_more_in_a_fresh_process(tmp_path):
    fiducial, derivative = reference.simulations(0, 100)
    imnn = IMNN(
        θ_fid=reference.THETA_FID,
        δθ=reference.DELTA_THETA,
        fiducial=fiducial[..., None],
        derivative=derivative[..., None],
        model=networks.set_network(1, 2, seed=0),
        verbose=False,
        save=True,
        directory=tmp_path,
        filename="fitted",
    )
    imnn.fit(2)
    target = data((10, 1), 3)
    expected = imnn.get_estimate(target)
    program = (
        "import sys, numpy as np\n"
        "from imnn_tf import Estimator\n"
        "data = np.load(sys.argv[1] + '/data.npy')\n"
        "np.save(sys.argv[1] + '/found.npy', Estimator.load(sys.argv[1] + '/fitted')(data))\n"
    )
    np.save(tmp_path / "data.npy", target)
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, rtol=1e-4, atol=1e-5)
    # Catalogues of any length pass, as the model takes them.
    assert Estimator.load(tmp_path / "fitted")(data((6, 1), 3)).shape == (3, 2)


def test_the_learned_function_is_of_a_single_pixel():
    build, shape = NETWORKS["pointwise"]
    model = build(seed=1)
    learned = keras.Model(model.input, model.get_layer("pointwise").output)
    values = data(shape)
    places = np.random.default_rng(1).permutation(16 * 12)
    mixed = values.reshape(4, -1, 2)[:, places].reshape(values.shape)
    expected = learned(values).numpy().reshape(4, -1, 2)[:, places]
    np.testing.assert_allclose(learned(mixed).numpy().reshape(4, -1, 2), expected, atol=1e-6)
    # The hidden units bend at different values, so the function is no straight line.
    line = learned(np.linspace(0.5, 2, 16 * 12 * 2).reshape(1, *shape)).numpy().reshape(-1, 2)
    assert (np.abs(np.diff(line, 2, axis=0)).max(0) > 1e-6).all()


def hidden_weights(n_units, channels=None, seed=0):
    """Kernel and biases of the hidden layer that every pixel passes."""
    model = networks.field_network(
        (8,), 2, pointwise=n_units, channels=channels, filters=(4,), seed=seed
    )
    return next(layer for layer in model.layers if isinstance(layer, keras.layers.Dense)).weights


def test_hidden_units_of_a_pixel_bend_evenly_between_minus_two_and_two():
    kernel, bias = hidden_weights(8)
    np.testing.assert_allclose(-bias / kernel[0], np.arange(-1.75, 2, 0.5))
    kernel, bias = hidden_weights(100, channels=3)
    lengths = np.linalg.norm(kernel, axis=0)
    np.testing.assert_allclose(lengths, 2, rtol=1e-6)
    np.testing.assert_allclose(-bias / lengths, np.arange(-1.98, 2, 0.04), atol=1e-6)
    # Directions are uniform on the sphere: the mean of their outer products is the identity / 3.
    directions = kernel / lengths
    np.testing.assert_allclose(directions @ np.transpose(directions), 100 * np.eye(3) / 3, atol=12)
    assert not np.allclose(kernel, hidden_weights(100, channels=3, seed=1)[0])


def test_what_the_first_convolution_sees_has_no_mean():
    build, shape = NETWORKS["pointwise"]
    model = build(seed=1)
    seen = keras.Model(model.input, model.get_layer("scale_1").output)
    field = np.exp(data(shape))
    np.testing.assert_allclose(np.mean(seen(field), axis=(1, 2)), 0, atol=1e-5)
    # The means go to the last layer by themselves.
    learned = keras.Model(model.input, model.get_layer("pointwise").output)(field)
    features = keras.Model(model.input, model.layers[-1].input)(field)
    expected = np.sqrt(16 * 12) * np.mean(learned, axis=(1, 2))
    np.testing.assert_allclose(features[:, :2], expected, rtol=1e-5)


def test_eight_hidden_units_hold_the_logarithm_of_positive_values():
    """Whatever the seed, a line and the units hold it to a hundredth of its scatter."""
    values = np.random.default_rng(0).lognormal(sigma=0.5, size=2000)
    kernel, bias = hidden_weights(8)
    units = keras.activations.gelu(values[:, None] * kernel + bias).numpy()
    columns = np.column_stack([units, values, np.ones_like(values)])
    fitted = columns @ np.linalg.lstsq(columns, np.log(values), rcond=None)[0]
    assert np.std(np.log(values) - fitted) < 0.01 * np.std(np.log(values))


@pytest.mark.parametrize("shape", [(32,), (32, 16), (16, 16, 16)])
def test_shifts_of_periodic_fields_change_nothing(shape):
    """Any shift without pooling; with two scales, shifts by pairs of pixels."""
    axes = tuple(range(1, len(shape) + 1))
    field = data(shape, dtype="float64")
    for filters, step in [((4,), 1), ((4, 4), 2)]:
        model = networks.field_network(shape, 2, filters=filters, seed=0, dtype="float64")
        for shift in [np.array([1, 3, 2]), np.array([5, 0, 1])]:
            rolled = np.roll(field, step * shift[: len(shape)], axes)
            np.testing.assert_allclose(model(rolled), model(field), rtol=1e-11, atol=1e-13)


def test_an_open_field_knows_its_edges():
    field = data((32, 24))
    model = NETWORKS["open"][0](seed=0)
    assert not np.allclose(model(np.roll(field, 8, 1)), model(field))
    # Zeros surround it: a field with a margin of zeros has the same responses inside the margin.
    inner = np.zeros((1, 32, 24), np.float32)
    inner[:, 4:-4, 4:-4] = data((24, 16))[:1]
    zeros = networks.field_network((32, 24), 3, periodic=False, filters=(8,), seed=0)
    wrapped = networks.field_network((32, 24), 3, periodic=True, filters=(8,), seed=0)
    np.testing.assert_allclose(zeros(inner), wrapped(inner), rtol=1e-3)


@pytest.mark.parametrize("information", [True, False])
def test_the_order_of_objects_changes_nothing(information):
    model = networks.set_network(2, 3, information=information, seed=0, dtype="float64")
    values = data((9, 2), dtype="float64")
    order = np.random.default_rng(1).permutation(9)
    np.testing.assert_allclose(model(values[:, order]), model(values), rtol=1e-11)


@pytest.mark.parametrize("information", [True, False])
@pytest.mark.parametrize("padding", [0.0, 1e30, np.nan])
def test_padding_changes_nothing(information, padding):
    lengths = [5, 2, 4]
    masked = networks.set_network(2, 3, mask=True, information=information, seed=0)
    plain = networks.set_network(2, 3, information=information, seed=0)
    plain.set_weights(masked.get_weights())
    for longest in (5, 12):
        values = catalogue(lengths, longest, padding=padding)
        found = masked(values).numpy()
        for row, length in enumerate(lengths):
            alone = plain(values[row : row + 1, :length, :-1])
            np.testing.assert_allclose(found[row : row + 1], alone, rtol=1e-4, atol=1e-6)


def test_the_estimate_of_a_catalogue_is_that_of_the_formula():
    from imnn_tf.networks.layers import InformationWeightedSum

    scores, entries = data((6, 2), 3, 1, "float64"), data((6, 3), 3, 2, "float64")
    found = InformationWeightedSum(dtype="float64")(scores, entries)
    for row in range(3):
        information = np.eye(2)
        for a, b, c in entries[row]:
            lower = np.array([[np.log1p(np.exp(a)), 0], [b, np.log1p(np.exp(c))]])
            information += lower @ lower.T
        expected = np.linalg.solve(information, scores[row].sum(0))
        np.testing.assert_allclose(found[row], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: networks.field_network((8, 8, 8, 8), 2), ValueError, "one to three"),
        (lambda: networks.field_network(8, 2), TypeError, "`shape`"),
        (lambda: networks.field_network((8, 8), 2), ValueError, "`shape` must leave"),
        (lambda: networks.field_network((8, 8), 0), ValueError, "`n_summaries`"),
        (lambda: networks.field_network((32,), 2, stem_width=4), ValueError, "`stem_width`"),
        (lambda: networks.field_network((32,), 2, filters=()), ValueError, "`filters`"),
        (lambda: networks.field_network((32,), 2, pointwise=0), ValueError, "`pointwise`"),
        (lambda: networks.field_network((32,), 2, periodic=1), TypeError, "`periodic`"),
        (lambda: networks.field_network((32,), 2, squares=1), TypeError, "`squares`"),
        (lambda: networks.field_network((32,), 2, channels=0), ValueError, "`channels`"),
        (lambda: networks.series_network(4, 2), ValueError, "`shape` must leave"),
        (lambda: networks.set_network(0, 2), ValueError, "`n_features`"),
        (lambda: networks.set_network(1, 2, mask="yes"), TypeError, "`mask`"),
        (lambda: networks.set_network(1, 2, information=1), TypeError, "`information`"),
        (lambda: networks.dense_network(10, 2, hidden=128), TypeError, "`hidden`"),
        (lambda: networks.dense_network(10, 2.5), TypeError, "`n_summaries`"),
    ],
)
def test_wrong_arguments(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_estimates_take_catalogues_of_any_length():
    """The model takes any number of objects, so `get_estimate` does, like a loaded estimator."""
    rng = np.random.default_rng(0)
    fiducial, pairs = rng.normal(size=(200, 30, 1)), rng.normal(size=(100, 1, 1, 30, 1))
    steps = np.array([[[-0.1], [0.0]], [[0.1], [0.0]]])[..., None]
    scales = np.array([[[1.0], [0.9]], [[1.0], [1.1]]])[..., None]
    imnn = IMNN(
        θ_fid=[0.0, 1.0],
        δθ=[0.2, 0.4],
        fiducial=fiducial,
        derivative=steps + scales * pairs,
        model=networks.set_network(1, 2, seed=0),
        verbose=False,
    )
    assert imnn.input_shape == (30, 1)
    for n in (5, 30, 300):
        data = rng.normal(size=(4, n, 1))
        summaries = imnn.model(data.astype("float32")) - imnn.μ
        weights = imnn.Finv @ imnn.dμ_dθ @ imnn.Cinv
        expected = [0.0, 1.0] + summaries @ np.transpose(weights)
        np.testing.assert_allclose(imnn.get_estimate(data), expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match=r"`data` must have shape \(batch, None, 1\), got \(4, 30"):
        imnn.get_estimate(np.zeros((4, 30, 2)))
