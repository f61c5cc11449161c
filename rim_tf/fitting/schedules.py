"""Learning rates that change during a fit."""

from typing import Any, TypeAlias

import keras
import tensorflow as tf

from imnn_tf.utils import checks

# A number, or a `keras.optimizers.schedules.LearningRateSchedule`, which the checker knows as Any.
LearningRate: TypeAlias = Any


@keras.saving.register_keras_serializable("rim_tf")
class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that grows linearly for some updates and then follows another one.

    Args:
        learning_rate: The number or schedule to follow.
        steps: The number of updates until it is reached. The first update has the fraction
            `1 / steps` of it.

    Raises:
        TypeError: If `steps` is not an integer.
        ValueError: If `steps` is not positive.
    """

    def __init__(self, learning_rate: LearningRate, steps: int):
        self.learning_rate = learning_rate
        self.steps = checks.integer("warmup", steps, minimum=1)

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        """The learning rate, a scalar, of update `step`, a scalar counted from zero."""
        rate = self.learning_rate
        full = rate(step) if callable(rate) else tf.constant(rate, tf.float32)
        # One more than the step, so that the first update has a rate above zero.
        return full * tf.minimum((tf.cast(step, tf.float32) + 1.0) / self.steps, 1.0)

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        rate = self.learning_rate
        stored = keras.saving.serialize_keras_object(rate) if callable(rate) else rate
        return {"learning_rate": stored, "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Warmup":
        """Makes a schedule from its configuration."""
        rate = config["learning_rate"]
        if isinstance(rate, dict):
            rate = keras.saving.deserialize_keras_object(rate)
        return cls(rate, config["steps"])
