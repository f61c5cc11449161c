"""Whether an observation is like the simulations that its posterior rests on."""

import logging
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from imnn_tf.utils import checks, display
from imnn_tf.utils.seeds import Seed, seed_sequence

logger = logging.getLogger(__name__)


@display.shown
class Novelty(NamedTuple):
    """How far observations are from the simulations.

    Attributes:
        distances: Distance of each observation from its k-th nearest simulation, `(targets,)`.
        p_values: The share of simulations that are as far from others, `(targets,)`.
        unlike: Whether the p-value is at most the rate of false alarms, `(targets,)`.
    """

    distances: np.ndarray
    p_values: np.ndarray
    unlike: np.ndarray

    def _facts(self) -> dict[str, str]:
        return {
            "unlike the simulations": f"{int(self.unlike.sum())} of {len(self.unlike)}",
            "smallest p-value": display.number(self.p_values.min()),
        }


def novelty(
    targets: ArrayLike,
    summaries: ArrayLike,
    *,
    Fisher: ArrayLike | None = None,
    false_alarm: float = 0.01,
    neighbours: int = 10,
    seed: Seed = 0,
) -> Novelty:
    """Tests whether observations are unlike all simulations at draws from the prior.

    A posterior is worth nothing if the simulator cannot make such data as were observed. Whatever
    the method, it then extrapolates. This check needs summaries alone, and no posterior. One half
    of the simulations serves as neighbours. The distance of an observation from its k-th nearest
    neighbour is compared with that of each simulation of the other half. The p-value is the share
    of those that are as far away, the observation itself counted (conformal prediction; Vovk,
    Gammerman & Shafer 2005, "Algorithmic learning in a random world").

    If an observation comes from the prior and the simulator, it is exchangeable with the
    simulations of the second half. So the probability of a false alarm is at most `false_alarm`,
    for any simulator and any number of summaries, without an approximation. It is less by at most
    `1 / (n / 2 + 1)`.

    The check sees what the summaries see. As many summaries as parameters can often be reached by
    some parameters whatever the data are; a further summary that measures the quality of the fit,
    such as a chi-square, gives it power.

    Args:
        targets: Summaries of observations, `(targets, n_summaries)`, or of one, `(n_summaries,)`.
        summaries: Summaries of simulations at draws from the prior, `(n, n_summaries)`.
        Fisher: The metric of distances, `(n_summaries, n_summaries)`: for estimates, their Fisher
            information. `None` for the inverse covariance of `summaries`.
        false_alarm: The probability of calling an observation unlike that the model does describe.
        neighbours: Which neighbour the distance is measured to. A small number finds gaps between
            the simulations, a large one has less noise.
        seed: Seed of the halves: an integer or a `numpy.random.SeedSequence`. `None` for fresh
            entropy.

    Returns:
        Distances, p-values and verdicts. A warning is logged if there are verdicts of "unlike".

    Raises:
        ValueError: If shapes do not fit, `Fisher` or the covariance of `summaries` is not positive
            definite, or there are too few simulations for that rate of false alarms or that number
            of neighbours.
    """
    simulated = checks.array("summaries", summaries, shape=(None, None), dtype=float)
    n, s = simulated.shape
    observed = np.asarray(targets)
    observed = observed[np.newaxis] if observed.ndim == 1 else observed
    observed = checks.array("targets", observed, shape=(None, s), dtype=float)
    rate = checks.real("false_alarm", false_alarm, above=0, below=1)
    k = checks.integer("neighbours", neighbours, minimum=1)
    half = n // 2
    if n - half < k or rate * (half + 1) < 1:
        least = max(2 * k, 2 * int(np.ceil(1 / rate - 1 - 1e-9)))
        raise ValueError(
            f"`summaries` must be of at least {least} simulations for {k} neighbours and a rate "
            f"of false alarms of {rate:g}, got {n}."
        )
    order = np.random.default_rng(seed_sequence(seed)).permutation(n)
    others, near = simulated[order[:half]], simulated[order[half:]]
    root = _root(Fisher, near)
    tree = cKDTree(near @ root)
    usual, distances = (
        np.asarray(tree.query(rows @ root, k=[k])[0])[:, 0] for rows in (others, observed)
    )
    farther = half - np.searchsorted(np.sort(usual), distances)
    p_values = (1 + farther) / (half + 1)
    unlike = p_values <= rate * (1 + 1e-12)  # a share that equals the rate but for rounding
    if unlike.any():
        logger.warning(
            "%d of %d observations are unlike the simulations: the model would make an observation "
            "that is so far from its neighbours with probability %.2g. Posteriors given them "
            "extrapolate, and may be wrong.",
            int(unlike.sum()),
            len(observed),
            float(p_values.min()),
        )
    return Novelty(distances, p_values, unlike)


def _root(Fisher: ArrayLike | None, near: np.ndarray) -> np.ndarray:
    """The matrix that turns summaries into points whose distance is that of the metric."""
    s = near.shape[1]
    name, metric = "Fisher", Fisher
    if metric is None:
        name, covariance = "summaries", np.cov(near, rowvar=False).reshape(s, s)
        if np.linalg.matrix_rank(covariance, hermitian=True) < s:
            raise ValueError("`summaries` must have a positive definite covariance.")
        metric = np.linalg.inv(covariance)
    metric = checks.array(name, metric, shape=(s, s), dtype=float)
    try:
        return np.linalg.cholesky(metric)
    except np.linalg.LinAlgError:
        raise ValueError(
            f"`{name}` must give a positive definite metric, got {metric.tolist()}."
        ) from None
