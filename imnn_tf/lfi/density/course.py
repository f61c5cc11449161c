"""All that the training of an ensemble changes, in memory and as arrays to save."""

from typing import Any

import keras
import numpy as np

from imnn_tf.lfi.density.architecture import Architecture, Layout, Shape, draw_degrees
from imnn_tf.lfi.density.flow import Flows
from imnn_tf.lfi.density.linear import LinearStart, fit_linear
from imnn_tf.lfi.density.pairs import Pairs
from imnn_tf.lfi.density.training import Split, TrainingOptions, split_rows
from imnn_tf.utils import checkpoint, seeds
from imnn_tf.utils.checkpoint import SavedFit
from imnn_tf.utils.types import Json

# Child of the seed of a training that decides its first weights.
_WEIGHTS = 1

_MEASURES = ("loss", "val_loss", "learning_rate")


class Members(keras.Model):
    """The weights of all members as a Keras model, which callbacks find as `callback.model`.

    Args:
        initial: The weights, `[members, size]`.
        options: The optimiser's settings.

    Attributes:
        flat: The weights, a variable `[members, size]`.
        optimizer: Their optimiser, which keeps the averages.
        stop_training: Callbacks set it to end the training.
    """

    def __init__(self, initial: np.ndarray, options: TrainingOptions) -> None:
        super().__init__(name="spline_flows", dtype="float32")
        self.flat = self.add_weight(shape=initial.shape, initializer="zeros", name="weights")
        self.flat.assign(initial)
        self.built = True
        self.optimizer = keras.optimizers.AdamW(
            options.learning_rate,
            weight_decay=options.weight_decay,
            use_ema=True,
            ema_momentum=options.averaging,
        )
        self.optimizer.build([self.flat])
        self.averaged.assign(initial)
        self.stop_training = False

    @property
    def averaged(self) -> Any:
        """The average of the weights over updates, a variable `[members, size]`."""
        return self.optimizer._model_variables_moving_average[0]


class Course:
    """One training of an ensemble, from its first weights to its best.

    Attributes:
        layout: Where the weights are.
        start: The regression that the flows start from.
        flows: The flows, without weights.
        members: The weights and their optimiser.
        seed: Decides all random numbers.
        digest: That of the pairs.
        best: The best weights of each member so far, `[members, size]`.
        first_scores: The mean loss of the regression that a member starts from, on the member's
            validation pairs, `[members]`.
        scores: That of the best weights, `[members]`.
        best_epochs: How many epochs gave them, `[members]`.
        history: A row for each epoch, by name.
        finished: Whether the training came to its end.
    """

    def __init__(
        self,
        layout: Layout,
        start: LinearStart,
        members: Members,
        seed: np.random.SeedSequence,
        digest: str,
    ) -> None:
        self.layout, self.start, self.members = layout, start, members
        self.flows = Flows(layout, start)
        self.seed, self.digest = seed, digest
        self.best = members.flat.numpy()
        self.first_scores = np.zeros(len(self.best))
        self.scores = self.first_scores
        self.best_epochs = np.zeros(len(self.best), np.int64)
        self.history: dict[str, list[Any]] = {name: [] for name in _MEASURES}
        self.finished = False

    @classmethod
    def begin(
        cls,
        architecture: Architecture,
        options: TrainingOptions,
        pairs: Pairs,
        seed: np.random.SeedSequence,
    ) -> "Course":
        """A training that has not done anything yet."""
        shape = Shape(options.members, pairs.parameters.shape[1], pairs.summaries.shape[1])
        generator = np.random.default_rng(seeds.child(seed, _WEIGHTS))
        layout = Layout(architecture, shape, draw_degrees(architecture, shape, generator))
        split = split_rows(len(pairs.parameters), options, seed)
        start = fit_linear(pairs.parameters, pairs.summaries, split.training, split.validation)
        members = Members(layout.initial(generator), options)
        return cls(layout, start, members, seed, pairs.digest)

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return len(self.history["loss"])

    def split(self, n: int, options: TrainingOptions) -> Split:
        """The rows of `n` pairs that each member trains on, and those that score it."""
        return split_rows(n, options, self.seed)

    def record(self, losses: np.ndarray, scores: np.ndarray, options: TrainingOptions) -> None:
        """Takes down what an epoch measured, and keeps averaged weights that are better.

        A member without a better score for `patience` epochs has stopped: it keeps its weights,
        whatever comes after.

        Args:
            losses: The mean loss over the updates, `[members]`.
            scores: The mean loss of the averaged weights on the validation pairs, `[members]`.
            options: Patience, and the number of epochs.
        """
        rate = float(self.members.optimizer.learning_rate)
        for name, value in zip(_MEASURES, (losses, scores, rate), strict=True):
            self.history[name].append(value)
        better = (scores < self.scores) & (self.epochs - self.best_epochs <= options.patience)
        self.best = np.where(better[:, None], self.members.averaged.numpy(), self.best)
        self.scores = np.where(better, scores, self.scores)
        self.best_epochs = np.where(better, self.epochs, self.best_epochs)
        stopped = self.epochs - self.best_epochs >= options.patience
        self.finished = bool(stopped.all()) or self.epochs == options.epochs

    def state(self) -> SavedFit:
        """Everything, to be saved."""
        arrays = {
            "degrees": self.layout.degrees,
            "best": self.best,
            "first_scores": self.first_scores,
            "scores": self.scores,
            "best_epochs": self.best_epochs,
            **{f"start/{name}": value for name, value in self.start._asdict().items()},
            **{f"history/{name}": np.array(value) for name, value in self.history.items()},
        }
        if not self.finished:
            variables = [self.members.flat, *self.members.optimizer.variables]
            arrays |= checkpoint.numbered("members", [each.numpy() for each in variables])
        settings: dict[str, Json] = {
            "shape": list(self.layout.shape),
            "seed": [np.array(self.seed.entropy, object).tolist(), list(self.seed.spawn_key)],
            "digest": self.digest,
            "finished": self.finished,
        }
        return SavedFit(arrays, settings)

    @classmethod
    def restored(
        cls, saved: SavedFit, architecture: Architecture, options: TrainingOptions
    ) -> "Course":
        """The training that `state` describes."""
        arrays, settings = saved
        layout = Layout(architecture, Shape(*settings["shape"]), arrays["degrees"])
        start = LinearStart(*(arrays[f"start/{name}"] for name in LinearStart._fields))
        entropy, spawn_key = settings["seed"]
        seed = np.random.SeedSequence(entropy, spawn_key=tuple(spawn_key))
        course = cls(layout, start, Members(arrays["best"], options), seed, settings["digest"])
        course.finished = settings["finished"]
        if not course.finished:
            variables = [course.members.flat, *course.members.optimizer.variables]
            checkpoint.assign("members", variables, saved.variables("members"))
        course.first_scores, course.scores = arrays["first_scores"], arrays["scores"]
        course.best, course.best_epochs = arrays["best"], arrays["best_epochs"]
        course.history = {name: list(arrays[f"history/{name}"]) for name in _MEASURES}
        return course
