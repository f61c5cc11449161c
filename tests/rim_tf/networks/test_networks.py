import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from problems import awake

from imnn_tf.utils.seeds import layer_seeds
from rim_tf import Hourglass, PutzkyWelling, UNet

SMALL = {"nf": 4, "hidden_units": 4, "seed": 0}
NETWORKS = {
    "hourglass": lambda **k: Hourglass(2, **{**SMALL, **k}),
    "smooth hourglass": lambda **k: Hourglass(2, resample_with_conv=False, **{**SMALL, **k}),
    "unet": lambda **k: UNet(2, **{**SMALL, **k}),
    "recurrent unet": lambda **k: UNet(
        2, recurrent_skips=True, combine_method="sum", **{**SMALL, **k}
    ),
    "putzky welling": lambda **k: PutzkyWelling(2, features=(3, 5, 4), seed=0, **k),
}
SIZES = {1: (13,), 2: (6, 11), 3: (5, 4, 7)}

each_network = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


@each_network
@pytest.mark.parametrize("padding", ["zero", "reflect", "periodic"])
@pytest.mark.parametrize("rank", SIZES)
def test_any_size_comes_back_and_every_state_moves(make, padding, rank):
    network = make(dimensions=rank, padding=padding)
    inputs = np.random.default_rng(0).normal(size=(3, *SIZES[rank], 4)).astype("float32")
    state = network.initial_state(3, SIZES[rank])
    for _ in range(2):
        step, new = network(inputs, state)
        assert step.shape == (3, *SIZES[rank], 2)
        tf.nest.assert_same_structure(state, new)
        for before, after in zip(tf.nest.flatten(state), tf.nest.flatten(new), strict=True):
            assert before.shape == after.shape
            # No channel of any hidden state may be left as it was.
            changed = np.asarray(before) != np.asarray(after)
            assert changed.reshape(-1, changed.shape[-1]).any(axis=0).all()
        state = new


@each_network
def test_periodic_networks_commute_with_shifts(make):
    """On a periodic grid that the network coarsens evenly there is no preferred origin."""
    network = awake(make(dimensions=2, padding="periodic", dtype="float64"))
    inputs = np.random.default_rng(1).normal(size=(1, 8, 12, 4))
    steps = []
    for image in (inputs, np.roll(inputs, (4, -8), (1, 2))):
        state = network.initial_state(1, (8, 12))
        _, state = network(image, state)
        steps.append(np.asarray(network(image, state)[0]))
    np.testing.assert_allclose(np.roll(steps[0], (4, -8), (1, 2)), steps[1], atol=1e-12)


@each_network
def test_every_weight_gets_a_gradient(make):
    network = awake(make(dimensions=1))
    inputs = np.random.default_rng(2).normal(size=(2, 9, 4)).astype("float32")
    state = network.initial_state(2, (9,))
    with tf.GradientTape() as tape:
        step, state = network(inputs, state)
        step, state = network(inputs, state)
        loss = tf.reduce_sum(step**2)
    for gradient in tape.gradient(loss, network.trainable_variables):
        assert np.any(gradient != 0)


def test_seeds_come_one_by_one_as_they_come_together():
    """Files hold no seeds of layers, so the weights drawn from one must never change."""
    together = [int(word) for word in np.random.SeedSequence(3).generate_state(9)]
    assert list(itertools.islice(layer_seeds(3), 9)) == together
    assert next(layer_seeds(None)) is None


def test_configurations_name_every_argument():
    common = {"channels", "dimensions", "kernel_size", "activation", "padding", "seed"}
    pyramid = {"nf", "ch_mult", "hidden_units", "num_layers"}
    pyramid |= {"conv_kernel_size", "input_kernel_size"}
    keras_own = {"name", "trainable", "dtype"}
    for network, own in (
        (Hourglass(1), pyramid | {"resample_with_conv", "fir_kernel"}),
        (UNet(1), pyramid | {"recurrent_skips", "combine_method"}),
        (PutzkyWelling(1), {"features", "strides"}),
    ):
        assert set(network.get_config()) == keras_own | common | own


@each_network
def test_round_trip(make):
    network = make(dimensions=1)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(network))
    assert again.get_config() == network.get_config()
    network.build((None, None, 4))
    again.build((None, None, 4))
    for ours, theirs in zip(network.variables, again.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)  # the seed is part of the configuration


def test_putzky_welling_takes_vectors():
    network = PutzkyWelling(3, dimensions=0, features=(4, 5, 6))
    step, state = network(np.zeros((2, 6), "float32"), network.initial_state(2, ()))
    assert step.shape == (2, 3)
    assert state.shape == (2, 5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Hourglass(0), "`channels` must be at least 1, got 0"),
        (lambda: Hourglass(1, 0), "`dimensions` must be 1 to 3, got 0"),
        (lambda: UNet(1, 4), "`dimensions` must be at most 3, got 4"),
        (
            lambda: UNet(1, combine_method="mean"),
            "`combine_method` must be one of 'cat', 'sum'",
        ),
        (lambda: UNet(1, ch_mult=(2, 0)), "`ch_mult` must be at least 1, got 0"),
        (lambda: UNet(1, num_layers=0), "`num_layers` must be at least 1, got 0"),
        (lambda: UNet(1, hidden_units=5), "`hidden_units` must be even, got 5"),
        (lambda: UNet(1, seed=-1), "`seed` must be at least 0, got -1"),
        (lambda: Hourglass(1, num_layers=-1), "`num_layers` must be at least 0, got -1"),
        (lambda: Hourglass(1, input_kernel_size=0), "`input_kernel_size` must be at least 1"),
        (lambda: Hourglass(1, conv_kernel_size=0), "`conv_kernel_size` must be at least 1"),
        (lambda: Hourglass(1, padding="same"), "`padding` must be one of 'zero', 'reflect'"),
        (lambda: Hourglass(1, filters=3), "Unrecognized keyword arguments"),
        (lambda: PutzkyWelling(1, strides=0), "`strides` must be at least 1, got 0"),
        (lambda: PutzkyWelling(1, features=(1, 2)), "`features` must have 3 entries, got 2"),
    ],
)
def test_bad_arguments_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
