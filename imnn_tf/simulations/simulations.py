"""A set of simulations, in batches."""

import tensorflow as tf

from imnn_tf.simulations.augmentation import Augmentation
from imnn_tf.simulations.batch import WHOLE, Batch, Part, RowsAt, row_of
from imnn_tf.simulations.feeds import Feed
from imnn_tf.simulations.feeds.memory import MemoryFeed
from imnn_tf.simulations.feeds.subset import SubsetFeed
from imnn_tf.simulations.layout import Layout
from imnn_tf.simulations.mapping import Mapping


class Simulations:
    """A set of simulations, in batches of one size.

    Args:
        layout: Which simulation stands in which row of which batch, and with which weight.
        feed: Where the rows of a batch come from.
        dtype: Floating type of the batches.
        augmentation: Random transformations, applied anew for every update, before `mapping`.
        mapping: A user's function, applied to each simulation anew at every pass.
        external: The external summaries of the simulations, of shape `[n_external]` each.

    Attributes:
        layout: As passed.
        feed: As passed.
        dtype: As passed.
        n_external: Number of external summaries.
    """

    def __init__(
        self,
        layout: Layout,
        feed: Feed,
        *,
        dtype: tf.DType,
        augmentation: Augmentation | None = None,
        mapping: Mapping | None = None,
        external: Feed | None = None,
    ) -> None:
        self.layout, self.feed, self.dtype = layout, feed, dtype
        self._augmentation, self._mapping, self._external = augmentation, mapping, external
        self.n_external = 0 if external is None else external.shape[0]
        self._fiducial_weights = tf.constant(layout.fiducial_weights, dtype)
        self._slope_weights = tf.constant(layout.slope_weights, dtype)
        self._numbers = tf.constant(layout.numbers, tf.int32)

    @property
    def n_s(self) -> int:
        """Number of fiducial simulations."""
        return self.layout.n_s

    @property
    def n_d(self) -> int:
        """Number of derivative simulations, of each parameter and side if they are numerical."""
        return self.layout.n_d

    @property
    def n_params(self) -> int:
        """Number of parameters."""
        return self.layout.n_params

    @property
    def n_batches(self) -> int:
        """Number of batches."""
        return self.layout.n_batches

    @property
    def blocks(self) -> tuple[int, ...]:
        """Number of rows in each block of a batch: fiducial, each below, each above."""
        return self.layout.blocks

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one simulation, before any `map_fn`."""
        return self.feed.shape

    @property
    def compilable(self) -> bool | None:
        """Whether XLA compiles what makes a batch; `None` if the user's function decides that."""
        return self.feed.compilable if self._mapping is None or not self.feed.compilable else None

    @property
    def repeatable(self) -> bool:
        """Whether an update sees the same whenever it is made, as all but some `map_fn` let it."""
        return self._mapping is None or self._mapping.repeatable

    def batches(self, update: tf.Tensor | int = 0, part: Part = WHOLE) -> "Batches":
        """Starts a pass over the batches.

        Args:
            update: The number of the update, `[]`; 0 by default. Simulations made on the fly,
                transformations and the seeds of a `map_fn` are different at every update, and
                always the same at a given one.
            part: The part of the batches to go through; all by default.
        """
        rows_at = self.feed.rows(update, part)
        for change in (self._augmentation, self._mapping):
            if change is not None:
                rows_at = change.applied(rows_at, update, self._numbers)
        external = None if self._external is None else self._external.rows(update, part)
        return Batches(rows_at, self._fiducial_weights, self._slope_weights, external)

    def subset(self, n_s: int, seed: int) -> "Simulations | None":
        """Fewer simulations, chosen anew for every update.

        Args:
            n_s: Number of fiducial simulations, with a share of the derivative simulations that is
                as large.
            seed: A non-negative integer that, with the number of the update, decides the choice.

        Returns:
            The simulations, or `None` if these are not held in memory, or if their `map_fn` draws
            from a global generator.
        """
        held, mapping, external = self.feed.held, self._mapping, self._external
        if held is None or (mapping is not None and not mapping.repeatable):
            return None
        layout = self.layout.subset(n_s)
        if external is not None and external.held is not None:
            external = SubsetFeed(external.held, self.layout, layout, seed)
        return Simulations(
            layout,
            SubsetFeed(held, self.layout, layout, seed),
            dtype=self.dtype,
            augmentation=self._augmentation,
            mapping=mapping,
            external=external,
        )

    def fixed(self, update: tf.Tensor | int) -> "Simulations":
        """These simulations such that several passes of one update see the same numbers.

        They do by themselves, unless a `map_fn` draws from a global generator. What it makes of
        all simulations is then held for the update.

        Args:
            update: The number of the update, `[]`.
        """
        held = self.feed.held
        if self._mapping is None or self._mapping.repeatable or held is None:
            return self
        flat = tuple(tf.reshape(stack, [-1, *stack.shape[2:]]) for stack in held)
        numbers = tf.reshape(self._numbers, [-1])
        if self._augmentation is not None:
            draws = self._augmentation.draws(self._augmentation.seed(update))
            flat = self._augmentation(flat, draws, numbers)
        mapped = self._mapping(flat, self._mapping.seed(update), numbers)
        stacks = (tf.reshape(rows, [*self._numbers.shape, *rows.shape[1:]]) for rows in mapped)
        feed = MemoryFeed(stacks)
        return Simulations(self.layout, feed, dtype=self.dtype, external=self._external)

    @property
    def fiducial(self) -> tf.Tensor | None:
        """The fiducial simulations, `[n_s, *input_shape]`; `None` if not held in memory."""
        if self.feed.held is None:
            return None
        rows = self.feed.held[0][:, : self.blocks[0]]
        return tf.reshape(rows, [-1, *rows.shape[2:]])[: self.n_s]

    @property
    def derivative(self) -> tf.Tensor | None:
        """The derivative simulations as they were passed; `None` if not held in memory.

        Their shape is `[n_d, 2, n_params, *input_shape]`, or `[n_d, *input_shape, n_params]` of
        exact derivatives.
        """
        if self.feed.held is None:
            return None
        if self.layout.exact:
            tangents = self.feed.held[1]
            return tf.reshape(tangents, [-1, *tangents.shape[2:]])[: self.n_d]
        rows = self.feed.held[0][:, self.blocks[0] :]
        rows = tf.reshape(rows, [self.n_batches, 2, self.n_params, self.blocks[1], *rows.shape[2:]])
        rows = tf.transpose(rows, [0, 3, 1, 2, *range(4, rows.shape.rank)])
        return tf.reshape(rows, [-1, *rows.shape[2:]])[: self.n_d]


