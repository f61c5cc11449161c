"""Simulations at draws from the prior, of which the nearest to the targets are accepted."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.lfi.methods.accepted import Accepted
from imnn_tf.lfi.methods.sampled import SampledInference
from imnn_tf.lfi.methods.simulated import FileName, Simulated
from imnn_tf.running.execution import Execution
from imnn_tf.utils import checks
from imnn_tf.utils.seeds import child

# The distance within which draws are accepted: one for all targets, or one for each.
Tolerance: TypeAlias = float | Sequence[float]
# An array `(1, n, ...)` with one target, a list of arrays `(n_i, ...)` with several; `None` before
# anything was accepted.
Chosen: TypeAlias = np.ndarray | list[np.ndarray] | None

# Draws that are simulated at a time at most, which bounds the memory they need.
_MOST_AT_A_TIME = 65_536


class Draws:
    """All draws of one `ApproximateBayesianComputation`, and which of them it accepts.

    Args:
        n_params: The number of parameters.
        targets: The number of targets.

    Attributes:
        parameters: Parameters, `(n, n_params)`.
        estimates: Estimates of the simulations, `(n, n_params)`.
        distances: Distances of the estimates from those of the targets, `(n, targets)`.
        tolerance: The distance within which draws are accepted, for each target, `(targets,)`.
        mask: Which of the first `m` draws are accepted for each target, `(m, targets)`: those
            that there were at the last `accept`. `None` before.
        calls: How often simulations were run, so that every call gets seeds of its own.
        interrupted: Whether Ctrl-C ended the last run early.
    """

    def __init__(self, n_params: int, targets: int) -> None:
        self.parameters = np.empty((0, n_params))
        self.estimates = np.empty((0, n_params))
        self.distances = np.empty((0, targets))
        self.tolerance = np.full(targets, np.nan)
        self.mask: np.ndarray | None = None
        self.calls = 0
        self.interrupted = False

    def append(self, parameters: np.ndarray, estimates: np.ndarray, distances: np.ndarray) -> None:
        """Adds draws.

        Args:
            parameters: Their parameters, `(n, n_params)`.
            estimates: Estimates of their simulations, `(n, n_params)`.
            distances: Distances of the estimates from those of the targets, `(n, targets)`.
        """
        self.parameters = np.concatenate([self.parameters, parameters])
        self.estimates = np.concatenate([self.estimates, estimates])
        self.distances = np.concatenate([self.distances, distances])

    def accept(self, tolerance: np.ndarray) -> None:
        """Accepts what lies within a distance of each target, `(targets,)`."""
        self.tolerance = tolerance
        if len(self.parameters) == 0:
            raise ValueError("`draws` must be simulated before any can be accepted, got none.")
        self.mask = self.distances < tolerance

    def rows(self, target: int, *, accepted: bool) -> np.ndarray:
        """The numbers, `(n_i,)`, of the draws accepted or rejected for a target."""
        if self.mask is None:
            raise ValueError("`ε` must be given before anything has been accepted.")
        column = self.mask[:, target]
        return np.flatnonzero(column if accepted else ~column)

    def missing(self, have: np.ndarray, wanted: int, least: int) -> int:
        """The number of draws that the target with the fewest accepted will probably need.

        Args:
            have: The numbers accepted so far, `(targets,)`.
            wanted: The number that each target needs.
            least: The least number of draws to return.
        """
        done, fewest = len(self.parameters), have.min()
        # Never more than there were so far: with few draws the rate is a guess.
        most = min(done, _MOST_AT_A_TIME)
        if fewest == 0:
            return max(least, most)
        return max(least, min(int(1.05 * (wanted - fewest) * done / fewest) + 1, most))


class RejectionSampling(SampledInference):
    """Draws from the prior, accepted or rejected, and the attributes that show them."""

    def reset(self) -> None:
        """Forgets all simulations."""
        self._draws = Draws(self.n_params, self.targets)
        self.failures = []
        self.grid = self.post = None

    @property
    def parameters(self) -> np.ndarray:
        """Parameters of all draws, `(n, n_params)`."""
        return self._draws.parameters

    @property
    def estimates(self) -> np.ndarray:
        """Estimates of all draws, `(n, n_params)`."""
        return self._draws.estimates

    @property
    def distances(self) -> np.ndarray:
        """Distances of the estimates from the targets', `(n, targets)`."""
        return self._draws.distances

    @property
    def differences(self) -> np.ndarray:
        """Differences of the estimates from the targets', `(n, targets, n_params)`."""
        return self._differences(self.estimates)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the last call early."""
        return self._draws.interrupted

    @property
    def num_draws(self) -> int | None:
        """The number of draws when some were last accepted, or `None`."""
        return None if self._draws.mask is None else len(self._draws.mask)

    @property
    def num_accepted(self) -> np.ndarray | None:
        """The number of draws accepted for each target, `(targets,)`, or `None`."""
        return None if self._draws.mask is None else self._draws.mask.sum(axis=0)

    @property
    def num_rejected(self) -> np.ndarray | None:
        """The number of draws rejected for each target, `(targets,)`, or `None`."""
        return None if self._draws.mask is None else (~self._draws.mask).sum(axis=0)

    @property
    def accepted_parameters(self) -> Chosen:
        """Parameters of the accepted draws, `(1, n, n_params)` or `(n_i, n_params)` each."""
        return self._chosen(True, lambda rows, target: self.parameters[rows])

    @property
    def accepted_estimates(self) -> Chosen:
        """Estimates of the accepted draws, `(1, n, n_params)` or `(n_i, n_params)` each."""
        return self._chosen(True, lambda rows, target: self.estimates[rows])

    @property
    def accepted_differences(self) -> Chosen:
        """Their differences from the target's, `(1, n, n_params)` or `(n_i, n_params)` each."""
        return self._chosen(True, lambda rows, target: self.estimates[rows] - self.estimate[target])

    @property
    def accepted_distances(self) -> Chosen:
        """Their distances from the target's, `(1, n)` or `(n_i,)` each."""
        return self._chosen(True, lambda rows, target: self.distances[rows, target])

    @property
    def rejected_parameters(self) -> Chosen:
        """Parameters of the rejected draws, `(1, n, n_params)` or `(n_i, n_params)` each."""
        return self._chosen(False, lambda rows, target: self.parameters[rows])

    @property
    def rejected_estimates(self) -> Chosen:
        """Estimates of the rejected draws, `(1, n, n_params)` or `(n_i, n_params)` each."""
        return self._chosen(False, lambda rows, target: self.estimates[rows])

    @property
    def rejected_differences(self) -> Chosen:
        """Their differences from the target's, `(1, n, n_params)` or `(n_i, n_params)` each."""
        return self._chosen(
            False, lambda rows, target: self.estimates[rows] - self.estimate[target]
        )

    @property
    def rejected_distances(self) -> Chosen:
        """Their distances from the target's, `(1, n)` or `(n_i,)` each."""
        return self._chosen(False, lambda rows, target: self.distances[rows, target])

    def _chosen(self, accepted: bool, values: Callable[[np.ndarray, int], np.ndarray]) -> Chosen:
        """Values of the draws accepted, or rejected, for each target.

        Args:
            accepted: Which of the two.
            values: Takes the numbers of draws, `(n_i,)`, and of a target, and returns values,
                `(n_i, ...)`.
        """
        if self._draws.mask is None:
            return None
        chosen = [
            values(self._draws.rows(target, accepted=accepted), target)
            for target in range(self.targets)
        ]
        return np.stack(chosen) if self.targets == 1 else chosen

    def _differences(self, estimates: np.ndarray) -> np.ndarray:
        return estimates[:, np.newaxis] - self.estimate

    def _tolerances(self, ε: Tolerance) -> np.ndarray:
        """One tolerance for each target, `(targets,)`."""
        if np.ndim(ε) == 0:
            return np.full(self.targets, checks.real("ε", ε, above=0))
        tolerances = checks.array("ε", ε, shape=(self.targets,), dtype=float)
        if not (tolerances > 0).all():
            raise ValueError(f"`ε` must be greater than 0, got {tolerances.tolist()}.")
        return tolerances

    def _draw(
        self,
        draws: int | ArrayLike,
        at_once: bool | int,
        save_sims: FileName | None,
        execution: Execution,
        *,
        predrawn: bool = False,
        update: bool = True,
    ) -> tuple[Simulated, np.ndarray]:
        """Simulates at draws from the prior; returns distances, `(n, targets)`, too."""
        self._required_simulator()
        key, self._draws.calls = self._draws.calls, self._draws.calls + 1
        if predrawn:
            shape = (None, self.n_params)
            parameters = checks.array("draws", draws, shape=shape, dtype=float)
            if update:  # what is kept counts as a draw from the prior
                self._require_support("draws", parameters)
        else:
            number = checks.integer("draws", draws, minimum=1)
            parameters = self.prior.sample(number, seed=child(self.seed, key, 1))
        simulated = self._simulate(
            parameters, (key, 0), at_once=at_once, save_sims=save_sims, execution=execution
        )
        self._draws.interrupted = simulated.interrupted
        distances = self._distances(simulated.estimates)
        if update:
            self._draws.append(simulated.parameters, simulated.estimates, distances)
        return simulated, distances

    def _distances(self, estimates: np.ndarray) -> np.ndarray:
        """Distances, `(n, targets)`, of estimates, `(n, n_params)`, from those of the targets."""
        each = [self._distance_from(estimates, target) for target in range(self.targets)]
        return np.stack(each, axis=1)

    def _add(self, simulated: Simulated) -> None:
        parameters, estimates = simulated.parameters, simulated.estimates
        self._draws.append(parameters, estimates, self._distances(estimates))

    def _accepted(self, target: int) -> Accepted:
        draws, rows = self._draws, self._draws.rows(target, accepted=True)
        return Accepted(
            draws.parameters[rows],
            draws.estimates[rows],
            draws.distances[rows, target],
            np.ones(len(rows)),
            float(draws.tolerance[target]),
        )

    def _rejected(self, target: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self._draws.rows(target, accepted=False)[::step]
        return self.parameters[rows], self.estimates[rows]
