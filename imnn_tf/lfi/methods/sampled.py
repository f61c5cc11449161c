"""What the methods that accept simulations have in common: distances, weights, and figures."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.lfi.methods.accepted import Accepted, warn_of_width
from imnn_tf.lfi.methods.simulated import RunFirst, SimulatedInference, Target
from imnn_tf.lfi.plots.layout import Label
from imnn_tf.lfi.plots.scatter import Cloud, scatter, try_scatter
from imnn_tf.lfi.posterior.samples import Posterior
from imnn_tf.running.execution import Execution
from imnn_tf.utils import checks
from imnn_tf.utils.seeds import Seed
from imnn_tf.utils.types import Numbers

# What can be scattered: along the horizontal axis, and along the vertical one.
_SCATTERED = ("parameter_estimate", "parameter_parameter", "estimate_estimate")


class SampledInference(SimulatedInference):
    """Inference by simulations that are accepted if they come close to a target.

    A subclass documents the arguments, among them `target_data`, `(targets,) + input shape`, and
    `Fisher`, `(n_params, n_params)`, and the attributes. It runs its method, and says by `_add`,
    `_accepted` and `_rejected` what it does with simulations.
    """

    def __init__(
        self,
        target_data: Numbers,
        prior: Any,
        Fisher: Numbers | None,
        get_estimate: Callable[..., Any] | None,
        simulator: Callable[..., Any] | None,
        labels: Sequence[str] | None,
        parameter_names: Sequence[str] | None,
        seed: Seed,
        distance: Callable[[np.ndarray, np.ndarray], ArrayLike] | None,
        execution: Execution,
    ) -> None:
        if get_estimate is None or (Fisher is None and distance is None):
            raise ValueError(
                "`Fisher` (or `distance`) and `get_estimate` must be given to measure distances, "
                "got None; `np.eye(n_params)` as `Fisher` makes them Euclidean."
            )
        names = labels, parameter_names
        super().__init__(
            target_data, prior, Fisher, get_estimate, simulator, *names, seed, execution
        )
        self.distance = None if distance is None else checks.function("distance", distance)

    def result(self, target: int = 0, *, adjust: bool = False) -> Posterior:
        """The posterior of one target, as weighted samples.

        A warning says if the tolerance makes it more than 10 % wider.

        Args:
            target: The number of the target, counted from zero.
            adjust: Whether to correct for the tolerance by local-linear regression; see
                `imnn_tf.lfi.methods.regression.regression_adjusted`.

        Raises:
            IndexError: If there is no such target.
            ValueError: If nothing has been accepted yet.
        """
        return self._results([self._target_number(target)], adjust)[0]

    def results(self, *, adjust: bool = False) -> list[Posterior]:
        """The posteriors of all targets, as weighted samples.

        Args:
            adjust: Whether to correct for the tolerance by local-linear regression.
        """
        return self._results(range(self.targets), adjust)

    def _results(self, chosen: Sequence[int], adjust: bool) -> list[Posterior]:
        """The posteriors of some targets; warns if a tolerance makes them much wider."""
        accepted = [self._accepted(target) for target in chosen]
        if self.distance is None and not adjust:
            warn_of_width(max(each.tolerance for each in accepted), self.n_params)
        pairs = zip(chosen, accepted, strict=True)
        return [self._posterior_of(target, each, adjust) for target, each in pairs]

    def _posterior_of(self, target: int, accepted: Accepted, adjust: bool) -> Posterior:
        if len(accepted.parameters) == 0:
            raise ValueError(
                f"`ε` must be large enough to accept samples, got {accepted.tolerance} and "
                f"none for target {target}."
            )
        if adjust:
            accepted = accepted.adjusted(self.estimate[target], self.prior)
        return Posterior(
            accepted.parameters,
            accepted.weights,
            parameter_names=self.parameter_names,
            labels=self.axis_labels,
            low=self.prior.low,
            high=self.prior.high,
        )

    def _accepted(self, target: int) -> Accepted:
        """The simulations accepted for a target."""
        raise NotImplementedError

    def _rejected(self, target: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Parameters and estimates, `(n, n_params)` each, of every `step`-th one rejected."""
        raise NotImplementedError

    def _scatter_plot(
        self,
        run_first: RunFirst,
        axes: str,
        rejected: float | None,
        target: Target,
        label: Label,
        **drawing: Any,
    ) -> np.ndarray:
        """Draws accepted and rejected simulations; `drawing` are options of `scatter`."""
        x, y = checks.choice("axes", axes, _SCATTERED).split("_")
        share = checks.real("rejected", 0 if rejected is None else rejected, minimum=0, maximum=1)
        chosen = self._target_numbers(target)
        drawing["label"] = self._target_labels(chosen, label or "Accepted")
        try_scatter(self.n_params, len(chosen), **drawing)
        run_first()
        names = self.axis_labels
        labels = {"parameter": names, "estimate": [f"Estimate of {name}" for name in names]}

        def cloud(parameters: np.ndarray, estimates: np.ndarray, weights: np.ndarray) -> Cloud:
            points = {"parameter": parameters, "estimate": estimates}
            return Cloud(points[x], points[y], weights)

        accepted = [self._accepted(each) for each in chosen]
        others = [self._rejected(each, int(1 / share)) for each in chosen] if share > 0 else []
        return scatter(
            [cloud(kept.parameters, kept.estimates, kept.weights) for kept in accepted],
            [cloud(*points, np.ones(len(points[0]))) for points in others],
            xlabels=labels[x],
            ylabels=labels[y],
            horizontal=self.estimate[chosen] if y == "estimate" else None,
            vertical=self.estimate[chosen] if x == "estimate" else None,
            pairs=x == y,
            **drawing,
        )

    def _distance_from(self, estimates: np.ndarray, target: int) -> np.ndarray:
        """Distances, `(n,)`, of estimates, `(n, n_params)`, from that of a target."""
        centre = self.estimate[target]
        if self.distance is None:
            assert self.F is not None
            # The length of L^T (x - t) is sqrt((x - t)^T F (x - t)), with F = L L^T.
            L = np.linalg.cholesky(self._matrix_of(self.F, target))
            return np.linalg.norm((estimates - centre) @ L, axis=1)
        if len(estimates) == 0:
            return np.empty(0)
        # Copies, since the function may work in place.
        values, shape = self.distance(estimates.copy(), centre.copy()), (len(estimates),)
        name = "distance(estimates, target)"
        distances = checks.array(name, values, shape=shape, dtype=float)
        if (distances < 0).any():
            raise ValueError(f"`{name}` must not be negative, got {distances.min()}.")
        return distances
