"""The accepted simulations that a posterior is made of."""

from typing import NamedTuple

import numpy as np

from imnn_tf.lfi.methods.regression import regression_adjusted
from imnn_tf.lfi.prior import Prior


class Accepted(NamedTuple):
    """The simulations that were accepted for one target.

    Attributes:
        parameters: Their parameters, `(n, n_params)`.
        estimates: Their estimates, `(n, n_params)`.
        distances: Distances of the estimates from that of the target, `(n,)`.
        weights: Their weights, `(n,)`, not necessarily normalised.
        tolerance: The distance within which they were accepted.
    """

    parameters: np.ndarray
    estimates: np.ndarray
    distances: np.ndarray
    weights: np.ndarray
    tolerance: float

    def adjusted(self, centre: np.ndarray, prior: Prior) -> "Accepted":
        """Corrects for the tolerance by local-linear regression; see `regression_adjusted`.

        Args:
            centre: The estimate of the target, `(n_params,)`.
            prior: The prior. Parameters stay within its bounds.

        Raises:
            ValueError: If too few simulations were accepted.
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
