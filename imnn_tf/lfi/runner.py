"""How a method of inference runs its simulations: with the same options throughout."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from imnn_tf.lfi.executors import Pool
from imnn_tf.lfi.runs import SimulationResult
from imnn_tf.lfi.simulation import simulate
from imnn_tf.lfi.store import save_simulations
from imnn_tf.utils import checks
from imnn_tf.utils.seeds import child


class Runner:
    """Simulates and estimates; see `imnn_tf.lfi.sampled.SampledInference` for the arguments."""

    def __init__(
        self,
        get_estimate: Callable[..., np.ndarray],
        seed: np.random.SeedSequence,
        *,
        executor: Any,
        batch_size: int | None,
        store: str | os.PathLike[str] | None,
        **options: Any,
    ) -> None:
        self._get_estimate, self._seed = get_estimate, seed
        self._executor, self._batch_size, self._store = executor, batch_size, store
        self._options = options
        self._pool: Pool | None = None

    @contextmanager
    def workers(self, simulator: Callable[..., Any]) -> Iterator[None]:
        """Keeps the same workers for all simulations within."""
        if self._executor is None or self._pool is not None:
            yield
            return
        with Pool(simulator, self._executor) as pool:
            self._pool = pool
            try:
                yield
            finally:
                self._pool = None

    def run(
        self,
        simulator: Callable[..., Any],
        parameters: np.ndarray,
        key: tuple[int, ...],
        at_once: bool | int,
        save_sims: str | os.PathLike[str] | None,
        progress: Any,
    ) -> SimulationResult:
        """Estimates of simulations at some parameters, in `x` of what is returned.

        Args:
            simulator: What simulates.
            parameters: `(n, n_params)`.
            key: Tells the calls of one object apart: it picks their seeds and their folders.
            at_once: As in `ApproximateBayesianComputation.ABC`.
            save_sims: As there.
            progress: Whether to show a bar, or a bar to use.
        """

        def estimates(data: np.ndarray) -> np.ndarray:
            if save_sims is not None:
                save_simulations(save_sims, data)
            return self._get_estimate(data)

        store = None
        if self._store is not None:
            store = Path(self._store) / "-".join(f"{part:04d}" for part in key)
        with self.workers(simulator):
            return simulate(
                simulator,
                parameters,
                executor=self._pool,
                batch_size=self._batches(at_once, len(parameters)),
                seed=child(self._seed, *key),
                store=store,
                progress=progress,
                reduce=estimates,
                **self._options,
            )

    def _batches(self, at_once: bool | int, draws: int) -> int:
        if self._batch_size is not None:
            return checks.integer("batch_size", self._batch_size, minimum=1)
        if not isinstance(at_once, bool | np.bool_):
            return checks.integer("at_once", at_once, minimum=1)
        return max(draws, 1) if at_once and self._executor is None else 1
