"""Checks of whether posteriors mean what they say, for any of the methods here.

All of them compare true parameters, drawn from the prior, with the posteriors inferred from
data simulated at them. With several targets at once one object does it all:

    truths, data = calibration.simulate_targets(prior, simulator, 300, seed=1)
    abc = ApproximateBayesianComputation(data, prior, F, get_estimate, simulator, seed=2)
    abc(100_000)
    abc.accept_reject(1.0)
    ranks = calibration.sbc_ranks(truths, abc.results())

A posterior given only that the estimate is within a tolerance is wider than the posterior; it
is calibrated exactly if the target's estimate is itself moved at random within the tolerance
(Fearnhead & Prangle 2012, arXiv:1004.1112, theorem 1), and nearly if the tolerance is small.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from imnn_tf.lfi.plotting import as_grid_of_axes, new_axes
from imnn_tf.lfi.posterior import Posterior
from imnn_tf.lfi.prior import Prior
from imnn_tf.lfi.simulation import simulate
from imnn_tf.utils import checks
from imnn_tf.utils.seeds import Seed, child, seed_sequence

# How the range of what is right is named in legends.
_BAND = "99 % if right"


class Coverage(NamedTuple):
    """How often regions of a given credibility hold the truth.

    Attributes:
        levels: Credibilities, `(n_levels,)`.
        coverage: Shares of the truths inside, `(n_levels, n_curves)`.
        sims: The number of truths.
    """

    levels: np.ndarray
    coverage: np.ndarray
    sims: int

    def deviation(self) -> np.ndarray:
        """Largest difference between coverage and credibility, `(n_curves,)`."""
        return np.abs(self.coverage - self.levels[:, np.newaxis]).max(axis=0)

    def band(self, confidence: float = 0.99) -> np.ndarray:
        """Where calibrated coverage lies at each level, `(2, n_levels)`: binomial."""
        confidence = checks.real("confidence", confidence, above=0, below=1)
        tails = np.array([[(1 - confidence) / 2], [(1 + confidence) / 2]])
        return stats.binom(self.sims, self.levels).ppf(tails) / self.sims


def simulate_targets(
    prior: Any, simulator: Callable[..., Any], n: int, seed: Seed = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draws truths from the prior and simulates one target at each.

    Args:
        prior: The prior.
        simulator: The simulator; see `imnn_tf.lfi.simulate`.
        n: How many.
        seed: An integer or a `SeedSequence`; `None` for fresh draws.

    Returns:
        Truths, `(n, n_params)`, and targets, `(n,) + input shape`.
    """
    sequence = seed_sequence(seed)
    n = checks.integer("n", n, minimum=1)
    truths = Prior(prior).sample(n, seed=child(sequence, 0))
    result = simulate(simulator, truths, batch_size=n, seed=child(sequence, 1), progress=False)
    assert result.x is not None
    return truths, result.x


def sbc_ranks(
    truths: ArrayLike, posteriors: Sequence[Posterior], draws: int = 99, seed: Seed = 0
) -> np.ndarray:
    """Ranks of the truths among draws from their posteriors.

    Simulation-based calibration, Talts et al. (2018), arXiv:1804.06788, algorithm 1: of a
    calibrated posterior they are uniform on 0 to `draws`.

    Args:
        truths: True parameters, `(n, n_params)`.
        posteriors: The posterior of each, with many more effective samples than `draws`.
        draws: Draws from each posterior, by weight.
        seed: For drawing.

    Returns:
        Ranks, `(n, n_params)`, integers.

    Raises:
        ValueError: If there are not as many posteriors as truths.
    """
    true = _truths(truths, posteriors)
    draws, sequence = checks.integer("draws", draws, minimum=1), seed_sequence(seed)
    ranks = [
        (posterior.sample(draws, child(sequence, i)) < true[i]).sum(axis=0)
        for i, posterior in enumerate(posteriors)
    ]
    return np.stack(ranks)


def uniformity(ranks: ArrayLike, draws: int = 99, seed: Seed = 0) -> np.ndarray:
    """p-values of Kolmogorov-Smirnov tests that ranks are uniform, `(n_params,)`.

    Args:
        ranks: Ranks from 0 to `draws`, `(n, n_params)`.
        draws: As passed to `sbc_ranks`.
        seed: Ranks are spread at random over their unit, so that they do not tie.
    """
    values = checks.array("ranks", ranks, shape=(None, None), dtype=float)
    rng = np.random.default_rng(seed_sequence(seed))
    spread = (values + rng.uniform(size=values.shape)) / (draws + 1)
    return np.array([stats.kstest(column, "uniform").pvalue for column in spread.T])


