"""Populations, and how one generation follows another."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from imnn_tf.lfi.accepted import Accepted
from imnn_tf.lfi.population import Mixture, importance_weights, propose
from imnn_tf.lfi.prior import Prior
from imnn_tf.lfi.runs import SimulationResult
from imnn_tf.utils import checks
from imnn_tf.utils.seeds import child

# Simulations in one round of proposals at most, to bound its memory.
_MOST_AT_A_TIME = 65_536


class Generation(NamedTuple):
    """One entry of a population's history.

    Attributes:
        tolerance: Distance within which all particles lie.
        acceptance: Particles for each simulation of this generation.
        simulations: Simulations so far.
        ess: Effective sample size.
    """

    tolerance: float
    acceptance: float
    simulations: int
    ess: float


class Round(NamedTuple):
    """All that was simulated in one generation, accepted or not.

    Attributes:
        mixture: What the parameters were drawn from; `None` for the prior.
        inside: Share of the mixture that the prior supports.
        parameters: `(n, n_params)`.
        estimates: `(n, n_params)`.
        distances: `(n,)`.
    """

    mixture: Mixture | None
    inside: float
    parameters: np.ndarray
    estimates: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True)
class Population:
    """The particles of one target.

    Attributes:
        parameters: `(n, n_params)`, nearest first.
        estimates: `(n, n_params)`.
        distances: `(n,)`.
        weights: `(n,)`, which sum to one.
        tolerance: Distance within which all particles lie.
        simulations: Simulations made for this target, the first ones from the prior included.
        rounds: All simulations.
        history: One entry for each generation.
        stopped_by: The rule that ended the last call, `None` while going on.
    """

    parameters: np.ndarray
    estimates: np.ndarray
    distances: np.ndarray
    weights: np.ndarray
    tolerance: float
    simulations: int
    rounds: tuple[Round, ...]
    history: tuple[Generation, ...] = ()
    stopped_by: str | None = None

    @classmethod
    def nearest(cls, first: Round, n: int, simulations: int) -> "Population":
        """The `n` nearest of draws from the prior, with equal weights."""
        order = np.argsort(first.distances, kind="stable")[:n]
        distances, weights = first.distances[order], np.full(n, 1 / n)
        entry = Generation(float(distances[-1]), n / simulations, simulations, float(n))
        return cls(
            first.parameters[order],
            first.estimates[order],
            distances,
            weights,
            entry.tolerance,
            simulations,
            (first,),
            (entry,),
        )

    @property
    def ess(self) -> float:
        """Effective sample size, `1 / sum w^2`."""
        return float(1 / (self.weights**2).sum())

    def recycled(self, prior: Callable[[np.ndarray], np.ndarray]) -> Accepted:
        """Every simulation within the tolerance, weighed by prior over all it came from.

        What all generations drew is a sample of the mixture of what they drew from, each
        weighed by its number of draws: the deterministic mixture weights of adaptive multiple
        importance sampling (Cornuet, Marin, Mira & Robert 2012, arXiv:0907.1254, equation 3).

        Args:
            prior: Density of the prior at points, `(m, n_params)` to `(m,)`.
        """
        near = [np.flatnonzero(each.distances < self.tolerance) for each in self.rounds]

        def gather(values: list[np.ndarray]) -> np.ndarray:
            return np.concatenate([v[i] for v, i in zip(values, near, strict=True)])

        points = gather([each.parameters for each in self.rounds])
        priors = prior(points)
        drawn = np.zeros(len(points))
        for each in self.rounds:
            density = priors if each.mixture is None else each.mixture.density(points)
            drawn += len(each.parameters) * density / each.inside
        return Accepted(
            points,
            gather([each.estimates for each in self.rounds]),
            gather([each.distances for each in self.rounds]),
            priors / drawn,
            self.tolerance,
        )


class StopRules:
    """When to end; see `PopulationMonteCarlo.PMC` for the arguments.

    Attributes:
        names: The arguments.

    Raises:
        TypeError: If a rule is no number.
        ValueError: If there is no rule, or one is out of range.
    """

    names: ClassVar = ("criterion", "tolerance", "max_simulations", "max_seconds", "min_change")

    def __init__(
        self,
        criterion: float | None,
        tolerance: float | None,
        max_simulations: int | None,
        max_seconds: float | None,
        min_change: float | None,
    ) -> None:
        rules = {
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
            raise ValueError(f"`criterion` or another rule must be given, one of {[*self.names]}.")
        self.criterion = given.get("criterion", -1.0)
        self.tolerance = given.get("tolerance", 0.0)
        self.max_simulations = given.get("max_simulations", np.inf)
        self.min_change = given.get("min_change", -1.0)
        self._deadline = time.monotonic() + given.get("max_seconds", np.inf)
        self.interrupt = threading.Event()

    def exhausted(self, simulations: int) -> str | None:
        """The limit that ends a generation half-way."""
        if self.interrupt.is_set():
            return "interrupt"
        if simulations >= self.max_simulations:
            return "max_simulations"
        return "max_seconds" if time.monotonic() > self._deadline else None

    def reached(self, population: Population) -> str | None:
        """The rule that says that a population is done."""
        if population.tolerance <= self.tolerance:
            return "tolerance"
        if len(population.history) > 1:  # the draws from the prior tell nothing
            before, last = population.history[-2:]
            if last.acceptance <= self.criterion:
                return "criterion"
            if 1 - last.tolerance / before.tolerance < self.min_change:
                return "min_change"
        return None


@dataclass
class Step:
    """Moves populations on by one generation.

    Attributes:
        prior: The prior.
        distance: Takes estimates and a target, returns distances.
        seed: Of everything random.
        run: Takes parameters and a key, simulates.
        rules: When to end.
        quantile: Of the distances, for the next tolerance.
        bar: Progress.
    """

    prior: Prior
    distance: Callable[[np.ndarray, int], np.ndarray]
    seed: np.random.SeedSequence
    run: Callable[[np.ndarray, tuple[int, ...]], SimulationResult]
    rules: StopRules
    quantile: float
    bar: Any

    def advance(self, target: int, population: Population, draws: int | None) -> Population:
        """The next generation of a population, or the same with the reason to stop."""
        size = len(population.weights) if draws is None else draws
        limit = self.rules.exhausted(population.simulations)
        if limit is not None:
            return replace(population, stopped_by=limit)
        reached = self.rules.reached(population)
        if reached is None:
            tolerance = self._next_tolerance(population)
            if tolerance is None:  # nothing is nearer than the nearest
                reached = "tolerance"
        if reached is not None:
            if size == len(population.weights):
                return replace(population, stopped_by=reached)
            tolerance = population.tolerance  # another size is wanted, at the same distance
        assert tolerance is not None
        return self._generation(target, population, size, tolerance)

    def _next_tolerance(self, population: Population) -> float | None:
        """A quantile of the distances, below the present tolerance and above zero."""
        distances = np.sort(population.distances)
        useful = distances[(distances > 0) & (distances < population.tolerance)]
        if len(useful) == 0:
            return None
        quantile = distances[int(self.quantile * len(distances))]
        nearer = float(np.clip(quantile, useful[0], useful[-1]))
        return max(nearer, self.rules.tolerance)

    def _generation(
        self, target: int, population: Population, size: int, tolerance: float
    ) -> Population:
        mixture = Mixture.of(population.parameters, population.weights)
        key = (1, target, len(population.rounds))
        kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        accepted = simulations = tried = 0
        while accepted < size:
            if self.rules.exhausted(population.simulations + simulations) is not None:
                break
            number = self._needed(size, accepted, simulations, population.simulations)
            rng = np.random.default_rng(child(self.seed, *key, len(kept), 1))
            proposals = propose(mixture, self.prior.supports, number, rng)
            result = self.run(proposals.points, (*key, len(kept), 0))
            estimates = np.empty((0, self.prior.n_params))
            estimates = estimates if result.x is None else result.x[result.ok]
            distances = self.distance(estimates, target)
            kept.append((proposals.points[result.ok], estimates, distances))
            tried += proposals.tried
            simulations += number
            accepted += int((distances < tolerance).sum())
            self.bar.set_postfix(target=target, tolerance=tolerance, accepted=accepted)
        if not kept:
            return population
        columns = [np.concatenate(column) for column in zip(*kept, strict=True)]
        this = Round(mixture, simulations / tried, *columns)
        population = replace(
            population,
            simulations=population.simulations + simulations,
            rounds=(*population.rounds, this),
            stopped_by=None,
        )
        if accepted < size:
            return population
        return self._accept(population, this, size, tolerance, simulations)

    def _accept(
        self,
        population: Population,
        this: Round,
        size: int,
        tolerance: float,
        simulations: int,
    ) -> Population:
        """The population of the first particles accepted, in the order of their proposal."""
        assert this.mixture is not None
        first = np.flatnonzero(this.distances < tolerance)[:size]
        order = first[np.argsort(this.distances[first], kind="stable")]
        points = this.parameters[order]
        weights = importance_weights(this.mixture, points, self.prior.prob(points))
        population = replace(
            population,
            parameters=points,
            estimates=this.estimates[order],
            distances=this.distances[order],
            weights=weights,
            tolerance=tolerance,
        )
        # Those accepted beyond the last one needed count as well.
        acceptance = int(np.count_nonzero(this.distances < tolerance)) / simulations
        entry = Generation(tolerance, acceptance, population.simulations, population.ess)
        return replace(population, history=(*population.history, entry))

    def _needed(self, size: int, accepted: int, simulations: int, before: int) -> int:
        """Proposals likely to give the particles that lack, within the limits."""
        rate = (accepted + self.quantile / 2) / (simulations + 1)
        wanted = int(1.02 * (size - accepted) / rate) + 1
        left = self.rules.max_simulations - before - simulations
        return int(min(wanted, left, _MOST_AT_A_TIME))
