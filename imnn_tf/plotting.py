"""Plots of a fit."""

from typing import Any

import numpy as np

from imnn_tf.fit.history import History


def plot_history(
    history: History,
    *,
    regulariser: bool = True,
    known_det_fisher: float | None = None,
    figsize: tuple[float, float] | None = None,
) -> np.ndarray:
    """Plots what a fit recorded against its updates.

    Args:
        history: What was recorded, as in `IMNN.history`.
        regulariser: Whether to add the regulariser and its coupling to det F and det C.
        known_det_fisher: The exact determinant of the Fisher information, drawn as a line.
        figsize: Size of the figure in inches; fitted to the panels if left out.

    Returns:
        The axes, from top to bottom: det F; det C and det C⁻¹; the regulariser and its coupling.
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
    _plot_fisher(axes[0], history, known_det_fisher)
    _curve(axes[1], history, "det_C", r"$\det C$, training", color="C0")
    _curve(axes[1], history, "val_det_C", r"$\det C$, validation", color="C1")
    _curve(axes[1], history, "det_Cinv", r"$\det C^{-1}$, training", color="C0", linestyle=":")
    _curve(
        axes[1],
        history,
        "val_det_Cinv",
        r"$\det C^{-1}$, validation",
        color="C1",
        linestyle=":",
    )
    axes[1].axhline(1, color="black", linewidth=0.8, linestyle="--")
    axes[1].set(ylabel="determinant of covariance", yscale="log")
    _legend(axes[1], ncols=2)
    if regulariser:
        _plot_regulariser(axes[2], history)
    axes[-1].set_xlabel("updates")
    return axes


def _plot_fisher(axis: Any, history: History, known: float | None) -> None:
    _curve(axis, history, "det_F", "training", color="C0")
    _curve(axis, history, "val_det_F", "validation", color="C1")
    moves = history["θ_fid_iteration"]
    for number, move in enumerate(moves):
        label = None if number else r"$\theta_\mathrm{fid}$ moved"
        axis.axvline(move, color="grey", linewidth=0.8, label=label)
    score = history["val_det_F"] or history["det_F"]
    # What is recorded of the training set was measured before the update.
    updates = history["val_iteration"] if history["val_det_F"] else range(len(score))
    # The information at another fiducial point is another number.
    first = max(moves, default=0) + bool(history["val_det_F"])
    here = [pair for pair in zip(score, updates, strict=True) if pair[1] >= first]
    if here:
        at = here[int(np.nanargmax([value for value, _ in here]))][1]
        axis.axvline(at, color="grey", linewidth=0.8, linestyle=":", label="weights kept")
    if known is not None:
        axis.axhline(known, color="black", linewidth=0.8, linestyle="--", label="exact")
    axis.set_ylabel(r"$\det F$")
    _legend(axis)


def _plot_regulariser(axis: Any, history: History) -> None:
    _curve(axis, history, "reg", r"$\Lambda_2$, training", color="C0")
    _curve(axis, history, "val_reg", r"$\Lambda_2$, validation", color="C1")
    axis.set(ylabel=r"regulariser $\Lambda_2$", yscale="log")
    other = axis.twinx()
    _curve(other, history, "r", "$r$, training", color="C2", linestyle="--")
    other.set_ylabel("coupling $r$")
    other.set_ylim(bottom=0)
    _legend(axis, beside=other)


def _legend(axis: Any, *, beside: Any = None, ncols: int = 1) -> None:
    """A legend of the lines of an axis, and of one that shares its frame, if there are any."""
    lines = [*axis.get_lines(), *(beside.get_lines() if beside is not None else ())]
    named = [line for line in lines if not line.get_label().startswith("_")]
    if named:
        # On the axis drawn last, which would else cover it.
        (beside or axis).legend(handles=named, fontsize="small", ncols=ncols)


def _curve(axis: Any, history: History, key: str, label: str, **style: str) -> None:
    values = history[key]
    if not values:
        return
    updates = history["val_iteration"] if key.startswith("val_") else range(len(values))
    axis.plot(updates, values, label=label, **style)
