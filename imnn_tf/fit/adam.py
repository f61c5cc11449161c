"""Adam's step of a variable as one operation of TensorFlow.

Keras writes the same step as a dozen operations, each of which reads or writes the variable or its
moments. For a small network they cost as much time as the gradient of a layer.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import keras
import tensorflow as tf

from imnn_tf.utils.types import KerasOptimizer


@contextmanager
def fused_steps(optimiser: KerasOptimizer) -> Iterator[None]:
    """Makes the steps of Adam and AdamW single operations, in code traced or run in the block.

    The optimiser keeps its variables, and Keras does everything else: clipping, decay, averages and
    schedules. Any other optimiser is left as it is.

    Args:
        optimiser: A built Keras optimiser.

    References:
        Kingma & Ba (2015), arXiv:1412.6980, algorithm 1 in the form at the end of its section 2.
    """
    has_adams_step = (
        getattr(type(optimiser), "update_step", None) is keras.optimizers.Adam.update_step
        and not optimiser.amsgrad
        # With accumulation Keras computes steps that it then does not take.
        and not optimiser.gradient_accumulation_steps
    )
    if not has_adams_step:
        yield
        return
    optimiser.update_step = _fused_step(optimiser)
    try:
        yield
    finally:
        del optimiser.update_step


def _fused_step(optimiser: KerasOptimizer) -> Callable[[Any, tf.Variable, tf.Tensor], None]:
    """Adam's step as one operation, with the signature of `Optimizer.update_step`."""

    @cache
    def power(rate: float, dtype: tf.DType) -> tf.Tensor:
        step = tf.cast(optimiser.iterations.value + 1, dtype)
        # Keras's cast rounds to single precision first, and so does its own step.
        return tf.pow(keras.ops.cast(rate, dtype.name), step)

    def step(gradient: Any, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        if isinstance(gradient, tf.IndexedSlices):  # some rows of an embedding
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
