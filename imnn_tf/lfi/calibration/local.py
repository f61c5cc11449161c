"""Whether the posterior of one observation is right: a classifier two-sample test at that point."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.lfi.calibration.classifier import probabilities
from imnn_tf.lfi.posterior.samples import Posterior
from imnn_tf.utils import checks, display
from imnn_tf.utils.seeds import Seed, child, seed_sequence

logger = logging.getLogger(__name__)

# The fewest simulated observations.
_FEWEST_TRUTHS = 50

# Standardised numbers stay within this.
_FURTHEST = 100.0


@display.shown
class Local(NamedTuple):
    """How well a classifier tells a posterior from the right one, at some observations.

    Attributes:
        statistics: The mean square of the classifier's probability minus one half, `(targets,)`:
            0 if it finds no difference, and 0.25 if it always knows.
        p_values: The share of classifiers trained where there is no difference that are as sure,
            the one that was asked counted, `(targets,)`.
        wrong: Whether the p-value is at most the rate of false alarms, `(targets,)`.
    """

    statistics: np.ndarray
    p_values: np.ndarray
    wrong: np.ndarray

    def _facts(self) -> dict[str, str]:
        return {
            "wrong posteriors": f"{int(self.wrong.sum())} of {len(self.wrong)}",
            "smallest p-value": display.number(self.p_values.min()),
        }


def local(
    truths: ArrayLike,
    summaries: ArrayLike,
    posteriors: np.ndarray | Sequence[Posterior],
    target_summaries: ArrayLike,
    target_posteriors: Sequence[Posterior | np.ndarray],
    *,
    false_alarm: float = 0.05,
    permutations: int = 99,
    seed: Seed = 0,
) -> Local:
    """Tests whether posteriors are right at given observations, and not only on average.

    The local classifier two-sample test of Linhart, Gramfort & Rodrigues (2023), arXiv:2306.03580.
    A classifier sees parameters together with the summaries of a simulation at the true ones. It
    learns to tell true parameters from draws from the inferred posterior. At the observation, it
    is asked about draws from the inferred posterior there. If that posterior is right, it cannot
    know, and its probabilities are one half up to what it learnt by chance.

    Other classifiers tell how much that is. For them truth and draw are exchanged at random within
    each pair. If all posteriors are right, this changes nothing in the distribution of the pairs.
    So the probability of a false alarm is at most `false_alarm`, whatever the classifier has
    learnt. As a classifier is smooth, a right posterior may be called wrong where others near it
    are.

    `sbc_ranks`, `expected_coverage` and `tarp` average over the prior, where errors at one place
    can hide. This test needs an amortised method, such as `NeuralPosterior`, or a posterior for
    each simulated observation.

    Args:
        truths: True parameters, drawn from the prior, `(n, n_params)`. A thousand or more.
        summaries: Summaries of a simulation at each, `(n, n_summaries)`.
        posteriors: The inferred posterior given each, or a draw from it, `(n, n_params)`.
        target_summaries: Summaries of the observations, `(targets, n_summaries)`, or of one,
            `(n_summaries,)`.
        target_posteriors: For each observation the inferred posterior, or draws from it,
            `(m, n_params)`.
        false_alarm: The probability of calling a right posterior wrong, for each observation.
        permutations: The number of classifiers that show what is learnt by chance.
        seed: Seed of draws, exchanges and classifiers: an integer or a `numpy.random.SeedSequence`.
            `None` for fresh entropy.

    Returns:
        Statistics, p-values and verdicts. A warning is logged if there are verdicts of "wrong".

    Raises:
        TypeError: If `posteriors` are of several kinds, or one posterior stands for a sequence.
        ValueError: If shapes do not fit, there are fewer than 50 truths, a column of parameters or
            summaries is constant, or there are too few permutations for that rate of false alarms.
    """
    sequence = seed_sequence(seed)
    rate = checks.real("false_alarm", false_alarm, above=0, below=1)
    count = checks.integer("permutations", permutations, minimum=1)
    if rate * (count + 1) < 1:
        raise ValueError(
            f"`permutations` must be at least {int(np.ceil(1 / rate - 1 - 1e-9))} for a rate of "
            f"false alarms of {rate:g}, got {count}."
        )
    true = checks.array("truths", truths, shape=(None, None), dtype=float)
    if len(true) < _FEWEST_TRUTHS:
        raise ValueError(f"`truths` must have at least {_FEWEST_TRUTHS} rows, got {len(true)}.")
    known = checks.array("summaries", summaries, shape=(len(true), None), dtype=float)
    drawn = _draws(posteriors, true.shape, child(sequence, 0))
    observed = np.asarray(target_summaries)
    observed = observed[np.newaxis] if observed.ndim == 1 else observed
    shape = (None, known.shape[1])
    observed = checks.array("target_summaries", observed, shape=shape, dtype=float)
    if len(observed) == 0:
        raise ValueError("`target_summaries` must be of one observation at least, got none.")
    if isinstance(target_posteriors, Posterior):
        raise TypeError("`target_posteriors` must be a sequence, got one `Posterior`.")
    if len(target_posteriors) != len(observed):
        raise ValueError(
            f"`target_posteriors` must have one entry for each of {len(observed)} observations, "
            f"got {len(target_posteriors)}."
        )
    p = true.shape[1]
    samples = [_samples(each, p, child(sequence, 3, i)) for i, each in enumerate(target_posteriors)]
    asked = [
        np.column_stack([rows, np.broadcast_to(summary, (len(rows), len(summary)))])
        for rows, summary in zip(samples, observed, strict=True)
    ]
    pairs = np.stack([np.column_stack([each, known]) for each in (true, drawn)])
    varies = np.ptp(pairs[0], axis=0) > 0
    if not varies.all():
        name = "summaries" if varies[:p].all() else "truths"
        raise ValueError(f"`{name}` must vary in every column.")
    mean, spread = pairs[0].mean(axis=0), pairs[0].std(axis=0)
    # Far away, where single precision ends, all classifiers see the same number.
    pairs, *asked = (
        np.clip((rows - mean) / spread, -_FURTHEST, _FURTHEST) for rows in (pairs, *asked)
    )
    rng = np.random.default_rng(child(sequence, 1))
    found = np.empty((1 + count, len(asked)))
    for i, row in enumerate(found):
        exchanged = (rng.uniform(size=len(true)) < 0.5) & (i > 0)
        first = np.where(exchanged[:, np.newaxis], pairs[1], pairs[0])
        second = np.where(exchanged[:, np.newaxis], pairs[0], pairs[1])
        both, which = np.concatenate([first, second]), np.repeat([0, 1], len(true))
        answers = probabilities(both, which, asked, child(sequence, 2, i))
        row[:] = [np.mean((answer - 0.5) ** 2) for answer in answers]
    p_values = (1 + (found[1:] >= found[0]).sum(axis=0)) / (1 + count)
    wrong = p_values <= rate * (1 + 1e-12)  # a share that equals the rate but for rounding
    if wrong.any():
        logger.warning(
            "%d of %d posteriors seem to differ from the right ones: a classifier that knows no "
            "difference would be as sure with probability %.2g.",
            int(wrong.sum()),
            len(wrong),
            float(p_values.min()),
        )
    return Local(found[0], p_values, wrong)


def _draws(
    posteriors: np.ndarray | Sequence[Posterior],
    shape: tuple[int, ...],
    sequence: np.random.SeedSequence,
) -> np.ndarray:
    """One draw from each posterior, `(n, n_params)`."""
    if isinstance(posteriors, Posterior) or not isinstance(posteriors, Sequence | np.ndarray):
        raise TypeError(
            f"`posteriors` must be an array or a sequence, got {type(posteriors).__name__}."
        )
    if not isinstance(posteriors, np.ndarray) and any(isinstance(p, Posterior) for p in posteriors):
        others = {type(p).__name__ for p in posteriors if not isinstance(p, Posterior)}
        if others:
            raise TypeError(f"`posteriors` must all be a `Posterior`, got {sorted(others)} too.")
        posteriors = np.concatenate(
            [p.sample(1, child(sequence, i)) for i, p in enumerate(posteriors)]
        )
    return checks.array("posteriors", np.asarray(posteriors), shape=shape, dtype=float)


def _samples(
    posterior: Posterior | np.ndarray, n_params: int, sequence: np.random.SeedSequence
) -> np.ndarray:
    """Samples of equal weight, `(m, n_params)`."""
    if isinstance(posterior, Posterior):
        equal = np.ptp(posterior.weights) == 0
        posterior = posterior.samples if equal else posterior.sample(len(posterior), sequence)
    shape = (None, n_params)
    rows = checks.array("target_posteriors", np.asarray(posterior), shape=shape, dtype=float)
    if len(rows) == 0:
        raise ValueError("`target_posteriors` must have samples, got none for an observation.")
    return rows