def expected_coverage(
    truths: ArrayLike, posteriors: Sequence[Posterior], levels: ArrayLike | None = None
) -> Coverage:
    """Coverage of the equal-tailed credible intervals of each parameter.

    Args:
        truths: True parameters, `(n, n_params)`.
        posteriors: The posterior of each.
        levels: Credibilities; by default 0.05 to 0.95.

    Returns:
        One curve for each parameter.

    Raises:
        ValueError: If there are not as many posteriors as truths.
    """
    true = _truths(truths, posteriors)
    shares = _levels(levels)
    below = np.stack([p.weights @ (p.samples < t) for p, t in zip(posteriors, true, strict=True)])
    # The smallest interval that holds the truth ends at it.
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
    """Coverage of balls about random points, of all parameters together.

    Tests of accuracy with random points, Lemos et al. (2023), arXiv:2302.03026, algorithm 2:
    the ball about a reference point that reaches to the truth holds a share of the posterior
    that is uniform, if and only if the posterior is right. Parameters are scaled to the range
    of the truths.

    Args:
        truths: True parameters, `(n, n_params)`.
        posteriors: The posterior of each.
        levels: Credibilities; by default 0.05 to 0.95.
        references: Reference points as shares of the range, `(n, n_params)`; by default
            uniform ones.
        seed: For the reference points.

    Returns:
        One curve.

    Raises:
        ValueError: If there are not as many posteriors as truths.
    """
    true = _truths(truths, posteriors)
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


def plot_ranks(
    ranks: ArrayLike,
    draws: int = 99,
    *,
    labels: Sequence[str] | None = None,
    bins: int = 20,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
) -> np.ndarray:
    """Histograms of ranks, over where 99 % of those of a calibrated posterior lie.

    Args:
        ranks: Ranks from 0 to `draws`, `(n, n_params)`.
        draws: As passed to `sbc_ranks`.
        labels: One for each parameter.
        bins: Bins of each histogram.
        ax: Axes to draw into, `(1, n_params)`; `None` makes a figure.
        figsize: Its size in inches.

    Returns:
        The axes, `(1, n_params)`.
    """
    values = checks.array("ranks", ranks, shape=(None, None), dtype=float)
    n, p = values.shape
    names = checks.strings("labels", labels, p) or [f"Parameter {i + 1}" for i in range(p)]
    axes = new_axes((1, p), figsize, 0.02, 0.02) if ax is None else ax
    axes = as_grid_of_axes(axes, (1, p))
    edges = np.linspace(-0.5, draws + 0.5, checks.integer("bins", bins, minimum=1) + 1)
    # Ranks are whole numbers, so that bins need not hold equally many of them.
    expected = np.histogram(np.arange(draws + 1), edges)[0] / (draws + 1)
    low, high = stats.binom(n, expected).ppf([[0.005], [0.995]])
    for i, this in enumerate(axes[0]):
        this.stairs(high, edges, baseline=low, fill=True, color="0.85", label=_BAND)
        found = np.histogram(values[:, i], edges)[0]
        this.stairs(found, edges, label="found")
        this.set_xlabel(f"Rank of {names[i]}")
        this.set_ylim(0, 1.35 * max(high.max(), found.max()))  # room for the legend
    axes[0, 0].set_ylabel("Simulations")
    axes[0, -1].legend(fontsize="small", frameon=False, loc="upper right")
    return axes


def plot_coverage(
    coverage: Coverage,
    *,
    labels: Sequence[str] | None = None,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
) -> Any:
    """Coverage against credibility, over where 99 % of calibrated ones lie.

    Args:
        coverage: From `expected_coverage` or `tarp`.
        labels: One for each curve; by default the number of the parameter, or "all parameters"
            for a single curve.
        ax: Axes to draw into; `None` makes a figure.
        figsize: Its size in inches.

    Returns:
        The axes.
    """
    curves = coverage.coverage.shape[1]
    names = checks.strings("labels", labels, curves)
    if names is None:
        names = [f"parameter {i + 1}" for i in range(curves)]
        names = names if curves > 1 else ["all parameters"]
    this = new_axes((1, 1), figsize or (5, 5), 0, 0)[0, 0] if ax is None else ax
    low, high = coverage.band()
    known = this.get_legend_handles_labels()[1]
    band = None if _BAND in known else _BAND
    this.fill_between(coverage.levels, low, high, color="0.85", label=band, zorder=0)
    this.plot([0, 1], [0, 1], color="0.5", linewidth=1)
    for name, curve in zip(names, coverage.coverage.T, strict=True):
        this.plot(coverage.levels, curve, label=name)
    this.set(xlabel="Credibility", ylabel="Coverage", xlim=(0, 1), ylim=(0, 1))
    this.legend(frameon=False)
    return this


def _truths(truths: ArrayLike, posteriors: Sequence[Posterior]) -> np.ndarray:
    values = checks.array("truths", truths, shape=(None, None), dtype=float)
    if len(values) != len(posteriors):
        raise ValueError(
            f"`posteriors` must be one for each of {len(values)} truths, got {len(posteriors)}."
        )
    return values


def _levels(levels: ArrayLike | None) -> np.ndarray:
    if levels is None:
        return np.linspace(0.05, 0.95, 19)
    return checks.array("levels", levels, shape=(None,), dtype=float)
