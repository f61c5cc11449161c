"""Triangles of marginal densities, and what all figures of inference are laid out with.

Nothing else here imports pyplot.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter

from imnn_tf.lfi.density import Marginals, hpd_levels
from imnn_tf.utils import checks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVELS = (0.68, 0.95, 0.99)
# How lines look that mark known parameters.
KNOWN: dict[str, Any] = {"color": "black", "linestyle": "dashed", "linewidth": 0.8}


def triangle(
    marginals: Sequence[Marginals],
    *,
    labels: Sequence[str],
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
    color: str | Sequence[str] | None = None,
    label: str | Sequence[str] | None = None,
    levels: float | Sequence[float] = LEVELS,
    smoothing: float | None = None,
    known: ArrayLike | None = None,
    wspace: float = 0.02,
    hspace: float = 0.02,
    **kwargs: Any,
) -> np.ndarray:
    """Draws marginal densities: single parameters on the diagonal, pairs below it.

    Args:
        marginals: One for each target, computed here or elsewhere.
        labels: One for each parameter; axes that have labels keep theirs.
        ax: Axes of an earlier triangle to draw into, `(p, p)`; `None` makes a figure.
        figsize: Its size in inches, by default 2.5 for each parameter and at least 5.
        color: A colour, or one for each target; `None` continues the colour cycle.
        label: A name in the legend, or one for each target. Several targets given no name
            are numbered.
        levels: Shares of the probability that the contours enclose.
        smoothing: Width of a Gaussian smoothing in cells, which widens a posterior;
            `None` for none.
        known: True parameters, `(n_params,)`, drawn as dashed lines.
        wspace: Space between columns, as a share of their width, in a new figure.
        hspace: Space between rows, likewise.
        **kwargs: Passed on to `plot` and `contour`, such as `linestyles`, `alpha`.

    Returns:
        The axes, an array `(p, p)`.

    Raises:
        ValueError: If `ax` has another shape, marginals are of more or fewer parameters than
            there are labels, or a colour or label is missing.
    """
    n_params = len(labels)
    for each in marginals:
        if len(each.points) != n_params:
            raise ValueError(
                f"`marginals` must be of {n_params} parameters each, got {len(each.points)}."
            )
    axes = _triangle_axes(n_params, labels, ax, figsize, wspace, hspace)
    names = target_names(label, len(marginals))
    styles = target_styles(color, len(marginals))
    line, contour = _split(kwargs)
    for this, name, style in zip(marginals, names, styles, strict=True):
        this = _smoothed(this, smoothing)
        for i in range(n_params):
            drawn = axes[i, i].plot(this.points[i], this.single[i], label=name, **{**style, **line})
            style["color"] = drawn[0].get_color()
        for (i, j), density in this.pairs.items():
            heights = np.unique(hpd_levels(density, levels, [this.widths[i], this.widths[j]]))
            axes[j, i].contour(
                this.points[i],
                this.points[j],
                density.T,
                # A contour at the very peak would be empty.
                levels=np.unique(np.minimum(heights, density.max() * (1 - 1e-6))),
                colors=[style["color"]],
                **{"linestyles": style.get("linestyle", "-"), **contour},
            )
    if known is not None:
        _mark(axes, checks.array("known", known, shape=(n_params,), dtype=float))
    _limits(axes)
    if any(names):
        _legend(axes)
    return axes


def matrix(
    values: np.ndarray,
    *,
    labels: Sequence[str],
    title: str,
    ax: "Axes | None" = None,
    figsize: tuple[float, float] | None = None,
    save: str | None = None,
) -> "Axes":
    """Shows a symmetric matrix as an image, the first row at the top.

    Args:
        values: The matrix, `(p, p)`.
        labels: One for each row and column.
        title: Above the image.
        ax: Where to draw; `None` makes a figure.
        figsize: Its size in inches.
        save: File to save the figure to.

    Returns:
        The axes drawn on.
    """
    import matplotlib.pyplot as plt

    if ax is None:
        ax = plt.subplots(figsize=figsize, layout="constrained")[1]
    image = ax.imshow(values)
    ticks = np.arange(len(labels))
    ax.set_xticks(ticks, labels=labels)
    ax.set_yticks(ticks, labels=labels)
    ax.set_title(title, wrap=True)
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.colorbar(image, ax=ax, fraction=0.046, pad=0.04)
    if save is not None:
        figure.savefig(save, bbox_inches="tight", transparent=True)
    return ax


def as_grid_of_axes(ax: Any, shape: tuple[int, int]) -> np.ndarray:
    """What a user passed as `ax`, as an array of axes.

    Raises:
        ValueError: If it has another shape.
    """
    axes = np.asarray(ax, dtype=object)
    if axes.ndim == 0 and shape == (1, 1):
        axes = axes.reshape(1, 1)
    if axes.shape != shape:
        raise ValueError(f"`ax` must be an array of axes of shape {shape}, got {axes.shape}.")
    return axes


def new_axes(
    shape: tuple[int, int],
    figsize: tuple[float, float] | None,
    wspace: float,
    hspace: float,
) -> np.ndarray:
    """A new figure of several axes, laid out so that nothing is cut off."""
    import matplotlib.pyplot as plt

    rows, columns = shape
    size = figsize or (max(5.0, 2.5 * columns), max(5.0 if rows > 1 else 3.5, 2.5 * rows))
    figure = plt.figure(figsize=size)
    figure.set_layout_engine("constrained", wspace=wspace, hspace=hspace)
    return figure.subplots(rows, columns, squeeze=False)


def _triangle_axes(
    n_params: int,
    labels: Sequence[str],
    ax: Any,
    figsize: tuple[float, float] | None,
    wspace: float,
    hspace: float,
) -> np.ndarray:
    shape = (n_params, n_params)
    new = ax is None
    axes = new_axes(shape, figsize, wspace, hspace) if new else as_grid_of_axes(ax, shape)
    for row in range(n_params):
        for column in range(n_params):
            this = axes[row, column]
            if column > row:
                this.axis("off")
                continue
            this.tick_params(labelbottom=row == n_params - 1)
            # Whatever is drawn into axes that have labels is of the same parameters.
            if row == n_params - 1 and not this.get_xlabel():
                this.set_xlabel(labels[column])
            if column == row:
                # A density's height tells nothing that its shape does not.
                this.set_yticks([])
                this.set_ylim(bottom=0)
            else:
                this.tick_params(labelleft=column == 0)
                if column == 0 and not this.get_ylabel():
                    this.set_ylabel(labels[row])
    return axes


def _mark(axes: np.ndarray, known: np.ndarray) -> None:
    """Draws lines where the parameters are known to be."""
    for row in range(len(axes)):
        for column in range(row + 1):
            axes[row, column].axvline(known[column], **KNOWN)
            if column < row:
                axes[row, column].axhline(known[row], **KNOWN)


def _limits(axes: np.ndarray) -> None:
    """Every column and row shows the whole range of all that was drawn in it."""
    for i in range(len(axes)):
        low, high = axes[i, i].dataLim.intervalx
        for row in range(i, len(axes)):
            axes[row, i].set_xlim(low, high)
        for column in range(i):
            axes[i, column].set_ylim(low, high)
        axes[i, i].autoscale(axis="y")
        axes[i, i].set_ylim(bottom=0)


def _legend(axes: np.ndarray) -> None:
    """Named curves are explained in the empty corner, or beside the only curve."""
    handles, names = axes[0, 0].get_legend_handles_labels()
    corner = axes[0, -1]
    place = "upper right" if len(axes) > 1 else "best"
    legend = corner.legend(handles, names, frameon=False, loc=place, fontsize="small")
    # The corner is empty: names may be wider than it, and the columns stay of one width.
    legend.set_in_layout(len(axes) == 1)


def target_names(label: str | Sequence[str] | None, targets: int) -> list[str | None]:
    """A name in the legend for each target; several given one name or none are numbered."""
    if targets == 1 and (label is None or isinstance(label, str)):
        return [label]
    if label is None or isinstance(label, str):
        return [f"{label or 'Target'} {i + 1}" for i in range(targets)]
    return list(checks.strings("label", label, targets) or ())


def target_styles(color: Any, targets: int) -> list[dict[str, Any]]:
    """How each target's curves look: by colour, or by dashes where one colour is given."""
    if color is None:
        return [{} for _ in range(targets)]
    if isinstance(color, str) or all(isinstance(part, int | float) for part in color):
        dashes = ["-", "--", ":", "-."]
        return [{"color": color, "linestyle": dashes[i % 4]} for i in range(targets)]
    if len(color) != targets:
        raise ValueError(f"`color` must have {targets} entries, got {len(color)}: {color}.")
    return [{"color": this} for this in color]


def _split(kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same keywords for lines and, by their names there, for contours."""
    plural = {"linestyle": "linestyles", "ls": "linestyles"}
    plural |= {"linewidth": "linewidths", "lw": "linewidths"}
    singular = {"linestyles": "linestyle", "linewidths": "linewidth"}
    line = {singular.get(key, key): value for key, value in kwargs.items()}
    contour = {plural.get(key, key): value for key, value in kwargs.items()}
    return line, contour


def _smoothed(marginals: Marginals, smoothing: float | None) -> Marginals:
    if smoothing is None:
        return marginals
    sigma = checks.real("smoothing", smoothing, above=0)
    single = [gaussian_filter(density, sigma, mode="nearest") for density in marginals.single]
    pairs = {
        pair: gaussian_filter(density, sigma, mode="nearest")
        for pair, density in marginals.pairs.items()
    }
    return marginals._replace(single=single, pairs=pairs)
