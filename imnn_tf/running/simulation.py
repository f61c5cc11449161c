"""Runs a user's simulator at many parameters."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.running.arguments import described
from imnn_tf.running.dispatch import Dispatcher
from imnn_tf.running.execution import Execution, ProgressBar
from imnn_tf.running.executors import Pool, Workers
from imnn_tf.running.probe import check_probe, check_row, keep_probe
from imnn_tf.running.run import Rows, Run, SimulationResult
from imnn_tf.running.store import Store
from imnn_tf.running.tasks import Raised, run_task
from imnn_tf.utils import checks
from imnn_tf.utils.interrupt import deferred_interrupt
from imnn_tf.utils.seeds import Seed, seed_sequence


@described(
    simulator="The simulator. It is sent to worker processes with all that it refers to, so it may "
    "be a closure.",
    theta="Parameters, `(n, n_params)`.",
    seed="An integer or a `numpy.random.SeedSequence`. `None` for fresh entropy, which the result "
    "then holds.",
    batch_size="The number of simulations in one call of the simulator. `None` for 1.",
    reduce="Applied in this process to the simulations of each call, `(n,) + shape`. What it "
    "returns, `(n, ...)`, is kept in their place. A simulation for which that is not finite has "
    "failed.",
    execution="All settings of how simulations run as one value, an `imnn_tf.lfi.Execution`, "
    "instead of the separate keywords. `None` for the separate keywords.",
)
def simulate(
    simulator: Callable[..., Any],
    theta: ArrayLike,
    *,
    executor: Workers = None,
    batch_size: int | None = None,
    seed: Seed = None,
    timeout: float | None = None,
    on_error: str = "raise",
    retries: int = 0,
    store: str | os.PathLike[str] | None = None,
    progress: bool | ProgressBar = True,
    reduce: Callable[[np.ndarray], ArrayLike] | None = None,
    max_pending: int | None = None,
    execution: Execution | None = None,
) -> SimulationResult:
    """Simulates at each row of parameters.

    The simulator takes parameters, `(n, n_params)`, and returns simulations, `(n,) + shape`. If
    it has a second positional argument *without a default*, it also gets randomness. An argument
    called `seed` or `seeds` gets one integer for each simulation, `(n,)`. An argument of any other
    name gets one `numpy.random.Generator` for the call. Optional arguments are left alone.

    Each simulation has a seed of its own, a child of `seed`; a generator is made from the seed of
    the first simulation in its call. So the results depend on `seed`, and with generators on
    `batch_size` and on which simulations fail, but not on where simulations run or in which order
    they finish.

    After the first Ctrl-C the run ends as soon as the calls that are running have finished, and
    returns what it has. A second one raises `KeyboardInterrupt`.

    Returns:
        The simulations, `(n,) + shape`, in the order of their parameters, and which of them failed.

    Raises:
        SimulationError: If a simulation fails and `on_error` is "raise", or if the workers of an
            executor that was passed die. Its `result` holds what had finished.
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of range, or the simulator returns another number of
            simulations than it got rows.
    """
    parameters = checks.array("theta", theta, shape=(None, None), dtype=float)
    checks.function("simulator", simulator)
    separate = executor, batch_size, timeout, on_error, retries, store, progress, max_pending
    execution = Execution.of(execution, *separate)
    if execution.store is not None and seed is None:
        raise ValueError("`seed` must be given with a `store`, to find a run again; got None.")
    return run_simulations(simulator, parameters, seed_sequence(seed), execution, reduce)


def run_simulations(
    simulator: Callable[..., Any],
    theta: np.ndarray,
    seed: np.random.SeedSequence,
    execution: Execution,
    reduce: Callable[[np.ndarray], ArrayLike] | None,
    deadline: float = np.inf,
    estimator: Callable[[np.ndarray], ArrayLike] | None = None,
) -> SimulationResult:
    """Does what `simulate` documents, with arguments that were checked before.

    Args:
        simulator: Takes parameters, `(n, n_params)`, and returns simulations, `(n,) + shape`.
        theta: Parameters, `(n, n_params)`, float64.
        seed: The sequence whose children seed the simulations.
        execution: How the simulations run.
        reduce: Takes the simulations of each call, `(n,) + shape`, and returns what to keep of
            them, `(n, ...)`. `None` to keep them as they are.
        deadline: The time of `time.monotonic` after which no call of the simulator starts, except
            for the first.
        estimator: What `reduce` returns, `(n, ...)`, but without the files that it may write.
            `None` for `reduce` itself.

    Returns:
        The simulations, `(n,) + shape`, in the order of their parameters, and which of them failed.
    """
    estimator = reduce if estimator is None else estimator
    with ExitStack() as stack:
        interrupt = stack.enter_context(deferred_interrupt())
        bar = stack.enter_context(execution.bar(len(theta)))
        run = Run(simulator, theta, seed, execution, reduce, interrupt, bar, deadline)
        workers = execution.executor
        if workers is not None and not isinstance(workers, Pool):
            workers = stack.enter_context(Pool(simulator, workers))

        def alone(row: int) -> np.ndarray | None:
            """Simulates one row on its own: `(1,) + shape`, or `None` if that fails."""
            task = run.task(Rows(row, row + 1))
            try:
                if workers is None:
                    return run_task(simulator, task)
                (outcome,) = workers.submit(task).result(execution.timeout)
                return None if isinstance(outcome.found, Raised) else outcome.found
            except Exception:
                if workers is not None:
                    workers.stop(kill=True)
                return None

        if execution.store is not None:
            opened = Store(execution.store, run.identity())
            stack.callback(opened.close)
            run.open_store(opened)
            seeded = run.random_argument != "nothing"
            if run.ok.any() and seeded and run.batch_size == 1:
                # Any stored row would do: the last one before those that are missing.
                row = int(np.flatnonzero(np.append(run.ok[1:] < run.ok[:-1], True))[0])
                row = row if run.ok[row] else int(run.ok.argmax())
                assert run.x is not None
                check_row(opened, lambda: alone(row), estimator, run.x[row : row + 1])
            elif run.ok.any():
                check_probe(opened, lambda: alone(0), estimator)
            elif opened.probe is None and len(theta) and not (seeded and run.batch_size == 1):
                keep_probe(opened, lambda: alone(0), estimator, seeded=seeded)
        if workers is None:
            run.serially()
        else:
            Dispatcher(run, workers).simulate()
    return run.result()
