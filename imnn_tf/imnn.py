"""The information maximising neural network that people use."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import DTypeLike

from imnn_tf import plotting
from imnn_tf.compression import Compression
from imnn_tf.estimator import require_loadable
from imnn_tf.fisher import advice
from imnn_tf.fisher.evaluation import Evaluation
from imnn_tf.fit import session
from imnn_tf.fit.history import callback_list
from imnn_tf.fit.objective import Objective
from imnn_tf.fit.passes import Summariser
from imnn_tf.fit.replicas import Replicas
from imnn_tf.fit.state import FitState, saved_model
from imnn_tf.regularisation import Loss, Regularisation
from imnn_tf.simulations import SetArguments, SimulationOptions, Simulations, open_sets
from imnn_tf.simulations.augmentation import Symmetries
from imnn_tf.simulations.feeds.simulator import SimulatorFunction
from imnn_tf.utils import checks
from imnn_tf.utils.atomic import delete_abandoned
from imnn_tf.utils.display import attribute
from imnn_tf.utils.types import KerasModel, Numbers


@checks.ascii_keywords
class IMNN(Compression):
    """Compression of simulations to a few summaries that keep the Fisher information.

    A Keras model maps each simulation to `n_summaries` numbers. It is trained to maximise
    `ln det F`, the Fisher information of its outputs at one fiducial point. Everything that can
    be read off the arrays and the model may be left out, and is checked where it is given.

    Simulations (`fiducial`, `derivative` and the arguments named after them) are an array; a
    function of the label of a simulation, which returns it or yields it with its label; a list of
    TFRecord files; or a `tf.data.Dataset` of `(simulation, label)`. `theta_fid`, `delta_theta`,
    `lambda_` and `epsilon` are other names for `θ_fid`, `δθ`, `λ` and `ε`.

    Args:
        n_s: Number of fiducial simulations, for the covariance of the summaries.
        n_d: Number of derivative simulations of each parameter and side, for the slope.
        n_params: Number of parameters.
        n_summaries: Number of summaries, at least `n_params`.
        θ_fid: Fiducial parameters, `[n_params]`.
        δθ: Difference of each parameter between its simulations above and below the fiducial,
            `[n_params]`, positive; `None` where derivatives are exact.
        input_shape: Shape of one simulation.
        fiducial: Simulations at `θ_fid`, `[n_s, *input_shape]`, or labelled by `seed`.
        derivative: Simulations `[n_d, 2, n_params, *input_shape]`: `[:, 0, α]` has parameter α at
            `θ_fid − δθ/2`, `[:, 1, α]` at `θ_fid + δθ/2`, both with the noise of one seed; or
            labelled by `(seed, derivative, parameter)`. Nothing in them tells sides that are
            reversed: estimates then move the wrong way. Without `δθ`, exact derivatives `∂d/∂θ`
            of the first `n_d` fiducial simulations, `[n_d, *input_shape, n_params]`, or labelled
            by `seed`.
        validation_fiducial: Simulations at `θ_fid` with other seeds, `[n, *input_shape]`. The fit
            ends on the weights that are best on these. Strongly advised for few simulations.
        validation_derivative: Derivative simulations with other seeds, of the form of
            `derivative`; given together with `validation_fiducial`.
        model: Keras 3 model from `[batch, *input_shape]` to `[batch, n_summaries]`.
        optimiser: Keras optimiser, its name or its configuration. By default AdamW with learning
            rate 3e-3 and weight decay 1; or 1e-2, with averaged weights, for a model whose
            untrained summaries hardly vary, as those of networks that pool. With `use_ema=True` the
            averages of the weights are validated and kept. An optimiser that already serves other
            weights is copied, with its settings and without its state.
        dtype: Floating type of data and statistics, float32 or float64, but not of the model.
        itype: Integer type, accepted for compatibility with imnn-tf 0.2; nothing depends on it.
        save: Whether `fit` saves its results in the folder `directory/filename`.
        load: Whether to load what was saved there: weights, statistics, history and the state of
            the optimiser. A further `fit` then goes on where the last one stopped.
        weights: Name of a weights file there to load on top, as given to `fit(weight_file=)`.
        verbose: Whether to show progress bars.
        directory: Folder to save in and load from; the current one by default.
        filename: Folder inside `directory`; `"model"` by default.
        at_once: The most fiducial simulations, each with its derivative simulations, that go
            through the model at once; all by default. It bounds the memory of an update.
        map_fn: Function applied to each simulation, a tensor `[*input_shape]`, at every update,
            but not to data given to `get_estimate`. A second argument without a default gets a
            seed, two int32 numbers for TensorFlow's stateless generators. The seed changes at every
            update, the members of a derivative share it, and it never changes for validation.
        check_shape: Accepted for compatibility with imnn-tf 0.2; shapes are always checked.
        simulator: Function `simulator(parameters, seed)` that replaces `fiducial` and
            `derivative`. It takes parameters `[batch, n_params]` and a seed of two non-negative
            int32 numbers, and returns simulations `[batch, *input_shape]`. Every update sees `n_s`
            and `n_d` new ones; the members of a derivative share their noise. Without `δθ` it is
            differentiated, and the activations of the model must be smooth. Unless a validation
            set is given, one is simulated once for each fiducial point.
        augment: Symmetries of the simulations, as names in a string (`"shift, flip, rotate"`) or a
            sequence: `"shift"`, a periodic shift along each axis; `"flip"`, a reversal of each;
            `"rotate"`, rotations by multiples of 90 degrees and exchanges of axes, reflections
            included. Training simulations are transformed anew at every update, the members of a
            derivative alike, before `map_fn`; validation simulations, external summaries and data
            given to `get_estimate` are not. An axis of channels is left as it is: the last, if it
            is shorter than every other or the fourth. A mapping from names to axes,
            `{"shift": (0, 1), "flip": 0}`, says it otherwise. `None` by default.
        seed: Seed of the simulator, `augment` and `map_fn`, a non-negative integer; 0 by default.
        cache: Where simulations are kept between updates: `"memory"`; a folder, for a copy on
            disk that is read at every pass and found again for the same TFRecord files; `False`,
            to read them from their source at every pass; or `"auto"` (the default), in memory if
            they fit and from their source otherwise. A source that cannot be read in any order (a
            data set, compressed files) is then unpacked into a temporary folder.
        memory_limit: The most bytes of a set that `"auto"` holds; by default a quarter of memory.
        parallel_reads: Number of batches read from files at once, one for each processor by
            default; and number of threads that call a function of labels, one by default.
        external_fiducial: External summaries of the fiducial simulations, `[n_s, n_external]`,
            used with the network's. The information is that of both together; the regulariser
            applies to the network's alone.
        external_derivative: External summaries of the derivative simulations,
            `[n_d, 2, n_params, n_external]`, or their exact derivatives
            `[n_d, n_external, n_params]`.
        validation_external_fiducial: External summaries of `validation_fiducial`,
            `[n, n_external]`.
        validation_external_derivative: External summaries of `validation_derivative`, of the form
            of `external_derivative`.
        strategy: A `tf.distribute.Strategy`, such as `MirroredStrategy`, that spreads the batches
            of an update over replicas. The model must be made under its scope.
        custom_objects: Classes and functions of a loaded model, by name; no other code is loaded.

    Attributes:
        history: Lists with an entry for each update. `loss`, `det_F`, `det_C`, `det_Cinv`,
            `dμ_dθ` (`[n_params, n_summaries + n_external]`), `reg` (the regulariser) and `r` (its
            coupling) are of the training set before the update. The same keys with `val_` in front
            are of the validation set after the updates in `val_iteration`. `θ_fid` has the
            fiducial points, `[n_params]` each, that were moved to after the updates in
            `θ_fid_iteration`.
        F, F_std, Finv, C, Cinv, μ, dμ_dθ, F_external, gain: What was measured with the weights
            that the last fit ended on; see `imnn_tf.compression.Compression`.
        regulariser, λ, ϵ, α: Name, strength, closeness and rate of the last regularisation.
        reg, r: The regulariser `Λ₂` at the present weights, and its coupling, `[]` each.
        model, optimiser: The Keras model, and the optimiser, which this object alone uses.
        unfinished: Updates that were made of a fit that was killed and then loaded, which the next
            `fit` goes on with; 0 otherwise.

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
        θ_fid: Numbers = None,
        δθ: Numbers = None,
        input_shape: Sequence[int] | None = None,
        fiducial: Any = None,
        derivative: Any = None,
        validation_fiducial: Any = None,
        validation_derivative: Any = None,
        model: KerasModel = None,
        optimiser: Any = None,
        dtype: DTypeLike = tf.float32,
        itype: tf.DType | str = tf.int32,
        save: bool = False,
        load: bool = False,
        weights: str | None = None,
        verbose: bool = True,
        directory: str | Path | None = None,
        filename: str | None = None,
        at_once: int | None = None,
        map_fn: Callable[..., Any] | None = None,
        check_shape: bool = True,
        *,
        simulator: SimulatorFunction | None = None,
        augment: Symmetries | None = None,
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
        self.verbose, self.save = checks.flag("verbose", verbose), checks.flag("save", save)
        self.itype = tf.as_dtype(itype)
        self.directory, self.filename = str(directory or "."), str(filename or "model")
        self._folder = Path(self.directory) / self.filename
        checks.flag("check_shape", check_shape)
        replicas = Replicas(strategy)
        options = SimulationOptions.checked(
            θ_fid,
            δθ,
            dtype=_floating(dtype),
            n_s=n_s,
            n_d=n_d,
            input_shape=input_shape,
            at_once=at_once,
            map_fn=map_fn,
            augment=augment,
            seed=seed,
            cache=cache,
            memory_limit=memory_limit,
            parallel_reads=parallel_reads,
            n_replicas=replicas.count,
            verbose=self.verbose,
        )
        sets = open_sets(
            options,
            SetArguments(fiducial, derivative, external_fiducial, external_derivative),
            SetArguments(
                validation_fiducial,
                validation_derivative,
                validation_external_fiducial,
                validation_external_derivative,
            ),
            simulator,
        )
        if checks.flag("load", load) and model is None:
            model = saved_model(self._folder, custom_objects)
        super().__init__(options, Summariser.checked(model, sets[0], replicas), *sets)
        given = {"n_s": n_s, "n_d": n_d, "n_params": n_params, "n_summaries": n_summaries}
        _require_agreement(self, given, input_shape, self._validation)
        with replicas.scope():
            self._state = FitState(model, optimiser)
        self._session = session.Session(self._summariser, self._state, *sets, seed=options.seed)
        if load:
            keep_optimiser = optimiser is not None
            self._state.load(self._folder, options.fiducial, weights, keep_optimiser=keep_optimiser)
        if self.save:
            require_loadable(self.model)
            self._folder.mkdir(parents=True, exist_ok=True)
            delete_abandoned(self._folder)

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
        validation_freq: int | None = None,
        steps_per_execution: int | None = None,
        batch_size: int | None = None,
        jit_compile: bool | str = "auto",
        verbose: bool | int | None = None,
    ) -> keras.callbacks.History:
        """Trains the model, and ends on the weights with the most information.

        A second call goes on where the first one stopped, with the count of patience: two fits of
        50 updates are one of 100. After a fit that patience ended, it goes on from the best weights
        and counts anew. Ctrl-C ends a fit as if it had reached its number of updates. A fit that
        was killed has made `unfinished` updates. After loading, `fit` with the same arguments, but
        as many fewer `n_iterations`, ends as if nothing had happened.

        Args:
            n_iterations: The most updates; by default until patience, a callback or Ctrl-C ends it.
            λ: Strength of the regulariser; by default 1 for `"divergence"`, 10 for `"published"`.
            ε: How close to the identity `"published"` is to bring the covariance.
            reset: Whether to start anew, with the initial weights, optimiser and no history.
            patience: Updates without a higher det F (of the validation set where there is one)
                after which to stop; by default patience never ends a fit.
            min_iterations: Updates of this call, or of the killed one that it goes on with, before
                patience counts; 0 by default.
            checkpoint: Updates from one saving of the fit's state to the next; needs `save`.
            tqdm_notebook: Accepted for compatibility with imnn-tf 0.2; it has no effect.
            weight_file: Name of the weights file to save, without its ending `.weights.h5`.
            callbacks: Keras callbacks. An update is an epoch of one batch. Its logs are `loss`,
                `det_F`, `det_C`, `det_Cinv`, `reg`, `r` and, after a validation, the same with
                `val_` in front.
            regulariser: `"divergence"`, `tr C − ln det C − n_summaries`, or `"published"`,
                `‖C − 1‖ + ‖C⁻¹ − 1‖` with the coupling `r` of the paper.
            validation_freq: Updates from one validation to the next; 1 by default, or with
                `batch_size` as many as see every simulation about once.
            steps_per_execution: Updates in one call of the compiled loop; callbacks are called
                after each call of the loop, for every update in turn. By default one with
                `callbacks`, and otherwise as many as take about a quarter of a second. It does
                not change the result of a fit.
            batch_size: Fiducial simulations of an update, each with its share of the derivative
                simulations, chosen anew for every update by `seed`. By default all, and 200 where
                the summaries had to be whitened, no `optimiser` was named and there is a
                validation set: networks that pool then learn less by heart. The simulations must
                be held in memory.
            jit_compile: Whether to compile the loop with XLA. `"auto"` does so on a GPU, unless a
                `map_fn` or a simulator that is not TensorFlow code is part of the loop.
            verbose: Whether to show a progress bar; the setting of the object by default.

        Returns:
            Keras's record of this call. `history` has that of all calls.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument has the wrong value, or layers were frozen or thawed since.
            RuntimeError: If a callback of a running fit calls it.
            InformationError: If a loss is not finite. The message says why and at which update;
                the model then has the last weights whose loss was finite.
        """
        keras_callbacks = callback_list(callbacks, self.model, n_iterations)
        if checkpoint is not None and not self.save:
            raise ValueError("`checkpoint` must come with `save=True` of the IMNN, got save=False.")
        per_call = 1 if callbacks and steps_per_execution is None else steps_per_execution
        options = session.FitOptions.checked(
            regularisation=Regularisation.checked(regulariser, λ, ϵ),
            n_iterations=n_iterations,
            patience=patience,
            min_iterations=min_iterations,
            checkpoint=checkpoint,
            steps_per_execution=per_call,
            batch_size=batch_size,
            validation_freq=validation_freq,
            jit_compile=jit_compile,
            verbose=self.verbose if verbose is None else bool(verbose),
        )
        self._session.loop(options)  # raises, before anything is changed, if there can be none
        if checks.flag("reset", reset):
            self._state.reset()
        loop = self._session.start(options)
        self._forget_measurement()
        save = partial(self._state.save, self._folder, self.options.fiducial)
        self._session.run(loop, options, keras_callbacks, save)
        self._session.warn_of_poor_fit(self.options.fiducial.moves)
        if (evaluation := self._evaluation_of_fit()) is not None:
            source = "validation set" if self.validate else "training set"
            advice.warn_after_fit(evaluation, self.options.fiducial.delta, source)
        if self.save:
            results = self._get_estimator().files  # measured by all workers, written by one
            files = self._folder, self.options.fiducial, results, weight_file
            self._summariser.replicas.on_chief(partial(self._state.save_all, *files))
        return keras_callbacks.callbacks[-1]

    def update_variables(self, variables: Sequence[Numbers]) -> None:
        """Sets the weights that `fit(reset=True)` starts from.

        Args:
            variables: One array for each weight of the model, in the weight's shape and in the
                order of `model.get_weights()`.

        Raises:
            ValueError: If their number or shapes are not those of the model's weights.
        """
        self._state.set_initial_weights(variables)

    def move_to(self, θ_fid: Numbers, *, keep_optimiser: bool = False) -> None:
        """Moves the fiducial point. Only simulations made by a `simulator` can follow.

        The weights stay, a further `fit` starts from them, and nothing is compiled anew. The best
        score is forgotten, and so is everything that was measured, since both belong to the old
        point. The count of updates goes on, so that new simulations are made. `refine` moves to
        an estimate.

        Args:
            θ_fid: The new fiducial parameters, `[n_params]`.
            keep_optimiser: Whether the optimiser keeps its moments and the count of its schedule;
                by default it starts anew.

        Raises:
            ValueError: If the simulations are not made by a simulator, or are not finite at the
                new point or beside it. Nothing has changed then.
            RuntimeError: If a callback of a running fit calls it.
        """
        self._session.require_idle()
        self.options.fiducial.require_movable()
        keep_optimiser = checks.flag("keep_optimiser", keep_optimiser)
        theta_fid = checks.array("θ_fid", θ_fid, shape=(self.n_params,), dtype=np.float64)
        self.options.fiducial.move(theta_fid)
        self._state.move(theta_fid, keep_optimiser=keep_optimiser)
        self._forget_measurement()

    def plot(
        self,
        regulariser: bool = True,
        known_det_fisher: float | None = None,
        figsize: tuple[float, float] | None = None,
        *,
        evaluation: Evaluation | None = None,
    ) -> np.ndarray:
        """Plots the history of all fits: det F, det C and the regulariser.

        A band shows the 68 % interval of det F without the noise of few simulations.

        Args:
            regulariser: Whether to add a panel of the regulariser and its coupling, as by default.
            known_det_fisher: The exact determinant of the Fisher information, drawn if given.
            figsize: Width and height of the figure in inches; by default 8 and 3 for each panel.
            evaluation: What `evaluate` returned, for the band; by default what the fit measured.

        Returns:
            The axes from top to bottom, `[3]`, or `[2]` without the regulariser.
        """
        return plotting.plot_history(
            self.history,
            regulariser=regulariser,
            known_det_fisher=known_det_fisher,
            figsize=figsize,
            evaluation=self._evaluation_of_fit() if evaluation is None else evaluation,
        )

    def _facts(self) -> dict[str, str]:
        return {**super()._facts(), "updates": str(len(self.history["loss"]))}

    def _evaluation_of_fit(self) -> Evaluation | None:
        """What was measured with the weights that the last fit ended on, if they have a score."""
        return self.measurement.information if np.isfinite(self._state.best.score) else None

    # What a fit changes.

    history = attribute("_state.history", "dict[str, list]", "Numbers of each update, by name.")
    optimiser = attribute("_state.optimiser", "keras.optimizers.Optimizer", "The optimiser.")
    unfinished = attribute("_state.unfinished", "int", "Updates of a killed fit to go on with.")
    regulariser = attribute("_state.regularisation.name", "str", "Name of the last regulariser.")
    λ = attribute("_state.regularisation.strength", "float", "Strength of the regularisation.")
    ϵ = attribute("_state.regularisation.closeness", "float", "Closeness of the covariance to one.")
    α = attribute("_state.regularisation.rate", "float", "Rate of the coupling.")
    reg = attribute("_loss.regularisation", "tf.Tensor", "The regulariser at present, `[]`.")
    r = attribute("_loss.coupling", "tf.Tensor", "The coupling of the regulariser, `[]`.")

    @property
    def _loss(self) -> Loss:
        objective = Objective(self._summariser, self._state.regularisation)
        return objective.assess(self.measurement.statistics)[0]


