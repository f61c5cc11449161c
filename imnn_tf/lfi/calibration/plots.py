"""Plots of ranks and of coverage."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from imnn_tf.lfi.calibration.coverage import Coverage
from imnn_tf.lfi.calibration.ranks import check_ranks
from imnn_tf.lfi.plots.layout import AxesLike, FigureSize, grid_of_axes
from imnn_tf.utils import checks

# The name, in legends, of the range in which calibrated posteriors lie.
_BAND = "99 % if right"


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
    values = check_ranks(ranks, draws)
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
