"""One run of simulations: what is left to simulate, what has been simulated, what failed."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.running.execution import Execution, ProgressBar
from imnn_tf.running.store import Store, digest
from imnn_tf.running.tasks import Task, random_argument, run_task
from imnn_tf.utils.seeds import child, integer_seeds

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """A simulation that failed.

    Attributes:
        index: Its row in the parameters of the run.
        theta: Its parameters, `(n_params,)`.
        seed: The integer seed of its last attempt.
        error: Type and message of the exception.
        attempts: How often it was tried.
    """

    index: int
    theta: np.ndarray
    seed: int
    error: str
    attempts: int


@dataclass
class SimulationResult:
    """The outcome of a run.

    Attributes:
        theta: Parameters, `(n, n_params)`.
        x: Simulations, `(n,) + shape`, or what `reduce` returned for them. Rows that were not
            simulated hold NaN, or zero if the type has no NaN. `None` if no row was simulated.
        ok: Which rows were simulated, `(n,)`.
        failures: The simulations that failed.
        interrupted: Whether the user pressed Ctrl-C, even if every row was simulated by then.
        seed: The sequence whose children seeded the simulations.
    """

    theta: np.ndarray
    x: np.ndarray | None
    ok: np.ndarray
    failures: list[Failure] = field(default_factory=list)
    interrupted: bool = False
    seed: np.random.SeedSequence = field(default_factory=np.random.SeedSequence)

    @property
    def seeds(self) -> np.ndarray:
        """The integer seed of each simulation's first attempt, `(n,)`."""
        return integer_seeds([child(self.seed, i) for i in range(len(self.theta))])


