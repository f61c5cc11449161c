"""Statistics of groups of simulations."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf

from imnn_tf import IMNN
from imnn_tf.fisher.groups import N_GROUPS, group_sizes, group_statistics, total_statistics
from imnn_tf.fit.passes import Summariser
from imnn_tf.fit.replicas import Replicas
from imnn_tf.simulations.sources.cache import Cache

DTYPE = tf.float64
N_S, N_D = 150, 90


def model():
    return reference.dense_model(width=16, dtype="float64")


def expected(network, fiducial, derivative, group):
    """Count, mean, scatter and share of the slope of one group, one simulation at a time."""
    x = network(fiducial[group::N_GROUPS]).numpy()
    pairs = derivative[group::N_GROUPS]
    y = network(pairs.reshape(-1, 10)).numpy().reshape(len(pairs), 2, 2, 2)
    return len(x), x.mean(0), len(x) * np.cov(x.T, bias=True), (y[:, 1] - y[:, 0]).sum(0) / 0.1


@pytest.mark.parametrize("cache", ["memory", False])
@pytest.mark.parametrize("at_once", [None, 64, 40, 7])
def test_each_simulation_is_in_the_group_of_its_number_whatever_the_batches(at_once, cache):
    fiducial, derivative = reference.simulations(0, N_S, N_D)
    network = model()
    simulations = reference.held(
        fiducial,
        derivative,
        reference.DELTA_THETA,
        dtype=DTYPE,
        at_once=at_once,
        cache=Cache(cache),
    )
    (count, mean, scatter), slope = group_statistics(Summariser(network, 2), simulations)
    for group in (0, 1, 21, 22, 40, 63):
        n, centre, spread, slopes = expected(network, fiducial, derivative, group)
        assert count[group] == n
        np.testing.assert_allclose(mean[group], centre, rtol=1e-10)
        np.testing.assert_allclose(scatter[group], spread, rtol=1e-8, atol=1e-14)
        np.testing.assert_allclose(slope[group], slopes / N_D, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("at_once", [None, 40])
def test_the_groups_add_up_to_the_whole(at_once):
    given = reference.simulations(0, N_S, N_D)
    simulations = reference.held(*given, reference.DELTA_THETA, dtype=DTYPE, at_once=at_once)
    summariser = Summariser(model(), 2)
    total = total_statistics(group_statistics(summariser, simulations))
    whole = summariser.statistics(simulations)
    for got, want in zip(tf.nest.flatten(total), tf.nest.flatten(whole), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


def test_groups_without_simulations_add_nothing():
    given = reference.simulations(0, 12, 5)
    simulations = reference.held(*given, reference.DELTA_THETA, dtype=DTYPE)
    summariser = Summariser(model(), 2)
    groups = group_statistics(summariser, simulations)
    assert not np.any(groups.slope[5:])
    np.testing.assert_array_equal(groups.moments.n, np.arange(N_GROUPS) < 12)
    whole = summariser.statistics(simulations)
    for got, want in zip(
        tf.nest.flatten(total_statistics(groups)), tf.nest.flatten(whole), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


def test_sizes_of_groups():
    np.testing.assert_array_equal(group_sizes(10), np.arange(N_GROUPS) < 10)
    np.testing.assert_array_equal(group_sizes(130), 2 + (np.arange(N_GROUPS) < 2))


def exact_problem():
    noise = np.random.default_rng(0).normal(size=(N_S, 10))
    return noise, np.stack([np.ones_like(noise), noise / 2], axis=-1)[:N_D]


@pytest.mark.parametrize("at_once", [None, 40])
def test_exact_derivatives(at_once):
    fiducial, derivative = exact_problem()
    network = reference.dense_model(width=16, dtype="float64", activation="tanh")
    simulations = reference.held(fiducial, derivative, None, dtype=DTYPE, at_once=at_once)
    groups = group_statistics(Summariser(network, 2), simulations)
    step, group = 1e-5, 3
    for parameter in range(2):
        along = derivative[group::N_GROUPS, :, parameter]
        below, above = (
            network(fiducial[group:N_D:N_GROUPS] + side * step * along).numpy() for side in (-1, 1)
        )
        want = (above - below).sum(0) / (2 * step) / N_D
        np.testing.assert_allclose(groups.slope[group, parameter], want, rtol=1e-5, atol=1e-10)


def test_replicas_give_what_one_device_gives(mirrored):
    given = reference.simulations(0, N_S, N_D)
    simulations = reference.held(*given, reference.DELTA_THETA, dtype=DTYPE, at_once=40)
    with mirrored.scope():
        network = model()
    spread = Summariser(network, 2, replicas=Replicas(mirrored))
    alone = Summariser(model(), 2)
    for got, want in zip(
        tf.nest.flatten(group_statistics(spread, simulations)),
        tf.nest.flatten(group_statistics(alone, simulations)),
        strict=True,
    ):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def test_external_summaries_stand_after_those_of_the_network():
    fiducial, derivative = reference.simulations(0, N_S, N_D)
    imnn = IMNN(
        θ_fid=reference.THETA_FID,
        δθ=reference.DELTA_THETA,
        fiducial=fiducial,
        derivative=derivative,
        external_fiducial=fiducial.mean(-1, keepdims=True),
        external_derivative=derivative.mean(-1, keepdims=True),
        model=keras.Sequential([keras.Input((10,)), keras.layers.Dense(2)]),
        dtype=tf.float64,
        at_once=40,
        verbose=False,
    )
    groups = group_statistics(imnn._summariser, imnn._training)
    np.testing.assert_allclose(groups.moments.mean[5, 2], fiducial[5::N_GROUPS].mean())
    np.testing.assert_allclose(groups.slope[:, 0, 2], group_sizes(N_D) / N_D, atol=1e-12)


def test_a_first_batch_with_a_mean_of_zero_is_a_batch_like_any_other():
    fiducial, derivative = reference.simulations(0, N_S, N_D)
    fiducial[:25] = -fiducial[25:50]
    fiducial[50:] += 3
    simulations = reference.held(
        fiducial, derivative, reference.DELTA_THETA, dtype=DTYPE, at_once=50
    )
    assert simulations.n_batches == 3
    network = keras.Sequential(
        [keras.Input((10,)), keras.layers.Dense(2, use_bias=False, dtype="float64")]
    )
    total = total_statistics(group_statistics(Summariser(network, 2), simulations))
    summaries = network(fiducial).numpy()
    np.testing.assert_allclose(total.moments.mean, summaries.mean(0), rtol=1e-10)
    expected = (N_S - 1) * np.cov(summaries, rowvar=False)
    np.testing.assert_allclose(total.moments.scatter, expected, rtol=1e-10)
