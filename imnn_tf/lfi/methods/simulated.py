"""What the methods that simulate have in common: simulations in, posteriors and figures out."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.lfi.methods.base import LikelihoodFreeInference, own_data
from imnn_tf.lfi.plots.layout import Label
from imnn_tf.lfi.plots.triangle import triangle, try_options
from imnn_tf.lfi.posterior.histograms import (
    Bins,
    Ranges,
    bin_edges,
    bounded_ranges,
    check_ranges,
)
from imnn_tf.lfi.posterior.marginals import Marginals
from imnn_tf.lfi.posterior.samples import Posterior
from imnn_tf.running.execution import Execution
from imnn_tf.running.executors import Pool
from imnn_tf.running.run import Failure
from imnn_tf.running.simulation import run_simulations
from imnn_tf.running.store import folder_of, save_simulations
from imnn_tf.utils import checks
from imnn_tf.utils.seeds import Seed, child, seed_sequence
from imnn_tf.utils.types import Numbers

# The numbers of targets: one, several, or `None` for all.
Target: TypeAlias = int | Sequence[int] | None
FileName: TypeAlias = str | os.PathLike[str]
# Runs the method first, as far as the arguments of a plot ask for it.
RunFirst: TypeAlias = Callable[[], None]
# Takes the numbers of targets and returns their posteriors.
Infer: TypeAlias = Callable[[Sequence[int]], list[Posterior]]


class Simulated(NamedTuple):
    """Simulations that did not fail.

    Attributes:
        parameters: Their parameters, `(n, n_params)`.
        estimates: Their estimates, `(n, n_summaries)`.
        interrupted: Whether Ctrl-C ended the run early.
        attempted: The number of simulations, failed ones included.
    """

    parameters: np.ndarray
    estimates: np.ndarray
    interrupted: bool = False
    attempted: int = 0

    def joined(self, other: "Simulated") -> "Simulated":
        """These simulations followed by others."""
        return Simulated(
            np.concatenate([self.parameters, other.parameters]),
            np.concatenate([self.estimates, other.estimates]),
            other.interrupted,
            self.attempted + other.attempted,
        )


class SimulatedInference(LikelihoodFreeInference):
    """Inference from simulations, which run here or were made elsewhere.

    The estimates are of any length `n_summaries`; a subclass may ask for `n_params`. A subclass
    documents the arguments and the attributes. It runs its method, and says by `_add` what it does
    with simulations.
    """

    estimate: np.ndarray  # (targets, n_summaries)
    get_estimate: Callable[..., np.ndarray]  # returns (n, n_summaries)

    def __init__(
        self,
        target_data: Numbers,
        prior: Any,
        Fisher: Numbers | None,
        get_estimate: Callable[..., Any],
        simulator: Callable[..., Any] | None,
        labels: Sequence[str] | None,
        parameter_names: Sequence[str] | None,
        seed: Seed,
        execution: Execution,
    ) -> None:
        super().__init__(
            target_data, prior, Fisher, get_estimate, labels, parameter_names=parameter_names
        )
        self.simulator = None if simulator is None else checks.function("simulator", simulator)
        self.seed = seed_sequence(seed)
        if execution.store is not None and seed is None:
            raise ValueError("`seed` must be given with a `store`, to find a run again.")
        self._execution = execution
        self.failures: list[Failure] = []
        self.grid: list[np.ndarray] | np.ndarray | None = None
        self.post: np.ndarray | None = None

    @property
    def n_summaries(self) -> int:
        """The length of an estimate."""
        return self.estimate.shape[1]

    def add(
        self, parameters: ArrayLike, estimates: ArrayLike | None = None, *, data: Any = None
    ) -> None:
        """Adds simulations that were made elsewhere, at parameters drawn from the prior.

        They count as if they had been made here. If the parameters were drawn from anything but
        the prior the posterior will be wrong, and this cannot be noticed.

        Args:
            parameters: Draws from the prior, `(n, n_params)`.
            estimates: The estimates of the simulations at these parameters, `(n, n_summaries)`:
                what `get_estimate` returns for them.
            data: The simulations themselves, `(n,) + input shape`, instead of `estimates`.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If both or neither of `estimates` and `data` are given, shapes do not
                fit, numbers are not finite, or the prior forbids some of the parameters.
        """
        points = checks.array("parameters", parameters, shape=(None, self.n_params), dtype=float)
        if (estimates is None) == (data is None):
            got = "neither" if data is None else "both"
            raise ValueError(f"`estimates` or `data` must be given, got {got}.")
        if data is not None:
            data = own_data("data", data)
            self._check_shape("data", data)
            estimates = self.get_estimate(data)
        assert estimates is not None
        shape = (len(points), self.n_summaries)
        found = checks.array("estimates", estimates, shape=shape, dtype=float)
        self._require_support("parameters", points)
        self._add(Simulated(points.copy(), found.copy()))

    def _require_support(self, name: str, parameters: np.ndarray) -> None:
        """Checks that the prior allows parameters, `(n, n_params)`, of an argument."""
        outside = len(parameters) - np.count_nonzero(self.prior.supports(parameters))
        if outside:
            raise ValueError(
                f"`{name}` must be draws from the prior, got {outside} of {len(parameters)} "
                "that it forbids."
            )

    def _check_shape(self, name: str, data: Any) -> None:
        """Data must have the shape of the targets: an estimator might take others in silence."""
        expected, got = tuple(self.data.shape)[1:], tuple(data.shape)[1:]
        if got != expected:
            raise ValueError(
                f"`{name}` must have the shape of the targets, {('n', *expected)}, got "
                f"{tuple(data.shape)}."
            )

    def _add(self, simulated: Simulated) -> None:
        """Keeps simulations that were made elsewhere."""
        raise NotImplementedError

    def _posterior(
        self, run_first: RunFirst, bins: Bins, ranges: Ranges | None, infer: Infer
    ) -> np.ndarray:
        """Histograms of the samples of all targets, `(targets, bins_1, ..., bins_p)`."""
        self._check_bins(bins, ranges)
        run_first()
        results = infer(range(self.targets))
        if ranges is None:
            samples = [result.samples for result in results]
            ranges = bounded_ranges(self.prior.low, self.prior.high, samples)
        histograms = [result.histogram(bins, ranges) for result in results]
        centres = histograms[0][1]
        alike = len({len(axis) for axis in centres}) == 1
        self.grid = np.stack(centres) if alike else centres
        self.post = np.stack([density for density, _ in histograms])
        return self.post

    def _marginals(
        self,
        run_first: RunFirst,
        bins: Bins | None,
        ranges: Ranges | None,
        infer: Infer,
        target: Target,
    ) -> list[Marginals]:
        """Densities of single parameters and of pairs, for each target chosen."""
        chosen = self._target_numbers(target)
        self._check_bins(bins, ranges)
        run_first()
        return [result.marginals(bins, ranges) for result in infer(chosen)]

    def _plot(
        self,
        run_first: RunFirst,
        bins: Bins | None,
        ranges: Ranges | None,
        infer: Infer,
        target: Target,
        label: Label,
        **drawing: Any,
    ) -> np.ndarray:
        """Draws the marginals as a triangle; `drawing` are options of `triangle`."""
        chosen = self._target_numbers(target)
        drawing["label"] = self._target_labels(chosen, label)
        # A name that is wrong must not cost simulations. Two parameters have all kinds of panels.
        size, axis = min(self.n_params, 2), np.linspace(-2, 2, 5)
        squares = sum(each**2 for each in np.meshgrid(*[axis] * size))
        tried = Marginals.of_grid(np.exp(-squares), [axis] * size)
        try_options([tried] * len(chosen), self.n_params, **drawing)
        marginals = self._marginals(run_first, bins, ranges, infer, chosen)
        return triangle(marginals, labels=self.axis_labels, **drawing)

    def _check_bins(self, bins: Bins | None, ranges: Ranges | None) -> None:
        """Raises what is wrong with bins before anything is simulated."""
        check_ranges(ranges, self.n_params)
        if bins is not None:
            bin_edges(bins, [(0.0, 1.0)] * self.n_params)

    def _required_simulator(self) -> Callable[..., Any]:
        if self.simulator is None:
            raise ValueError(
                "`simulator` must be given to simulate at more parameters, got None; `add` "
                "takes simulations made elsewhere."
            )
        return self.simulator

    @contextmanager
    def _same_workers(self) -> Iterator[Execution]:
        """Settings with which all simulations within the block run on the same workers."""
        workers = self._execution.executor
        if workers is None or isinstance(workers, Pool) or self.simulator is None:
            yield self._execution
            return
        with Pool(self.simulator, workers) as pool:
            yield replace(self._execution, executor=pool)

    def _simulate(
        self,
        parameters: np.ndarray,
        key: tuple[int, ...],
        *,
        at_once: bool | int,
        save_sims: FileName | None,
        execution: Execution,
        deadline: float = np.inf,
    ) -> Simulated:
        """Simulates at parameters, `(n, n_params)`, and estimates.

        Args:
            parameters: Parameters, `(n, n_params)`.
            key: Tells the calls of one object apart; each has its own seeds and folder in a store.
            at_once: Whether all of them go to the simulator in one call, or how many.
            save_sims: Name of a file for the simulations.
            execution: How the simulations run.
            deadline: The time of `time.monotonic` after which no further batch starts.
        """

        def estimates(data: np.ndarray) -> np.ndarray:
            self._check_shape("simulator(parameters)", data)
            if save_sims is not None:
                save_simulations(save_sims, data)
            return self.get_estimate(data)

        batch_size, store = execution.batch_size, execution.store
        if batch_size is None:
            if not isinstance(at_once, bool | np.bool_):
                batch_size = checks.integer("at_once", at_once, minimum=1)
            elif at_once and execution.executor is None:
                batch_size = max(len(parameters), 1)
        if store is not None:
            store = folder_of(Path(store) / "-".join(f"{part:04d}" for part in key), parameters)
        result = run_simulations(
            self._required_simulator(),
            parameters,
            child(self.seed, *key),
            replace(execution, batch_size=batch_size, store=store),
            estimates,
            deadline,
            self.get_estimate,
        )
        self.failures += result.failures
        found = np.empty((0, self.n_summaries)) if result.x is None else result.x[result.ok]
        attempted = int(result.ok.sum()) + len(result.failures)
        return Simulated(parameters[result.ok], found, result.interrupted, attempted)
