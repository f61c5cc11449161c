"""Weights that a fit keeps."""

import numpy as np
import tensorflow as tf

from imnn_tf.fit.passes import assign_all
from imnn_tf.utils.types import KerasModel


class Snapshot:
    """A copy of a model's weights, with the score and the update that they belong to.

    Args:
        model: The model.

    Attributes:
        values: One variable for each weight of the model, in the weight's shape.
        score: `ln det F`, `[]`, float64; minus infinity if no weights were kept.
        update: The update after which the model had these weights, `[]`, int64; −1 if none.
    """

    def __init__(self, model: KerasModel) -> None:
        self.values = [tf.Variable(weight.value, trainable=False) for weight in model.weights]
        self.score = tf.Variable(tf.constant(-np.inf, tf.float64), trainable=False)
        self.update = tf.Variable(tf.constant(-1, tf.int64), trainable=False)

    def keep(self, model: KerasModel, score: tf.Tensor, update: tf.Tensor) -> None:
        """Keeps the weights that a model has.

        Args:
            model: The model.
            score: `ln det F` with these weights, `[]`.
            update: The number of the update that gave them, `[]`.
        """
        assign_all(self.values, [weight.value for weight in model.weights])
        self.score.assign(tf.cast(score, tf.float64))
        self.update.assign(update)

    def keep_if_better(self, model: KerasModel, score: tf.Tensor, update: tf.Tensor) -> None:
        """Keeps the weights that a model has if their score is higher than that of those kept.

        Args:
            model: The model.
            score: `ln det F` with these weights, `[]`.
            update: The number of the update that gave them, `[]`.
        """
        tf.cond(
            tf.cast(score, tf.float64) > self.score,
            lambda: self.keep(model, score, update),
            lambda: None,
        )

    def restore(self, model: KerasModel) -> None:
        """Gives a model these weights, if any were kept."""
        if self.update.numpy() >= 0:
            assign_all(model.weights, self.values)

    def matches(self, model: KerasModel) -> bool:
        """Whether a model has these weights."""
        return bool(self.update.numpy() >= 0) and all(
            np.array_equal(kept, weight)
            for kept, weight in zip(self.values, model.weights, strict=True)
        )

    def arrays(self) -> list[np.ndarray]:
        """One array for each weight of the model, in the weight's shape; none if none were kept."""
        return [value.numpy() for value in self.values] if self.update.numpy() >= 0 else []

    def set(self, values: list[np.ndarray], score: float, update: int) -> None:
        """Takes over weights, with their score and update.

        Args:
            values: One array for each weight of the model, in the weight's shape, as `arrays`
                returned them. An empty list leaves the weights as they are.
            score: Their `ln det F`; minus infinity if there are none.
            update: The number of the update that gave them; −1 if there are none.
        """
        if values:
            assign_all(self.values, values)
        self.score.assign(score)
        self.update.assign(update)

    def forget(self) -> None:
        """Lets any later score be better than this one."""
        self.set([], -np.inf, -1)
