"""Neural posterior estimation: a posterior for every target from one training."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.lfi.methods.simulated import FileName, Target
from imnn_tf.lfi.neural import saving
from imnn_tf.lfi.neural.amortised import AmortisedInference, flattened, nothing
from imnn_tf.lfi.neural.estimators import maker_of
from imnn_tf.lfi.neural.plots import plot_training, scatter_simulations
from imnn_tf.lfi.plots.layout import AxesLike, Color, FigureSize, Label
from imnn_tf.lfi.plots.triangle import LEVELS
from imnn_tf.lfi.posterior.histograms import Bins, Ranges
from imnn_tf.lfi.posterior.marginals import Marginals
from imnn_tf.lfi.posterior.samples import Posterior
from imnn_tf.running.arguments import ESTIMATOR, POSTERIOR, SAMPLES, TRAINING, described
from imnn_tf.running.execution import Execution, ProgressBar
from imnn_tf.running.executors import Workers
from imnn_tf.utils import checks
from imnn_tf.utils.seeds import Seed
from imnn_tf.utils.types import Numbers


@described(**ESTIMATOR)
class NeuralPosterior(AmortisedInference):
    """A density of the parameters given summaries, learnt from simulations.

    Neural posterior estimation (Papamakarios & Murray 2016, arXiv:1605.06376; Lueckmann et al.
    2017, arXiv:1711.01861; Greenberg et al. 2019, arXiv:1905.07488). Parameters are drawn from the
    prior, and simulated. A conditional density `q(parameters | summaries)` that maximises the mean
    of `log q` over such pairs approaches the posterior, for all observations at once. No tolerance
    and no Fisher information is needed, and a further target costs no simulation.

    The density is learnt of mapped parameters and of scaled summaries; see
    `imnn_tf.lfi.neural.parameter_space.ParameterSpace` and
    `imnn_tf.lfi.neural.summaries.SummaryScaling`. The map takes the box of the prior to the real
    line, so no mass leaks out of a box. If the support of the prior is not a box, samples outside
    are rejected.

    Calling the object simulates and trains. With `rounds`, the density is made for one target
    alone; see `NPE`.

    Attributes:
        simulator: As passed.
        seed: The `numpy.random.SeedSequence` in use.
        failures: Simulations that failed so far.
        grid: Centres of the bins of the last `posterior`, an array `(bins,)` for each parameter.
        post: The last `posterior`, `(targets, bins_1, ..., bins_p)`.

    Raises:
        ImportError: If BayesFlow is the density estimator, and not installed.
        TypeError: If an argument is of the wrong kind.
        ValueError: If shapes do not fit, or there is no density estimator of that name.
    """

    def __init__(
        self,
        target_data: Numbers,
        prior: Any,
        get_estimate: Callable[..., Any] | None = None,
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
        store: str | os.PathLike[str] | None = None,
        progress: bool | ProgressBar = True,
        execution: Execution | None = None,
        density_estimator: Any = None,
    ) -> None:
        separate = executor, batch_size, timeout, on_error, retries, store, progress
        execution = Execution.of(execution, *separate)
        get_estimate = flattened if get_estimate is None else get_estimate
        names = labels, parameter_names
        super().__init__(target_data, prior, None, get_estimate, simulator, *names, seed, execution)
        self._make_estimator = maker_of(density_estimator)
        self.reset()

    @described(
        **TRAINING,
        draws="The number of simulations of each round. Those that were made or added before are "
        "used too.",
        rounds="The number of rounds. With 1 there is one training on draws from the prior, for "
        "all targets.",
        target="With several rounds, the number of the target that they are for.",
    )
    def NPE(
        self,
        draws: int,
        *,
        rounds: int = 1,
        target: int | None = None,
        at_once: bool | int = True,
        save_sims: FileName | None = None,
        callbacks: Sequence[Any] | None = None,
        progress: bool | ProgressBar | None = None,
    ) -> None:
        """Simulates at draws from the prior, and trains on all simulations there are.

        With several rounds, this is truncated sequential estimation for one target (Deistler,
        Goncalves & Macke 2022, arXiv:2210.04815). The draws of the first round are from the prior.
        Those of each later one are from the prior too, but only from the region of highest density
        that holds all but 1e-4 of the target's posterior so far. All simulations train together,
        by the same loss, without weights. This is right for the following reason. The training
        learns the posterior under the density that the parameters were drawn from in all rounds
        together. Where all regions overlap, that density is the prior times a constant, so there
        the posterior has the right shape. Its constant is right too, because nearly all of it lies
        there. The loss needs no correction as long as every region held the posterior of the
        target. If a density was wrong and its region left a part of the posterior out, that part
        has too little weight in the end: by as much as there are fewer draws in it than the prior
        would put there beside those in the region. So give the first round enough simulations.
        Outside the regions the density of the draws is not the prior times the same constant, so
        the result is for that target alone.

        If there is a density already, the first round is restricted as well.

        Ctrl-C during the simulations ends them early. Nothing is trained then; `train` trains on
        what there is.

        Raises:
            IndexError: If there is no such target.
            SimulationError: If a simulation fails and `on_error` is "raise".
            ValueError: If a number is not positive, there are fewer than 100 simulations in all,
                `rounds` comes without `target`, earlier rounds were for another target, or too
                few draws from the prior lie in a region.
        """
        rounds = checks.integer("rounds", rounds, minimum=1)
        draws = checks.integer("draws", draws, minimum=1)
        if (rounds > 1) != (target is not None):
            raise ValueError(
                "`rounds` of more than 1 must come with the `target` that they are for, got "
                f"rounds={rounds} and target={target}."
            )
        focus = None if target is None else self._focused(target)
        self._run_rounds(draws, rounds, focus, at_once, save_sims, callbacks, progress)

    __call__ = NPE

    @described(**TRAINING)
    def train(
        self,
        *,
        callbacks: Sequence[Any] | None = None,
        progress: bool | ProgressBar | None = None,
    ) -> None:
        """Trains anew on all simulations there are, those that were added included.

        A training that Ctrl-C or a callback has stopped goes on instead, if there are no new
        simulations since.

        Raises:
            ValueError: If there are fewer than 100 simulations.
        """
        self._train(callbacks, progress)

    @described(
        **SAMPLES,
        data="An observation that is none of the targets, `(1,) + input shape` or `input shape`, "
        "instead of `target`. `None` for a target.",
    )
    def result(
        self,
        target: int = 0,
        *,
        data: Numbers | None = None,
        n_samples: int = 4000,
        seed: Seed = None,
    ) -> Posterior:
        """The posterior of one target, or of any other observation, as samples.

        Nothing is simulated. A warning says if the observation is unlike all training simulations.

        Raises:
            IndexError: If there is no such target.
            ValueError: If nothing has been trained yet, or the density was made for another target.
        """
        summaries, name = self._one(target, data)
        return self._infer(summaries, [name], n_samples, seed)[0]

    @described(
        **SAMPLES,
        data="Observations that are none of the targets, `(n,) + input shape`, instead of the "
        "targets. `None` for all targets.",
    )
    def results(
        self, *, data: Numbers | None = None, n_samples: int = 4000, seed: Seed = None
    ) -> list[Posterior]:
        """The posteriors of all targets, or of any other observations, as samples.

        Nothing is simulated. A warning names the observations that are unlike all training
        simulations.

        Raises:
            ValueError: If nothing has been trained yet, or the density was made for one target.
        """
        summaries, names = self._several(data)
        return self._infer(summaries, names, n_samples, seed)

    @described(
        parameters="Points, `(..., n_params)`.",
        data="An observation that is none of the targets, `(1,) + input shape` or `input shape`, "
        "instead of `target`. `None` for a target.",
        target="The number of the target, counted from zero.",
    )
    def log_prob(
        self, parameters: ArrayLike, target: int = 0, *, data: Numbers | None = None
    ) -> np.ndarray:
        """The log density of a posterior, normalised within the support of the prior.

        If the support is not a box, the density is divided by the share of it that lies inside.
        That is found from 20,000 samples of the density, so the error of the logarithm is
        `sqrt((1 - share) / share / 20,000)`: 0.007 for a share of a half.

        Returns:
            Log densities, `(...)`, minus infinity outside the support.

        Raises:
            IndexError: If there is no such target.
            ValueError: If nothing has been trained yet, or the density was made for another target.
        """
        points = checks.array("parameters", parameters, dtype=float)
        if points.shape[-1:] != (self.n_params,):
            raise ValueError(
                f"`parameters` must have shape (..., {self.n_params}), got {points.shape}."
            )
        summaries, name = self._one(target, data)
        trained = self._require_trained(summaries, [name])
        flat = points.reshape(1, -1, self.n_params)
        return trained.log_prob(flat, summaries)[0].reshape(points.shape[:-1])

    @described(**SAMPLES, **POSTERIOR)
    def posterior(
        self,
        bins: Bins = 25,
        ranges: Ranges | None = None,
        *,
        n_samples: int = 4000,
        seed: Seed = None,
    ) -> np.ndarray:
        """The posterior density of all targets as a histogram.

        Returns:
            The density, `(targets, bins_1, ..., bins_p)`. The attribute `grid` then holds the
            centres of the bins.

        Raises:
            ValueError: If nothing has been trained yet, or the bins are too many or out of range.
        """
        infer = partial(self._results, n_samples=n_samples, seed=seed)
        return self._posterior(nothing, bins, ranges, infer)

    @described(**SAMPLES)
    def marginals(
        self,
        bins: Bins | None = None,
        ranges: Ranges | None = None,
        *,
        target: Target = None,
        n_samples: int = 4000,
        seed: Seed = None,
    ) -> list[Marginals]:
        """Densities of single parameters and of pairs.

        Returns:
            One `Marginals` for each target chosen.

        Raises:
            IndexError: If there is no such target.
            ValueError: If nothing has been trained yet, or no sample is in range.
        """
        infer = partial(self._results, n_samples=n_samples, seed=seed)
        return self._marginals(nothing, bins, ranges, infer, target)

    @described(**SAMPLES)
    def plot(
        self,
        smoothing: float | None = None,
        bins: Bins | None = None,
        ranges: Ranges | None = None,
        *,
        target: Target = None,
        label: Label = None,
        n_samples: int = 4000,
        seed: Seed = None,
        ax: AxesLike = None,
        figsize: FigureSize = None,
        color: Color | Sequence[Color] | None = None,
        levels: float | Sequence[float] = LEVELS,
        known: ArrayLike | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Draws the marginals of the posteriors.

        Returns:
            The axes, `(n_params, n_params)`.

        Raises:
            IndexError: If there is no such target.
            ValueError: If nothing has been trained yet, or no sample is in range.
        """
        kwargs.update(ax=ax, figsize=figsize, color=color, levels=levels, known=known)
        infer = partial(self._results, n_samples=n_samples, seed=seed)
        return self._plot(
            nothing, bins, ranges, infer, target, label, smoothing=smoothing, **kwargs
        )

    @described(
        target="The number of the target whose summaries are marked, counted from zero.",
        share="The share of the simulations to draw.",
        label="A name in the legend.",
        color="A colour. `None` continues the colour cycle.",
        kwargs="Passed on to Matplotlib's `scatter`, except for `wspace` and `hspace`: the space "
        "between the columns and rows of a new figure, as a share of their size.",
    )
    def scatter_plot(
        self,
        target: int = 0,
        *,
        share: float = 1.0,
        label: str = "Simulations",
        ax: AxesLike = None,
        figsize: FigureSize = None,
        color: Color | None = None,
        known: ArrayLike | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Draws the summaries of the simulations against their parameters, and those of a target.

        Returns:
            The axes, `(n_params, n_params)`.

        Raises:
            IndexError: If there is no such target.
            ValueError: If there are not as many summaries as parameters, or no simulations.
        """
        kwargs.update(label=label, ax=ax, figsize=figsize, color=color, known=known)
        estimate = self.estimate[self._target_number(target)]
        return scatter_simulations(
            self.parameters, self.estimates, estimate, self.axis_labels, share, **kwargs
        )

    @described(figsize="Size of a new figure in inches. `None` for 8 by 4.")
    def plot_history(self, *, figsize: FigureSize = None) -> Any:
        """Draws the loss of the last training against its epochs.

        Returns:
            The axes.

        Raises:
            ValueError: If nothing has been trained yet, or the history holds no `loss`.
        """
        return plot_training(self.history, figsize)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the targets, the simulations and the density to a folder, without pickling.

        Args:
            folder: The folder. It is created if it does not exist.

        Raises:
            TypeError: If the density estimator has no `save`.
        """
        saving.save(self, folder)

    @classmethod
    @described(**ESTIMATOR, folder="A folder that `save` wrote.", prior="The prior, as before.")
    def load(
        cls,
        folder: str | os.PathLike[str],
        prior: Any,
        get_estimate: Callable[..., Any] | None = None,
        simulator: Callable[..., Any] | None = None,
        *,
        execution: Execution | None = None,
        density_estimator: Any = None,
    ) -> Self:
        """Reads what `save` wrote. The prior and the functions are not in it, so they are passed.

        Raises:
            CorruptFileError: If a file is damaged.
            FileNotFoundError: If there is no such folder.
            TypeError: If the density estimator cannot be read.
            ValueError: If the prior or `get_estimate` answers differently from before.
        """
        functions = {"get_estimate": get_estimate, "simulator": simulator}
        settings = {"execution": execution, "density_estimator": density_estimator}
        return saving.load(cls, folder, prior, **functions, **settings)
