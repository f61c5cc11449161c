"""A compression of simulations and what was measured of it: F, C, mean, slope, estimates."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from imnn_tf import information
from imnn_tf.estimator import Estimator
from imnn_tf.fisher import advice
from imnn_tf.fisher.convergence import Convergence, convergence_of
from imnn_tf.fisher.evaluation import Evaluation, evaluation_of
from imnn_tf.fisher.groups import group_statistics, total_statistics
from imnn_tf.fisher.sample import sample_of
from imnn_tf.fit.passes import Summariser
from imnn_tf.information import Information, Statistics
from imnn_tf.simulations import (
    SetArguments,
    SimulationOptions,
    Simulations,
    open_like,
    warn_of_shared,
)
from imnn_tf.simulations.feeds.stream import reading_errors
from imnn_tf.utils import checks, display
from imnn_tf.utils.types import KerasModel, Numbers


class Measurement(NamedTuple):
    """What was measured of a model's summaries, with the weights that it has."""

    statistics: Statistics  # of all summaries
    information: Evaluation  # of all summaries, without a correction
    external: Information | None  # of the external summaries alone, if there are any
    groups: Statistics  # of all summaries of each group of simulations


@checks.ascii_keywords
class Compression(display.Shown):
    """A model that summarises simulations, and the information that its summaries keep.

    Everything is measured when first asked for, on the validation set where there is one and on
    the training set otherwise, and measured anew when the model has other weights, whoever changed
    them, or the fiducial point has moved.

    Args:
        options: What holds for all simulations.
        summariser: The model, with the external summaries beside it.
        training: The training set.
        validation: The validation set, or `None`.

    Attributes:
        options: As passed.
        F: Fisher information of the summaries, `[n_params, n_params]`, as it was measured;
            `evaluate` corrects it for the noise of a finite number of simulations.
        F_std: Error of each element of `F`, one standard deviation, `[n_params, n_params]`.
        Finv: Its inverse, the covariance of the estimates, `[n_params, n_params]`.
        C: Covariance of the summaries, `[n_summaries, n_summaries]`; of the network's followed by
            the external ones, like everything below.
        Cinv: The inverse of `C`, `[n_summaries, n_summaries]`.
        μ: Mean of the summaries at the fiducial parameters, `[n_summaries]`.
        dμ_dθ: Slope of the mean, `[n_params, n_summaries]`.
        F_external: Fisher information of the external summaries alone, `[n_params, n_params]`;
            `None` without any.
        gain: `det F` over that of the external summaries alone, a number; infinite where these say
            nothing about some combination of the parameters, `None` without any.
        data: The fiducial simulations of the training set, `[n_s, *input_shape]`; `None` if not
            held in memory.
        derivative: The derivative simulations of the training set as they were passed,
            `[n_d, 2, n_params, *input_shape]`, or exact derivatives,
            `[n_d, *input_shape, n_params]`; `None` if not held in memory.
    """

    def __init__(
        self,
        options: SimulationOptions,
        summariser: Summariser,
        training: Simulations,
        validation: Simulations | None,
    ) -> None:
        self.options, self._summariser = options, summariser
        self._training, self._validation = training, validation
        self._forget_measurement()

    def summary(self, print_fn: Callable[[str], Any] | None = None) -> None:
        """Prints what this is: simulations, model, state, and the information with its error.

        It measures the information, if that was not done since the weights were changed.

        Args:
            print_fn: What is called with each line; `print` by default.
        """
        _ = self.measurement
        facts, show = self._facts(), print_fn or print
        width = max(map(len, facts))
        for name, fact in facts.items():
            show(f"{name:{width}}  {fact}")

    def _facts(self) -> dict[str, str]:
        simulations = f"{self.n_s} fiducial, {self.n_d} for the slope"
        if self._validation is not None:
            simulations += f"; {self._validation.n_s} and {self._validation.n_d} for validation"
        facts = {
            "parameters": f"{self.n_params} at {display.numbers(self.options.fiducial.theta)}",
            "simulations": f"{simulations}; of shape {self.input_shape}",
            "summaries": f"{self.n_summaries}"
            + (f" and {self.n_external} external" if self.n_external else ""),
            "model": f"{self.model.name}, {self.model.count_params():,} weights",
        }
        if self._measured is not None:  # nothing is computed to be shown
            info = self._measured.information
            where = "training set" if self._validation is None else "validation set"
            det = float(information.determinant(info.log_det_fisher))
            shown = display.number(det, det * info.log_det_fisher_std)
            facts["det F"] = f"{shown} on the {where}"
            facts["forecast errors"] = display.numbers(info.parameter_std, info.parameter_std_error)
        return facts

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuses to be pickled or copied.

        Raises:
            TypeError: Always: compiled code and open files would stay behind.
        """
        raise TypeError(
            f"{type(self).__name__} cannot be pickled or copied. Save it with `save=True` and load "
            "it with `load=True`; `Estimator.load` needs no simulations."
        )

    def _forget_measurement(self) -> None:
        self._measured: Measurement | None = None
        self._measured_weights: list[np.ndarray] = []
        self._estimator: Estimator | None = None

    def _forget_if_changed(self) -> None:
        """Forgets what was measured of other weights than the model has now."""
        if self._measured is not None:
            weights = self.model.get_weights()
            if not all(map(np.array_equal, self._measured_weights, weights)):
                self._forget_measurement()

    @property
    def measurement(self) -> Measurement:
        """Everything measured of the summaries of the model as it is."""
        self._forget_if_changed()
        if self._measured is None:
            name = "fiducial" if self._validation is None else "validation_fiducial"
            simulations = self._validation or self._training
            self._measured_weights = self.model.get_weights()
            self._measured = self._measure(simulations, f"summaries of `{name}`")
        return self._measured

    def _measure(self, simulations: Simulations, source: str) -> Measurement:
        groups = self._group_statistics(simulations)
        delta = self.options.fiducial.delta
        info = evaluation_of(groups, simulations.n_d, debias=False, delta=delta, source=source)
        total, external = total_statistics(groups), None
        if self.n_external:
            external = information.fisher_information(self._summariser.external_alone(total))
        return Measurement(total, info, external, groups)

    def _group_statistics(self, simulations: Simulations) -> Statistics:
        with reading_errors(simulations):
            return group_statistics(self._summariser, simulations)

    def evaluate(
        self,
        fiducial: Any,
        derivative: Any,
        external_fiducial: Any = None,
        external_derivative: Any = None,
        *,
        debias: bool = True,
        δθ: Numbers = None,
        second_δθ: Numbers = None,
    ) -> Evaluation:
        """Information that the model keeps of other simulations than it was fitted on.

        On the simulations that chose the weights det F is too high: a training set is learnt by
        heart, and even the validation set picked the weights that suit it best.

        The slope of a finite number of derivative simulations has noise, which adds to `F`, and
        the inverse of a covariance of a finite number of simulations is too large. Both are taken
        away, and what is left of them is in the errors. docs/information.md says what to publish.

        With derivatives over a second step, the error of differences over a finite step is taken
        away, too: `F` is extrapolated to a step of zero, and what that leaves is in the errors. The
        wider step should be about twice the narrower one, and no wider than the error that `F`
        forecasts for the parameter. With one step that error stays, unseen; a warning says where
        it may be large.

        Args:
            fiducial: Simulations at the fiducial parameters, `[n, *input_shape]`, or any other
                source that the constructor takes.
            derivative: Derivative simulations, `[n_d, 2, n_params, *input_shape]`, or any other
                source that the constructor takes. With `second_δθ` those of the first step are
                followed by those of the second, `[n_d, 2, 2 n_params, *input_shape]`.
            external_fiducial: External summaries of `fiducial`, `[n, n_external]`, if any.
            external_derivative: External summaries of `derivative`, `[n_d, 2, n_params,
                n_external]`, or `[n_d, 2, 2 n_params, n_external]` with `second_δθ`, if any.
            debias: Whether to correct `fisher`, `log_det_fisher` and `parameter_std`.
            δθ: Width of the derivatives, `[n_params]`; by default that of the fit.
            second_δθ: Second width of the derivatives, `[n_params]`, wider than `δθ` in every
                parameter or narrower in every one; by default there is one width.

        Returns:
            A named tuple with `fisher`, `log_det_fisher`, `covariance`, `inverse_covariance`,
            `log_det_covariance`, `mean` and `slope`, which also has the attributes `fisher_std`,
            `log_det_fisher_std`, `parameter_std`, `parameter_std_error`, `bias`, `noise_share`,
            `truncation`, `steps_too_wide`, `kurtosis`, `heavy_tails` and `plain`, and the method
            `interval(level)` for det F.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument has the wrong shape or value.
            InformationError: If the information is not defined, or there are too few fiducial
                simulations to correct it.
        """
        debias = checks.flag("debias", debias)
        given = SetArguments(fiducial, derivative, external_fiducial, external_derivative)
        options, steps = self.options, None
        point = options.fiducial if δθ is None else options.fiducial.with_step(δθ)
        delta = point.delta
        if second_δθ is not None:
            point, steps = point.with_second_step(second_δθ)
        options = replace(options, fiducial=point)
        at_once = self.at_once or max(self.n_s, self.n_d)
        simulations = open_like(options, given, self._training, at_once=at_once)
        if self._validation is not None and self._validation.feed.held is not None:
            warn_of_shared("", simulations, self._validation, "validation set")
        groups = self._group_statistics(simulations)
        evaluation = evaluation_of(groups, simulations.n_d, debias=debias, delta=delta, steps=steps)
        advice.warn_of_tails(evaluation, "simulations")
        if steps is None:
            advice.warn_of_width(evaluation, delta, "simulations")
        else:
            advice.warn_of_steps(evaluation, steps)
        return evaluation

    def convergence(
        self,
        fiducial: Any = None,
        derivative: Any = None,
        external_fiducial: Any = None,
        external_derivative: Any = None,
    ) -> Convergence:
        """How det F and the parameters' errors depend on the number of simulations.

        They are measured on subsets of the simulations, in one pass, with the weights that the
        model has; a fit to more simulations would find better weights in addition.

        Args:
            fiducial: Simulations as for `evaluate`; by default the validation set, or the training
                set if there is none.
            derivative: Derivative simulations as for `evaluate`; given together with `fiducial`.
            external_fiducial: External summaries of `fiducial`, `[n, n_external]`, if any.
            external_derivative: External summaries of `derivative`,
                `[n_d, 2, n_params, n_external]`, if any.

        Returns:
            The curves, with `predict(factor)`, `sentences(factor)` and `plot()`.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument has the wrong shape, or there are too few simulations.
            InformationError: If the information is not defined.
        """
        given = SetArguments(fiducial, derivative, external_fiducial, external_derivative)
        if all(part is None for part in given):
            groups, n_d = self.measurement.groups, (self._validation or self._training).n_d
        else:
            at_once = self.at_once or max(self.n_s, self.n_d)
            simulations = open_like(self.options, given, self._training, at_once=at_once)
            groups, n_d = self._measure(simulations, "simulations").groups, simulations.n_d
        return convergence_of(sample_of(groups, n_d))

    def get_estimate(self, d: Numbers, external: Numbers = None) -> tf.Tensor:
        """Quasi-maximum-likelihood estimates `θ_fid + F⁻¹ ∂μ C⁻¹ (f(d) − μ)`.

        Args:
            d: Data, `[batch, *input_shape]`. An axis of any length of the model's input may have
                another length than that of the simulations.
            external: External summaries of the data, `[batch, n_external]`, if any.

        Returns:
            Estimates, `[batch, n_params]`.

        Raises:
            ValueError: If the data have another shape.
        """
        return self._get_estimator()(d, external)

    def _get_estimator(self) -> Estimator:
        self._forget_if_changed()
        if self._estimator is None:
            self._estimator = Estimator(
                self.model,
                theta_fid=self.θ_fid,
                mean=self.μ,
                slope=self.dμ_dθ,
                inverse_covariance=self.Cinv,
                inverse_fisher=self.Finv,
                input_shape=_shape_of_data(self.model, self.input_shape),
            )
        return self._estimator

    def save_estimator(self, filename: str | Path) -> None:
        """Writes `Finv, θ_fid, dμ_dθ, Cinv, μ` to an `.npz` file."""
        self._get_estimator().save_statistics(filename)

    F = display.attribute(
        "measurement.information.fisher",
        "tf.Tensor",
        "Fisher information of the summaries as measured, `[n_params, n_params]`.",
    )
    F_std = display.attribute(
        "measurement.information.fisher_std",
        "np.ndarray",
        "Standard deviation of each element of `F`, `[n_params, n_params]`.",
    )
    C = display.attribute(
        "measurement.information.covariance",
        "tf.Tensor",
        "Covariance of the summaries, `[n_summaries, n_summaries]`.",
    )
    Cinv = display.attribute(
        "measurement.information.inverse_covariance",
        "tf.Tensor",
        "The inverse of `C`, `[n_summaries, n_summaries]`.",
    )
    μ = display.attribute(
        "measurement.information.mean",
        "tf.Tensor",
        "Mean of the summaries at `θ_fid`, `[n_summaries]`.",
    )
    dμ_dθ = display.attribute(
        "measurement.information.slope",
        "tf.Tensor",
        "Slope of the mean of the summaries, `[n_params, n_summaries]`.",
    )

    @property
    def Finv(self) -> tf.Tensor:
        """Covariance of the estimates, the inverse of `F`, `[n_params, n_params]`."""
        return tf.linalg.inv(self.F)

    @property
    def F_external(self) -> tf.Tensor | None:
        """Fisher information of the external summaries alone, `[n_params, n_params]`, or `None`."""
        external = self.measurement.external
        return None if external is None else external.fisher

    @property
    def gain(self) -> float | None:
        """`det F` over that of the external summaries alone, a number, or `None`."""
        _, info, external, _ = self.measurement
        if external is None:
            return None
        if not np.isfinite(external.log_det_fisher):
            return float("inf")
        return float(np.exp(info.log_det_fisher - external.log_det_fisher))

    @property
    def θ_fid(self) -> tf.Tensor:
        """The fiducial parameters, `[n_params]`."""
        return tf.constant(self.options.fiducial.theta, self.dtype)

    @property
    def δθ(self) -> tf.Tensor | None:
        """Widths of the numerical derivatives, `[n_params]`; `None` where they are exact."""
        delta = self.options.fiducial.delta
        return None if delta is None else tf.constant(delta, self.dtype)

    @property
    def validate(self) -> bool:
        """Whether there is a validation set."""
        return self._validation is not None

    # What was passed, and what was read off it.

    model = display.attribute(
        "_summariser.model", "keras.Model", "The model that summarises a simulation."
    )
    n_summaries = display.attribute(
        "_summariser.n_network", "int", "Number of summaries that the model makes."
    )
    n_external = display.attribute("_summariser.n_external", "int", "Number of external summaries.")
    n_s = display.attribute("_training.n_s", "int", "Number of fiducial simulations.")
    n_d = display.attribute(
        "_training.n_d", "int", "Number of derivative simulations, of each parameter and side."
    )
    n_params = display.attribute("_training.n_params", "int", "Number of parameters.")
    input_shape = display.attribute(
        "_training.input_shape", "tuple[int, ...]", "Shape of one simulation."
    )
    data = display.attribute(
        "_training.fiducial",
        "tf.Tensor | None",
        "Fiducial simulations, `[n_s, *input_shape]`, if in memory.",
    )
    derivative = display.attribute(
        "_training.derivative",
        "tf.Tensor | None",
        "Derivative simulations as they were passed, if in memory.",
    )
    dtype = display.attribute("options.dtype", "tf.DType", "Floating type of data and statistics.")
    at_once = display.attribute(
        "options.at_once", "int | None", "The most fiducial simulations in a batch; `None` for all."
    )
    map_fn = display.attribute(
        "options.map_fn", "Callable | None", "Function applied to each simulation at every update."
    )


def _shape_of_data(model: KerasModel, shape: tuple[int, ...]) -> tuple[int | None, ...]:
    """The shape of a simulation, with `None` for axes of any length of the model's input."""
    taken = getattr(model, "input_shape", None)
    if not isinstance(taken, tuple) or len(taken) != 1 + len(shape):
        return shape  # several inputs, a subclass that tells nothing, or a `map_fn` before it
    return tuple(
        None if any_length is None else size
        for any_length, size in zip(taken[1:], shape, strict=True)
    )
