"""`RIM.fit` and `RIM.evaluate`: Keras's own, with torch_rim's keywords and layouts of data.

A new keyword is declared, documented and translated here and nowhere else.
"""

import contextlib
import datetime
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from imnn_tf.utils import checks, display
from imnn_tf.utils.types import KerasModel, KerasOptimizer, Numbers
from rim_tf.fitting.callbacks import Ending, MaxTime, Patience
from rim_tf.fitting.checkpoints import Checkpoints
from rim_tf.fitting.data import Data, arrange, arrange_validation, data_may_end, first_batch
from rim_tf.fitting.schedules import LearningRate, Warmup
from rim_tf.problem.scales import MeasuredScales

UNITLESS_EPSILON = 1e-12
"""Adam's epsilon for a RIM with scales: Keras's 1e-7 is large beside the gradients of parameters of
order 1e-3, whose squared errors are of order 1e-6."""

_Schedule = keras.optimizers.schedules.LearningRateSchedule


def fit(
    rim: KerasModel,
    x: Data = None,
    y: Data = None,
    *,
    epochs: int = 1,
    batch_size: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    validation_data: Data = None,
    callbacks: Sequence[Any] = (),
    learning_rate: LearningRate = None,
    scheduler: Any = None,
    warmup: int = 0,
    clip: float = 0.0,
    ema_decay: float = 0.0,
    patience: float | None = None,
    tolerance: float = 0.0,
    max_time: float | None = None,
    checkpoints_directory: str | Path | None = None,
    checkpoints: int = 10,
    models_to_keep: int = 3,
    model_checkpoint: int | None = None,
    logdir: str | Path | None = None,
    logname: str | None = None,
    logname_prefix: str = "rim",
    n_iterations_in_epoch: int | None = None,
    sample_weight: Numbers = None,
    **kwargs: Any,
) -> Any:
    """Keras's `fit`, with torch_rim's keywords.

    If any of `learning_rate`, `scheduler`, `warmup`, `clip` and `ema_decay` is given, or if the
    model was never compiled, it is compiled with a new Adam. The loss and the other arguments of
    an earlier `compile` stay.

    Args:
        rim: The model.
        x: The training data. Arrays `(y, x, *args)`, `[batch, ...]` each; a `tf.data.Dataset` or a
            sequence of examples `(y, x, *args)`; or, in Keras's layout, `((y, *args), x)`.
        y: The parameters, `[batch, *dimensions, channels]` or a dictionary by field, if the
            argument `x` holds the inputs only. Defaults to `None`.
        epochs: The number of epochs in all, including those of a fit that is resumed. Defaults
            to 1.
        batch_size: The number of examples in a batch. With `None` (the default), arrays come in
            batches of 32, and a data set is taken to hold batches. With a number, a data set is
            taken to hold examples.
        shuffle: Whether each epoch has its own order of the examples. A data set of batches is
            never shuffled, and neither is one that does not know its length. Defaults to True.
        seed: An integer that decides the orders. With `None` (the default) it is drawn. A fit
            that is resumed keeps its seed.
        validation_data: Data in a layout of `x`, or a tuple `((y, *args), x)`, `[batch, ...]`
            each. Defaults to `None`.
        callbacks: Keras callbacks. A fit that is resumed gives back what Keras's own remember.
            Others need the methods `get_state` and `set_state` for that. Defaults to none.
        learning_rate: Adam's learning rate, a number or a Keras schedule. Defaults to `None`,
            which is 1e-4 for a new Adam.
        scheduler: A Keras schedule for the learning rate, or a function of an epoch's number and
            the last rate that returns the next rate. Defaults to `None`, a constant rate.
        warmup: The number of updates over which the learning rate first grows linearly. Defaults
            to 0.
        clip: The largest norm that the gradients of all weights together may have. Defaults to 0,
            no limit.
        ema_decay: The decay rate, in [0, 1), of the moving average of the weights that replaces
            them at the end. Defaults to 0, no average.
        patience: The number of epochs in a row without improvement after which to stop. Defaults
            to `None`, which like infinity means never.
        tolerance: The fraction by which the loss must fall to be an improvement, in [0, 1).
            Defaults to 0.
        max_time: The number of hours after which to stop. Defaults to `None`, which like infinity
            means no limit.
        checkpoints_directory: The folder where the fit is saved. If it already holds a fit, that
            one is resumed. Defaults to `None`, nothing is saved.
        checkpoints: The number of epochs between two checkpoints. Defaults to 10.
        models_to_keep: How many of the best checkpoints to keep besides the newest. Defaults to 3.
        model_checkpoint: The epoch of the checkpoint to resume from. Defaults to `None`, the
            newest.
        logdir: A folder in which to make a new folder for the checkpoints, if
            `checkpoints_directory` is not given. Defaults to `None`.
        logname: The name of that new folder. Defaults to `None`, `logname_prefix` and the time.
        logname_prefix: The beginning of that name if there is no `logname`. Defaults to "rim".
        n_iterations_in_epoch: The number of updates in an epoch, Keras's `steps_per_epoch`. Each
            epoch goes on where the last one ended, in pass after pass over the data. Defaults to
            `None`, one pass over the data.
        sample_weight: The weights of examples, pixels or entries, `[batch]`, `[batch, *sizes]` or
            `[batch, *sizes, channels]`, at least 0, if the data are arrays. Defaults to `None`,
            equal weights.
        **kwargs: Other arguments of Keras's `fit`, such as `verbose`, whose "auto" (the default)
            writes one line for each epoch into a log file.

    Returns:
        Keras's history. That of a resumed fit covers the whole fit.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, the checkpoints are of another model, or the
            model was made under a strategy of several processes.
    """
    if isinstance(rim.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
        raise ValueError(
            "A `RIM` must be made on one process, alone or under a `MirroredStrategy`, got a "
            "`MultiWorkerMirroredStrategy`, with which Keras's training loop does not work."
        )
    # A new optimiser starts without moments, so the model is only compiled again when it must be.
    changes = (learning_rate, scheduler, warmup or None, clip or None, ema_decay or None)
    if not rim.compiled or any(change is not None for change in changes):
        epsilon = UNITLESS_EPSILON if isinstance(rim.scales, MeasuredScales) else 1e-7
        optimizer = make_optimizer(learning_rate, scheduler, warmup, clip, ema_decay, epsilon)
        rim.compile(optimizer, **rim.compilation.arguments)
    monitor = "loss" if validation_data is None else "val_loss"
    stops = make_callbacks(monitor, scheduler, patience, tolerance, max_time)
    callbacks = [*callbacks, *stops]
    steps = n_iterations_in_epoch or kwargs.pop("steps_per_epoch", None)
    if steps is not None:
        steps = checks.integer("steps_per_epoch", steps, minimum=1)
    if "validation_split" in kwargs:
        raise ValueError("`validation_split` must be left out: give `validation_data`.")
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    seed = checks.integer("seed", seed)
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"`seed` must have at most 64 bits, got {seed}.")
    first_epoch = kwargs.pop("initial_epoch", 0)
    directory = _directory(checkpoints_directory, logdir, logname, logname_prefix)
    if directory is None and model_checkpoint is not None:
        raise ValueError("`model_checkpoint` must come with `checkpoints_directory`.")
    if directory is not None:
        order = {"batch_size": batch_size, "shuffle": shuffle, "n_iterations_in_epoch": steps}
        keep = models_to_keep
        saver = Checkpoints(
            directory, checkpoints, keep, monitor, seed, others=callbacks, order=order
        )
        first_epoch = saver.resume(rim, model_checkpoint) or first_epoch
        seed = saver.seed
        if saver.memory.spent:
            epochs = first_epoch  # Keras would only ask after another epoch
        callbacks.append(saver)  # the last, because it saves what the others decided
    reasons = {
        "Patience" if isinstance(each, Patience) else "`max_time`": each
        for each in stops
        if isinstance(each, Patience | MaxTime)
    }
    kwargs["verbose"] = _verbosity(kwargs.get("verbose", "auto"))
    callbacks.append(Ending(monitor, reasons, show=bool(kwargs["verbose"])))
    place: dict[str, Any] = {"seed": seed, "steps": steps, "first_epoch": first_epoch}
    form: dict[str, Any] = {"batch_size": batch_size, "dtype": rim.variable_dtype}
    form["check"] = rim.parameters.check_range
    data, steps = arrange(x, y, sample_weight, shuffle=shuffle, **form, **place)
    if steps is not None and steps % rim.steps_per_execution:
        raise ValueError(
            "`steps_per_execution` must divide the number of updates in an epoch, "
            f"{steps}, got {rim.steps_per_execution}."
        )
    if validation_data is not None:
        validation_data, validation_steps = arrange_validation(validation_data, **form)
        kwargs.setdefault("validation_steps", validation_steps)
    epochs = checks.integer("epochs", epochs, minimum=0)
    if epochs > first_epoch:
        _measure_scales(rim, x, data, {**form, "steps": steps})
    with _traced_anew_after_errors(rim), data_may_end():
        return keras.Model.fit(
            rim,
            data,
            epochs=epochs,
            initial_epoch=first_epoch,
            steps_per_epoch=steps,
            shuffle=False,  # done by `arrange`, in an order that a resumed fit repeats
            validation_data=validation_data,
            callbacks=callbacks,
            **kwargs,
        )


