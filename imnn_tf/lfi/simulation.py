"""Runs a user's simulator: in batches, anywhere, with seeds, failures and a store."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from tqdm.auto import tqdm

from imnn_tf.lfi.executors import Pool
from imnn_tf.lfi.runs import Failure, Run, SimulationError, SimulationResult
from imnn_tf.utils import checks
from imnn_tf.utils.interrupt import deferred_interrupt
from imnn_tf.utils.seeds import Seed, seed_sequence

__all__ = ["Failure", "SimulationError", "SimulationResult", "simulate"]


def simulate(
    simulator: Callable[..., Any],
    theta: ArrayLike,
    *,
    executor: Any = None,
    batch_size: int = 1,
    seed: Seed = None,
    timeout: float | None = None,
    on_error: str = "raise",
    retries: int = 0,
    store: str | os.PathLike[str] | None = None,
    progress: Any = True,
    reduce: Callable[[np.ndarray], ArrayLike] | None = None,
    max_pending: int | None = None,
) -> SimulationResult:
    """Runs simulations, in the order of their parameters whatever finishes first.

    The simulator takes parameters, `(n, n_params)`, and returns simulations, `(n,) + shape`.
    If it has a second positional argument *without a default*, that one is filled: with
    integer seeds, `(n,)`, if it is called `seed` or `seeds`, otherwise with one
    `numpy.random.Generator` for the call. Optional arguments are left alone. The seeds are
    children of `seed`, one for each simulation; a generator is made from the child of the
    call's first. So results depend on `seed`, and for generators on `batch_size`, but never on
    where or in what order simulations run.

    The first Ctrl-C ends the run once running batches are done, and what has finished is
    returned; a second one raises `KeyboardInterrupt`.

    Args:
        simulator: The simulator. It is sent to worker processes once or with each batch, with
            all that it refers to; scripts that start processes need the usual
            `if __name__ == "__main__":`.
        theta: Parameters, `(n, n_params)`.
        executor: `None` to run here; a number of processes; any
            `concurrent.futures.Executor`; or a function that makes one. See
            `imnn_tf.lfi.executors.Pool`.
        batch_size: Simulations in a call. A batch fails as a whole.
        seed: An integer or a `SeedSequence`; `None` for fresh entropy, kept in the result.
        timeout: Seconds that a batch may take; needs an executor. Processes started here are
            ended; others only forgotten, and stay busy.
        on_error: "raise" stops at the first failure; "skip" goes on without the batch; "retry"
            tries it again with other seeds, `retries` times, and then skips it.
        retries: How often.
        store: A folder to keep finished simulations in. A run of the same `seed`, `theta` and
            `batch_size` finds them there, and only runs what is missing. Needs a `seed`.
        progress: Whether to show a bar, which counts finished simulations, or a bar to use.
        reduce: Applied here to each batch; what it returns, `(n, ...)`, is kept instead of
            the simulations, and must be finite, or its simulation has failed.
        max_pending: Batches with the executor at a time, by default twice its workers, or
            once with a `timeout`.

    Returns:
        The simulations, and what is to be known about them.

    Raises:
        SimulationError: If a simulation fails and `on_error` is "raise", or if an executor
            that was passed breaks. Holds what had finished.
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of range, or the simulator returns another number of
            simulations than asked for.
    """
    parameters = checks.array("theta", theta, shape=(None, None), dtype=float)
    checks.function("simulator", simulator)
    checks.choice("on_error", on_error, ("raise", "skip", "retry"))
    if timeout is not None:
        timeout = checks.real("timeout", timeout, above=0)
        if executor is None:
            raise ValueError("`timeout` must come with an `executor`, got none.")
    if store is not None and seed is None:
        raise ValueError("`seed` must be given with a `store`, to find a run again; got None.")
    this = Run(
        simulator,
        parameters,
        seed_sequence(seed),
        batch_size=checks.integer("batch_size", batch_size, minimum=1),
        attempts=1 + checks.integer("retries", retries, minimum=0) * (on_error == "retry"),
        raises=on_error == "raise",
        reduce=reduce,
    )
    with ExitStack() as stack:
        this.interrupt = stack.enter_context(deferred_interrupt())
        if hasattr(progress, "update"):
            this.bar = progress
        else:
            bar = tqdm(total=len(parameters), desc="Simulations", disable=not progress)
            this.bar = stack.enter_context(bar)
        if store is not None:
            this.resume(store)
            stack.callback(this.close)
        if executor is None:
            this.serially()
        else:
            own = not isinstance(executor, Pool)
            pool = stack.enter_context(Pool(simulator, executor)) if own else executor
            this.pooled(pool, timeout, max_pending)
    return this.result()
