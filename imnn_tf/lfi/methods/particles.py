"""Populations of weighted particles, and the attributes that show them."""

import numpy as np

from imnn_tf.lfi.methods.accepted import Accepted
from imnn_tf.lfi.methods.generations import Populations
from imnn_tf.lfi.methods.population import Generation
from imnn_tf.lfi.methods.sampled import SampledInference
from imnn_tf.lfi.methods.simulated import Simulated


class WeightedParticles(SampledInference):
    """A population of weighted particles for each target."""

    _populations: Populations

    def reset(self) -> None:
        """Forgets all particles, and what was added."""
        self._populations = Populations(
            self.targets, self.prior, self._distance_from, self.seed, self._populations.recycle
        )
        self.failures = []
        self.grid = self.post = None

    @property
    def parameters(self) -> np.ndarray:
        """The particles, `(targets, draws, n_params)`, nearest first."""
        return self._populations.stacked("parameters", (self.n_params,))

    @property
    def estimates(self) -> np.ndarray:
        """Estimates of the particles, `(targets, draws, n_params)`."""
        return self._populations.stacked("estimates", (self.n_params,))

    @property
    def differences(self) -> np.ndarray:
        """Differences of the estimates from the target's, `(targets, draws, n_params)`."""
        return self.estimates - self.estimate[:, np.newaxis]

    @property
    def distances(self) -> np.ndarray:
        """Distances of the estimates from the target's, `(targets, draws)`."""
        return self._populations.stacked("distances", ())

    @property
    def weighting(self) -> np.ndarray:
        """Weights of the particles, `(targets, draws)`, which sum to one for each target."""
        return self._populations.stacked("weights", ())

    accepted_parameters = parameters
    accepted_estimates = estimates
    accepted_differences = differences
    accepted_distances = distances

    @property
    def rejected_parameters(self) -> np.ndarray:
        """Empty, `(targets, 0, n_params)`: particles are not chosen by rejection."""
        return np.empty((self.targets, 0, self.n_params))

    rejected_estimates = rejected_parameters
    rejected_differences = rejected_parameters

    @property
    def rejected_distances(self) -> np.ndarray:
        """Empty, `(targets, 0)`."""
        return np.empty((self.targets, 0))

    @property
    def tolerance(self) -> np.ndarray:
        """The distance within which the particles lie, `(targets,)`."""
        return np.array([population.tolerance for population in self._populations.each])

    @property
    def ess(self) -> np.ndarray:
        """Effective sample size of each population, `(targets,)`."""
        return np.array([population.ess for population in self._populations.each])

    @property
    def num_draws(self) -> np.ndarray:
        """The number of simulations for each target, `(targets,)`."""
        return np.array([population.simulations for population in self._populations.each], int)

    @property
    def num_accepted(self) -> np.ndarray:
        """The number of particles of each target, `(targets,)`."""
        return np.array([len(population.weights) for population in self._populations.each], int)

    @property
    def num_rejected(self) -> np.ndarray:
        """Zero for each target, `(targets,)`."""
        return np.zeros(len(self._populations.each), dtype=int)

    @property
    def history(self) -> list[list[Generation]]:
        """The generations of each target."""
        return [list(population.history) for population in self._populations.each]

    @property
    def stopped_by(self) -> list[str | None]:
        """The rule that ended the last call, for each target."""
        return [population.stopped_by for population in self._populations.each]

    def _add(self, simulated: Simulated) -> None:
        self._populations.add(simulated)

    def _accepted(self, target: int) -> Accepted:
        return self._populations.accepted(target)

    def _rejected(self, target: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        return self.rejected_parameters[target], self.rejected_estimates[target]
