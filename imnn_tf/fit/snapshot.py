"""Weights that a fit keeps, and when it last came closer to such weights."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from imnn_tf.fit.passes import assign_all
from imnn_tf.information import Information
from imnn_tf.regularisation import divergence_from_identity
from imnn_tf.utils.tensors import known_shape
from imnn_tf.utils.types import KerasModel

# The largest mean of `v − ln v − 1` over the eigenvalues v of the covariance with which weights
# count as fitted. Equal eigenvalues may be between 0.16 and 3.1.
_LARGEST_DIVERGENCE = 1.0

# Scores of weights on the same simulations differ by less than this: only by rounding.
_LARGEST_ROUNDING = 1e-3

# The covariance comes closer to the identity if its divergence falls by this share.
_LEAST_PROGRESS = 0.001


class Score(NamedTuple):
    """How good the summaries of some weights are."""

    log_det_fisher: tf.Tensor  # [], float64
    divergence: tf.Tensor  # [], float64, of the covariance from the identity, for each summary

    @classmethod
    def of(cls, info: Information) -> "Score":
        """The score of summaries with some information."""
        divergence = divergence_from_identity(info) / known_shape(info.covariance)[0]
        return cls(tf.cast(info.log_det_fisher, tf.float64), tf.cast(divergence, tf.float64))

    @property
    def scaled(self) -> tf.Tensor:
        """Whether the covariance is near the identity, a boolean `[]`."""
        return self.divergence <= _LARGEST_DIVERGENCE


class Snapshot:
    """A copy of a model's weights, with the update that they belong to.

    Args:
        model: The model.

    Attributes:
        values: One variable for each weight of the model, in the weight's shape.
        update: The update after which the model had these weights, `[]`, int64; −1 if none.
    """

    def __init__(self, model: KerasModel) -> None:
        self.values = [tf.Variable(weight.value, trainable=False) for weight in model.weights]
        self.update = tf.Variable(tf.constant(-1, tf.int64), trainable=False)

    def keep(self, model: KerasModel, update: tf.Tensor) -> None:
        """Keeps the weights that a model has.

        Args:
            model: The model.
            update: The number of the update that gave them, `[]`.
        """
        assign_all(self.values, [weight.value for weight in model.weights])
        self.update.assign(update)

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

    def set(self, values: list[np.ndarray], update: int) -> None:
        """Takes over weights.

        Args:
            values: One array for each weight of the model, in the weight's shape, as `arrays`
                returned them. An empty list leaves the weights as they are.
            update: The number of the update that gave them; −1 if there are none.
        """
        if values:
            assign_all(self.values, values)
        self.update.assign(update)

    def forget(self) -> None:
        """Keeps no weights."""
        self.set([], -1)


class BestSnapshot(Snapshot):
    """The best weights of a fit so far.

    Weights whose summaries have a covariance near the identity are better than all others. Of two
    that have, or two that have not, those with the higher `ln det F` are better. While a fit still
    finds the scale of the summaries, its `ln det F` may rise and fall again.

    Args:
        model: The model.

    Attributes:
        score: `ln det F` of these weights, `[]`, float64; minus infinity if none were kept.
        scaled: Whether their covariance was near the identity, `[]`, boolean.
        closest: The least divergence of the covariance so far, `[]`, float64.
        approached: The update after which that last fell, `[]`, int64; −1 if none.
    """

    def __init__(self, model: KerasModel) -> None:
        super().__init__(model)
        self.score = tf.Variable(tf.constant(-np.inf, tf.float64), trainable=False)
        self.scaled = tf.Variable(tf.constant(False), trainable=False)
        self.closest = tf.Variable(tf.constant(np.inf, tf.float64), trainable=False)
        self.approached = tf.Variable(tf.constant(-1, tf.int64), trainable=False)

    @property
    def last_progress(self) -> tf.Tensor:
        """The update after which patience counts, `[]`, int64: the last one that got further.

        Better weights are progress. So is a covariance closer to the identity, until it is near.
        """
        return tf.maximum(self.update, self.approached)

    def keep_if_better(self, model: KerasModel, score: Score, update: tf.Tensor) -> None:
        """Keeps the weights that a model has if they are better, and notes what else got better.

        Args:
            model: The model.
            score: The score of its weights.
            update: The number of the update that gave them, `[]`.
        """
        higher = score.log_det_fisher > self.score
        better = tf.where(tf.equal(score.scaled, self.scaled), higher, score.scaled)
        closer = score.divergence < (1 - _LEAST_PROGRESS) * self.closest
        closer &= tf.logical_not(self.scaled | score.scaled)

        def keep() -> None:
            self.keep(model, update)
            self.score.assign(score.log_det_fisher)
            self.scaled.assign(score.scaled)

        tf.cond(better, keep, lambda: None)
        self.closest.assign(tf.where(closer, score.divergence, self.closest))
        self.approached.assign(tf.where(closer, update, self.approached))

    def rescore(self, score: Score) -> bool:
        """Takes over the score that the weights have on the simulations at hand.

        Args:
            score: The score; the weights are forgotten if it is not finite.

        Returns:
            Whether it is another one than before, so that the simulations are others.
        """
        log_det_fisher = float(score.log_det_fisher)
        if abs(log_det_fisher - float(self.score.numpy())) <= _LARGEST_ROUNDING:
            return False
        if np.isfinite(log_det_fisher):
            self.score.assign(score.log_det_fisher)
            self.scaled.assign(score.scaled)
            self.closest.assign(score.divergence)
        else:
            self.forget()
        return True

    def record(self) -> list[float | int | bool]:
        """All but the weights, as numbers to save."""
        parts = (self.score, self.update, self.scaled, self.closest, self.approached)
        return [part.numpy().item() for part in parts]

    def take_over(self, values: list[np.ndarray], record: Sequence[float | int | bool]) -> None:
        """Takes over what `arrays` and `record` returned.

        Args:
            values: One array for each weight of the model, in the weight's shape; none if none
                were kept.
            record: The numbers. Version 0.3 saved the first two alone.
        """
        missing = (-np.inf, -1, True, np.inf, -1)[len(record) :]
        score, update, scaled, closest, approached = (*record, *missing)
        self.set(values, int(update))
        self.score.assign(score)
        self.scaled.assign(scaled)
        self.closest.assign(closest)
        self.approached.assign(approached)

    def forget(self) -> None:
        """Keeps no weights, so that any later ones are better."""
        self.take_over([], [-np.inf, -1, False])
