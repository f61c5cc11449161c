"""Refitting at the estimate: the fiducial point goes to where the data are."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike
from tqdm.auto import tqdm

from imnn_tf import information
from imnn_tf.imnn import IMNN
from imnn_tf.utils import checks
from imnn_tf.utils.interrupt import deferred_interrupt

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refinement:
    """What `refine` found, an entry for each fiducial point it has fitted at.

    Attributes:
        fiducials: The fiducial points, `[n_steps, n_params]`.
        estimates: The estimate from the target at each, `[n_steps, n_params]`, as it is, within
            the bounds or not.
        fishers: The Fisher information of the target there, `[n_steps, n_params, n_params]`:
            that of all its simulations, where they are several.
        distances: From the fiducial point to the estimate (taken into the bounds), in standard
            deviations of the estimate, `[n_steps]`.
        converged: Whether the last distance is within the tolerance.
        imnn: The IMNN, fitted at the last of the fiducial points.
    """

    fiducials: np.ndarray
    estimates: np.ndarray
    fishers: np.ndarray
    distances: np.ndarray
    converged: bool
    imnn: IMNN

    @property
    def estimate(self) -> np.ndarray:
        """The last estimate, `[n_params]`."""
        return self.estimates[-1]

    @property
    def fisher(self) -> np.ndarray:
        """The last Fisher information; its inverse is the covariance of the estimate."""
        return self.fishers[-1]


class _Step(NamedTuple):
    """One fiducial point and what was found there."""

    fiducial: np.ndarray  # [n_params]
    estimate: np.ndarray  # [n_params]
    fisher: np.ndarray  # [n_params, n_params]
    distance: float
    destination: np.ndarray  # [n_params], the estimate within the bounds


class _Rules(NamedTuple):
    """How to go from one fiducial point to the next, and when to stop."""

    tolerance: float
    max_steps: int
    low: np.ndarray  # [n_params], where the fiducial point may go
    high: np.ndarray  # [n_params]
    fraction: float
    keep_optimiser: bool
    verbose: bool


def refine(
    imnn: IMNN,
    target: ArrayLike,
    *,
    tolerance: float = 0.1,
    max_steps: int = 10,
    bounds: Sequence[ArrayLike] | None = None,
    fraction: float = 1.0,
    keep_optimiser: bool = False,
    verbose: bool | None = None,
    **fit: Any,
) -> Refinement:
    """Fits, estimates the target, moves the fiducial point to the estimate, and fits again.

    The compression loses least, and the estimate is least biased, at the fiducial point. Once the
    estimate is the fiducial point the score of the target there vanishes: it is the estimate of
    maximum likelihood, as far as the summaries keep the information.

    It has converged when the estimate, taken into the bounds, is within `tolerance` of the
    fiducial point that it was made at, in standard deviations: `sqrt(Δᵀ F Δ) ≤ tolerance`. No
    parameter then moves by more than that share of its own. The mean summary of `n_s` simulations
    is known to about `sqrt(n_params / n_s)`, below which no tolerance makes sense.

    The IMNN is changed: it ends fitted at the last fiducial point, on the weights it found there.
    If it has been fitted where it is, it is not fitted again before the first estimate; so a
    longer first fit is a `fit` before, and a refinement that stopped goes on by another call.
    Ctrl-C ends the fit that runs and returns what there is; that last fit is then a short one.

    Args:
        imnn: An IMNN with a `simulator`, and the validation set it makes of it.
        target: The data, `[1, *input_shape]`; or several independent ones with the same
            parameters, `[n, *input_shape]`, whose estimates are averaged and information added.
        tolerance: The distance from the fiducial point to the estimate at which to stop, in
            standard deviations, positive.
        max_steps: The most fiducial points to fit at, the first among them.
        bounds: The lowest and highest values of the parameters, each a number or `[n_params]`,
            infinite where there is none. No simulation is made outside: the fiducial point stays
            half a `δθ` within, and an estimate beyond moves it there, parameter by parameter.
        fraction: Share of the way to the estimate that a move goes, in (0, 1]; below one if the
            moves overshoot.
        keep_optimiser: As of `IMNN.move_to`.
        verbose: Whether to show progress bars; the setting of `imnn` if left out.
        **fit: Arguments of `IMNN.fit` for every fit, `n_iterations` or `patience` among them.

    Returns:
        The steps, and whether they converged.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has the wrong value, or the simulations at an estimate are not
            finite, for which `bounds` are the remedy.
        InformationError: If the information at a point is not defined.
        KeyboardInterrupt: If Ctrl-C comes before there is an estimate.

    References:
        Charnock, Lavaux & Wandelt (2018), arXiv:1802.03537, on iterating to the estimate; Alsing
        & Wandelt (2018), arXiv:1712.00012, on score compression.
    """
    imnn = _checked(imnn)
    data = checks.array("target", target, shape=(None, *(imnn.input_shape or ())), dtype=np.float64)
    if not len(data):
        raise ValueError(f"`target` must hold at least one simulation, got {data.shape}.")
    _check_fit(fit)
    low, high = _range(imnn, bounds)
    rules = _Rules(
        checks.real("tolerance", tolerance, above=0),
        checks.integer("max_steps", max_steps, minimum=1),
        low,
        high,
        checks.real("fraction", fraction, above=0, maximum=1),
        checks.flag("keep_optimiser", keep_optimiser),
        imnn.verbose if verbose is None else checks.flag("verbose", verbose),
    )
    steps, converged = _run(imnn, data, rules, fit)
    if not steps:
        raise KeyboardInterrupt
    return Refinement(
        fiducials=np.array([step.fiducial for step in steps]),
        estimates=np.array([step.estimate for step in steps]),
        fishers=np.array([step.fisher for step in steps]),
        distances=np.array([step.distance for step in steps]),
        converged=converged,
        imnn=imnn,
    )


def _run(
    imnn: IMNN, data: np.ndarray, rules: _Rules, fit: dict[str, Any]
) -> tuple[list[_Step], bool]:
    """The steps until they converge, are as many as there may be, or the user ends them."""
    steps: list[_Step] = []
    with (
        deferred_interrupt() as interrupted,
        tqdm(total=rules.max_steps, disable=not rules.verbose, unit="fit") as bar,
    ):
        while len(steps) < rules.max_steps:
            if steps:
                last = steps[-1]
                theta_fid = last.fiducial + rules.fraction * (last.destination - last.fiducial)
                imnn.move_to(theta_fid, keep_optimiser=rules.keep_optimiser)
            if not _is_fitted(imnn):
                imnn.fit(**fit, verbose=rules.verbose)
            if _is_fitted(imnn):  # and was not interrupted before its first update
                steps.append(_measure(imnn, data, rules))
                bar.update()
                bar.set_postfix(distance=f"{steps[-1].distance:.3g}", refresh=False)
            if interrupted.is_set():
                logger.warning("The refinement was interrupted after %d steps.", len(steps))
                return steps, False
            if steps[-1].distance <= rules.tolerance:
                return steps, True
    return steps, False


def _checked(imnn: Any) -> IMNN:
    if not isinstance(imnn, IMNN):
        raise TypeError(f"`imnn` must be an IMNN, got {type(imnn).__name__}.")
    imnn.options.fiducial.require_movable()
    return imnn


def _check_fit(fit: dict[str, Any]) -> None:
    if fit.get("n_iterations") is None and fit.get("patience") is None:
        raise ValueError(
            "`n_iterations` or `patience` must be given, so that the fit at one fiducial point "
            "ends and the next begins."
        )
    if fit.get("reset"):
        raise ValueError(
            "`reset` must be left out, as each fit starts from the weights of the one before."
        )


def _range(imnn: IMNN, bounds: Any) -> tuple[np.ndarray, np.ndarray]:
    """Where the fiducial point may go, `[n_params]` each: so far that no simulation is outside."""
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
    """Whether an IMNN has been fitted at the fiducial point where it is."""
    moved = imnn.history["θ_fid_iteration"]
    return len(imnn.history["loss"]) > (moved[-1] if moved else 0)


def _measure(imnn: IMNN, data: np.ndarray, rules: _Rules) -> _Step:
    """The estimate from data at the fiducial point where an IMNN is."""
    fiducial = np.asarray(imnn.θ_fid, np.float64)
    # Not by `get_estimate`, which would compile what is used but once.
    summaries = tf.cast(
        imnn.model(data.astype(imnn.dtype.as_numpy_dtype), training=False), imnn.dtype
    )
    estimates = information.estimate(
        summaries, imnn.θ_fid, imnn.μ, imnn.dμ_dθ, imnn.Cinv, imnn.Finv
    )
    # The scores of independent data add up, so with one information their estimates average.
    estimate = np.asarray(estimates, np.float64).mean(axis=0)
    fisher = len(data) * np.asarray(imnn.F, np.float64)
    destination = np.clip(estimate, rules.low, rules.high)
    move = destination - fiducial
    return _Step(fiducial, estimate, fisher, float(np.sqrt(move @ fisher @ move)), destination)
