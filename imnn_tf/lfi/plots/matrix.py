"""Matrices as images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imnn_tf.lfi.plots.layout import FigureSize

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def matrix(
    values: np.ndarray,
    *,
    labels: Sequence[str],
    title: str,
    ax: "Axes | None" = None,
    figsize: FigureSize = None,
    save: str | None = None,
) -> "Axes":
    """Shows a symmetric matrix as an image, with the first row at the top.

    Args:
        values: The matrix, `(p, p)`.
        labels: One label for each row and column.
        title: The title above the image.
        ax: Axes to draw into. `None` for a new figure.
        figsize: Size of a new figure in inches. `None` for Matplotlib's default.
        save: Name of a file to save the figure to. `None` saves nothing.

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
