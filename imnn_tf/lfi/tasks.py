"""The part of a simulation run that happens in a worker. Imports next to nothing."""

import hashlib
import signal
from collections.abc import Callable
from typing import Any, NamedTuple

import cloudpickle
import numpy as np

from imnn_tf.utils.seeds import integer_seeds


class Task(NamedTuple):
    """One call of the simulator.

    Attributes:
        theta: Parameters, `(n, n_params)`.
        offers: What the simulator takes beside them: "nothing", "rng" or "seeds".
        entropy: Entropy of the run's `SeedSequence`.
        spawn_keys: One key for each simulation, of its child of that sequence.
    """

    theta: np.ndarray
    offers: str
    entropy: Any
    spawn_keys: list[tuple[int, ...]]


class Simulator(NamedTuple):
    """A simulator made ready to travel.

    Attributes:
        digest: Tells simulators apart.
        pickled: The simulator, or `None` where the worker has it already.
    """

    digest: str
    pickled: bytes | None


_INSTALLED: dict[str, Callable[..., Any]] = {}


def pack(simulator: Callable[..., Any]) -> Simulator:
    """Pickles a simulator, closures and all."""
    pickled = cloudpickle.dumps(simulator)
    return Simulator(hashlib.sha256(pickled).hexdigest(), pickled)


def start(packed: Simulator) -> None:
    """Begins the life of a worker process: Ctrl-C is for its parent to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    install(packed)


def install(packed: Simulator) -> None:
    """Unpacks a simulator in this process, once."""
    if packed.digest not in _INSTALLED and packed.pickled is not None:
        _INSTALLED[packed.digest] = cloudpickle.loads(packed.pickled)


def run_packed(packed: Simulator, task: Task) -> np.ndarray:
    """Runs a task with a simulator that was packed."""
    install(packed)
    return run(_INSTALLED[packed.digest], task)


def run(simulator: Callable[..., Any], task: Task) -> np.ndarray:
    """Runs a task, and returns simulations, one for each row of its parameters."""
    if task.offers == "nothing":
        return np.asarray(simulator(task.theta))
    children = [
        np.random.SeedSequence(task.entropy, spawn_key=key)
        for key in (task.spawn_keys if task.offers == "seeds" else task.spawn_keys[:1])
    ]
    if task.offers == "rng":
        return np.asarray(simulator(task.theta, np.random.default_rng(children[0])))
    return np.asarray(simulator(task.theta, integer_seeds(children)))
