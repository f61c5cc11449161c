"""Plots of trajectories and reconstructions, in one and two dimensions."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from imnn_tf.utils import checks
from imnn_tf.utils.types import Numbers


def plot_trajectory(
    trajectory: Numbers | Mapping[str, Numbers],
    *,
    truth: Numbers | Mapping[str, Numbers] = None,
    example: int = 0,
    channel: int = 0,
    axes: Sequence[Axes] | None = None,
) -> np.ndarray:
    """Draws the steps of one example.

    In one dimension the steps are lines in a single panel, and later steps are darker. In two
    dimensions each step is an image, and the truth is the last image.

    Args:
        trajectory: What `RIM.predict(..., trajectory=True)` returns: `[batch, T, *sizes, channels]`
            with one or two sizes, or a dictionary of such arrays by field, which are all drawn.
        truth: The true parameters, `[batch, *sizes, channels]`, or a dictionary of such arrays by
            field. Defaults to `None`, not drawn.
        example: The number of the example in the batch. Defaults to 0.
        channel: The number of the channel. Defaults to 0.
        axes: The Matplotlib axes to draw into, for a single field: one in one dimension; one for
            each step and one for the truth in two. Defaults to `None`, new ones.

    Returns:
        The axes, `[panels]`, or `[fields, panels]`.

    Raises:
        TypeError: If an array does not hold real numbers.
        ValueError: If there are not one or two dimensions, or if there are too few axes.
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
    truth: Numbers,
    data: Numbers,
    reconstruction: Numbers,
    *,
    example: int = 0,
    channel: int = 0,
    axes: Sequence[Axes] | None = None,
) -> np.ndarray:
    """Draws truth, data, reconstruction and residual (reconstruction minus truth) of one example.

    Args:
        truth: The true parameters, `[batch, *sizes, channels]` with one or two sizes.
        data: The observation, `[batch, *sizes]` or `[batch, *sizes, channels]`, with as many sizes
            as the truth, which may differ from the truth's.
        reconstruction: The estimate, `[batch, *sizes, channels]`, of the sizes of the truth.
        example: The number of the example in the batch. Defaults to 0.
        channel: The number of the channel. Data with fewer channels show their last. Defaults
            to 0.
        axes: Four Matplotlib axes to draw into. Defaults to `None`, new ones.

    Returns:
        The axes, `[4]`.

    Raises:
        TypeError: If an array does not hold real numbers.
        ValueError: If truth and reconstruction differ in shape, if there are not one or two
            dimensions, or if there are too few axes.
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
        # Truth and reconstruction share a scale. Data have another unit, residuals are smaller.
        _recolour(drawn[1], panels["data"])
        _recolour(drawn[3], panels["residual"], symmetric=True)
        return drawn
    drawn = _new_axes(len(panels), axes)
    for axis, (name, line) in zip(drawn, panels.items(), strict=True):
        axis.plot(line, color="k")
        axis.set_title(name)
        axis.set_xlabel("index")
    return drawn


def _pick(name: str, values: Numbers, example: int, channel: int) -> np.ndarray:
    """One channel of one example, `[*sizes]` or `[T, *sizes]`."""
    array = checks.array(name, values, finite=False)
    if array.ndim < 3:
        raise ValueError(f"`{name}` must have a batch, sizes and channels, got {array.shape}.")
    if not 0 <= checks.integer("example", example) < len(array):
        raise ValueError(f"`example` must be one of the batch of {len(array)}, got {example}.")
    if not 0 <= checks.integer("channel", channel) < array.shape[-1]:
        raise ValueError(f"`channel` must be one of {array.shape[-1]}, got {channel}.")
    return array[example, ..., channel]


def _new_axes(count: int, axes: Sequence[Axes] | None) -> np.ndarray:
    """The first `count` of the axes given, or new ones."""
    if axes is None:
        size = (2.6 * count + 1, 2.8)
        new = plt.subplots(1, count, figsize=size, squeeze=False, layout="constrained")[1]
    result = np.asarray(new if axes is None else axes, dtype=object).reshape(-1)
    if len(result) < count:
        raise ValueError(f"`axes` must be {count} or more, got {len(result)}.")
    return result[:count]


def _draw_lines(
    steps: np.ndarray, target: np.ndarray | None, axes: Sequence[Axes] | None
) -> np.ndarray:
    drawn = _new_axes(1, axes)
    # The last step comes first and has the darkest shade. The lightest shades are left out,
    # because they would be hard to see on white.
    shades = plt.get_cmap("viridis")(np.linspace(0.0, 0.95, len(steps)))
    for number, (step, shade) in enumerate(zip(steps[::-1], shades, strict=True)):
        ends = number in (0, len(steps) - 1)  # a legend of all steps would hide the lines
        drawn[0].plot(step, color=shade, label=f"step {len(steps) - number}" if ends else None)
    if target is not None:
        drawn[0].plot(target, "k--", label="truth")
    drawn[0].set_xlabel("index")
    drawn[0].legend()
    return drawn


def _draw_images(
    images: Mapping[str, np.ndarray], axes: Sequence[Axes] | None, limits: tuple[float, float]
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
    """Gives a panel its own colour scale, with a colour bar."""
    low, high = _limits([image])
    if symmetric:
        high = max(-low, high)
        low = -high
        axis.images[0].set_cmap("RdBu_r")
    axis.images[0].set_clim(low, high)
    axis.figure.colorbar(axis.images[0], ax=axis, shrink=0.8)
