"""The accepted simulations that a posterior is made of."""

import logging
from typing import NamedTuple

import numpy as np

from imnn_tf.lfi.methods.regression import regression_adjusted
from imnn_tf.lfi.prior import Prior

logger = logging.getLogger(__name__)


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
            prior: The prior. Parameters stay within its bounds. If its support is not a box, some
                may leave it. They are dropped, and a warning says what share of the weight that is.

        Raises:
            ValueError: If too few simulations were accepted, or none stays within the support.
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
        inside = prior.supports(parameters)
        share = float(weights[~inside].sum())
        if not weights[inside].any():
            raise ValueError(
                "`adjust` must leave samples within the support of the prior, got none; "
                "`adjust=False` keeps them as they are."
            )
        if share > 0:
            logger.warning(
                "Regression adjustment moved %.2g %% of the weight out of the support of the "
                "prior. Those samples were dropped.",
                100 * share,
            )
        return Accepted(
            parameters[inside],
            self.estimates[inside],
            self.distances[inside],
            weights[inside],
            self.tolerance,
        )


def warn_of_width(tolerance: float, n_params: int) -> None:
    """Says by how much a tolerance widens a posterior, if that is more than 10 %.

    Estimates that are uniform within a ball of radius `tolerance` in the metric `F` have covariance
    `tolerance^2 / (n_params + 2) F^-1`. It adds to that of a posterior as narrow as `F` allows,
    `F^-1`.

    Args:
        tolerance: The distance within which simulations were accepted.
        n_params: The number of parameters.
    """
    wider = float(np.sqrt(1 + tolerance**2 / (n_params + 2)))
    if wider > 1.1:
        logger.warning(
            "A tolerance of %.2g widens a posterior as narrow as the Fisher information allows to "
            "%.2f times its width. `adjust=True` corrects for that; a tolerance of %.2g would make "
            "it 10 %% wider.",
            tolerance,
            wider,
            np.sqrt(0.21 * (n_params + 2)),
        )
