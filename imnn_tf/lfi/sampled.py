"""What the methods that simulate have in common: simulations in, posteriors and plots out."""

import inspect
import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imnn_tf.lfi.base import LikelihoodFreeInference
from imnn_tf.lfi.executors import Pool
from imnn_tf.lfi.posterior import Bins, Posterior, Ranges, bounded_ranges, sample_ranges
from imnn_tf.lfi.regression import regression_adjusted
from imnn_tf.lfi.runs import Failure, SimulationResult
from imnn_tf.lfi.seeds import Seed, child, seed_sequence
from imnn_tf.lfi.simulation import simulate
from imnn_tf.lfi.store import save_simulations
from imnn_tf.utils import checks


class Accepted(NamedTuple):
    """The samples that one target's posterior is made of.

    Attributes:
        parameters: `(n, n_params)`.
        estimates: `(n, n_params)`.
        distances: `(n,)`.
        weights: `(n,)`, not necessarily normalised.
        tolerance: The radius within which they were accepted.
    """

    parameters: np.ndarray
    estimates: np.ndarray
    distances: np.ndarray
    weights: np.ndarray
    tolerance: float


class SampledInference(LikelihoodFreeInference):
    """Inference by simulating at many parameters and comparing with the targets.

    Simulations are compared by their estimates, at a distance
    `sqrt((x - t)^T F (x - t))`: in units of the standard deviations that the Fisher
    information allows.

    Args:
        target_data: The data to infer from, all targets at once: `(targets,) + input shape`.
        prior: The prior, of `event_shape` `(n_params,)`; see `imnn_tf.lfi.prior.Prior`.
        Fisher: Fisher information of the estimates, `(n_params, n_params)`.
        get_estimate: Takes data, returns estimates, `(n, n_params)`. Always runs here.
        simulator: Takes parameters, `(n, n_params)`, and returns data, `(n,) + input shape`;
            see `imnn_tf.lfi.simulate` for how it gets seeds.
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
        simulator: Callable[..., Any],
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
        self.simulator = checks.function("simulator", simulator)
        self._own_distance = None if distance is None else checks.function("distance", distance)
        self._metric = None if self.F is None else np.linalg.cholesky(self.F)
        self.seed = seed_sequence(seed)
        if store is not None and seed is None:
            raise ValueError("`seed` must be given with a `store`, to find a run again.")
        self._executor, self._batch_size, self._store = executor, batch_size, store
        self._options = {"timeout": timeout, "on_error": on_error, "retries": retries}
        self._progress = checks.flag("progress", progress)
        self._pool: Pool | None = None
        self.failures: list[Failure] = []
        self.grid: list[np.ndarray] | np.ndarray | None = None
        self.post: np.ndarray | None = None

    def result(self, target: int = 0, *, adjust: bool = False) -> Posterior:
        """The posterior of one target, as weighted samples.

        Args:
            target: Which one.
            adjust: Whether to correct for the tolerance by local-linear regression; see
                `imnn_tf.lfi.regression.regression_adjusted`.

        Raises:
            ValueError: If nothing has been accepted yet.
        """
        target = range(self.targets)[checks.integer("target", target)]
        accepted = self._accepted(target)
        if len(accepted.parameters) == 0:
            raise ValueError(
                f"`ε` must be large enough to accept samples, got {accepted.tolerance} and "
                f"none for target {target}."
            )
        parameters, weights = accepted.parameters, accepted.weights
        if adjust:
            parameters, weights = regression_adjusted(
                parameters,
                accepted.estimates,
                accepted.distances,
                self.estimate[target],  # type: ignore[index]
                accepted.tolerance,
                weights=weights,
                low=self.prior.low,
                high=self.prior.high,
            )
        return Posterior(
            parameters,
            weights,
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

    def plot(
        self,
        smoothing: float | None = None,
        bins: Bins = 25,
        ranges: Ranges | None = None,
        *,
        adjust: bool = False,
        **kwargs: Any,
    ) -> np.ndarray:
        """Draws the posteriors' marginals as a triangle.

        Args:
            smoothing: Width of a Gaussian smoothing in bins, which widens a posterior.
            bins: Bins for each parameter, one number or several.
            ranges: `(low, high)` for each parameter, by default where the samples are.
            adjust: Whether to correct for the tolerance by local-linear regression.
            **kwargs: Arguments of the method's call, to run it first, and those of
                `imnn_tf.lfi.plotting.triangle`: `ax`, `figsize`, `color`, `label`, `levels`.

        Returns:
            The axes, `(n_params, n_params)`.
        """
        from imnn_tf.lfi import plotting

        run, options = self._split(kwargs)
        self._prepare(**run)
        results = self.results(adjust=adjust)
        if ranges is None:
            ranges = sample_ranges(results)
        return plotting.triangle(
            [result.marginals(bins, ranges) for result in results],
            labels=self.axis_labels,
            smoothing=smoothing,
            **options,
        )

    def scatter_plot(
        self,
        axes: str = "parameter_estimate",
        rejected: float | None = 0.1,
        **kwargs: Any,
    ) -> np.ndarray:
        """Draws accepted and rejected simulations as points.

        Args:
            axes: "parameter_estimate" for estimates against parameters,
                "parameter_parameter" or "estimate_estimate" for pairs of one kind.
            rejected: Share of the rejected simulations to draw; `None` or 0 for none.
            **kwargs: Arguments of the method's call, to run it first, and those of
                `imnn_tf.lfi.scatter.scatter`: `ax`, `figsize`, `color`, `label`.

        Returns:
            The axes, `(n_params, n_params)`.

        Raises:
            ValueError: If `axes` is none of these.
        """
        from imnn_tf.lfi.scatter import Cloud, scatter

        modes = ("parameter_estimate", "parameter_parameter", "estimate_estimate")
        checks.choice("axes", axes, modes)
        share = checks.real("rejected", 0 if rejected is None else rejected, minimum=0, maximum=1)
        run, options = self._split(kwargs)
        self._prepare(**run)
        x, y = axes.split("_")
        clouds = []
        for target in range(self.targets):
            kept = self._accepted(target)
            points = {"parameter": kept.parameters, "estimate": kept.estimates}
            clouds.append(Cloud(points[x], points[y], kept.weights))
        others = []
        if share > 0:
            step = int(1 / share)
            for target in range(self.targets):
                parameters, estimates = self._rejected(target, step)
                points = {"parameter": parameters, "estimate": estimates}
                others.append(Cloud(points[x], points[y], np.ones(len(parameters))))
        names = {
            "parameter": self.axis_labels,
            "estimate": [f"Estimate of {label}" for label in self.axis_labels],
        }
        return scatter(
            clouds,
            others,
            xlabels=names[x],
            ylabels=names[y],
            horizontal=self.estimate if y == "estimate" else None,
            vertical=self.estimate if x == "estimate" else None,
            pairs=x == y,
            **options,
        )

    def _prepare(self, **run: Any) -> None:
        """Runs the method where arguments ask for it."""
        raise NotImplementedError

    def _accepted(self, target: int) -> Accepted:
        raise NotImplementedError

    def _rejected(self, target: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError

    def _split(self, kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arguments that run the method, and the others."""
        known = inspect.signature(self._prepare).parameters
        # Python spells ϵ as ε in the names of arguments, but not in the keys of a dict.
        spelt = {unicodedata.normalize("NFKC", key): value for key, value in kwargs.items()}
        run = {key: value for key, value in spelt.items() if key in known}
        return run, {key: value for key, value in spelt.items() if key not in known}

    def _distance(self, estimates: np.ndarray, target: int) -> np.ndarray:
        """Distances of estimates `(n, n_params)` from a target's, `(n,)`."""
        assert self.estimate is not None
        centre = self.estimate[target]
        if self._own_distance is None:
            return np.linalg.norm((estimates - centre) @ self._metric, axis=1)
        if len(estimates) == 0:
            return np.empty(0)
        values = self._own_distance(estimates, centre)
        shape = (len(estimates),)
        return checks.array("distance(estimates, target)", values, shape=shape, dtype=float)

    def _distances(self, estimates: np.ndarray) -> np.ndarray:
        """Distances of estimates `(n, n_params)` from the targets', `(n, targets)`."""
        each = [self._distance(estimates, target) for target in range(self.targets)]
        return np.stack(each, axis=1)

    @contextmanager
    def _workers(self) -> Iterator[None]:
        """Keeps the same workers for all simulations within."""
        if self._executor is None or self._pool is not None:
            yield
            return
        with Pool(self.simulator, self._executor) as pool:
            self._pool = pool
            try:
                yield
            finally:
                self._pool = None

    def _simulate(
        self,
        parameters: np.ndarray,
        key: tuple[int, ...],
        at_once: bool | int,
        save_sims: str | os.PathLike[str] | None,
        progress: Any,
    ) -> SimulationResult:
        """Estimates of simulations at some parameters, in `x` of what is returned."""

        def estimates(data: np.ndarray) -> np.ndarray:
            if save_sims is not None:
                save_simulations(save_sims, data)
            return self.get_estimate(data)  # type: ignore[misc]

        store = None
        if self._store is not None:
            store = Path(self._store) / "-".join(f"{part:04d}" for part in key)
        with self._workers():
            result = simulate(
                self.simulator,
                parameters,
                executor=self._pool,
                batch_size=self._batches(at_once, len(parameters)),
                seed=child(self.seed, *key),
                store=store,
                progress=progress,
                reduce=estimates,
                **self._options,  # type: ignore[arg-type]
            )
        self.failures += result.failures
        return result

    def _batches(self, at_once: bool | int, draws: int) -> int:
        if self._batch_size is not None:
            return checks.integer("batch_size", self._batch_size, minimum=1)
        if not isinstance(at_once, bool | np.bool_):
            return checks.integer("at_once", at_once, minimum=1)
        return max(draws, 1) if at_once and self._executor is None else 1
