"""The samples that a posterior is made of."""

from typing import NamedTuple

import numpy as np

from imnn_tf.lfi.prior import Prior
from imnn_tf.lfi.regression import regression_adjusted


class Accepted(NamedTuple):
    """The samples that one target's posterior is made of.

    Attributes:
        parameters: `(n, n_params)`.
        estimates: `(n, n_params)`.
        distances: `(n,)`.
        weights: `(n,)`, not necessarily normalised.
        tolerance: The radius within which they were accepted.
    """

    parameters: np.ndarray
    estimates: np.ndarray
    distances: np.ndarray
    weights: np.ndarray
    tolerance: float

    def adjusted(self, centre: np.ndarray, prior: Prior) -> "Accepted":
        """Corrected for the tolerance by local-linear regression; see `regression_adjusted`.

        Args:
            centre: The target's estimate, `(n_params,)`.
            prior: The prior, within the bounds of which parameters stay.

        Raises:
            ValueError: If there are too few samples.
        """
        parameters, weights = regression_adjusted(
            self.parameters,
            self.estimates,
            self.distances,
            centre,
            self.tolerance,
            weights=self.weights,
            low=prior.low,
            high=prior.high,
        )
        return self._replace(parameters=parameters, weights=weights)
