"""Simulations in memory, laid out in batches."""

import numpy as np
import pytest
import reference
import tensorflow as tf

from imnn_tf.simulations.layout import Layout


def images(n_s=7, n_d=5, n_params=3):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n_s, 4, 3)), rng.normal(size=(n_d, 2, n_params, 4, 3))


@pytest.mark.parametrize("at_once", [None, 100, 7, 4, 3, 1])
def test_arrays_are_returned_as_they_were_passed(at_once):
    fiducial, derivative = images()
    source = reference.held(fiducial, derivative, np.ones(3), dtype=tf.float64, at_once=at_once)
    np.testing.assert_array_equal(source.fiducial, fiducial)
    np.testing.assert_array_equal(source.derivative, derivative)
    assert source.blocks[0] <= (at_once or 7)


@pytest.mark.parametrize("at_once", [None, 3])
def test_every_simulation_is_in_one_batch_with_its_label(at_once):
    fiducial, derivative = images()
    step = np.array([0.1, 0.2, 0.4])
    source = reference.held(fiducial, derivative, step, dtype=tf.float64, at_once=at_once)
    started = source.batches()
    batches = [started.at(index) for index in range(source.n_batches)]
    labelled = {}
    for batch in batches:
        for row, label in zip(
            batch.data, [*batch.fiducial_weights, *batch.slope_weights], strict=True
        ):
            if np.any(label):
                key = row.numpy().tobytes()
                assert key not in labelled
                labelled[key] = label.numpy()
    assert len(labelled) == 7 + 5 * 2 * 3
    for simulation in fiducial:
        assert labelled[simulation.tobytes()] == 1
    for pair in derivative:
        for side, sign in ((0, -1), (1, 1)):
            for parameter in range(3):
                expected = np.zeros(3)
                expected[parameter] = sign / (5 * step[parameter])
                got = labelled[pair[side, parameter].tobytes()]
                np.testing.assert_allclose(got, expected)


def test_slope_weights_of_a_derivative_cancel():
    layout = Layout(5, 5, 2, np.array([0.1, 0.4]))
    weights = layout.slope_weights.reshape(2, 2, 5, 2)
    np.testing.assert_allclose(weights[1, :, 0], np.diag([2.0, 0.5]))
    np.testing.assert_allclose(weights.sum(0), 0)


def test_map_fn_is_applied_anew_at_every_pass():
    fiducial, derivative = reference.simulations(0, 6, 4)
    counter = tf.Variable(0.0, dtype=tf.float64)

    def count_up(simulation):
        return tf.zeros_like(simulation)[:4] + counter.assign_add(1)

    source = reference.held(
        fiducial, derivative, np.ones(2), dtype=tf.float64, at_once=3, map_fn=count_up
    )
    first = source.fixed(0)
    np.testing.assert_array_equal(first.batches().at(1).data, first.batches().at(1).data)
    assert first.batches().at(1).data.shape[1:] == (4,)
    second = source.fixed(0)
    assert np.all(second.batches().at(1).data > first.batches().at(1).data)


@pytest.mark.parametrize(
    ("fiducial", "derivative", "error", "message"),
    [
        (np.zeros(5), None, ValueError, r"`fiducial` must have shape \(n_s, \*input_shape\)"),
        (None, None, TypeError, "`fiducial` must be an array, a function"),
        (["a", "b"], None, FileNotFoundError, "a"),
        ([["a"] * 10], None, TypeError, "`fiducial` must hold real numbers"),
        ([[1.0], [1.0, 2.0]], None, ValueError, "`fiducial` must be an array, got rows of uneq"),
        (np.full((3, 10), np.nan), None, ValueError, "`fiducial` must be finite, got 30"),
        (np.zeros((3, 10)), np.zeros((3, 2, 10)), ValueError, r"\(n_d, 2, 2, 10\).*\(3, 2, 10\)"),
        (np.zeros((3, 10)), np.zeros((0, 2, 2, 10)), ValueError, "`derivative` must have shape"),
        (np.zeros((3, 10)), None, TypeError, "`derivative` must be an array"),
    ],
)
def test_bad_arrays_are_named(fiducial, derivative, error, message):
    with pytest.raises(error, match=message):
        reference.as_simulations(fiducial, derivative, 2, np.ones(2), dtype=tf.float32)
