"""The pairs that a density estimator learns from."""

import hashlib
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.utils import checks

# Pairs below which there are too few to hold some out.
_LEAST_PAIRS = 20


class Pairs:
    """Parameters and the summaries of simulations at them.

    Args:
        parameters: `[n, n_params]`, float32.
        summaries: `[n, n_summaries]`, float32.

    Attributes:
        parameters, summaries: As passed.
    """

    def __init__(self, parameters: np.ndarray, summaries: np.ndarray) -> None:
        self.parameters, self.summaries = parameters, summaries

    @cached_property
    def digest(self) -> str:
        """A hash of both, in hexadecimal."""
        digest = hashlib.sha256(repr((self.parameters.shape, self.summaries.shape)).encode())
        for array in (self.parameters, self.summaries):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @classmethod
    def checked(cls, parameters: ArrayLike, summaries: ArrayLike) -> "Pairs":
        """Pairs that an estimator can learn from.

        Args:
            parameters: `[n, n_params]`.
            summaries: `[n, n_summaries]`.

        Raises:
            TypeError: If an array does not hold real numbers.
            ValueError: If an array has the wrong shape, holds values that are not finite or has no
                columns, or if there are fewer than 20 pairs.
        """
        theta = checks.array("parameters", parameters, shape=(None, None), dtype=np.float32)
        x = checks.array("summaries", summaries, shape=(len(theta), None), dtype=np.float32)
        for name, array in (("parameters", theta), ("summaries", x)):
            if array.shape[1] < 1:
                raise ValueError(
                    f"`{name}` must have at least one column, got shape {array.shape}."
                )
        if len(theta) < _LEAST_PAIRS:
            raise ValueError(
                f"`parameters` must have at least {_LEAST_PAIRS} rows, got {len(theta)}."
            )
        return cls(theta, x)
