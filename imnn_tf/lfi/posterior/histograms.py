"""The bins of histograms: where they begin and end."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

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


def sample_ranges(
    low: np.ndarray, high: np.ndarray, samples: np.ndarray
) -> list[tuple[float, float]]:
    """The ends of samples, widened by a margin but not beyond the bounds.

    Args:
        low: Lower bounds, `(p,)`.
        high: Upper bounds, `(p,)`.
        samples: Samples, `(n, p)`.

    Returns:
        `(low, high)` for each parameter.
    """
    unbounded = np.full(len(low), np.inf)
    spans = bounded_ranges(-unbounded, unbounded, [samples])
    return [
        (max(least, start - 0.05 * (stop - start)), min(most, stop + 0.05 * (stop - start)))
        for (start, stop), least, most in zip(spans, low, high, strict=True)
    ]


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
