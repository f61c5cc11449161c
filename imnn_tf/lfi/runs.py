"""One run of simulations: what is to be done, what is done, what failed."""

import hashlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from tqdm.auto import tqdm

from imnn_tf.lfi.executors import Pool
from imnn_tf.lfi.store import Store
from imnn_tf.lfi.tasks import Task, run
from imnn_tf.utils import checks
from imnn_tf.utils.seeds import integer_seeds

logger = logging.getLogger(__name__)

# How long to wait for workers before looking at the clock and at Ctrl-C again, in seconds.
_PATIENCE = 0.1


@dataclass(frozen=True)
class Failure:
    """A simulation that failed.

    Attributes:
        index: Which one.
        theta: Its parameters, `(n_params,)`.
        seed: The integer seed of its last attempt.
        error: What was raised.
        attempts: How often it was tried.
    """

    index: int
    theta: np.ndarray
    seed: int
    error: str
    attempts: int


@dataclass
class SimulationResult:
    """What became of a run.

    Attributes:
        theta: Parameters, `(n, n_params)`.
        x: Simulations, `(n,) + shape`, or what `reduce` made of them. Rows that were not
            simulated hold zeros, or NaN where the type has it. `None` if there are none.
        ok: Which rows were simulated, `(n,)`.
        failures: The simulations that failed.
        interrupted: Whether the user asked to stop, be it that all was done by then.
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
        keys = [(*self.seed.spawn_key, i) for i in range(len(self.theta))]
        entropy = self.seed.entropy
        return integer_seeds([np.random.SeedSequence(entropy, spawn_key=key) for key in keys])


class SimulationError(RuntimeError):
    """A simulation failed.

    Attributes:
        result: The `SimulationResult` of all that had finished.
    """

    def __init__(self, message: str, result: SimulationResult) -> None:
        super().__init__(message)
        self.result = result


class Batch(NamedTuple):
    """Rows `start` to `stop` of the parameters, and what is held against them.

    Attributes:
        start: First row.
        stop: Row after the last.
        attempt: How often the batch has failed.
        suspect: Whether a worker died while it was running.
    """

    start: int
    stop: int
    attempt: int = 0
    suspect: bool = False


def offered(simulator: Callable[..., Any]) -> str:
    """What a simulator takes beside parameters: "nothing", "rng" or "seeds".

    It is the second positional argument that counts, and only if it has no default.
    """
    name = checks.second_argument(simulator)
    if name is None:
        return "nothing"
    return "seeds" if name in ("seed", "seeds") else "rng"


class Run:
    """The state of `imnn_tf.lfi.simulation.simulate`, whose arguments are explained there."""

    def __init__(
        self,
        simulator: Callable[..., Any],
        theta: np.ndarray,
        seed: np.random.SeedSequence,
        *,
        batch_size: int,
        attempts: int,
        raises: bool,
        reduce: Callable[[np.ndarray], ArrayLike] | None,
    ) -> None:
        self.simulator, self.theta, self.seed = simulator, theta, seed
        self.batch_size, self.attempts, self.raises = batch_size, attempts, raises
        self.reduce = reduce
        self.offers = offered(simulator)
        self.interrupt = threading.Event()
        self.bar: Any = tqdm(disable=True)
        self.store: Store | None = None
        self.x: np.ndarray | None = None
        self.ok = np.zeros(len(theta), dtype=bool)
        self.failures: list[Failure] = []
        self.queue: deque[Batch] = deque()
        self._fill_queue()

    def resume(self, directory: str | os.PathLike[str]) -> None:
        """Opens the store, and takes what an earlier run left in it."""
        entropy, key = self.seed.entropy, list(self.seed.spawn_key)
        identity = {
            "seed": [str(entropy), *key],
            "theta": hashlib.sha256(np.ascontiguousarray(self.theta).tobytes()).hexdigest(),
            "batch_size": self.batch_size,
        }
        self.store = Store(directory, identity)
        for indices, x in self.store.load():
            self._keep(indices, x)
        self.bar.update(int(self.ok.sum()))
        self._fill_queue()

    def close(self) -> None:
        """Writes what the store has not written yet."""
        if self.store is not None:
            self.store.close()

    def result(self) -> SimulationResult:
        """What there is so far."""
        self.failures.sort(key=lambda failure: failure.index)
        if self.failures and not self.raises:
            logger.warning(
                "%d of %d simulations failed and were left out. If failures depend on the "
                "parameters, whatever is inferred from the others is biased.",
                len(self.failures),
                len(self.theta),
            )
        stopped = self.interrupt.is_set()
        if stopped:
            logger.info("Stopped after %d of %d.", self.ok.sum(), len(self.theta))
        return SimulationResult(self.theta, self.x, self.ok, self.failures, stopped, self.seed)

    def serially(self) -> None:
        """Runs all batches here, one after another."""
        while self.queue and not self.interrupt.is_set():
            batch = self.queue.popleft()
            try:
                x = run(self.simulator, self._task(batch))
            except Exception as error:
                self._failed(batch, error)
            else:
                self._finished(batch, x)

    def pooled(self, pool: Pool, timeout: float | None, max_pending: int | None) -> None:
        """Runs all batches with a pool, a bounded number of them at a time."""
        if max_pending is None:
            limit = pool.workers * (2 if timeout is None else 1)
        else:
            limit = checks.integer("max_pending", max_pending, minimum=1)
        # Batches that were running when a worker died go alone, to see which one did it.
        suspects: deque[Batch] = deque()
        pending: dict[Future[np.ndarray], tuple[Batch, float]] = {}
        try:
            while self.queue or suspects or pending:
                source = suspects or self.queue
                while source and len(pending) < (1 if suspects else limit):
                    if self.interrupt.is_set() or not self._submit(pool, source[0], pending):
                        break
                    source.popleft()
                if not pending:
                    if self.interrupt.is_set():
                        break
                    continue
                wait(pending, timeout=_PATIENCE, return_when=FIRST_COMPLETED)
                lost = self._collect(pending)
                if lost:
                    self._replace_workers(pool, lost, pending, suspects)
                if timeout is not None:
                    self._expire(pool, pending, timeout)
        finally:
            for future in pending:
                future.cancel()
        self.queue.extend(suspects)

    def _submit(
        self,
        pool: Pool,
        batch: Batch,
        pending: "dict[Future[np.ndarray], tuple[Batch, float]]",
    ) -> bool:
        """Sends a batch off, unless the workers turn out to have died since the last look."""
        try:
            pending[pool.submit(self._task(batch))] = (batch, time.monotonic())
        except BrokenExecutor as error:
            if not pending:  # else what is pending tells who was running
                self._restart(pool, error)
            return False
        return True

    def _collect(
        self, pending: "dict[Future[np.ndarray], tuple[Batch, float]]"
    ) -> list[tuple[Batch, BrokenExecutor]]:
        """Takes results in; returns the batches whose worker died."""
        lost: list[tuple[Batch, BrokenExecutor]] = []
        for future in [future for future in pending if future.done()]:
            batch, _ = pending.pop(future)
            try:
                x = future.result()
            except BrokenExecutor as error:
                lost.append((batch, error))
            except (Exception, CancelledError) as error:
                self._failed(batch, error)
            except KeyboardInterrupt:  # Ctrl-C reached the worker too
                if not self.interrupt.is_set():
                    raise
                self.queue.appendleft(batch)
            else:
                self._finished(batch, x)
        return lost

    def _replace_workers(
        self,
        pool: Pool,
        lost: list[tuple[Batch, BrokenExecutor]],
        pending: "dict[Future[np.ndarray], tuple[Batch, float]]",
        suspects: deque[Batch],
    ) -> None:
        """Goes on with new workers after some have died."""
        error = lost[0][1]
        self._restart(pool, error)
        running = [batch for batch, _ in lost] + [batch for batch, _ in pending.values()]
        pending.clear()
        if len(running) == 1 and running[0].suspect:  # it was alone, and it happened again
            self._failed(running[0], error)
        else:
            suspects.extend(batch._replace(suspect=True) for batch in sorted(running))

    def _restart(self, pool: Pool, error: BrokenExecutor) -> None:
        """Ends what is left of the workers; the next task starts new ones."""
        if not pool.replaceable:
            raise SimulationError(
                "A worker of `executor` died. What had finished is in `.result`. To go on by "
                "itself, a run needs a number of processes or a function that makes executors.",
                self.result(),
            ) from error
        pool.stop(kill=True)

    def _expire(
        self,
        pool: Pool,
        pending: "dict[Future[np.ndarray], tuple[Batch, float]]",
        timeout: float,
    ) -> None:
        """Gives up batches that have taken too long."""
        now = time.monotonic()
        late = [future for future, (_, start) in pending.items() if now - start > timeout]
        if not late:
            return
        overdue = [pending.pop(future)[0] for future in late]
        for future in late:
            future.cancel()
        if pool.replaceable:
            pool.stop(kill=True)
            self.queue.extendleft(batch for batch, _ in pending.values())
            pending.clear()
        for batch in overdue:
            self._failed(batch, TimeoutError(f"took more than {timeout} seconds"))

    def _fill_queue(self) -> None:
        size, n = self.batch_size, len(self.theta)
        batches = (Batch(start, min(start + size, n)) for start in range(0, n, size))
        self.queue = deque(b for b in batches if not self.ok[b.start : b.stop].all())

    def _task(self, batch: Batch) -> Task:
        # A generator is made from the first key, and a key tells equal tasks apart.
        stop = batch.stop if self.offers == "seeds" else batch.start + 1
        again = (batch.attempt,) if batch.attempt else ()
        keys = [(*self.seed.spawn_key, i, *again) for i in range(batch.start, stop)]
        theta = self.theta[batch.start : batch.stop]
        return Task(theta, self.offers, self.seed.entropy, keys)

    def _finished(self, batch: Batch, x: np.ndarray) -> None:
        indices, wanted = np.arange(batch.start, batch.stop), batch.stop - batch.start
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
                self._failed(batch, FloatingPointError(error), at=indices[~finite])
                indices, x = indices[finite], x[finite]
        self._keep(indices, x)
        if self.store is not None and len(indices):
            self.store.add(indices, x)
        self.bar.update(len(indices))

    def _keep(self, indices: np.ndarray, x: np.ndarray) -> None:
        self.ok[indices] = True
        if len(indices) == len(self.theta):  # all at once: no copy
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

    def _failed(self, batch: Batch, error: BaseException, at: np.ndarray | None = None) -> None:
        """Puts a batch back, or its rows (or those at `at`) into the table."""
        if at is None and batch.attempt + 1 < self.attempts:
            self.queue.appendleft(batch._replace(attempt=batch.attempt + 1))
            return
        again = (batch.attempt,) if batch.attempt else ()
        for i in range(batch.start, batch.stop) if at is None else at.tolist():
            key = (*self.seed.spawn_key, i, *again)
            child = np.random.SeedSequence(self.seed.entropy, spawn_key=key)
            seed = int(integer_seeds([child])[0])
            text = f"{type(error).__name__}: {error}"
            self.failures.append(Failure(i, self.theta[i], seed, text, batch.attempt + 1))
        if self.raises:
            raise SimulationError(
                f"Simulation {self.failures[-1].index} of {len(self.theta)} failed: {error}",
                self.result(),
            ) from error
