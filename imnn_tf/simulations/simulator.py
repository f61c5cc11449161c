"""Simulations made on the fly, fresh ones for every update."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from imnn_tf.simulations.batch import Batch, BatchAt, Passes, slope_weights
from imnn_tf.simulations.mapping import MapFunction, Mapping, fold_in
from imnn_tf.utils.autodiff import pushforward
from imnn_tf.utils.seeds import stateless_seed

Simulator = Callable[[Any, Any], Any]

# Streams of random numbers that have nothing in common.
_TRAINING, _VALIDATION = 0, 1


class SimulatorSimulations:
    """Simulations of a function `simulator(parameters, seed)`.

    All blocks of a batch are simulated from one seed, so that the members of a derivative share
    their noise. A seed belongs to an update and a batch: a fit that goes on, or is done again,
    sees the same simulations. The fiducial point can be moved without tracing anew what was
    traced with it.

    Args:
        simulator: Takes parameters, `[batch, n_params]`, and a seed, two non-negative int32
            numbers for TensorFlow's stateless generators or `numpy.random.default_rng`, and
            returns simulations, `[batch, *input_shape]`. TensorFlow code is compiled into the
            update; any other function is called from it.
        theta_fid: Fiducial parameters, `[n_params]`.
        delta_theta: Differences of the parameters between above and below, `[n_params]`; `None`
            to differentiate through the simulator.
        n_s: Fiducial simulations of an update.
        n_d: Derivative simulations of an update.
        seed: Of all of them.
        dtype: Floating type of the batches.
        at_once: As for `Layout`.
        map_fn: Applied to each simulation; see `Mapping`. The members of a derivative get the
            same seed.

    Attributes:
        n_s, n_d, n_params, input_shape, n_batches, dtype, blocks: As of `ArraySimulations`.
        compilable: Whether the simulator is TensorFlow code, and no `map_fn` comes after it.
        theta_fid: Where the fiducial point is.
        moves: How often it was moved.

    Raises:
        ValueError: If the simulator does not return a simulation for each row of parameters, or is
            to be differentiated through and cannot be.
    """

    def __init__(
        self,
        simulator: Simulator,
        theta_fid: np.ndarray,
        delta_theta: np.ndarray | None,
        *,
        n_s: int,
        n_d: int,
        seed: int,
        dtype: tf.DType,
        at_once: int | None = None,
        map_fn: MapFunction | None = None,
    ) -> None:
        self.n_s, self.n_d, self.dtype = n_s, n_d, dtype
        self.n_external = 0
        self.n_params = len(theta_fid)
        self.theta_fid, self.moves, self._delta_theta = theta_fid, 0, delta_theta
        # A variable, which a trace reads anew; its rows are the parameters of the blocks.
        self._points = tf.Variable(self._points_about(theta_fid), dtype=dtype, trainable=False)
        self._seed = tf.constant(stateless_seed(seed), tf.int32)
        self._simulator = simulator
        largest = max(n_s, n_d)
        self.n_batches = -(-largest // min(at_once or largest, largest))
        self._rows_s, self._rows_d = (-(-n // self.n_batches) for n in (n_s, n_d))
        self._in_tensorflow = _is_tensorflow(simulator, self.n_params, dtype)
        self._mapping: Mapping | None = None
        self.input_shape = self._shape_of_one()
        if map_fn is not None:
            self._mapping = self._mapping_of(map_fn, seed)
        self.compilable = self._in_tensorflow and map_fn is None
        if delta_theta is None and not self._in_tensorflow:
            raise ValueError(
                "`δθ` must be given for a `simulator` that is not TensorFlow code, to difference "
                "its simulations."
            )
        self.blocks: tuple[int, ...] = (self._rows_s,)
        if delta_theta is not None:
            self.blocks += (self._rows_d,) * (2 * self.n_params)
            self._weights = slope_weights(1, delta_theta).reshape(-1, self.n_params)
        self._held_out: HeldOut | None = None

    def _points_about(self, theta_fid: np.ndarray) -> np.ndarray:
        """The parameters of the blocks: fiducial, each one below, each one above."""
        if self._delta_theta is None:
            return theta_fid[None]
        half = np.diag(self._delta_theta) / 2
        return np.concatenate([[theta_fid], theta_fid - half, theta_fid + half])

    def _parameters(self, block: int, rows: int) -> tf.Tensor:
        return tf.tile(self._points[block : block + 1], [rows, 1])

    def _shape_of_one(self) -> tuple[int, ...]:
        shape = tuple(self._simulate(self._parameters(0, 2), self._seed).shape)
        if len(shape) < 2 or shape[0] != 2:
            raise ValueError(
                "`simulator` must return a simulation for each row of parameters, (batch, "
                f"*input_shape), got {shape} for a batch of 2."
            )
        return shape[1:]

    def _mapping_of(self, map_fn: MapFunction, seed: int) -> Mapping:
        mapping = Mapping(map_fn, self.input_shape, self.dtype, seed)
        if not mapping.repeatable:
            raise ValueError(
                "`map_fn` must give the same whenever it is given the same where a `simulator` is "
                "given, got one with a state; take a second argument, `seed`, for TensorFlow's "
                "stateless generators."
            )
        return mapping

    def _simulate(self, parameters: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        simulations = self._call(parameters, seed)
        if self._mapping is None:
            return simulations
        (mapped,) = self._mapping((simulations,), seed, tf.range(parameters.shape[0]))
        return mapped

    def _call(self, parameters: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if self._in_tensorflow:
            return tf.cast(self._simulator(parameters, seed), self.dtype)
        numbers = self.dtype.as_numpy_dtype

        def call(parameters: np.ndarray, seed: np.ndarray) -> np.ndarray:
            return np.asarray(self._simulator(parameters, seed), numbers)

        simulations = tf.numpy_function(call, [parameters, seed], self.dtype)
        if hasattr(self, "input_shape"):
            simulations = tf.ensure_shape(simulations, [parameters.shape[0], *self.input_shape])
        return simulations

    def begin(self, update: tf.Tensor | int = 0) -> Passes:
        """Makes the simulations of an update ready; see `Simulations`."""
        batch_at = self._pass(_TRAINING, update)
        return lambda part=(0, 1): batch_at

    def _pass(self, stream: int, update: tf.Tensor | int) -> BatchAt:
        seed = fold_in(fold_in(self._seed, stream), tf.cast(update, tf.int32))

        def batch(index: tf.Tensor) -> Batch:
            ours = tf.bitwise.bitwise_and(fold_in(seed, tf.cast(index, tf.int32)), 0x7FFFFFFF)
            make = self._differences if self._delta_theta is not None else self._tangents
            return make(ours, index)

        return batch

    def _counts(self, index: tf.Tensor, rows: int, n: int) -> tf.Tensor:
        """Which rows of a batch are simulations, and not padding at the end of the last."""
        places = tf.cast(index, tf.int32) * rows + tf.range(rows)
        return tf.cast(places < n, self.dtype)

    def _differences(self, seed: tf.Tensor, index: tf.Tensor) -> Batch:
        real_s = self._counts(index, self._rows_s, self.n_s)
        real_d = self._counts(index, self._rows_d, self.n_d)
        data = [
            self._simulate(self._parameters(block, rows), seed)
            for block, rows in enumerate(self.blocks)
        ]
        weights = [
            real_d[:, None] * tf.constant(row / self.n_d, self.dtype) for row in self._weights
        ]
        return Batch(tf.concat(data, axis=0), real_s, tf.concat(weights, axis=0))

    def _tangents(self, seed: tf.Tensor, index: tf.Tensor) -> Batch:
        rows = self._rows_s
        along = [
            tf.tile(tf.constant(direction[None], self.dtype), [rows, 1])
            for direction in np.eye(self.n_params)
        ]
        data, tangents = pushforward(
            lambda parameters: self._simulate(parameters, seed), self._parameters(0, rows), along
        )
        if tangents is None:
            raise ValueError(
                "`simulator` must be differentiable TensorFlow code where `δθ` is left out, "
                "but its simulations do not depend on the parameters."
            )
        real = self._counts(index, rows, self.n_s)
        known = self._counts(index, rows, self.n_d)
        weights = tf.tile((real * known / self.n_d)[:, None], [1, self.n_params])
        return Batch(data, real, weights, tf.stack(tangents, axis=-1))

    def held_out(self) -> "HeldOut":
        """Simulations that no update sees, made once for each fiducial point."""
        if self._held_out is None:
            self._held_out = HeldOut(self, self._validation_batches())
        return self._held_out

    def _validation_batches(self) -> Batch:
        """All batches of the held-out simulations at this fiducial point, stacked.

        Raises:
            ValueError: If a simulation is not finite.
        """
        batch_at = self._pass(_VALIDATION, self.moves)
        batches = [batch_at(tf.constant(index)) for index in range(self.n_batches)]
        for numbers in (numbers for batch in batches for numbers in (batch.data, batch.tangents)):
            if numbers is not None and not np.isfinite(numbers).all():
                raise ValueError(
                    "`simulator` must return finite simulations, with finite derivatives, got "
                    f"infinite or NaN values about θ_fid = {self.theta_fid.tolist()}."
                )
        parts = zip(*batches, strict=True)
        return Batch(*(None if part[0] is None else tf.stack(part) for part in parts))

    def move_to(self, theta_fid: np.ndarray, moves: int | None = None) -> None:
        """Moves the fiducial point, and makes the held-out simulations there.

        Args:
            theta_fid: Where to, `[n_params]`.
            moves: How often it will have been moved, once more if left out. The held-out
                simulations of another number have other noise.

        Raises:
            ValueError: If a held-out simulation there is not finite. Nothing has moved then.
        """
        before = self.theta_fid, self.moves
        self._place(theta_fid, self.moves + 1 if moves is None else moves)
        if self._held_out is None:
            return
        try:
            batches = self._validation_batches()
        except BaseException:
            self._place(*before)
            raise
        self._held_out.replace(batches)

    def _place(self, theta_fid: np.ndarray, moves: int) -> None:
        self.theta_fid, self.moves = theta_fid, moves
        self._points.assign(self._points_about(theta_fid))


class HeldOut:
    """Simulations of a simulator held in memory, which can be replaced without tracing anew.

    Attributes:
        n_s, n_d, n_params, input_shape, n_batches, dtype, blocks: As of `ArraySimulations`.
        n_external: None.
        compilable: True.
    """

    n_external = 0
    compilable = True

    def __init__(self, source: SimulatorSimulations, batches: Batch) -> None:
        """Takes over the simulations of a source.

        Args:
            source: Where they come from.
            batches: All its batches, stacked along a first axis.
        """
        self.n_s, self.n_d, self.n_params = source.n_s, source.n_d, source.n_params
        self.input_shape, self.dtype = source.input_shape, source.dtype
        self.n_batches, self.blocks = source.n_batches, source.blocks
        self._stacks = [
            None if part is None else tf.Variable(part, trainable=False) for part in batches
        ]

    def replace(self, batches: Batch) -> None:
        """Puts others in their place."""
        for stack, part in zip(self._stacks, batches, strict=True):
            if stack is not None:
                stack.assign(part)

    def begin(self, update: tf.Tensor | int = 0) -> Passes:
        """Makes the same simulations ready for every update; see `Simulations`."""
        del update

        def batch(index: tf.Tensor) -> Batch:
            def take(stack: tf.Variable) -> tf.Tensor:
                # Taking the only batch there is must not copy it.
                return tf.squeeze(stack, axis=0) if self.n_batches == 1 else stack[index]

            return Batch(*(None if stack is None else take(stack) for stack in self._stacks))

        return lambda part=(0, 1): batch


def _is_tensorflow(simulator: Simulator, n_params: int, dtype: tf.DType) -> bool:
    """Whether a function can be traced; one that cannot is called with arrays instead."""
    traced = tf.function(
        lambda parameters, seed: tf.convert_to_tensor(simulator(parameters, seed)), autograph=False
    )
    try:
        traced.get_concrete_function(
            tf.TensorSpec([2, n_params], dtype), tf.TensorSpec([2], tf.int32)
        )
    except Exception:  # whatever it raises, it raises again when it is called
        return False
    return True