def evaluate(
    rim: KerasModel,
    x: Data = None,
    y: Data = None,
    *,
    batch_size: int | None = None,
    sample_weight: Numbers = None,
    **kwargs: Any,
) -> Any:
    """Keras's `evaluate`, for data in the layouts that `fit` takes.

    Args:
        rim: The model.
        x: The data. Arrays `(y, x, *args)`, `[batch, ...]` each; a `tf.data.Dataset` or a sequence
            of examples `(y, x, *args)`; or, in Keras's layout, `((y, *args), x)`.
        y: The parameters, `[batch, *dimensions, channels]` or a dictionary by field, if the
            argument `x` holds the inputs only. Defaults to `None`.
        batch_size: The number of examples in a batch. With `None` (the default), arrays come in
            batches of 32, and a data set is taken to hold batches. With a number, a data set is
            taken to hold examples.
        sample_weight: The weights of examples, pixels or entries, `[batch]`, `[batch, *sizes]` or
            `[batch, *sizes, channels]`, if the data are arrays. Defaults to `None`, equal
            weights.
        **kwargs: Other arguments of Keras's `evaluate`, such as `verbose` and `return_dict`.

    Returns:
        The loss and the metrics, as Keras returns them.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
    """
    form: dict[str, Any] = {"batch_size": batch_size, "dtype": rim.variable_dtype}
    form["check"] = rim.parameters.check_range
    data, steps = arrange(x, y, sample_weight, **form).one_epoch()
    with _traced_anew_after_errors(rim), data_may_end():
        kwargs["verbose"] = _verbosity(kwargs.get("verbose", "auto"))
        return keras.Model.evaluate(rim, data, **{"steps": steps, **kwargs})


