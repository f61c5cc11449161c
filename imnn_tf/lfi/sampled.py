"""What the methods that simulate have in common: simulations in, posteriors and plots out."""

import inspect
import os
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.lfi.accepted import Accepted
from imnn_tf.lfi.base import LikelihoodFreeInference
from imnn_tf.lfi.density import Marginals
from imnn_tf.lfi.posterior import Bins, Posterior, Ranges, bounded_ranges, sample_ranges
from imnn_tf.lfi.runner import Runner
from imnn_tf.lfi.runs import Failure, SimulationResult
from imnn_tf.utils import checks
from imnn_tf.utils.seeds import Seed, seed_sequence


class SampledInference(LikelihoodFreeInference):
    """Inference by simulating at many parameters and comparing with the targets.

    Simulations are compared by their estimates, at a distance
    `sqrt((x - t)^T F (x - t))`: in units of the standard deviations that the Fisher
    information allows.

    Args:
        target_data: The data to infer from, all targets at once: `(targets,) + input shape`.
        prior: The prior, of `event_shape` `(n_params,)`; see `imnn_tf.lfi.prior.Prior`.
        Fisher: Fisher information of the estimates, `(n_params, n_params)`, or one for each
            target, `(targets, n_params, n_params)`: the metric of its distances.
        get_estimate: Takes data, returns estimates, `(n, n_params)`. Always runs here.
        simulator: Takes parameters, `(n, n_params)`, and returns data, `(n,) + input shape`;
            see `imnn_tf.lfi.simulate` for how it gets seeds. `None` for rejection from
            simulations made elsewhere; see `add`.
        labels: One label for each parameter, for plots.
        parameter_names: One plain name for each parameter, for exports.
        seed: For all that is random, the simulator's seeds too. `None` takes fresh entropy,
            which `seed.entropy` then tells.
        executor: Where simulations run; see `imnn_tf.lfi.simulate`.
        batch_size: Simulations in one call of the simulator. `None` leaves it to `at_once`,
            or takes 1 with an executor.
        timeout: Seconds that a batch may take.
        on_error: What to do about failing simulations: "raise", "skip" or "retry".
        retries: How often.
        distance: Takes estimates, `(n, n_params)`, and a target's estimate, `(n_params,)`, and
            returns distances, `(n,)`, in the place of the one above; `Fisher` may then be `None`.
        store: A folder that keeps finished simulations. The same calls on a new object with
            the same seed then go on where the last one was stopped, or killed.
        progress: Whether to show bars.

    Attributes:
        simulator: As passed.
        seed: The `numpy.random.SeedSequence` in use.
        failures: Simulations that failed so far.
        grid: Bin centres of the last `posterior`, an array `(bins,)` for each parameter.
        post: The last `posterior`.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If `Fisher` or `get_estimate` is `None`, or shapes do not fit.
    """

    def __init__(
        self,
        target_data: Any,
        prior: Any,
        Fisher: Any,
        get_estimate: Callable[..., Any],
        simulator: Callable[..., Any] | None = None,
        labels: Sequence[str] | None = None,
        *,
        parameter_names: Sequence[str] | None = None,
        seed: Seed = None,
        executor: Any = None,
        batch_size: int | None = None,
        timeout: float | None = None,
        on_error: str = "raise",
        retries: int = 0,
        distance: Callable[[np.ndarray, np.ndarray], Any] | None = None,
        store: str | os.PathLike[str] | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__(
            target_data, prior, Fisher, get_estimate, labels, parameter_names=parameter_names
        )
        if self.estimate is None or (self.F is None and distance is None):
            raise ValueError(
                "`Fisher` (or `distance`) and `get_estimate` must be given to measure distances, "
                "got None; `np.eye(n_params)` as `Fisher` makes them Euclidean."
            )
        self.simulator = None if simulator is None else checks.function("simulator", simulator)
        self._own_distance = None if distance is None else checks.function("distance", distance)
        self._metric = None if self.F is None else np.linalg.cholesky(self.F)
        self.seed = seed_sequence(seed)
        if store is not None and seed is None:
            raise ValueError("`seed` must be given with a `store`, to find a run again.")
        assert self.get_estimate is not None
        self._runner = Runner(
            self.get_estimate,
            self.seed,
            executor=executor,
            batch_size=batch_size,
            store=store,
            timeout=timeout,
            on_error=on_error,
            retries=retries,
        )
        self._progress = checks.flag("progress", progress)
        self.failures: list[Failure] = []
        self.grid: list[np.ndarray] | np.ndarray | None = None
        self.post: np.ndarray | None = None

    def add(
        self, parameters: ArrayLike, estimates: ArrayLike | None = None, *, data: Any = None
    ) -> None:
        """Takes in simulations made elsewhere, at parameters drawn from the prior.

        They count as if they had been simulated here. Parameters drawn from anything but the
        prior would give a wrong posterior, and nothing here can tell.

        Args:
            parameters: Draws from the prior, `(n, n_params)`.
            estimates: The estimate of the simulation at each, `(n, n_params)`.
            data: The simulations themselves, `(n,) + input shape`, in the place of `estimates`.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If both or neither of `estimates` and `data` are given, shapes do not
                fit, numbers are not finite, or the prior forbids some of the parameters.
        """
        shape = (None, self.n_params)
        points = checks.array("parameters", parameters, shape=shape, dtype=float)
        if (estimates is None) == (data is None):
            got = "neither" if data is None else "both"
            raise ValueError(f"`estimates` or `data` must be given, got {got}.")
        if data is not None:
            assert self.get_estimate is not None
            estimates = self.get_estimate(data if hasattr(data, "shape") else np.asarray(data))
        assert estimates is not None
        found = checks.array("estimates", estimates, shape=points.shape, dtype=float)
        outside = len(points) - np.count_nonzero(self.prior.supports(points))
        if outside:
            raise ValueError(
                f"`parameters` must be draws from the prior, got {outside} of {len(points)} "
                "that it forbids."
            )
        self._take(points, found)

    def result(self, target: int = 0, *, adjust: bool = False) -> Posterior:
        """The posterior of one target, as weighted samples.

        Args:
            target: Which one.
            adjust: Whether to correct for the tolerance by local-linear regression; see
                `imnn_tf.lfi.regression.regression_adjusted`.

        Raises:
            IndexError: If there is no such target.
            ValueError: If nothing has been accepted yet.
        """
        target = self._target(target)
        accepted = self._accepted(target)
        if len(accepted.parameters) == 0:
            raise ValueError(
                f"`ε` must be large enough to accept samples, got {accepted.tolerance} and "
                f"none for target {target}."
            )
        if adjust:
            assert self.estimate is not None
            accepted = accepted.adjusted(self.estimate[target], self.prior)
        return Posterior(
            accepted.parameters,
            accepted.weights,
            parameter_names=self.parameter_names,
            labels=self.axis_labels,
            low=self.prior.low,
            high=self.prior.high,
        )

    def results(self, *, adjust: bool = False) -> list[Posterior]:
        """The posteriors of all targets."""
        return [self.result(target, adjust=adjust) for target in range(self.targets)]

    def posterior(
        self,
        bins: Bins = 25,
        ranges: Ranges | None = None,
        *,
        adjust: bool = False,
        **run: Any,
    ) -> np.ndarray:
        """The posterior density as a weighted histogram.

        Args:
            bins: Bins for each parameter, one number or several.
            ranges: `(low, high)` for each parameter; by default the prior's bounds, or the
                samples' ends where those are infinite.
            adjust: Whether to correct for the tolerance by local-linear regression.
            **run: Arguments of the method's call, to run it first.

        Returns:
            Density, `(targets, bins_1, ..., bins_p)`; `grid` holds the bins' centres.

        Raises:
            ValueError: If nothing is accepted, or the bins are too many or out of range.
        """
        self._prepare(**run)
        results = self.results(adjust=adjust)
        if ranges is None:
            samples = [result.samples for result in results]
            ranges = bounded_ranges(self.prior.low, self.prior.high, samples)
        histograms = [result.histogram(bins, ranges) for result in results]
        centres = histograms[0][1]
        alike = len({len(axis) for axis in centres}) == 1
        self.grid = np.stack(centres) if alike else centres
        self.post = np.stack([density for density, _ in histograms])
        return self.post

    def marginals(
        self,
        bins: Bins = 25,
        ranges: Ranges | None = None,
        *,
        adjust: bool = False,
        target: int | Sequence[int] | None = None,
        **run: Any,
    ) -> list[Marginals]:
        """Weighted histograms of single parameters and of pairs, one `Marginals` for each target.

        Args:
            bins: Bins for each parameter, one number or several.
            ranges: `(low, high)` for each parameter, by default where each target's samples are.
            adjust: Whether to correct for the tolerance by local-linear regression.
            target: Which target, or which ones; `None` for all.
            **run: Arguments of the method's call, to run it first.

        Raises:
            IndexError: If there is no such target.
            ValueError: If nothing is accepted, or no sample is in range.
        """
        chosen = self._targets(target)
        self._prepare(**run)
        results = [self.result(each, adjust=adjust) for each in chosen]
        return [
            result.marginals(bins, sample_ranges(result) if ranges is None else ranges)
            for result in results
        ]

    def plot(
        self,
        smoothing: float | None = None,
        bins: Bins = 25,
        ranges: Ranges | None = None,
        *,
        adjust: bool = False,
        target: int | Sequence[int] | None = None,
        label: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Draws the posteriors' marginals as a triangle.

        Args:
            smoothing: Width of a Gaussian smoothing in bins, which widens a posterior.
            bins: As in `marginals`, and so the three that follow.
            ranges: See there.
            adjust: See there.
            target: See there.
            label: A name in the legend, or one for each target drawn.
            **kwargs: Arguments of the method's call, to run it first, and those of
                `imnn_tf.lfi.plotting.triangle`: `ax`, `figsize`, `color`, `known`, `levels`.

        Returns:
            The axes, `(n_params, n_params)`.
        """
        from imnn_tf.lfi import plotting

        chosen = self._targets(target)
        run, options = self._split(kwargs)
        return plotting.triangle(
            self.marginals(bins, ranges, adjust=adjust, target=chosen, **run),
            labels=self.axis_labels,
            smoothing=smoothing,
            label=self._target_labels(chosen, label),
            **options,
        )

    def scatter_plot(
        self,
        axes: str = "parameter_estimate",
        rejected: float | None = 0.1,
        *,
        target: int | Sequence[int] | None = None,
        label: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Draws accepted and rejected simulations as points.

        Args:
            axes: "parameter_estimate" for estimates against parameters,
                "parameter_parameter" or "estimate_estimate" for pairs of one kind.
            rejected: Share of the rejected simulations to draw; `None` or 0 for none.
            target: Which target to draw, or which ones; `None` for all.
            label: A name in the legend, or one for each target drawn.
            **kwargs: Arguments of the method's call, to run it first, and those of
                `imnn_tf.lfi.scatter.scatter`: `ax`, `figsize`, `color`, `known`.

        Returns:
            The axes, `(n_params, n_params)`.

        Raises:
            IndexError: If there is no such target.
            ValueError: If `axes` is none of these.
        """
        from imnn_tf.lfi.scatter import MODES, scatter_simulations

        checks.choice("axes", axes, MODES)
        share = checks.real("rejected", 0 if rejected is None else rejected, minimum=0, maximum=1)
        chosen = self._targets(target)
        run, options = self._split(kwargs)
        self._prepare(**run)
        assert self.estimate is not None
        return scatter_simulations(
            axes,
            [self._accepted(each) for each in chosen],
            [self._rejected(each, int(1 / share)) for each in chosen] if share > 0 else [],
            self.estimate[chosen],
            self.axis_labels,
            label=self._target_labels(chosen, label or "Accepted"),
            **options,
        )

    def _prepare(self, **run: Any) -> None:
        """Runs the method where arguments ask for it."""
        raise NotImplementedError

    @property
    def _runs_by(self) -> Callable[..., Any]:
        """What takes the arguments that run the method."""
        return self._prepare

    def _take(self, parameters: np.ndarray, estimates: np.ndarray) -> None:
        """Keeps simulations made elsewhere."""
        raise NotImplementedError

    def _accepted(self, target: int) -> Accepted:
        raise NotImplementedError

    def _rejected(self, target: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError

    def _split(self, kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arguments that run the method, and the others."""
        known = inspect.signature(self._runs_by).parameters
        # Python spells ϵ as ε in the names of arguments, but not in the keys of a dict.
        spelt = {unicodedata.normalize("NFKC", key): value for key, value in kwargs.items()}
        run = {key: value for key, value in spelt.items() if key in known}
        return run, {key: value for key, value in spelt.items() if key not in known}

    def _distance(self, estimates: np.ndarray, target: int) -> np.ndarray:
        """Distances of estimates `(n, n_params)` from a target's, `(n,)`."""
        assert self.estimate is not None
        centre = self.estimate[target]
        if self._own_distance is None:
            assert self._metric is not None
            metric = self._of_target(self._metric, target)
            return np.linalg.norm((estimates - centre) @ metric, axis=1)
        if len(estimates) == 0:
            return np.empty(0)
        values = self._own_distance(estimates, centre)
        shape = (len(estimates),)
        return checks.array("distance(estimates, target)", values, shape=shape, dtype=float)

    def _distances(self, estimates: np.ndarray) -> np.ndarray:
        """Distances of estimates `(n, n_params)` from the targets', `(n, targets)`."""
        each = [self._distance(estimates, target) for target in range(self.targets)]
        return np.stack(each, axis=1)

    def _workers(self) -> AbstractContextManager[None]:
        """Keeps the same workers for all simulations within."""
        return nullcontext() if self.simulator is None else self._runner.workers(self.simulator)

    def _simulates(self) -> Callable[..., Any]:
        """The simulator, which must be there."""
        if self.simulator is None:
            raise ValueError(
                "`simulator` must be given to simulate at more parameters, got None; `add` "
                "takes simulations made elsewhere."
            )
        return self.simulator

    def _simulate(
        self,
        parameters: np.ndarray,
        key: tuple[int, ...],
        at_once: bool | int,
        save_sims: str | os.PathLike[str] | None,
        progress: Any,
    ) -> SimulationResult:
        """As `Runner.run`, keeping account of failures."""
        simulator = self._simulates()
        result = self._runner.run(simulator, parameters, key, at_once, save_sims, progress)
        self.failures += result.failures
        return result
