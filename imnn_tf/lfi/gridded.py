"""Posteriors of few parameters on grids that close in on where they are."""

from collections.abc import Callable, Sequence

import numpy as np

from imnn_tf.lfi.density import log_integral, trapezium_widths, zoom
from imnn_tf.lfi.prior import Prior

# Points along each axis of a grid that finds and measures a posterior, by the number of
# parameters. More parameters than these would take more points than memory holds.
POINTS = {1: 2048, 2: 384, 3: 80}


class Gridded:
    """Likelihood times prior of one target, with up to three parameters.

    Args:
        log_like: Takes points, `(n, n_params)`, returns log likelihoods, `(n,)`.
        prior: The prior.
        low: Lower corner of a finite box that holds the product, `(n_params,)`.
        high: Upper corner.
        target: The target's number, for messages.
    """

    def __init__(
        self,
        log_like: Callable[[np.ndarray], np.ndarray],
        prior: Prior,
        low: np.ndarray,
        high: np.ndarray,
        target: int,
    ) -> None:
        self._log_like, self._prior = log_like, prior
        self._low, self._high, self._target = low, high, target

    def log_joint(self, axes: Sequence[np.ndarray]) -> np.ndarray:
        """Log likelihood plus log prior on a full grid, `(n_1, ..., n_p)`."""
        points = np.stack(np.meshgrid(*axes, indexing="ij")).reshape((len(axes), -1)).T
        inside = self._prior.supports(points)
        joint = np.full(len(points), -np.inf)
        if inside.any():
            kept = points[inside]
            joint[inside] = product(self._log_like(kept), self._prior.log_prob(kept))
        return joint.reshape([len(axis) for axis in axes])

    def axes(self, depth: float = 30) -> list[np.ndarray]:
        """Axes of a full grid over all that is above exp(-depth) of the peak.

        Raises:
            ValueError: If the product is zero everywhere.
        """
        try:
            return zoom(self.log_joint, self._low, self._high, POINTS[self._prior.n_params], depth)
        except ValueError:
            raise ValueError(
                f"`prior` and the likelihood of target {self._target} must overlap, got a "
                f"product that is zero from {self._low.tolist()} to {self._high.tolist()}."
            ) from None

    def log_evidence(self) -> float:
        """Log of the integral, by the trapezium rule."""
        axes = self.axes()
        return float(log_integral(self.log_joint(axes), [trapezium_widths(axis) for axis in axes]))

    def draws(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws from the cells of a grid, and uniformly within them, `(n, n_params)`."""
        axes = self.axes(depth=20)
        joint = self.log_joint(axes)
        mass = np.exp(joint - joint.max()).ravel()
        cells = rng.choice(mass.size, size=n, p=mass / mass.sum())
        points = np.stack(
            [a[i] for a, i in zip(axes, np.unravel_index(cells, joint.shape), strict=True)], 1
        )
        steps = np.array([axis[1] - axis[0] for axis in axes])
        moved = points + rng.uniform(-0.5, 0.5, points.shape) * steps
        return np.clip(moved, self._prior.low, self._prior.high)


def product(log_like: np.ndarray, log_prior: np.ndarray) -> np.ndarray:
    """Their sum; a likelihood undefined where the prior forbids the parameters is no matter."""
    return np.where(np.isneginf(log_prior), -np.inf, log_like + log_prior)
