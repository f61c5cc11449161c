"""Proposals for one target: the prior restricted to where its posterior is not negligible."""

import numpy as np

from imnn_tf.lfi.neural.parameter_space import Coordinates
from imnn_tf.lfi.neural.trained import Trained
from imnn_tf.lfi.prior import Prior
from imnn_tf.utils.seeds import child

# The share of the posterior that a region may leave out, and the samples that it is found from.
LEFT_OUT = 1e-4
_LEVEL_SAMPLES = 100_000

# Points that are looked at in one go, the least share of draws from the prior that may lie in a
# region before points close to it are drawn instead, and the most points to look at.
_AT_A_TIME, _LEAST_ACCEPTED, _MOST_LOOKED_AT = 100_000, 1e-3, 20_000_000

# Samples of the posterior that tell how far its region reaches, and by how much further a box
# about it reaches on each side, as a share of its width.
_REACH_SAMPLES, _MARGIN = 100_000, 0.05


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

    def box(self, prior: Prior, seed: np.random.SeedSequence) -> "Box":
        """A box about the region, from 100,000 samples of the posterior."""
        samples = self._trained.sample(_REACH_SAMPLES, self._summaries, seed)[0]
        coordinates = self._trained.coordinates(self._summaries)
        return Box(coordinates, prior, samples[self.holds(samples)])


class Box:
    """A box about a region of mapped parameters, in coordinates in which these are uncorrelated.

    Args:
        coordinates: The map of the parameters at the observation.
        prior: The prior.
        inside: Samples from the region, `(n, n_params)`.
    """

    def __init__(self, coordinates: Coordinates, prior: Prior, inside: np.ndarray) -> None:
        self._coordinates, self._prior = coordinates, prior
        mapped = coordinates.forward(inside[np.newaxis])[0]
        self._centre = mapped.mean(axis=0)
        self._root = np.linalg.cholesky(np.atleast_2d(np.cov(mapped.T)))
        white = np.linalg.solve(self._root, (mapped - self._centre).T).T
        low, high = white.min(axis=0), white.max(axis=0)
        self._low, self._high = low - _MARGIN * (high - low), high + _MARGIN * (high - low)
        self._most = self._log_density(inside).max()

    def draw(self, n: int, seed: np.random.SeedSequence) -> np.ndarray:
        """Draws from the prior within the box: those accepted of `n` points, `(m, n_params)`."""
        rng = np.random.default_rng(seed)
        white = rng.uniform(self._low, self._high, (n, len(self._low)))
        mapped = self._centre + white @ self._root.T
        points = self._coordinates.inverse(mapped[np.newaxis])[0]
        accepted = np.log(rng.uniform(size=n)) < self._log_density(points) - self._most
        return points[accepted]

    def _log_density(self, points: np.ndarray) -> np.ndarray:
        """The log density of the prior of mapped parameters, `(n,)`."""
        return self._prior.log_prob(points) - self._coordinates.log_slope(points[np.newaxis])[0]


def draw_truncated(
    prior: Prior, region: Region, n: int, seed: np.random.SeedSequence
) -> np.ndarray:
    """Draws from the prior that lie in a region.

    They are draws from the prior of which those outside are rejected. If fewer than one in 1,000
    lies inside, they are uniform in a box about the region instead, each kept with a probability
    proportional to the prior, and only within the region. Both ways give independent draws from the
    truncated prior. The second one is so up to what the region has beyond 100,000 samples of the
    posterior and a margin. The paper resamples the posterior by importance, which is the truncated
    prior only in the limit of many samples for each draw.

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
    looked, found, box = 0, 0, None
    while found < n and looked < _MOST_LOOKED_AT:
        if box is None and looked >= _AT_A_TIME and found < _LEAST_ACCEPTED * looked:
            box = region.box(prior, child(seed, looked, 0))
        this = child(seed, looked)
        points = prior.sample(size, seed=this) if box is None else box.draw(size, this)
        points = points[region.holds(points)]
        looked, found = looked + size, found + len(points)
        kept.append(points)
    if found < n:
        raise ValueError(
            f"`rounds` must be fewer, or `draws` fewer: of {looked} points only {found} were draws "
            f"from the prior within the region of the posterior, not {n}."
        )
    return np.concatenate(kept)[:n]
