"""Data sets of every layout, type and size in `fit`, `evaluate` and `predict`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from problems import SIZE, draw, energy_fn, score_fn, small_network, small_rim

from rim_tf import RIM, GaussianLikelihood, Hourglass, PutzkyWelling, UNet

OPTIONS = {"verbose": 0, "seed": 0}


def compiled(rim):
    rim.compile(keras.optimizers.Adam(0.01), jit_compile=False)
    return rim


def matched_score(x, y, sigma):
    """A score whose last argument has the shape of the parameters."""
    return (y - x) / sigma


# ---- Arguments of the score in a data set --------------------------------------------------


@pytest.mark.parametrize("given", ["score_fn", "energy_fn", "likelihood", "any number"])
def test_a_data_set_of_observations_gives_all_arguments_to_the_score(given):
    y, x, a, sigma = draw(6, 0)
    functions = {
        "score_fn": {"score_fn": score_fn},
        "energy_fn": {"energy_fn": energy_fn},
        "likelihood": {"likelihood": GaussianLikelihood()},
        "any number": {"score_fn": lambda x, y, *args: score_fn(x, y, *args)},
    }[given]
    rim = small_rim(**functions)
    want = rim.predict(y, a, sigma, jit_compile=False)
    layouts = [(y, a, sigma), (y, x, a, sigma)]
    for columns in layouts[:1] if given == "any number" else layouts:
        data = tf.data.Dataset.from_tensor_slices(columns).batch(4)
        np.testing.assert_allclose(rim.predict(data, verbose=0), want, rtol=1e-4, atol=1e-5)


def test_the_number_of_arguments_tells_an_argument_from_the_parameters():
    """Here parameters and noise levels have the same shape."""
    random = np.random.default_rng(0)
    y, x = random.normal(size=(2, 6, SIZE, 1)).astype("float32")
    sigma = random.uniform(1, 2, size=(6, SIZE, 1)).astype("float32")
    rims = [
        small_rim(score_fn=matched_score),
        small_rim(likelihood=GaussianLikelihood(lambda x: x)),
    ]
    for rim in rims:
        want = rim.predict(y, sigma, jit_compile=False)
        for columns in ((y, sigma), (y, x, sigma)):
            data = tf.data.Dataset.from_tensor_slices(columns).batch(4)
            np.testing.assert_allclose(rim.predict(data, verbose=0), want, rtol=1e-4, atol=1e-5)


def test_a_data_set_that_could_mean_two_things_is_refused():
    y = np.ones((4, SIZE, 1), "float32")
    rim = small_rim(score_fn=lambda x, y, *args: y - x)
    data = tf.data.Dataset.from_tensor_slices((y, y)).batch(2)
    with pytest.raises(ValueError, match=r"`y` must hold \(\(y, \*args\),\)"):
        rim.predict(data, verbose=0)
    with pytest.raises(ValueError, match="takes 2 arguments after `y`, got 2 entries"):
        small_rim().predict(data, verbose=0)


class Batches(keras.utils.PyDataset):
    def __init__(self, *columns):
        super().__init__()
        self.columns = columns

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return tuple(column[3 * index : 3 * index + 3] for column in self.columns)


def test_keras_data_sets_have_the_layouts_of_others():
    """Keras alone would take a third entry for the weights of the examples."""
    random = np.random.default_rng(0)
    y, x = random.normal(size=(2, 6, SIZE, 1)).astype("float32")
    sigma = random.uniform(1, 2, size=(6, SIZE, 1)).astype("float32")
    options = {"epochs": 2, "batch_size": 3, "shuffle": False, **OPTIONS}
    rims = [compiled(small_rim(score_fn=matched_score)) for _ in range(2)]
    want = rims[0].fit((y, x, sigma), **options).history
    got = rims[1].fit(Batches(y, x, sigma), **{**options, "batch_size": None}).history
    np.testing.assert_allclose(got["loss"], want["loss"], rtol=1e-6)
    logs = rims[1].evaluate(Batches(y, x, sigma), verbose=0, return_dict=True)
    want = rims[0].evaluate((y, x, sigma), verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["loss"], want["loss"], rtol=1e-5)
    want = rims[0].predict(y, sigma, jit_compile=False)
    found = rims[1].predict(Batches(y, sigma), verbose=0)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


# ---- Types ------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["arrays", "sequence"])
def test_double_precision_data_stay_so(layout):
    """A noise of 1e-10 about 1 is lost in single precision."""
    random = np.random.default_rng(0)
    x = 1e-10 * random.normal(size=(8, SIZE, 1))
    y = 1 + x
    network = small_network(dtype="float64")
    rim = small_rim(network=network, score_fn=lambda x, y: 1e10 * (y - 1), dtype="float64")
    compiled(rim)
    data = (y, x) if layout == "arrays" else list(zip(y, x, strict=True))
    logs = rim.fit(data, batch_size=8, **OPTIONS).history
    again = small_rim(
        network=small_network(dtype="float64"),
        score_fn=lambda x, y: 1e10 * (y - 1),
        dtype="float64",
    )
    estimate = again.predict(y, trajectory=True, jit_compile=False)
    np.testing.assert_allclose(logs["loss"][0], np.mean((estimate - x[:, None]) ** 2), rtol=1e-6)


# ---- Sizes that differ from batch to batch -------------------------------------------------

NETWORKS = {
    "PutzkyWelling": lambda **options: PutzkyWelling(1, 2, features=(2, 3, 2), seed=0, **options),
    "Hourglass": lambda **options: Hourglass(1, 2, nf=2, hidden_units=2, seed=0, **options),
    "smoothing": lambda **options: Hourglass(
        1, 2, nf=2, hidden_units=2, seed=0, resample_with_conv=False, **options
    ),
    "UNet": lambda **options: UNet(
        1, 2, nf=2, hidden_units=2, seed=0, recurrent_skips=True, **options
    ),
}
SIZES = ((5, 8), (4, 3), (1, 2))


def batches_of_all_sizes():
    random = np.random.default_rng(0)
    return [tuple(random.normal(size=(2, 3, *sizes, 1)).astype("float32")) for sizes in SIZES]


def stream(batches):
    spec = tf.TensorSpec([None, None, None, 1])
    return tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=(spec, spec))


def any_size_rim(network, padding):
    net = NETWORKS[network](padding=padding)
    return compiled(RIM([None, None], net, score_fn=lambda x, y: y - x, T=2))


@pytest.mark.parametrize(
    ("network", "padding"),
    [
        ("PutzkyWelling", "zero"),
        ("PutzkyWelling", "reflect"),
        ("PutzkyWelling", "periodic"),
        ("Hourglass", "reflect"),
        ("smoothing", "zero"),
        ("smoothing", "periodic"),
        ("UNet", "zero"),
        ("UNet", "reflect"),
    ],
)
def test_batches_of_different_sizes_are_predicted(network, padding):
    """In one graph for all sizes, which gives what the eager model gives."""
    rim, batches = any_size_rim(network, padding), batches_of_all_sizes()
    found = rim.predict(stream(batches), verbose=0)
    assert [each.shape for each in found] == [(3, *sizes, 1) for sizes in SIZES]
    for ours, (y, _) in zip(found, batches, strict=True):
        np.testing.assert_allclose(ours, rim(y)[:, -1], rtol=1e-4, atol=1e-5)


def test_training_on_batches_of_different_sizes_is_training_on_each_in_turn():
    one, two = (any_size_rim("PutzkyWelling", "reflect") for _ in range(2))
    batches = batches_of_all_sizes()[:2]
    logs = one.fit(stream(batches), **OPTIONS).history
    losses = [two.fit(*batch, batch_size=3, **OPTIONS).history["loss"][0] for batch in batches]
    np.testing.assert_allclose(logs["loss"][0], np.mean(losses), rtol=1e-5)
    for ours, theirs in zip(one.variables, two.variables, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    losses = [np.mean((np.asarray(one(y)) - x[:, None]) ** 2) for y, x in batches]
    logs = one.evaluate(stream(batches), verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["loss"], np.mean(losses), rtol=1e-5)
    # Batches of one size come in one array.
    found = one.predict(stream(2 * batches[:1]), verbose=0)
    assert found.shape == (6, *SIZES[0], 1)


def test_fields_of_different_sizes_are_predicted():
    rim = RIM(
        [None, None],
        PutzkyWelling(2, 2, features=(2, 3, 2), seed=0),
        score_fn=lambda x, y: {"a": y - x["a"], "b": y - x["b"]},
        fields={"a": 1, "b": 1},
        T=2,
    )
    batches = batches_of_all_sizes()[:2]
    for found, (y, _) in zip(rim.predict(stream(batches), verbose=0), batches, strict=True):
        want = rim.parameters.link(rim(y)[:, -1])
        for name in ("a", "b"):
            np.testing.assert_allclose(found[name], want[name], rtol=1e-4, atol=1e-5)


def test_a_series_of_any_length_trains_under_xla():
    batches = [(y[:, :, 0], x[:, :, 0]) for y, x in batches_of_all_sizes()]
    spec = tf.TensorSpec([None, None, 1])
    data = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=(spec, spec))
    losses = []
    for jit in (True, False):
        network = PutzkyWelling(1, 1, features=(2, 3, 2), padding="periodic", seed=0)
        rim = RIM([None], network, score_fn=lambda x, y: y - x, T=2)
        rim.compile(keras.optimizers.SGD(0.1), jit_compile=jit)
        losses.append(rim.fit(data, epochs=2, **OPTIONS).history["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_parameters_of_another_size_than_the_trajectory_are_refused():
    """Their sizes are only known when they come, and one of length one would broadcast."""
    (y, x), *_ = batches_of_all_sizes()
    rim = any_size_rim("PutzkyWelling", "zero")
    with pytest.raises(ValueError, match="The parameters `x` must have shape"):
        rim.fit(stream([(y, x[:, :1])]), **OPTIONS)  # while the scales are measured
    rim.measure_scales(y, x)
    with pytest.raises(tf.errors.InvalidArgumentError, match="the shape of the trajectory"):
        rim.fit(stream([(y, x[:, :1])]), **OPTIONS)


# ---- Errors in the user's functions ---------------------------------------------------------


@pytest.mark.parametrize("compiled_before", [True, False])
def test_a_fit_that_failed_in_the_score_can_be_tried_again(compiled_before):
    fails = [True]

    def score(*args):
        if fails:
            raise RuntimeError("the score failed")
        return score_fn(*args)

    rim = small_rim(score_fn=score)
    if compiled_before:
        compiled(rim)
    options = {"batch_size": 8, **OPTIONS}
    calls = [lambda: rim.fit(draw(8, 0), **options)]
    if compiled_before:
        calls.append(lambda: rim.evaluate(draw(8, 0), verbose=0))
    for call in calls:
        with pytest.raises(ValueError, match="It raised RuntimeError: the score failed"):
            call()
    fails.clear()
    for call in calls:
        call()
    if compiled_before:
        fresh = compiled(small_rim())
        fresh.fit(draw(8, 0), **options)
        for ours, theirs in zip(rim.variables, fresh.variables, strict=True):
            np.testing.assert_array_equal(ours, theirs)
