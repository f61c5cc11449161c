"""Values that would give a wrong answer in silence are refused, or make the answer NaN."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from problems import SIZE, draw, small_network, small_rim

from rim_tf import RIM, GaussianLikelihood, PutzkyWelling
from rim_tf.problem.observation import as_array, as_arrays

FAST = {"verbose": 0, "seed": 0}


def compiled(rim):
    rim.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    return rim


OUTSIDE = [("exp", -1e-3), ("softplus", -1.0), ("sigmoid", 1.5), ("sigmoid", -0.1), ("tanh", 2.0)]


@pytest.mark.parametrize(("link", "value"), OUTSIDE)
def test_targets_outside_the_range_of_the_link(link, value):
    y, x, *args = draw(8, 0)
    x = np.full_like(x, 0.5)
    rim = small_rim(link_function=link)
    want = rim.parameters.target(tf.constant(x), tf.zeros((8, 2, SIZE, 1)))
    assert np.isfinite(want).all()
    x[3, 1] = value
    found = np.array(rim.parameters.target(tf.constant(x), tf.zeros((8, 2, SIZE, 1))))
    assert np.isnan(found[3, 1])
    found[3, 1] = want[3, 1]
    np.testing.assert_array_equal(found, want)
    compiled(rim)
    words = "The parameters `x` must lie within .* got 1 outside"
    with pytest.raises(ValueError, match=words):
        rim.fit((y, x, *args), **FAST)
    with pytest.raises(ValueError, match=words):
        rim.evaluate((y, x, *args), verbose=0)


def test_targets_that_do_not_count_may_be_outside():
    y, x, *args = draw(8, 0)
    x = np.abs(x)
    spoiled, weights = x.copy(), np.ones((8, SIZE))
    spoiled[3, 1], weights[3, 1] = -1.0, 0.0
    losses = [
        compiled(small_rim(link_function="exp")).evaluate(
            (y, each, *args), sample_weight=weights, verbose=0
        )[0]
        for each in (x, spoiled)
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)


def test_fields_with_each_others_channels():
    fields = {"a": 1, "b": 2}
    rim = RIM(
        [SIZE],
        PutzkyWelling(3, 1, features=(2, 2, 2)),
        score_fn=lambda x, y: x,
        fields=fields,
        T=1,
    )
    y = np.ones((4, SIZE, 1), "float32")
    x = {"a": np.ones((4, SIZE, 2), "float32"), "b": np.ones((4, SIZE, 1), "float32")}
    with pytest.raises(ValueError, match="The field 'a' must have as many channels as in `fields`"):
        compiled(rim).fit((y, x), **FAST)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sample_weight": [1.0, 1.0, -1.0, 1.0]}, "must hold numbers of at least 0, got -1"),
        ({"sample_weight": [1.0, 1.0, np.nan, 1.0]}, "must hold numbers of at least 0, got nan"),
        ({"seed": 2**64}, "`seed` must have at most 64 bits"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(ValueError, match=words):
        compiled(small_rim()).fit(draw(4, 0), **{**FAST, **options})


def test_no_examples():
    with pytest.raises(ValueError, match="Training data must hold examples, got none"):
        compiled(small_rim()).fit(draw(0, 0), **FAST)


@pytest.mark.parametrize("data", ["list", "tuple"])
def test_a_list_of_examples_is_a_sequence_of_examples(data):
    """Not of columns, even where examples and columns are as many."""
    columns = draw(4, 0)
    examples = list(zip(*columns, strict=True))
    histories = [
        compiled(small_rim()).fit(each, shuffle=False, **FAST).history
        for each in (columns, examples if data == "list" else tuple(examples))
    ]
    assert histories[0] == histories[1]


def test_several_observations():
    """A dictionary of data on different axes."""
    y, _, a, _ = draw(3, 0)

    def score(x, y):
        return y["near"][..., None] + tf.reduce_sum(y["far"], 1)[:, None, None] - x

    rim = RIM([SIZE], small_network(), score_fn=score, T=2)
    data = {"near": y[:, :SIZE], "far": a[..., 0]}
    same = RIM([SIZE], small_network(), score_fn=lambda x, y: y - x, T=2)
    both = (y[:, :SIZE] + a[..., 0].sum(1)[:, None])[..., None]
    found = rim.predict(data, jit_compile=False)
    np.testing.assert_allclose(found, same.predict(both, jit_compile=False), rtol=1e-4, atol=1e-5)


def test_masks_of_other_numbers():
    x, y = tf.ones((2, 3, 1)), np.zeros((2, 3), "float32")
    with pytest.raises(ValueError, match="`mask` must hold zeros and ones"):
        GaussianLikelihood(lambda x: x[..., 0], sigma=1.0, mask=[1.0, 0.5, 0.0])
    for noise in ({"sigma": 1.0}, {"covariance": np.eye(3)}):
        likelihood = GaussianLikelihood(lambda x: x[..., 0], mask="given", **noise)
        mask = np.array([[1, 0, 1], [1, 0.5, 0]], "float32")
        np.testing.assert_array_equal(likelihood.chi2(x, y, mask), [2, np.nan])
        mask = np.array([[1, 0, 1], [1, -1, 0]], "float32")
        np.testing.assert_array_equal(likelihood.chi2(x, y, mask), [2, np.nan])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_covariances_that_are_not_hermitian(masked, dtype):
    """A factorisation reads one triangle only."""
    x = tf.ones((2, 3, 1), "float64" if dtype == "float64" else "float32")

    def data(x):
        return tf.cast(x[..., 0], dtype)

    good = np.eye(3) + 0.1 * (1 + 1j * np.triu(np.ones((3, 3)), 1) * (dtype == "complex64"))
    good = (good + good.conj().T) / 2
    bad = good + np.triu(np.ones((3, 3)), 1)
    both = tf.cast(tf.constant(1e-20 * np.stack([good, bad])), dtype)
    options = {"mask": np.ones(3)} if masked else {}
    likelihood = GaussianLikelihood(data, covariance="given", **options)
    with tf.device("CPU:0"):
        found = tf.function(likelihood.chi2)(x, np.zeros((2, 3)).astype(dtype), both)
    expected = np.ones(3) @ np.linalg.solve(1e-20 * good, np.ones(3))
    np.testing.assert_allclose(found[0], expected.real, rtol=1e-5)
    assert np.isnan(found[1])


def test_lists_of_numbers_are_arrays():
    columns = draw(4, 0)
    weights = [1.0, 2.0, 3.0, 4.0]
    lists = tuple(column.tolist() for column in columns)
    histories = [
        compiled(small_rim()).fit(data, sample_weight=given, **FAST).history
        for data, given in ((columns, np.array(weights)), (lists, weights))
    ]
    assert histories[0] == histories[1]
    y, _, a, sigma = columns
    rim = small_rim()
    found = rim.predict(y, a, sigma.tolist(), jit_compile=False)
    np.testing.assert_array_equal(found, rim.predict(y, a, sigma, jit_compile=False))


def test_batches_taken_several_at_once():
    """Four batches, three at a time: Keras alone would go on with two of the next pass."""
    data = draw(16, 0)
    one, three = compiled(small_rim()), small_rim()
    three.compile(keras.optimizers.Adam(1e-2), jit_compile=False, steps_per_execution=3)
    options = {"batch_size": 4, "verbose": 0}
    np.testing.assert_allclose(
        three.evaluate(data, **options), one.evaluate(data, **options), rtol=1e-6
    )
    with pytest.raises(ValueError, match="`steps_per_execution` must divide the number of updates"):
        three.fit(data, **options)
    options |= {"validation_data": data, "seed": 0}
    histories = [
        each.fit(data, n_iterations_in_epoch=3, **options).history for each in (one, three)
    ]
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-5)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.ma.masked_greater(np.arange(6.0), 3), ValueError, "must not have masked values, got 2"),
        (np.array(["1", "2"]), TypeError, "must hold numbers, got <U1"),
        (np.array([1, None]), TypeError, "must hold numbers, got object"),
    ],
)
def test_data_are_numbers_and_not_masked(value, error, message):
    with pytest.raises(error, match=message):
        as_array(value, "float32")
    with pytest.raises(error, match=message):
        as_arrays({"source": np.ones(3), "mass": value}, "float32")
