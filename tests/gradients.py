"""Models, and the gradient of a loss by the plainest of ways."""

import keras
import reference
import tensorflow as tf

from imnn_tf import information
from imnn_tf.summaries import noise_of_batches, statistics
from imnn_tf.training import Objective

DTYPE = tf.float64


def plain_model():
    return reference.dense_model(width=16, dtype="float64")


def dropout_model():
    return reference.dense_model(
        width=16, dtype="float64", extra=[keras.layers.Dropout(0.3, seed=5, dtype="float64")]
    )


def batch_normalised_model():
    return reference.dense_model(
        width=16, dtype="float64", extra=[keras.layers.BatchNormalization(dtype="float64")]
    )


def normalised_model():
    return reference.dense_model(
        width=16,
        dtype="float64",
        extra=[
            keras.layers.BatchNormalization(dtype="float64"),
            keras.layers.Dropout(0.3, seed=5, dtype="float64"),
        ],
    )


MODELS = {"plain": plain_model, "dropout": dropout_model, "normalised": normalised_model}


def objective_of(model, loss="divergence"):
    strength, rate = (tf.Variable(value, dtype=DTYPE) for value in (5.0, 0.953))
    return Objective(model, 2, information.LOSSES[loss], strength, rate)


def one_tape_gradient(objective, simulations):
    """Loss and gradient with all batches on one tape: what the two passes must reproduce."""
    batch_at, draw_for = simulations.begin()(), noise_of_batches(objective.model)
    with tf.GradientTape() as tape:
        total = None
        for index in range(simulations.n_batches):
            batch = batch_at(tf.constant(index))
            draw_for(tf.constant(index))
            part = statistics(objective.model, batch, simulations, training=True)
            total = (
                part
                if total is None
                else information.Statistics(
                    information.merge(total.moments, part.moments), total.slope + part.slope
                )
            )
        loss = objective.assess(total)[0].total
    if simulations.n_batches > 1:
        draw_for(tf.constant(simulations.n_batches))
    return loss, tape.gradient(loss, [v.value for v in objective.model.trainable_variables])
