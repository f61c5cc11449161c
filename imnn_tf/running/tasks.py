"""What happens in a worker. It imports next to nothing, so that workers start quickly."""

import hashlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any, NamedTuple

import cloudpickle
import numpy as np

from imnn_tf.utils import checks
from imnn_tf.utils.seeds import integer_seeds


class Task(NamedTuple):
    """One call of the simulator.

    Attributes:
        theta: Parameters, `(n, n_params)`.
        random_argument: The simulator's second argument: "nothing", "rng" or "seeds".
        entropy: Entropy of the run's `SeedSequence`.
        spawn_keys: Keys of children of that sequence: one for each simulation with "seeds" or if
            the task is divisible, otherwise that of the first.
        divisible: Whether to halve the task if it fails, until the simulations that fail are found.
    """

    theta: np.ndarray
    random_argument: str
    entropy: Any
    spawn_keys: list[tuple[int, ...]]
    divisible: bool = False

    def part(self, rows: slice) -> "Task":
        """Some rows of a divisible task as a task."""
        return self._replace(theta=self.theta[rows], spawn_keys=self.spawn_keys[rows])


class PackedSimulator(NamedTuple):
    """A pickled simulator.

    Attributes:
        digest: SHA-256 of the pickle, by which a worker knows the simulators it has unpacked.
        pickled: The pickle, or `None` if the worker has unpacked it before.
    """

    digest: str
    pickled: bytes | None


class Raised(NamedTuple):
    """What a simulator raised.

    A worker returns it, since an exception that leaves a task is logged there, with a traceback for
    every simulation that fails.

    Attributes:
        error: The exception.
    """

    error: Exception

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the exception, or its text if it cannot be pickled."""
        error = self.error
        try:
            cloudpickle.loads(cloudpickle.dumps(error))
        except Exception:
            error = RuntimeError(f"{type(error).__name__}: {error}")
        return Raised, (error,)


class Outcome(NamedTuple):
    """What came of some rows of a task.

    Attributes:
        start: The first row, counted from the first of the task.
        stop: The row after the last.
        found: Their simulations, `(stop - start,) + shape`, or what the simulator raised.
    """

    start: int
    stop: int
    found: np.ndarray | Raised


_UNPACKED: dict[str, Callable[..., Any]] = {}

# The number of this process, once it is sure to end with the process that started it. A forked
# process has a copy of its parent's set, but not the thread that watches the parent.
_WATCHED: set[int] = set()


def random_argument(simulator: Callable[..., Any]) -> str:
    """Tells what a simulator takes as its second argument: "nothing", "rng" or "seeds".

    Only a positional argument without a default counts.
    """
    name = checks.second_argument(simulator)
    if name is None:
        return "nothing"
    return "seeds" if name in ("seed", "seeds") else "rng"


def pack(simulator: Callable[..., Any]) -> PackedSimulator:
    """Pickles a simulator, closures included."""
    pickled = cloudpickle.dumps(simulator)
    return PackedSimulator(hashlib.sha256(pickled).hexdigest(), pickled)


def unpack(packed: PackedSimulator) -> Callable[..., Any]:
    """Unpickles a simulator, once in each process."""
    if packed.digest not in _UNPACKED and packed.pickled is not None:
        _UNPACKED[packed.digest] = cloudpickle.loads(packed.pickled)
    return _UNPACKED[packed.digest]


def start_worker(packed: PackedSimulator) -> None:
    """Prepares a new worker process."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C
    unpack(packed)


def end_with_parent() -> None:
    """Makes sure that this process ends when the process that started it does, even by a kill.

    Otherwise it would wait for tasks for ever. This covers workers of Python's `multiprocessing`
    and of loky. Processes that something else started, such as MPI, are left alone.
    """
    parent = multiprocessing.parent_process()
    if parent is None or os.getpid() in _WATCHED:
        return
    _WATCHED.add(os.getpid())
    starter = os.getppid()
    # Processes of loky know their parent, but have no sentinel that tells when it ends.
    sentinels = [] if parent.sentinel is None else [parent.sentinel]

    def watch() -> None:
        # Processes that the parent forked may keep the sentinel open, so the parent's number is
        # looked at as well: it changes when the parent ends.
        while not wait(sentinels, timeout=1) and os.getppid() == starter:
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run_packed(packed: PackedSimulator, task: Task) -> list[Outcome]:
    """Runs a task with a pickled simulator; see `attempt`."""
    end_with_parent()
    return attempt(unpack(packed), task)


def attempt(simulator: Callable[..., Any], task: Task) -> list[Outcome]:
    """Calls the simulator, and returns what came of all rows of a task, in their order.

    A divisible task that fails is halved here, in the worker, until the rows that fail are found.
    If each half travelled as a task of its own, workers would wait for most of the time where some
    rows of every task fail.
    """
    rows = len(task.theta)
    try:
        return [Outcome(0, rows, run_task(simulator, task))]
    except Exception as error:
        if rows == 1 or not task.divisible:
            # What is pickled has no traceback.
            error.add_note("Where it was raised:\n" + traceback.format_exc())
            return [Outcome(0, rows, Raised(error))]
    middle = rows // 2
    first = attempt(simulator, task.part(slice(middle)))
    second = attempt(simulator, task.part(slice(middle, rows)))
    return first + [Outcome(middle + at, middle + to, found) for at, to, found in second]


def run_task(simulator: Callable[..., Any], task: Task) -> np.ndarray:
    """Calls the simulator, and returns its simulations, `(n,) + shape`."""
    theta = task.theta.copy()  # a simulator that works in place must not change what is kept
    if task.random_argument == "nothing":
        return checks.unmasked("simulator", simulator(theta))
    keys = task.spawn_keys if task.random_argument == "seeds" else task.spawn_keys[:1]
    children = [np.random.SeedSequence(task.entropy, spawn_key=key) for key in keys]
    if task.random_argument == "rng":
        return checks.unmasked("simulator", simulator(theta, np.random.default_rng(children[0])))
    return checks.unmasked("simulator", simulator(theta, integer_seeds(children)))
