"""What TensorFlow's graph optimiser is not to do."""

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf
from tensorflow.python.eager import context  # no public name reaches these options


@contextmanager
def without_memory_optimiser() -> Iterator[None]:
    """Keeps functions that are first called inside from being optimised for memory.

    Where it takes memory to be short, that pass turns a sum of three tensors into a temporary
    variable, which in a loop within a loop fails as one that exists already (tensorflow#23780,
    #37740). Any model whose paths join may have such a sum, in its gradient if not in itself.
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
