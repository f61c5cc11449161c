"""Scatter plots of accepted and rejected simulations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

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
    root_figure,
    target_names,
    target_styles,
)
from imnn_tf.running.arguments import described
from imnn_tf.utils import checks

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Cloud(NamedTuple):
    """Points to scatter.

    Attributes:
        x: Coordinates along the horizontal axes, `(n, p)`.
        y: Coordinates along the vertical axes, `(n, p)`.
        weights: Weights, `(n,)`, shown as the areas of the points.
    """

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray


class _Look(NamedTuple):
    color: Any
    marker: str


class _Contents(NamedTuple):
    """What all panels show."""

    clouds: list[tuple[Cloud, _Look]]
    colors: list[Any]  # of the lines, one for each target
    horizontal: np.ndarray | None  # [targets, p]
    vertical: np.ndarray | None  # [targets, p]
    known: np.ndarray | None  # [p]


@described(
    accepted="One cloud for each target.",
    rejected="Clouds that are drawn in grey below the accepted ones: one for each target, or none.",
    xlabels="One label for each column of `x`.",
    ylabels="One label for each column of `y`.",
    horizontal="Values of `y` to mark by dashed lines, `(targets, p)`: black ones if there is one "
    "target, otherwise in the colours of the targets. `None` for none.",
    vertical="Values of `x` to mark in the same way, `(targets, p)`. `None` for none.",
    pairs="Whether `x` and `y` are the same quantities. Then panels above the diagonal are left "
    "out, and those on it show histograms.",
    ax="Axes to draw into, `(p, p)`. `None` for a new figure.",
    known="True parameters, `(p,)`, drawn as dotted lines. `None` for none.",
    kwargs="What Matplotlib's `scatter` takes, such as `s` and `alpha`.",
)
def scatter(
    accepted: Sequence[Cloud],
    rejected: Sequence[Cloud],
    *,
    xlabels: Sequence[str],
    ylabels: Sequence[str],
    horizontal: np.ndarray | None = None,
    vertical: np.ndarray | None = None,
    pairs: bool = False,
    ax: AxesLike = None,
    figsize: FigureSize = None,
    color: Color | Sequence[Color] | None = None,
    label: Label = None,
    known: ArrayLike | None = None,
    wspace: float = 0.02,
    hspace: float = 0.02,
    **kwargs: Any,
) -> np.ndarray:
    """Scatters every column of `y` against every column of `x`, `p` by `p` panels.

    Returns:
        The axes, `(p, p)`.

    Raises:
        ValueError: If `ax` has another shape, or a colour or label is missing.
    """
    p = len(xlabels)
    axes = grid_of_axes(ax, (p, p), figsize, wspace, hspace)
    names = target_names(label or "Accepted", len(accepted))
    looks = _looks(color, len(accepted), axes[-1, 0])
    grey = _Look("0.75", "o")
    clouds = [(cloud, grey) for cloud in rejected] + list(zip(accepted, looks, strict=True))
    colors = ["black"] if len(looks) == 1 else [look.color for look in looks]
    truth = None if known is None else checks.array("known", known, shape=(p,), dtype=float)
    contents = _Contents(clouds, colors, horizontal, vertical, truth)
    for row, column in product(range(p), repeat=2):
        panel, diagonal = axes[row, column], pairs and row == column
        if pairs and column > row:
            panel.axis("off")
            continue
        _label_edges(panel, row, column, xlabels, ylabels, diagonal)
        _draw_panel(panel, row, column, diagonal, contents, kwargs)
    entries = [("Rejected", grey)] if any(len(cloud.x) for cloud in rejected) else []
    entries += [(str(name), look) for name, look in zip(names, looks, strict=True)]
    _add_legend(axes, entries, pairs)
    return axes


def try_scatter(n_params: int, targets: int, **options: Any) -> None:
    """Raises what `scatter` would raise because of its options, in a figure that nobody sees.

    Args:
        n_params: The number of parameters.
        targets: The number of targets that would be drawn.
        **options: Keywords of `scatter`, without labels and values of the axes.
    """
    check_axes(n_params, options)
    cloud = Cloud(np.zeros((1, 1)), np.zeros((1, 1)), np.ones(1))
    scatter([cloud] * targets, [], xlabels=[""], ylabels=[""], ax=hidden_axes(1), **options)


def _looks(color: Color | Sequence[Color] | None, targets: int, panel: Axes) -> list[_Look]:
    """Colour and marker of each target; targets of one colour get markers of their own."""
    looks = []
    for i, style in enumerate(target_styles(color, targets)):
        if "color" not in style:
            (line,) = panel.plot([], [])  # takes the next colour of the cycle
            line.remove()
            style["color"] = line.get_color()
        looks.append(_Look(style["color"], "o^sD"[i % 4 * (color is not None)]))
    return looks


def _draw_panel(
    panel: Axes,
    row: int,
    column: int,
    diagonal: bool,
    contents: _Contents,
    kwargs: dict[str, Any],
) -> None:
    """Draws clouds as points, or on the diagonal as histograms, and the lines over them."""
    for cloud, look in contents.clouds:
        if len(cloud.x) == 0:
            continue
        if diagonal:
            density, edges = np.histogram(
                cloud.x[:, column], 25, density=True, weights=cloud.weights
            )
            panel.stairs(density, edges, color=look.color)
            continue
        sizes = 4 * cloud.weights / cloud.weights.mean()
        options = {"s": sizes, "linewidths": 0, "alpha": 0.7, "rasterized": True, **kwargs}
        options = {"color": look.color, "marker": look.marker, **options}
        panel.scatter(cloud.x[:, column], cloud.y[:, row], **options)
    if contents.horizontal is not None and not diagonal:
        for y, color in zip(contents.horizontal[:, row], contents.colors, strict=True):
            panel.axhline(y, color=color, linestyle="dashed", linewidth=1)
    if contents.vertical is not None:
        for x, color in zip(contents.vertical[:, column], contents.colors, strict=True):
            panel.axvline(x, color=color, linestyle="dashed", linewidth=1)
    if contents.known is not None:
        panel.axvline(contents.known[column], **{**KNOWN, "linestyle": "dotted"})
        if not diagonal:
            panel.axhline(contents.known[row], **{**KNOWN, "linestyle": "dotted"})


def _label_edges(
    panel: Axes,
    row: int,
    column: int,
    xlabels: Sequence[str],
    ylabels: Sequence[str],
    diagonal: bool,
) -> None:
    """Labels the outer edges of the figure. Histograms have no vertical scale."""
    last = len(xlabels) - 1
    panel.tick_params(labelbottom=row == last, labelleft=column == 0 and not diagonal)
    if diagonal:
        panel.tick_params(left=False)
    if row == last:
        panel.set_xlabel(xlabels[column])
    if column == 0 and not diagonal:
        panel.set_ylabel(ylabels[row])


def _add_legend(axes: np.ndarray, entries: list[tuple[str, _Look]], pairs: bool) -> None:
    """Names the clouds in the empty corner or, where there is none, above the panels."""
    from matplotlib.lines import Line2D

    handles: list[Any] = [
        Line2D([], [], color=color, marker=marker, markersize=5, linestyle="", label=name)
        for name, (color, marker) in entries
    ]
    corner = axes[0, -1]
    figure = root_figure(corner)
    if (pairs and len(axes) > 1) or not figure.get_constrained_layout():
        olds = [corner.get_legend()] if corner.get_legend() else []
        home: Any = corner
        place: dict[str, Any] = {"loc": "upper right"}
    else:
        olds = list(figure.legends)
        home, place = figure, {"loc": "outside upper center"}
    handles = [handle for old in olds for handle in old.legend_handles] + handles
    for old in olds:
        old.remove()
    # As many columns as fit the width of the figure.
    for columns in range(len(handles) if home is figure else 1, 0, -1):
        legend = home.legend(handles=handles, frameon=False, ncols=columns, **place)
        if columns == 1 or legend.get_window_extent().width < figure.bbox.width:
            return
        legend.remove()
