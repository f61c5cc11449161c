"""What the figures have in common: new axes, and how targets are named and told apart."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from imnn_tf.utils import checks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# One or several of Matplotlib's axes, as a user passes them.
AxesLike: TypeAlias = Any
# A colour as Matplotlib takes it: a name, or numbers.
Color: TypeAlias = str | Sequence[float]
Label: TypeAlias = str | Sequence[str] | None
FigureSize: TypeAlias = tuple[float, float] | None

# How the lines look that mark true parameters.
KNOWN: dict[str, Any] = {"color": "black", "linestyle": "dashed", "linewidth": 0.8}


def root_figure(axes: "Axes") -> "Figure":
    """The whole figure that axes are in, perhaps within a part of it.

    Args:
        axes: The axes.
    """
    # What is a part of a figure names the whole one too. `get_figure(root=True)` says the same,
    # but not in Matplotlib 3.9.
    return axes.figure.figure


def grid_of_axes(
    ax: AxesLike,
    shape: tuple[int, int],
    figsize: FigureSize = None,
    wspace: float = 0.02,
    hspace: float = 0.02,
) -> np.ndarray:
    """The axes that a user passed, or those of a new figure.

    Args:
        ax: Axes of that shape; for `(1, 1)` also a single one. `None` makes a figure.
        shape: The numbers of rows and columns.
        figsize: Size of a new figure in inches. `None` for 2.5 for each row and column, at least
            5, or 3.5 in height if there is one row.
        wspace: Space between the columns of a new figure, as a share of their width.
        hspace: Space between the rows of a new figure, as a share of their height.

    Returns:
        The axes, an array of that shape.

    Raises:
        ValueError: If `ax` has another shape.
    """
    if ax is not None:
        axes = np.asarray(ax, dtype=object)
        if axes.ndim == 0 and shape == (1, 1):
            axes = axes.reshape(1, 1)
        if axes.shape != shape:
            raise ValueError(f"`ax` must be an array of axes of shape {shape}, got {axes.shape}.")
        return axes
    import matplotlib.pyplot as plt

    rows, columns = shape
    size = figsize or (max(5.0, 2.5 * columns), max(5.0 if rows > 1 else 3.5, 2.5 * rows))
    figure = plt.figure(figsize=size)
    # This engine leaves room for labels and legends, so that nothing is cut off.
    figure.set_layout_engine("constrained", wspace=wspace, hspace=hspace)
    return figure.subplots(rows, columns, squeeze=False)


def check_axes(n_params: int, options: dict[str, Any]) -> None:
    """Checks the options `ax`, `known` and `figsize` of a figure, and removes them.

    Args:
        n_params: The number of parameters.
        options: Options of a figure of `(n_params, n_params)` axes.
    """
    ax, known = options.pop("ax", None), options.pop("known", None)
    size = options.pop("figsize", None)
    if ax is not None:
        grid_of_axes(ax, (n_params, n_params))
    if known is not None:
        checks.array("known", known, shape=(n_params,), dtype=float)
    if size is not None:
        checks.array("figsize", size, shape=(2,), dtype=float)


def hidden_axes(n: int) -> np.ndarray:
    """Axes, `(n, n)`, of a figure that is neither shown nor kept."""
    from matplotlib.figure import Figure

    return Figure().subplots(n, n, squeeze=False)


def target_names(label: Label, targets: int) -> list[str | None]:
    """A name in the legend for each target; several with one name or none are numbered."""
    if targets == 1 and (label is None or isinstance(label, str)):
        return [label]
    if label is None or isinstance(label, str):
        return [f"{label or 'Target'} {i + 1}" for i in range(targets)]
    return list(checks.strings("label", label, targets) or ())


def target_styles(color: Color | Sequence[Color] | None, targets: int) -> list[dict[str, Any]]:
    """Line styles for each target: colours, or dashes if they share one colour."""
    if color is None:
        return [{} for _ in range(targets)]
    if isinstance(color, str) or all(isinstance(part, int | float) for part in color):
        dashes = ["-", "--", ":", "-."]
        return [{"color": color, "linestyle": dashes[i % 4]} for i in range(targets)]
    if len(color) != targets:
        raise ValueError(f"`color` must have {targets} entries, got {len(color)}: {color}.")
    return [{"color": each} for each in color]
