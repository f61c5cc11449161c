"""What all methods of inference start from: targets, a prior and a Fisher information."""

import copy
import inspect
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from imnn_tf.lfi.plots.layout import Label, root_figure
from imnn_tf.lfi.prior import Prior
from imnn_tf.running.arguments import described
from imnn_tf.utils import checks, display
from imnn_tf.utils.types import Numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

logger = logging.getLogger(__name__)

# Simulations of which some have another estimate than the first.
_ENOUGH_TO_VARY = 10


@described(
    Fisher="The Fisher information of the estimates, symmetric and positive definite: "
    "`(n_params, n_params)`, or one for each target, `(targets, n_params, n_params)`. `None` for a "
    "method that needs none.",
    get_estimate="Takes data, `(n,) + input shape`, and returns estimates of the parameters, "
    "`(n, n_params)`, each of its own row alone. `None` for a method that needs none.",
)
class LikelihoodFreeInference(display.Shown):
    """Target data compressed to estimates, a prior, and the Fisher information.

    Attributes:
        data: The target data as passed, `(targets,) + input shape`; a list becomes an array.
        estimate: Estimates of the targets, `(targets, n_params)`, or `None`. A method that takes
            summaries of any length has `(targets, n_summaries)`.
        targets: The number of targets.
        n_params: The number of parameters.
        F: The Fisher information in the shape it was passed in, `(n_params, n_params)` or
            `(targets, n_params, n_params)`, or `None`.
        Finv: Its inverse in the same shape, or `None`.
        prior: The prior, wrapped in an `imnn_tf.lfi.prior.Prior` that has `low` and `high`.
        labels: The labels as passed.
        parameter_names: The names of the parameters.
        get_estimate: The function that was passed, made to return float64 arrays,
            `(n, n_params)`, or `None`.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If the shapes do not fit each other or `Fisher` is no Fisher information.
    """

    F: np.ndarray | None
    get_estimate: Callable[..., np.ndarray] | None
    # Whether an estimate must have one number for each parameter, or may have any length.
    _estimates_parameters: ClassVar[bool] = True

    def __init__(
        self,
        target_data: Numbers,
        prior: Any,
        Fisher: Numbers | None,
        get_estimate: Callable[..., Any] | None,
        labels: Sequence[str] | None = None,
        *,
        parameter_names: Sequence[str] | None = None,
    ) -> None:
        self.data = _with_shape("target_data", target_data)
        self.prior = Prior(prior)
        self.labels = checks.strings("labels", labels, self.n_params)
        names = checks.names("parameter_names", parameter_names, self.n_params)
        self.parameter_names = names or [f"p{i + 1}" for i in range(self.n_params)]
        self.estimate: np.ndarray | None = None
        self.get_estimate = None
        if get_estimate is not None:
            length = self.n_params if self._estimates_parameters else None
            self.get_estimate = CheckedEstimator(get_estimate, length)
            estimates = self.get_estimate(own_data("target_data", self.data))
            self.estimate = checks.array("get_estimate(target_data)", estimates).copy()
        # What `IMNN.evaluate` returns holds the information.
        Fisher = getattr(Fisher, "fisher", Fisher)
        self.F = None if Fisher is None else _checked_fisher(Fisher, self.targets, self.n_params)

    def _facts(self) -> dict[str, str]:
        facts = {"parameters": ", ".join(self.parameter_names), "targets": str(self.targets)}
        if self.estimate is not None and self.targets == 1:
            facts["estimate"] = display.numbers(self.estimate[0])
        return facts

    @property
    def n_params(self) -> int:
        """The number of parameters."""
        return self.prior.n_params

    @property
    def targets(self) -> int:
        """The number of targets."""
        return len(self.data if self.estimate is None else self.estimate)

    @property
    def Finv(self) -> np.ndarray | None:
        """The inverse of the Fisher information, of the shape of `F`, or `None`."""
        return None if self.F is None else np.linalg.inv(self.F)

    @property
    def axis_labels(self) -> list[str]:
        """Labels for the axes of plots: `labels`, or else `parameter_names`."""
        return list(self.labels) if self.labels is not None else self.parameter_names

    def plot_Fisher(
        self,
        ax: "Axes | None" = None,
        figsize: tuple[float, float] = (10, 10),
        save: str | None = None,
        *,
        target: int = 0,
    ) -> "Axes":
        """Shows the inverse Fisher information: the least covariance by the Cramér-Rao bound.

        If the object was made with `Fisher=None` but has a method `Fisher(parameters)`, that
        is evaluated at the estimate of the target.

        Args:
            ax: Axes to draw into. `None` for a new figure.
            figsize: Width and height of a new figure in inches; by default 10 by 10.
            save: Name of a file to save the figure to. `None` saves nothing.
            target: The number of the target, counted from zero.

        Returns:
            The axes drawn on.

        Raises:
            IndexError: If there is no such target.
            ValueError: If there is no Fisher information.
        """
        import matplotlib.pyplot as plt

        target, title = self._target_number(target), "Inverse Fisher information"
        method = getattr(self, "Fisher", None)
        if self.Finv is not None:
            covariance = self._matrix_of(self.Finv, target)
        elif callable(method) and self.estimate is not None:
            covariance = np.linalg.inv(np.asarray(method(self.estimate[target]), dtype=float))
        else:
            raise ValueError("`Fisher` must be passed to show its inverse, got None.")
        if self.targets > 1 and (self.F is None or self.F.ndim == 3):
            title += f" of target {target + 1}"
        if ax is None:
            ax = plt.subplots(figsize=figsize, layout="constrained")[1]
        image = ax.imshow(covariance)  # with the first row at the top
        ax.set_xticks(np.arange(self.n_params), labels=self.axis_labels)
        ax.set_yticks(np.arange(self.n_params), labels=self.axis_labels)
        ax.set_title(title, wrap=True)
        figure = root_figure(ax)
        figure.colorbar(image, ax=ax, fraction=0.046, pad=0.04)
        if save is not None:
            figure.savefig(save, bbox_inches="tight", transparent=True)
        return ax

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickles the object, if all that the user passed can be pickled.

        Raises:
            TypeError: If a function that was passed is a lambda or defined within another one, or
                the prior is a distribution of TensorFlow Probability.
        """
        for name in ("get_estimate", "simulator", "distance"):
            value = getattr(self, name, None)
            function = value.function if isinstance(value, CheckedEstimator) else value
            if inspect.isfunction(function) and "<" in function.__qualname__:
                raise TypeError(
                    f"`{name}` must be a function of a module for {type(self).__name__} to be "
                    f"pickled, got {function.__qualname__}. What `result()` returns can be pickled."
                )
        self.prior.__reduce_ex__(protocol)
        return super().__reduce_ex__(protocol)

    def __copy__(self) -> Self:
        """A copy that shares all arrays."""
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        return new

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy that shares nothing but the prior and the functions, which never change."""
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        for name, value in self.__dict__.items():
            new.__dict__[name] = copy.deepcopy(value, memo)
        return new

    def _matrix_of(self, matrices: np.ndarray, target: int) -> np.ndarray:
        """The matrix of one target, `(n_params, n_params)`, out of one for all or one for each."""
        return matrices[target] if matrices.ndim == 3 else matrices

    def _target_number(self, target: int) -> int:
        """The number of a target, counted from zero; negative ones count from the end.

        Raises:
            TypeError: If `target` is not an integer.
            IndexError: If there are not so many targets.
        """
        number = checks.integer("target", target)
        if not -self.targets <= number < self.targets:
            raise IndexError(f"`target` must be one of {self.targets}, got {number}.")
        return number % self.targets

    def _target_numbers(self, target: int | Sequence[int] | None) -> list[int]:
        """The numbers of one target, of several, or of all for `None`."""
        if target is None:
            return list(range(self.targets))
        several = target if isinstance(target, Sequence | np.ndarray) else [target]
        numbers = [self._target_number(each) for each in several]
        if not numbers:
            raise ValueError("`target` must name one target at least, got none.")
        return numbers

    def _target_labels(self, chosen: Sequence[int], label: Label) -> Label:
        """Names in the legend: those given, or else numbers that count all targets."""
        if len(chosen) == self.targets or not (label is None or isinstance(label, str)):
            return label
        if len(chosen) == 1 and label is not None:
            return label
        return [f"{label or 'Target'} {target + 1}" for target in chosen]


