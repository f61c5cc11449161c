"""Population Monte Carlo: tolerances that shrink, weights that stay right."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.lfi.methods.generations import Populations, Schedule
from imnn_tf.lfi.methods.particles import WeightedParticles
from imnn_tf.lfi.methods.simulated import FileName, Target
from imnn_tf.lfi.plots.layout import AxesLike, Color, FigureSize, Label
from imnn_tf.lfi.plots.triangle import LEVELS
from imnn_tf.lfi.posterior.histograms import Bins, Ranges
from imnn_tf.lfi.posterior.marginals import Marginals
from imnn_tf.running.arguments import POSTERIOR, SCATTER, described
from imnn_tf.running.execution import Execution, ProgressBar
from imnn_tf.running.executors import Workers
from imnn_tf.utils import checks
from imnn_tf.utils.interrupt import deferred_interrupt
from imnn_tf.utils.seeds import Seed
from imnn_tf.utils.types import Numbers

# The arguments that run the method.
_RUN = {
    "draws": "The number of particles of each population. `None` for as many as there are.",
    "initial_draws": "The number of simulations at draws from the prior, of which the nearest "
    "`draws` are the first population. Simulations that were added count; `None` uses these alone. "
    "Only the first call uses it.",
    "criterion": "Stop after a generation in which this share of the simulations or less was "
    "accepted. `None` for no such rule.",
    "percentile": "The next tolerance is this percentile of the distances. `None` for 95, which "
    "takes small steps.",
    "tolerance": "Stop when all particles are within this distance; the tolerance does not go "
    "below it. `None` for no such rule.",
    "max_simulations": "Stop after this number of simulations for a target, the first ones at "
    "draws from the prior included. `None` for no limit.",
    "max_seconds": "Stop after this time: no further batch of simulations starts. `None` for no "
    "limit.",
    "min_change": "Stop after a generation that shrank the tolerance by less than this share. "
    "`None` for no such rule.",
}


@described(
    recycle="Whether results and plots use all simulations within the final tolerance, whichever "
    "generation they belong to, and not only the last population. That costs no simulations; see "
    "`imnn_tf.lfi.methods.population.Population.recycled`. The attributes show the last population "
    "in any case.",
    local_kernels="The share of the proposals, from 0 to 0.5, that are moved by a Gaussian as "
    "narrow as the neighbourhood of their particle, and not by one as wide as the population. 0.2 "
    "is for posteriors of several modes or of a bent shape, where few wide moves are accepted.",
)
class PopulationMonteCarlo(WeightedParticles):
    """A population of particles for each target, moved to smaller and smaller distances.

    Population Monte Carlo as published by Beaumont, Cornuet, Marin & Robert (2009),
    arXiv:0805.2256. The first population is the nearest of simulations at draws from the prior.
    Then, in every generation:

    1. the tolerance is a percentile of the distances of the last population;
    2. particles are drawn from the last population by weight, and moved by a Gaussian of twice
       its weighted covariance, until they are within the support of the prior;
    3. the first that are simulated within the tolerance, in the order in which they were
       proposed, make up the new population;
    4. their weights are the prior over the density that they were drawn from.

    Targets share the draws from the prior, and are independent of each other otherwise.

    The attributes beginning with `accepted_` are the same as those without it, such as
    `parameters`. Those beginning with `rejected_` are empty.

    Attributes:
        simulator: As passed.
        distance: As passed.
        seed: The `numpy.random.SeedSequence` in use.
        failures: Simulations that failed so far.
        grid: Centres of the bins of the last `posterior`, an array `(bins,)` for each parameter.
        post: The last `posterior`, `(targets, bins_1, ..., bins_p)`.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If `Fisher` or `get_estimate` is `None`, or shapes do not fit.
    """

    def __init__(
        self,
        target_data: Numbers,
        prior: Any,
        Fisher: Numbers | None,
        get_estimate: Callable[..., Any],
        simulator: Callable[..., Any],
        labels: Sequence[str] | None = None,
        *,
        parameter_names: Sequence[str] | None = None,
        seed: Seed = None,
        executor: Workers = None,
        batch_size: int | None = None,
        timeout: float | None = None,
        on_error: str = "raise",
        retries: int = 0,
        distance: Callable[[np.ndarray, np.ndarray], ArrayLike] | None = None,
        store: str | os.PathLike[str] | None = None,
        progress: bool | ProgressBar = True,
        recycle: bool = True,
        local_kernels: float = 0.0,
        execution: Execution | None = None,
    ) -> None:
        separate = executor, batch_size, timeout, on_error, retries, store, progress
        execution = Execution.of(execution, *separate)
        checks.function("simulator", simulator)
        names = labels, parameter_names
        super().__init__(
            target_data, prior, Fisher, get_estimate, simulator, *names, seed, distance, execution
        )
        recycle = checks.flag("recycle", recycle)
        self._populations = Populations(
            self.targets,
            self.prior,
            self._distance_from,
            self.seed,
            recycle,
            checks.real("local_kernels", local_kernels, minimum=0, maximum=0.5),
        )

    @described(**_RUN)
    def PMC(
        self,
        draws: int | None = None,
        initial_draws: int | None = None,
        criterion: float | None = None,
        percentile: float | None = 50,
        at_once: bool | int = True,
        save_sims: FileName | None = None,
        tqdm_notebook: bool = True,
        *,
        tolerance: float | None = None,
        max_simulations: int | None = None,
        max_seconds: float | None = None,
        min_change: float | None = None,
    ) -> None:
        """Starts the populations, and moves them until a rule says to stop.

        At least one rule must be given. Another call goes on from where the last one stopped.
        Ctrl-C and the limits on simulations and time end a generation early; the populations are
        then those of the last whole generation.

        Raises:
            SimulationError: If a simulation fails and `on_error` is "raise".
            ValueError: If there is nothing to start from, `initial_draws` is below `draws`,
                `max_simulations` below `initial_draws`, there is no rule to stop by, or a number
                is out of range.
        """
        rules = tolerance, max_simulations, max_seconds, min_change
        schedule = Schedule(percentile, criterion, *rules)
        if draws is not None:
            draws = checks.integer("draws", draws, minimum=self.n_params + 1)
        with ExitStack() as stack:
            schedule.interrupt = stack.enter_context(deferred_interrupt())
            total = self._populations.left(initial_draws, schedule)
            bar = stack.enter_context(self._execution.bar(total))
            execution = replace(stack.enter_context(self._same_workers()), progress=bar)
            simulate = partial(
                self._simulate,
                at_once=at_once,
                save_sims=save_sims,
                execution=execution,
                deadline=schedule.deadline,
            )
            populations = self._populations
            if not populations.each:
                populations.start(draws, initial_draws, schedule, simulate)
            active = list(range(len(populations.each)))
            while active:  # in turns, so that no target alone pays for time that runs out
                for target in active.copy():
                    if not populations.advance(target, draws, schedule, simulate, bar):
                        active.remove(target)

    __call__ = PMC

    @described(**_RUN, **POSTERIOR)
    def posterior(
        self,
        bins: Bins = 25,
        ranges: Ranges | None = None,
        *,
        adjust: bool = False,
        draws: int | None = None,
        initial_draws: int | None = None,
        criterion: float | None = None,
        percentile: float | None = 50,
        at_once: bool | int = True,
        save_sims: FileName | None = None,
        tqdm_notebook: bool = True,
        tolerance: float | None = None,
        max_simulations: int | None = None,
        max_seconds: float | None = None,
        min_change: float | None = None,
    ) -> np.ndarray:
        """The posterior density as a weighted histogram; runs first if `draws` or a rule is given.

        Returns:
            The density, `(targets, bins_1, ..., bins_p)`. The attribute `grid` then holds the
            centres of the bins.

        Raises:
            ValueError: If there are no particles, or the bins are too many or out of range.
        """
        rules = tolerance, max_simulations, max_seconds, min_change
        run = draws, initial_draws, criterion, percentile, at_once, save_sims
        infer = partial(self._results, adjust=adjust)
        return self._posterior(partial(self._run, *run, *rules), bins, ranges, infer)

    @described(**_RUN)
    def marginals(
        self,
        bins: Bins | None = None,
        ranges: Ranges | None = None,
        *,
        adjust: bool = False,
        target: Target = None,
        draws: int | None = None,
        initial_draws: int | None = None,
        criterion: float | None = None,
        percentile: float | None = 50,
        at_once: bool | int = True,
        save_sims: FileName | None = None,
        tqdm_notebook: bool = True,
        tolerance: float | None = None,
        max_simulations: int | None = None,
        max_seconds: float | None = None,
        min_change: float | None = None,
    ) -> list[Marginals]:
        """Histograms of single parameters and pairs; runs first if `draws` or a rule is given.

        Returns:
            One `Marginals` for each target chosen.

        Raises:
            IndexError: If there is no such target.
            ValueError: If there are no particles, or no sample is in range.
        """
        rules = tolerance, max_simulations, max_seconds, min_change
        run = draws, initial_draws, criterion, percentile, at_once, save_sims
        infer = partial(self._results, adjust=adjust)
        return self._marginals(partial(self._run, *run, *rules), bins, ranges, infer, target)

    @described(**_RUN)
    def plot(
        self,
        smoothing: float | None = None,
        bins: Bins | None = None,
        ranges: Ranges | None = None,
        *,
        adjust: bool = False,
        target: Target = None,
        label: Label = None,
        draws: int | None = None,
        initial_draws: int | None = None,
        criterion: float | None = None,
        percentile: float | None = 50,
        at_once: bool | int = True,
        save_sims: FileName | None = None,
        tqdm_notebook: bool = True,
        tolerance: float | None = None,
        max_simulations: int | None = None,
        max_seconds: float | None = None,
        min_change: float | None = None,
        ax: AxesLike = None,
        figsize: FigureSize = None,
        color: Color | Sequence[Color] | None = None,
        levels: float | Sequence[float] = LEVELS,
        known: ArrayLike | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Draws the marginals of the posteriors; runs first if `draws` or a rule is given.

        Returns:
            The axes, `(n_params, n_params)`.

        Raises:
            IndexError: If there is no such target.
            ValueError: If there are no particles, or no sample is in range.
        """
        kwargs.update(ax=ax, figsize=figsize, color=color, levels=levels, known=known)
        rules = tolerance, max_simulations, max_seconds, min_change
        run = draws, initial_draws, criterion, percentile, at_once, save_sims
        run_first, infer = partial(self._run, *run, *rules), partial(self._results, adjust=adjust)
        return self._plot(
            run_first, bins, ranges, infer, target, label, smoothing=smoothing, **kwargs
        )

    @described(**_RUN, **SCATTER)
    def scatter_plot(
        self,
        axes: str = "parameter_estimate",
        rejected: float | None = 0.1,
        *,
        target: Target = None,
        label: Label = None,
        draws: int | None = None,
        initial_draws: int | None = None,
        criterion: float | None = None,
        percentile: float | None = 50,
        at_once: bool | int = True,
        save_sims: FileName | None = None,
        tqdm_notebook: bool = True,
        tolerance: float | None = None,
        max_simulations: int | None = None,
        max_seconds: float | None = None,
        min_change: float | None = None,
        ax: AxesLike = None,
        figsize: FigureSize = None,
        color: Color | Sequence[Color] | None = None,
        known: ArrayLike | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Draws accepted simulations as points; runs first if `draws` or a rule is given.

        Returns:
            The axes, `(n_params, n_params)`.

        Raises:
            IndexError: If there is no such target.
            ValueError: If `axes` or `rejected` is out of range.
        """
        kwargs.update(ax=ax, figsize=figsize, color=color, known=known)
        rules = tolerance, max_simulations, max_seconds, min_change
        run = draws, initial_draws, criterion, percentile, at_once, save_sims
        run_first = partial(self._run, *run, *rules)
        return self._scatter_plot(run_first, axes, rejected, target, label, **kwargs)

    def _run(
        self,
        draws: int | None,
        initial_draws: int | None,
        criterion: float | None,
        percentile: float | None,
        at_once: bool | int,
        save_sims: FileName | None,
        tolerance: float | None,
        max_simulations: int | None,
        max_seconds: float | None,
        min_change: float | None,
    ) -> None:
        """Runs the method if a number of particles or a rule to stop by is given."""
        rules = criterion, tolerance, max_simulations, max_seconds, min_change
        if draws is None and all(rule is None for rule in rules):
            return
        self.PMC(
            draws,
            initial_draws,
            criterion,
            percentile,
            at_once,
            save_sims,
            tolerance=tolerance,
            max_simulations=max_simulations,
            max_seconds=max_seconds,
            min_change=min_change,
        )
