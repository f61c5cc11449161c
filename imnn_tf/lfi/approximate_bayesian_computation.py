"""Approximate Bayesian computation by rejection."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.lfi.methods.rejection import RejectionSampling, Tolerance
from imnn_tf.lfi.methods.simulated import FileName, Target
from imnn_tf.lfi.plots.layout import AxesLike, Color, FigureSize, Label
from imnn_tf.lfi.plots.triangle import LEVELS
from imnn_tf.lfi.posterior.histograms import Bins, Ranges
from imnn_tf.lfi.posterior.marginals import Marginals
from imnn_tf.running.arguments import POSTERIOR, SCATTER, described
from imnn_tf.running.execution import Execution, ProgressBar
from imnn_tf.running.executors import Workers
from imnn_tf.utils import checks
from imnn_tf.utils.seeds import Seed
from imnn_tf.utils.types import Numbers

# The arguments of figures and histograms that simulate and accept first.
_RUN = {
    "ε": "Accept what lies within this distance of a target: one number, or one for each target. "
    "`None` keeps what was accepted before, and simulates nothing.",
    "draws": "The number of draws that there must be in all. Only those that are missing are made. "
    "With `accepted`, the least number of draws to make at a time. `None` for no more draws.",
    "accepted": "The number of draws that must be accepted for each target; draws are made until "
    "they are. `None` for any number.",
    "max_draws": "With `accepted`, the number of draws in all after which to stop, whatever has "
    "been accepted. `None` for no limit.",
}

# The number of draws after which a run ends if all of its simulations fail.
_MOST_FAILURES = 1000


@checks.ascii_keywords
@described(
    simulator="Takes parameters, `(n, n_params)`, and returns data, `(n,) + input shape`. If its "
    "second positional argument has no default, it also gets random seeds; see "
    "`imnn_tf.lfi.simulate`. `None` if all simulations are made elsewhere; see `add`.",
)
class ApproximateBayesianComputation(RejectionSampling):
    """Simulations at draws from the prior, accepted if they come close to a target.

    Calling the object draws and simulates. `accept_reject` then accepts what lies within `ε` of
    each target. All draws are kept, so `ε` may be changed at will. The accepted draws are
    independent samples of the posterior given that the estimate lies within `ε` of the target's.
    As `ε` goes to zero, this becomes the posterior given the estimate (Pritchard et al. 1999;
    Beaumont, Zhang & Balding 2002).

    `ε` may also be typed as `ϵ` or `epsilon`.

    The attributes beginning with `accepted_` and `rejected_` are arrays `(1, n, ...)` with one
    target, lists of arrays `(n_i, ...)` with several, and `None` before `accept_reject`.

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
        simulator: Callable[..., Any] | None = None,
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
        execution: Execution | None = None,
    ) -> None:
        separate = executor, batch_size, timeout, on_error, retries, store, progress
        execution = Execution.of(execution, *separate)
        names = labels, parameter_names
        super().__init__(
            target_data, prior, Fisher, get_estimate, simulator, *names, seed, distance, execution
        )
        self.reset()

    @described(
        draws="The number of draws; or with `predrawn` parameters that were drawn from the prior "
        "before, `(n, n_params)`.",
        predrawn="Whether `draws` are parameters.",
        update="Whether to add the draws to those of the object.",
        progress="Whether to show a progress bar, or a bar to use. `None` for what the constructor "
        "was told.",
    )
    def ABC(
        self,
        draws: int | ArrayLike,
        at_once: bool | int = True,
        save_sims: FileName | None = None,
        predrawn: bool = False,
        update: bool = True,
        *,
        progress: bool | ProgressBar | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Draws from the prior, simulates, and compares with the targets.

        Returns:
            Parameters, `(n, n_params)`, estimates, `(n, n_params)`, differences of the
            estimates from the targets', `(n, targets, n_params)`, and distances,
            `(n, targets)`, of the simulations that did not fail.

        Raises:
            SimulationError: If a simulation fails and `on_error` is "raise".
            ValueError: If `draws` is not positive or of the wrong shape, or holds parameters that
                the prior forbids while `update` adds them.
        """
        execution = self._execution
        if progress is not None:
            execution = replace(execution, progress=progress)
        simulated, distances = self._draw(
            draws, at_once, save_sims, execution, predrawn=predrawn, update=update
        )
        parameters, estimates = simulated.parameters, simulated.estimates
        return parameters, estimates, self._differences(estimates), distances

    __call__ = ABC

    @described(ε="The distance: one number, or one for each target, `(targets,)`.")
    def accept_reject(self, ε: Tolerance) -> None:
        """Accepts the draws whose distance from a target is below `ε`, for each target.

        Raises:
            ValueError: If `ε` is not positive, or there are no draws yet.
        """
        self._draws.accept(self._tolerances(ε))

    @described(
        ε="The distance: one number, or one for each target, `(targets,)`.",
        accepted="The number of draws that must be accepted for each target.",
        min_draws="The least number of draws to make at a time. More are made, up to 65,536, if "
        "the acceptance so far says that more are needed. `None` for 1.",
        max_draws="The number of draws in all after which to stop, whatever has been accepted. "
        "`None` for no limit.",
    )
    def get_min_accepted(
        self,
        ε: Tolerance,
        accepted: int,
        min_draws: int | None = 1,
        at_once: bool | int = True,
        save_sims: FileName | None = None,
        tqdm_notebook: bool = True,
        *,
        max_draws: int | None = None,
    ) -> None:
        """Draws until enough draws are within `ε` of each target, and accepts them.

        Raises:
            SimulationError: If a simulation fails and `on_error` is "raise".
            ValueError: If a number is not positive.
        """
        tolerances = self._tolerances(ε)
        wanted = checks.integer("accepted", accepted, minimum=1)
        least = checks.integer("min_draws", 1 if min_draws is None else min_draws, minimum=1)
        most = np.inf if max_draws is None else checks.integer("max_draws", max_draws, minimum=1)
        have = (self.distances < tolerances).sum(axis=0)
        total = None if max_draws is None else max(0, int(most) - len(self.parameters))
        with self._execution.bar(total) as bar, self._same_workers() as execution:
            execution = replace(execution, progress=bar)
            tried, in_vain = len(self.parameters), 0
            while (have < wanted).any() and tried < most:
                number = int(min(self._draws.missing(have, wanted, least), most - tried))
                simulated, distances = self._draw(number, at_once, save_sims, execution)
                have = have + (distances < tolerances).sum(axis=0)
                bar.set_postfix(accepted=have.tolist())
                tried += number
                in_vain = 0 if len(distances) else in_vain + number
                # Without this a simulator that always fails would be called for ever.
                if simulated.interrupted or in_vain >= max(wanted, _MOST_FAILURES):
                    break
        self._draws.accept(tolerances)

    @described(**_RUN, **POSTERIOR)
    def posterior(
        self,
        bins: Bins = 25,
        ranges: Ranges | None = None,
        *,
        adjust: bool = False,
        ε: Tolerance | None = None,
        draws: int | None = None,
        accepted: int | None = None,
        max_draws: int | None = None,
        at_once: bool | int = True,
        save_sims: FileName | None = None,
        tqdm_notebook: bool = True,
    ) -> np.ndarray:
        """The posterior density as a histogram, after simulating and accepting as asked.

        Returns:
            The density, `(targets, bins_1, ..., bins_p)`. The attribute `grid` then holds the
            centres of the bins.

        Raises:
            ValueError: If nothing is accepted, or the bins are too many or out of range.
        """
        run_first = partial(self._run, ε, draws, accepted, max_draws, at_once, save_sims)
        infer = partial(self._results, adjust=adjust)
        return self._posterior(run_first, bins, ranges, infer)

    @described(**_RUN)
    def marginals(
        self,
        bins: Bins | None = None,
        ranges: Ranges | None = None,
        *,
        adjust: bool = False,
        target: Target = None,
        ε: Tolerance | None = None,
        draws: int | None = None,
        accepted: int | None = None,
        max_draws: int | None = None,
        at_once: bool | int = True,
        save_sims: FileName | None = None,
        tqdm_notebook: bool = True,
    ) -> list[Marginals]:
        """Densities of single parameters and of pairs, after simulating and accepting as asked.

        Returns:
            One `Marginals` for each target chosen.

        Raises:
            IndexError: If there is no such target.
            ValueError: If nothing is accepted, or no sample is in range.
        """
        run_first = partial(self._run, ε, draws, accepted, max_draws, at_once, save_sims)
        infer = partial(self._results, adjust=adjust)
        return self._marginals(run_first, bins, ranges, infer, target)

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
        ε: Tolerance | None = None,
        draws: int | None = None,
        accepted: int | None = None,
        max_draws: int | None = None,
        at_once: bool | int = True,
        save_sims: FileName | None = None,
        tqdm_notebook: bool = True,
        ax: AxesLike = None,
        figsize: FigureSize = None,
        color: Color | Sequence[Color] | None = None,
        levels: float | Sequence[float] = LEVELS,
        known: ArrayLike | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Draws the marginals of the posteriors, after simulating and accepting as asked.

        Returns:
            The axes, `(n_params, n_params)`.

        Raises:
            IndexError: If there is no such target.
            ValueError: If nothing is accepted, or no sample is in range.
        """
        kwargs.update(ax=ax, figsize=figsize, color=color, levels=levels, known=known)
        run_first = partial(self._run, ε, draws, accepted, max_draws, at_once, save_sims)
        results = bins, ranges, partial(self._results, adjust=adjust), target
        return self._plot(run_first, *results, label, smoothing=smoothing, **kwargs)

    @described(**_RUN, **SCATTER)
    def scatter_plot(
        self,
        axes: str = "parameter_estimate",
        rejected: float | None = 0.1,
        *,
        target: Target = None,
        label: Label = None,
        ε: Tolerance | None = None,
        draws: int | None = None,
        accepted: int | None = None,
        max_draws: int | None = None,
        at_once: bool | int = True,
        save_sims: FileName | None = None,
        tqdm_notebook: bool = True,
        ax: AxesLike = None,
        figsize: FigureSize = None,
        color: Color | Sequence[Color] | None = None,
        known: ArrayLike | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Draws accepted and rejected draws as points, after simulating and accepting as asked.

        Returns:
            The axes, `(n_params, n_params)`.

        Raises:
            IndexError: If there is no such target.
            ValueError: If `axes` or `rejected` is out of range.
        """
        kwargs.update(ax=ax, figsize=figsize, color=color, known=known)
        run_first = partial(self._run, ε, draws, accepted, max_draws, at_once, save_sims)
        return self._scatter_plot(run_first, axes, rejected, target, label, **kwargs)

    def _run(
        self,
        ε: Tolerance | None,
        draws: int | None,
        accepted: int | None,
        max_draws: int | None,
        at_once: bool | int,
        save_sims: FileName | None,
    ) -> None:
        """Makes the draws that are missing, and accepts."""
        if ε is None:
            if self._draws.mask is None:
                raise ValueError("`ε` must be given before anything has been accepted.")
            return
        if accepted is not None:
            self.get_min_accepted(ε, accepted, draws, at_once, save_sims, max_draws=max_draws)
            return
        missing = (0 if draws is None else draws) - len(self.parameters)
        if missing > 0:
            self.ABC(missing, at_once, save_sims)
        self.accept_reject(ε)
