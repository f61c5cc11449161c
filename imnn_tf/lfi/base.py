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
        Fisher: The Fisher information of the estimates, `(n_params, n_params)`, symmetric and
            positive definite, or `None` for a method that needs none.
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
        F: Fisher information, `(n_params, n_params)`, or `None`.
        Finv: Its inverse, or `None`.
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
        self._set_fisher(Fisher)
        self._set_estimate(get_estimate)

    def _set_fisher(self, Fisher: Any) -> None:
        self.F = self.Finv = None
        if Fisher is None:
            return
        F = checks.array("Fisher", Fisher, shape=(self.n_params, self.n_params), dtype=float)
        # A Fisher information from float32 sums is symmetric only to their rounding.
        if not np.allclose(F, F.T, rtol=1e-3, atol=1e-4 * np.abs(F).max()):
            raise ValueError(f"`Fisher` must be symmetric, got {F.tolist()}.")
        F = (F + F.T) / 2
        smallest = np.linalg.eigvalsh(F)[0]
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

    @property
    def axis_labels(self) -> list[str]:
        """What stands beside the axes of plots: the labels, or else the names."""
        return list(self.labels) if self.labels is not None else self.parameter_names

    def plot_Fisher(
        self,
        ax: "Axes | None" = None,
        figsize: tuple[float, float] = (10, 10),
        save: str | None = None,
    ) -> "Axes":
        """Shows the inverse Fisher information: the covariance the Cramér-Rao bound allows.

        Where `Fisher=None` was passed but the object has a method `Fisher(parameters)`, that
        is evaluated at the first target's estimate.

        Args:
            ax: Where to draw; `None` makes a figure.
            figsize: Its size in inches.
            save: File to save the figure to.

        Returns:
            The axes drawn on.

        Raises:
            ValueError: If there is no Fisher information.
        """
        from imnn_tf.lfi import plotting

        covariance = self.Finv
        method = getattr(self, "Fisher", None)
        if covariance is None and callable(method) and self.estimate is not None:
            covariance = np.linalg.inv(np.asarray(method(self.estimate[0]), dtype=float))
        if covariance is None:
            raise ValueError("`Fisher` must be passed to show its inverse, got None.")
        return plotting.matrix(
            covariance,
            labels=self.axis_labels,
            title="Inverse Fisher information",
            ax=ax,
            figsize=figsize,
            save=save,
        )
