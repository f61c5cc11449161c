"""Counts the arithmetic and the bytes of a compiled function from its graph.

The arithmetic is the multiplications and additions of matrix products and convolutions, forward
and backward, from the shapes in the graph. Elementwise arithmetic is not counted, but its bytes
are. Of a condition only the first branch is counted, the one that a successful update takes.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf
import yardsticks

# Operations that move no data, or whose data are counted with other operations.
_FREE = {
    *("Const", "Placeholder", "Identity", "IdentityN", "StopGradient", "PreventGradient", "NoOp"),
    *("Reshape", "ExpandDims", "Squeeze", "Shape", "ReadVariableOp", "BroadcastGradientArgs"),
}
# Operations with arithmetic that this module cannot count.
_UNKNOWN = {"Einsum", "Conv3D", "DepthwiseConv2dNative"}


class Work(NamedTuple):
    """The work of one call of a function."""

    flop: float  # of matrix products and convolutions
    core_bytes: float  # that matrix products and convolutions read and write
    bytes: float  # that all operations read and write, if each goes through memory
    largest: float  # bytes of the largest tensor
    heaviest: Any  # the forward operation with the most arithmetic


def count(function: Callable[..., Any], *arguments: Any) -> Work:
    """Counts the work of a function.

    Args:
        function: A function of tensors.
        *arguments: Its arguments: tensors or tensor specifications, with all sizes known.

    Raises:
        ValueError: If the amount of some arithmetic cannot be read from the graph.
    """
    graph = tf.function(function, autograph=False).get_concrete_function(*arguments).graph
    total, core, moved, largest = 0.0, 0.0, 0.0, 0.0
    heaviest, most = None, 0.0
    for operation in _operations(graph):
        tensors = [t for t in (*operation.inputs, *operation.outputs) if t.dtype.is_floating]
        sizes = [_bytes(tensor) for tensor in tensors]
        flop = _flop(operation)
        total += flop
        core += sum(sizes) if flop else 0
        moved += sum(sizes)
        largest = max([largest, *sizes])
        if flop > most and operation.type in ("MatMul", "Conv2D"):
            heaviest, most = operation, flop
    return Work(total, core, moved, largest, heaviest)


def count_update(imnn: Any) -> Work:
    """Counts the work of one update of an IMNN and its validation."""
    from imnn_tf.fit.loop import CallLimits, Round
    from imnn_tf.fit.session import FitOptions

    # This is what the compiled loop runs. Nothing public has a graph of a single update.
    loop, number = imnn._session.loop(FitOptions(updates_per_call=1)), tf.TensorSpec([], tf.int64)

    def update(done: tf.Tensor, *limits: tf.Tensor) -> list[tf.Tensor]:
        state = Round(*[tf.constant(True)] * 3)
        _, _, tables = loop._round(CallLimits(*limits), done, state, loop._empty_tables())
        return [table.stack() for table in tables]

    return count(update, *[number] * 5)


def yardstick(operation: Any) -> yardsticks.Yardstick:
    """A chain that repeats a matrix product or convolution of a graph."""
    first, second = (tensor.shape.as_list() for tensor in operation.inputs)
    if operation.type == "Conv2D":
        pad = operation.get_attr("padding").decode()
        return yardsticks.convolution(first, second, operation.get_attr("strides"), pad)
    rows, columns = operation.outputs[0].shape
    inner = first[0] if operation.get_attr("transpose_a") else first[1]
    if inner != columns:
        raise ValueError(f"The matrix must be square, got {inner} x {columns}.")
    return yardsticks.matmul(rows, columns)


def _operations(graph: Any) -> Iterator[Any]:
    """All operations that run, including those of the functions that are called."""
    for operation in _needed(graph):
        if operation.type in ("If", "StatelessIf"):
            yield from _operations(_called(graph, operation, "then_branch"))
        elif operation.type in ("PartitionedCall", "StatefulPartitionedCall"):
            yield from _operations(_called(graph, operation, "f"))
        elif operation.type in ("While", "StatelessWhile"):
            if any(_flop(each) for each in _operations(_called(graph, operation, "body"))):
                raise ValueError(f"How often {operation.name} loops is not known.")
        elif operation.type not in _FREE:
            yield operation


def _needed(graph: Any) -> list[Any]:
    """The operations the results depend on; TensorFlow drops the others before it runs a graph."""
    waiting = [*(tensor.op for tensor in graph.outputs), *graph.control_outputs]
    needed: dict[str, Any] = {}
    while waiting:
        operation = waiting.pop()
        if operation.name not in needed:
            needed[operation.name] = operation
            waiting += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    return list(needed.values())


def _called(graph: Any, operation: Any, attribute: str) -> Any:
    return graph._get_function(operation.get_attr(attribute).name).graph


def _bytes(tensor: Any) -> float:
    if tensor.shape.num_elements() is None:
        raise ValueError(f"The shape of {tensor.name} is not known: {tensor.shape}.")
    return tensor.shape.num_elements() * tensor.dtype.size


def _flop(operation: Any) -> float:
    """Multiplications and additions of a matrix product or convolution; zero for others."""
    if operation.type in _UNKNOWN:
        raise ValueError(f"The arithmetic of {operation.type} is not counted.")
    shapes = [tensor.shape.as_list() for tensor in operation.inputs]
    if operation.type == "MatMul":
        inner = shapes[0][0 if operation.get_attr("transpose_a") else 1]
        return 2.0 * inner * math.prod(operation.outputs[0].shape)
    if operation.type.startswith("BatchMatMul"):
        inner = shapes[0][-2 if operation.get_attr("adj_x") else -1]
        return 2.0 * inner * math.prod(operation.outputs[0].shape)
    # A convolution is a matrix product at every position of its output. So are its two gradients,
    # whose last input is the gradient of that output.
    if operation.type == "Conv2D":
        return 2.0 * math.prod(operation.outputs[0].shape[:-1]) * math.prod(shapes[1])
    if operation.type == "Conv2DBackpropInput":
        return 2.0 * math.prod(shapes[2][:-1]) * math.prod(shapes[1])
    if operation.type == "Conv2DBackpropFilter":
        kernel = operation.outputs[0].shape
        return 2.0 * math.prod(shapes[2][:-1]) * math.prod(kernel)
    return 0.0
