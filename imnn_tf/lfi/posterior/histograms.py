"""Histograms of weighted samples, and where their bins begin and end."""

from collections.abc import Sequence
from itertools import combinations
from typing import TypeAlias

import numpy as np

from imnn_tf.lfi.posterior.marginals import Marginals
from imnn_tf.utils import checks

# The number of bins for each parameter: one number for all, or one for each.
Bins: TypeAlias = int | Sequence[int]
# The range of the bins, `(low, high)` for each parameter.
Ranges: TypeAlias = Sequence[tuple[float, float]]


def bounded_ranges(
    low: np.ndarray, high: np.ndarray, samples: Sequence[np.ndarray]
) -> list[tuple[float, float]]:
    """Bounds of each parameter, and the ends of the samples where the bounds are infinite.

    Args:
        low: Lower bounds, `(p,)`.
        high: Upper bounds, `(p,)`.
        samples: One or several sets of samples, `(n_i, p)` each.

    Returns:
        `(low, high)` for each parameter.
    """
    least = np.min([each.min(axis=0) for each in samples if len(each)], axis=0)
    most = np.max([each.max(axis=0) for each in samples if len(each)], axis=0)
    pad = np.where(most > least, 0.02 * (most - least), 0.5)
    starts = np.where(np.isfinite(low), low, least - pad)
    stops = np.where(np.isfinite(high), high, most + pad)
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def mass_ranges(
    low: np.ndarray, high: np.ndarray, samples: np.ndarray, weights: np.ndarray
) -> list[tuple[float, float]]:
    """The range that holds all but a thousandth of each parameter, and a margin for its density.

    The margin holds the tails of kernels, which become narrower with more samples. No range goes
    beyond the bounds.

    Args:
        low: Lower bounds, `(p,)`.
        high: Upper bounds, `(p,)`.
        samples: Samples, `(n, p)`.
        weights: Their weights, `(n,)`, which sum to one.

    Returns:
        `(low, high)` for each parameter.
    """
    width = (1 / (weights**2).sum()) ** (-1 / 6)
    ranges = []
    for column, least, most in zip(samples.T, low, high, strict=True):
        order = np.argsort(column)
        held = np.cumsum(weights[order]) - weights[order] / 2
        start, stop = np.interp([0.0005, 0.9995], held, column[order])
        spread = np.sqrt(weights @ (column - weights @ column) ** 2)
        margin = min(3 * width * spread, stop - start) + 0.05 * (stop - start)
        if not start - margin < start < stop + margin:  # all samples are one number
            margin = 0.5 * abs(start) or 0.5
        ranges.append((float(max(least, start - margin)), float(min(most, stop + margin))))
    return ranges


def bin_edges(bins: Bins, ranges: Ranges) -> list[np.ndarray]:
    """Edges of equal bins for each parameter, arrays `(bins_i + 1,)`.

    Raises:
        TypeError: If `bins` is neither an integer nor a sequence of integers.
        ValueError: If the numbers of bins and parameters differ, or a range is empty.
    """
    p = len(ranges)
    numbers = list(bins) if isinstance(bins, Sequence | np.ndarray) else [bins] * p
    if len(numbers) != p:
        raise ValueError(f"`bins` must have {p} entries, got {len(numbers)}: {numbers}.")
    edges = []
    for number, (start, stop) in zip(numbers, ranges, strict=True):
        if not start < stop:
            raise ValueError(f"`ranges` must go from low to high, got ({start}, {stop}).")
        edges.append(np.linspace(start, stop, checks.integer("bins", number, minimum=1) + 1))
    return edges


def check_ranges(ranges: Ranges | None, p: int) -> None:
    """Raises what is wrong with ranges of `p` parameters.

    Raises:
        ValueError: If their number differs, or one is empty.
    """
    if ranges is not None:
        if len(ranges) != p:
            raise ValueError(f"`ranges` must have {p} entries, got {len(ranges)}.")
        bin_edges(1, ranges)


def centres(edges: np.ndarray) -> np.ndarray:
    """The centres of bins, `(bins,)`, from their edges, `(bins + 1,)`."""
    return (edges[:-1] + edges[1:]) / 2


def total_weight(counts: np.ndarray) -> float:
    """The weight of all samples in a histogram, a number.

    Args:
        counts: The weight in each bin, `(bins_1, ..., bins_p)`.

    Raises:
        ValueError: If there are none.
    """
    total = counts.sum()
    if not total > 0:
        raise ValueError("`ranges` must contain samples, got none inside.")
    return total


def histogram_marginals(
    samples: np.ndarray, weights: np.ndarray, edges: Sequence[np.ndarray]
) -> Marginals:
    """Weighted histograms of single parameters and of pairs.

    Args:
        samples: Samples, `(n, p)`.
        weights: Their weights, `(n,)`.
        edges: The edges of the bins of each parameter, arrays `(bins_i + 1,)`.

    Raises:
        ValueError: If no sample is in range.
    """
    widths = [np.diff(edge) for edge in edges]
    columns = samples.T
    single = []
    for column, edge, width in zip(columns, edges, widths, strict=True):
        counts = np.histogram(column, edge, weights=weights)[0]
        single.append(counts / width / total_weight(counts))
    pairs = {}
    for i, j in combinations(range(len(edges)), 2):
        bins = [edges[i], edges[j]]
        counts = np.histogram2d(columns[i], columns[j], bins=bins, weights=weights)[0]
        pairs[i, j] = counts / np.outer(widths[i], widths[j]) / total_weight(counts)
    return Marginals([centres(edge) for edge in edges], widths, single, pairs)
