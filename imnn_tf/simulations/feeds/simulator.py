"""Simulations made on the fly, new ones for every update."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from imnn_tf.simulations.augmentation import Augmentation
from imnn_tf.simulations.batch import Part, Rows, RowsAt
from imnn_tf.simulations.feeds.memory import MemoryFeed
from imnn_tf.simulations.layout import Layout
from imnn_tf.simulations.mapping import MapFunction, Mapping, fold_in
from imnn_tf.simulations.options import SimulationOptions
from imnn_tf.utils import checks
from imnn_tf.utils.autodiff import pushforward
from imnn_tf.utils.seeds import stateless_seed
from imnn_tf.utils.tensors import known_shape

# Takes parameters, `[batch, n_params]`, and a seed, `[2]`; returns simulations.
SimulatorFunction: TypeAlias = Callable[[Any, Any], Any]

# Independent streams of random numbers.
_TRAINING, _VALIDATION = 0, 1


class SimulatorFeed:
    """Rows made by a function `simulator(parameters, seed)`; see `Feed` for the attributes.

    All blocks of a batch are simulated from one seed, so the members of a derivative share their
    noise. The seed belongs to the update and the batch: a fit that is resumed, or done again,
    sees the same simulations.

    Args:
        simulator: Takes parameters, `[batch, n_params]`, and a seed, two non-negative int32
            numbers for TensorFlow's stateless generators or `numpy.random.default_rng`; returns
            simulations, `[batch, *shape]`. TensorFlow code is compiled into the update. Any other
            function is called from it.
        options: What holds for all simulations of the fit: the fiducial point, the seed, ...
        layout: Where each simulation stands.

    Raises:
        ValueError: If the simulator does not return a simulation for each row of parameters, if
            it cannot be differentiated where that is needed, or if `map_fn` draws from a global
            generator.
    """

    held = None
    failure = None

    def __init__(
        self, simulator: SimulatorFunction, options: SimulationOptions, layout: Layout
    ) -> None:
        self._simulator, self._layout = simulator, layout
        self._fiducial, self._dtype = options.fiducial, options.dtype
        self._seed = tf.constant(stateless_seed(options.seed), tf.int32)
        self._in_tensorflow = _is_tensorflow(simulator, options.fiducial.n_params, options.dtype)
        self._mapping: Mapping | None = None
        self._augmentation: Augmentation | None = None
        self._known_shape: tuple[int, ...] | None = None
        self._known_shape = self.shape = self._shape_of_one()
        if options.augment is not None:
            count = max(layout.blocks)
            self._augmentation = Augmentation(options.augment, self.shape, count, options.seed)
        if options.map_fn is not None:
            self._mapping = self._mapping_of(options.map_fn, options.seed)
        self.compilable = True if self._in_tensorflow and self._mapping is None else None
        if options.fiducial.exact and not self._in_tensorflow:
            raise ValueError(
                "`δθ` must be given for a `simulator` that is not TensorFlow code, to difference "
                "its simulations."
            )

    def _shape_of_one(self) -> tuple[int, ...]:
        shape = known_shape(self._simulate(self._parameters(0, 2), self._seed))
        if len(shape) < 2 or shape[0] != 2:
            raise ValueError(
                "`simulator` must return a simulation for each row of parameters, (batch, "
                f"*input_shape), got {shape} for a batch of 2."
            )
        return shape[1:]

    def _mapping_of(self, map_fn: MapFunction, seed: int) -> Mapping:
        mapping = Mapping(map_fn, self.shape, self._dtype, seed)
        if not mapping.repeatable:
            raise ValueError(
                "`map_fn` must give the same whenever it is given the same where a `simulator` is "
                "given, got one with a state; take a second argument, `seed`, for TensorFlow's "
                "stateless generators."
            )
        return mapping

    def _parameters(self, block: int, rows: int) -> tf.Tensor:
        """The parameters of the rows of a block, `[rows, n_params]`."""
        return tf.tile(self._fiducial.points[block : block + 1], [rows, 1])

    def _simulate(
        self, parameters: tf.Tensor, seed: tf.Tensor, *, augmented: bool = False
    ) -> tf.Tensor:
        if self._in_tensorflow:
            data = tf.convert_to_tensor(self._simulator(parameters, seed))
            if data.dtype.is_complex:
                raise TypeError(f"`simulator` must return real numbers, got {data.dtype.name}.")
            data = tf.cast(data, self._dtype)
        else:
            data = tf.numpy_function(self._call, [parameters, seed], self._dtype)
            if self._known_shape is not None:
                data = tf.ensure_shape(data, [parameters.shape[0], *self._known_shape])
        # The rows of a block are numbered, so the members of a derivative get the same seed.
        numbers = tf.range(known_shape(parameters)[0])
        if augmented and self._augmentation is not None:
            draws = self._augmentation.draws(self._augmentation.seed_within(seed))
            (data,) = self._augmentation((data,), draws, numbers)
        if self._mapping is not None:
            (data,) = self._mapping((data,), seed, numbers)
        return data

    def _call(self, parameters: np.ndarray, seed: np.ndarray) -> np.ndarray:
        data = self._simulator(parameters, seed)
        dtype = self._dtype.as_numpy_dtype
        return checks.array("simulator(parameters, seed)", data, dtype=dtype, finite=False)

    def rows(self, update: tf.Tensor | int, part: Part) -> RowsAt:
        """Starts a pass over the simulations of an update.

        Args:
            update: The number of the update, `[]`.
            part: The part of the batches, which makes no difference.

        Returns:
            A function of the index of a batch, `[]`. It makes the simulations, `[rows, *shape]`,
            and, where derivatives are exact, the derivatives, `[rows, *shape, n_params]`.
        """
        del part  # any batch can be made at any time
        return self._stream(_TRAINING, update)

    def _stream(self, stream: int, update: tf.Tensor | int) -> RowsAt:
        seed = fold_in(fold_in(self._seed, stream), tf.cast(update, tf.int32))

        def rows_at(index: tf.Tensor) -> Rows:
            # A NumPy generator takes no negative seed.
            ours = tf.bitwise.bitwise_and(fold_in(seed, tf.cast(index, tf.int32)), 0x7FFFFFFF)
            rows = self._tangents if self._fiducial.exact else self._differences
            return rows(ours, augmented=stream == _TRAINING)

        return rows_at

    def _differences(self, seed: tf.Tensor, *, augmented: bool) -> Rows:
        blocks = [
            self._simulate(self._parameters(block, rows), seed, augmented=augmented)
            for block, rows in enumerate(self._layout.blocks)
        ]
        return (tf.concat(blocks, axis=0),)

    def _tangents(self, seed: tf.Tensor, *, augmented: bool) -> Rows:
        rows = self._layout.rows
        directions = [
            tf.tile(tf.constant(direction[None], self._dtype), [rows, 1])
            for direction in np.eye(self._fiducial.n_params)
        ]
        data, tangents = pushforward(
            lambda parameters: self._simulate(parameters, seed, augmented=augmented),
            self._parameters(0, rows),
            directions,
        )
        if tangents is None:
            raise ValueError(
                "`simulator` must be differentiable TensorFlow code where `δθ` is left out, "
                "but its simulations do not depend on the parameters."
            )
        return data, tf.stack(tangents, axis=-1)

    def held_out(self) -> MemoryFeed:
        """Simulations that no update sees, made once for each fiducial point and held."""
        feed = MemoryFeed(self._held_out_stacks(), replaceable=True)
        self._fiducial.follow(lambda: feed.replace(self._held_out_stacks()))
        return feed

    def _held_out_stacks(self) -> Rows:
        # The noise differs from one fiducial point to the next.
        rows_at = self._stream(_VALIDATION, self._fiducial.moves)
        batches = [rows_at(tf.constant(index)) for index in range(self._layout.n_batches)]
        for numbers in (numbers for batch in batches for numbers in batch):
            if not np.isfinite(numbers).all():
                raise ValueError(
                    "`simulator` must return finite simulations, with finite derivatives, got "
                    f"infinite or NaN values about θ_fid = {self._fiducial.theta.tolist()}."
                )
        return tuple(map(tf.stack, zip(*batches, strict=True)))


def _is_tensorflow(simulator: SimulatorFunction, n_params: int, dtype: tf.DType) -> bool:
    """Whether a function can be traced. One that cannot is called with arrays instead."""
    traced = tf.function(
        lambda parameters, seed: tf.convert_to_tensor(simulator(parameters, seed)), autograph=False
    )
    try:
        traced.get_concrete_function(
            tf.TensorSpec([2, n_params], dtype), tf.TensorSpec([2], tf.int32)
        )
    except Exception:  # if it is an error in the simulator, calling it raises the error again
        return False
    return True
