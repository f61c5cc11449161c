"""Adam's step of a variable by TensorFlow's one operation for it.

Keras writes the same step as a dozen operations, each of which reads and writes the variable or
its moments: for the weights of a small network they cost as much as a layer's gradient.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import keras
import tensorflow as tf


@contextmanager
def fused_steps(optimiser: keras.optimizers.Optimizer) -> Iterator[None]:
    """Lets Adam and AdamW take fused steps while what is inside is traced or run.

    Their rule and their variables stay Keras's own, and so does all that goes on around a step:
    clipping, decay, averages and schedules. Any other optimiser is left as it is.

    References:
        Kingma & Ba (2015), arXiv:1412.6980, algorithm 1 in the form at the end of its section 2.
    """
    if not _takes_adams_step(optimiser):
        yield
        return
    optimiser.update_step = _fused(optimiser)
    try:
        yield
    finally:
        del optimiser.update_step


def _takes_adams_step(optimiser: Any) -> bool:
    return (
        getattr(type(optimiser), "update_step", None) is keras.optimizers.Adam.update_step
        and not optimiser.amsgrad
        # Keras tries these steps out of order before it takes them.
        and not optimiser.gradient_accumulation_steps
    )


def _fused(optimiser: Any) -> Callable[[Any, tf.Variable, tf.Tensor], None]:
    @cache
    def power(rate: float, dtype: tf.DType) -> tf.Tensor:
        step = tf.cast(optimiser.iterations.value + 1, dtype)
        # By Keras's own cast, which rounds to single precision first.
        return tf.pow(keras.ops.cast(rate, dtype.name), step)

    def step(gradient: Any, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        if isinstance(gradient, tf.IndexedSlices):  # of an embedding: only the rows it has
            type(optimiser).update_step(optimiser, gradient, variable, learning_rate)
            return
        dtype, index = variable.dtype, optimiser._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=optimiser._momentums[index].value.handle,
            v=optimiser._velocities[index].value.handle,
            beta1_power=power(optimiser.beta_1, dtype),
            beta2_power=power(optimiser.beta_2, dtype),
            lr=tf.cast(learning_rate, dtype),
            beta1=tf.constant(optimiser.beta_1, dtype),
            beta2=tf.constant(optimiser.beta_2, dtype),
            epsilon=tf.constant(optimiser.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )

    return step
