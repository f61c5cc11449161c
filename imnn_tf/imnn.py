"""The information maximising neural network that people use: it wires the parts."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, DTypeLike

from imnn_tf import fitting, information, plotting
from imnn_tf.estimator import MODEL_FILE, Estimator, load_model
from imnn_tf.information import Information, InformationError, Statistics
from imnn_tf.replicas import Replicas
from imnn_tf.simulations import (
    ArraySimulations,
    Cache,
    Simulator,
    SimulatorSimulations,
    StreamedSimulations,
    own_errors,
)
from imnn_tf.simulations.settings import Settings
from imnn_tf.simulations.simulator import HeldOut
from imnn_tf.state import FitState
from imnn_tf.summaries import count_summaries, normalises_by_batch
from imnn_tf.training import Objective, UpdateLoop
from imnn_tf.utils import checkpoint, checks

HISTORY_FILE = "history.npz"

# The most updates in one call of the compiled loop, where their duration decides.
_CAPACITY = 256

# Strength of the regularisation by the regulariser's name; docs/imnn.md has the measurements.
DEFAULT_STRENGTH = {"divergence": 5.0, "published": 10.0}


class IMNN:
    """Compression of simulations to a few summaries that keep the Fisher information.

    A Keras model maps each simulation to `n_summaries` numbers and is trained to maximise
    `ln det F`, the Fisher information of its outputs at one fiducial point. Everything that can
    be read off the arrays and the model may be left out, and is checked where it is given.

    Args:
        n_s: Number of fiducial simulations, for the covariance of the summaries.
        n_d: Number of derivative simulations, of each parameter and side, for their slope.
        n_params: Number of parameters.
        n_summaries: Number of summaries, at least `n_params`.
        θ_fid: Fiducial parameters, `[n_params]`.
        δθ: Difference of each parameter between its simulations above and below the fiducial,
            `[n_params]`, positive; left out where the derivatives are exact.
        input_shape: Shape of one simulation.
        fiducial: Simulations at `θ_fid`: an array `[n_s, *input_shape]`; a function of `seed`
            that returns one, or yields it with its label; a list of TFRecord files; or a
            `tf.data.Dataset` of `(simulation, seed)`.
        derivative: Likewise an array `[n_d, 2, n_params, *input_shape]`: `[:, 0, α]` has parameter
            α at `θ_fid − δθ/2`, `[:, 1, α]` at `θ_fid + δθ/2`, with the noise of the same seed; or
            any of the others with the label `(seed, derivative, parameter)`. Without `δθ`, exact
            derivatives `∂d/∂θ` of the first `n_d` fiducial simulations, an array
            `[n_d, *input_shape, n_params]`, or any of the others with the label `seed`.
        validation_fiducial: Like `fiducial`, of other seeds; the fit ends on the weights that
            are best on these. Strongly advised where the simulations are few.
        validation_derivative: Like `derivative`, given with `validation_fiducial`.
        model: Keras 3 model from `[batch, *input_shape]` to `[batch, n_summaries]`.
        optimiser: Keras optimiser, its name or its configuration; Adam if left out. One that
            already serves other weights is copied, with its settings and without its state.
        dtype: Floating type of data and statistics, single or double precision. The model
            computes in its own.
        itype: Integer type, taken for the predecessor's sake; nothing depends on it.
        save: Whether `fit` writes what it found to the folder `directory/filename`.
        load: Whether to take up what was saved there: weights, statistics, history, and the
            state of the optimiser, so that a further `fit` goes on where the last one stopped.
        weights: Name of a weights file there to load on top, as `weight_file` of `fit`.
        verbose: Whether `fit` shows a progress bar.
        directory: Folder to save in and load from; the current one if left out.
        filename: Folder inside it, `"model"` if left out.
        at_once: Fiducial simulations, each with its derivative simulations, that go through the
            model at once; all if left out. It bounds the memory of an update, not its result.
        map_fn: Applied to each simulation as a tensor, anew at every update, and not to data given
            to `get_estimate`. A second argument without a default gets a seed, two int32 numbers
            for TensorFlow's stateless generators, another one for each update and the same for
            the members of a derivative; validation simulations always get the same.
        check_shape: Taken for the predecessor's sake; shapes are always checked.
        simulator: A function `simulator(parameters, seed)` in the place of `fiducial` and
            `derivative`: takes parameters `[batch, n_params]` and a seed of two non-negative
            int32 numbers, returns simulations `[batch, *input_shape]`. Every update then sees
            `n_s` and `n_d` fresh ones, and the members of a derivative share their noise. Without
            `δθ` it is differentiated through, for which the model must be without kinks. If no
            validation set is given, one is simulated once for each fiducial point.
        seed: Of the simulator, and of the seeds for `map_fn`.
        cache: Where simulations are between two updates. `"memory"` holds them there; a folder
            keeps a copy on disk, found again if it is of the same TFRecord files, that is read at
            every pass; `False` reads them at every pass from where they came, with functions
            called again; `"auto"` holds them in memory if they fit, and else does as `False` (what
            cannot be read in any order, a data set or compressed files, is first unpacked in a
            temporary folder).
        memory_limit: The most bytes of one set of simulations that `"auto"` holds in memory; a
            quarter of the machine's if left out.
        parallel_reads: How many batches are read at once from files, by default one for each
            processor; and from how many threads functions are called, by default one.
        external_fiducial: Summaries made elsewhere, to stand beside the network's: an array
            `[n_s, n_external]`, or any other source that `fiducial` may be. The information is
            that of both together, the regulariser is about the network's alone.
        external_derivative: Likewise `[n_d, 2, n_params, n_external]`, or exact derivatives
            `[n_d, n_external, n_params]`.
        validation_external_fiducial: Likewise of the validation set.
        validation_external_derivative: Likewise.
        strategy: A `tf.distribute.Strategy` that spreads the batches of an update over replicas,
            such as `MirroredStrategy`; the model must have been made under its scope. They
            exchange the statistics of the summaries and the gradient, and nothing else.
        custom_objects: With `load`, classes and functions of the saved model by name. Nothing
            else in the files is executed.

    Attributes:
        model: The Keras model, on the weights with the most information after `fit`.
        optimiser: The optimiser, this object's own.
        history: Lists with an entry for each update: `loss`, `det_F`, `det_C`, `det_Cinv`,
            `dμ_dθ`, `reg` (the regulariser) and `r` (its coupling), of the training set before
            the update; the same with `val_` in front, of the validation set after it, at the
            updates in `val_iteration`; and where the fiducial point was moved to, `θ_fid`, after
            the updates in `θ_fid_iteration`.
        F, Finv, C, Cinv, μ, dμ_dθ: Fisher information `[n_params, n_params]`, covariance of the
            summaries `[n_summaries, n_summaries]`, their inverses, the mean summary
            `[n_summaries]` and its slope `[n_params, n_summaries]`; of the validation set where
            there is one, with the weights the model has since the last fit.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has the wrong shape or value.

    References:
        Charnock, Lavaux & Wandelt (2018), Automatic physical inference with information
        maximizing neural networks, arXiv:1802.03537.
    """

    def __init__(
        self,
        n_s: int | None = None,
        n_d: int | None = None,
        n_params: int | None = None,
        n_summaries: int | None = None,
        θ_fid: ArrayLike | None = None,
        δθ: ArrayLike | None = None,
        input_shape: Sequence[int] | None = None,
        fiducial: Any = None,
        derivative: Any = None,
        validation_fiducial: Any = None,
        validation_derivative: Any = None,
        model: Any = None,
        optimiser: Any = None,
        dtype: DTypeLike = tf.float32,
        itype: DTypeLike = tf.int32,
        save: bool = False,
        load: bool = False,
        weights: str | None = None,
        verbose: bool = True,
        directory: str | Path | None = None,
        filename: str | None = None,
        at_once: int | None = None,
        map_fn: Callable[[tf.Tensor], tf.Tensor] | None = None,
        check_shape: bool = True,
        *,
        simulator: Simulator | None = None,
        seed: int = 0,
        custom_objects: dict[str, Any] | None = None,
        cache: str | Path | bool = "auto",
        memory_limit: float | None = None,
        parallel_reads: int | None = None,
        external_fiducial: Any = None,
        external_derivative: Any = None,
        validation_external_fiducial: Any = None,
        validation_external_derivative: Any = None,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        self.verbose = checks.flag("verbose", verbose)
        self.save = checks.flag("save", save)
        self.dtype, self.itype = _floating(dtype), tf.as_dtype(itype)
        self.directory = "." if directory is None else str(directory)
        self.filename = "model" if filename is None else str(filename)
        self.at_once = None if at_once is None else checks.integer("at_once", at_once, minimum=1)
        self.map_fn = None if map_fn is None else checks.function("map_fn", map_fn)
        checks.flag("check_shape", check_shape)
        self._set_parameters(θ_fid, δθ)
        self._replicas = Replicas(strategy)
        self._settings = Settings(
            theta_fid=self._theta_fid,
            delta_theta=self._delta_theta,
            dtype=self.dtype,
            n_s=n_s,
            n_d=n_d,
            input_shape=None if input_shape is None else tuple(input_shape),
            at_once=self.at_once,
            map_fn=self.map_fn,
            seed=checks.integer("seed", seed, minimum=0),
            cache=Cache.checked(cache, memory_limit),
            parallel_reads=None
            if parallel_reads is None
            else checks.integer("parallel_reads", parallel_reads, minimum=1),
            n_replicas=self._replicas.count,
            verbose=self.verbose,
        )
        self._training = self._settings.training(
            (fiducial, derivative), (external_fiducial, external_derivative), simulator
        )
        self._validation = self._settings.validation(
            self._training,
            (validation_fiducial, validation_derivative),
            (validation_external_fiducial, validation_external_derivative),
        )
        self.validate = self._validation is not None
        self.n_s, self.n_d = self._training.n_s, self._training.n_d
        for name, value in (("n_s", n_s), ("n_d", n_d), ("n_params", n_params)):
            _agree(name, value, getattr(self, name))
        self.input_shape = tuple(self._training.input_shape)
        if input_shape is not None and tuple(input_shape) != self.input_shape:
            raise ValueError(
                f"`input_shape` must be the shape of one simulation, {self.input_shape}, got "
                f"{tuple(input_shape)}."
            )
        load = checks.flag("load", load)
        if load and model is None:
            model = load_model(self._folder, custom_objects)
        self._set_model(model, n_summaries)
        self._loops: dict[tuple[Any, ...], UpdateLoop] = {}
        with self._replicas.scope():
            self._state = FitState(self.model, optimiser)
            self._strength, self._rate = (tf.Variable(0, dtype=self.dtype) for _ in range(2))
        self._set_regulariser("divergence", None, 0.01)
        self._forget_measurement()
        if load:
            settings = self._state.load(self._folder, keep_optimiser=optimiser is not None)
            self._set_regulariser(*settings["regulariser"])
            self._take_up_move(*settings["fiducial"])
            if weights is not None:
                self.model.load_weights(self._folder / f"{weights}.weights.h5")
        if self.save:
            self._folder.mkdir(parents=True, exist_ok=True)

    # ---- what the constructor is made of -------------------------------------------------

    def _set_parameters(self, theta_fid: Any, delta_theta: Any) -> None:
        if theta_fid is None:
            raise TypeError("`θ_fid` must be given.")
        self._theta_fid = checks.array("θ_fid", theta_fid, shape=(None,), dtype=np.float64)
        self.n_params = self._theta_fid.size
        self._delta_theta: np.ndarray | None = None
        self.θ_fid, self.δθ = tf.constant(self._theta_fid, self.dtype), None
        if delta_theta is None:
            return
        step = checks.array("δθ", delta_theta, shape=(None,), dtype=np.float64)
        if step.shape != self._theta_fid.shape or not (step > 0).all():
            raise ValueError(
                "`δθ` must be a positive difference for each of the parameters in `θ_fid`, "
                f"{self.n_params} numbers, got {step.tolist()}."
            )
        self._delta_theta, self.δθ = step, tf.constant(step, self.dtype)

    def _set_model(self, model: Any, n_summaries: int | None) -> None:
        if not isinstance(model, keras.Model):
            raise TypeError(
                "`model` must be a keras.Model (or `load` be True), got "
                f"{'None' if model is None else type(model).__name__}."
            )
        self.model = model
        if self._delta_theta is None and normalises_by_batch(model):
            raise ValueError(
                "`model` must not have BatchNormalization with exact derivatives, which its mean "
                "over the batch would take away; use LayerNormalization, or `δθ`."
            )
        self._require_scope(model)
        with own_errors(self._training):
            self.n_summaries = count_summaries(model, self._training)
        self.n_external = self._training.n_external
        _agree("n_summaries", n_summaries, self.n_summaries)
        if self.n_summaries < self.n_params:
            raise ValueError(
                "`model` must have at least as many summaries as there are parameters, "
                f"{self.n_params}, got {self.n_summaries}."
            )
        for name, simulations in self._sources().items():
            if simulations.n_s <= self.n_summaries + self.n_external:
                raise ValueError(
                    f"`{name}` must hold more simulations than there are summaries, "
                    f"{self.n_summaries + self.n_external}, for their covariance to have an "
                    f"inverse, got {simulations.n_s}."
                )

    def _require_scope(self, model: Any) -> None:
        shared = tf.distribute.DistributedValues
        if self._replicas.count > 1 and not all(
            isinstance(variable.value, shared) for variable in model.trainable_variables
        ):
            raise ValueError(
                "`model` must be made under `strategy.scope()` where a `strategy` is given, got "
                "one with variables of its own."
            )

    def _sources(self) -> dict[str, Any]:
        """The sources of simulations, by the argument they came in."""
        sources = {"fiducial": self._training}
        return sources | {"validation_fiducial": self._validation} if self.validate else sources

    # ---- fitting -------------------------------------------------------------------------

    def fit(
        self,
        n_iterations: int | None = None,
        λ: float | None = None,
        ϵ: float = 0.01,
        reset: bool = False,
        patience: int | None = None,
        min_iterations: int | None = None,
        checkpoint: int | None = None,
        tqdm_notebook: bool = True,
        weight_file: str = "weights",
        *,
        callbacks: Sequence[keras.callbacks.Callback] | None = None,
        regulariser: str = "divergence",
        validation_freq: int = 1,
        steps_per_execution: int | None = None,
        jit_compile: bool | str = "auto",
        verbose: bool | int | None = None,
    ) -> keras.callbacks.History:
        """Trains the model, and ends on the weights with the most information.

        A second call goes on where the first one stopped: two fits of 50 updates are one of 100.
        After one that patience ended it goes on from the best weights. Ctrl-C ends a fit as if
        it had run out of iterations.

        Args:
            n_iterations: The most updates; without limit if left out, until patience, a callback
                or Ctrl-C.
            λ: Strength of the regularisation; by default 5 for `"divergence"` and 10 for
                `"published"`.
            ε: How close to the identity `"published"` is to bring the covariance.
            reset: Whether to start anew: initial weights, optimiser and history.
            patience: Updates without a higher det F (of the validation set where there is one)
                after which to stop; never if left out.
            min_iterations: Updates of this call before patience begins to count.
            checkpoint: Updates from one saving of the fit's state to the next; needs `save`.
            tqdm_notebook: Taken for the predecessor's sake; the right bar is found by itself.
            weight_file: Name of the weights file to save, to which `.weights.h5` is added.
            callbacks: Keras callbacks. An update is an epoch of one batch; its logs are `loss`,
                `det_F`, `det_C`, `det_Cinv`, `reg`, `r` and, after a validation, those with
                `val_`.
            regulariser: `"divergence"`, `tr C − ln det C − n_summaries`, or `"published"`,
                `‖C − 1‖ + ‖C⁻¹ − 1‖` with the coupling `r` of the paper.
            validation_freq: Updates from one validation to the next.
            steps_per_execution: Updates in one call of the compiled loop. By default one with
                `callbacks`, so that they see every update, else about a quarter of a second's
                worth. With more, callbacks are called in turn after each call of the loop. It
                does not change the result of a fit.
            jit_compile: Whether to compile the loop with XLA. `"auto"` does on a GPU, unless a
                `map_fn` or a simulator that is not TensorFlow code is part of it.
            verbose: Whether to show a progress bar; the object's own setting if left out.

        Returns:
            Keras's record of this call; `history` has that of all calls.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument has the wrong value.
            InformationError: If a loss is not finite. The message says why and at which update;
                the model then has the last weights whose loss was finite.
        """
        container = fitting.callback_list(callbacks, self.model, n_iterations)
        if callbacks and steps_per_execution is None:
            steps_per_execution = 1
        limits = fitting.Limits.checked(
            n_iterations=n_iterations,
            patience=patience,
            min_iterations=min_iterations,
            checkpoint=checkpoint,
            steps_per_execution=steps_per_execution,
        )
        if limits.checkpoint is not None and not self.save:
            raise ValueError("`checkpoint` must come with `save=True` of the IMNN, got save=False.")
        self._set_regulariser(regulariser, λ, ϵ)
        loop = self._compiled_loop(
            checks.integer("validation_freq", validation_freq, minimum=1),
            limits.updates_per_call or _CAPACITY,
            self._resolve_jit(jit_compile),
        )
        if checks.flag("reset", reset):
            self._state.reset()
        self._state.resume()
        self._run(loop, limits, container, self.verbose if verbose is None else bool(verbose))
        if self.save:
            self._save_state()
            self._save_results(f"{weight_file}.weights.h5")
        return container.callbacks[-1]

    def _run(
        self,
        loop: UpdateLoop,
        limits: fitting.Limits,
        callbacks: keras.callbacks.CallbackList,
        verbose: bool,
    ) -> None:
        """Runs the updates and leaves the model on the weights it is to end on."""
        self._forget_measurement()
        outcome, reason = None, ""
        sources = self._sources().values()
        with fitting.attached(self.model, self.optimiser), own_errors(*sources):
            callbacks.on_train_begin()
            try:
                outcome = fitting.run(
                    loop,
                    self.history,
                    limits,
                    callbacks,
                    save=lambda: self._save_state(running=True),
                    verbose=verbose,
                )
                if outcome is fitting.Outcome.NOT_FINITE:
                    reason = self._objective.why_not_finite(
                        self._training, self._validation, len(self.history["loss"]) + 1
                    )
            finally:
                # Also where a callback raised.
                self._state.finish(outcome)
            callbacks.on_train_end()
        if outcome is fitting.Outcome.NOT_FINITE:
            sound = int(self._state.sound.iteration)
            kept = (
                "The model is as it was."
                if sound < 0
                else f"The model has the last weights with a finite loss, those of update {sound}."
            )
            update = len(self.history["loss"]) + 1
            raise InformationError(f"The loss of update {update} is not finite: {reason}. {kept}")

    def _resolve_jit(self, jit_compile: bool | str) -> bool:
        sources = self._sources().values()
        never = self._replicas.count > 1 or any(
            isinstance(source, StreamedSimulations) for source in sources
        )
        if jit_compile == "auto":
            compilable = not never and all(source.compilable for source in sources)
            return compilable and bool(tf.config.list_physical_devices("GPU"))
        if checks.flag("jit_compile", jit_compile) and never:
            raise ValueError(
                "`jit_compile` must be left out where a `strategy` is given, or simulations are "
                "not held in memory, which XLA cannot compile, got True."
            )
        return bool(jit_compile)

    def _compiled_loop(self, validation_freq: int, capacity: int, jit: bool) -> UpdateLoop:
        """The loop of updates, compiled once for each set of settings."""
        key = (self.regulariser, validation_freq, capacity, jit)
        if key not in self._loops:
            self._loops[key] = UpdateLoop(
                self._objective,
                self.optimiser,
                self._training,
                self._validation,
                validation_freq=validation_freq,
                capacity=capacity,
                jit_compile=jit,
                best=self._state.best,
                sound=self._state.sound,
            )
        return self._loops[key]

    def _set_regulariser(self, name: str, strength: float | None, closeness: float) -> None:
        self.regulariser = checks.choice("regulariser", name, information.LOSSES)
        strength = DEFAULT_STRENGTH[name] if strength is None else strength
        self.λ = checks.real("λ", strength, above=0)
        self.ϵ = checks.real("ϵ", closeness, above=0)
        published = name == "published"
        self.α = information.coupling_rate(self.λ, self.ϵ) if published else None
        self._strength.assign(self.λ)
        self._rate.assign(self.α or 0)
        self._objective = Objective(
            self.model,
            self.n_summaries,
            information.LOSSES[name],
            self._strength,
            self._rate,
            n_external=self.n_external,
            replicas=self._replicas,
        )

    def update_variables(self, variables: list[ArrayLike]) -> None:
        """Gives the weights that `fit(reset=True)` starts from, as `model.get_weights()` does.

        Args:
            variables: An array for each of the model's weights.

        Raises:
            ValueError: If their number or shapes are not those of the model's weights.
        """
        self._state.set_initial_weights(variables)

    # ---- another fiducial point ----------------------------------------------------------

    def move_to(self, θ_fid: ArrayLike, *, keep_optimiser: bool = False) -> None:
        """Moves the fiducial point; only with a `simulator`, which makes the validation set too.

        The weights stay, a further `fit` starts from them, and nothing is compiled anew. The best
        score is forgotten, as is all that was measured, since both belong to the point left; the
        updates count on, so that their simulations are other ones. `refine` moves to an estimate.

        Args:
            θ_fid: Where to, `[n_params]`.
            keep_optimiser: Whether the optimiser goes on with its moments and the count of its
                schedule; by default it starts anew.

        Raises:
            ValueError: If the simulations are not made by a simulator, or are not finite at the
                new point or beside it. Nothing has changed then.
        """
        self.require_movable()
        keep_optimiser = checks.flag("keep_optimiser", keep_optimiser)
        theta_fid = checks.array("θ_fid", θ_fid, shape=(self.n_params,), dtype=np.float64)
        self._move(theta_fid)
        self._state.move(theta_fid, keep_optimiser=keep_optimiser)

    def require_movable(self) -> None:
        """Raises where the fiducial point cannot be moved.

        Raises:
            ValueError: If the simulations are not all made by a simulator.
        """
        if not isinstance(self._training, SimulatorSimulations):
            raise ValueError(
                "`simulator` must be given to move the fiducial point, got simulations, which "
                "belong to theirs."
            )
        if not isinstance(self._validation, HeldOut):
            raise ValueError(
                "`validation_fiducial` must be left out to move the fiducial point, so that the "
                "`simulator` makes the validation set at the new one."
            )

    def _move(self, theta_fid: np.ndarray, moves: int | None = None) -> None:
        assert isinstance(self._training, SimulatorSimulations)
        self._training.move_to(theta_fid, moves)
        self._theta_fid, self.θ_fid = theta_fid, tf.constant(theta_fid, self.dtype)
        self._forget_measurement()

    def _take_up_move(self, theta_fid: list[float], moves: int) -> None:
        """Goes to where a loaded fit had moved the fiducial point, if it had."""
        if moves:
            self.require_movable()
            shape = (self.n_params,)
            self._move(checks.array("θ_fid of the saved fit", theta_fid, shape=shape), moves)

    # ---- what was found ------------------------------------------------------------------

    @property
    def history(self) -> fitting.History:
        """What every update has measured; see the attributes of the class."""
        return self._state.history

    @property
    def optimiser(self) -> keras.optimizers.Optimizer:
        """The optimiser, this object's own."""
        return self._state.optimiser

    def _forget_measurement(self) -> None:
        self._measured: Statistics | None = None
        self._estimator: Estimator | None = None

    def _statistics(self) -> Statistics:
        """Statistics of the summaries of the model as it is since the last fit."""
        if self._measured is None:
            name, simulations = list(self._sources().items())[-1]
            self._measured = self._statistics_of(simulations, f"summaries of `{name}`")
        return self._measured

    def _statistics_of(self, simulations: Any, whose: str) -> Statistics:
        with own_errors(simulations):
            total = self._objective.statistics(simulations)
        information.require_finite(total, information.fisher_information(total), whose)
        return total

    def _information(self) -> Information:
        return information.fisher_information(self._statistics())

    def evaluate(
        self,
        fiducial: Any,
        derivative: Any,
        external_fiducial: Any = None,
        external_derivative: Any = None,
    ) -> Information:
        """Information that the model keeps of other simulations than it was fitted on.

        On the simulations that chose the weights, det F is too high: a training set is learnt
        by heart, and even a validation set has picked its favourite.

        Args:
            fiducial: Simulations at the fiducial parameters, `[n, *input_shape]`.
            derivative: `[n_d, 2, n_params, *input_shape]`, as for the constructor, and like
                there any other source.
            external_fiducial: Their external summaries, if there are some.
            external_derivative: Likewise.

        Returns:
            A named tuple with `fisher`, `log_det_fisher`, `covariance`, `inverse_covariance`,
            `log_det_covariance`, `mean` and `slope`.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument has the wrong shape.
            InformationError: If the information is not defined.
        """
        at_once = self.at_once or max(self._training.n_s, self._training.n_d)
        simulations = self._settings.like(
            self._training,
            (fiducial, derivative),
            (external_fiducial, external_derivative),
            at_once=at_once,
        )
        total = self._statistics_of(simulations, "simulations")
        return information.fisher_information(total)

    @property
    def F(self) -> tf.Tensor:
        """Fisher information, `[n_params, n_params]`."""
        return self._information().fisher

    @property
    def Finv(self) -> tf.Tensor:
        """Inverse of the Fisher information, the covariance of the estimates."""
        return tf.linalg.inv(self.F)

    @property
    def C(self) -> tf.Tensor:
        """Covariance of the summaries, `[n_summaries, n_summaries]`."""
        return self._information().covariance

    @property
    def Cinv(self) -> tf.Tensor:
        """Inverse of the covariance of the summaries."""
        return self._information().inverse_covariance

    @property
    def μ(self) -> tf.Tensor:
        """Mean summary at the fiducial parameters, `[n_summaries]`."""
        return self._information().mean

    @property
    def dμ_dθ(self) -> tf.Tensor:
        """Slope of the mean summary, `[n_params, n_summaries]`."""
        return self._information().slope

    @property
    def F_external(self) -> tf.Tensor | None:
        """Fisher information of the external summaries alone; `None` if there are none."""
        info = self._external_information()
        return None if info is None else info.fisher

    @property
    def gain(self) -> float | None:
        """`det F` over that of the external summaries alone; `None` if there are none.

        Infinite where these alone say nothing of some combination of the parameters.
        """
        alone = self._external_information()
        if alone is None:
            return None
        if not np.isfinite(alone.log_det_fisher):
            return float("inf")
        return float(np.exp(self._information().log_det_fisher - alone.log_det_fisher))

    def _external_information(self) -> Information | None:
        if not self.n_external:
            return None
        external = information.block(self._statistics(), slice(self.n_summaries, None))
        return information.fisher_information(external)

    @property
    def reg(self) -> tf.Tensor:
        """Regulariser of the last fit at the model's weights, `Λ₂`."""
        return self._objective.assess(self._statistics())[0].regularisation

    @property
    def r(self) -> tf.Tensor:
        """Its coupling."""
        return self._objective.assess(self._statistics())[0].coupling

    @property
    def data(self) -> tf.Tensor | None:
        """The fiducial simulations, `[n_s, *input_shape]`; `None` if not held in memory."""
        return self._training.fiducial if isinstance(self._training, ArraySimulations) else None

    @property
    def derivative(self) -> tf.Tensor | None:
        """The derivative simulations, of the shape they had; `None` if not held in memory."""
        return self._training.derivative if isinstance(self._training, ArraySimulations) else None

    def get_estimate(self, d: ArrayLike, external: ArrayLike | None = None) -> tf.Tensor:
        """Quasi-maximum-likelihood estimates `θ_fid + F⁻¹ ∂μ C⁻¹ (f(d) − μ)`.

        Args:
            d: Data, `[batch, *input_shape]`.
            external: Their external summaries, `[batch, n_external]`, if there are some.

        Returns:
            Estimates, `[batch, n_params]`.

        Raises:
            ValueError: If the data have another shape.
        """
        return self._get_estimator()(d, external)

    def _get_estimator(self) -> Estimator:
        if self._estimator is None:
            self._estimator = Estimator(
                self.model,
                theta_fid=self.θ_fid,
                mean=self.μ,
                slope=self.dμ_dθ,
                inverse_covariance=self.Cinv,
                inverse_fisher=self.Finv,
                input_shape=self.input_shape,
            )
        return self._estimator

    def plot(
        self,
        regulariser: bool = True,
        known_det_fisher: float | None = None,
        figsize: tuple[float, float] | None = None,
    ) -> np.ndarray:
        """Plots the history of all fits: det F, det C and the regulariser.

        Args:
            regulariser: Whether to plot the regulariser and its coupling.
            known_det_fisher: The exact determinant of the Fisher information, if known.
            figsize: Size of the figure in inches.

        Returns:
            The axes, from top to bottom.
        """
        return plotting.plot_history(
            self.history,
            regulariser=regulariser,
            known_det_fisher=known_det_fisher,
            figsize=figsize,
        )

    # ---- files ---------------------------------------------------------------------------

    @property
    def _folder(self) -> Path:
        return Path(self.directory) / self.filename

    def save_estimator(self, filename: str | Path) -> None:
        """Writes `Finv, θ_fid, dμ_dθ, Cinv, μ` to an `.npz` file."""
        self._get_estimator().save_statistics(filename)

    def _save_state(self, *, running: bool = False) -> None:
        settings = {
            "regulariser": [self.regulariser, self.λ, self.ϵ],
            "fiducial": [self._theta_fid.tolist(), getattr(self._training, "moves", 0)],
        }
        self._state.save(self._folder, settings, running=running)
        archive = self._folder / MODEL_FILE
        if running and not archive.exists():
            checkpoint.write_atomically(archive, self.model.save)

    def _save_results(self, weights_file: str) -> None:
        """Writes what a fit found, for use without an `IMNN`."""
        folder = self._folder
        checkpoint.write_atomically(folder / weights_file, self.model.save_weights)
        arrays = {key: np.array(values) for key, values in self.history.items()}
        checkpoint.write_arrays(folder / HISTORY_FILE, arrays)
        self._get_estimator().save(folder, also=[weights_file, HISTORY_FILE])


def _agree(name: str, given: Any, found: int) -> None:
    """Checks a number that the user may give against the one read off the data."""
    if given is not None and checks.integer(name, given, minimum=1) != found:
        raise ValueError(f"`{name}` must agree with the data and the model, {found}, got {given}.")


def _floating(dtype: DTypeLike) -> tf.DType:
    floating = next((known for known in (tf.float32, tf.float64) if known == dtype), None)
    if floating is None:
        raise TypeError(f"`dtype` must be float32 or float64, got {dtype!r}.")
    return floating
