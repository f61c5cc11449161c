"""Plots of a fit."""

from typing import TYPE_CHECKING, Any

import numpy as np

from imnn_tf.fisher.evaluation import Evaluation
from imnn_tf.fit.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_history(
    history: History,
    *,
    regulariser: bool = True,
    known_det_fisher: float | None = None,
    figsize: tuple[float, float] | None = None,
    evaluation: Evaluation | None = None,
) -> np.ndarray:
    """Plots the history of a fit against the number of updates.

    Args:
        history: The history, as in `IMNN.history`.
        regulariser: Whether to add a panel with the regulariser and its coupling.
        known_det_fisher: The exact determinant of the Fisher information, drawn as a line; no line
            by default.
        figsize: Width and height of the figure in inches; by default 8 and 3 for each panel.
        evaluation: The information with its error, whose corrected det F is drawn as a band; no
            band by default.

    Returns:
        The axes from top to bottom, `[3]`, or `[2]` without the regulariser: det F; det C
        and det C⁻¹; the regulariser and its coupling.
    """
    import matplotlib.pyplot as plt

    n_panels = 3 if regulariser else 2
    _, axes = plt.subplots(
        n_panels,
        1,
        sharex=True,
        figsize=(8, 3 * n_panels) if figsize is None else figsize,
        layout="constrained",
    )
    if evaluation is not None and np.isfinite(evaluation.interval()).all():
        axes[0].axhspan(*evaluation.interval(), color="C2", alpha=0.2)
        centre = np.exp(evaluation.correction.log_det_fisher)
        axes[0].axhline(centre, color="C2", linewidth=0.8, label="without noise, 68 %")
    _plot_fisher(axes[0], history, known_det_fisher)
    _curve(axes[1], history, "det_C", r"$\det C$, training", color="C0")
    _curve(axes[1], history, "val_det_C", r"$\det C$, validation", color="C1")
    _curve(axes[1], history, "det_Cinv", r"$\det C^{-1}$, training", color="C0", linestyle=":")
    label = r"$\det C^{-1}$, validation"
    _curve(axes[1], history, "val_det_Cinv", label, color="C1", linestyle=":")
    axes[1].axhline(1, color="black", linewidth=0.8, linestyle="--")
    axes[1].set(ylabel="determinant of covariance", yscale="log")
    _legend(axes[1], ncols=2)
    if regulariser:
        _plot_regulariser(axes[2], history)
    axes[-1].set_xlabel("updates")
    return axes


def _plot_fisher(axis: "Axes", history: History, known_det_fisher: float | None) -> None:
    _curve(axis, history, "det_F", "training", color="C0")
    _curve(axis, history, "val_det_F", "validation", color="C1")
    moves = history["θ_fid_iteration"]
    for number, move in enumerate(moves):
        label = None if number else r"$\theta_\mathrm{fid}$ moved"
        axis.axvline(move, color="grey", linewidth=0.8, label=label)
    score = history["val_det_F"] or history["det_F"]
    # The training set is measured before an update, the validation set after it.
    updates = history["val_iteration"] if history["val_det_F"] else range(len(score))
    # The best weights are those since the last move: F depends on the fiducial point.
    first = max(moves, default=0) + bool(history["val_det_F"])
    candidates = [pair for pair in zip(score, updates, strict=True) if pair[1] >= first]
    if candidates:
        best = candidates[int(np.nanargmax([value for value, _ in candidates]))][1]
        axis.axvline(best, color="grey", linewidth=0.8, linestyle=":", label="weights kept")
    if known_det_fisher is not None:
        axis.axhline(known_det_fisher, color="black", linewidth=0.8, linestyle="--", label="exact")
    axis.set_ylabel(r"$\det F$")
    _legend(axis)


def _plot_regulariser(axis: "Axes", history: History) -> None:
    _curve(axis, history, "reg", r"$\Lambda_2$, training", color="C0")
    _curve(axis, history, "val_reg", r"$\Lambda_2$, validation", color="C1")
    axis.set(ylabel=r"regulariser $\Lambda_2$", yscale="log")
    other = axis.twinx()
    _curve(other, history, "r", "$r$, training", color="C2", linestyle="--")
    other.set_ylabel("coupling $r$")
    other.set_ylim(bottom=0)
    _legend(axis, other)


def _legend(*axes: "Axes", ncols: int = 1) -> None:
    """Adds a legend of all labelled lines of axes that share one frame, if there are any."""
    lines = [line for axis in axes for line in axis.get_lines()]
    labelled = [line for line in lines if not str(line.get_label()).startswith("_")]
    if labelled:
        # The lines of the last axis are drawn over the legends of the others.
        axes[-1].legend(handles=labelled, fontsize="small", ncols=ncols)


def _curve(axis: "Axes", history: History, key: str, label: str, **style: Any) -> None:
    """Plots one entry of the history against the updates, unless it is empty."""
    values = history[key]
    if values:
        updates = history["val_iteration"] if key.startswith("val_") else range(len(values))
        axis.plot(updates, values, label=label, **style)
