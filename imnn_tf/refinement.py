"""Refitting at the estimate, so that the fiducial point goes to where the data are."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from imnn_tf import information
from imnn_tf.imnn import IMNN
from imnn_tf.utils import checks, display
from imnn_tf.utils.interrupt import deferred_interrupt
from imnn_tf.utils.types import Numbers

logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Refinement(display.Shown):
    """The result of `refine`, with one entry for each fiducial point that it fitted at.

    Attributes:
        fiducials: The fiducial points, `[n_steps, n_params]`.
        estimates: The estimates from the target, `[n_steps, n_params]`. They may be out of bounds.
        fishers: The Fisher information of all simulations in the target,
            `[n_steps, n_params, n_params]`.
        fisher_stds: The error of each of its elements, `[n_steps, n_params, n_params]`.
        distances: The distance from each fiducial point to the estimate, or to the nearest values
            within the bounds, in standard deviations of the estimate, `[n_steps]`.
        converged: Whether the last distance is within the tolerance.
        imnn: The IMNN, fitted at the last of the fiducial points.
    """

    fiducials: np.ndarray
    estimates: np.ndarray
    fishers: np.ndarray
    fisher_stds: np.ndarray
    distances: np.ndarray
    converged: bool
    imnn: IMNN

    def _facts(self) -> dict[str, str]:
        errors = np.sqrt(np.diag(np.linalg.inv(self.fisher)))
        return {
            "estimate": display.numbers(self.estimate, errors),
            "fiducial points": str(len(self.fiducials)),
            "converged": f"{'yes' if self.converged else 'no'}, at a distance of "
            f"{display.number(self.distances[-1])} standard deviations",
        }

    @property
    def estimate(self) -> np.ndarray:
        """The last estimate, `[n_params]`."""
        return self.estimates[-1]

    @property
    def fisher_std(self) -> np.ndarray:
        """The error of each element of the last Fisher information, `[n_params, n_params]`."""
        return self.fisher_stds[-1]

    @property
    def fisher(self) -> np.ndarray:
        """The last Fisher information, `[n_params, n_params]`.

        Its inverse is the covariance of the estimate.
        """
        return self.fishers[-1]


class _Step(NamedTuple):
    """One fiducial point and what was measured there."""

    fiducial: np.ndarray  # [n_params]
    estimate: np.ndarray  # [n_params]
    fisher: np.ndarray  # [n_params, n_params]
    fisher_std: np.ndarray  # [n_params, n_params]
    destination: np.ndarray  # [n_params], the estimate, or the nearest values within the bounds

    @property
    def distance(self) -> float:
        """Distance from the fiducial point to the destination, in standard deviations."""
        move = self.destination - self.fiducial
        return float(np.sqrt(move @ self.fisher @ move))


def refine(
    imnn: IMNN,
    target: Numbers,
    *,
    tolerance: float = 0.1,
    max_steps: int = 10,
    bounds: Sequence[Numbers] | None = None,
    fraction: float = 1.0,
    keep_optimiser: bool = False,
    verbose: bool | None = None,
    **fit: Any,
) -> Refinement:
    """Fits, estimates the target, moves the fiducial point to the estimate, and fits again.

    The compression loses the least information, and the estimate has the least bias, at the
    fiducial point. Where the estimate is the fiducial point, the score of the target is zero: this
    is the maximum-likelihood estimate, as far as the summaries keep the information.

    The refinement has converged when the estimate is within `tolerance` of the fiducial point that
    it was made at, in standard deviations: `sqrt(Δᵀ F Δ) ≤ tolerance`. No parameter would then move
    by more than that fraction of its own standard deviation. An estimate out of bounds is replaced
    by the nearest values within them. The mean summary of `n_s` simulations has an error of about
    `sqrt(n_params / n_s)`; a smaller tolerance makes no sense.

    The IMNN is changed. It ends at the last fiducial point, with the weights fitted there. If it
    has been fitted at its present fiducial point, the first step does not fit it again. To fit it
    longer at first, call `fit` before; to continue a refinement, call this function again. Ctrl-C
    ends the current fit early and returns the steps made so far, with that fit as the last. After a
    kill, load the IMNN and call this function again: it goes on with the fit that was killed if
    that has a `checkpoint`, and the last step is the one that would have been. `max_steps` counts
    the steps of one call; `len(imnn.history["θ_fid"])` are those of the calls before.

    Args:
        imnn: An IMNN with a `simulator` that also makes its validation set.
        target: The data, `[1, *input_shape]`; or `n` independent data with the same parameters,
            `[n, *input_shape]`, whose estimates are averaged and whose information is added.
        tolerance: The distance from the fiducial point to the estimate at which to stop, in
            standard deviations, positive.
        max_steps: The most fiducial points to fit at, including the first.
        bounds: The lowest and the highest values of the parameters, each a number or `[n_params]`,
            infinite for no bound; no bounds by default. No simulation is made outside: the fiducial
            point stays half a `δθ` within them.
        fraction: Fraction of the way to the estimate by which the fiducial point moves, in (0, 1].
            Choose less than one if the moves overshoot.
        keep_optimiser: Whether the optimiser keeps its variables when the fiducial point moves; by
            default they are reset.
        verbose: Whether to show progress bars; by default the setting of `imnn`.
        **fit: Arguments of `IMNN.fit` for every fit, with `n_iterations` or `patience` among them.

    Returns:
        The steps, and whether they converged.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has the wrong value, or the simulations at an estimate are not
            finite, which `bounds` can prevent.
        InformationError: If the information at a fiducial point is not defined.
        KeyboardInterrupt: If Ctrl-C comes before the first estimate.

    References:
        Charnock, Lavaux & Wandelt (2018), arXiv:1802.03537, on iterating to the estimate; Alsing
        & Wandelt (2018), arXiv:1712.00012, on score compression.
    """
    _check_can_refit(imnn, fit)
    data = checks.array("target", target, shape=(None, *(imnn.input_shape or ())), dtype=np.float64)
    if not len(data):
        raise ValueError(f"`target` must hold at least one simulation, got {data.shape}.")
    low, high = _fiducial_bounds(imnn, bounds)
    tolerance = checks.real("tolerance", tolerance, above=0)
    max_steps = checks.integer("max_steps", max_steps, minimum=1)
    fraction = checks.real("fraction", fraction, above=0, maximum=1)
    keep_optimiser = checks.flag("keep_optimiser", keep_optimiser)
    verbose = imnn.verbose if verbose is None else checks.flag("verbose", verbose)
    steps: list[_Step] = []
    converged = False
    with (
        deferred_interrupt() as interrupted,
        display.bar(total=max_steps, disable=not verbose, unit="fit") as bar,
    ):
        while len(steps) < max_steps and not converged:
            if steps:
                last = steps[-1]
                theta_fid = last.fiducial + fraction * (last.destination - last.fiducial)
                imnn.move_to(theta_fid, keep_optimiser=keep_optimiser)
            if imnn.unfinished or not _is_fitted(imnn):
                left = dict(fit)
                if fit.get("n_iterations") is not None:
                    left["n_iterations"] = max(fit["n_iterations"] - imnn.unfinished, 1)
                imnn.fit(**left, verbose=verbose)
            if _is_fitted(imnn):  # Ctrl-C may come before the first update
                steps.append(_measure(imnn, data, low, high))
                bar.update()
                bar.set_postfix(distance=f"{steps[-1].distance:.3g}", refresh=False)
            if interrupted.is_set():
                logger.warning("The refinement was interrupted after %d steps.", len(steps))
                break
            converged = steps[-1].distance <= tolerance
    if not steps:
        raise KeyboardInterrupt
    return Refinement(
        fiducials=np.array([step.fiducial for step in steps]),
        estimates=np.array([step.estimate for step in steps]),
        fishers=np.array([step.fisher for step in steps]),
        fisher_stds=np.array([step.fisher_std for step in steps]),
        distances=np.array([step.distance for step in steps]),
        converged=converged,
        imnn=imnn,
    )


def _check_can_refit(imnn: IMNN, fit: dict[str, Any]) -> None:
    """Checks that an IMNN can be moved, and fitted with these arguments after each move."""
    if not isinstance(imnn, IMNN):
        raise TypeError(f"`imnn` must be an IMNN, got {type(imnn).__name__}.")
    imnn.options.fiducial.require_movable()
    if fit.get("n_iterations") is None and fit.get("patience") is None:
        raise ValueError(
            "`n_iterations` or `patience` must be given, so that the fit at one fiducial point "
            "ends and the next begins."
        )
    if fit.get("reset"):
        raise ValueError(
            "`reset` must be left out, as each fit starts from the weights of the one before."
        )


def _fiducial_bounds(imnn: IMNN, bounds: Sequence[Numbers] | None) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest fiducial points whose simulations are all within bounds.

    Args:
        imnn: The IMNN.
        bounds: Bounds of the parameters, as for `refine`.

    Returns:
        The lowest and the highest fiducial parameters, `[n_params]` each.
    """
    if bounds is None:
        return np.full(imnn.n_params, -np.inf), np.full(imnn.n_params, np.inf)
    if not isinstance(bounds, Sequence | np.ndarray) or len(bounds) != 2:
        raise ValueError(f"`bounds` must be a lowest and a highest value, got {bounds!r}.")
    sides = [checks.array("bounds", side, dtype=np.float64, finite=False) for side in bounds]
    try:
        low, high = (np.broadcast_to(side, (imnn.n_params,)) for side in sides)
    except ValueError:
        raise ValueError(
            f"`bounds` must each be a number or one for each of {imnn.n_params} parameters, got "
            f"shapes {[side.shape for side in sides]}."
        ) from None
    half = np.zeros(imnn.n_params) if imnn.δθ is None else np.asarray(imnn.δθ, np.float64) / 2
    low, high = low + half, high - half
    if not (low < high).all():
        raise ValueError(
            "`bounds` must leave room for the simulations at θ_fid ± δθ/2, got lowest values "
            f"{sides[0].tolist()} and highest values {sides[1].tolist()} with δθ = "
            f"{(2 * half).tolist()}."
        )
    theta_fid = np.asarray(imnn.θ_fid, np.float64)
    rounding = 1e-6 * np.abs(theta_fid)
    if (theta_fid < low - rounding).any() or (theta_fid > high + rounding).any():
        raise ValueError(
            "`bounds` must hold the fiducial point and the simulations at θ_fid ± δθ/2, which "
            f"leaves θ_fid from {low.tolist()} to {high.tolist()}, got {theta_fid.tolist()}."
        )
    return low, high


