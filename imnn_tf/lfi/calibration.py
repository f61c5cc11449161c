"""Checks of whether the posteriors of any method are calibrated.

All of them draw true parameters from the prior, simulate data there, infer posteriors from the
data, and compare these with the truth. One object with many targets infers all posteriors:

    truths, data = calibration.simulate_targets(prior, simulator, 300, seed=1)
    abc = ApproximateBayesianComputation(data, prior, F, get_estimate, simulator, seed=2)
    abc(100_000)
    abc.accept_reject(1.0)
    ranks = calibration.sbc_ranks(truths, abc.results())

The posterior given that an estimate is within a tolerance is wider than the posterior given the
estimate. It is calibrated exactly if the estimate of the target is itself moved at random within
the tolerance (Fearnhead & Prangle 2012, arXiv:1004.1112, theorem 1), and nearly if the tolerance
is small.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from imnn_tf.lfi.plots.layout import AxesLike, FigureSize, grid_of_axes
from imnn_tf.lfi.posterior.samples import Posterior
from imnn_tf.lfi.prior import Prior
from imnn_tf.lfi.running.execution import Execution
from imnn_tf.lfi.running.run import SimulationError
from imnn_tf.lfi.running.simulation import simulate
from imnn_tf.utils import checks
from imnn_tf.utils.seeds import Seed, child, seed_sequence

# The name, in legends, of the range in which calibrated posteriors lie.
_BAND = "99 % if right"


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


def simulate_targets(
    prior: Any,
    simulator: Callable[..., Any],
    n: int,
    seed: Seed = None,
    *,
    execution: Execution | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws true parameters from the prior and simulates one target at each.

    Args:
        prior: The prior: anything with `event_shape` `(n_params,)`, `sample` and `log_prob`.
        simulator: Takes parameters, `(n, n_params)`, and returns data, `(n,) + input shape`; see
            `imnn_tf.lfi.simulate` for how it gets random seeds.
        n: The number of targets.
        seed: An integer or a `numpy.random.SeedSequence`. `None` for fresh entropy.
        execution: How the simulations run: executor, batch size, failures, store and progress.
            `None` for all in one call in this process, without a bar.

    Returns:
        True parameters, `(n, n_params)`, and targets, `(n,) + input shape`, of the simulations that
        did not fail.

    Raises:
        SimulationError: If a simulation fails and `on_error` is "raise", or all of them fail.
    """
    sequence = seed_sequence(seed)
    n = checks.integer("n", n, minimum=1)
    truths = Prior(prior).sample(n, seed=child(sequence, 0))
    if execution is None:
        execution = Execution(batch_size=n, progress=False)
    result = simulate(simulator, truths, seed=child(sequence, 1), execution=execution)
    if result.x is None:
        raise SimulationError("All simulations of targets failed; see `.result`.", result)
    return truths[result.ok], result.x[result.ok]


def sbc_ranks(
    truths: ArrayLike, posteriors: Sequence[Posterior], draws: int = 99, seed: Seed = 0
) -> np.ndarray:
    """Ranks of the truths among draws from their posteriors.

    Simulation-based calibration, Talts et al. (2018), arXiv:1804.06788, algorithm 1: the ranks
    are uniform from 0 to `draws` if the posteriors are calibrated.

    Args:
        truths: True parameters, `(n, n_params)`.
        posteriors: The posterior inferred for each truth, with many more effective samples than
            `draws`.
        draws: The number of draws from each posterior, by weight.
        seed: Seed of the draws: an integer or a `numpy.random.SeedSequence`. `None` for fresh
            entropy.

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
        draws: The number of draws from each posterior that gave the ranks.
        seed: Seed of the random numbers between 0 and 1 that are added to the ranks, so that they
            do not tie: an integer or a `numpy.random.SeedSequence`. `None` for fresh entropy.

    Raises:
        ValueError: If ranks are above `draws`, or `draws` is far above all of them.
    """
    values = _ranks(ranks, draws)
    rng = np.random.default_rng(seed_sequence(seed))
    spread = (values + rng.uniform(size=values.shape)) / (draws + 1)
    return np.array([stats.kstest(column, "uniform").pvalue for column in spread.T])


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
    true = _truths(truths, posteriors)
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
    ax: AxesLike = None,
    figsize: FigureSize = None,
) -> np.ndarray:
    """Draws histograms of ranks over the range of 99 % of calibrated ones.

    Args:
        ranks: Ranks from 0 to `draws`, `(n, n_params)`.
        draws: The number of draws from each posterior that gave the ranks.
        labels: One label for each parameter. `None` for "Parameter 1" and so on.
        bins: The number of bins of each histogram.
        ax: Axes to draw into, `(1, n_params)`. `None` for a new figure.
        figsize: Size of a new figure in inches. `None` for 2.5 for each parameter and at least 5,
            by 3.5.

    Returns:
        The axes, `(1, n_params)`.
    """
    values = _ranks(ranks, draws)
    n, p = values.shape
    names = checks.strings("labels", labels, p) or [f"Parameter {i + 1}" for i in range(p)]
    axes = grid_of_axes(ax, (1, p), figsize)
    edges = np.linspace(-0.5, draws + 0.5, checks.integer("bins", bins, minimum=1) + 1)
    # Ranks are whole numbers, so the bins do not all hold the same number of them.
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
    ax: AxesLike = None,
    figsize: FigureSize = None,
) -> AxesLike:
    """Draws coverage against credibility over the range of 99 % of calibrated curves.

    Args:
        coverage: The result of `expected_coverage` or `tarp`.
        labels: One label for each curve. `None` for the numbers of the parameters, or "all
            parameters" for a single curve.
        ax: A single one of Matplotlib's axes to draw into. `None` for a new figure.
        figsize: Size of a new figure in inches. `None` for 5 by 5.

    Returns:
        The axes.
    """
    curves = coverage.coverage.shape[1]
    names = checks.strings("labels", labels, curves)
    if names is None:
        names = [f"parameter {i + 1}" for i in range(curves)]
        names = names if curves > 1 else ["all parameters"]
    this = grid_of_axes(None, (1, 1), figsize or (5, 5), 0, 0)[0, 0] if ax is None else ax
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
    """The truths as an array, `(n, n_params)`; there must be a posterior for each."""
    values = checks.array("truths", truths, shape=(None, None), dtype=float)
    if len(values) != len(posteriors):
        raise ValueError(
            f"`posteriors` must be one for each of {len(values)} truths, got {len(posteriors)}."
        )
    return values


def _ranks(ranks: ArrayLike, draws: int) -> np.ndarray:
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


def _levels(levels: ArrayLike | None) -> np.ndarray:
    """The credibilities as an array, `(n_levels,)`."""
    if levels is None:
        return np.linspace(0.05, 0.95, 19)
    return checks.array("levels", levels, shape=(None,), dtype=float)
