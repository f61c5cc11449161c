"""What is the same for all simulations of a fit, and how they are opened by it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from imnn_tf.simulations import as_simulations
from imnn_tf.simulations.cache import Cache
from imnn_tf.simulations.mapping import MapFunction
from imnn_tf.simulations.simulator import HeldOut, Simulator, SimulatorSimulations
from imnn_tf.simulations.stored import StoredSimulations
from imnn_tf.utils import checks

# Simulations and their derivatives, as a user passes them.
Pair = tuple[Any, Any]


@dataclass(frozen=True)
class Settings:
    """What is the same for all simulations of a fit; see the arguments of `IMNN`.

    Args:
        theta_fid: Fiducial parameters, `[n_params]`.
        delta_theta: Differences of the parameters, `[n_params]`; `None` for exact derivatives.
        dtype: Floating type.
        n_s: Number of fiducial simulations, if given.
        n_d: Number of derivative simulations, if given.
        input_shape: Shape of one simulation, if given.
        at_once: Fiducial simulations in a batch, if given.
        map_fn: Applied to each simulation.
        seed: Of a simulator and a `map_fn`.
        cache: Where simulations are between two passes.
        parallel_reads: Batches that are read at once.
        n_replicas: Among how many the batches are to be shared.
        verbose: Whether to show progress bars.
    """

    theta_fid: np.ndarray
    delta_theta: np.ndarray | None
    dtype: tf.DType
    n_s: int | None
    n_d: int | None
    input_shape: tuple[int, ...] | None
    at_once: int | None
    map_fn: MapFunction | None
    seed: int
    cache: Cache
    parallel_reads: int | None
    n_replicas: int
    verbose: bool

    def training(
        self, simulations: Pair, external: Pair, simulator: Simulator | None
    ) -> StoredSimulations | SimulatorSimulations:
        """The training set, from what the user passed.

        Raises:
            ValueError: If there is a simulator and something else, and what opening them raises.
        """
        if simulator is None:
            return self.stored(simulations, external)
        if any(part is not None for part in (*simulations, *external)):
            raise ValueError(
                "`fiducial`, `derivative` and external summaries must be left out where a "
                "`simulator` is given."
            )
        return self._simulated(simulator)

    def _simulated(self, simulator: Simulator) -> SimulatorSimulations:
        n_s = checks.integer("n_s", self.n_s, minimum=1)
        n_d = n_s if self.n_d is None else checks.integer("n_d", self.n_d, minimum=1)
        share = -(-max(n_s, n_d) // self.n_replicas)
        return SimulatorSimulations(
            checks.function("simulator", simulator),
            self.theta_fid,
            self.delta_theta,
            n_s=n_s,
            n_d=n_d,
            seed=self.seed,
            dtype=self.dtype,
            at_once=min(self.at_once or share, share),
            map_fn=self.map_fn,
        )

    def validation(
        self,
        training: StoredSimulations | SimulatorSimulations,
        simulations: Pair,
        external: Pair,
    ) -> StoredSimulations | HeldOut | None:
        """The validation set that goes with a training set, if there is one."""
        if any(part is not None for part in simulations):
            _require_both("validation_", simulations)
            return self.like(training, simulations, external, role="validation_")
        if any(part is not None for part in external):
            raise ValueError(
                "`validation_external_fiducial` must be given with `validation_fiducial`."
            )
        return training.held_out() if isinstance(training, SimulatorSimulations) else None

    def like(
        self,
        training: StoredSimulations | SimulatorSimulations,
        simulations: Pair,
        external: Pair,
        *,
        role: str = "",
        at_once: int | None = None,
    ) -> StoredSimulations:
        """Stored simulations of the shape of the training set's.

        Raises:
            ValueError: If they have another shape, and what opening them raises.
        """
        found = self.stored(simulations, external, role=role, at_once=at_once)
        for argument, kind, got, want in (
            ("fiducial", "simulations", found.input_shape, training.input_shape),
            ("external_fiducial", "summaries", (found.n_external,), (training.n_external,)),
        ):
            if tuple(got) != tuple(want):
                raise ValueError(
                    f"`{role}{argument}` must hold {kind} of the training set's shape, "
                    f"{tuple(want)}, got {tuple(got)}."
                )
        return found

    def stored(
        self,
        simulations: Pair,
        external: Pair,
        *,
        role: str = "",
        at_once: int | None = None,
    ) -> StoredSimulations:
        """Simulations in arrays, functions, files or data sets; see `as_simulations`."""
        if any(part is not None for part in external):
            _require_both(f"{role}external_", external)
        return as_simulations(
            *simulations,
            len(self.theta_fid),
            self.delta_theta,
            dtype=self.dtype,
            n_s=self.n_s,
            n_d=self.n_d,
            input_shape=self.input_shape,
            at_once=at_once or self.at_once,
            map_fn=self.map_fn,
            seed=self.seed,
            external=None if external[0] is None else external,
            cache=self.cache,
            parallel_reads=self.parallel_reads,
            min_batches=self.n_replicas,
            verbose=self.verbose,
            role=role,
        )


def _require_both(kind: str, pair: Pair) -> None:
    if any(part is None for part in pair):
        raise ValueError(
            f"`{kind}fiducial` and `{kind}derivative` must be given together, got only one of them."
        )
