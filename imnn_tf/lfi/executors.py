"""Anything that runs functions somewhere else, behind one face that survives dead workers."""

import inspect
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np

from imnn_tf.lfi.tasks import Simulator, Task, pack, run, run_packed, start
from imnn_tf.utils import checks


class Pool:
    """Workers for one simulator.

    Args:
        simulator: What the workers run.
        executor: A number of processes to start; a function without arguments that makes an
            executor; or any `concurrent.futures.Executor`, which is used and left open.
            Processes are spawned, as forking with TensorFlow loaded may hang. Only workers
            that this class starts, or can start anew by calling the function, are replaced
            when they die.

    Raises:
        TypeError: If `executor` is none of these.
        ValueError: If the number is not positive.
    """

    def __init__(self, simulator: Callable[..., Any], executor: Any) -> None:
        self._simulator = simulator
        self._given = executor
        self._packed: Simulator | None = None
        self._executor: Executor | None = None
        if isinstance(executor, Executor):
            self._executor = executor
        elif not callable(executor):
            if hasattr(executor, "get_executor"):
                raise TypeError(
                    "`executor` must be an executor: pass `client.get_executor()`, "
                    f"got {type(executor).__name__}."
                )
            self._given = checks.integer("executor", executor, minimum=1)

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
        """How many simulations run at a time, as far as can be told."""
        default = os.cpu_count() or 1
        return getattr(self._ready(), "_max_workers", default)

    def submit(self, task: Task) -> "Future[np.ndarray]":
        """Sends a task off."""
        executor = self._ready()
        if isinstance(executor, ThreadPoolExecutor):
            return executor.submit(run, self._simulator, task)
        packed = self._pack()
        if isinstance(self._given, int):  # its workers were given the simulator at birth
            packed = packed._replace(pickled=None)
        return executor.submit(run_packed, packed, task)

    def stop(self, *, kill: bool) -> None:
        """Ends workers that this pool started, at once or when their tasks are done."""
        if not self.replaceable or self._executor is None:
            return
        executor, self._executor = self._executor, None
        known = inspect.signature(executor.shutdown).parameters
        if "kill_workers" in known:  # loky
            executor.shutdown(wait=True, kill_workers=kill)  # type: ignore[call-arg]
            return
        if kill:
            for process in list((getattr(executor, "_processes", None) or {}).values()):
                process.kill()
        executor.shutdown(wait=True, cancel_futures=True)

    def _pack(self) -> Simulator:
        if self._packed is None:
            self._packed = pack(self._simulator)
        return self._packed

    def _ready(self) -> Executor:
        if self._executor is None:
            if callable(self._given):
                made = self._given()
                if not isinstance(made, Executor):
                    got = type(made).__name__
                    raise TypeError(f"`executor()` must return an executor, got {got}.")
                self._executor = made
            else:
                self._executor = ProcessPoolExecutor(
                    self._given,
                    mp_context=multiprocessing.get_context("spawn"),
                    initializer=start,
                    initargs=(self._pack(),),
                )
        return self._executor
