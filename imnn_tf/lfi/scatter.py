"""Scatter plots of accepted and rejected simulations."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.lfi.plotting import (
    KNOWN,
    as_grid_of_axes,
    new_axes,
    target_names,
    target_styles,
)
from imnn_tf.utils import checks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from imnn_tf.lfi.accepted import Accepted


# What is scattered against what: along the horizontal axis, along the vertical one.
MODES = ("parameter_estimate", "parameter_parameter", "estimate_estimate")


class Cloud(NamedTuple):
    """Points to scatter: `x` and `y`, `(n, p)` each, and weights, `(n,)`, shown as areas."""

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray


def scatter_simulations(
    axes: str,
    accepted: Sequence["Accepted"],
    rejected: Sequence[tuple[np.ndarray, np.ndarray]],
    centres: np.ndarray,
    labels: Sequence[str],
    **options: Any,
) -> np.ndarray:
    """Scatters parameters and estimates of simulations against each other.

    Args:
        axes: One of `MODES`.
        accepted: One for each target.
        rejected: Parameters and estimates, `(n, p)` each, for each target; or none.
        centres: Estimates of the targets, `(targets, p)`.
        labels: One for each parameter.
        **options: Passed on to `scatter`.

    Returns:
        The axes, `(p, p)`.

    """
    x, y = axes.split("_")

    def cloud(parameters: np.ndarray, estimates: np.ndarray, weights: np.ndarray) -> Cloud:
        points = {"parameter": parameters, "estimate": estimates}
        return Cloud(points[x], points[y], weights)

    names = {"parameter": labels, "estimate": [f"Estimate of {label}" for label in labels]}
    return scatter(
        [cloud(kept.parameters, kept.estimates, kept.weights) for kept in accepted],
        [cloud(*points, np.ones(len(points[0]))) for points in rejected],
        xlabels=names[x],
        ylabels=names[y],
        horizontal=centres if y == "estimate" else None,
        vertical=centres if x == "estimate" else None,
        pairs=x == y,
        **options,
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
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
    color: str | Sequence[str] | None = None,
    label: str | Sequence[str] | None = None,
    known: ArrayLike | None = None,
    wspace: float = 0.02,
    hspace: float = 0.02,
    **kwargs: Any,
) -> np.ndarray:
    """Scatters every column of `y` against every column of `x`.

    Args:
        accepted: One cloud for each target.
        rejected: One for each target, drawn in grey below them, or none.
        xlabels: One for each column of `x`.
        ylabels: One for each column of `y`.
        horizontal: Values of `y` to mark by dashed lines, `(targets, p)`: black with one target,
            else in the targets' colours.
        vertical: Values of `x` to mark so.
        pairs: Whether `x` and `y` are the same things, so that only the panels below the
            diagonal say something, and the diagonal shows histograms.
        ax: Axes to draw into, `(p, p)`; `None` makes a figure.
        figsize: Its size in inches.
        color: A colour, or one for each target; `None` continues the colour cycle.
        label: A name in the legend, or one for each target.
        known: True parameters, `(p,)`, drawn as dotted lines.
        wspace: Space between columns, as a share of their width, in a new figure.
        hspace: Space between rows, likewise.
        **kwargs: Passed on to Matplotlib's `scatter`.

    Returns:
        The axes, `(p, p)`.

    Raises:
        ValueError: If `ax` has another shape.
    """
    p = len(xlabels)
    axes = new_axes((p, p), figsize, wspace, hspace) if ax is None else ax
    axes = as_grid_of_axes(axes, (p, p))
    names = target_names(label or "Accepted", len(accepted))
    styles = target_styles(color, len(accepted))
    looks = [
        _Look(style.get("color") or _next_color(axes[-1, 0]), "o^sD"[i % 4 * (color is not None)])
        for i, style in enumerate(styles)
    ]
    grey = _Look("0.75", "o")
    lines = _Lines(horizontal, vertical, ["black"] if len(looks) == 1 else [c for c, _ in looks])
    truth = None if known is None else checks.array("known", known, shape=(p,), dtype=float)
    for row in range(p):
        for column in range(p):
            this = axes[row, column]
            if pairs and column > row:
                this.axis("off")
                continue
            diagonal = pairs and row == column
            _edge_labels(this, row, column, p, xlabels, ylabels, diagonal)
            draw = _histogram if diagonal else _points
            for cloud in rejected:
                draw(this, cloud, row, column, grey, kwargs)
            for cloud, look in zip(accepted, looks, strict=True):
                draw(this, cloud, row, column, look, kwargs)
            _mark(this, row, column, lines, truth, diagonal)
    entries = [("Rejected", grey)] if any(len(cloud.x) for cloud in rejected) else []
    entries += [(str(name), look) for name, look in zip(names, looks, strict=True)]
    _scatter_legend(axes, entries, pairs)
    return axes


class _Look(NamedTuple):
    color: Any
    marker: str


class _Lines(NamedTuple):
    horizontal: np.ndarray | None
    vertical: np.ndarray | None
    colors: list[Any]


def _mark(
    ax: "Axes", row: int, column: int, lines: _Lines, known: np.ndarray | None, diagonal: bool
) -> None:
    """Draws lines at the targets' estimates, and where the parameters are known to be."""
    style: dict[str, Any] = {"linestyle": "dashed", "linewidth": 1}
    if lines.horizontal is not None and not diagonal:
        for value, color in zip(lines.horizontal[:, row], lines.colors, strict=True):
            ax.axhline(value, color=color, **style)
    if lines.vertical is not None:
        for value, color in zip(lines.vertical[:, column], lines.colors, strict=True):
            ax.axvline(value, color=color, **style)
    if known is not None:
        ax.axvline(known[column], **{**KNOWN, "linestyle": "dotted"})
        if not diagonal:
            ax.axhline(known[row], **{**KNOWN, "linestyle": "dotted"})


