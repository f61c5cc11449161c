"""The training of a RIM: Keras's own, with a trajectory's loss and torch_rim's keywords."""

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from imnn_tf.utils import checks
from rim_tf import data as training_data
from rim_tf import optimizers
from rim_tf.checkpoints import Checkpoints
from rim_tf.losses import TrajectoryLoss, weighted_mean
from rim_tf.parameters import Parameters, Values, check_shape


class Training(keras.Model):
    """The half of `RIM` that trains it."""

    dimensions: tuple[int | None, ...]
    parameters: Parameters
    T: int

    def _prepare_training(self, likelihood: Any) -> None:
        """Makes the metrics, which a Keras model must have before it is compiled."""
        self._likelihood = likelihood
        names = ["error"] if likelihood is None else ["error", "chi2"]
        self._of_last = {name: keras.metrics.Mean(name=name) for name in names}
        # In a namespace, for Keras would track what the model holds, and never let go of it.
        self._compiled = SimpleNamespace(arguments={}, of_steps=())

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = None,
        *,
        jit_compile: bool | str = "auto",
        step_metrics: bool = False,
        **kwargs: Any,
    ) -> None:
        """Keras's `compile`, with a RIM's defaults.

        Args:
            optimizer: What `keras.optimizers.get` takes.
            loss: A function of unlinked targets and trajectory; `TrajectoryLoss()` when
                `None`.
            jit_compile: Whether XLA compiles. "auto" compiles parameters of at most one
                dimension, where many small operations dominate, on any device; of more on
                an accelerator only, because TensorFlow's own convolutions in two and three
                dimensions are the faster ones on a CPU.
            step_metrics: Whether to log the error, and chi-squared where there is a
                likelihood, of every iterate and not of the last alone: as `error_1`,
                `chi2_1` and so on.
            **kwargs: Keras's own. Its `metrics` see unlinked targets and trajectory.

        Raises:
            TypeError: If `step_metrics` is neither True nor False.
        """
        steps = self.T if checks.flag("step_metrics", step_metrics) else 0
        self._compiled.of_steps = tuple(
            {name: keras.metrics.Mean(name=f"{name}_{step + 1}") for name in self._of_last}
            for step in range(steps)
        )
        self._compiled.arguments = {
            "loss": loss,
            "jit_compile": jit_compile,
            "step_metrics": step_metrics,
            **kwargs,
        }
        super().compile(
            optimizer=optimizer,
            loss=TrajectoryLoss() if loss is None else loss,
            jit_compile=self.resolve_jit(jit_compile),
            **kwargs,
        )

    def get_compile_config(self) -> dict[str, Any]:
        """What `compile_from_config` takes."""
        config = super().get_compile_config()
        return {**config, "step_metrics": bool(self._compiled.of_steps)} if config else config

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Keras's metrics, and those of every step if they were asked for."""
        return [
            *super().metrics,
            *(each for step in self._compiled.of_steps for each in step.values()),
        ]

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a model that Keras has loaded, as it was when saved."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        *,
        epochs: int = 1,
        batch_size: int | None = None,
        shuffle: bool = True,
        seed: int | None = None,
        validation_data: Any = None,
        callbacks: Sequence[Any] = (),
        learning_rate: Any = None,
        scheduler: Any = None,
        warmup: int = 0,
        clip: float = 0.0,
        ema_decay: float = 0.0,
        patience: float | None = None,
        tolerance: float = 0.0,
        max_time: float | None = None,
        checkpoints_directory: Any = None,
        checkpoints: int = 10,
        models_to_keep: int = 3,
        model_checkpoint: int | None = None,
        logdir: Any = None,
        logname: str | None = None,
        logname_prefix: str = "rim",
        n_iterations_in_epoch: int | None = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Keras's `fit`, with torch_rim's keywords.

        Args:
            x: Training data: arrays `(y, x, *args)`; a `tf.data.Dataset` or sequence of
                examples `(y, x, *args)`; or, as Keras has it, `((y, *args), x)`.
            y: The parameters, if `x` holds the inputs only.
            epochs: How many epochs there shall be in all, those resumed from included.
            batch_size: Examples in a batch; 32 for arrays. A data set is taken to be of
                batches when this is `None`, and of examples otherwise.
            shuffle: Whether each epoch has an order of its own. Batches are not shuffled.
            seed: Decides the orders; drawn when `None`, and kept when a fit resumes.
            validation_data: As `x`, or a tuple `((y, *args), x)`.
            callbacks: Keras's.
            learning_rate: Of Adam; a number or a Keras schedule. With this or the next four
                the model is compiled with a new Adam; without, and if never compiled, with
                the default of 1e-4.
            scheduler: A Keras schedule, or a function of epoch and rate to the next rate.
            warmup: Updates over which the rate first grows linearly.
            clip: Bound on the norm of all gradients together; 0 for none.
            ema_decay: Decay of the moving average of the weights that replaces them at the
                end; 0 for none.
            patience: Epochs in a row without improvement after which to stop; never when
                `None` or infinite.
            tolerance: The fraction by which a loss must fall to be an improvement.
            max_time: Hours after which to stop; likewise.
            checkpoints_directory: Where to save the fit, and to resume it from if it is there.
            checkpoints: Epochs between two checkpoints.
            models_to_keep: How many of the best to keep, beside the newest.
            model_checkpoint: The epoch to resume from, if not the newest.
            logdir: Where to make a folder for checkpoints, if no directory is given.
            logname: That folder's name; `logname_prefix` and the time when `None`.
            logname_prefix: See there.
            n_iterations_in_epoch: Updates in an epoch; Keras calls it `steps_per_epoch`.
            sample_weight: Weights of arrays' examples, pixels or entries.
            **kwargs: Keras's own, such as `verbose`.

        Returns:
            Keras's history; of a resumed fit, from its very beginning.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument is out of range, or checkpoints are of another model.
        """
        changes = (learning_rate, scheduler, warmup or None, clip or None, ema_decay or None)
        if not self.compiled or any(change is not None for change in changes):
            optimizer = optimizers.make_optimizer(learning_rate, scheduler, warmup, clip, ema_decay)
            self.compile(**{**self._compiled.arguments, "optimizer": optimizer})
        monitor = "loss" if validation_data is None else "val_loss"
        stops = optimizers.make_callbacks(
            monitor,
            scheduler=scheduler,
            patience=patience,
            tolerance=tolerance,
            max_time=max_time,
        )
        steps = n_iterations_in_epoch or kwargs.pop("steps_per_epoch", None)
        directory = _checkpoint_directory(checkpoints_directory, logdir, logname, logname_prefix)
        if model_checkpoint is not None and directory is None:
            raise ValueError("`model_checkpoint` must come with `checkpoints_directory`.")
        if "validation_split" in kwargs:
            raise ValueError("`validation_split` must be left out: give `validation_data`.")
        return _run(
            self,
            super().fit,
            x,
            y,
            batch_size=batch_size,
            shuffle=checks.flag("shuffle", shuffle),
            seed=None if seed is None else checks.integer("seed", seed),
            validation_data=validation_data,
            callbacks=[*callbacks, *stops],
            directory=directory,
            checkpoints=checkpoints,
            models_to_keep=models_to_keep,
            model_checkpoint=model_checkpoint,
            epochs=checks.integer("epochs", epochs, minimum=0),
            steps_per_epoch=(
                None if steps is None else checks.integer("steps_per_epoch", steps, minimum=1)
            ),
            sample_weight=sample_weight,
            **kwargs,
        )

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        *,
        batch_size: int | None = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Keras's `evaluate`, of data as `fit` takes them.

        Args:
            x: As for `fit`.
            y: As for `fit`.
            batch_size: As for `fit`.
            sample_weight: As for `fit`.
            **kwargs: Keras's own, such as `verbose` and `return_dict`.

        Returns:
            Loss and metrics, as Keras does.
        """
        arranged = training_data.arrange(x, y, sample_weight, batch_size=batch_size)
        kwargs.setdefault("steps", arranged.steps)
        return super().evaluate(arranged.data, **kwargs)

    def resolve_jit(self, jit_compile: bool | str) -> bool | str:
        """What "auto" means for this model; see `compile`."""
        distributed = tf.distribute.get_strategy().num_replicas_in_sync > 1
        if jit_compile == "auto" and len(self.dimensions) <= 1 and not distributed:
            return True
        return jit_compile

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        """The compiled loss, of unlinked targets and trajectory."""
        return super().compute_loss(x, self._target(y, y_pred), y_pred, sample_weight, training)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Keras's metrics and the model's own, of the last iterate or of each.

        `error` is the mean squared error in the parameters' own space; `chi2`, where there is
        a likelihood, the mean over examples of their chi-squared.
        """
        inputs = training_data.as_tensors(x, self.variable_dtype)
        examples, last = tf.shape(y_pred)[0], y_pred.shape[1] - 1
        for step in range(last + 1) if self._compiled.of_steps else [last]:
            means = [self._compiled.of_steps[step]] if self._compiled.of_steps else []
            if step == last:
                means.append(self._of_last)
            for name, value in self._measure(y_pred[:, step], inputs, y, sample_weight).items():
                for mean in means:
                    mean[name].update_state(value, sample_weight=examples)
        return super().compute_metrics(x, self._target(y, y_pred), y_pred, sample_weight)

    def _measure(
        self, unlinked: tf.Tensor, inputs: Sequence[Any], truth: Values, sample_weight: Any
    ) -> dict[str, tf.Tensor]:
        """Error, and chi-squared if it is known, of one iterate."""
        estimate = self.parameters.link(unlinked)
        errors = [
            tf.square(ours - tf.cast(true, ours.dtype))
            for ours, true in zip(tf.nest.flatten(estimate), tf.nest.flatten(truth), strict=True)
        ]
        measured = {"error": weighted_mean(tf.concat(errors, -1), sample_weight)}
        if self._likelihood is not None:
            measured["chi2"] = tf.reduce_mean(self._likelihood.chi2(estimate, *inputs))
        return measured

    def _target(self, y: Values, trajectory: tf.Tensor) -> tf.Tensor:
        """Targets, unlinked, checked: other shapes could broadcast, and train something else."""
        cast = [tf.cast(value, self.variable_dtype) for value in tf.nest.flatten(y)]
        target = self.parameters.unlink(tf.nest.pack_sequence_as(y, cast))
        check_shape("The parameters `x`", target, trajectory.shape[2:])
        return target


def _run(
    rim: Any,
    keras_fit: Callable[..., Any],
    x: Any,
    y: Any,
    *,
    batch_size: int | None,
    shuffle: bool,
    seed: int | None,
    validation_data: Any,
    callbacks: Sequence[Any],
    directory: Path | None,
    checkpoints: int,
    models_to_keep: int,
    model_checkpoint: int | None,
    epochs: int,
    steps_per_epoch: int | None,
    sample_weight: Any,
    **keras_arguments: Any,
) -> Any:
    """Arranges data and checkpoints around Keras's `fit`; see `RIM.fit`."""
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    callbacks = list(callbacks)
    done = keras_arguments.pop("initial_epoch", 0)
    if directory is not None:
        monitor = "loss" if validation_data is None else "val_loss"
        saver = Checkpoints(
            directory,
            every=checkpoints,
            keep=models_to_keep,
            monitor=monitor,
            seed=seed,
            remembering=[each for each in callbacks if hasattr(each, "set_state")],
        )
        done = saver.resume(rim, model_checkpoint) or done
        seed = saver.seed
        callbacks.append(saver)
    arranged = training_data.arrange(
        x, y, sample_weight, batch_size=batch_size, shuffle=shuffle, seed=seed, first_epoch=done
    )
    if validation_data is not None:
        validation = _validation(validation_data, batch_size)
        keras_arguments.setdefault("validation_steps", validation.steps)
        validation_data = validation.data
    history = keras_fit(
        arranged.data,
        epochs=epochs,
        initial_epoch=done,
        steps_per_epoch=steps_per_epoch or arranged.steps,
        shuffle=False,
        validation_data=validation_data,
        callbacks=callbacks,
        **keras_arguments,
    )
    if directory is not None:
        history.history = {name: list(values) for name, values in saver.history.items()}
        history.epoch = list(range(saver.epoch))
    return history


def _validation(data: Any, batch_size: int | None) -> training_data.TrainingData:
    """The validation data as batches."""
    target = weights = None
    if isinstance(data, tuple | list) and isinstance(data[0], tuple | list):
        data, target, *rest = data
        weights = rest[0] if rest else None
    return training_data.arrange(data, target, weights, batch_size=batch_size)


def _checkpoint_directory(
    directory: Any, logdir: Any, logname: str | None, prefix: str
) -> Path | None:
    """Where checkpoints go: where the user says, or to a folder named for now in `logdir`."""
    if directory is not None:
        return Path(directory)
    if logdir is None:
        return None
    now = datetime.datetime.now().strftime("%y%m%d%H%M%S")
    return Path(logdir) / (logname or f"{prefix}_{now}")
