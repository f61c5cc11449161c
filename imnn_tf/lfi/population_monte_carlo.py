"""Population Monte Carlo: tolerances that shrink, weights that stay right."""

import inspect
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from imnn_tf.lfi.accepted import Accepted
from imnn_tf.lfi.generations import Generation, Population, Round, Step, StopRules
from imnn_tf.lfi.runs import SimulationResult
from imnn_tf.lfi.sampled import SampledInference
from imnn_tf.utils import checks
from imnn_tf.utils.interrupt import deferred_interrupt
from imnn_tf.utils.seeds import child


class PopulationMonteCarlo(SampledInference):
    """A population of samples for each target, moved step by step to smaller distances.

    Population Monte Carlo as published by Beaumont, Cornuet, Marin & Robert (2009),
    arXiv:0805.2256. The first population is the nearest of draws from the prior. Every
    generation then takes a tolerance from the distances of the last; draws particles from it
    by weight; moves them by a Gaussian of twice its weighted covariance, anew if the prior
    forbids where to; accepts those that are simulated within the tolerance, in the order they
    were proposed in whatever finishes first; and weighs them by prior over the density of
    what they were drawn from.

    Targets are independent of each other but for the draws from the prior, which they share.

    See `imnn_tf.lfi.sampled.SampledInference` for the other arguments. There are no rejected
    simulations to look at: `rejected_parameters` and the like are empty.

    Args:
        recycle: Whether results and plots take every simulation ever made within the final
            tolerance, whichever generation it belongs to, and not the last population alone;
            see `imnn_tf.lfi.generations.Population.recycled`. The attributes below are those
            of the population in any case.

    Attributes:
        parameters: Particles, `(targets, draws, n_params)`, nearest first.
        estimates: Their estimates, `(targets, draws, n_params)`.
        differences: Of their estimates from the target's, `(targets, draws, n_params)`.
        distances: `(targets, draws)`.
        weighting: Weights, `(targets, draws)`, which sum to one for each target.
        tolerance: Distance within which the particles lie, `(targets,)`.
        ess: Effective sample size of each population, `(targets,)`.
        num_draws: Simulations made for each target, those from the prior included,
            `(targets,)`.
        num_accepted: Particles of each target, `(targets,)`.
        history: A list of `Generation` for each target.
        stopped_by: For each target the rule that ended the last call: "criterion",
            "tolerance", "max_simulations", "max_seconds", "min_change" or "interrupt".
    """

    def __init__(self, *args: Any, recycle: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        checks.function("simulator", self.simulator)
        self._recycle = checks.flag("recycle", recycle)
        self.reset()

    def reset(self) -> None:
        """Forgets all particles, and what was added."""
        self._added = (np.empty((0, self.n_params)), np.empty((0, self.n_params)))
        self._populations: list[Population] = []
        self._recycled: dict[int, tuple[Population, Accepted]] = {}
        self._starts = 0
        self.failures = []
        self.grid = self.post = None

    def PMC(
        self,
        draws: int | None = None,
        initial_draws: int | None = None,
        criterion: float | None = None,
        percentile: float | None = 75,
        at_once: bool | int = True,
        save_sims: str | os.PathLike[str] | None = None,
        tqdm_notebook: bool = True,
        *,
        tolerance: float | None = None,
        max_simulations: int | None = None,
        max_seconds: float | None = None,
        min_change: float | None = None,
    ) -> None:
        """Makes or moves the populations until a rule says to stop.

        Called again it goes on from where it stopped. Ctrl-C and the limits on simulations
        and time end a generation that is not done; the populations are those of the last one
        that was.

        Args:
            draws: Particles of each population; `None` for as many as there are.
            initial_draws: Draws from the prior to choose the first population from, at least
                `draws`, those that were added included; `None` for those alone. Only used by
                the first call.
            criterion: Stop after a generation in which this share of simulations or less was
                accepted.
            percentile: The next tolerance is this percentile of the distances. `None` takes
                small steps of 95.
            at_once: As in `ApproximateBayesianComputation.ABC`, for the simulations of a round
                of proposals.
            save_sims: As there.
            tqdm_notebook: Ignored: the bar fits itself to where it is shown.
            tolerance: Stop when all particles are within this distance, and do not go below.
            max_simulations: Simulations for each target after which to stop.
            max_seconds: Time after which to stop.
            min_change: Stop after a generation that shrank the tolerance by less than this
                share.

        Raises:
            ValueError: If there is nothing to start from, `initial_draws` is below `draws`,
                there is no rule to stop by, or a number is out of range.
            SimulationError: If a simulation fails and is not to be skipped.
        """
        rules = StopRules(criterion, tolerance, max_simulations, max_seconds, min_change)
        percentile = 95.0 if percentile is None else percentile
        percentile = checks.real("percentile", percentile, above=0, below=100)
        if draws is not None:
            draws = checks.integer("draws", draws, minimum=self.n_params + 1)
        with ExitStack() as stack:
            rules.interrupt = stack.enter_context(deferred_interrupt())
            bar = stack.enter_context(tqdm(desc="Simulations", disable=not self._progress))
            stack.enter_context(self._workers())

            def run(parameters: np.ndarray, key: tuple[int, ...]) -> SimulationResult:
                result = self._simulate(parameters, key, at_once, save_sims, bar)
                if result.interrupted:
                    rules.interrupt.set()
                return result

            if not self._populations:
                self._populations = self._start(draws, initial_draws, run)
            step = Step(self.prior, self._distance, self.seed, run, rules, percentile / 100, bar)
            active = list(range(len(self._populations)))
            while active:  # in turns, so that time running out is no target's own loss
                for target in active:
                    population = self._populations[target]
                    self._populations[target] = step.advance(target, population, draws)
                active = [t for t in active if self._populations[t].stopped_by is None]

    __call__ = PMC

    def _start(
        self,
        draws: int | None,
        initial_draws: int | None,
        run: Callable[[np.ndarray, tuple[int, ...]], SimulationResult],
    ) -> list[Population]:
        """The nearest of draws from the prior, for each target; none after Ctrl-C."""
        parameters, estimates = self._added
        if initial_draws is None and len(parameters):
            initial_draws = len(parameters)
        if draws is None or initial_draws is None:
            raise ValueError("`draws` and `initial_draws` must be given at first, got None.")
        initial = max(checks.integer("initial_draws", initial_draws), len(parameters))
        if initial < draws:
            raise ValueError(f"`initial_draws` must be at least `draws`, {draws}, got {initial}.")
        missing = initial - len(parameters)
        if missing:
            key, self._starts = self._starts, self._starts + 1
            drawn = self.prior.sample(missing, seed=child(self.seed, 0, key, 1))
            result = run(drawn, (0, key, 0))
            if result.interrupted:
                return []
            if result.x is not None:
                parameters = np.concatenate([parameters, drawn[result.ok]])
                estimates = np.concatenate([estimates, result.x[result.ok]])
        if len(parameters) < draws:
            raise ValueError(
                f"`initial_draws` must give {draws} simulations, got {len(parameters)} that did "
                f"not fail of {initial}."
            )
        return [
            Population.nearest(
                Round(None, 1.0, parameters, estimates, self._distance(estimates, target)),
                draws,
                initial,
            )
            for target in range(self.targets)
        ]

    @property
    def parameters(self) -> np.ndarray:
        """Particles; see the class."""
        return self._stacked("parameters", (self.n_params,))

    @property
    def estimates(self) -> np.ndarray:
        """Their estimates."""
        return self._stacked("estimates", (self.n_params,))

    @property
    def differences(self) -> np.ndarray:
        """Differences of the estimates from the target's."""
        return self.estimates - self.estimate[:, np.newaxis]  # type: ignore[index]

    @property
    def distances(self) -> np.ndarray:
        """Distances of the particles."""
        return self._stacked("distances", ())

    @property
    def weighting(self) -> np.ndarray:
        """Weights of the particles."""
        return self._stacked("weights", ())

    accepted_parameters = parameters
    accepted_estimates = estimates
    accepted_differences = differences
    accepted_distances = distances

    @property
    def rejected_parameters(self) -> np.ndarray:
        """None: `(targets, 0, n_params)`."""
        return np.empty((self.targets, 0, self.n_params))

    rejected_estimates = rejected_parameters
    rejected_differences = rejected_parameters

    @property
    def rejected_distances(self) -> np.ndarray:
        """None: `(targets, 0)`."""
        return np.empty((self.targets, 0))

    @property
    def tolerance(self) -> np.ndarray:
        """Distance within which the particles lie, `(targets,)`."""
        return np.array([population.tolerance for population in self._populations])

    @property
    def ess(self) -> np.ndarray:
        """Effective sample sizes, `(targets,)`."""
        return np.array([population.ess for population in self._populations])

    @property
    def num_draws(self) -> np.ndarray:
        """Simulations made for each target."""
        return np.array([population.simulations for population in self._populations], int)

    @property
    def num_accepted(self) -> np.ndarray:
        """Particles of each target."""
        return np.array([len(population.weights) for population in self._populations], int)

    @property
    def num_rejected(self) -> np.ndarray:
        """Zero for each target."""
        return np.zeros(len(self._populations), dtype=int)

    @property
    def history(self) -> list[list[Generation]]:
        """The generations of each target."""
        return [list(population.history) for population in self._populations]

    @property
    def stopped_by(self) -> list[str | None]:
        """The rule that ended the last call, for each target."""
        return [population.stopped_by for population in self._populations]

    def _stacked(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        if not self._populations:
            return np.empty((self.targets, 0, *shape))
        if len({len(population.weights) for population in self._populations}) > 1:
            raise ValueError(
                "`draws` differ between targets after an early stop; see `result(target)`."
            )
        return np.stack([getattr(population, name) for population in self._populations])

    def _take(self, parameters: np.ndarray, estimates: np.ndarray) -> None:
        if self._populations:
            raise ValueError(
                "`add` must come before the first population is chosen, got it after; "
                "`reset()` starts anew."
            )
        self._added = (
            np.concatenate([self._added[0], parameters]),
            np.concatenate([self._added[1], estimates]),
        )

    @property
    def _runs_by(self) -> Callable[..., Any]:
        return self.PMC

    def _prepare(self, **run: Any) -> None:
        """Runs if a number of particles or any rule to stop by is given."""
        given = inspect.signature(self.PMC).bind(**run).arguments
        if any(given.get(name) is not None for name in ("draws", *StopRules.names)):
            self.PMC(**run)

    def _accepted(self, target: int) -> Accepted:
        if not self._populations:
            raise ValueError("`draws` must be given before there are particles, got None.")
        population = self._populations[target]
        if self._recycle:
            known, recycled = self._recycled.get(target, (None, None))
            if known is not population:
                recycled = population.recycled(self.prior.prob)
                self._recycled[target] = population, recycled
            assert recycled is not None
            return recycled
        return Accepted(
            population.parameters,
            population.estimates,
            population.distances,
            population.weights,
            population.tolerance,
        )

    def _rejected(self, target: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        return self.rejected_parameters[target], self.rejected_estimates[target]
