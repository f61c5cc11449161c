"""The fiducial point, and the points beside it where derivatives are taken."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from imnn_tf.utils import checks
from imnn_tf.utils.types import Numbers


class FiducialPoint:
    """The parameters that simulations are made at. Everything that needs them reads them here.

    Args:
        theta: Fiducial parameters `θ_fid`, `[n_params]`.
        delta: Full width `δθ` of each numerical derivative, `[n_params]`, positive; `None` where
            derivatives are exact.
        dtype: Floating type of `points`.

    Attributes:
        theta: Fiducial parameters, `[n_params]`, float64.
        delta: Widths of the derivatives, `[n_params]`, float64, or `None`.
        moves: How often the point has been moved.
        points: A variable with the parameters of every kind of simulation in a batch: fiducial,
            each parameter below, each parameter above, `[1 + 2 n_params, n_params]`; the first
            row alone where derivatives are exact.

    Raises:
        TypeError: If `theta` is missing or an argument does not hold real numbers.
        ValueError: If an argument has the wrong shape, or `delta` is not positive.
    """

    def __init__(self, theta: Numbers, delta: Numbers, dtype: tf.DType) -> None:
        if theta is None:
            raise TypeError("`θ_fid` must be given.")
        self.theta = checks.array("θ_fid", theta, shape=(None,), dtype=np.float64)
        self.moves = 0
        self.delta: np.ndarray | None = None
        if delta is not None:
            self.delta = checks.array("δθ", delta, shape=(None,), dtype=np.float64)
            if self.delta.shape != self.theta.shape or not (self.delta > 0).all():
                raise ValueError(
                    "`δθ` must be a positive difference for each of the parameters in `θ_fid`, "
                    f"{self.n_params} numbers, got {self.delta.tolist()}."
                )
        self._followers: list[Callable[[], None]] = []
        self._fixed: str | None = None
        # A compiled update reads a variable anew, so that a move needs no new trace.
        self.points = tf.Variable(tf.constant(self._points(self.theta), dtype), trainable=False)

    @property
    def n_params(self) -> int:
        """Number of parameters."""
        return self.theta.size

    @property
    def exact(self) -> bool:
        """Whether derivatives are exact rather than differences of simulations."""
        return self.delta is None

    def with_step(self, delta: Numbers) -> "FiducialPoint":
        """The point with derivatives of another width.

        Args:
            delta: Their widths, `[n_params]`.

        Raises:
            TypeError: If `delta` does not hold real numbers.
            ValueError: If it has the wrong shape or is not positive, or derivatives are exact.
        """
        if self.delta is None:
            raise ValueError("`δθ` must be left out where derivatives are exact.")
        return FiducialPoint(self.theta, delta, self.points.dtype)

    def with_second_step(
        self, delta: Numbers
    ) -> tuple["FiducialPoint", tuple[np.ndarray, np.ndarray]]:
        """The point with each parameter twice: at the width that it has, and then at another.

        Args:
            delta: The other widths, `[n_params]`, wider than the present one in every parameter or
                narrower in every one.

        Returns:
            The point, and the two widths, `[n_params]` each.

        Raises:
            TypeError: If `delta` does not hold real numbers.
            ValueError: If it has the wrong shape or value, or derivatives are exact.
        """
        if self.delta is None:
            raise ValueError("`second_δθ` must be left out where derivatives are exact.")
        second = checks.array("second_δθ", delta, shape=self.delta.shape, dtype=np.float64)
        wider = second > self.delta
        if not (second > 0).all() or not (wider.all() or (second < self.delta).all()):
            raise ValueError(
                "`second_δθ` must be positive, and wider than `δθ` in every parameter or narrower "
                f"in every one, got {second.tolist()} with δθ = {self.delta.tolist()}."
            )
        twice = np.concatenate([self.delta, second])
        point = FiducialPoint(np.tile(self.theta, 2), twice, self.points.dtype)
        return point, (self.delta, second)

    def follow(self, refresh: Callable[[], None]) -> None:
        """Registers what must be made anew after a move. If it raises, the point moves back."""
        self._followers.append(refresh)

    def fix(self, reason: str) -> None:
        """Forbids moving the point. The error of an attempt states the reason."""
        self._fixed = reason

    def require_movable(self) -> None:
        """Checks that the point may be moved.

        Raises:
            ValueError: If there are simulations that cannot follow it.
        """
        if self._fixed is not None:
            raise ValueError(self._fixed)

    def move(self, theta: np.ndarray, moves: int | None = None) -> None:
        """Moves the point.

        Args:
            theta: The new fiducial parameters, `[n_params]`.
            moves: The number of moves that this one makes; one more than before by default.

        Raises:
            ValueError: If the point may not be moved, or simulations at the new point are not
                finite. Nothing has moved then.
        """
        self.require_movable()
        before = self.theta, self.moves
        self._place(theta, self.moves + 1 if moves is None else moves)
        try:
            for refresh in self._followers:
                refresh()
        except BaseException:
            self._place(*before)
            raise

    def _place(self, theta: np.ndarray, moves: int) -> None:
        self.theta, self.moves = theta, moves
        self.points.assign(self._points(theta))

    def _points(self, theta: np.ndarray) -> np.ndarray:
        if self.delta is None:
            return theta[None]
        half = np.diag(self.delta) / 2
        return np.concatenate([[theta], theta - half, theta + half])