class SimulationError(RuntimeError):
    """A simulation failed.

    Attributes:
        result: The `SimulationResult` of what had been simulated by then.
    """

    def __init__(self, message: str, result: SimulationResult) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the error with its result."""
        return type(self), (str(self), self.result)


class Rows(NamedTuple):
    """Rows of the parameters that go to the simulator in one call.

    Attributes:
        start: The first row.
        stop: The row after the last.
        failed: How often these rows have failed with seeds of their own.
        lost: How often a worker died while the call was running.
    """

    start: int
    stop: int
    failed: int = 0
    lost: int = 0


class Run:
    """The state of a run; `imnn_tf.lfi.simulate` and `run_simulations` explain the arguments.

    The parameters `theta` are `(n, n_params)`. `reduce` takes the simulations of a call,
    `(m,) + shape`, and returns what is kept of them, `(m, ...)`.

    Attributes:
        x: Simulations so far, `(n,) + shape`, or what `reduce` returned for them; `None` before the
            first.
        ok: Which rows have been simulated, `(n,)`.
        queue: Rows that are still to be simulated.
        interrupt: Set when the user presses Ctrl-C.
        bar: Counts the rows simulated.
    """

    def __init__(
        self,
        simulator: Callable[..., Any],
        theta: np.ndarray,
        seed: np.random.SeedSequence,
        execution: Execution,
        reduce: Callable[[np.ndarray], ArrayLike] | None,
        interrupt: threading.Event,
        bar: ProgressBar,
        deadline: float = np.inf,
    ) -> None:
        self.simulator, self.theta, self.seed = simulator, theta, seed
        self.execution, self.reduce = execution, reduce
        self.interrupt, self.bar = interrupt, bar
        self._deadline, self._started = deadline, False
        self.random_argument = random_argument(simulator)
        self.store: Store | None = None
        self.x: np.ndarray | None = None
        self.ok = np.zeros(len(theta), dtype=bool)
        self.failures: list[Failure] = []
        self.queue: deque[Rows] = deque()
        self._fill_queue()

    def open_store(self, store: Store) -> None:
        """Takes over what an earlier run left in a store, and writes to it from now on."""
        self.store = store
        for indices, x in store.load():
            self._keep(indices, x)
        self.bar.update(int(self.ok.sum()))
        self._fill_queue()

    def identity(self) -> dict[str, Any]:
        """What a store must have been written with to belong to this run."""
        return {
            "seed": [str(self.seed.entropy), *self.seed.spawn_key],
            "theta": digest(self.theta),
            "batch_size": self.batch_size,
        }

    @property
    def batch_size(self) -> int:
        """How many simulations a call of the simulator makes."""
        return self.execution.batch_size or 1

    @property
    def stopping(self) -> bool:
        """Whether no further call may start: after Ctrl-C, or when the time is up."""
        late = self._started and time.monotonic() > self._deadline
        return late or self.interrupt.is_set()

    def result(self) -> SimulationResult:
        """The outcome so far."""
        self.failures.sort(key=lambda failure: failure.index)
        if self.failures and self.execution.on_error != "raise":
            logger.warning(
                "%d of %d simulations failed and were left out. If failures depend on the "
                "parameters, what is inferred from the others is biased.",
                len(self.failures),
                len(self.theta),
            )
        stopped = self.interrupt.is_set()
        if stopped:
            logger.info("Stopped after %d of %d.", self.ok.sum(), len(self.theta))
        return SimulationResult(self.theta, self.x, self.ok, self.failures, stopped, self.seed)

    def serially(self) -> None:
        """Simulates all rows in this process."""
        while self.queue and not self.stopping:
            rows = self.queue.popleft()
            try:
                x = run_task(self.simulator, self.task(rows))
            except Exception as error:
                self.failed(rows, error)
            else:
                self.finished(rows, x)

    def task(self, rows: Rows, *, divisible: bool = False) -> Task:
        """The call of the simulator for some rows: `m` parameters, `(m, n_params)`, and seeds.

        Args:
            rows: The rows.
            divisible: Whether to halve them where they run if the call fails.
        """
        self._started = True
        # A generator is made from the seed of the first row. Simulators that take no seeds get
        # that key too: Dask regards tasks as the same that differ in nothing.
        seeds = self.random_argument == "seeds"
        stop = rows.stop if seeds or divisible else rows.start + 1
        keys = [self._spawn_key(i, rows.failed) for i in range(rows.start, stop)]
        theta = self.theta[rows.start : rows.stop]
        return Task(theta, self.random_argument, self.seed.entropy, keys, divisible)

    def finished(self, rows: Rows, x: np.ndarray) -> None:
        """Checks, reduces and keeps the simulations of some rows.

        Args:
            rows: The rows, `m` of them.
            x: Their simulations, `(m,) + shape`.
        """
        indices, wanted = np.arange(rows.start, rows.stop), rows.stop - rows.start
        if x.ndim == 0 or len(x) != wanted:
            raise ValueError(
                f"`simulator` must return one simulation for each row of parameters, here "
                f"{wanted}, got shape {x.shape}."
            )
        if self.reduce is not None:
            x = np.asarray(self.reduce(x))
            finite = np.isfinite(x).reshape(wanted, -1).all(axis=1)
            if not finite.all():
                count = wanted - int(finite.sum())
                error = f"{count} of {wanted} simulations reduced to infinite or NaN values"
                # The call succeeded and its other simulations are kept, so only these are repeated.
                self._retry_rows(rows, indices[~finite], FloatingPointError(error))
                indices, x = indices[finite], x[finite]
        new = int(np.count_nonzero(~self.ok[indices]))
        self._keep(indices, x)
        if self.store is not None and len(indices):
            self.store.add(indices, x)
        self.bar.update(new)

    def failed(self, rows: Rows, error: BaseException) -> None:
        """Halves rows whose call failed, until the ones that fail are found.

        The rows that are found are repeated with other seeds, or given up. A run that stops at a
        failure does not look for them.
        """
        if rows.stop - rows.start > 1 and self.execution.on_error != "raise":
            middle = (rows.start + rows.stop) // 2
            self.queue.appendleft(rows._replace(start=middle))
            self.queue.appendleft(rows._replace(stop=middle))
        else:
            self._retry_rows(rows, np.arange(rows.start, rows.stop), error)

    def _retry_rows(self, rows: Rows, indices: np.ndarray, error: BaseException) -> None:
        """Puts rows that failed back into the queue, one by one, or gives them up."""
        if rows.failed + 1 < self.execution.attempts:
            again = [Rows(i, i + 1, rows.failed + 1, rows.lost) for i in indices.tolist()]
            self.queue.extendleft(reversed(again))
        else:
            self._give_up(rows, indices, error)

    def _give_up(self, rows: Rows, indices: np.ndarray, error: BaseException) -> None:
        """Lists simulations as failed, and ends the run if it has to."""
        for i in indices.tolist():
            key = self._spawn_key(i, rows.failed)
            (seed,) = integer_seeds([np.random.SeedSequence(self.seed.entropy, spawn_key=key)])
            text = f"{type(error).__name__}: {error}"
            self.failures.append(Failure(i, self.theta[i], int(seed), text, rows.failed + 1))
        if self.execution.on_error == "raise":
            raise SimulationError(
                f"Simulation {self.failures[-1].index} of {len(self.theta)} failed: {error}",
                self.result(),
            ) from error

    def _fill_queue(self) -> None:
        size, n = self.batch_size, len(self.theta)
        calls = (Rows(start, min(start + size, n)) for start in range(0, n, size))
        self.queue = deque(rows for rows in calls if not self.ok[rows.start : rows.stop].all())

    def _spawn_key(self, index: int, failed: int) -> tuple[int, ...]:
        """The key of a simulation's seed, which changes after every failure."""
        return (*self.seed.spawn_key, index, *((failed,) if failed else ()))

    def _keep(self, indices: np.ndarray, x: np.ndarray) -> None:
        """Puts simulations of some rows into the table of all."""
        self.ok[indices] = True
        if len(indices) == len(self.theta):  # all rows at once need no copy
            self.x = x
            return
        if self.x is None:
            empty = np.nan if x.dtype.kind in "fc" else 0
            self.x = np.full((len(self.theta), *x.shape[1:]), empty, dtype=x.dtype)
        if x.shape[1:] != self.x.shape[1:]:
            raise ValueError(
                f"`simulator` must return simulations of one shape, got {x.shape[1:]} after "
                f"{self.x.shape[1:]}."
            )
        if x.dtype != self.x.dtype:
            self.x = self.x.astype(np.result_type(self.x, x), copy=False)
        self.x[indices] = x
