"""Coverage: how often credible regions hold the truth."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from imnn_tf.lfi.calibration.targets import check_truths
from imnn_tf.lfi.posterior.samples import Posterior
from imnn_tf.utils import checks, display
from imnn_tf.utils.seeds import Seed, child, seed_sequence


@display.shown
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
    truths: ArrayLike,
    posteriors: Sequence[Posterior],
    levels: ArrayLike | None = None,
    seed: Seed = 0,
) -> Coverage:
    """Coverage of the equal-tailed credible intervals of each parameter.

    Where samples equal the truth, as those of discrete parameters do, a share of them that is
    drawn at random counts as below it. The coverage is then that of intervals which hold the
    values at their ends with some probability, and is the credibility if posteriors are right.

    Args:
        truths: True parameters, `(n, n_params)`.
        posteriors: The posterior inferred for each truth.
        levels: Credibilities, `(n_levels,)`, between 0 and 1. `None` for 0.05 to 0.95 in steps of
            0.05.
        seed: Seed of the shares of samples that equal a truth: an integer or a
            `numpy.random.SeedSequence`. `None` for fresh entropy.

    Returns:
        The coverage, with one curve for each parameter, `(n_levels, n_params)`.

    Raises:
        ValueError: If there are not as many posteriors, or as many parameters in one, as in the
            truths, or a credibility is not between 0 and 1.
    """
    true = check_truths(truths, posteriors)
    shares = _levels(levels)
    parts = np.random.default_rng(seed_sequence(seed)).uniform(size=true.shape)
    below = np.stack(
        [
            p.weights @ ((p.samples < t) + part * (p.samples == t))
            for p, t, part in zip(posteriors, true, parts, strict=True)
        ]
    )
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
    some of the data. Parameters are scaled to the range of the truths. Of samples that are as far
    from the point as the truth is, a share that is drawn at random counts as within the ball.

    Args:
        truths: True parameters, `(n, n_params)`.
        posteriors: The posterior inferred for each truth.
        levels: Credibilities, `(n_levels,)`, between 0 and 1. `None` for 0.05 to 0.95 in steps of
            0.05.
        references: Reference points as shares of the range of the truths, `(n, n_params)`, for
            example functions of the data. `None` for uniform random ones.
        seed: Seed of the reference points and of those shares: an integer or a
            `numpy.random.SeedSequence`. `None` for fresh entropy.

    Returns:
        The coverage, with a single curve, `(n_levels, 1)`.

    Raises:
        ValueError: If there are not as many posteriors, or as many parameters in one, as in the
            truths, or a credibility is not between 0 and 1.
    """
    true = check_truths(truths, posteriors)
    shares, sequence = _levels(levels), seed_sequence(seed)
    parts = np.random.default_rng(child(sequence, 0)).uniform(size=len(true))
    if references is None:
        references = np.random.default_rng(sequence).uniform(size=true.shape)
    points = checks.array("references", references, shape=true.shape, dtype=float)
    low = true.min(axis=0)
    scale = true.max(axis=0) - low
    scale = np.where(scale > 0, scale, 1)
    held = np.empty(len(true))
    for i, (posterior, point) in enumerate(zip(posteriors, points, strict=True)):
        # In one array, so that what is equally far away has the same distance to the last bit.
        rows = np.vstack([true[i], posterior.samples])
        away = np.linalg.norm((rows - low) / scale - point, axis=1)
        reach, distances = away[0], away[1:]
        held[i] = posterior.weights @ ((distances < reach) + parts[i] * (distances == reach))
    coverage = (held[np.newaxis] < shares[:, np.newaxis]).mean(axis=1)
    return Coverage(shares, coverage[:, np.newaxis], len(true))


def _levels(levels: ArrayLike | None) -> np.ndarray:
    """The credibilities as an array, `(n_levels,)`."""
    if levels is None:
        return np.linspace(0.05, 0.95, 19)
    shares = checks.array("levels", levels, shape=(None,), dtype=float)
    if ((shares < 0) | (shares > 1)).any():
        raise ValueError(f"`levels` must lie between 0 and 1, got {shares.tolist()}.")
    return shares
