"""How population Monte Carlo starts, how one generation follows another, and when to stop."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from imnn_tf.lfi.methods.accepted import Accepted
from imnn_tf.lfi.methods.kernels import Mixture, Proposals, propose
from imnn_tf.lfi.methods.local_kernels import DefensiveMixture
from imnn_tf.lfi.methods.population import Population, Round
from imnn_tf.lfi.methods.simulated import Simulated
from imnn_tf.lfi.prior import Prior
from imnn_tf.utils import checks
from imnn_tf.utils.seeds import child

logger = logging.getLogger(__name__)

# Proposals that are simulated at a time at most, which bounds the memory they need.
_MOST_AT_A_TIME = 65_536

# Simulates at parameters, `(n, n_params)`. The second argument tells calls and their seeds apart.
Simulate = Callable[[np.ndarray, tuple[int, ...]], Simulated]


class Schedule:
    """When to stop, and how the tolerance shrinks; `PopulationMonteCarlo.PMC` has the arguments.

    Attributes:
        interrupt: Set when the user presses Ctrl-C.
        deadline: The time of `time.monotonic` at which to stop.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If there is no rule to stop by, or an argument is out of range.
    """

    def __init__(
        self,
        percentile: float | None,
        criterion: float | None,
        tolerance: float | None,
        max_simulations: int | None,
        max_seconds: float | None,
        min_change: float | None,
    ) -> None:
        rules: dict[str, tuple[float | None, dict[str, float]]] = {
            "criterion": (criterion, {"minimum": 0, "maximum": 1}),
            "tolerance": (tolerance, {"above": 0}),
            "max_simulations": (max_simulations, {"above": 0}),
            "max_seconds": (max_seconds, {"above": 0}),
            "min_change": (min_change, {"minimum": 0, "below": 1}),
        }
        given = {
            name: checks.real(name, value, **bounds)
            for name, (value, bounds) in rules.items()
            if value is not None
        }
        if not given:
            raise ValueError(f"`criterion` or another rule must be given, one of {[*rules]}.")
        # A rule that was not given gets a value that it never reaches.
        self.criterion = given.get("criterion", -1.0)
        self.tolerance = given.get("tolerance", 0.0)
        self.max_simulations = given.get("max_simulations", np.inf)
        self.min_change = given.get("min_change", -1.0)
        if self.max_simulations % 1 and np.isfinite(self.max_simulations):
            raise ValueError(f"`max_simulations` must be a whole number, got {max_simulations}.")
        self.deadline = time.monotonic() + given.get("max_seconds", np.inf)
        percentile = 95.0 if percentile is None else percentile
        self.quantile = checks.real("percentile", percentile, above=0, below=100) / 100
        self.interrupt = threading.Event()

    def exhausted(self, simulations: int) -> str | None:
        """The limit that has been reached after so many simulations of a target, if any."""
        if self.interrupt.is_set():
            return "interrupt"
        if simulations >= self.max_simulations:
            return "max_simulations"
        return "max_seconds" if time.monotonic() > self.deadline else None

    def reached(self, population: Population) -> str | None:
        """The rule by which a population is done, if any."""
        if population.tolerance <= self.tolerance:
            return "tolerance"
        if len(population.history) > 1:  # rates of the draws from the prior mean nothing
            before, last = population.history[-2:]
            if last.acceptance <= self.criterion:
                return "criterion"
            if 1 - last.tolerance / before.tolerance < self.min_change:
                return "min_change"
        return None

    def next_tolerance(self, population: Population) -> float | None:
        """A quantile of the distances, or `None` if no distance is below the present tolerance."""
        distances = np.sort(population.distances)
        useful = distances[(distances > 0) & (distances < population.tolerance)]
        if len(useful) == 0:
            return None
        quantile = distances[int(self.quantile * len(distances))]
        nearer = float(np.clip(quantile, useful[0], useful[-1]))
        return max(nearer, self.tolerance)


class Populations:
    """The populations of all targets, which are independent of each other after the first draws.

    Args:
        targets: The number of targets.
        prior: The prior.
        distance: Takes estimates, `(n, n_params)`, and the number of a target, and returns
            distances, `(n,)`.
        seed: Seed of everything random.
        recycle: Whether results use the simulations of all generations.
        local_kernels: The share of the proposals that local kernels make.

    Attributes:
        each: The population of each target; empty before the first.
        recycle: As passed.
    """

    def __init__(
        self,
        targets: int,
        prior: Prior,
        distance: Callable[[np.ndarray, int], np.ndarray],
        seed: np.random.SeedSequence,
        recycle: bool,
        local_kernels: float = 0.0,
    ) -> None:
        self.each: list[Population] = []
        self.recycle, self._local_kernels = recycle, local_kernels
        self._targets, self._prior, self._distance, self._seed = targets, prior, distance, seed
        nothing = np.empty((0, prior.n_params))
        self._added = Simulated(nothing, nothing)
        self._recycled: dict[int, tuple[Population, Accepted]] = {}
        self._starts = 0

    def add(self, simulated: Simulated) -> None:
        """Adds simulations made elsewhere to those that the first populations are chosen from."""
        if self.each:
            raise ValueError(
                "`add` must come before the first population is chosen, got it after; "
                "`reset()` starts anew."
            )
        self._added = self._added.joined(simulated)

    def left(self, initial_draws: int | None, schedule: Schedule) -> int | None:
        """The number of simulations that a schedule leaves room for, or `None` for no limit.

        Args:
            initial_draws: The number of simulations to start from, which all targets share.
            schedule: When to stop.
        """
        if not np.isfinite(schedule.max_simulations):
            return None
        most = int(schedule.max_simulations)
        if self.each:
            return sum(max(0, most - population.simulations) for population in self.each)
        added = len(self._added.parameters)
        initial = max(initial_draws or 0, added)
        return initial - added + self._targets * max(0, most - initial)

    def start(
        self,
        draws: int | None,
        initial_draws: int | None,
        schedule: Schedule,
        simulate: Simulate,
    ) -> None:
        """Chooses the nearest simulations at draws from the prior; after Ctrl-C it does nothing.

        If the time is up before there are enough simulations for a population, they are kept for
        the next call.

        Args:
            draws: The number of particles.
            initial_draws: The number of simulations, those that were added included. `None` for
                these alone.
            schedule: When to stop.
            simulate: Takes parameters, `(n, n_params)`, and the key of a call, a tuple of integers;
                returns the simulations.
        """
        added = len(self._added.parameters)
        if initial_draws is None and added:
            initial_draws = added
        if draws is None or initial_draws is None:
            raise ValueError("`draws` and `initial_draws` must be given at first, got None.")
        initial = max(checks.integer("initial_draws", initial_draws), added)
        if initial < draws:
            raise ValueError(f"`initial_draws` must be at least `draws`, {draws}, got {initial}.")
        if initial - added > schedule.max_simulations:
            raise ValueError(
                f"`max_simulations` must be at least `initial_draws`, {initial - added}, got "
                f"{schedule.max_simulations:.0f}."
            )
        simulated = self._added
        if initial > added:
            key, self._starts = self._starts, self._starts + 1
            drawn = self._prior.sample(initial - added, seed=child(self._seed, 0, key, 1))
            new = simulate(drawn, (0, key, 0))
            if new.interrupted:
                return
            simulated = simulated.joined(new)
            if new.attempted < len(drawn) and len(simulated.parameters) < draws:
                logger.warning(
                    "`max_seconds` ended the first simulations after %d of %d, too few for %d "
                    "particles. The next call goes on from there.",
                    new.attempted,
                    len(drawn),
                    draws,
                )
                self._added = simulated
                return
            initial = added + new.attempted
        parameters, estimates = simulated.parameters, simulated.estimates
        if len(parameters) < draws:
            raise ValueError(
                f"`initial_draws` must give {draws} simulations, got {len(parameters)} that did "
                f"not fail of {initial}."
            )
        for target in range(self._targets):
            first = Round(None, 1.0, parameters, estimates, self._distance(estimates, target))
            self.each.append(Population.nearest(first, draws, initial))

    def advance(
        self, target: int, draws: int | None, schedule: Schedule, simulate: Simulate, bar: Any
    ) -> bool:
        """Moves the population of a target on by one generation; returns whether it goes on.

        Args:
            target: The number of the target.
            draws: The number of particles. `None` for as many as there are.
            schedule: When to stop, and how the tolerance shrinks.
            simulate: Takes parameters, `(n, n_params)`, and the key of a call, a tuple of integers;
                returns the simulations.
            bar: A bar that shows the state.
        """
        population = self.each[target]
        size = len(population.weights) if draws is None else draws
        reason, tolerance = self._decide(population, size, schedule)
        if reason is not None:
            self.each[target] = replace(population, stopped_by=reason)
            return False
        mixture = self._proposals(population)
        key = (1, target, len(population.rounds))
        kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        accepted = simulations = proposed = tried = 0
        while accepted < size:
            # Without this a simulator that always fails would be called for ever.
            if simulations >= size and not any(len(rows) for rows, _, _ in kept):
                self.each[target] = replace(population, stopped_by="failures")
                return False
            left = schedule.max_simulations - population.simulations - simulations
            if schedule.exhausted(population.simulations + simulations) is not None:
                break
            # As many proposals as will probably give the particles that are missing.
            rate = (accepted + schedule.quantile / 2) / (simulations + 1)
            wanted = int(1.02 * (size - accepted) / rate) + 1
            number = int(min(wanted, left, _MOST_AT_A_TIME))
            rng = np.random.default_rng(child(self._seed, *key, len(kept), 1))
            points, draws_made = propose(mixture, self._prior.supports, number, rng)
            new = simulate(points, (*key, len(kept), 0))
            distances = self._distance(new.estimates, target)
            kept.append((new.parameters, new.estimates, distances))
            tried += draws_made
            proposed += number
            simulations += new.attempted
            accepted += int((distances < tolerance).sum())
            bar.set_postfix(target=target, tolerance=tolerance, accepted=accepted)
        if kept:
            columns = [np.concatenate(column) for column in zip(*kept, strict=True)]
            drawn = Round(mixture, proposed / tried, *columns)
            self.each[target] = population.followed_by(
                drawn, simulations, size, tolerance, self._prior
            )
        return self.each[target].stopped_by is None

    def _proposals(self, population: Population) -> Proposals:
        """What the next generation is drawn from."""
        particles = population.parameters, population.weights
        if self._local_kernels == 0:
            return Mixture.of(*particles)
        return DefensiveMixture.of(*particles, self._local_kernels)

    def _decide(
        self, population: Population, size: int, schedule: Schedule
    ) -> tuple[str | None, float]:
        """The reason to stop, or `None`; and the next tolerance."""
        limit = schedule.exhausted(population.simulations)
        if limit is not None:
            return limit, population.tolerance
        reached, tolerance = schedule.reached(population), schedule.next_tolerance(population)
        if reached is None and tolerance is not None:
            return None, tolerance
        if size == len(population.weights):
            return reached or "tolerance", population.tolerance
        return None, population.tolerance  # another number of particles, at the same tolerance

    def accepted(self, target: int) -> Accepted:
        """The simulations that make up the posterior of a target."""
        if not self.each:
            raise ValueError("`draws` must be given before there are particles, got None.")
        population = self.each[target]
        if not self.recycle:
            return population.plain()
        known, recycled = self._recycled.get(target, (None, None))
        if known is not population or recycled is None:
            # The mixture adds the prior to kernels, so its constant matters here.
            constant = self._prior.normalisation
            recycled = population.recycled(lambda points: self._prior.prob(points) / constant)
            self._recycled[target] = population, recycled
        return recycled

    def stacked(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An attribute of the populations, `(targets, draws) + shape`."""
        if not self.each:
            return np.empty((self._targets, 0, *shape))
        if len({len(population.weights) for population in self.each}) > 1:
            raise ValueError(
                "`draws` differ between targets after an early stop; see `result(target)`."
            )
        return np.stack([getattr(population, name) for population in self.each])
