"""Networks of BayesFlow: made from a seed, trained by Keras, and as settings to save."""

import logging
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

import keras
import numpy as np
from keras.src.backend.common import global_state

from imnn_tf.utils.types import Json

# The name of the generator from which Keras draws where no seed is given.
_KERAS_GENERATOR = "global_seed_generator"


def import_bayesflow() -> ModuleType:
    """BayesFlow, imported without what the first import writes and sets.

    It would give the root logger a handler, log at level INFO, set `KERAS_BACKEND`, and take
    another backend for Keras where several are installed.

    Raises:
        ImportError: If it is not installed.
    """
    root, own = logging.getLogger(), logging.getLogger("bayesflow")
    placeholder, level, disabled = logging.NullHandler(), own.level, own.disabled
    backend = os.environ.get("KERAS_BACKEND")
    root.addHandler(placeholder)  # a root logger with a handler does not get another
    own.disabled = True
    os.environ["KERAS_BACKEND"] = keras.backend.backend()
    try:
        import bayesflow
    except ModuleNotFoundError as error:
        if error.name != "bayesflow":
            raise
        raise ImportError(
            'BayesFlow as a density estimator needs its package: pip install "imnn-tf[neural]".'
        ) from None
    finally:
        root.removeHandler(placeholder)
        own.disabled = disabled
        own.setLevel(level)
        if backend is None:
            del os.environ["KERAS_BACKEND"]
        else:
            os.environ["KERAS_BACKEND"] = backend
    return bayesflow


class Made(NamedTuple):
    """A network and what it can be made from again.

    Attributes:
        network: A `bayesflow.networks.InferenceNetwork`, with its first weights.
        settings: Its settings, as Keras serialises them.
    """

    network: Any
    settings: Json


def settings_of(network: Any) -> Json:
    """The settings of a network, without its weights.

    Raises:
        TypeError: If it is not an inference network of BayesFlow.
    """
    bayesflow = import_bayesflow()
    if not isinstance(network, bayesflow.networks.InferenceNetwork):
        raise TypeError(
            "`network` must be an InferenceNetwork of BayesFlow or a function that makes one, got "
            f"{type(network).__name__}."
        )
    return bayesflow.utils.serialization.serialize(network)


def make(recipe: Any, n_params: int, n_summaries: int, seed: np.random.SeedSequence) -> Made:
    """A new network with first weights.

    Args:
        recipe: The settings of a network, a function that makes one, or `None` for the default: a
            coupling flow of splines, or flow matching for one parameter, which no coupling splits.
        n_params: The number of parameters.
        n_summaries: That of summaries.
        seed: Decides all that the network draws, now and later.

    Raises:
        TypeError: If the function makes something else.
        ValueError: If the network cannot be built for so many parameters, such as a coupling flow
            of BayesFlow 2.0 for one.
    """
    bayesflow = import_bayesflow()
    networks, settings = bayesflow.networks, recipe
    with _own_generators(seed):
        if recipe is None:
            several = n_params > 1
            made = networks.CouplingFlow(transform="spline") if several else networks.FlowMatching()
            settings = settings_of(made)
        elif callable(recipe):
            settings = settings_of(recipe())
        # A network that was passed may have weights and a past, and its settings have not.
        network = bayesflow.utils.serialization.deserialize(settings)
        try:
            network.build((None, n_params), (None, n_summaries))
        except ValueError as error:
            raise ValueError(
                f"`network` must take {n_params} parameters and {n_summaries} summaries, and "
                f"cannot be built for them: {error}"
            ) from error
    return Made(network, settings)


@contextmanager
def _own_generators(seed: np.random.SeedSequence) -> Iterator[None]:
    """Lets the global generators of Python, NumPy and Keras draw from a seed, inside the block.

    Layers of Keras draw the seeds of their weights and of what they draw later from these, if they
    are given none. Afterwards the generators are as they were.
    """
    for_python, for_numpy, for_keras = seed.generate_state(3).tolist()
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    of_keras = global_state.get_global_attribute(_KERAS_GENERATOR)
    try:
        random.seed(for_python)
        np.random.seed(for_numpy)  # noqa: NPY002
        generator = keras.random.SeedGenerator(for_keras)
        global_state.set_global_attribute(_KERAS_GENERATOR, generator)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        global_state.set_global_attribute(_KERAS_GENERATOR, of_keras)


class Model(keras.Model):
    """The loss of a network, as Keras trains it.

    Args:
        network: A `bayesflow.networks.InferenceNetwork`.
    """

    def __init__(self, network: Any) -> None:
        super().__init__(name="bayesflow")
        self.network = network

    def call(self, pairs: Any, training: bool = False) -> Any:
        """The mean loss of a batch of parameters and summaries."""
        parameters, summaries = pairs
        stage = "training" if training else "validation"
        return self.network.compute_metrics(parameters, conditions=summaries, stage=stage)["loss"]

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The loss that `call` returned."""
        return y_pred


class Batches(keras.utils.PyDataset):
    """Pairs in batches.

    Args:
        parameters: `[n, n_params]`.
        summaries: `[n, n_summaries]`.
        size: Pairs of a batch. Those that do not fill one are left out of an epoch.
        generator: Shuffles the pairs before each epoch. `None` leaves their order.
    """

    def __init__(
        self,
        parameters: np.ndarray,
        summaries: np.ndarray,
        size: int,
        generator: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        self._pairs, self._size = (parameters, summaries), min(size, len(parameters))
        self._order, self._generator = np.arange(len(parameters)), generator
        self.on_epoch_end()

    def __len__(self) -> int:
        return len(self._order) // self._size

    def __getitem__(self, index: int) -> tuple[tuple[np.ndarray, np.ndarray]]:
        rows = self._order[index * self._size : (index + 1) * self._size]
        parameters, summaries = self._pairs
        return ((parameters[rows], summaries[rows]),)

    def on_epoch_end(self) -> None:
        """Shuffles the pairs."""
        if self._generator is not None:
            self._order = self._generator.permutation(len(self._order))
