"""A two-sample test: how well a classifier tells samples of two distributions apart."""

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.lfi.calibration.classifier import cross_validated_accuracy
from imnn_tf.lfi.posterior.samples import Posterior
from imnn_tf.utils import checks
from imnn_tf.utils.seeds import Seed, child, seed_sequence

_FOLDS = 5


def c2st(
    samples: ArrayLike | Posterior, reference: ArrayLike | Posterior, *, seed: Seed = 0
) -> float:
    """Cross-validated accuracy of a classifier between samples and those of a reference.

    The classifier two-sample test of Lopez-Paz & Oquab (2017), arXiv:1610.06545, as the benchmark
    of Lueckmann et al. (2021), arXiv:2101.04653, computes it: both are standardised by mean and
    standard deviation of the reference, and a network with two hidden layers of ten units for each
    parameter is trained by Adam until its loss stands still. The accuracy is the mean over five
    folds. The network is that of scikit-learn's `MLPClassifier`, and gives the same accuracies.

    0.5 means that the classifier finds no difference, 1 that it always knows which is which. The
    accuracy grows with the number of samples, and with 10,000 of each, which is what is published,
    0.5 has a Monte Carlo error of 0.004.

    Args:
        samples: Samples to judge, `(n, n_params)`, or a `Posterior`. Samples with unequal weights
            are drawn anew by weight, as many as there are in `reference`.
        reference: Samples of the right distribution, `(m, n_params)`, or a `Posterior`. Of
            whichever is longer, as many as the other has are drawn without replacement.
        seed: Seed of draws, folds and classifiers: an integer or a `numpy.random.SeedSequence`.
            `None` for fresh entropy.

    Returns:
        The accuracy, between 0 and 1.

    Raises:
        ValueError: If the numbers of parameters differ, there are fewer than ten samples of
            either, or a parameter of the reference is constant.
    """
    sequence = seed_sequence(seed)
    found, right = _equally_many(samples, reference, sequence)
    mean, spread = right.mean(axis=0), right.std(axis=0, ddof=1)
    varies = np.ptp(right, axis=0) > 0  # the deviation of a constant may be rounded to 1e-17
    if not varies.all():
        constant = np.flatnonzero(~varies).tolist()
        raise ValueError(f"`reference` must vary in every parameter, got constant {constant}.")
    both = (np.concatenate([right, found]) - mean) / spread
    which = np.repeat([0, 1], len(right))
    return float(cross_validated_accuracy(both, which, _FOLDS, child(sequence, 2)).mean())


def _equally_many(
    samples: ArrayLike | Posterior,
    reference: ArrayLike | Posterior,
    sequence: np.random.SeedSequence,
) -> tuple[np.ndarray, np.ndarray]:
    """Unweighted samples, as many of one as of the other, `(n, n_params)` each."""
    right, weighted = _rows("reference", reference)
    if weighted is not None:
        right = weighted.sample(len(right), child(sequence, 1, 0))
    found, weighted = _rows("samples", samples)
    if found.shape[1] != right.shape[1]:
        raise ValueError(
            f"`samples` must have as many parameters as `reference`, got {found.shape[1]} and "
            f"{right.shape[1]}."
        )
    if weighted is not None:
        found = weighted.sample(len(right), child(sequence, 0, 0))
    n = min(len(found), len(right))
    rows = []
    for i, each in enumerate((found, right)):
        if len(each) > n:
            rng = np.random.default_rng(child(sequence, i, 1))
            each = each[rng.choice(len(each), size=n, replace=False)]
        rows.append(each)
    return rows[0], rows[1]


def _rows(name: str, value: ArrayLike | Posterior) -> tuple[np.ndarray, Posterior | None]:
    """Samples as an array, `(n, n_params)`, and the posterior if its weights are unequal."""
    weighted = None
    if isinstance(value, Posterior):
        weighted = value if np.ptp(value.weights) > 0 else None
        value = value.samples
    rows = checks.array(name, value, shape=(None, None), dtype=float)
    if len(rows) < 2 * _FOLDS:
        raise ValueError(f"`{name}` must have at least {2 * _FOLDS} samples, got {len(rows)}.")
    return rows, weighted
