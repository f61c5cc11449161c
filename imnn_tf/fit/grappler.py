"""Switches off a pass of TensorFlow's graph optimiser that breaks fits."""

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

# No public name reaches these options.
from tensorflow.python.eager import context  # type: ignore[attr-defined]  # not in the stubs


@contextmanager
def without_memory_optimiser() -> Iterator[None]:
    """Keeps functions that are first called inside the block from being optimised for memory.

    When that pass expects memory to be short, it turns the sum of three or more tensors into a
    temporary variable. In nested loops this fails, because the variable exists already
    (tensorflow#23780, #37740). Every model whose paths join can have such a sum, at least in its
    gradient.
    """
    current = context.context()
    before = current.function_call_options
    config = tf.compat.v1.ConfigProto.FromString(before.config_proto_serialized)
    rewriting = config.graph_options.rewrite_options
    rewriting.memory_optimization = rewriting.NO_MEM_OPT
    current.function_call_options = context.FunctionCallOptions(before.executor_type, config)
    try:
        yield
    finally:
        current.function_call_options = before
