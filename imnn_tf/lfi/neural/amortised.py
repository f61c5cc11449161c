"""Simulations at draws from the prior, a density trained on them, and posteriors out of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from imnn_tf.lfi.methods.base import own_data
from imnn_tf.lfi.methods.simulated import FileName, Simulated, SimulatedInference
from imnn_tf.lfi.neural.trained import LEAST_SIMULATIONS, Trained
from imnn_tf.lfi.neural.truncation import Region, draw_truncated
from imnn_tf.lfi.posterior.samples import Posterior
from imnn_tf.running.execution import ProgressBar
from imnn_tf.utils import checks
from imnn_tf.utils.interrupt import deferred_interrupt
from imnn_tf.utils.seeds import Seed, child, seed_sequence
from imnn_tf.utils.types import Numbers

# After rounds for one target, another observation is answered for if the region that the last
# proposals came from holds this share of its posterior.
_LEAST_HELD = 0.99
_HELD_SAMPLES = 2000


@dataclass
class State:
    """What there is so far.

    Attributes:
        simulated: All simulations, with summaries in the place of estimates.
        calls: How often simulations were run, so that every call gets seeds of its own.
        trained: The density, or `None` before the first training.
        focus: The target that there were rounds for, or `None`.
        region: Where the proposals of the last round came from, or `None`.
    """

    simulated: Simulated
    calls: int = 0
    trained: Trained | None = None
    focus: int | None = None
    region: Region | None = None


def flattened(data: Numbers) -> np.ndarray:
    """Data, `(n,) + shape`, with all numbers of a simulation in one row, `(n, size)`."""
    rows = np.asarray(data)
    return rows.reshape(len(rows), -1)


def nothing() -> None:
    """What runs before a figure is drawn: nothing, because plots do not train."""


class AmortisedInference(SimulatedInference):
    """Inference by a density that is trained once and then answers for any observation."""

    _make_estimator: Callable[[], Any]
    _state: State
    _estimates_parameters = False

    def reset(self) -> None:
        """Forgets all simulations, and the density."""
        nothing = np.empty((0, self.n_params)), np.empty((0, self.n_summaries))
        self._state = State(Simulated(*nothing))
        self.failures = []
        self.grid = self.post = None

    @property
    def parameters(self) -> np.ndarray:
        """Parameters of all simulations, `(n, n_params)`."""
        return self._state.simulated.parameters

    @property
    def estimates(self) -> np.ndarray:
        """Summaries of all simulations, `(n, n_summaries)`."""
        return self._state.simulated.estimates

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the last simulations early."""
        return self._state.simulated.interrupted

    def _facts(self) -> dict[str, str]:
        return {**super()._facts(), "trained on": f"{self.trained_on} simulations"}

    @property
    def trained_on(self) -> int:
        """The number of simulations that the density was trained on; 0 before a training."""
        return 0 if self._state.trained is None else self._state.trained.size

    @property
    def history(self) -> Any:
        """What the density estimator measured in each epoch, by name, or `None`.

        For the ensemble of flows, `loss` and `val_loss` are `(epochs, members)`: means of minus the
        log density over the simulations that a member is trained on, and over those held out.
        """
        return None if self._state.trained is None else self._state.trained.history

    @property
    def density(self) -> Any:
        """The trained density estimator, of mapped parameters and scaled summaries, or `None`."""
        return None if self._state.trained is None else self._state.trained.estimator

    def _add(self, simulated: Simulated) -> None:
        self._state.simulated = self._state.simulated.joined(simulated)

    def _focused(self, target: int) -> int:
        """The number of the target that rounds are for; all must be for the same."""
        number, focus = self._target_number(target), self._state.focus
        if focus not in (None, number):
            raise ValueError(
                f"`target` must be {focus}, that of the earlier rounds, got {target}; `reset()` "
                "forgets these."
            )
        return number

    def _run_rounds(
        self,
        draws: int,
        rounds: int,
        focus: int | None,
        at_once: bool | int,
        save_sims: FileName | None,
        callbacks: Sequence[Any] | None,
        progress: bool | ProgressBar | None,
    ) -> None:
        """Simulates and trains as `NeuralPosterior.NPE` documents it."""
        self._required_simulator()
        state = self._state
        if len(self.parameters) + draws < LEAST_SIMULATIONS:
            raise ValueError(
                f"`draws` must be at least {LEAST_SIMULATIONS} in all, got {draws} beside the "
                f"{len(self.parameters)} that there are."
            )
        with deferred_interrupt() as interrupt, self._same_workers() as execution:
            if progress is not None:
                execution = replace(execution, progress=progress)
            for _ in range(rounds):
                parameters = self._proposals(draws, focus)
                key, state.calls = state.calls, state.calls + 1
                simulated = self._simulate(
                    parameters, (key, 0), at_once=at_once, save_sims=save_sims, execution=execution
                )
                self._add(simulated)
                if simulated.interrupted:
                    return
                self._train(callbacks, progress)
                if interrupt.is_set():  # during the training, which ended early
                    return

    def _proposals(self, n: int, focus: int | None) -> np.ndarray:
        """Draws from the prior, within the region of the target if there is a density for it."""
        state, seed = self._state, child(self.seed, self._state.calls, 1)
        if focus is None or state.trained is None:
            return self.prior.sample(n, seed=seed)
        state.focus = focus
        summaries = self.estimate[focus : focus + 1]
        state.region = Region(state.trained, summaries, child(seed, 0))
        return draw_truncated(self.prior, state.region, n, child(seed, 1))

    def _train(self, callbacks: Sequence[Any] | None, progress: bool | ProgressBar | None) -> None:
        state, known = self._state, self._state.trained
        shown = self._execution.progress if progress is None else progress
        store = self._execution.store
        unfinished = known is not None and not getattr(known.estimator, "finished", True)
        if known is not None and unfinished and known.size == len(self.parameters):
            estimator = known.estimator
        else:
            estimator = self._make_estimator()
        state.trained = Trained(
            estimator,
            self.prior,
            state.simulated,
            child(self.seed, state.calls, 2),
            folder=None if store is None else Path(store),
            callbacks=callbacks,
            progress=shown is True,
        )

    def _one(self, target: int, data: Numbers | None) -> tuple[np.ndarray, str]:
        """The summaries, `(1, n_summaries)`, of a target or of other data, and what to call it."""
        if data is None:
            number = self._target_number(target)
            return self.estimate[number : number + 1], f"Target {number}"
        data = own_data("data", data)
        if len(data.shape) == len(self.data.shape) - 1:
            data = np.asarray(data)[np.newaxis]
        summaries = self._several(data)[0]
        if len(summaries) != 1:
            raise ValueError(
                f"`data` must be one observation, got {len(summaries)}; `results` takes several."
            )
        return summaries, "`data`"

    def _several(self, data: Numbers | None) -> tuple[np.ndarray, list[str]]:
        """The summaries, `(m, n_summaries)`, of all targets or of other data, and their names."""
        if data is None:
            return self.estimate, [f"Target {i}" for i in range(self.targets)]
        data = own_data("data", data)
        self._check_shape("data", data)
        shape = (data.shape[0], self.n_summaries)
        summaries = checks.array("get_estimate(data)", self.get_estimate(data), shape=shape)
        return summaries, [f"Observation {i}" for i in range(len(summaries))]

    def _results(self, chosen: Sequence[int], n_samples: int, seed: Seed) -> list[Posterior]:
        """The posteriors of some targets."""
        names = [f"Target {number}" for number in chosen]
        return self._infer(self.estimate[list(chosen)], names, n_samples, seed)

    def _infer(
        self, summaries: np.ndarray, names: Sequence[str], n_samples: int, seed: Seed
    ) -> list[Posterior]:
        """The posteriors given summaries, `(m, n_summaries)`, as samples."""
        n = checks.integer("n_samples", n_samples, minimum=2)
        own = child(self.seed, self._state.calls, 3)
        sequence = own if seed is None else seed_sequence(seed)
        trained = self._require_trained(summaries, names)
        return [
            Posterior(
                samples,
                parameter_names=self.parameter_names,
                labels=self.axis_labels,
                low=self.prior.low,
                high=self.prior.high,
            )
            for samples in trained.sample(n, summaries, sequence)
        ]

    def _require_trained(self, summaries: np.ndarray, names: Sequence[str]) -> Trained:
        """The density, if it can answer for observations; warns of those that are unlike it."""
        state = self._state
        if state.trained is None:
            raise ValueError("`draws` must be simulated and trained on before there is a density.")
        if state.focus is not None:
            self._require_near(state.trained, state.focus, summaries, names)
        state.trained.warn_of_strangers(summaries, names)
        return state.trained

    def _require_near(
        self, trained: Trained, focus: int, summaries: np.ndarray, names: Sequence[str]
    ) -> None:
        """Refuses observations whose posterior does not lie where the rounds proposed."""
        own = (summaries == self.estimate[focus]).all(axis=1)
        for row in np.flatnonzero(~own).tolist():
            seed = child(self.seed, self._state.calls, 4)
            samples = trained.sample(_HELD_SAMPLES, summaries[row : row + 1], seed)[0]
            region = self._state.region
            held = 0.0 if region is None else float(region.holds(samples).mean())
            if held < _LEAST_HELD:
                raise ValueError(
                    f"{names[row]} must be like target {focus}, which `rounds` were for: only "
                    f"{held:.0%} of its posterior lies where they simulated. `NPE` with one round "
                    "answers for all targets."
                )
