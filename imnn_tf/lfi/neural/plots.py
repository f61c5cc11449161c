"""Figures of a training and of what it was trained on."""

from typing import Any

import numpy as np

from imnn_tf.lfi.plots.layout import FigureSize, grid_of_axes
from imnn_tf.lfi.plots.scatter import Cloud, scatter
from imnn_tf.utils import checks

# The curves of a history: its key, the label, and the colour.
_CURVES = (("loss", "training", "C0"), ("val_loss", "held out", "C1"))


def plot_training(history: Any, figsize: FigureSize) -> Any:
    """Draws the loss of each member of an ensemble against the epochs.

    Args:
        history: The history, with `loss` and perhaps `val_loss`, `(epochs,)` or
            `(epochs, members)`.
        figsize: Size of the figure in inches. `None` for 8 by 4.

    Returns:
        The axes.

    Raises:
        ValueError: If the history holds no `loss`.
    """
    if not hasattr(history, "keys") or "loss" not in history:
        raise ValueError(
            "`density_estimator` must return a history with `loss` for it to be plotted, got "
            f"{list(history) if hasattr(history, 'keys') else type(history).__name__}."
        )
    axes = grid_of_axes(None, (1, 1), figsize or (8, 4), 0, 0)[0, 0]
    for key, label, color in _CURVES:
        if key in history:
            curves = np.asarray(history[key], dtype=float)
            curves = curves.reshape(len(curves), -1)
            lines = axes.plot(np.arange(1, len(curves) + 1), curves, color=color, linewidth=1)
            lines[0].set_label(label)
    axes.set(xlabel="Epochs", ylabel="Mean of minus log density")
    axes.legend(frameon=False)
    return axes


def scatter_simulations(
    parameters: np.ndarray,
    estimates: np.ndarray,
    target: np.ndarray,
    labels: list[str],
    share: float,
    **drawing: Any,
) -> np.ndarray:
    """Scatters the summaries of simulations against their parameters.

    Args:
        parameters: Parameters, `(n, n_params)`.
        estimates: Summaries, `(n, n_summaries)`.
        target: The summaries of a target, `(n_summaries,)`, marked by lines.
        labels: Labels of the parameters.
        share: The share of the simulations to draw.
        **drawing: Options of `scatter`.

    Returns:
        The axes, `(n_params, n_params)`.

    Raises:
        ValueError: If there are not as many summaries as parameters, or no simulations.
    """
    step = int(1 / checks.real("share", share, above=0, maximum=1))
    if parameters.shape[1] != estimates.shape[1] or len(parameters) == 0:
        raise ValueError(
            "`get_estimate` must return one summary for each parameter, and there must be "
            f"simulations, for them to be drawn; got {len(parameters)} simulations with "
            f"{parameters.shape[1]} parameters and {estimates.shape[1]} summaries."
        )
    points = parameters[::step], estimates[::step]
    return scatter(
        [Cloud(*points, np.ones(len(points[0])))],
        [],
        xlabels=labels,
        ylabels=[f"Summary {i + 1}" for i in range(len(labels))],
        horizontal=target[np.newaxis],
        **drawing,
    )
