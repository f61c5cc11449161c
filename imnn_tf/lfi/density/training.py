"""Training of an ensemble of flows: many updates of all members in one compiled call."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from imnn_tf.lfi.density.flow import Flows
from imnn_tf.utils import checks, seeds
from imnn_tf.utils.autodiff import gradients_of
from imnn_tf.utils.tensors import known_shape

# Children of the seed of a training. Child 1 is that of the first weights.
_SPLIT, _BATCHES = 0, 2

# The least and the most pairs of a batch whose size is not given.
_BATCH_SIZES = (50, 1000)


@dataclass(frozen=True)
class TrainingOptions:
    """How an ensemble is trained.

    Attributes:
        members: Flows in the ensemble.
        epochs: The most passes over the pairs. The learning rate falls to zero over them, along
            half a cosine.
        batch_size: Pairs of an update of one member. By default twice the square root of the number
            of pairs that it is trained on, from 50 to 1,000.
        learning_rate: That of AdamW in the first epoch.
        weight_decay: That of AdamW. It draws each flow back to the regression that it starts from.
        patience: Epochs without a better score after which a member stops.
        validation_share: The share of the pairs that score a member, and that it is not trained on.
        averaging: The share that the average of the weights keeps in an update. The averaged
            weights are scored and used.
        clip: The largest norm of a member's gradient. A longer one is shortened.
        jit_compile: Whether to compile with XLA, which takes five to ten seconds of a processor.
    """

    members: int = 5
    epochs: int = 60
    batch_size: int | None = None
    learning_rate: float = 3e-3
    weight_decay: float = 1.0
    patience: int = 20
    validation_share: float = 0.1
    averaging: float = 0.99
    clip: float = 5.0
    jit_compile: bool = True

    def __post_init__(self) -> None:
        for name in ("members", "epochs", "patience"):
            checks.integer(name, getattr(self, name), minimum=1)
        if self.batch_size is not None:
            checks.integer("batch_size", self.batch_size, minimum=1)
        for name in ("learning_rate", "clip"):
            checks.real(name, getattr(self, name), above=0)
        checks.real("weight_decay", self.weight_decay, minimum=0)
        checks.real("validation_share", self.validation_share, above=0, below=1)
        checks.real("averaging", self.averaging, minimum=0, below=1)
        checks.flag("jit_compile", self.jit_compile)

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from zero."""
        return self.learning_rate * (1 + np.cos(np.pi * epoch / self.epochs)) / 2


class Split(NamedTuple):
    """The rows of the pairs that each member trains on, and those that score it."""

    training: np.ndarray  # [members, n_training], int32
    validation: np.ndarray  # [members, n_validation], int32


def split_rows(n: int, options: TrainingOptions, seed: np.random.SeedSequence) -> Split:
    """Splits pairs for each member.

    No two members are scored on the same pair where there are enough for that.

    Args:
        n: Number of pairs.
        options: The number of members, and the share of the pairs that score one.
        seed: The seed of the training.
    """
    order = np.random.default_rng(seeds.child(seed, _SPLIT)).permutation(n).astype(np.int32)
    held_out = min(max(1, round(options.validation_share * n)), n - 1)
    rolled = np.stack([np.roll(order, -each * held_out) for each in range(options.members)])
    return Split(rolled[:, held_out:], rolled[:, :held_out])


def batches_of(
    split: Split, options: TrainingOptions, epoch: int, seed: np.random.SeedSequence
) -> np.ndarray:
    """Rows of the batches of an epoch, in an order of its own for each member.

    Args:
        split: The rows of each member.
        options: The size of a batch.
        epoch: The number of the epoch.
        seed: The seed of the training.

    Returns:
        `[updates, members, batch]`, int32. Pairs that do not fill a batch are left out.
    """
    generator = np.random.default_rng(seeds.child(seed, _BATCHES, epoch))
    rows = generator.permuted(split.training, axis=1)
    members, n = rows.shape
    wanted = options.batch_size or int(np.clip(2 * np.sqrt(n), *_BATCH_SIZES))
    size = min(wanted, n)
    updates = n // size
    return rows[:, : updates * size].reshape(members, updates, size).transpose(1, 0, 2)


class Trainer:
    """Epochs of training, compiled.

    Args:
        flows: The flows.
        members: Their weights and the optimiser: a `Members` of `course.py`.
        options: How they are trained.
    """

    def __init__(self, flows: Flows, members: Any, options: TrainingOptions) -> None:
        self._flows, self._members, self._clip = flows, members, options.clip
        # AutoGraph has nothing to rewrite here.
        self._compiled = tf.function(self._trace, autograph=False, jit_compile=options.jit_compile)

    def epoch(
        self,
        parameters: tf.Tensor,
        summaries: tf.Tensor,
        batches: np.ndarray,
        validation: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One pass over the pairs.

        Args:
            parameters: `[n, n_params]`.
            summaries: `[n, n_summaries]`.
            batches: The rows of each update, `[updates, members, batch]`.
            validation: The rows that score the averaged weights, `[members, n_validation]`.

        Returns:
            The mean loss over the updates, that of the validation pairs, and the number of updates
            whose gradient was not finite and was left out, each `[members]`.
        """
        results = self._compiled(
            parameters, summaries, tf.constant(batches), tf.constant(validation)
        )
        loss, score, skipped = (each.numpy() for each in results)
        return loss, score, skipped

    def _trace(self, *arguments: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        with gradients_of(self):
            return self._epoch(*arguments)

    def _epoch(
        self,
        parameters: tf.Tensor,
        summaries: tf.Tensor,
        batches: tf.Tensor,
        validation: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        updates, members, _ = known_shape(batches)

        def pairs_at(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.gather(parameters, rows), tf.gather(summaries, rows)

        def update(
            index: tf.Tensor, total: tf.Tensor, skipped: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            loss, finite = self._update(*pairs_at(batches[index]))
            return index + 1, total + loss, skipped + tf.cast(tf.logical_not(finite), tf.int32)

        _, total, skipped = tf.while_loop(
            lambda index, *_: index < updates,
            update,
            (tf.constant(0), tf.zeros([members]), tf.zeros([members], tf.int32)),
            parallel_iterations=1,
        )
        score = self._loss(self._members.averaged.value, *pairs_at(validation))
        return total / updates, score, skipped

    def _loss(self, flat: tf.Tensor, parameters: tf.Tensor, summaries: tf.Tensor) -> tf.Tensor:
        """Minus the mean logarithm of each member's density, `[members]`."""
        return -tf.reduce_mean(self._flows.log_prob(flat, parameters, summaries), axis=1)

    def _update(self, parameters: tf.Tensor, summaries: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Updates all members; their losses, and whether their gradients were finite."""
        flat = self._members.flat
        with tf.GradientTape() as tape:
            tape.watch(flat.value)
            loss = self._loss(flat.value, parameters, summaries)
        # Members share no weights, so the gradient of the sum is that of each.
        gradient = tf.clip_by_norm(tape.gradient(loss, flat.value), self._clip, axes=[1])
        finite = tf.reduce_all(tf.math.is_finite(gradient), axis=1)
        gradient = tf.where(finite[:, None], gradient, 0)
        self._members.optimizer.apply([gradient], [flat])
        return loss, finite
