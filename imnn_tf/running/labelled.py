"""A function of a label as a simulator of many rows, which workers can run."""

from collections.abc import Callable
from inspect import isgenerator
from typing import Any

import numpy as np

from imnn_tf.utils import checks
from imnn_tf.utils.labels import Label


class Labelled:
    """A simulator whose parameters are labels.

    Args:
        get_simulation: Returns or yields one simulation, `[*input_shape]`, alone or with its label.
            It is called with the parts of the label.
        shape: What `input_shape` must be; by default any shape.
    """

    def __init__(
        self, get_simulation: Callable[..., Any], shape: tuple[int, ...] | None = None
    ) -> None:
        self._get_simulation, self._shape = get_simulation, shape

    def __call__(self, labels: np.ndarray) -> np.ndarray:
        """Simulations of some labels, `(n, *input_shape)`, float32, for labels `(n, parts)`."""
        return np.stack([self.one(tuple(int(part) for part in label)) for label in labels])

    def one(self, label: Label) -> np.ndarray:
        """The simulation of one label, `[*input_shape]`, float32 and contiguous.

        Raises:
            ValueError: If it is not of the shape that it must have, or not finite.
        """
        answer = self._get_simulation(*label)
        if isgenerator(answer):
            answer = next(answer)
        if isinstance(answer, tuple):
            answer = answer[0]
        simulation = checks.simulation("get_simulation", answer, label).astype(np.float32)
        simulation = np.ascontiguousarray(checks.simulation("get_simulation", simulation, label))
        if self._shape not in (None, simulation.shape):
            raise ValueError(
                f"`get_simulation` must return simulations of one shape, {self._shape}, got "
                f"{simulation.shape} at {label}."
            )
        return simulation
