"""`RIM.compile`: Keras's own, with the defaults of a RIM, and how a saved RIM is compiled again."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf
from keras.src.saving.serialization_lib import SafeModeScope

from imnn_tf.utils import checks
from imnn_tf.utils.types import KerasModel, KerasOptimizer
from rim_tf.fitting.keywords import UNITLESS_EPSILON
from rim_tf.fitting.losses import as_trajectory_losses
from rim_tf.fitting.metrics import as_trajectory_metrics
from rim_tf.problem.scales import Scales


@dataclass
class Compilation:
    """How a RIM was compiled, what was compiled since, and where its weights are from.

    A RIM holds it in one object because Keras tracks the dictionaries, lists and metrics that a
    model itself holds. It would log the user's metrics twice, and export the functions.

    Attributes:
        metrics: What is logged besides the loss and the user's metrics.
        arguments: What the last `compile` was given, but for the optimiser.
        predictors: The functions that `predict` has compiled.
        loaded_epoch: The epoch of the saved fit whose weights it was made with, or `None`.
        loss_of: What the loss compares, "u" or "x".
    """

    metrics: Any
    arguments: dict[str, Any] = field(default_factory=dict)
    predictors: dict[Any, Callable[..., Any]] = field(default_factory=dict)
    loaded_epoch: int | None = None
    loss_of: str = "u"


def compile(
    rim: KerasModel,
    optimizer: str | KerasOptimizer = "adam",
    loss: Any = None,
    *,
    jit_compile: bool | str = "auto",
    step_metrics: bool = False,
    loss_of: str = "u",
    **kwargs: Any,
) -> None:
    """Keras's `compile`, with the defaults of a RIM.

    Args:
        rim: The model.
        optimizer: What `keras.optimizers.get` takes. Defaults to "adam", which for a RIM with
            scales has an epsilon of 1e-12.
        loss: A function of the targets, `[batch, *dimensions, channels]`, and the trajectory,
            `[batch, T, *dimensions, channels]`. Defaults to `TrajectoryLoss()`.
        jit_compile: Whether XLA compiles the model. "auto" (the default) compiles for at most
            one dimension, where many small operations dominate, and for more on an accelerator
            only, because TensorFlow's own convolutions are faster on a CPU.
        step_metrics: Whether to log the error, and chi-squared if there is a likelihood, of
            every iterate too, as `error_1`, `chi2_1` and so on. Defaults to False.
        loss_of: What the loss and the metrics compare: "u" (the default), the unlinked numbers
            that the network steps through, or "x", the parameters themselves. Fields are joined
            along the channels.
        **kwargs: Other arguments of Keras's `compile`. Its `metrics` see what the loss sees, those
            of Keras's own the last step of it.

    Raises:
        TypeError: If `step_metrics` is neither True nor False.
        ValueError: If a loss is one of Keras's own, or `loss_of` is neither "u" nor "x".
    """
    checks.flag("step_metrics", step_metrics)
    rim.compilation.loss_of = checks.choice("loss_of", loss_of, ("u", "x"))
    if optimizer == "adam" and isinstance(rim.scales, Scales):
        optimizer = keras.optimizers.Adam(epsilon=UNITLESS_EPSILON)
    rim.compilation.metrics.measure_steps(rim.T if step_metrics else 0)
    rim.compilation.arguments = {
        "loss": loss,
        "jit_compile": jit_compile,
        "step_metrics": step_metrics,
        "loss_of": loss_of,
        **kwargs,
    }
    keras.Model.compile(
        rim,
        optimizer=optimizer,
        loss=as_trajectory_losses(loss),
        jit_compile=resolve_jit(rim, jit_compile),
        **as_trajectory_metrics(kwargs),
    )


def get_compile_config(rim: KerasModel) -> dict[str, Any]:
    """What `compile_from_config` takes; empty if the model was never compiled."""
    config = keras.Model.get_compile_config(rim)
    if config:
        config["step_metrics"] = rim.compilation.metrics.has_steps
        config["loss_of"] = rim.compilation.loss_of
        config["optimizer_built"] = rim.optimizer.built
    return config


def compile_from_config(rim: KerasModel, config: dict[str, Any]) -> None:
    """Compiles a model that Keras has loaded, as it was when saved."""
    arguments = dict(config)
    built = arguments.pop("optimizer_built", True)  # not in files of version 0.3
    with SafeModeScope(True):
        rim.compile(**keras.saving.deserialize_keras_object(arguments))
    if built:
        # The optimiser must have its variables before Keras reads them from the file.
        rim.optimizer.build(rim.trainable_variables)


def resolve_jit(rim: KerasModel, jit_compile: bool | str) -> bool | str:
    """What "auto" means for a model, as `compile` documents it."""
    distributed = tf.distribute.get_strategy().num_replicas_in_sync > 1
    if jit_compile == "auto" and len(rim.dimensions) <= 1 and not distributed:
        return True
    return jit_compile