def _measure_scales(rim: KerasModel, given: Data, data: Any, form: dict[str, Any]) -> None:
    """Measures the scales of a RIM that has them on the first batch, if that was not done yet."""
    if not isinstance(rim.scales, MeasuredScales):
        return
    streams = isinstance(given, tf.data.Dataset)
    if rim.scales.measured and not streams:
        return
    # A data set may shuffle itself in another order at every pass. A fit that is resumed has not
    # to measure, but has to begin with as many passes as one that was not interrupted.
    # One batch alone, because TensorFlow reads ahead, into a pass that would count too.
    batch = first_batch(arrange(given, **form).data.take(1) if streams else data)
    if not rim.scales.measured:
        rim.measure_scales(*batch)


@contextlib.contextmanager
def _traced_anew_after_errors(rim: KerasModel) -> Iterator[None]:
    """Lets Keras's `fit` and `evaluate` be called again after an error in the user's functions."""
    try:
        yield
    except Exception:
        # TensorFlow refuses the variables that a second tracing of the same functions would make.
        rim.train_function = rim.test_function = None
        raise


def make_optimizer(
    learning_rate: LearningRate = None,
    scheduler: Any = None,
    warmup: int = 0,
    clip: float = 0.0,
    ema_decay: float = 0.0,
    epsilon: float = 1e-7,
) -> KerasOptimizer:
    """Makes the Adam that these keywords of `fit` ask for.

    Args:
        learning_rate: A number or a Keras schedule; `None` for 1e-4 or `scheduler`.
        scheduler: A Keras schedule. A function of the epoch becomes a callback instead.
        warmup: The number of updates over which the rate first grows linearly.
        clip: The largest norm of all gradients together; 0 for no limit.
        ema_decay: The decay rate of the moving average of the weights; 0 for no average.
        epsilon: Adam's own, which it adds to the root of the mean square of a gradient. Defaults
            to 1e-7, as in Keras.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range or does not fit another.
    """
    rate: LearningRate = 1e-4
    if isinstance(scheduler, _Schedule):
        if learning_rate is not None:
            raise ValueError("`learning_rate` must be left out with a schedule as `scheduler`.")
        rate = scheduler
    elif isinstance(learning_rate, _Schedule):
        rate = learning_rate
    elif learning_rate is not None:
        rate = checks.real("learning_rate", learning_rate, above=0)
    if checks.integer("warmup", warmup, minimum=0):
        if scheduler is not None and not isinstance(scheduler, _Schedule):
            raise ValueError(
                "`warmup` must be 0 with a function as `scheduler`, which sets every rate "
                f"itself; got {warmup}. A keras LearningRateSchedule can be warmed up."
            )
        rate = Warmup(rate, warmup)
    clip = checks.real("clip", clip, minimum=0)
    decay = checks.real("ema_decay", ema_decay, minimum=0, below=1)
    return keras.optimizers.Adam(
        rate,
        epsilon=epsilon,
        global_clipnorm=clip or None,
        use_ema=decay > 0,
        ema_momentum=decay or 0.99,  # Keras's default, without meaning if there is no average
    )


