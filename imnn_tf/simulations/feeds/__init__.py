"""Where the rows of a batch come from: memory, files read at every pass, or a simulator."""

from typing import Protocol

import tensorflow as tf

from imnn_tf.simulations.batch import Part, Rows, RowsAt


class Feed(Protocol):
    """Gives the rows of batches, and says what it can do.

    Attributes:
        shape: Shape of one simulation.
        compilable: Whether XLA compiles what makes the rows: True, False, or `None` if a function
            of the user decides that.
        held: All rows, `[n_batches, rows, *shape]`, and their exact derivatives,
            `[n_batches, rows, *shape, n_params]`, if they are held in memory.
        failure: The exception that the last failed read raised.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def compilable(self) -> bool | None: ...  # noqa: D102
    @property
    def held(self) -> Rows | None: ...  # noqa: D102
    @property
    def failure(self) -> Exception | None: ...  # noqa: D102

    def rows(self, update: tf.Tensor | int, part: Part) -> RowsAt:
        """Starts a pass over the batches of a part.

        Args:
            update: The number of the update, `[]`.
            part: The part of the batches.

        Returns:
            A function of the index of a batch, `[]`. It gives the simulations, `[rows, *shape]`,
            and, where derivatives are exact, the derivatives, `[rows, *shape, n_params]`. The
            indices of the part must be gone through in their order.
        """
