"""Approximate Bayesian computation by rejection."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from imnn_tf.lfi.accepted import Accepted
from imnn_tf.lfi.sampled import SampledInference
from imnn_tf.utils import checks
from imnn_tf.utils.seeds import child

# Draws that `get_min_accepted` makes at a time at most, to bound its memory.
_MOST_AT_A_TIME = 65_536


class ApproximateBayesianComputation(SampledInference):
    """Simulations at draws from the prior, accepted where they come close to a target.

    Calling the object draws and simulates; `accept_reject` then accepts what lies within `ε`
    of each target. All draws are kept, so `ε` may be changed at will. The accepted ones are
    independent samples of the posterior given that the estimate is within `ε` of the
    target's, which tends to the posterior given the estimate as `ε` tends to zero
    (Pritchard et al. 1999; Beaumont, Zhang & Balding 2002).

    See `imnn_tf.lfi.sampled.SampledInference` for the arguments. `ε` may be typed as `ϵ`, which
    is the same name to Python. Attributes of the accepted
    (and with `rejected_` for `accepted_` the rejected) simulations are arrays
    `(1, n, n_params)` with one target, and lists of `(n_i, n_params)` with several.

    Attributes:
        parameters: All draws, `(n, n_params)`.
        estimates: Their estimates, `(n, n_params)`.
        distances: Their distances from the targets' estimates, `(n, targets)`.
        num_draws: Draws at the last `accept_reject`, or `None`.
        num_accepted: Accepted of them, `(targets,)`.
        num_rejected: Rejected of them, `(targets,)`.
        interrupted: Whether Ctrl-C ended the last call early.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reset()

    def reset(self) -> None:
        """Forgets all simulations."""
        self.parameters = np.empty((0, self.n_params))
        self.estimates = np.empty((0, self.n_params))
        self.distances = np.empty((0, self.targets))
        self.num_draws: int | None = None
        self.num_accepted: np.ndarray | None = None
        self.num_rejected: np.ndarray | None = None
        self.failures = []
        self.grid = self.post = None
        self.interrupted = False
        self._calls = 0
        self._tolerance = np.full(self.targets, np.nan)
        self._mask: np.ndarray | None = None

    def ABC(
        self,
        draws: Any,
        at_once: bool | int = True,
        save_sims: str | os.PathLike[str] | None = None,
        predrawn: bool = False,
        update: bool = True,
        *,
        progress: Any = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Draws from the prior, simulates, and compares with the targets.

        Args:
            draws: How many; or with `predrawn` parameters that were drawn from the prior
                before, `(n, n_params)`.
            at_once: Whether to pass all draws to the simulator in one call, or one by one; a
                number passes that many at a time, which bounds the memory needed.
            save_sims: A file name for the simulations; see
                `imnn_tf.lfi.store.save_simulations`.
            predrawn: Whether `draws` are parameters.
            update: Whether to add the draws to those of the object.
            progress: Whether to show a bar, or a bar to use; `None` as the object was told.

        Returns:
            Parameters, `(n, n_params)`, estimates, `(n, n_params)`, differences of the
            estimates from the targets', `(n, targets, n_params)`, and distances,
            `(n, targets)`, of the simulations that did not fail.

        Raises:
            SimulationError: If a simulation fails and is not to be skipped.
            ValueError: If `draws` is not positive or of the wrong shape.
        """
        self._simulates()
        key, self._calls = self._calls, self._calls + 1
        if predrawn:
            shape = (None, self.n_params)
            parameters = checks.array("draws", draws, shape=shape, dtype=float)
        else:
            number = checks.integer("draws", draws, minimum=1)
            parameters = self.prior.sample(number, seed=child(self.seed, key, 1))
        bar = self._progress if progress is None else progress
        result = self._simulate(parameters, (key, 0), at_once, save_sims, bar)
        self.interrupted = result.interrupted
        ok = result.ok
        estimates = np.empty((0, self.n_params)) if result.x is None else result.x[ok]
        parameters, distances = parameters[ok], self._distances(estimates)
        if update:
            self._append(parameters, estimates, distances)
        return parameters, estimates, self._differences(estimates), distances

    __call__ = ABC

    def accept_reject(self, ε: float | Sequence[float]) -> None:
        """Accepts the draws whose distance from a target is below `ε`, for each target.

        Args:
            ε: The radius, or one for each target.

        Raises:
            ValueError: If `ε` is not positive, or nothing was drawn yet.
        """
        self._tolerance = self._radii(ε)
        if len(self.parameters) == 0:
            raise ValueError("`draws` must be simulated before any can be accepted, got none.")
        self._mask = self.distances < self._tolerance
        self.num_draws = len(self._mask)
        self.num_accepted = self._mask.sum(axis=0)
        self.num_rejected = self.num_draws - self.num_accepted

    def get_min_accepted(
        self,
        ε: float | Sequence[float],
        accepted: int,
        min_draws: int | None = 1,
        at_once: bool | int = True,
        save_sims: str | os.PathLike[str] | None = None,
        tqdm_notebook: bool = True,
        *,
        max_draws: int | None = None,
    ) -> None:
        """Draws until each target has a number of draws within `ε`.

        Args:
            ε: The radius, or one for each target.
            accepted: How many draws each target must have within it.
            min_draws: Draws at a time at least; more are made where acceptance so far says
                that more are needed, up to 65,536.
            at_once: As in `ABC`.
            save_sims: As in `ABC`.
            tqdm_notebook: Ignored: the bar fits itself to where it is shown.
            max_draws: Draws in all after which to stop, whatever has been accepted.

        Raises:
            ValueError: If a number is not positive.
        """
        tolerance = self._radii(ε)
        wanted = checks.integer("accepted", accepted, minimum=1)
        least = checks.integer("min_draws", 1 if min_draws is None else min_draws, minimum=1)
        most = np.inf if max_draws is None else checks.integer("max_draws", max_draws, minimum=1)
        have = (self.distances < tolerance).sum(axis=0)
        bar = tqdm(desc="Simulations", disable=not self._progress)
        with bar, self._workers():
            while (have < wanted).any() and len(self.parameters) < most:
                block = self._needed(have, wanted, least)
                block = int(min(block, most - len(self.parameters)))
                distances = self.ABC(block, at_once, save_sims, progress=bar)[3]
                have = have + (distances < tolerance).sum(axis=0)
                bar.set_postfix(accepted=have.tolist())
                if self.interrupted:
                    break
        self.accept_reject(ε)

    def _radii(self, ε: float | Sequence[float]) -> np.ndarray:
        """One radius for each target, `(targets,)`."""
        if np.ndim(ε) == 0:
            return np.full(self.targets, checks.real("ε", ε, above=0))
        radii = checks.array("ε", ε, shape=(self.targets,), dtype=float)
        if not (radii > 0).all():
            raise ValueError(f"`ε` must be greater than 0, got {radii.tolist()}.")
        return radii

    def _needed(self, have: np.ndarray, wanted: int, least: int) -> int:
        """Draws likely to be needed by the target that lacks most."""
        done, fewest = len(self.parameters), have.min()
        # Never more than there were so far: from few draws the rate is a guess.
        most = min(done, _MOST_AT_A_TIME)
        if fewest == 0:
            return max(least, most)
        return max(least, min(int(1.05 * (wanted - fewest) * done / fewest) + 1, most))

    @property
    def differences(self) -> np.ndarray:
        """Differences of all estimates from the targets', `(n, targets, n_params)`."""
        return self._differences(self.estimates)

    @property
    def accepted_parameters(self) -> Any:
        """Accepted parameters; see the class for the shape."""
        return self._chosen(self.parameters, True)

    @property
    def accepted_estimates(self) -> Any:
        """Estimates of the accepted."""
        return self._chosen(self.estimates, True)

    @property
    def accepted_differences(self) -> Any:
        """Differences of their estimates from the target's."""
        return self._chosen(self.estimates, True, minus=self.estimate)

    @property
    def accepted_distances(self) -> Any:
        """Distances of the accepted, `(n_i,)` for each target."""
        return self._chosen(self.distances, True)

    @property
    def rejected_parameters(self) -> Any:
        """Rejected parameters; see the class for the shape."""
        return self._chosen(self.parameters, False)

    @property
    def rejected_estimates(self) -> Any:
        """Estimates of the rejected."""
        return self._chosen(self.estimates, False)

    @property
    def rejected_differences(self) -> Any:
        """Differences of their estimates from the target's."""
        return self._chosen(self.estimates, False, minus=self.estimate)

    @property
    def rejected_distances(self) -> Any:
        """Distances of the rejected, `(n_i,)` for each target."""
        return self._chosen(self.distances, False)

    def _chosen(self, values: np.ndarray, accepted: bool, minus: np.ndarray | None = None) -> Any:
        if self._mask is None:
            return None
        chosen = []
        for target, column in enumerate(self._mask.T):
            rows = values[: len(column)][column if accepted else ~column]
            rows = rows[:, target] if values is self.distances else rows
            chosen.append(rows if minus is None else rows - minus[target])
        return np.stack(chosen) if self.targets == 1 else chosen

    def _take(self, parameters: np.ndarray, estimates: np.ndarray) -> None:
        self._append(parameters, estimates, self._distances(estimates))

    def _append(self, parameters: np.ndarray, estimates: np.ndarray, distances: np.ndarray) -> None:
        self.parameters = np.concatenate([self.parameters, parameters])
        self.estimates = np.concatenate([self.estimates, estimates])
        self.distances = np.concatenate([self.distances, distances])

    def _differences(self, estimates: np.ndarray) -> np.ndarray:
        return estimates[:, np.newaxis] - self.estimate

    def _prepare(  # type: ignore[override]
        self,
        ε: float | Sequence[float] | None = None,
        draws: int | None = None,
        accepted: int | None = None,
        at_once: bool | int = True,
        save_sims: str | os.PathLike[str] | None = None,
        tqdm_notebook: bool = True,
    ) -> None:
        """Draws what is missing, and accepts."""
        if ε is None:
            if self._mask is None:
                raise ValueError("`ε` must be given before anything has been accepted.")
            return
        if accepted is not None:
            self.get_min_accepted(ε, accepted, draws, at_once, save_sims, tqdm_notebook)
            return
        missing = (0 if draws is None else draws) - len(self.parameters)
        if missing > 0:
            self.ABC(missing, at_once, save_sims)
        self.accept_reject(ε)

    def _accepted(self, target: int) -> Accepted:
        if self._mask is None:
            raise ValueError("`ε` must be given before anything has been accepted.")
        rows = np.flatnonzero(self._mask[:, target])
        return Accepted(
            self.parameters[rows],
            self.estimates[rows],
            self.distances[rows, target],
            np.ones(len(rows)),
            float(self._tolerance[target]),
        )

    def _rejected(self, target: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        if self._mask is None:
            raise ValueError("`ε` must be given before anything has been accepted.")
        rows = np.flatnonzero(~self._mask[:, target])[::step]
        return self.parameters[rows], self.estimates[rows]
