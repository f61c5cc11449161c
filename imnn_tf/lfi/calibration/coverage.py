"""Coverage: how often credible regions hold the truth."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from imnn_tf.lfi.calibration.targets import check_truths
from imnn_tf.lfi.posterior.samples import Posterior
from imnn_tf.utils import checks, display
from imnn_tf.utils.seeds import Seed, seed_sequence


class Coverage(NamedTuple):
    """How often credible regions hold the truth.

    Attributes:
        levels: Credibilities, `(n_levels,)`.
        coverage: Shares of the truths that lie inside, `(n_levels, n_curves)`.
        sims: The number of truths.
    """

    levels: np.ndarray
    coverage: np.ndarray
    sims: int

    def _facts(self) -> dict[str, str]:
        low, high = self.band()
        outside = (self.coverage < low[:, np.newaxis]) | (self.coverage > high[:, np.newaxis])
        return {
            "truths": str(self.sims),
            "largest deviation": display.numbers(self.deviation()),
            "levels outside the 99 % band": f"{int(outside.sum())} of {outside.size}",
        }

    def __repr__(self) -> str:
        return display.line(self, self._facts())

    def _repr_html_(self) -> str:
        return display.table(self, self._facts())

    def deviation(self) -> np.ndarray:
        """Largest difference between coverage and credibility, `(n_curves,)`."""
        return np.abs(self.coverage - self.levels[:, np.newaxis]).max(axis=0)

    def band(self, confidence: float = 0.99) -> np.ndarray:
        """The range of calibrated coverage at each level, `(2, n_levels)`, by binomial quantiles.

        Args:
            confidence: Probability that calibrated coverage lies within the range.
        """
        confidence = checks.real("confidence", confidence, above=0, below=1)
        tails = np.array([[(1 - confidence) / 2], [(1 + confidence) / 2]])
        return stats.binom(self.sims, self.levels).ppf(tails) / self.sims


def expected_coverage(
    truths: ArrayLike, posteriors: Sequence[Posterior], levels: ArrayLike | None = None
) -> Coverage:
    """Coverage of the equal-tailed credible intervals of each parameter.

    Args:
        truths: True parameters, `(n, n_params)`.
        posteriors: The posterior inferred for each truth.
        levels: Credibilities, `(n_levels,)`. `None` for 0.05 to 0.95 in steps of 0.05.

    Returns:
        The coverage, with one curve for each parameter, `(n_levels, n_params)`.

    Raises:
        ValueError: If there are not as many posteriors as truths.
    """
    true = check_truths(truths, posteriors)
    shares = _levels(levels)
    below = np.stack([p.weights @ (p.samples < t) for p, t in zip(posteriors, true, strict=True)])
    # The smallest interval that holds the truth has it as one of its ends.
    needed = np.abs(2 * below - 1)
    coverage = (needed[np.newaxis] <= shares[:, np.newaxis, np.newaxis]).mean(axis=1)
    return Coverage(shares, coverage, len(true))


def tarp(
    truths: ArrayLike,
    posteriors: Sequence[Posterior],
    levels: ArrayLike | None = None,
    references: ArrayLike | None = None,
    seed: Seed = 0,
) -> Coverage:
    """Coverage of balls about random points, which tests all parameters together.

    Tests of accuracy with random points, Lemos et al. (2023), arXiv:2302.03026, algorithm 2: a
    ball about a reference point is made to reach the truth. The share of the posterior within it
    is uniform if the posterior is right. The converse needs references that depend on the data:
    with others, such as the default, the prior passes too, and so does any posterior that ignores
    some of the data. Parameters are scaled to the range of the truths.

    Args:
        truths: True parameters, `(n, n_params)`.
        posteriors: The posterior inferred for each truth.
        levels: Credibilities, `(n_levels,)`. `None` for 0.05 to 0.95 in steps of 0.05.
        references: Reference points as shares of the range of the truths, `(n, n_params)`, for
            example functions of the data. `None` for uniform random ones.
        seed: Seed of the reference points: an integer or a `numpy.random.SeedSequence`. `None`
            for fresh entropy.

    Returns:
        The coverage, with a single curve, `(n_levels, 1)`.

    Raises:
        ValueError: If there are not as many posteriors as truths.
    """
    true = check_truths(truths, posteriors)
    shares = _levels(levels)
    if references is None:
        references = np.random.default_rng(seed_sequence(seed)).uniform(size=true.shape)
    points = checks.array("references", references, shape=true.shape, dtype=float)
    low = true.min(axis=0)
    scale = true.max(axis=0) - low
    scale = np.where(scale > 0, scale, 1)
    held = np.empty(len(true))
    for i, (posterior, point) in enumerate(zip(posteriors, points, strict=True)):
        reach = np.linalg.norm((true[i] - low) / scale - point)
        distances = np.linalg.norm((posterior.samples - low) / scale - point, axis=1)
        held[i] = posterior.weights[distances < reach].sum()
    coverage = (held[np.newaxis] < shares[:, np.newaxis]).mean(axis=1)
    return Coverage(shares, coverage[:, np.newaxis], len(true))


def _levels(levels: ArrayLike | None) -> np.ndarray:
    """The credibilities as an array, `(n_levels,)`."""
    if levels is None:
        return np.linspace(0.05, 0.95, 19)
    return checks.array("levels", levels, shape=(None,), dtype=float)
