"""The population of one target: its particles, and all simulations that they were chosen from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from imnn_tf.lfi.methods.accepted import Accepted
from imnn_tf.lfi.methods.kernels import Proposals, importance_weights
from imnn_tf.lfi.prior import Prior


class Generation(NamedTuple):
    """One entry in the history of a population.

    Attributes:
        tolerance: The distance within which all particles lie.
        acceptance: The share of this generation's simulations that were accepted.
        simulations: The number of simulations so far.
        ess: The effective sample size.
    """

    tolerance: float
    acceptance: float
    simulations: int
    ess: float


class Round(NamedTuple):
    """All simulations of one generation, accepted or not.

    Attributes:
        mixture: The kernels that the parameters were drawn from, or `None` for the prior.
        inside: The share of the draws from the mixture that the prior supports.
        parameters: Parameters, `(n, n_params)`.
        estimates: Estimates of the simulations, `(n, n_params)`.
        distances: Distances of the estimates from that of the target, `(n,)`.
    """

    mixture: Proposals | None
    inside: float
    parameters: np.ndarray
    estimates: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True)
class Population:
    """The particles of one target.

    Attributes:
        parameters: The particles, `(n, n_params)`, nearest first.
        estimates: Their estimates, `(n, n_params)`.
        distances: Distances of the estimates from that of the target, `(n,)`.
        weights: Weights of the particles, `(n,)`, which sum to one.
        tolerance: The distance within which all particles lie.
        simulations: The number of simulations for this target, those at draws from the prior
            included.
        rounds: The simulations of each generation.
        history: One entry for each generation.
        stopped_by: The rule that ended the last call; `None` while there is more to do.
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
        """The `n` nearest of simulations at draws from the prior, with equal weights.

        Args:
            first: The simulations that did not fail, with parameters `(m, n_params)`.
            n: The number of particles.
            simulations: The number of simulations, failed ones included.
        """
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

    def followed_by(
        self, drawn: Round, simulations: int, size: int, tolerance: float, prior: Prior
    ) -> "Population":
        """The population after one more generation.

        The first simulations within the tolerance become the particles, in the order in which
        they were proposed: the order in which they finish must not matter. If there are too few
        of them, the particles stay, and the simulations are kept.

        Args:
            drawn: The simulations of the generation that did not fail.
            simulations: The number of its simulations, failed ones included.
            size: The number of particles.
            tolerance: The distance within which particles are accepted.
            prior: The prior.
        """
        population = replace(
            self,
            simulations=self.simulations + simulations,
            rounds=(*self.rounds, drawn),
            stopped_by=None,
        )
        accepted = np.flatnonzero(drawn.distances < tolerance)
        if len(accepted) < size:
            return population
        assert drawn.mixture is not None
        first = accepted[:size]
        order = first[np.argsort(drawn.distances[first], kind="stable")]
        points = drawn.parameters[order]
        population = replace(
            population,
            parameters=points,
            estimates=drawn.estimates[order],
            distances=drawn.distances[order],
            weights=importance_weights(drawn.mixture, points, prior.prob(points)),
            tolerance=tolerance,
        )
        # Those accepted after the last particle needed count for the acceptance too.
        acceptance = len(accepted) / simulations
        entry = Generation(tolerance, acceptance, population.simulations, population.ess)
        return replace(population, history=(*population.history, entry))

    def plain(self) -> Accepted:
        """The particles, `(n, n_params)`, with their weights, `(n,)`."""
        return Accepted(
            self.parameters, self.estimates, self.distances, self.weights, self.tolerance
        )

    def recycled(self, prior: Callable[[np.ndarray], np.ndarray]) -> Accepted:
        """Every simulation within the tolerance, whichever generation it belongs to.

        All simulations together are draws from a mixture of what the generations drew from,
        each weighted by its number of draws. Their weights are the prior over that mixture: the
        deterministic mixture weights of adaptive multiple importance sampling (Cornuet, Marin,
        Mira & Robert 2012, arXiv:0907.1254, equation 3).

        Args:
            prior: Density of the prior: takes points, `(m, n_params)`, and returns `(m,)`.
        """
        near = [np.flatnonzero(each.distances < self.tolerance) for each in self.rounds]

        def gather(values: list[np.ndarray]) -> np.ndarray:
            return np.concatenate([v[i] for v, i in zip(values, near, strict=True)])

        points = gather([each.parameters for each in self.rounds])
        priors = prior(points)
        mixture = np.zeros(len(points))
        for each in self.rounds:
            density = priors if each.mixture is None else each.mixture.density(points)
            mixture += len(each.parameters) * density / each.inside
        return Accepted(
            points,
            gather([each.estimates for each in self.rounds]),
            gather([each.distances for each in self.rounds]),
            priors / mixture,
            self.tolerance,
        )