def own_data(name: str, data: Numbers) -> Any:
    """A copy of data, `(n,) + shape`, that neither the user nor an estimator can change.

    Args:
        name: The argument that they were passed in, for the message.
        data: The data: an array, nested lists, or anything else that has a shape.

    Raises:
        ValueError: If the data are masked in part.
    """
    data = _with_shape(name, data)
    return data.copy() if isinstance(data, np.ndarray) else data  # a tensor cannot be changed


def _with_shape(name: str, data: Numbers) -> Any:
    """Data as they are, if they have a shape and nothing is masked, or else as an array."""
    if isinstance(data, np.ndarray) or not hasattr(data, "shape"):
        return checks.unmasked(name, data)
    return data


class CheckedEstimator:
    """A user's estimator, whose results are checked and converted to float64.

    In the first answer for several simulations, the estimate of the first one is compared with
    that of the same one alone. The first answer for ten or more must differ between them.

    Args:
        function: Takes data, `(n,) + input shape`, and returns estimates, `(n, length)`.
        length: The length of an estimate. `None` for that of the first answer.
    """

    def __init__(self, function: Callable[..., Any], length: int | None) -> None:
        self.function = checks.function("get_estimate", function)
        self._length = length
        self._compared = self._varies = False

    def __call__(self, data: Numbers) -> np.ndarray:
        """The estimates of some data, `(n, length)`.

        Raises:
            TypeError: If they are no numbers.
            ValueError: If they have another shape, or the estimate of one simulation depends on
                the others.
        """
        alone = None
        if not self._compared and len(data) > 1:
            alone = own_data("data", data[:1])
        estimates = self._estimates(data)
        if alone is not None and np.isfinite(estimates).all():
            self._require_independent(alone, estimates)
            self._compared = True
        if not self._varies and len(estimates) >= _ENOUGH_TO_VARY:
            _warn_of_constant(estimates, data)
            self._varies = True
        return estimates

    def _estimates(self, data: Numbers) -> np.ndarray:
        found, shape = self.function(data), (None, self._length)
        estimates = checks.array(
            "get_estimate(data)", found, shape=shape, dtype=float, finite=False
        )
        self._length = estimates.shape[1]
        return estimates

    def _require_independent(self, alone: Numbers, estimates: np.ndarray) -> None:
        """Checks that a simulation alone, `(1,) + input shape`, has its estimate in a batch."""
        first = self._estimates(own_data("data", alone))
        # Other orders of summation in another batch change digits, not a part of the scatter.
        largest = np.maximum(np.abs(estimates).max(axis=0), np.finfo(float).tiny)
        tolerated = largest * (1e-4 + 1e-2 * (estimates / largest).std(axis=0))
        if (np.abs(first[0] - estimates[0]) <= tolerated).all():
            return
        again = self._estimates(own_data("data", alone))
        if (np.abs(first[0] - again[0]) > tolerated).any():
            return  # it draws at random, which is no fault of the batch
        raise ValueError(
            "`get_estimate` must give a simulation the same estimate in any batch, got "
            f"{first[0].tolist()} for one alone and {estimates[0].tolist()} among "
            f"{len(estimates)}. Normalise by fixed numbers, and call a Keras model with "
            "`training=False`."
        )


