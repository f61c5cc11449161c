"""Hands the rows of a run to workers, and gets over workers that die or take too long."""

import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait

from imnn_tf.running.executors import Pool
from imnn_tf.running.run import Rows, Run, SimulationError
from imnn_tf.running.tasks import Outcome, Raised, Task

# How often a worker may have died with some rows before the next time is their fault. They run
# alone after the first, and again, because workers also die of what their rows have no part in.
_MOST_LOST = 2

# Seconds to wait for workers before looking at the clock and for Ctrl-C again.
_PATIENCE = 0.1


class Dispatcher:
    """Runs simulations with a pool of workers.

    Args:
        run: The run whose rows are simulated.
        pool: The workers.
    """

    def __init__(self, run: Run, pool: Pool) -> None:
        self._run, self._pool = run, pool
        # Rows that the workers have, and when they got them.
        self._pending: dict[Future[list[Outcome]], tuple[Rows, float]] = {}
        # Rows that were running when a worker died. They go to the workers one at a time, to
        # find the one that is to blame.
        self._suspects: deque[Rows] = deque()

    def simulate(self) -> None:
        """Simulates all rows of the run, with a bounded number of them at the workers."""
        run, execution = self._run, self._run.execution
        limit = execution.max_pending
        if limit is None:
            # With a time limit no row may wait at a worker: the clock starts when it is sent.
            limit = self._pool.workers * (2 if execution.timeout is None else 1)
        try:
            while run.queue or self._suspects or self._pending:
                source = self._suspects or run.queue
                while source and len(self._pending) < (1 if self._suspects else limit):
                    if run.stopping or not self._submit(source[0]):
                        break
                    source.popleft()
                if not self._pending:
                    if run.stopping:
                        break
                    continue
                wait(self._pending, timeout=_PATIENCE, return_when=FIRST_COMPLETED)
                lost = self._collect()
                if lost:
                    self._replace_workers(lost)
                if execution.timeout is not None:
                    self._expire(execution.timeout)
        finally:
            for future in self._pending:
                future.cancel()
        run.queue.extend(self._suspects)

    def _submit(self, rows: Rows) -> bool:
        """Sends rows to the workers, unless these have died since the last look."""
        try:
            self._pending[self._pool.submit(self._task(rows))] = (rows, time.monotonic())
        except BrokenExecutor as error:
            if not self._pending:  # otherwise the pending rows will tell, and name the suspects
                self._restart(error)
            return False
        return True

    def _task(self, rows: Rows) -> Task:
        """The task of some rows, which the worker may halve unless a time limit holds for calls."""
        execution = self._run.execution
        whole = execution.on_error == "raise" or execution.timeout is not None
        return self._run.task(rows, divisible=not whole)

    def _collect(self) -> list[tuple[Rows, BrokenExecutor]]:
        """Takes the results that are there; returns the rows whose worker died."""
        lost: list[tuple[Rows, BrokenExecutor]] = []
        for future in [future for future in self._pending if future.done()]:
            rows, _ = self._pending.pop(future)
            try:
                outcomes = future.result()
            except BrokenExecutor as error:
                lost.append((rows, error))
            except (Exception, CancelledError) as error:
                self._failed_outside(rows, error)
            except KeyboardInterrupt:  # Ctrl-C reached the worker too
                if not self._run.interrupt.is_set():
                    raise
                self._run.queue.appendleft(rows)
            else:
                self._keep(rows, outcomes)
        return lost

    def _keep(self, rows: Rows, outcomes: list[Outcome]) -> None:
        """Takes what came of some rows, of which a worker may have found those that fail."""
        for start, stop, found in outcomes:
            some = rows._replace(start=rows.start + start, stop=rows.start + stop)
            if isinstance(found, Raised):
                self._run.failed(some, found.error)
            else:
                self._run.finished(some, found)

    def _failed_outside(self, rows: Rows, error: BaseException) -> None:
        """Deals with a task that failed for another reason than what the simulator raised.

        Dask gives up a task whose workers died several times. Others may have been to blame, so
        its rows run again, alone. Whatever else an executor raises counts as a failure.
        """
        if type(error).__name__ == "KilledWorker" and rows.lost < _MOST_LOST:
            self._suspects.append(rows._replace(lost=rows.lost + 1))
        else:
            self._run.failed(rows, error)

    def _replace_workers(self, lost: list[tuple[Rows, BrokenExecutor]]) -> None:
        """Starts new workers after some have died."""
        error = lost[0][1]
        self._restart(error)
        running = [rows for rows, _ in lost] + [rows for rows, _ in self._pending.values()]
        self._pending.clear()
        if len(running) == 1 and running[0].lost >= _MOST_LOST:
            self._run.failed(running[0], error)
        else:
            self._suspects.extend(rows._replace(lost=rows.lost + 1) for rows in sorted(running))

    def _restart(self, error: BrokenExecutor) -> None:
        """Ends the workers that are left; the next task starts new ones."""
        if not self._pool.replaceable:
            raise SimulationError(
                "A worker of `executor` died. What had finished is in `.result`. A run can replace "
                "workers if `executor` is a number of processes or a function that makes one.",
                self._run.result(),
            ) from error
        self._pool.stop(kill=True)

    def _expire(self, timeout: float) -> None:
        """Gives up rows that have taken longer than `timeout` seconds."""
        now = time.monotonic()
        late = [future for future, (_, sent) in self._pending.items() if now - sent > timeout]
        if not late:
            return
        overdue = [self._pending.pop(future)[0] for future in late]
        for future in late:
            future.cancel()
        if self._pool.replaceable:
            # Only whole pools can be killed, so the other rows have to start again.
            self._pool.stop(kill=True)
            self._run.queue.extendleft(rows for rows, _ in self._pending.values())
            self._pending.clear()
        for rows in overdue:
            self._run.failed(rows, TimeoutError(f"took more than {timeout} seconds"))
