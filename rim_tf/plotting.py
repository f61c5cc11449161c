"""Pictures of trajectories and reconstructions, in one and two dimensions."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from imnn_tf.utils import checks


def plot_trajectory(
    trajectory: Any,
    *,
    truth: Any = None,
    example: int = 0,
    channel: int = 0,
    axes: Sequence[Axes] | None = None,
) -> np.ndarray:
    """Draws the steps of one example.

    In one dimension the steps are lines that darken with time in a single panel; in two each
    step is an image, the truth the last.

    Args:
        trajectory: `(batch, T, *sizes, channels)` with one or two sizes, or a dictionary of
            those by field, of which each is drawn: as `RIM.predict(..., trajectory=True)`
            returns.
        truth: `(batch, *sizes, channels)`, or a dictionary of those.
        example: Which example of the batch.
        channel: Which channel.
        axes: Where to draw, for a single field: one in one dimension; in two, one for each
            step and the truth. New ones when `None`.

    Returns:
        The axes, `(panels,)`, or `(fields, panels)`.

    Raises:
        TypeError: If an array does not hold real numbers.
        ValueError: If there are no or more than two dimensions, or too few axes.
    """
    if isinstance(trajectory, Mapping):
        rows = [
            plot_trajectory(
                steps,
                truth=None if truth is None else truth[name],
                example=example,
                channel=channel,
            )
            for name, steps in trajectory.items()
        ]
        for name, row in zip(trajectory, rows, strict=True):
            row[0].set_ylabel(name)
        return np.stack(rows)
    steps = _pick("trajectory", trajectory, example, channel)
    target = None if truth is None else _pick("truth", truth, example, channel)
    if target is not None and target.shape != steps.shape[1:]:
        raise ValueError(
            f"`truth` must have the sizes of a step, {steps.shape[1:]}, got {target.shape}."
        )
    if steps.ndim == 2:
        return _draw_lines(steps, target, axes)
    if steps.ndim != 3:
        raise ValueError(
            f"`trajectory` must have one or two dimensions, got shape {np.shape(trajectory)}."
        )
    images = {f"step {k + 1}": step for k, step in enumerate(steps)}
    if target is not None:
        images["truth"] = target
    limits = _limits(list(images.values()) if target is None else [target])
    return _draw_images(images, axes, limits)


def plot_reconstruction(
    truth: Any,
    data: Any,
    reconstruction: Any,
    *,
    example: int = 0,
    channel: int = 0,
    axes: Sequence[Axes] | None = None,
) -> np.ndarray:
    """Draws truth, data, reconstruction and their difference for one example.

    Args:
        truth: `(batch, *sizes, channels)` with one or two sizes.
        data: `(batch, *sizes)` or `(batch, *sizes, channels)`, with as many sizes; they need
            not be the truth's.
        reconstruction: As `truth`.
        example: Which example of the batch.
        channel: Which channel.
        axes: Four to draw into; new ones when `None`.

    Returns:
        The axes, `(4,)`.

    Raises:
        TypeError: If an array does not hold real numbers.
        ValueError: If dimensions differ, are none or more than two, or axes too few.
    """
    target = _pick("truth", truth, example, channel)
    estimate = _pick("reconstruction", reconstruction, example, channel)
    if estimate.shape != target.shape or target.ndim not in (1, 2):
        raise ValueError(
            "`reconstruction` must have the one or two dimensions of `truth`, "
            f"got {np.shape(reconstruction)} and {np.shape(truth)}."
        )
    seen = checks.array("data", data)
    if seen.ndim == target.ndim + 1:
        seen = seen[..., np.newaxis]
    panels = {
        "truth": target,
        "data": _pick("data", seen, example, min(channel, seen.shape[-1] - 1)),
        "reconstruction": estimate,
        "residual": estimate - target,
    }
    if target.ndim == 2:
        drawn = _draw_images(panels, axes, _limits([target]))
        _recolour(drawn[1], panels["data"])
        _recolour(drawn[3], panels["residual"], symmetric=True)
        return drawn
    drawn = _new_axes(len(panels), axes)
    for axis, (name, line) in zip(drawn, panels.items(), strict=True):
        axis.plot(line, color="k")
        axis.set_title(name)
        axis.set_xlabel("index")
    return drawn


def _pick(name: str, values: Any, example: int, channel: int) -> np.ndarray:
    array = checks.array(name, values, finite=False)
    if array.ndim < 3:
        raise ValueError(f"`{name}` must have a batch, sizes and channels, got {array.shape}.")
    if not 0 <= checks.integer("example", example) < len(array):
        raise ValueError(f"`example` must be one of the batch of {len(array)}, got {example}.")
    if not 0 <= checks.integer("channel", channel) < array.shape[-1]:
        raise ValueError(f"`channel` must be one of {array.shape[-1]}, got {channel}.")
    return array[example, ..., channel]


def _new_axes(count: int, axes: Any) -> np.ndarray:
    if axes is None:
        _, axes = plt.subplots(
            1, count, figsize=(2.6 * count + 1, 2.8), squeeze=False, layout="constrained"
        )
    result = np.asarray(axes, dtype=object).reshape(-1)
    if len(result) < count:
        raise ValueError(f"`axes` must be {count} or more, got {len(result)}.")
    return result[:count]


def _draw_lines(steps: np.ndarray, target: np.ndarray | None, axes: Any) -> np.ndarray:
    drawn = _new_axes(1, axes)
    shades = plt.get_cmap("viridis")(np.linspace(0.0, 0.95, len(steps)))
    for number, (step, shade) in enumerate(zip(steps[::-1], shades, strict=True)):
        ends = number in (0, len(steps) - 1)
        drawn[0].plot(step, color=shade, label=f"step {len(steps) - number}" if ends else None)
    if target is not None:
        drawn[0].plot(target, "k--", label="truth")
    drawn[0].set_xlabel("index")
    drawn[0].legend()
    return drawn


def _draw_images(
    images: Mapping[str, np.ndarray], axes: Any, limits: tuple[float, float]
) -> np.ndarray:
    drawn = _new_axes(len(images), axes)
    for axis, (name, image) in zip(drawn, images.items(), strict=True):
        axis.imshow(image, vmin=limits[0], vmax=limits[1], cmap="gray")
        axis.set_title(name)
        axis.set_xticks([])
        axis.set_yticks([])
    return drawn


def _limits(images: Sequence[np.ndarray]) -> tuple[float, float]:
    return (
        float(min(np.nanmin(image) for image in images)),
        float(max(np.nanmax(image) for image in images)),
    )


def _recolour(axis: Axes, image: np.ndarray, *, symmetric: bool = False) -> None:
    """Gives a panel a scale of its own, shown beside it."""
    low, high = _limits([image])
    if symmetric:
        high = max(-low, high)
        low = -high
        axis.images[0].set_cmap("RdBu_r")
    axis.images[0].set_clim(low, high)
    axis.figure.colorbar(axis.images[0], ax=axis, shrink=0.8)
