"""Scatter plots of accepted and rejected simulations."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from imnn_tf.lfi.plotting import as_grid_of_axes, new_axes, target_names, target_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Cloud(NamedTuple):
    """Points to scatter: `x` and `y`, `(n, p)` each, and weights, `(n,)`, shown as areas."""

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray


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
        horizontal: Values of `y` to mark by lines, `(targets, p)`.
        vertical: Values of `x` to mark by lines.
        pairs: Whether `x` and `y` are the same things, so that only the panels below the
            diagonal say something, and the diagonal shows histograms.
        ax: Axes to draw into, `(p, p)`; `None` makes a figure.
        figsize: Its size in inches.
        color: A colour, or one for each target; `None` continues the colour cycle.
        label: A name in the legend, or one for each target.
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
            marks = {"linestyle": "dashed", "color": "black", "linewidth": 1}
            for value in [] if horizontal is None or diagonal else horizontal[:, row]:
                this.axhline(value, **marks)
            for value in [] if vertical is None else vertical[:, column]:
                this.axvline(value, **marks)
    entries = [("Rejected", grey)] if any(len(cloud.x) for cloud in rejected) else []
    entries += [(str(name), look) for name, look in zip(names, looks, strict=True)]
    _scatter_legend(axes, entries, pairs)
    return axes


class _Look(NamedTuple):
    color: Any
    marker: str


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
        home, place = figure, {"loc": "outside upper center", "ncols": 4}
    known = [handle for old in olds for handle in old.legend_handles]
    for old in olds:
        old.remove()
    home.legend(handles=known + handles, frameon=False, **place)


def _next_color(ax: "Axes") -> Any:
    """The next colour of the axes' cycle."""
    (line,) = ax.plot([], [])
    line.remove()
    return line.get_color()
