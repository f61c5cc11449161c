"""Triangles of one- and two-dimensional marginal densities."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.lfi.plots.layout import (
    KNOWN,
    AxesLike,
    Color,
    FigureSize,
    Label,
    check_axes,
    grid_of_axes,
    hidden_axes,
    target_names,
    target_styles,
)
from imnn_tf.running.arguments import described
from imnn_tf.utils import checks

if TYPE_CHECKING:
    from imnn_tf.lfi.posterior.marginals import Marginals

# Shares of the probability that contours enclose unless others are asked for.
LEVELS = (0.68, 0.95, 0.99)


@described(
    marginals="The densities, one `Marginals` for each target.",
    labels="One label for each parameter. Axes that have labels keep theirs.",
    ax="Axes of an earlier triangle to draw into, `(p, p)`. `None` for a new figure.",
    known="True parameters, `(p,)`, drawn as dashed lines. `None` for none.",
    kwargs="What Matplotlib's `plot` and `contour` take, such as `alpha` and `linewidth`.",
)
def triangle(
    marginals: Sequence[Marginals],
    *,
    labels: Sequence[str],
    ax: AxesLike = None,
    figsize: FigureSize = None,
    color: Color | Sequence[Color] | None = None,
    label: Label = None,
    levels: float | Sequence[float] = LEVELS,
    smoothing: float | None = None,
    known: ArrayLike | None = None,
    wspace: float = 0.02,
    hspace: float = 0.02,
    **kwargs: Any,
) -> np.ndarray:
    """Draws marginal densities of `p` parameters: single ones on the diagonal, pairs below it.

    Returns:
        The axes, `(p, p)`.

    Raises:
        ValueError: If `ax` has another shape, the numbers of parameters and labels differ, or a
            colour or label is missing.
    """
    n_params = len(labels)
    for each in marginals:
        if len(each.points) != n_params:
            raise ValueError(
                f"`marginals` must be of {n_params} parameters each, got {len(each.points)}."
            )
    axes = grid_of_axes(ax, (n_params, n_params), figsize, wspace, hspace)
    _label_edges(axes, labels)
    names = target_names(label, len(marginals))
    styles = target_styles(color, len(marginals))
    for target, name, style in zip(marginals, names, styles, strict=True):
        shown = target if smoothing is None else target.smoothed(smoothing)
        _draw(axes, shown, name, style, levels, kwargs)
    if known is not None:
        _mark(axes, checks.array("known", known, shape=(n_params,), dtype=float))
    _share_limits(axes)
    if any(names):
        _add_legend(axes)
    return axes


def try_options(marginals: Sequence[Marginals], n_params: int, **options: Any) -> None:
    """Raises what `triangle` would raise because of its options, in a figure that nobody sees.

    Args:
        marginals: Any densities of one or two parameters, one `Marginals` for each target.
        n_params: The number of parameters that would be drawn.
        **options: Keywords of `triangle`, without `labels`.
    """
    check_axes(n_params, options)
    size = len(marginals[0].points)
    triangle(marginals, labels=[""] * size, ax=hidden_axes(size), **options)


def _draw(
    axes: np.ndarray,
    marginals: Marginals,
    name: str | None,
    style: dict[str, Any],
    levels: float | Sequence[float],
    kwargs: dict[str, Any],
) -> None:
    """Draws the densities of one target."""
    # Lines and contours take the same options, but contours call some of them in the plural.
    plural = {"linestyle": "linestyles", "ls": "linestyles"}
    plural |= {"linewidth": "linewidths", "lw": "linewidths"}
    singular = {"linestyles": "linestyle", "linewidths": "linewidth"}
    line = {**style, **{singular.get(key, key): value for key, value in kwargs.items()}}
    contour = {plural.get(key, key): value for key, value in kwargs.items()}
    contour = {"linestyles": style.get("linestyle", "-"), **contour}
    for i, density in enumerate(marginals.single):
        (curve,) = axes[i, i].plot(marginals.points[i], density, label=name, **line)
        # All panels show the target in the colour that the first one took from its cycle.
        line["color"] = curve.get_color()
    for (i, j), density in marginals.pairs.items():
        heights = np.unique(marginals.contour_heights(i, j, levels))
        axes[j, i].contour(
            marginals.points[i],
            marginals.points[j],
            density.T,
            # A contour at the very peak would be empty.
            levels=np.unique(np.minimum(heights, density.max() * (1 - 1e-6))),
            colors=[line["color"]],
            **contour,
        )


def _label_edges(axes: np.ndarray, labels: Sequence[str]) -> None:
    """Hides the panels above the diagonal, and labels the outer edges of the others."""
    last = len(labels) - 1
    for row, column in product(range(len(labels)), repeat=2):
        panel = axes[row, column]
        if column > row:
            panel.axis("off")
            continue
        panel.tick_params(labelbottom=row == last)
        # Axes that have labels show the same parameters, perhaps under better names.
        if row == last and not panel.get_xlabel():
            panel.set_xlabel(labels[column])
        if column == row:
            # The height of a density tells nothing that its shape does not.
            panel.set_yticks([])
            panel.set_ylim(bottom=0)
        else:
            panel.tick_params(labelleft=column == 0)
            if column == 0 and not panel.get_ylabel():
                panel.set_ylabel(labels[row])


def _mark(axes: np.ndarray, known: np.ndarray) -> None:
    """Draws lines at the true parameters, `(p,)`."""
    for row in range(len(axes)):
        for column in range(row + 1):
            axes[row, column].axvline(known[column], **KNOWN)
            if column < row:
                axes[row, column].axhline(known[row], **KNOWN)


def _share_limits(axes: np.ndarray) -> None:
    """Makes all panels of a parameter show the whole range of what was drawn of it."""
    for i in range(len(axes)):
        low, high = axes[i, i].dataLim.intervalx
        for row in range(i, len(axes)):
            axes[row, i].set_xlim(low, high)
        for column in range(i):
            axes[i, column].set_ylim(low, high)
        axes[i, i].autoscale(axis="y")
        axes[i, i].set_ylim(bottom=0)


def _add_legend(axes: np.ndarray) -> None:
    """Names the targets in the empty corner, or in the only panel."""
    handles, names = axes[0, 0].get_legend_handles_labels()
    place = "upper right" if len(axes) > 1 else "best"
    legend = axes[0, -1].legend(handles, names, frameon=False, loc=place, fontsize="small")
    # Names may be wider than the empty corner without making its column wider.
    legend.set_in_layout(len(axes) == 1)
