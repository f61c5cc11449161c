import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from problems import SIZE, awake, draw, energy_fn, score_fn, small_network, small_rim

from rim_tf import RIM, Hourglass, PutzkyWelling, TrajectoryLoss, UNet
from rim_tf.problem.preprocessing import Adam


def reference_trajectory(rim, y, *args, steps):
    """The recursion in the class's docstring, by hand, without links or preprocessing."""
    u = np.zeros((len(y), SIZE, 1), "float32")
    state = rim.network.initial_state(len(y), (SIZE,))
    trajectory = []
    for _ in range(steps):
        score = np.asarray(score_fn(tf.constant(u), y, *args))
        step, state = rim.network(np.concatenate([u, score], -1), state)
        u = u + np.asarray(step)
        trajectory.append(u)
    return np.stack(trajectory, 1)


def test_trajectory_is_the_recursion():
    rim = small_rim(T=3)
    y, _, *args = draw(4, 0)
    expected = reference_trajectory(rim, y, *args, steps=3)
    assert expected.shape == (4, 3, SIZE, 1)
    np.testing.assert_allclose(rim((y, *args)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("T", [1, 2, 5])
def test_steps_can_change_at_prediction(T):
    rim = small_rim()
    y, _, *args = draw(4, 1)
    expected = reference_trajectory(rim, y, *args, steps=T)
    trajectory = rim.predict(y, *args, T=T, trajectory=True, jit_compile=False)
    np.testing.assert_allclose(trajectory, expected, rtol=1e-5, atol=1e-6)
    last = rim.predict(y, *args, T=T, jit_compile=False)
    np.testing.assert_array_equal(last, trajectory[:, -1])


@pytest.mark.parametrize("method", ["scaled", "identity", "arcsinh", "adam", "rmsprop"])
def test_xla_graph_and_eager_agree(method):
    rim = small_rim(score_preprocessing_method=method, T=3)
    y, _, *args = draw(6, 2)
    eager = rim((y, *args))
    for jit in (True, False):
        compiled = rim.predict(y, *args, trajectory=True, jit_compile=jit)
        np.testing.assert_allclose(compiled, eager, rtol=2e-4, atol=2e-5)


def test_predicting_in_batches_changes_nothing():
    rim = small_rim()
    y, _, *args = draw(7, 3)
    whole = rim.predict(y, *args, jit_compile=False)
    for size in (3, 7, 100):
        parts = rim.predict(y, *args, batch_size=size, jit_compile=False)
        np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)


def test_a_scalar_holds_for_every_example():
    rim = small_rim()
    y, _, a, _ = draw(3, 3)
    same = rim.predict(y, a, np.full(3, 0.7, "float32"), jit_compile=False)
    np.testing.assert_array_equal(rim.predict(y, a, 0.7, jit_compile=False), same)


def test_energy_score_and_single_example_agree():
    y, _, *args = draw(4, 4)

    def one_energy(x, y, a, sigma):
        return energy_fn(x[None], y[None], a[None], sigma[None])[0]

    results = [
        small_rim(**options).predict(y, *args, jit_compile=False)
        for options in (
            {"score_fn": score_fn},
            {"energy_fn": energy_fn},
            {"energy_fn": one_energy, "vectorize": True},
        )
    ]
    np.testing.assert_allclose(results[1], results[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(results[2], results[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["zeros", "approximate_inverse", "model"])
def test_initialization(method):
    options = {"initialization_method": method, "link_function": "exp", "T": 1}
    if method == "approximate_inverse":
        options["approximate_inverse_fn"] = lambda y, a, sigma: tf.exp(y[:, :SIZE, None])
    rim = small_rim(**options)
    y, _, *args = draw(3, 5)
    u, state = rim._start(tf.constant(y), args, [])
    zeros = np.zeros((3, SIZE, 1), "float32")
    fresh = rim.network.initial_state(3, (SIZE,))
    if method == "model":
        expected, fresh = rim.network(np.concatenate([zeros, zeros], -1), fresh)
    else:
        expected = zeros if method == "zeros" else y[:, :SIZE, None]
    np.testing.assert_allclose(u, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(state, fresh)


def test_observation_can_be_shown():
    def denoising_score(x, y):
        return y[..., None] - x

    network = small_network()
    options = {"score_preprocessing_method": "identity", "observation_channels": 1, "T": 2}
    rim = RIM([9], network, score_fn=denoising_score, **options)
    assert network.down.kernel.shape[-2] == 3
    y = np.random.default_rng(0).normal(size=(2, 9)).astype("float32")
    u = np.zeros((2, 9, 1), "float32")
    step, _ = network(np.stack([u[..., 0], y, y], -1), network.initial_state(2, (9,)))
    np.testing.assert_allclose(rim(y)[:, 0], step, rtol=1e-5)
    with pytest.raises(ValueError, match=r"`y` must have shape \(batch, \*\(9, 1\)\)"):
        rim(np.zeros((2, 8), "float32"))


def test_unknown_sizes_are_the_observations():
    rim = RIM(
        [None, None],
        PutzkyWelling(1, 2, features=(2, 3, 2), padding="periodic"),
        score_fn=lambda x, y: y - x,
        T=2,
    )
    for sizes in ((5, 8), (4, 3)):
        y = np.ones((2, *sizes, 1), "float32")
        assert rim.predict(y).shape == y.shape
    with pytest.raises(ValueError, match="leaves sizes to the observation"):
        rim(np.ones((2, 4), "float32"))


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_gradients_reach_every_weight_in_any_dimension(rank):
    sizes = (5, 4, 3)[:rank]
    network = awake(PutzkyWelling(2, rank, features=(3, 4, 3), seed=1))
    rim = RIM(sizes, network, score_fn=lambda x, y: y - x, T=2)
    random = np.random.default_rng(0)
    y, x = (random.normal(size=(3, *sizes, 2)).astype("float32") for _ in range(2))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((rim(y) - x[:, None]) ** 2)
    for gradient in tape.gradient(loss, rim.trainable_variables):
        assert np.any(gradient != 0)


def test_fields_work_like_single_parameters():
    fields = {"source": 1, "mass": 1}

    def joint_energy(x, y):
        return 0.5 * tf.reduce_sum((x["source"] + 2.0 * x["mass"] - y[..., None]) ** 2, (1, 2))

    rim = RIM(
        [6],
        awake(PutzkyWelling(2, 1, features=(3, 4, 3), seed=0)),
        energy_fn=joint_energy,
        fields=fields,
        link_function={"mass": "exp"},
        T=2,
    )
    random = np.random.default_rng(0)
    x = {
        "source": random.normal(size=(8, 6, 1)).astype("float32"),
        "mass": random.lognormal(size=(8, 6, 1)).astype("float32"),
    }
    y = (x["source"] + 2 * x["mass"])[..., 0]
    estimate = rim.predict(y, jit_compile=False)
    assert {name: value.shape for name, value in estimate.items()} == {
        "source": (8, 6, 1),
        "mass": (8, 6, 1),
    }
    assert (estimate["mass"] > 0).all()
    rim.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    before = rim.evaluate(y, x, verbose=0, return_dict=True)
    mean = np.mean([np.mean((estimate[name] - x[name]) ** 2) for name in fields])
    np.testing.assert_allclose(before["error"], mean, rtol=1e-5)


def test_mixed_precision_keeps_the_iterate_exact():
    policy = keras.DTypePolicy("mixed_bfloat16")
    rim = small_rim(network=small_network(dtype=policy))
    y, _, *args = draw(3, 6)
    assert rim((y, *args)).dtype == tf.float32


def test_double_precision():
    rim = small_rim(network=small_network(dtype="float64"), dtype="float64")
    y, _, *args = draw(3, 6, "float64")
    assert rim((y, *args)).dtype == tf.float64


@pytest.mark.parametrize("method", ["scaled", Adam(0.7)], ids=["scaled", "adam"])
@pytest.mark.parametrize("kind", ["keras", "weights"])
def test_saved_and_loaded_predictions_are_equal_to_the_bit(tmp_path, kind, method):
    def make(seed):
        return RIM(
            [7],
            awake(Hourglass(1, nf=4, hidden_units=4, seed=seed), seed),
            score_fn=lambda x, y: y[..., None] - x,
            link_function="softplus",
            score_preprocessing_method=method,
            T=3,
        )

    rim = make(0)
    y = np.random.default_rng(1).normal(size=(4, 7)).astype("float32")
    if method == "scaled":
        rim.measure_scales(y, np.full((4, 7, 1), 3.0, "float32"))
    expected = rim.predict(y, jit_compile=False)
    if kind == "keras":
        path = tmp_path / "rim.keras"
        rim.save(path)
        score = {"score_fn": lambda x, y: y[..., None] - x}
        again = keras.saving.load_model(path, custom_objects=score)
        assert json.dumps(again.get_config()) == json.dumps(rim.get_config())
    else:
        path = tmp_path / "rim.weights.h5"
        rim.save_weights(path)
        again = make(1)
        again.load_weights(path)
    np.testing.assert_array_equal(again.predict(y, jit_compile=False), expected)


def test_a_compiled_rim_trains_on_after_loading(tmp_path):
    data = draw(8, 0)
    rim = small_rim(energy_fn=energy_fn)
    rim.compile(keras.optimizers.Adam(1e-2), TrajectoryLoss("linear"), jit_compile=False)
    rim.fit(data, verbose=0, seed=0)
    rim.save(tmp_path / "rim.keras")
    again = keras.saving.load_model(tmp_path / "rim.keras", custom_objects={"energy_fn": energy_fn})
    for model in (rim, again):
        model.fit(data, verbose=0, seed=1)
    assert int(again.optimizer.iterations) == 2
    for ours, theirs in zip(again.variables, rim.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_exported_rim_gives_the_same_trajectory(tmp_path):
    rim = small_rim(score_preprocessing_method="scaled")
    y, x, *args = draw(4, 0)
    rim.measure_scales((y, *args), x)
    rim.predict(y, *args, jit_compile=False)
    signature = [tuple(tf.TensorSpec([None, *each.shape[1:]]) for each in (y, *args))]
    rim.export(tmp_path / "served", input_signature=signature, verbose=False)
    loaded = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(loaded.serve((y, *args)), rim((y, *args)), rtol=1e-5, atol=1e-6)


def test_loading_without_the_functions_says_which(tmp_path):
    small_rim().save(tmp_path / "rim.keras")
    with pytest.raises(ValueError, match=r"needs its own functions again: pass \['score_fn'\]"):
        keras.saving.load_model(tmp_path / "rim.keras")


@pytest.mark.parametrize(
    "network",
    [
        Hourglass(1, 1, nf=2, hidden_units=2),
        UNet(1, 1, nf=2, hidden_units=2, recurrent_skips=True),
        PutzkyWelling(1, 1, features=(2, 3, 2)),
    ],
    ids=lambda network: type(network).__name__,
)
def test_configuration_round_trips(network):
    rim = RIM(
        [None],
        network,
        energy_fn=energy_fn,
        link_function="exp",
        initialization_method="model",
        score_preprocessing_method="adam",
        epsilon=1e-3,
        T=4,
        observation_channels=2,
        score_gradient=True,
    )
    again = RIM.from_config(rim.get_config(), {"energy_fn": energy_fn})
    assert again.get_config() == rim.get_config()


def test_a_network_of_ones_own():
    @keras.saving.register_keras_serializable("test_rim")
    class Steepest(keras.layers.Layer):
        channels = 1

        def build(self, input_shape):
            self.rate = self.add_weight(name="rate", shape=(), initializer="ones")

        def initial_state(self, batch_size, sizes):
            return tf.zeros([batch_size, 1])

        def call(self, inputs, state):
            return self.rate * inputs[..., 1:], state + 1.0

    plain = {"score_preprocessing_method": "identity"}
    rim = RIM([3], Steepest(), score_fn=lambda x, y: (y - x) / 2, T=3, **plain)
    y = np.ones((2, 3, 1), "float32")
    expected = [[1 - 0.5**t] for t in (1, 2, 3)]
    np.testing.assert_allclose(rim(y)[0, :, 0], expected, rtol=1e-6)


class Wrong(keras.layers.Layer):
    """A network that breaks the protocol in a way of choice."""

    channels = 1

    def __init__(self, step, state):
        super().__init__()
        self.wrong_step, self.wrong_state = step, state

    def initial_state(self, batch_size, sizes):
        return tf.zeros([batch_size, 1])

    def call(self, inputs, state):
        step = inputs if self.wrong_step else inputs[..., :1]
        return step, tf.concat([state, state], 1) if self.wrong_state else state


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: small_rim(T=0), ValueError, "`T` must be at least 1, got 0"),
        (lambda: small_rim(T=1.5), TypeError, "`T` must be an integer, got 1.5"),
        (
            lambda: small_rim(energy_fn=energy_fn, score_fn=score_fn),
            ValueError,
            r"Exactly one of .* got \['score_fn', 'energy_fn'\]",
        ),
        (lambda: RIM([3], small_network()), ValueError, "Exactly one of .* got none"),
        (lambda: small_rim(score_fn=3), TypeError, "`score_fn` must be callable, got int"),
        (
            lambda: small_rim(likelihood=3),
            TypeError,
            "`likelihood.score` must be callable, got NoneType",
        ),
        (
            lambda: small_rim(initialization_method="ones"),
            ValueError,
            "`initialization_method` must be one of 'zeros'",
        ),
        (
            lambda: small_rim(initialization_method="approximate_inverse"),
            ValueError,
            "`approximate_inverse_fn` must be given if and only if",
        ),
        (
            lambda: RIM(3, small_network(), score_fn=score_fn),
            TypeError,
            "`dimensions` must be a tuple of integers, got 3",
        ),
        (
            lambda: RIM([3], tf.identity, score_fn=score_fn),
            TypeError,
            "`network.channels` must be an integer, got None",
        ),
        (
            lambda: RIM([3, 3], small_network(), score_fn=score_fn),
            ValueError,
            r"`network` must have as many dimensions as `dimensions` \(3, 3\), got 1",
        ),
        (
            lambda: RIM([3], Wrong(True, False), score_fn=score_fn),
            ValueError,
            r"`network` must return a step \[1, 3, 1\], got \(1, 3, 2\)",
        ),
        (
            lambda: RIM([3], Wrong(False, True), score_fn=score_fn),
            ValueError,
            "`network` must return states of the shapes it got",
        ),
    ],
)
def test_bad_arguments_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_bad_predictions_are_named():
    rim = small_rim()
    y, _, a, sigma = draw(4, 0)
    with pytest.raises(ValueError, match=r"Argument 1 must have the batch axis of `y`, 4"):
        rim.predict(y, a[:3], sigma)
    with pytest.raises(ValueError, match="`y` must have a batch axis with examples"):
        rim.predict(y[:0], a, sigma)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        rim.predict(y, a, sigma, batch_size=0)
    with pytest.raises(ValueError, match="`T` must be at least 1"):
        rim.predict(y, a, sigma, T=0)
    inverse = {"approximate_inverse_fn": lambda y, *_: y}
    rim = small_rim(initialization_method="approximate_inverse", **inverse)
    with pytest.raises(ValueError, match=r"must have shape \(batch, 5, 1\), got \(4, 8\)"):
        rim.predict(y, a, sigma, jit_compile=False)
