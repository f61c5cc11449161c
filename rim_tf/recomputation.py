"""Functions whose backward pass computes them again, which trades time for memory."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from imnn_tf.utils.types import KerasLayer


def recomputed(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that keeps its arguments for the backward pass, and nothing that it computes.

    Args:
        function: Takes and returns nests of tensors. It must give the same result twice, and must
            not use a `tf.GradientTape`, because nothing is recorded while it computes.

    Returns:
        The same function with the same gradients, with respect to its arguments and to the
        variables that it reads.
    """

    def call(*arguments: Any) -> Any:
        leaves = [tf.convert_to_tensor(each) for each in tf.nest.flatten(arguments)]
        # TensorFlow watches every argument, but integers have no gradient.
        moving = [k for k, leaf in enumerate(leaves) if _has_gradient(leaf)]
        structure: list[Any] = []

        @tf.recompute_grad
        def flat(*values: tf.Tensor) -> list[tf.Tensor]:
            given = list(leaves)
            for k, value in zip(moving, values, strict=True):
                given[k] = value
            result = function(*tf.nest.pack_sequence_as(arguments, given))
            structure[:] = [result]
            return tf.nest.flatten(result)

        results = flat(*(leaves[k] for k in moving))
        return tf.nest.pack_sequence_as(structure[0], results)

    return call


def _has_gradient(tensor: tf.Tensor) -> bool:
    return tensor.dtype.is_floating or tensor.dtype.is_complex


def check_recomputable(
    network: KerasLayer, dimensions: Sequence[int | None], input_channels: int
) -> None:
    """Checks that a network gives the same result when it is computed again.

    Args:
        network: A network that is built.
        dimensions: The spatial sizes of the parameters, `None` for a size that is not known.
        input_channels: The number of channels that the network will see.

    Raises:
        ValueError: If it has variables that change when it is called, such as those of dropout
            and of batch normalisation, or if it differentiates something itself.
    """
    changing = [each.path for each in network.variables if not each.trainable]
    if changing:
        raise ValueError(
            "`remat` must be False for a network with variables that are not trained, because it "
            f"may give another result when it is computed again, got {changing}."
        )
    sizes = [16 if size is None else size for size in dimensions]
    noise = tf.random.stateless_normal([1, *sizes, input_channels], (0, 0))
    state = network.initial_state(1, sizes)
    outcomes = [tf.nest.flatten(f(noise, state)) for f in (network, recomputed(network))]
    for plain, again in zip(*outcomes, strict=True):
        if not np.allclose(plain, again, rtol=1e-3, atol=1e-5):
            raise ValueError(
                "`remat` must be False for a network that uses a `tf.GradientTape`, which records "
                "nothing while a step is recomputed."
            )
