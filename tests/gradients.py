"""Models, and the gradient of a loss by automatic differentiation alone."""

import keras
import reference
import tensorflow as tf

from imnn_tf import information
from imnn_tf.fit.objective import Objective
from imnn_tf.fit.passes import Summariser, batch_statistics, noise_of_batches
from imnn_tf.regularisation import DEFAULT_STRENGTH, Regularisation

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
    # With the closeness 0.1 the published coupling has the rate 0.953.
    regularisation = Regularisation(loss, DEFAULT_STRENGTH.get(loss, 1.0), 0.1)
    return Objective(Summariser(model, 2), regularisation)


def one_tape_gradient(objective, simulations):
    """Loss and gradient with all batches on one tape, which the two passes must reproduce."""
    model, batches = objective.summariser.model, simulations.batches()
    draw_for = noise_of_batches(model)
    with tf.GradientTape() as tape:
        total = None
        for index in range(simulations.n_batches):
            draw_for(tf.constant(index))
            part = batch_statistics(model, batches.at(index), simulations, training=True)
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
    return loss, tape.gradient(loss, [v.value for v in model.trainable_variables])
