"""The workers that run one simulator, whichever kind of executor they belong to."""

import inspect
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeAlias, Union

from imnn_tf.running.tasks import (
    Outcome,
    PackedSimulator,
    Task,
    attempt,
    pack,
    run_packed,
    start_worker,
)
from imnn_tf.utils import checks

Workers: TypeAlias = Union[int, Executor, Callable[[], Executor], "Pool", None]


def check_executor(executor: Any) -> Workers:
    """Returns what a user passed as `executor`, in a form that `Pool` takes.

    A number of processes becomes an `int`, and a client of Dask the executor of its cluster.

    Raises:
        TypeError: If it cannot be used as an executor.
        ValueError: If it is a number that is not positive.
    """
    if executor is None or callable(executor) or isinstance(executor, Executor | Pool):
        return executor
    if hasattr(executor, "get_executor"):
        return executor.get_executor()
    return checks.integer("executor", executor, minimum=1)


class Pool:
    """Workers for one simulator.

    Args:
        simulator: What the workers run.
        executor: A number of processes to start; a function without arguments that returns an
            executor; or any `concurrent.futures.Executor`, which is used and left open.
            Processes are spawned, because forking with TensorFlow loaded may hang. Workers
            that die are replaced if they were started here or by calling the function.
    """

    def __init__(
        self, simulator: Callable[..., Any], executor: int | Executor | Callable[[], Executor]
    ) -> None:
        self._simulator = simulator
        self._given = executor
        self._packed: PackedSimulator | None = None
        self._executor = executor if isinstance(executor, Executor) else None

    def __enter__(self) -> "Pool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop(kill=error is not None)

    @property
    def replaceable(self) -> bool:
        """Whether dead workers can be replaced."""
        return not isinstance(self._given, Executor)

    @property
    def workers(self) -> int:
        """The number of workers; the number of processors if the executor does not tell."""
        executor = self._started()
        client = getattr(executor, "_client", None)
        if client is not None:  # of Dask
            return max(1, sum(client.nthreads().values()))
        for name in ("_max_workers", "num_workers"):  # the second is MPI's
            if isinstance(number := getattr(executor, name, None), int):
                return number
        return os.cpu_count() or 1

    def submit(self, task: Task) -> "Future[list[Outcome]]":
        """Hands a task to the workers.

        The future gives what came of its rows, all of them, in their order.
        """
        executor = self._started()
        if isinstance(executor, ThreadPoolExecutor):
            return executor.submit(attempt, self._simulator, task)
        packed = self._pack()
        if isinstance(self._given, int):  # these workers unpacked the simulator when they started
            packed = packed._replace(pickled=None)
        return executor.submit(run_packed, packed, task)

    def stop(self, *, kill: bool) -> None:
        """Ends the workers that this pool started.

        Args:
            kill: Whether to end them at once, rather than after their tasks.
        """
        if not self.replaceable or self._executor is None:
            return
        executor, self._executor = self._executor, None
        known = inspect.signature(executor.shutdown).parameters
        if "kill_workers" in known:  # loky
            executor.shutdown(wait=True, kill_workers=kill)  # type: ignore[call-arg] # loky's own
            return
        if kill:
            for process in list((getattr(executor, "_processes", None) or {}).values()):
                process.kill()
        if "cancel_futures" in known:
            executor.shutdown(wait=True, cancel_futures=True)
        else:  # Dask's
            executor.shutdown(wait=True)

    def _pack(self) -> PackedSimulator:
        # Pickled once only: a simulator may refer to much data.
        if self._packed is None:
            self._packed = pack(self._simulator)
        return self._packed

    def _start_processes(self, number: int) -> ProcessPoolExecutor:
        """Starts processes that have unpacked the simulator before their first task."""
        executor = ProcessPoolExecutor(
            number,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=start_worker,
            initargs=(self._pack(),),
        )
        # An executor starts a process when a task finds none idle. Python before 3.12 breaks if
        # another process dies at that moment, so all are started before the first of our tasks.
        for _ in range(number):
            executor.submit(os.getpid)
        return executor

    def _started(self) -> Executor:
        """The executor, started anew if there is none or the last one was stopped."""
        if self._executor is None:
            if isinstance(self._given, int):
                self._executor = self._start_processes(self._given)
            elif not isinstance(self._given, Executor):
                made: object = self._given()
                if not isinstance(made, Executor):
                    got = type(made).__name__
                    raise TypeError(f"`executor()` must return an executor, got {got}.")
                self._executor = made
        assert self._executor is not None  # a user's own executor is never taken away
        return self._executor