def _points(
    ax: "Axes", cloud: Cloud, row: int, column: int, look: _Look, kwargs: dict[str, Any]
) -> None:
    if len(cloud.x) == 0:
        return
    sizes = 4 * cloud.weights / cloud.weights.mean()
    options = {"s": sizes, "linewidths": 0, "alpha": 0.7, "rasterized": True, **kwargs}
    options = {"color": look.color, "marker": look.marker, **options}
    ax.scatter(cloud.x[:, column], cloud.y[:, row], **options)


def _histogram(
    ax: "Axes", cloud: Cloud, row: int, column: int, look: _Look, kwargs: dict[str, Any]
) -> None:
    if len(cloud.x) == 0:
        return
    density, edges = np.histogram(cloud.x[:, column], 25, density=True, weights=cloud.weights)
    ax.stairs(density, edges, color=look.color)


def _edge_labels(
    ax: "Axes",
    row: int,
    column: int,
    p: int,
    xlabels: Sequence[str],
    ylabels: Sequence[str],
    diagonal: bool,
) -> None:
    """Labels and numbers stand at the outer edges only; histograms have no scale."""
    ax.tick_params(labelbottom=row == p - 1, labelleft=column == 0 and not diagonal)
    if diagonal:
        ax.tick_params(left=False)
    if row == p - 1:
        ax.set_xlabel(xlabels[column])
    if column == 0 and not diagonal:
        ax.set_ylabel(ylabels[row])


def _scatter_legend(axes: np.ndarray, entries: list[tuple[str, _Look]], pairs: bool) -> None:
    """Explains the clouds in the empty corner or, where there is none, above the panels."""
    from matplotlib.lines import Line2D

    handles: list[Any] = [
        Line2D([], [], color=color, marker=marker, markersize=5, linestyle="", label=name)
        for name, (color, marker) in entries
    ]
    corner = axes[0, -1]
    figure = corner.get_figure(root=True)
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
    for columns in range(len(handles) if home is figure else 1, 0, -1):
        legend = home.legend(handles=handles, frameon=False, ncols=columns, **place)
        if columns == 1 or legend.get_window_extent().width < figure.bbox.width:
            return
        legend.remove()


def _next_color(ax: "Axes") -> Any:
    """The next colour of the axes' cycle."""
    (line,) = ax.plot([], [])
    line.remove()
    return line.get_color()
