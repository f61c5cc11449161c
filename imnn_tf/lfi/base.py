"""What every method of inference here starts from."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imnn_tf.lfi.prior import Prior
from imnn_tf.utils import checks

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class LikelihoodFreeInference:
    """Target data compressed to estimates, a prior, and the Fisher information.

    Args:
        target_data: The data to infer from, all targets at once: `(targets,) + input shape`.
        prior: The prior, of `event_shape` `(n_params,)`; see `imnn_tf.lfi.prior.Prior`.
        Fisher: The Fisher information of the estimates, symmetric and positive definite,
            `(n_params, n_params)`, or one for each target, `(targets, n_params, n_params)`;
            `None` for a method that needs none.
        get_estimate: Takes data, `(n,) + input shape`, and returns estimates of the
            parameters, `(n, n_params)`. `None` if a subclass needs no estimate.
        labels: One label for each parameter, for plots; `None` for `parameter_names`.
        parameter_names: One plain name for each parameter, for exports; `None` for `p1`, `p2`
            and so on.

    Attributes:
        data: The target data as passed; a list becomes an array.
        estimate: Estimates of the targets, `(targets, n_params)`.
        targets: The number of targets.
        n_params: The number of parameters.
        F: Fisher information, of the shape it was passed in, or `None`.
        Finv: Its inverse, of the same shape, or `None`.
        prior: The wrapped prior, with `low` and `high`.
        labels: As passed.
        parameter_names: Names of the parameters.
        get_estimate: As passed, returning float64 arrays.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If the shapes do not fit each other or `Fisher` is no Fisher information.
    """

    F: np.ndarray | None
    Finv: np.ndarray | None
    get_estimate: Callable[..., np.ndarray] | None

    def __init__(
        self,
        target_data: Any,
        prior: Any,
        Fisher: Any,
        get_estimate: Callable[..., Any] | None,
        labels: Sequence[str] | None = None,
        *,
        parameter_names: Sequence[str] | None = None,
    ) -> None:
        self.data = target_data if hasattr(target_data, "shape") else np.asarray(target_data)
        self.prior = Prior(prior)
        self.n_params = self.prior.n_params
        self.labels = checks.strings("labels", labels, self.n_params)
        names = checks.strings("parameter_names", parameter_names, self.n_params)
        self.parameter_names = names or [f"p{i + 1}" for i in range(self.n_params)]
        self._set_estimate(get_estimate)
        self._set_fisher(Fisher)

    def _set_fisher(self, Fisher: Any) -> None:
        self.F = self.Finv = None
        if Fisher is None:
            return
        F = checks.array("Fisher", Fisher, dtype=float)
        shape = (self.n_params, self.n_params)
        if F.shape not in (shape, (self.targets, *shape)):
            raise ValueError(
                f"`Fisher` must have shape {shape}, or {(self.targets, *shape)} with one for "
                f"each target, got {F.shape}."
            )
        # A Fisher information from float32 sums is symmetric only to their rounding.
        mirrored = F.swapaxes(-2, -1)
        scale = np.abs(F).max(axis=(-2, -1), keepdims=True)
        if not np.isclose(F, mirrored, rtol=1e-3, atol=1e-4 * scale).all():
            raise ValueError(f"`Fisher` must be symmetric, got {F.tolist()}.")
        F = (F + mirrored) / 2
        smallest = np.linalg.eigvalsh(F).min()
        if smallest <= 0:
            raise ValueError(
                f"`Fisher` must be positive definite, got a smallest eigenvalue of {smallest}."
            )
        self.F, self.Finv = F, np.linalg.inv(F)

    def _set_estimate(self, get_estimate: Callable[..., Any] | None) -> None:
        self.estimate: np.ndarray | None = None
        self.get_estimate = None
        self.targets = len(self.data)
        if get_estimate is None:
            return
        checks.function("get_estimate", get_estimate)
        name, shape = "get_estimate(data)", (None, self.n_params)

        def estimator(data: Any) -> np.ndarray:
            return checks.array(name, get_estimate(data), shape=shape, dtype=float, finite=False)

        self.estimate = checks.array("get_estimate(target_data)", estimator(self.data))
        self.get_estimate = estimator
        self.targets = len(self.estimate)

    def _of_target(self, matrix: np.ndarray, target: int) -> np.ndarray:
        """One target's matrix, `(n_params, n_params)`, of `F` or `Finv`."""
        return matrix[target] if matrix.ndim == 3 else matrix

    def _target(self, target: Any) -> int:
        """The number of a target, counted from zero.

        Raises:
            TypeError: If `target` is no integer.
            IndexError: If there are fewer targets; negative ones count from the end.
        """
        number = checks.integer("target", target)
        if not -self.targets <= number < self.targets:
            raise IndexError(f"`target` must be one of {self.targets}, got {number}.")
        return number % self.targets

    def _targets(self, target: int | Sequence[int] | None) -> list[int]:
        """The numbers of one target, of several, or with `None` of all."""
        if target is None:
            return list(range(self.targets))
        several = isinstance(target, Sequence | np.ndarray)
        numbers = [self._target(each) for each in (target if several else [target])]  # type: ignore[union-attr]
        if not numbers:
            raise ValueError("`target` must name one target at least, got none.")
        return numbers

    def _target_labels(self, chosen: Sequence[int], label: Any) -> Any:
        """Names in the legend: those given, or else the targets' numbers among all of them."""
        if len(chosen) == self.targets or not (label is None or isinstance(label, str)):
            return label
        if len(chosen) == 1 and label is not None:
            return label
        return [f"{label or 'Target'} {target + 1}" for target in chosen]

    @property
    def axis_labels(self) -> list[str]:
        """What stands beside the axes of plots: the labels, or else the names."""
        return list(self.labels) if self.labels is not None else self.parameter_names

    def plot_Fisher(
        self,
        ax: "Axes | None" = None,
        figsize: tuple[float, float] = (10, 10),
        save: str | None = None,
        *,
        target: int = 0,
    ) -> "Axes":
        """Shows the inverse Fisher information: the covariance the Cramér-Rao bound allows.

        Where `Fisher=None` was passed but the object has a method `Fisher(parameters)`, that
        is evaluated at the target's estimate.

        Args:
            ax: Where to draw; `None` makes a figure.
            figsize: Its size in inches.
            save: File to save the figure to.
            target: Whose, where the targets have one each.

        Returns:
            The axes drawn on.

        Raises:
            IndexError: If there is no such target.
            ValueError: If there is no Fisher information.
        """
        from imnn_tf.lfi import plotting

        target, shared = self._target(target), False
        method = getattr(self, "Fisher", None)
        if self.Finv is not None:
            covariance, shared = self._of_target(self.Finv, target), self.Finv.ndim == 2
        elif callable(method) and self.estimate is not None:
            covariance = np.linalg.inv(np.asarray(method(self.estimate[target]), dtype=float))
        else:
            raise ValueError("`Fisher` must be passed to show its inverse, got None.")
        title = "Inverse Fisher information"
        if self.targets > 1 and not shared:
            title += f" of target {target + 1}"
        return plotting.matrix(
            covariance,
            labels=self.axis_labels,
            title=title,
            ax=ax,
            figsize=figsize,
            save=save,
        )
