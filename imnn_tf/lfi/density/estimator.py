"""What a density estimator does for neural inference."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import keras
import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.utils.seeds import Seed


@runtime_checkable
class DensityEstimator(Protocol):
    """Learns the density of parameters given summaries from pairs of both.

    Parameters may be any real numbers. Whoever calls it maps bounded parameters to the real line
    and scales both sides, so that all are of order one.
    """

    def fit(
        self,
        parameters: ArrayLike,
        summaries: ArrayLike,
        *,
        seed: Seed = None,
        callbacks: Sequence[keras.callbacks.Callback] | None = None,
        progress: bool = True,
    ) -> Mapping[str, np.ndarray]:
        """Learns the density.

        Args:
            parameters: `[n, n_params]`.
            summaries: The summaries of a simulation at each of them, `[n, n_summaries]`.
            seed: Decides all random numbers of the training; fresh ones by default.
            callbacks: Keras callbacks, to which a pass over the pairs is an epoch.
            progress: Whether to show a progress bar.

        Returns:
            What was measured in each epoch, by name.
        """
        ...

    def sample(self, n: int, summaries: ArrayLike, seed: Seed = None) -> np.ndarray:
        """Draws parameters given summaries.

        Args:
            n: How many for each observation.
            summaries: Those of each observation, `[m, n_summaries]`.
            seed: Decides the draws; fresh ones by default.

        Returns:
            The parameters, `[m, n, n_params]`.
        """
        ...

    def log_prob(self, parameters: ArrayLike, summaries: ArrayLike) -> np.ndarray:
        """The logarithm of the density.

        Args:
            parameters: Some for each observation, `[m, n, n_params]`.
            summaries: The summaries of each observation, `[m, n_summaries]`.

        Returns:
            The natural logarithm of the density at each, `[m, n]`.
        """
        ...
