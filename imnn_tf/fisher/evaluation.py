"""The information of a model's summaries on some simulations, with its error."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from imnn_tf import degeneracy, information
from imnn_tf.fisher.correction import Correction, correct, least_fiducial
from imnn_tf.fisher.groups import total_statistics
from imnn_tf.fisher.sample import Sample, sample_of
from imnn_tf.fisher.truncation import Truncation, told_apart, truncation_of
from imnn_tf.information import Information, InformationError, Statistics
from imnn_tf.utils import checks, display

# The scatter of few variances may look like so large a kurtosis if the summaries are Gaussian.
_GAUSSIAN_KURTOSIS = 6.0


class Evaluation(display.Shown, Information):
    """Information of summaries, measured on a finite number of simulations, with its error.

    It is the named tuple `Information` with further attributes, which are floats or float64 arrays
    of NumPy.

    Where it is corrected, `fisher` has neither the noise of the slope nor the bias of the inverse
    of a covariance, and with derivatives over two widths it is extrapolated to a step of zero.
    `log_det_fisher` and `parameter_std` are each corrected for their own bias, so they are not
    exactly those of `fisher` where simulations are few. They are NaN, and `fisher` is not positive
    definite, where the noise outweighs the slope. Errors are NaN where there is only one derivative
    simulation, and infinite where the steps are too wide to tell a slope. `covariance`,
    `inverse_covariance`, `log_det_covariance`, `mean` and `slope` are as they were measured, over
    the narrower of two widths.

    Args:
        measured: The information as it was measured.
        correction: Its correction and its error.
        truncation: What the width of the derivatives' step adds to it; `None` if not known. Its
            limit is the correction.
        sample: The sample that they are made from.
        delta: Width of the derivatives, `[n_params]`; `None` where they are exact or of two widths.
        debias: Whether `fisher`, `log_det_fisher` and `parameter_std` are corrected.

    Attributes:
        fisher_std: Error of each element of `F`, one standard deviation, `[n_params, n_params]`.
        log_det_fisher_std: Error of `ln det F`.
        parameter_std: Standard deviations that `F` forecasts for the parameters, `[n_params]`.
        parameter_std_error: Their errors, `[n_params]`.
        bias: The share of the plain det F that the correction takes away; one if that may be all.
        noise_share: The share of the plain det F that is noise of the slope, a part of `bias`.
        truncation: How much of `F` over the narrower step comes from its width, `[n_params,
            n_params]`, by Richardson's extrapolation; `None` where derivatives have one width.
        log_det_truncation: How much of `ln det F` does; `None` where derivatives have one width.
        log_det_truncation_std: The error that noise of the slope gives to it, or `None`.
        steps_too_wide: Whether the steps are so wide that they tell nothing of the slope at a step
            of zero. Errors are then infinite. With two widths the extrapolation shows it. One
            width is too wide where its sides can be told apart and, at the fiducial parameters,
            rare simulations carry the summaries: a network that tells the sides apart is quiet
            between them.
        plain: The information as it was measured over the narrower step, without a correction.
        n_s, n_d: The numbers of fiducial and of derivative simulations.
        kurtosis: Of each summary at the fiducial parameters, `[n_summaries]`; 3 if it is Gaussian,
            NaN if simulations are too few.
        correction: As passed.
    """

    fisher_std: np.ndarray
    log_det_fisher_std: float
    parameter_std: np.ndarray
    parameter_std_error: np.ndarray
    bias: float
    noise_share: float
    plain: Information
    kurtosis: np.ndarray
    n_s: int
    n_d: int
    correction: Correction
    _truncation: Truncation | None
    _delta: np.ndarray | None
    _arguments: tuple[tuple[Any, ...], dict[str, bool]]

    def __new__(
        cls,
        measured: Information,
        correction: Correction,
        truncation: Truncation | None,
        sample: Sample,
        delta: np.ndarray | None,
        *,
        debias: bool,
    ) -> "Evaluation":
        """The corrected or the plain information, with its errors."""
        shown = measured
        if debias:
            dtype = measured.fisher.dtype
            shown = measured._replace(
                fisher=tf.constant(correction.fisher, dtype),
                log_det_fisher=tf.constant(correction.log_det_fisher, dtype),
            )
        self = super().__new__(cls, *shown)
        self._arguments = (measured, correction, truncation, sample, delta), {"debias": debias}
        self.correction, self._truncation, self._delta = correction, truncation, delta
        self.plain, self.kurtosis = measured, sample.kurtosis()
        self.n_s, self.n_d = int(sample.n_s.sum()), int(sample.n_d.sum())
        over_step = correction if truncation is None else truncation.narrow
        self.bias = float(correction.share_of(over_step.determinant.log_det_plain))
        self.noise_share = float(over_step.noise_share)
        self.fisher_std = correction.fisher_std if debias else over_step.plain_std
        self.log_det_fisher_std = float(correction.log_det_fisher_std)
        self.parameter_std = correction.parameter_std
        self.parameter_std_error = correction.parameter_std_error
        if not debias:
            self.parameter_std = np.sqrt(np.diag(np.linalg.inv(over_step.plain)))
            relative = correction.parameter_std_error / correction.parameter_std
            self.parameter_std_error = relative * self.parameter_std
        if truncation is not None:
            self._add_truncation(truncation, removed=debias)
        elif self.steps_too_wide:
            self.fisher_std = np.full_like(self.fisher_std, np.inf)
            self.parameter_std_error = np.full_like(self.parameter_std_error, np.inf)
            self.log_det_fisher_std = np.inf
        return self

    def _add_truncation(self, truncation: Truncation, *, removed: bool) -> None:
        """Adds the error by the width of the step to the others."""
        fisher, log_det = truncation.fisher_error, truncation.log_det_error.mean()
        std = truncation.parameter_error
        if not removed:
            fisher = np.hypot(fisher, truncation.fisher)
            log_det = np.hypot(log_det, truncation.log_det)
            std = np.hypot(std, truncation.parameter_std)
        self.fisher_std = np.hypot(self.fisher_std, fisher)
        self.log_det_fisher_std = float(np.hypot(self.log_det_fisher_std, log_det))
        self.parameter_std_error = np.hypot(self.parameter_std_error, std)

    def _facts(self) -> dict[str, str]:
        det, (low, high) = information.determinant(self.log_det_fisher), self.interval()
        facts = {
            "det F": f"{display.number(det)}, 68 % interval {low:.4g} to {high:.4g}",
            "forecast errors": display.numbers(self.parameter_std, self.parameter_std_error),
            "share corrected": f"{self.bias:.2g}",
            "simulations": f"{self.n_s} fiducial, {self.n_d} for the slope",
        }
        if self.steps_too_wide:
            facts["steps"] = "too wide"
        return facts

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, bool]]:
        return self._arguments

    @property
    def truncation(self) -> np.ndarray | None:
        """How much of `F` comes from the width of the step, `[n_params, n_params]`, or `None`."""
        return None if self._truncation is None else self._truncation.fisher

    @property
    def log_det_truncation(self) -> float | None:
        """How much of `ln det F` comes from the width of the step, or `None`."""
        return None if self._truncation is None else self._truncation.log_det

    @property
    def log_det_truncation_std(self) -> float | None:
        """The error that noise of the slope gives to it, or `None`."""
        return None if self._truncation is None else self._truncation.log_det_std

    @property
    def heavy_tails(self) -> np.ndarray:
        """The summaries that rare simulations carry, of which the derivatives may have none.

        The variance of a number of kurtosis `κ` from `n_d` simulations is off by `√((κ − 1)/n_d)`
        of itself, so for `κ` above `n_d` the noise of the slope may be far too small.
        """
        return np.flatnonzero(self.kurtosis - 1 > max(self.n_d, _GAUSSIAN_KURTOSIS))

    @property
    def steps_too_wide(self) -> bool:
        """Whether the steps tell nothing of the slope at a step of zero."""
        if self._truncation is not None:
            return bool((self._truncation.growth >= 1).any())
        if self._delta is None or not self.heavy_tails.size:
            return False
        return bool(told_apart(self._delta, np.asarray(self.plain.fisher)).any())

    def interval(self, level: float = 0.68) -> tuple[float, float]:
        """Interval that holds det F with a probability of `level`.

        It holds the corrected value also where `fisher` is not corrected. With two widths of the
        step it is that at a step of zero, and goes from zero to infinity where they are too wide to
        tell it. With one width it does not hold the error by the width, unless that is found too
        wide (`steps_too_wide`). Where the noise outweighs the slope it goes from zero to the plain
        det F.

        Args:
            level: The probability, between 0 and 1.

        Returns:
            The lower and the upper end; both NaN where there is one derivative simulation.

        Raises:
            TypeError: If `level` is not a number.
            ValueError: If it is not between 0 and 1.
        """
        level = checks.real("level", level, above=0, below=1)
        if self.steps_too_wide:
            return 0.0, np.inf
        source = self.correction.determinant if self._truncation is None else self._truncation
        low, high = information.determinant(source.log_interval(level))
        return float(low), float(high)


def evaluation_of(
    groups: Statistics,
    n_d: int,
    *,
    debias: bool = True,
    delta: np.ndarray | None = None,
    steps: Sequence[np.ndarray] | None = None,
    source: str = "simulations",
) -> Evaluation:
    """Makes the evaluation of the statistics of groups of simulations.

    Args:
        groups: What `group_statistics` returns.
        n_d: Number of derivative simulations.
        debias: Whether to correct the information.
        delta: Width of the derivatives, `[n_params]`; `None` where they are exact.
        steps: The first and the second width of the derivatives, `[n_params]` each, where there are
            two. The slope is then that over the first followed by that over the second, `[2
            n_params, n_summaries]`, and `delta` is not used.
        source: What the summaries belong to, for messages.

    Raises:
        InformationError: If the information is not defined, or cannot be corrected.
    """
    if steps is not None:
        slopes = tf.split(groups.slope, 2, axis=1)
        if (steps[1] < steps[0]).all():
            slopes, steps = slopes[::-1], steps[::-1]
        groups = Statistics(groups.moments, tf.concat(slopes, axis=1))
    total = total_statistics(groups)
    if steps is not None:
        if not np.isfinite(total.slope).all():
            raise InformationError(
                f"The Fisher information of the {source} is not defined: "
                f"{degeneracy.explain(total)}."
            )
        total = Statistics(total.moments, total.slope[: len(steps[0])])
    measured = information.fisher_information(total)
    degeneracy.require_finite(total, measured, source)
    sample, truncation = sample_of(groups, n_d), None
    n_s, least = int(total.moments.n), least_fiducial(sample.slope.shape[-1])
    if debias and n_s < least:
        raise InformationError(
            f"The Fisher information of the {source} cannot be corrected, which needs at least "
            f"{least} fiducial simulations, got {n_s}; `debias=False` gives the plain one."
        )
    if steps is None:
        correction = correct(sample)
    else:
        truncation = truncation_of(sample, steps[1] / steps[0])
        correction, delta = truncation.limit, None
    return Evaluation(measured, correction, truncation, sample, delta, debias=debias)