def _is_fitted(imnn: IMNN) -> bool:
    """Whether an IMNN has been fitted at its present fiducial point."""
    moved = imnn.history["θ_fid_iteration"]
    return len(imnn.history["loss"]) > (moved[-1] if moved else 0)


def _measure(imnn: IMNN, data: np.ndarray, low: np.ndarray, high: np.ndarray) -> _Step:
    """Estimates the parameters of data at the present fiducial point.

    Args:
        imnn: An IMNN that has been fitted there.
        data: The data, `[n, *input_shape]`.
        low: The lowest fiducial parameters allowed, `[n_params]`.
        high: The highest fiducial parameters allowed, `[n_params]`.
    """
    # `imnn.get_estimate` would compile a function that is used only once.
    summaries = tf.cast(
        imnn.model(data.astype(imnn.dtype.as_numpy_dtype), training=False), imnn.dtype
    )
    estimates = information.estimate(
        summaries, imnn.θ_fid, imnn.μ, imnn.dμ_dθ, imnn.Cinv, imnn.Finv
    )
    # The scores of independent data add up, so with one Fisher matrix their estimates average.
    estimate = np.asarray(estimates, np.float64).mean(axis=0)
    return _Step(
        fiducial=np.asarray(imnn.θ_fid, np.float64),
        estimate=estimate,
        fisher=len(data) * np.asarray(imnn.F, np.float64),
        fisher_std=len(data) * imnn.F_std,
        destination=np.clip(estimate, low, high),
    )
