"""Warnings about a Fisher information that a user should not trust as it is."""

import logging
from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq

from imnn_tf.fisher.correction import noise_share
from imnn_tf.fisher.evaluation import Evaluation
from imnn_tf.fisher.truncation import TOLERATED, told_apart

logger = logging.getLogger(__name__)


def warn_after_fit(evaluation: Evaluation, delta: np.ndarray | None, source: str) -> None:
    """Warns where a fit's information is noise, or comes from the width of a step.

    Args:
        evaluation: The evaluation with the weights that the fit ended on.
        delta: Width of each numerical derivative, `[n_params]`; `None` where they are exact.
        source: What it was measured on, for the message.
    """
    warn_of_noise(evaluation, delta, source)
    warn_of_width(evaluation, delta, source)


def warn_of_noise(evaluation: Evaluation, delta: np.ndarray | None, source: str) -> None:
    """Warns where noise of the slope is more than a tenth of det F, and says what would halve it.

    Args:
        evaluation: The evaluation.
        delta: Width of each numerical derivative, `[n_params]`; `None` where they are exact.
        source: What it was measured on, for the message.
    """
    share, n_d = evaluation.noise_share, evaluation.n_d
    if n_d < 2 or share <= TOLERATED:
        return
    factor = halving_factor(evaluation.correction.plain, evaluation.correction.noise)
    at_least = "" if share < 1 else "at least "
    remedy = f"{at_least}{int(np.ceil(n_d * factor))} derivative simulations"
    if delta is not None and _is_unmatched(evaluation, delta):
        widths = ", ".join(f"{width:.3g}" for width in delta * np.sqrt(factor))
        remedy += f", or δθ = [{widths}] if the summaries are linear over it,"
    logger.warning(
        "%.0f %% of det F on the %s is noise of the slope, which has %d derivative simulations; %s "
        "would halve that. `evaluate` gives det F without the noise.",
        100 * share,
        source,
        n_d,
        remedy,
    )


def warn_of_tails(evaluation: Evaluation, source: str) -> None:
    """Warns where rare simulations carry the summaries, of which the derivatives may have none.

    Args:
        evaluation: The evaluation.
        source: What it was measured on, for the message.
    """
    n_d, heavy = evaluation.n_d, evaluation.heavy_tails
    if n_d > 1 and heavy.size:
        listed = ", ".join(f"{evaluation.kurtosis[each]:.0f} (summary {each})" for each in heavy)
        logger.warning(
            "Rare simulations carry the summaries on the %s: their kurtosis is %s, where that of a "
            "Gaussian is 3. %d derivative simulations may hold none of those, and det F and its "
            "error are then too small. Take many more; a fit over a narrower `δθ` may need fewer.",
            source,
            listed,
            n_d,
        )


def warn_of_width(evaluation: Evaluation, delta: np.ndarray | None, source: str) -> None:
    """Warns where a step is so wide that its two sides can be told apart.

    Args:
        evaluation: The evaluation, with derivatives over one width.
        delta: Width of each numerical derivative, `[n_params]`; `None` where they are exact.
        source: What it was measured on, for the message.
    """
    if delta is None:
        return
    listed = _wide(delta, np.asarray(evaluation.plain.fisher))
    if listed:
        logger.warning(
            "`δθ` is wide in units of the error 1/√F of a parameter: %s on the %s. Over so wide a "
            "step a network can learn to tell the two sides apart, and det F is then too high; %s. "
            "`evaluate(δθ=, second_δθ=)` with two steps that are narrower takes the error by the "
            "step away.",
            listed,
            source,
            "its tails say that this one does, so the error of det F is infinite"
            if evaluation.steps_too_wide
            else "neither `fisher` nor its error knows that",
        )


def warn_of_steps(evaluation: Evaluation, steps: Sequence[np.ndarray]) -> None:
    """Warns of two steps over which the slope cannot be extrapolated, or may be hidden.

    Args:
        evaluation: The evaluation, with derivatives over two widths.
        steps: The widths, `[n_params]` each.
    """
    excess, error = evaluation.log_det_truncation, evaluation.log_det_truncation_std
    if evaluation.steps_too_wide:
        logger.warning(
            "The steps of the derivatives are too wide: the slopes over the two differ by so much "
            "that they tell nothing of the slope at a step of zero. det F is not known, and its "
            "error is infinite. Take steps no wider than the error 1/√F of a parameter, one about "
            "twice the other, as `δθ` and `second_δθ` of `evaluate`."
        )
        return
    said = []
    if excess and error is not None and abs(excess) > max(np.log1p(TOLERATED), 2 * error):
        said.append(
            "The narrower of the two steps of the derivatives is wide: det F over it is "
            f"{np.exp(excess):.3g} times that extrapolated to a step of zero, which `evaluate` "
            "returns. The fit and `F` know nothing of that."
        )
    listed = _wide(np.minimum(*steps), np.asarray(evaluation.plain.fisher))
    if listed:
        said.append(
            "Both steps of the derivatives are wide in units of the error 1/√F of a parameter; the "
            f"narrower one is {listed}. How the summaries change within it cannot be seen, so det "
            "F may be further off than its error says."
        )
    if said:
        logger.warning("%s", " ".join(said))


def _wide(delta: np.ndarray, fisher: np.ndarray) -> str:
    """Lists the steps over which det F may be off by more than is tolerated."""
    widths, wide = delta * np.sqrt(np.diag(fisher)), np.flatnonzero(told_apart(delta, fisher))
    return ", ".join(f"{widths[each]:.2g} (parameter {each})" for each in wide)


def halving_factor(plain: np.ndarray, noise: np.ndarray) -> float:
    """The factor by which the noise of the slope must fall for its share of det F to halve.

    Args:
        plain: The information with the noise, `[n_params, n_params]`.
        noise: The part of it that is noise, `[n_params, n_params]`.

    Returns:
        The factor; four, as the least that can be said, where all of det F may be noise.
    """
    share, clean = float(noise_share(plain, noise)), plain - noise
    if share == 1:
        return 4.0

    def excess(factor: float) -> float:
        return float(noise_share(clean + noise / factor, noise / factor)) - share / 2

    return float(brentq(excess, 1.0, 1e6))


def _is_unmatched(evaluation: Evaluation, delta: np.ndarray) -> bool:
    """Whether the two sides of a derivative seem not to share their noise.

    The noise of the slope is then that of the summaries, `2 C / (n_d δθ²)`, and falls as the step
    is made wider.
    """
    n_summaries = len(np.asarray(evaluation.mean))
    independent = 2 * n_summaries / (evaluation.n_d * np.square(delta))
    return bool((np.diag(evaluation.correction.noise) > independent / 2).all())
