"""Training and evaluation on two replicas give what one device gives, to rounding."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from problems import SIZE, draw, small_rim

from rim_tf import GaussianLikelihood, TrajectoryLoss


def largest(target, trajectory):
    """A loss of one's own, one number for each example."""
    return tf.reduce_max(tf.square(trajectory - target[:, tf.newaxis]), (1, 2, 3))


def run(strategy, data, loss=None, **options):
    """Weights, history and evaluation of a fit whose likelihood logs chi-squared."""
    with strategy.scope():
        likelihood = GaussianLikelihood(lambda x, a: tf.linalg.matvec(a, x[..., 0]))
        rim = small_rim(likelihood=likelihood)
        rim.compile(keras.optimizers.SGD(0.02), loss, jit_compile=False)
    options = {"verbose": 0, "seed": 0, "batch_size": 4, "epochs": 2, **options}
    history = rim.fit(data, **options).history
    weights = {"sample_weight": options["sample_weight"]} if "sample_weight" in options else {}
    logs = rim.evaluate(data, batch_size=4, verbose=0, return_dict=True, **weights)
    return [variable.numpy() for variable in rim.variables], history, logs


def weights_of(*shape):
    return np.random.default_rng(0).uniform(0.1, 5, shape)


@pytest.mark.parametrize(
    ("count", "loss", "weights"),
    [
        (7, None, None),  # the last batch has two examples for one replica and one for the other
        (5, None, weights_of(5)),  # one and none
        (4, None, weights_of(4, SIZE)),  # of pixels
        (4, None, np.array([0.0, 0.0, 1.0, 2.0])),  # a mask of all that one replica sees
        (7, largest, weights_of(7)),
        (5, TrajectoryLoss("last"), None),
    ],
)
def test_replicas_agree_with_one_device(mirrored, count, loss, weights):
    options = {} if weights is None else {"sample_weight": weights}
    check(mirrored, draw(count, 7), loss, **options)


def check(mirrored, data, loss=None, **options):
    one = tf.distribute.OneDeviceStrategy("CPU:0")
    (ours, history, logs), (theirs, their_history, their_logs) = (
        run(strategy, data, loss, **options) for strategy in (mirrored, one)
    )
    for got, want in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    for name, values in their_history.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-4, err_msg=name)
    for name, value in their_logs.items():
        np.testing.assert_allclose(logs[name], value, rtol=1e-4, err_msg=name)