def _require_agreement(
    imnn: IMNN,
    given: dict[str, int | None],
    input_shape: Sequence[int] | None,
    validation: Simulations | None,
) -> None:
    """Checks the numbers that a user gave against those read off the data and the model.

    Raises:
        TypeError: If a number is not an integer.
        ValueError: If they do not agree, or there are too few summaries or simulations.
    """
    for name, value in given.items():
        found = getattr(imnn, name)
        if value is not None and checks.integer(name, value, minimum=1) != found:
            raise ValueError(
                f"`{name}` must agree with the data and the model, {found}, got {value}."
            )
    if input_shape is not None and tuple(input_shape) != imnn.input_shape:
        raise ValueError(
            f"`input_shape` must be the shape of one simulation, {imnn.input_shape}, got "
            f"{tuple(input_shape)}."
        )
    if imnn.n_summaries < imnn.n_params:
        raise ValueError(
            "`model` must have at least as many summaries as there are parameters, "
            f"{imnn.n_params}, got {imnn.n_summaries}."
        )
    n_all = imnn.n_summaries + imnn.n_external
    counts = {"fiducial": imnn.n_s} | (
        {"validation_fiducial": validation.n_s} if validation else {}
    )
    for name, n_s in counts.items():
        if n_s <= n_all:
            raise ValueError(
                f"`{name}` must hold more simulations than there are summaries, {n_all}, for "
                f"their covariance to have an inverse, got {n_s}."
            )


def _floating(dtype: DTypeLike) -> tf.DType:
    floating = next((known for known in (tf.float32, tf.float64) if known == dtype), None)
    if floating is None:
        raise TypeError(f"`dtype` must be float32 or float64, got {dtype!r}.")
    return floating
