"""A model applied to batches."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf

from imnn_tf.fit.passes import Summariser, count_summaries, seed_variables, summarise

DTYPE = tf.float64


def source(at_once=None, n_s=30, n_d=20):
    return reference.held(
        *reference.simulations(0, n_s, n_d), reference.DELTA_THETA, dtype=DTYPE, at_once=at_once
    )


def dropout_model(rate=0.5):
    dropout = keras.layers.Dropout(rate, seed=3, dtype="float64")
    return reference.dense_model(width=16, dtype="float64", extra=[dropout])


def trained_on(model, simulations, data=None):
    """Summaries, as in training, of the rows of the first batch, or of others in their place."""
    batch = simulations.batches().at(0)
    batch = batch if data is None else batch._replace(data=data)
    return tf.concat(summarise(model, batch, simulations, training=True), axis=0)


@pytest.mark.parametrize("at_once", [None, 30, 11, 7, 1])
def test_statistics_do_not_depend_on_the_batches(at_once):
    model = reference.dense_model(width=16, dtype="float64")
    simulations = source(at_once)
    total = Summariser(model, 2).statistics(simulations)
    fiducial, derivative = reference.simulations(0, 30, 20)
    x = model(fiducial).numpy()
    below, above = (
        model(derivative[:, side].reshape(-1, 10)).numpy().reshape(20, 2, 2) for side in (0, 1)
    )
    assert total.moments.n == 30
    np.testing.assert_allclose(total.moments.mean, x.mean(0))
    np.testing.assert_allclose(total.moments.scatter, np.cov(x, rowvar=False) * 29)
    np.testing.assert_allclose(total.slope, (above - below).mean(0) / 0.1)


def test_random_layers_draw_the_same_noise_for_both_sides_of_a_derivative():
    # All rows of the data are equal, so the two sides can differ by noise only.
    model, simulations = dropout_model(), source()
    same = tf.ones([sum(simulations.blocks), 10], DTYPE)
    x = trained_on(model, simulations, same)
    blocks = tf.split(x, simulations.blocks)[1:]
    for block in blocks[1:]:
        np.testing.assert_array_equal(block, blocks[0])
    assert np.unique(blocks[0][:, 0]).size > 1


def test_random_layers_draw_anew_at_the_next_pass():
    model, simulations = dropout_model(), source()
    first, second = (trained_on(model, simulations) for _ in range(2))
    assert np.abs(first - second).max() > 0


def test_normalising_layers_see_the_whole_batch():
    batch_norm = keras.layers.BatchNormalization(dtype="float64")
    model = keras.Sequential([keras.Input((10,), dtype="float64"), batch_norm])
    simulations = source()
    data = simulations.batches().at(0).data
    x = trained_on(model, simulations)
    whole = (data - data.numpy().mean(0)) / np.sqrt(data.numpy().var(0) + 1e-3)
    np.testing.assert_allclose(x, whole)


def test_summaries_have_the_precision_of_the_data_whatever_the_model_computes_in():
    model, simulations = reference.dense_model(width=4, dtype="bfloat16"), source()
    assert trained_on(model, simulations).dtype == DTYPE


def test_seed_variables_are_neither_weights_nor_metrics():
    assert seed_variables(reference.dense_model(width=4)) == []
    assert len(seed_variables(dropout_model())) == 1


def test_count_summaries():
    data = source().batches().at(0).data
    assert count_summaries(reference.dense_model(n_summaries=5), data) == 5


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([keras.layers.Reshape((5, 2))], r"must map a batch .* \(2, 5, 2\) from a batch of 2"),
        ([keras.layers.Flatten(), keras.layers.Dense(2)], None),
    ],
)
def test_models_that_do_not_summarise_are_named(layers, message):
    if message is None:
        model = keras.Sequential([keras.Input((11,)), *layers])
        message = r"`model` must take batches of simulations of shape \(10,\)"
    else:
        model = keras.Sequential([keras.Input((10,)), *layers])
    with pytest.raises(ValueError, match=message):
        count_summaries(model, source().batches().at(0).data)
