"""An ensemble of conditional spline flows."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike
from scipy.special import logsumexp, softmax

from imnn_tf.lfi.density.architecture import Architecture
from imnn_tf.lfi.density.course import Course
from imnn_tf.lfi.density.pairs import Pairs
from imnn_tf.lfi.density.training import Trainer, TrainingOptions, batches_of
from imnn_tf.utils import checkpoint, checks, display, seeds
from imnn_tf.utils.checkpoint import SavedFit
from imnn_tf.utils.interrupt import deferred_interrupt
from imnn_tf.utils.seeds import Seed
from imnn_tf.utils.types import Json

logger = logging.getLogger(__name__)


class SplineFlows:
    """An ensemble of conditional flows of rational-quadratic splines, mixed by their scores.

    Each member is a masked autoregressive flow (Papamakarios et al. 2017) of splines (Durkan et al.
    2019). It starts from the linear regression of parameters on summaries with normal residuals,
    and learns what differs from it. Members differ in their first weights, in the order of the
    parameters, in the order of the pairs, and in the pairs that are held out. Each keeps the
    weights with which its held-out pairs were most probable.

    The density is the mixture of the members. The weight of a member is proportional to
    `exp(gain)`, where `gain` is the mean over its held-out pairs of what the member's log density
    has above that of its regression. Members that learnt equally well get equal weights, and one
    that failed by several units gets next to none. As every member is compared with the regression
    on the same pairs, it does not matter whether they were easy. The sum over the pairs in place of
    the mean would leave the luckiest member alone.

    Args:
        architecture: What the flows are made of; by default the one in `Architecture`.
        training: How they are trained; by default as in `TrainingOptions`.

    References:
        Durkan et al. (2019), arXiv:1906.04032; Papamakarios et al. (2017), arXiv:1705.07057;
        Lakshminarayanan et al. (2017), arXiv:1612.01474, for ensembles.

    Example:
        >>> import numpy as np
        >>> from imnn_tf.lfi.density import SplineFlows
        >>> theta = np.random.default_rng(0).normal(size=(1000, 1))
        >>> flows = SplineFlows()
        >>> history = flows.fit(theta, theta + 0.1, seed=0, progress=False)
        >>> flows.sample(500, [[0.1]], seed=1).shape
        (1, 500, 1)
    """

    def __init__(
        self,
        *,
        architecture: Architecture | None = None,
        training: TrainingOptions | None = None,
    ) -> None:
        self._architecture = Architecture() if architecture is None else architecture
        self._training = TrainingOptions() if training is None else training
        for name, value, kind in (
            ("architecture", self._architecture, Architecture),
            ("training", self._training, TrainingOptions),
        ):
            if not isinstance(value, kind):
                raise TypeError(f"`{name}` must be a {kind.__name__}, got {type(value).__name__}.")
        self._course: Course | None = None

    def fit(
        self,
        parameters: ArrayLike,
        summaries: ArrayLike,
        *,
        seed: Seed = None,
        callbacks: Sequence[keras.callbacks.Callback] | None = None,
        progress: bool = True,
    ) -> dict[str, np.ndarray]:
        """Learns the density from pairs.

        A training that was stopped before its end (by a callback, by Ctrl-C, or because it was
        loaded from a file that was saved during it) goes on if the pairs are the same, and ends as
        if it had not been stopped. Any other begins anew.

        Args:
            parameters: `[n, n_params]`, of order one.
            summaries: Those of a simulation at each of them, `[n, n_summaries]`, of order one.
            seed: Decides the members and their training. By default a stopped training goes on
                with its own seed, and a new one gets a fresh one.
            callbacks: Keras callbacks. An epoch is a pass over the pairs, and its logs are the
                means of `loss` and `val_loss` over the members.
            progress: Whether to show a progress bar.

        Returns:
            The history; see `history`.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an array has the wrong shape or holds values that are not finite, if
                there are fewer than 20 pairs, or if the numbers are too large for single precision.
        """
        pairs, callbacks = Pairs.checked(parameters, summaries), checks.callbacks(callbacks)
        checks.flag("progress", progress)
        self._begin(pairs, seed)
        container = keras.callbacks.CallbackList(
            callbacks, model=self._open.members, epochs=self._training.epochs, verbose=0
        )
        self._run(pairs, container, progress)
        return self.history

    def _begin(self, pairs: Pairs, seed: Seed) -> None:
        """Begins a training, unless one was stopped that goes on."""
        sequence, course = seeds.seed_sequence(seed), self._course
        if course is not None and not course.finished and course.digest == pairs.digest:
            same = sequence.generate_state(4).tolist() == course.seed.generate_state(4).tolist()
            if seed is None or same:
                course.members.stop_training = False
                return
        course = Course.begin(self._architecture, self._training, pairs, sequence)
        rows = course.split(len(pairs.parameters), self._training).validation
        logarithms = course.flows.log_prob_of_rows(
            course.best, pairs.parameters[rows], pairs.summaries, rows
        )
        scores = -logarithms.mean(axis=1)
        if not np.isfinite(scores).all():
            raise ValueError(
                "`parameters` and `summaries` must be of order one, got numbers up to "
                f"{np.abs(pairs.parameters).max():.3g} and {np.abs(pairs.summaries).max():.3g}."
            )
        course.first_scores = course.scores = scores
        self._course = course

    def _run(self, pairs: Pairs, callbacks: keras.callbacks.CallbackList, progress: bool) -> None:
        """Trains until all members stopped, or a callback or Ctrl-C ends it."""
        course, options = self._open, self._training
        trainer = Trainer(course.flows, course.members, options)
        data = tf.constant(pairs.parameters), tf.constant(pairs.summaries)
        split = course.split(len(pairs.parameters), options)
        skipped = np.zeros(options.members, int)
        settings = {"total": options.epochs, "initial": course.epochs, "unit": "epoch"}
        bar = display.bar(**settings, disable=not progress)
        callbacks.on_train_begin()
        with deferred_interrupt() as interrupted, bar:
            while not (course.finished or course.members.stop_training or interrupted.is_set()):
                epoch = course.epochs
                course.members.optimizer.learning_rate = options.rate(epoch)
                callbacks.on_epoch_begin(epoch)
                rows = batches_of(split, options, epoch, course.seed)
                loss, scores, left_out = trainer.epoch(*data, rows, split.validation)
                course.record(loss, scores, options)
                skipped += left_out
                logs = {"loss": float(loss.mean()), "val_loss": float(scores.mean())}
                bar.update()
                bar.set_postfix(logs, refresh=False)
                callbacks.on_epoch_end(epoch, logs)
        if interrupted.is_set():
            logger.warning("The training was interrupted after %d epochs.", course.epochs)
        if skipped.any():
            logger.warning(
                "The gradients of %s updates of the members were not finite and were left out.",
                skipped.tolist(),
            )
        callbacks.on_train_end()

    @property
    def history(self) -> dict[str, np.ndarray]:
        """What each epoch measured.

        `loss` and `val_loss`, `[epochs, members]`: minus the mean logarithm of the density over
        the pairs that a member is trained on, and over those held out. `learning_rate`,
        `[epochs]`.
        """
        return {name: np.array(values) for name, values in self._open.history.items()}

    @property
    def best_epochs(self) -> np.ndarray:
        """After how many epochs each member had the weights that it keeps, `[members]`."""
        return self._open.best_epochs.copy()

    @property
    def mixture_weights(self) -> np.ndarray:
        """The share of each member in the density, `[members]`."""
        gains = self._open.first_scores - self._open.scores
        return softmax(gains.astype(np.float64))

    @property
    def finished(self) -> bool:
        """Whether a training came to its end."""
        return self._course is not None and self._course.finished

    @property
    def _open(self) -> Course:
        if self._course is None:
            raise RuntimeError("The density estimator must be fitted first.")
        return self._course

    def log_prob(self, parameters: ArrayLike, summaries: ArrayLike) -> np.ndarray:
        """The logarithm of the density.

        Args:
            parameters: Some for each observation, `[m, n, n_params]`.
            summaries: The summaries of each observation, `[m, n_summaries]`.

        Returns:
            The natural logarithm of the density at each, `[m, n]`, float64.

        Raises:
            RuntimeError: If nothing was fitted.
            TypeError: If an argument does not hold real numbers.
            ValueError: If an array has the wrong shape or holds values that are not finite.
        """
        x = self._checked_summaries(summaries)
        n_params = self._open.layout.shape.n_params
        theta = checks.array(
            "parameters", parameters, shape=(len(x), None, n_params), dtype=np.float32
        )
        members, n = self._training.members, theta.shape[1]
        theta, rows = theta.reshape(-1, n_params), np.repeat(np.arange(len(x)), n)
        logarithms = self._open.flows.log_prob_of_rows(
            self._open.best,
            np.broadcast_to(theta, (members, *theta.shape)),
            x,
            np.broadcast_to(rows, (members, len(rows))),
        )
        weighted = logarithms.astype(np.float64) + np.log(self.mixture_weights)[:, None]
        return logsumexp(weighted, axis=0).reshape(-1, n)

    def sample(self, n: int, summaries: ArrayLike, seed: Seed = None) -> np.ndarray:
        """Draws parameters given summaries.

        Args:
            n: How many for each observation.
            summaries: Those of each observation, `[m, n_summaries]`.
            seed: Decides the draws; fresh ones by default.

        Returns:
            The parameters, `[m, n, n_params]`, float32.

        Raises:
            RuntimeError: If nothing was fitted.
            TypeError: If an argument has the wrong type.
            ValueError: If an array has the wrong shape or holds values that are not finite, or `n`
                is below 1.
        """
        n, x = checks.integer("n", n, minimum=1), self._checked_summaries(summaries)
        shape, total = self._open.layout.shape, n * len(x)
        generator = np.random.default_rng(seeds.seed_sequence(seed))
        z = generator.standard_normal((total, shape.n_params), np.float32)
        member = generator.choice(shape.members, total, p=self.mixture_weights)
        # The rows of each member, filled up with its first so that all have as many.
        counts = np.bincount(member, minlength=shape.members)
        rows = np.zeros((shape.members, counts.max()), np.int64)
        for each, count in enumerate(counts):
            rows[each, :count] = np.flatnonzero(member == each)
        drawn = self._open.flows.inverse_of_rows(self._open.best, z[rows], x, rows // n)
        result = np.empty_like(z)
        for each, count in enumerate(counts):
            result[rows[each, :count]] = drawn[each, :count]
        return result.reshape(len(x), n, shape.n_params)

    def _checked_summaries(self, summaries: ArrayLike) -> np.ndarray:
        shape = (None, self._open.layout.shape.n_summaries)
        return checks.array("summaries", summaries, shape=shape, dtype=np.float32)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickles and copies what `state` holds, since its Keras model cannot be pickled."""
        if self._course is None:
            return super().__reduce_ex__(protocol)
        return type(self).from_state, (self.state(),)

    def save(self, path: str | Path) -> None:
        """Writes everything to one `.npz` file, also during a training. Nothing is pickled.

        Raises:
            RuntimeError: If nothing was fitted.
        """
        checkpoint.write_fit(Path(path), *self.state(), keep_previous=True)

    @classmethod
    def load(cls, path: str | Path) -> "SplineFlows":
        """Reads what `save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            CorruptFileError: If it is damaged, and the one written before it as well.
        """
        return cls.from_state(checkpoint.read_fit(Path(path), ("architecture", "training")))

    def state(self) -> SavedFit:
        """Everything as arrays and settings, which `from_state` takes."""
        arrays, settings = self._open.state()
        return SavedFit(arrays, settings | self.settings)

    @property
    def settings(self) -> dict[str, dict[str, Json]]:
        """What the flows are made of, and how they are trained, by name."""
        return {
            "architecture": dataclasses.asdict(self._architecture),
            "training": dataclasses.asdict(self._training),
        }

    @classmethod
    def from_state(cls, saved: SavedFit) -> "SplineFlows":
        """The estimator that `state` describes."""
        flows = cls(
            architecture=Architecture(**saved.settings["architecture"]),
            training=TrainingOptions(**saved.settings["training"]),
        )
        flows._course = Course.restored(saved, flows._architecture, flows._training)
        return flows