def make_callbacks(
    monitor: str,
    scheduler: Any = None,
    patience: float | None = None,
    tolerance: float = 0.0,
    max_time: float | None = None,
) -> list[Any]:
    """Makes the callbacks that these keywords of `fit` ask for.

    Args:
        monitor: The name of the logged value in which to look for improvement.
        scheduler: A function of epoch and rate. A Keras schedule is the optimiser's business.
        patience: The number of epochs without improvement; `None` or infinity for no limit.
        tolerance: The fraction by which a value must fall to be an improvement.
        max_time: The number of hours; `None` or infinity for no limit.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.
    """
    callbacks: list[Any] = []
    if scheduler is not None and not isinstance(scheduler, _Schedule):
        checks.function("scheduler", scheduler)
        callbacks.append(keras.callbacks.LearningRateScheduler(scheduler))
    if patience not in (None, math.inf):
        misses = checks.integer("patience", patience, minimum=1)
        callbacks.append(Patience(misses, tolerance, monitor))
    if max_time is not None and max_time != math.inf:
        callbacks.append(MaxTime(max_time))
    return callbacks


def _verbosity(verbose: str | int) -> str | int:
    """Keras's `verbose`, of which "auto" would write a line every 50 ms into a log file."""
    return 2 if verbose == "auto" and not display.overwrites(sys.stdout) else verbose


def _directory(
    checkpoints_directory: str | Path | None,
    logdir: str | Path | None,
    logname: str | None,
    logname_prefix: str,
) -> Path | None:
    """The folder for the checkpoints, or `None` if nothing is to be saved."""
    if checkpoints_directory is not None:
        return Path(checkpoints_directory)
    if logdir is None:
        return None
    now = datetime.datetime.now().strftime("%y%m%d%H%M%S")
    return Path(logdir) / (logname or f"{logname_prefix}_{now}")
