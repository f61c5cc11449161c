"""A network of BayesFlow as a density estimator."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.lfi.density.bayesflow_network import (
    Batches,
    Model,
    import_bayesflow,
    make,
    settings_of,
)
from imnn_tf.lfi.density.pairs import Pairs
from imnn_tf.utils import checkpoint, checks, display, seeds
from imnn_tf.utils.checkpoint import SavedFit
from imnn_tf.utils.interrupt import deferred_interrupt
from imnn_tf.utils.seeds import Seed

logger = logging.getLogger(__name__)

# Children of the seed of a training.
_NETWORK, _PAIRS = 0, 1

# Rows that a network is given in one call. Its splines take some kilobytes for each.
_MOST_ROWS = 50_000

# As in the workflows of BayesFlow: the longest gradient, and the share of the updates in which the
# learning rate rises from a tenth.
_CLIP, _RISE = 1.5, 0.05


@dataclass(frozen=True)
class BayesFlowTraining:
    """How a network of BayesFlow is trained.

    Attributes:
        epochs: The most passes over the pairs. The learning rate falls to zero over them, along
            half a cosine.
        batch_size: Pairs of an update.
        learning_rate: The highest of Adam.
        patience: Epochs without a better score after which the training ends.
        validation_share: The share of the pairs that scores the network, and that it is not trained
            on.
        jit_compile: Whether to compile with XLA.
    """

    epochs: int = 60
    batch_size: int = 128
    learning_rate: float = 1e-3
    patience: int = 20
    validation_share: float = 0.1
    jit_compile: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            checks.integer(name, getattr(self, name), minimum=1)
        checks.real("learning_rate", self.learning_rate, above=0)
        checks.real("validation_share", self.validation_share, above=0, below=1)
        checks.flag("jit_compile", self.jit_compile)

    def optimizer(self, updates: int) -> Any:
        """Adam, for so many updates in each epoch."""
        total = self.epochs * updates
        rise = int(_RISE * total)
        rate = keras.optimizers.schedules.CosineDecay(
            0.1 * self.learning_rate,
            total - rise,
            warmup_target=self.learning_rate,
            warmup_steps=rise,
        )
        return keras.optimizers.Adam(rate, clipnorm=_CLIP)

    def split(
        self, parameters: np.ndarray, summaries: np.ndarray, seed: np.random.SeedSequence
    ) -> tuple[Batches, Batches]:
        """Batches of the pairs to train on, and of those held out."""
        generator = np.random.default_rng(seed)
        order = generator.permutation(len(parameters))
        held_out, rows = np.split(order, [max(1, int(self.validation_share * len(order)))])
        return (
            Batches(parameters[rows], summaries[rows], self.batch_size, generator),
            Batches(parameters[held_out], summaries[held_out], _MOST_ROWS),
        )


class BayesFlowEstimator:
    """A network of BayesFlow 2, which comes with the extra `neural`.

    Keras trains one network on the loss that it has. Some pairs are held out, and the weights with
    which their loss was lowest are kept. A training that was stopped does not go on: `fit` begins
    anew.

    Args:
        network: A `bayesflow.networks.InferenceNetwork`, or a function without arguments that makes
            one. Each training makes a new network with its settings, and leaves its weights alone.
            By default a coupling flow of splines, or flow matching for one parameter, which no
            coupling can split.
        training: How it is trained; by default as in `BayesFlowTraining`.

    Raises:
        ImportError: If BayesFlow is not installed.
        TypeError: If an argument is of the wrong kind.

    References:
        Radev et al. (2023), arXiv:2306.16015, for BayesFlow; Durkan et al. (2019),
        arXiv:1906.04032, for the splines; Lipman et al. (2023), arXiv:2210.02747, for flow
        matching.

    Example:
        >>> import numpy as np
        >>> from imnn_tf.lfi.density import BayesFlowEstimator, BayesFlowTraining
        >>> from bayesflow.networks import CouplingFlow
        >>> theta = np.random.default_rng(0).normal(size=(200, 2))
        >>> small = CouplingFlow(depth=1, transform="affine")
        >>> estimator = BayesFlowEstimator(small, training=BayesFlowTraining(epochs=1))
        >>> history = estimator.fit(theta, theta + 0.1, seed=0, progress=False)
        >>> estimator.sample(500, [[0.1, 0.1]], seed=1).shape
        (1, 500, 2)
    """

    def __init__(self, network: Any = None, *, training: BayesFlowTraining | None = None) -> None:
        import_bayesflow()
        self._training = BayesFlowTraining() if training is None else training
        if not isinstance(self._training, BayesFlowTraining):
            raise TypeError(
                f"`training` must be a BayesFlowTraining, got {type(training).__name__}."
            )
        # Layers of Keras, unlike their settings, cannot be copied. They can be called, too.
        function = callable(network) and not isinstance(network, keras.layers.Layer)
        self._recipe = network if network is None or function else settings_of(network)
        self._network: Any = None
        self._shape = (0, 0)

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

        Args:
            parameters: `[n, n_params]`, of order one.
            summaries: Those of a simulation at each of them, `[n, n_summaries]`, of order one.
            seed: Decides the first weights and the training; a fresh one by default.
            callbacks: Keras callbacks.
            progress: Whether to show a progress bar.

        Returns:
            The history: `loss` and `val_loss`, `[epochs]`, the means over the pairs that the
            network is trained on and over those held out.

        Raises:
            TypeError: If an argument, or what the function of `network` makes, is of the wrong
                kind.
            ValueError: If an array has the wrong shape or holds values that are not finite, if
                there are fewer than 20 pairs, if `network` cannot be built for so many parameters,
                or if no held-out loss is finite.
        """
        pairs = Pairs.checked(parameters, summaries)
        theta, x = pairs.parameters, pairs.summaries
        callbacks, sequence = checks.callbacks(callbacks), seeds.seed_sequence(seed)
        checks.flag("progress", progress)
        shape = theta.shape[1], x.shape[1]
        made = make(self._recipe, *shape, seeds.child(sequence, _NETWORK))
        batches = self._training.split(theta, x, seeds.child(sequence, _PAIRS))
        history = self._train(Model(made.network), *batches, callbacks, progress)
        if not np.isfinite(history["val_loss"]).any():
            raise ValueError(
                "`parameters` and `summaries` must be of order one, got numbers up to "
                f"{np.abs(theta).max():.3g} and {np.abs(x).max():.3g}."
            )
        (self._network, self._recipe), self._shape = made, shape
        return {name: np.array(history[name]) for name in ("loss", "val_loss")}

    def _train(
        self, model: Model, pairs: Batches, held_out: Batches, callbacks: list[Any], progress: bool
    ) -> dict[str, list[float]]:
        """Trains until the patience is spent, or a callback or Ctrl-C ends it."""
        options = self._training
        model.compile(options.optimizer(len(pairs)), jit_compile=options.jit_compile)
        best = keras.callbacks.EarlyStopping(
            "val_loss", patience=options.patience, mode="min", restore_best_weights=True
        )
        bar = display.bar(total=options.epochs, unit="epoch", disable=not progress)
        with deferred_interrupt() as interrupted, bar:

            def after_epoch(epoch: int, logs: dict[str, float]) -> None:
                bar.update()
                bar.set_postfix(logs, refresh=False)
                model.stop_training |= interrupted.is_set()

            shown = keras.callbacks.LambdaCallback(on_epoch_end=after_epoch)
            history = model.fit(
                pairs,
                validation_data=held_out,
                epochs=options.epochs,
                shuffle=False,  # `pairs` shuffles itself
                callbacks=[shown, best, *callbacks],
                verbose=0,
            ).history
        if interrupted.is_set():
            logger.warning("The training was interrupted after %d epochs.", len(history["loss"]))
        return history

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
        sequence = seeds.seed_sequence(seed)
        drawn = [
            self._network.sample(
                (len(rows),),
                conditions=rows,
                seed=int(seeds.child(sequence, start).generate_state(1)[0]),
            )
            for start, rows in _chunks(np.repeat(x, n, axis=0))
        ]
        return np.concatenate(drawn).reshape(len(x), n, self._shape[0])

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
        shape = (len(x), None, self._shape[0])
        theta = checks.array("parameters", parameters, shape=shape, dtype=np.float32)
        repeated = np.repeat(x, theta.shape[1], axis=0)
        found = [
            self._network.log_prob(rows, conditions=repeated[start : start + len(rows)])
            for start, rows in _chunks(theta.reshape(-1, self._shape[0]))
        ]
        return np.concatenate(found).astype(np.float64).reshape(theta.shape[:2])

    def _checked_summaries(self, summaries: ArrayLike) -> np.ndarray:
        self._require_fitted()
        shape = (None, self._shape[1])
        return checks.array("summaries", summaries, shape=shape, dtype=np.float32)

    def _require_fitted(self) -> None:
        if self._network is None:
            raise RuntimeError("The density estimator must be fitted first.")

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickles and copies what `state` holds, since its network cannot be pickled."""
        if self._network is None:
            return super().__reduce_ex__(protocol)
        return type(self).from_state, (self.state(),)

    def save(self, path: str | Path) -> None:
        """Writes everything to one `.npz` file. Nothing is pickled.

        Raises:
            RuntimeError: If nothing was fitted.
        """
        checkpoint.write_fit(Path(path), *self.state())

    @classmethod
    def load(cls, path: str | Path) -> "BayesFlowEstimator":
        """Reads what `save` wrote. A network of a class of one's own must be registered with Keras.

        Raises:
            FileNotFoundError: If there is no such file.
            CorruptFileError: If it is damaged.
            ImportError: If BayesFlow is not installed.
        """
        return cls.from_state(checkpoint.read_fit(Path(path), ("network", "shape", "training")))

    def state(self) -> SavedFit:
        """Everything as arrays and settings, which `from_state` takes."""
        self._require_fitted()
        arrays = checkpoint.numbered("network", [each.numpy() for each in self._network.variables])
        training = dataclasses.asdict(self._training)
        settings = {"network": self._recipe, "shape": list(self._shape), "training": training}
        return SavedFit(arrays, settings)

    @classmethod
    def from_state(cls, saved: SavedFit) -> "BayesFlowEstimator":
        """The estimator that `state` describes."""
        estimator = cls(training=BayesFlowTraining(**saved.settings["training"]))
        n_params, n_summaries = saved.settings["shape"]
        made = make(saved.settings["network"], n_params, n_summaries, np.random.SeedSequence(0))
        checkpoint.assign("network", made.network.variables, saved.variables("network"))
        estimator._network, estimator._recipe = made
        estimator._shape = n_params, n_summaries
        return estimator


def _chunks(rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Parts of rows, `[n, columns]`, each with the number of its first row."""
    for start in range(0, max(1, len(rows)), _MOST_ROWS):
        yield start, rows[start : start + _MOST_ROWS]
