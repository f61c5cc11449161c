"""Simulation-based calibration: ranks of the truths among draws from their posteriors."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from imnn_tf.lfi.calibration.targets import check_truths
from imnn_tf.lfi.posterior.samples import Posterior
from imnn_tf.utils import checks
from imnn_tf.utils.seeds import Seed, child, seed_sequence


def sbc_ranks(
    truths: ArrayLike, posteriors: Sequence[Posterior], draws: int = 99, seed: Seed = 0
) -> np.ndarray:
    """Ranks of the truths among draws from their posteriors.

    Simulation-based calibration, Talts et al. (2018), arXiv:1804.06788, algorithm 1: the ranks
    are uniform from 0 to `draws` if the posteriors are calibrated. Where draws equal the truth, as
    those of discrete parameters do, its place among them is drawn at random, which keeps that
    true (Modrák et al. 2023, arXiv:2211.02383).

    Args:
        truths: True parameters, `(n, n_params)`.
        posteriors: The posterior inferred for each truth, with many more effective samples than
            `draws`.
        draws: The number of draws from each posterior, by weight.
        seed: Seed of the draws and of the places among equal ones: an integer or a
            `numpy.random.SeedSequence`. `None` for fresh entropy.

    Returns:
        Ranks, `(n, n_params)`, integers.

    Raises:
        ValueError: If there are not as many posteriors, or as many parameters in one, as in the
            truths.
    """
    true = check_truths(truths, posteriors)
    draws, sequence = checks.integer("draws", draws, minimum=1), seed_sequence(seed)
    ranks = np.empty(true.shape, dtype=int)
    for i, posterior in enumerate(posteriors):
        drawn = posterior.sample(draws, child(sequence, i))
        ties = (drawn == true[i]).sum(axis=0)
        places = np.random.default_rng(child(sequence, i, 0)).integers(ties, endpoint=True)
        ranks[i] = (drawn < true[i]).sum(axis=0) + places
    return ranks


def uniformity(ranks: ArrayLike, draws: int = 99, seed: Seed = 0) -> np.ndarray:
    """p-values of Kolmogorov-Smirnov tests that ranks are uniform, `(n_params,)`.

    Args:
        ranks: Ranks from 0 to `draws`, `(n, n_params)`.
        draws: The number of draws from each posterior that gave the ranks.
        seed: Seed of the random numbers between 0 and 1 that are added to the ranks, so that they
            do not tie: an integer or a `numpy.random.SeedSequence`. `None` for fresh entropy.

    Raises:
        ValueError: If ranks are above `draws`, or `draws` is far above all of them.
    """
    values = check_ranks(ranks, draws)
    rng = np.random.default_rng(seed_sequence(seed))
    spread = (values + rng.uniform(size=values.shape)) / (draws + 1)
    return np.array([stats.kstest(column, "uniform").pvalue for column in spread.T])


def check_ranks(ranks: ArrayLike, draws: int) -> np.ndarray:
    """Ranks as an array, `(n, n_params)`, that may come from so many draws."""
    values = checks.array("ranks", ranks, shape=(None, None), dtype=float)
    draws = checks.integer("draws", draws, minimum=1)
    low, top = values.min(initial=draws), values.max(initial=0)
    wrong = low < 0 or top > draws
    # Of ranks that were uniform up to `draws`, all lie in the lower half with chance 2^-size.
    wrong = wrong or (values.size >= 40 and 2 * top < draws)
    if not wrong and values.size >= 40 and values.size * np.log((top + 1) / (draws + 1)) < -20:
        # Ranks that are uniform up to a lower end are of fewer draws, and not of a bad posterior.
        centred = (values + 0.5) / (top + 1)
        wrong = min(stats.kstest(column, "uniform").pvalue for column in centred.T) > 1e-3
    if wrong:
        raise ValueError(
            f"`draws` must be that of `sbc_ranks`, the largest possible rank, got {draws} and "
            f"ranks from {low:g} to {top:g}."
        )
    return values