def _warn_of_constant(estimates: np.ndarray, data: Numbers) -> None:
    """Warns of estimates, `(n, length)`, that are the same for all of different data."""
    constant = np.flatnonzero((estimates == estimates[0]).all(axis=0))
    if constant.size and (np.asarray(data) != np.asarray(data[:1])).any():
        logger.warning(
            "`get_estimate` gives all of %d different simulations the same value as component %s "
            "of the estimate, so it says nothing about them.",
            len(estimates),
            ", ".join(map(str, constant)),
        )


def _checked_fisher(Fisher: Numbers, targets: int, n_params: int) -> np.ndarray:
    """A Fisher information, or one for each target, made exactly symmetric."""
    F = checks.array("Fisher", Fisher, dtype=float)
    shape = (n_params, n_params)
    if F.shape not in (shape, (targets, *shape)):
        raise ValueError(
            f"`Fisher` must have shape {shape}, or {(targets, *shape)} with one for each target, "
            f"got {F.shape}."
        )
    diagonal = np.diagonal(F, axis1=-2, axis2=-1)
    if not (diagonal > 0).all():
        raise ValueError(
            f"`Fisher` must be positive definite, got a smallest eigenvalue of "
            f"{np.linalg.eigvalsh(F).min()}."
        )
    # Scaled so that the diagonal is one, the matrix does not depend on the units of the parameters.
    unit = np.sqrt(diagonal)
    scale = unit[..., :, np.newaxis] * unit[..., np.newaxis, :]
    # A Fisher information that was summed up in float32 is symmetric only to rounding.
    mirrored = F.swapaxes(-2, -1)
    if not (np.abs(F - mirrored) <= 1e-3 * np.abs(mirrored) + 1e-4 * scale).all():
        raise ValueError(f"`Fisher` must be symmetric, got {F.tolist()}.")
    F = (F + mirrored) / 2
    smallest = np.linalg.eigvalsh(F / scale).min()
    if smallest <= 0:
        raise ValueError(
            f"`Fisher` must be positive definite, got a smallest eigenvalue of {smallest} in units "
            "of which the diagonal is one."
        )
    return F
