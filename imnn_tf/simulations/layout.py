"""Which simulation stands in which row of which batch, and with which weight."""

import numpy as np

from imnn_tf.simulations.sources.readers import Reader


class Layout:
    """Batches of fiducial simulations together with their derivative simulations.

    A batch is made of blocks: the fiducial simulations, then each parameter below, then each
    parameter above. The matched members of a derivative are therefore in the same batch and at the
    same place of their blocks. What a layer does to a whole batch (its normalisation) or draws for
    it (its dropout) is the same for all of them and cancels in their difference.

    Where derivatives are exact, a batch holds fiducial simulations alone, with their derivatives.

    Args:
        n_s: Number of fiducial simulations.
        n_d: Number of derivative simulations, of each parameter and side where they are numerical.
        n_params: Number of parameters.
        delta_theta: Width of each numerical derivative, `[n_params]`; `None` where derivatives are
            exact.
        at_once: The most fiducial simulations in a batch; all of them by default.
        min_batches: The least number of batches.

    Attributes:
        exact: Whether derivatives are exact.
        n_batches: Number of batches.
        blocks: Number of rows in each block of a batch.
        numbers: Number of the simulation in each row, `[n_batches, rows]`. The members of a
            derivative have the same number.
        fiducial_weights: One for a fiducial simulation, zero for padding,
            `[n_batches, blocks[0]]`.
        slope_weights: Weights in the slope of the mean, `[n_batches, rows − blocks[0], n_params]`
            of derivative simulations, `[n_batches, rows, n_params]` of exact derivatives; zero
            for padding. They are `±1 / (n_d δθ_α)` in column α for a simulation above or below
            the fiducial in parameter α, and `1 / n_d` for an exact derivative.
    """

    def __init__(
        self,
        n_s: int,
        n_d: int,
        n_params: int,
        delta_theta: np.ndarray | None,
        *,
        at_once: int | None = None,
        min_batches: int = 1,
    ) -> None:
        self._delta_theta, self._min_batches = delta_theta, min_batches
        largest = max(n_s, n_d)
        self.n_s, self.n_d, self.n_params = n_s, n_d, n_params
        self.exact = delta_theta is None
        self.n_batches = max(min_batches, -(-largest // min(at_once or largest, largest)))
        self._fiducial, self.fiducial_weights = _places(n_s, self.n_batches)
        if delta_theta is None:
            self._lay_out_exact()
        else:
            self._lay_out_differences(delta_theta)

    def _lay_out_differences(self, delta_theta: np.ndarray) -> None:
        pairs, real = _places(self.n_d, self.n_batches)
        rows_s, rows_d = self._fiducial.shape[1], pairs.shape[1]
        variants = 2 * self.n_params
        self.blocks = (rows_s,) + (rows_d,) * variants
        # The place of a derivative simulation is that of its label in C order.
        places = pairs[:, None, :] * variants + np.arange(variants)[:, None]
        self._derivative = places.reshape(self.n_batches, -1)
        self.numbers = np.concatenate([self._fiducial, np.tile(pairs, (1, variants))], axis=1)
        above = np.diag(1 / (self.n_d * delta_theta))
        weights = np.stack([-above, above])[..., None, :] * real[:, None, None, :, None]
        self.slope_weights = weights.reshape(self.n_batches, -1, self.n_params)

    def _lay_out_exact(self) -> None:
        self.numbers = self._fiducial
        self.blocks = (self.numbers.shape[1],)
        known = self.numbers < self.n_d
        self._derivative = np.where(known, self.numbers, -1)
        weights = self.fiducial_weights * known / self.n_d
        self.slope_weights = np.repeat(weights[..., None], self.n_params, axis=-1)

    def subset(self, n_s: int) -> "Layout":
        """A layout of fewer simulations in one batch, with as large a share of derivatives.

        Args:
            n_s: The smaller number of fiducial simulations.
        """
        n_d = -(-self.n_d * n_s // self.n_s)
        return Layout(n_s, n_d, self.n_params, self._delta_theta, min_batches=self._min_batches)

    @property
    def rows(self) -> int:
        """Number of rows of a batch."""
        return sum(self.blocks)

    def row_shapes(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Shapes of a batch of simulations of a given shape, and of its exact derivatives."""
        data = (self.rows, *shape)
        return [data, (*data, self.n_params)] if self.exact else [data]

    def read(
        self,
        batch: int,
        fiducial: Reader,
        derivative: Reader,
        data: np.ndarray,
        *tangents: np.ndarray,
    ) -> None:
        """Reads a batch.

        Args:
            batch: The index of the batch.
            fiducial: The fiducial simulations.
            derivative: The derivative simulations, or the exact derivatives.
            data: Where the simulations are written, `[rows, *shape]`.
            *tangents: Where exact derivatives are written, `[rows, *shape, n_params]`.
        """
        places = self._derivative[batch]
        if not self.exact:
            fiducial.read(self._fiducial[batch], data[: self.blocks[0]])
            derivative.read(places, data[self.blocks[0] :])
            return
        fiducial.read(self._fiducial[batch], data)
        for out in tangents:
            derivative.read(np.maximum(places, 0), out)
            out[places < 0] = 0


def _places(count: int, n_batches: int) -> tuple[np.ndarray, np.ndarray]:
    """Which simulation each row of each batch holds, and one where it is no padding, else zero."""
    rows = -(-count // n_batches)
    places = np.arange(n_batches * rows).reshape(n_batches, rows)
    return places % count, (places < count).astype(float)
