"""The numbers that say what a flow is, and where each of its weights is."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from imnn_tf.lfi.density import spline
from imnn_tf.utils import checks


@dataclass(frozen=True)
class Architecture:
    """Settings of the flows of an ensemble.

    Attributes:
        transforms: Splines that one parameter goes through.
        bins: Bins of each spline.
        bound: Splines are the identity outside `[-bound, bound]`.
        width: Units of each hidden layer.
        blocks: Residual blocks of each conditioner.
        coupling: Whether a transform conditions half of the parameters on the other half. By
            default each parameter is conditioned on all before it.
    """

    transforms: int = 5
    bins: int = 8
    bound: float = 4.0
    width: int = 64
    blocks: int = 1
    coupling: bool = False

    def __post_init__(self) -> None:
        for name, minimum in (("transforms", 1), ("bins", 2), ("width", 1), ("blocks", 0)):
            checks.integer(name, getattr(self, name), minimum=minimum)
        checks.real("bound", self.bound, above=0)
        checks.flag("coupling", self.coupling)


class Shape(NamedTuple):
    """Sizes of an ensemble and of its data."""

    members: int
    n_params: int
    n_summaries: int


class Conditioner(NamedTuple):
    """Weights of the network of one transform; matrices are masked already."""

    # From the parameters: nothing if there is one alone, which is conditioned on no other.
    first: list[tf.Tensor]  # [members, n_params, width]
    blocks: list[tuple[tf.Tensor, tf.Tensor]]  # [members, width, width], [members, 1, width]
    last: list[tf.Tensor]  # [members, width, n_params * n_raw]
    # From the summaries.
    from_context: tf.Tensor  # [members, width, width + n_params * n_raw], for both ends
    bias: tf.Tensor  # [members, 1, width + n_params * n_raw]


class Weights(NamedTuple):
    """All weights of an ensemble."""

    context: list[tuple[tf.Tensor, tf.Tensor]]  # matrices and biases of the network of summaries
    conditioners: list[Conditioner]


def draw_degrees(
    settings: Architecture, shape: Shape, generator: np.random.Generator
) -> np.ndarray:
    """In which order the parameters are conditioned on each other.

    Returns:
        A degree for each parameter, `[transforms, members, n_params]`, int32. A parameter is
        conditioned on those of less degree. The orders are random, and those of every second
        transform are reversed.
    """
    n = shape.n_params
    degrees = np.empty((settings.transforms, shape.members, n), np.int32)
    for transform, degrees_of in enumerate(degrees):
        if transform % 2:
            degrees_of[:] = n - 1 - degrees[transform - 1]
        else:
            degrees_of[:] = [generator.permutation(n) for _ in range(shape.members)]
    if settings.coupling and n > 1:
        degrees = (degrees >= (n + 1) // 2).astype(np.int32)
    return degrees


class Layout:
    """Where each weight is in the rows of one matrix, a row for each member.

    One matrix makes the optimiser, the averages and the kept weights single operations.

    Args:
        settings: The architecture.
        shape: The sizes.
        degrees: That of each parameter in each transform, `[transforms, members, n_params]`.

    Attributes:
        settings, shape, degrees: As passed.
        size: Weights of one member.
    """

    def __init__(self, settings: Architecture, shape: Shape, degrees: np.ndarray) -> None:
        self.settings, self.shape, self.degrees = settings, shape, degrees
        width, n_out = settings.width, shape.n_params * spline.n_raw(settings.bins)
        both = width + n_out
        # Rows, columns, and how many of the columns do not begin as zeros.
        hidden = [(width, width, width), (1, width, 0)]
        self._shapes = [(shape.n_summaries, width, width), (1, width, 0), *hidden]
        for _ in range(settings.transforms):
            if shape.n_params > 1:
                self._shapes += [(shape.n_params, width, width), *hidden * settings.blocks]
                self._shapes += [(width, n_out, 0)]
            self._shapes += [(width, both, width), (1, both, 0)]
        self.size = sum(rows * columns for rows, columns, _ in self._shapes)
        self._masks = [self._masks_of(each) for each in degrees]

    @property
    def n_degrees(self) -> int:
        """The number of different degrees."""
        return int(self.degrees.max()) + 1

    def _masks_of(self, degrees: np.ndarray) -> list[np.ndarray]:
        """Masks of the first, the inner and the last matrices of one conditioner."""
        if self.shape.n_params == 1:
            return []
        hidden = np.arange(self.settings.width) % (self.n_degrees - 1)
        raw = np.repeat(degrees, spline.n_raw(self.settings.bins), axis=1)
        first = degrees[:, :, None] <= hidden
        inner = hidden[:, None] <= hidden
        last = hidden[:, None] < raw[:, None, :]
        return [mask.astype(np.float32) for mask in (first, inner, last)]

    def initial(self, generator: np.random.Generator) -> np.ndarray:
        """Weights with which every spline is the identity, `[members, size]`, float32."""
        parts = []
        for rows, columns, used in self._shapes:
            part = np.zeros((self.shape.members, rows, columns))
            part[..., :used] = generator.normal(size=part[..., :used].shape) * np.sqrt(2 / rows)
            parts.append(part.reshape(self.shape.members, -1))
        return np.concatenate(parts, axis=1).astype(np.float32)

    def unpack(self, flat: tf.Tensor) -> Weights:
        """The weights in a matrix `[members, size]`."""
        sizes = [rows * columns for rows, columns, _ in self._shapes]
        parts = iter(
            tf.reshape(part, [self.shape.members, rows, columns])
            for part, (rows, columns, _) in zip(
                tf.split(flat, sizes, axis=1), self._shapes, strict=True
            )
        )
        context = [(next(parts), next(parts)) for _ in range(2)]
        return Weights(context, [self._conditioner(parts, masks) for masks in self._masks])

    def _conditioner(self, parts: Iterator[tf.Tensor], masks: list[np.ndarray]) -> Conditioner:
        """The next weights, with their matrices masked."""
        if not masks:
            return Conditioner([], [], [], next(parts), next(parts))
        first = [next(parts) * masks[0]]
        blocks = [(next(parts) * masks[1], next(parts)) for _ in range(self.settings.blocks)]
        return Conditioner(first, blocks, [next(parts) * masks[2]], next(parts), next(parts))
