"""A trained density of the parameters given summaries, in the units of the user."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from imnn_tf.lfi.methods.simulated import Simulated
from imnn_tf.lfi.neural.estimators import fit_resumable
from imnn_tf.lfi.neural.parameter_space import Coordinates, ParameterSpace
from imnn_tf.lfi.neural.summaries import Familiarity, SummaryScaling
from imnn_tf.lfi.prior import Prior
from imnn_tf.utils import checks
from imnn_tf.utils.seeds import child

logger = logging.getLogger(__name__)

# The least number of simulations that a density is trained on.
LEAST_SIMULATIONS = 100

# Samples that an estimator makes in one call at most, and the number of calls for one observation
# after which too few of them lie within the support of the prior.
_MOST_SAMPLES, _MOST_CALLS = 1_000_000, 200

# Samples by which the share within the support of a prior is found, and points by which it is found
# out whether the support is all of its box.
_SHARE_SAMPLES, _SUPPORT_POINTS = 20_000, 100_000


class Trained:
    """A density estimator that was trained, with the coordinates that it was trained in.

    The estimator only ever sees mapped parameters and scaled summaries; see `ParameterSpace` and
    `SummaryScaling`.

    Args:
        estimator: A `DensityEstimator`. It is trained here, unless `history` is given.
        prior: The prior.
        simulated: The simulations to train with.
        seed: Seed of the training and of what is sampled from the estimator.
        history: What the estimator's `fit` returned, if it was trained before.
        **fitting: `folder`, `callbacks` and `progress`; see `fit_resumable`.

    Attributes:
        estimator: The trained estimator.
        history: What its `fit` returned.
        size: The number of simulations.
        seed: As passed.

    Raises:
        ValueError: If there are fewer than 100 simulations, or no summary varies.
    """

    def __init__(
        self,
        estimator: Any,
        prior: Prior,
        simulated: Simulated,
        seed: np.random.SeedSequence,
        history: Any = None,
        **fitting: Any,
    ) -> None:
        self.size = len(simulated.parameters)
        if self.size < LEAST_SIMULATIONS:
            raise ValueError(
                f"`draws` must be at least {LEAST_SIMULATIONS} in all for a density to be trained, "
                f"got {self.size} that did not fail."
            )
        self._prior, self.seed = prior, seed
        self._scaling = SummaryScaling(simulated.estimates)
        scaled = self._scaling(simulated.estimates)
        self._space = ParameterSpace(prior.low, prior.high, simulated.parameters, scaled)
        self._familiarity = Familiarity(scaled)
        self.estimator, self.history = estimator, history
        if history is None:
            mapped = self._space.at(scaled).forward(simulated.parameters)
            self.estimator, self.history = fit_resumable(
                estimator, mapped, scaled, seed=_integer(seed, 0), **fitting
            )
        # A prior whose support is not its box loses what the estimator puts outside.
        rng = np.random.default_rng(child(seed, 1))
        rows = rng.integers(self.size, size=_SUPPORT_POINTS)
        points = 2 * rng.normal(size=(_SUPPORT_POINTS, prior.n_params))
        points = self._space.at(scaled[rows]).inverse(points)
        self._fills_box = bool(prior.supports(points).all())

    def coordinates(self, summaries: np.ndarray) -> Coordinates:
        """The map of the parameters for observations, by their summaries, `(m, n_summaries)`."""
        return self._space.at(self._scaling(summaries))

    def sample(self, n: int, summaries: np.ndarray, seed: np.random.SeedSequence) -> np.ndarray:
        """Samples of the posteriors of some observations, within the support of the prior.

        Args:
            n: The number of samples of each.
            summaries: Their summaries, `(m, n_summaries)`.
            seed: The seed.

        Returns:
            Parameters, `(m, n, n_params)`.

        Raises:
            ValueError: If hardly any samples lie within the support.
        """
        together = max(1, _MOST_SAMPLES // n)
        chunks = range(0, len(summaries), together)
        drawn = [
            self._sample(n, summaries[start : start + together], child(seed, start))
            for start in chunks
        ]
        return np.concatenate(drawn) if drawn else np.empty((0, n, self._prior.n_params))

    def _sample(self, n: int, summaries: np.ndarray, seed: np.random.SeedSequence) -> np.ndarray:
        drawn = self._draw(n, summaries, seed)
        inside = self._prior.supports(drawn)
        for row in np.flatnonzero(~inside.all(axis=1)):
            kept, calls = [drawn[row, inside[row]]], 0
            while (missing := n - sum(map(len, kept))) > 0:
                calls += 1
                if calls > _MOST_CALLS:
                    raise ValueError(
                        f"`prior` must support the posterior, got {n - missing} samples within "
                        f"its support of {calls * n} for summaries {summaries[row].tolist()}."
                    )
                more = self._draw(n, summaries[row : row + 1], child(seed, int(row), calls))[0]
                kept.append(more[self._prior.supports(more)][:missing])
            drawn[row] = np.concatenate(kept)
        return drawn

    def _draw(self, n: int, summaries: np.ndarray, seed: np.random.SeedSequence) -> np.ndarray:
        """Samples within the box, `(m, n, n_params)`, but perhaps outside the support."""
        scaled = self._scaling(summaries)
        mapped = self.estimator.sample(n, scaled, seed=_integer(seed))
        shape = (len(summaries), n, self._prior.n_params)
        name = "density_estimator.sample(n, summaries)"
        mapped = checks.array(name, mapped, shape=shape, dtype=float)
        return self._space.at(scaled).inverse(mapped)

    def log_prob(self, parameters: np.ndarray, summaries: np.ndarray) -> np.ndarray:
        """Log densities of posteriors, normalised within the support of the prior.

        Args:
            parameters: Parameters, `(m, n, n_params)`.
            summaries: The summaries of `m` observations, `(m, n_summaries)`.

        Returns:
            Log densities, `(m, n)`, minus infinity outside the support.
        """
        inside = self._prior.supports(parameters)
        coordinates = self.coordinates(summaries)
        # The estimator gets some point of the support where it need not answer.
        somewhere = coordinates.inverse(np.zeros((len(summaries), 1, self._prior.n_params)))
        points = np.where(inside[..., np.newaxis], parameters, somewhere)
        found = self.estimator.log_prob(coordinates.forward(points), self._scaling(summaries))
        name = "density_estimator.log_prob(parameters, summaries)"
        values = checks.array(name, found, shape=inside.shape, dtype=float, finite=False)
        values = values + coordinates.log_slope(points)
        if not self._fills_box:
            values = values - np.log(self._shares(summaries))[:, np.newaxis]
        return np.where(inside, values, -np.inf)

    def _shares(self, summaries: np.ndarray) -> np.ndarray:
        """Shares, `(m,)`, of the estimator's samples that lie within the support of the prior."""
        shares = [
            self._prior.supports(
                self._draw(_SHARE_SAMPLES, summaries[row : row + 1], child(self.seed, 2))
            ).mean()
            for row in range(len(summaries))
        ]
        return np.maximum(shares, 0.5 / _SHARE_SAMPLES)

    def warn_of_strangers(self, summaries: np.ndarray, names: Sequence[str]) -> None:
        """Warns of observations that are unlike all training simulations; see `Familiarity`.

        Args:
            summaries: Summaries of `m` observations, `(m, n_summaries)`.
            names: What to call each of them.
        """
        level = self._familiarity.level
        strange = self._familiarity.p_values(self._scaling(summaries)) <= level
        strange |= self._scaling.differs(summaries)
        found = [name for name, is_strange in zip(names, strange, strict=True) if is_strange]
        if found:
            logger.warning(
                "%s: the summaries are unlike those of all %d training simulations, so the "
                "posterior is an extrapolation, and the model may be wrong. Of observations that "
                "the model and the prior describe, a share of %.2g is said to be unlike them; this "
                "was said of %d of %d.",
                ", ".join(found[:5]) + (" and others" if len(found) > 5 else ""),
                self.size,
                level,
                len(found),
                len(names),
            )


def _integer(seed: np.random.SeedSequence, *key: int) -> int:
    """An integer seed, which every library takes."""
    return int(child(seed, *key).generate_state(1)[0])