class Batches:
    """One pass over the batches of some simulations.

    Args:
        rows_at: Takes the index of a batch, `[]`, and gives its simulations, mapped if there is a
            `map_fn`, `[rows, *shape]`, and their exact derivatives, `[rows, *shape, n_params]`, if
            there are any.
        fiducial_weights: The weights of all batches in the mean, `[n_batches, n_fiducial]`.
        slope_weights: The weights of all batches in the slope of the mean,
            `[n_batches, n_derivative, n_params]`, with `n_derivative` the number of derivative
            simulations, or of exact derivatives, in a batch.
        external: Takes the index of a batch, `[]`, and gives its external summaries,
            `[rows, n_external]`, and their exact derivatives, `[rows, n_external, n_params]`, if
            there are any; or `None`.
    """

    def __init__(
        self,
        rows_at: RowsAt,
        fiducial_weights: tf.Tensor,
        slope_weights: tf.Tensor,
        external: RowsAt | None,
    ) -> None:
        self._rows_at, self._external = rows_at, external
        self._fiducial_weights, self._slope_weights = fiducial_weights, slope_weights

    def at(self, index: tf.Tensor | int) -> Batch:
        """One batch. The indices of the part must be gone through in their order.

        Args:
            index: The index of the batch, `[]`.

        Returns:
            The batch, in the shapes that `Batch` lists.
        """
        index = tf.convert_to_tensor(index)
        data, *tangents = self._rows_at(index)
        return Batch(
            data,
            row_of(self._fiducial_weights, index),
            row_of(self._slope_weights, index),
            tangents[0] if tangents else None,
            *(() if self._external is None else self._external(index)),
        )
