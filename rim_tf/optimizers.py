"""What `fit`'s keywords mean: the optimiser, its learning rate, and reasons to stop."""

import math
from typing import Any

import keras
import tensorflow as tf

from imnn_tf.utils import checks
from rim_tf.callbacks import MaxTime, Patience


@keras.saving.register_keras_serializable("rim_tf")
class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that grows linearly for some updates, then is another one.

    Args:
        learning_rate: The rate or schedule afterwards.
        steps: The updates it takes to reach it; the first has a `steps`-th of it.
    """

    def __init__(self, learning_rate: Any, steps: int):
        self.learning_rate = learning_rate
        self.steps = checks.integer("warmup", steps, minimum=1)

    def __call__(self, step: Any) -> tf.Tensor:
        """The learning rate of update `step`, counted from zero."""
        rate = self.learning_rate
        full = rate(step) if callable(rate) else tf.constant(rate, tf.float32)
        return full * tf.minimum((tf.cast(step, tf.float32) + 1.0) / self.steps, 1.0)

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        rate = self.learning_rate
        stored = keras.saving.serialize_keras_object(rate) if callable(rate) else rate
        return {"learning_rate": stored, "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Warmup":
        """A schedule from its configuration."""
        rate = config["learning_rate"]
        if isinstance(rate, dict):
            rate = keras.saving.deserialize_keras_object(rate)
        return cls(rate, config["steps"])


def make_optimizer(
    learning_rate: Any = None,
    scheduler: Any = None,
    warmup: int = 0,
    clip: float = 0.0,
    ema_decay: float = 0.0,
) -> keras.optimizers.Optimizer:
    """Adam as the keywords of `RIM.fit` say."""
    schedule = keras.optimizers.schedules.LearningRateSchedule
    rate: Any = 1e-4
    if isinstance(scheduler, schedule):
        if learning_rate is not None:
            raise ValueError("`learning_rate` must be left out with a schedule as `scheduler`.")
        rate = scheduler
    elif isinstance(learning_rate, schedule):
        rate = learning_rate
    elif learning_rate is not None:
        rate = checks.real("learning_rate", learning_rate, above=0)
    if checks.integer("warmup", warmup, minimum=0):
        if scheduler is not None and not isinstance(scheduler, schedule):
            raise ValueError(
                "`warmup` must be 0 with a function as `scheduler`, which sets every rate "
                f"itself; got {warmup}. A keras LearningRateSchedule can be warmed up."
            )
        rate = Warmup(rate, warmup)
    clip = checks.real("clip", clip, minimum=0)
    decay = checks.real("ema_decay", ema_decay, minimum=0, below=1)
    return keras.optimizers.Adam(
        rate,
        global_clipnorm=clip or None,
        use_ema=decay > 0,
        ema_momentum=decay or 0.99,
    )


def make_callbacks(
    monitor: str,
    *,
    scheduler: Any = None,
    patience: float | None = None,
    tolerance: float = 0.0,
    max_time: float | None = None,
) -> list[Any]:
    """The reasons to stop, and the schedule if it is a function of the epoch."""
    schedule = keras.optimizers.schedules.LearningRateSchedule
    result: list[Any] = []
    if scheduler is not None and not isinstance(scheduler, schedule):
        checks.function("scheduler", scheduler)
        result.append(keras.callbacks.LearningRateScheduler(scheduler))
    if patience not in (None, math.inf):
        misses = checks.integer("patience", patience, minimum=1)
        result.append(Patience(misses, tolerance, monitor))
    if max_time not in (None, math.inf):
        result.append(MaxTime(max_time))
    return result
