"""Which simulation stands in which row of which batch, and with which label."""

import numpy as np

from imnn_tf.simulations.batch import slope_weights
from imnn_tf.simulations.readers import Reader


class Layout:
    """Batches of `at_once` fiducial simulations and the derivative simulations that go with them.

    A batch is made of blocks: the fiducial simulations, then each parameter below, then each
    above. The matched members of a derivative are therefore always in the same batch, and in the
    same place of their block: what a layer does to a whole batch (its normalisation) or draws for
    it (its dropout) is the same for both and cancels in their difference.

    Where the derivatives are exact, a batch holds fiducial simulations alone, and their
    derivatives beside them.

    Args:
        n_s: Number of fiducial simulations.
        n_d: Number of derivative simulations, of each parameter and side where they are numerical.
        n_params: Number of parameters.
        delta_theta: Differences of the parameters between above and below, `[n_params]`; `None`
            where the derivatives are exact.
        at_once: Fiducial simulations in a batch, with their derivative simulations; all if left
            out.
        min_batches: The least number of batches.

    Attributes:
        exact: Whether the derivatives are exact.
        n_batches: Number of batches.
        blocks: Sizes of the blocks of a batch.
        seeds: Number of the simulation in each row, `[n_batches, rows]`; the members of a
            derivative have the same.
        fiducial: One for a fiducial simulation, `[n_batches, blocks[0]]`; zero for padding.
        slope: The weights in each row of the slope of a derivative simulation, or of an exact
            derivative, `[n_batches, rows, n_params]`; zero for padding.
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
        largest = max(n_s, n_d)
        self.n_s, self.n_d, self.n_params = n_s, n_d, n_params
        self.exact = delta_theta is None
        self.n_batches = max(min_batches, -(-largest // min(at_once or largest, largest)))
        self._fiducial, real_s = _places(n_s, self.n_batches)
        if delta_theta is None:
            self._lay_out_exact(real_s)
        else:
            self._lay_out_differences(real_s, delta_theta)

    def _lay_out_differences(self, real_s: np.ndarray, delta_theta: np.ndarray) -> None:
        seeds, real_d = _places(self.n_d, self.n_batches)
        rows_s, rows_d = self._fiducial.shape[1], seeds.shape[1]
        variants = 2 * self.n_params
        self.blocks = (rows_s,) + (rows_d,) * variants
        # A derivative simulation's place is that of its label in C order.
        places = seeds[:, None, :] * variants + np.arange(variants)[:, None]
        self._derivative = places.reshape(self.n_batches, -1)
        self.seeds = np.concatenate([self._fiducial, np.tile(seeds, (1, variants))], axis=1)
        weights = slope_weights(self.n_d, delta_theta)[..., None, :]
        weights = weights * real_d[:, None, None, :, None]
        self.fiducial = real_s
        self.slope = weights.reshape(self.n_batches, -1, self.n_params)

    def _lay_out_exact(self, real_s: np.ndarray) -> None:
        self.seeds = self._fiducial
        self.blocks = (self.seeds.shape[1],)
        known = self.seeds < self.n_d
        self._derivative = np.where(known, self.seeds, -1)
        self.fiducial = real_s
        weights = real_s * known / self.n_d
        self.slope = np.repeat(weights[..., None], self.n_params, axis=-1)

    @property
    def rows(self) -> int:
        """Rows of a batch."""
        return sum(self.blocks)

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
            batch: Its index.
            fiducial: The fiducial simulations.
            derivative: The derivative simulations, or the derivatives where they are exact.
            data: Where the simulations go, `[rows, *shape]`.
            *tangents: Where exact derivatives go, `[rows, *shape, n_params]`.
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
    """Which simulation each row of each batch holds, and whether it is one and not padding."""
    rows = -(-count // n_batches)
    places = np.arange(n_batches * rows).reshape(n_batches, rows)
    return places % count, (places < count).astype(float)
