"""Proposals for one target: the prior restricted to where its posterior is not negligible."""

import numpy as np

from imnn_tf.lfi.neural.trained import Trained
from imnn_tf.lfi.prior import Prior
from imnn_tf.utils.seeds import child

# The share of the posterior that a region may leave out, and the samples that it is found from.
LEFT_OUT = 1e-4
_LEVEL_SAMPLES = 100_000

# Points that are looked at in one go, the least share of draws from the prior that may lie in a
# region before they are made from the posterior instead, and the most points to look at.
_AT_A_TIME, _LEAST_ACCEPTED, _MOST_LOOKED_AT = 100_000, 1e-3, 20_000_000


class Region:
    """The region of highest density that holds all but 1e-4 of a posterior.

    Args:
        trained: A density that was trained on draws from the prior, or from truncated priors.
        summaries: The summaries of the target, `(1, n_summaries)`.
        seed: Seed of the 100,000 samples whose densities give the level at the region's edge.
    """

    def __init__(
        self, trained: Trained, summaries: np.ndarray, seed: np.random.SeedSequence
    ) -> None:
        self._trained, self._summaries = trained, summaries
        samples = trained.sample(_LEVEL_SAMPLES, summaries, seed)[0]
        self._level = np.quantile(self.log_prob(samples), LEFT_OUT)

    def log_prob(self, parameters: np.ndarray) -> np.ndarray:
        """Log densities of the posterior, `(n,)`, at parameters, `(n, n_params)`."""
        return self._trained.log_prob(parameters[np.newaxis], self._summaries)[0]

    def holds(self, parameters: np.ndarray) -> np.ndarray:
        """Which parameters, `(n, n_params)`, lie in the region, `(n,)`."""
        return self.log_prob(parameters) >= self._level

    def sample(self, n: int, seed: np.random.SeedSequence) -> np.ndarray:
        """Samples of the posterior that lie in the region, `n` or somewhat fewer."""
        samples = self._trained.sample(n, self._summaries, seed)[0]
        return samples[self.holds(samples)]


def draw_truncated(
    prior: Prior, region: Region, n: int, seed: np.random.SeedSequence
) -> np.ndarray:
    """Draws from the prior that lie in a region.

    They are draws from the prior of which those outside are rejected. If fewer than one in 1,000
    lies inside, they are made from samples `t` of the posterior `q` in the region instead, each of
    which is kept with a probability proportional to `prior(t) / q(t)`. Both ways give independent
    draws from the truncated prior. The second one is exact if no ratio is larger than the largest
    one among the first 100,000 samples.

    Args:
        prior: The prior.
        region: The region.
        n: The number of draws.
        seed: The seed.

    Returns:
        Parameters, `(n, n_params)`.

    Raises:
        ValueError: If 20 million points do not give as many draws.
    """
    kept = [np.empty((0, prior.n_params))]
    size = min(max(n, 10_000), _AT_A_TIME)
    looked, found, bound = 0, 0, None
    while found < n and looked < _MOST_LOOKED_AT:
        this = child(seed, looked)
        if bound is None and looked >= _AT_A_TIME and found < _LEAST_ACCEPTED * looked:
            pilot = region.sample(_AT_A_TIME, child(seed, looked, 1))
            bound = (prior.log_prob(pilot) - region.log_prob(pilot)).max()
            size = _AT_A_TIME
        if bound is None:
            points = prior.sample(size, seed=this)
            points = points[region.holds(points)]
        else:
            points = region.sample(size, this)
            ratios = np.exp(prior.log_prob(points) - region.log_prob(points) - bound)
            points = points[np.random.default_rng(child(this, 0)).uniform(size=len(points)) < ratios]
        looked, found = looked + size, found + len(points)
        kept.append(points)
    if found < n:
        raise ValueError(
            f"`rounds` must be fewer, or `draws` fewer: of {looked} points only {found} were draws "
            f"from the prior within the region of the posterior, not {n}."
        )
    return np.concatenate(kept)[:n]
