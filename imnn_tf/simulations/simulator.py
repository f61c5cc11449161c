"""Simulations made on the fly, fresh ones for every update."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from imnn_tf.simulations.batch import Batch, BatchAt, Passes, slope_weights

Simulator = Callable[[Any, Any], Any]

# Streams of random numbers that have nothing in common.
_TRAINING, _VALIDATION = 0, 1


class SimulatorSimulations:
    """Simulations of a function `simulator(parameters, seed)`.

    All blocks of a batch are simulated from one seed, so that the members of a derivative share
    their noise. A seed belongs to an update and a batch: a fit that goes on, or is done again,
    sees the same simulations.

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
        at_once: As for `ArraySimulations`.

    Attributes:
        n_s, n_d, n_params, input_shape, n_batches, dtype, blocks: As of `ArraySimulations`.
        compilable: Whether the simulator is TensorFlow code.

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
    ) -> None:
        self.n_s, self.n_d, self.dtype = n_s, n_d, dtype
        self.n_external = 0
        self.n_params = len(theta_fid)
        self._theta_fid, self._delta_theta = theta_fid, delta_theta
        self._seed = tf.constant([seed & 0x7FFFFFFF, seed >> 31 & 0x7FFFFFFF], tf.int32)
        self._simulator = simulator
        largest = max(n_s, n_d)
        self.n_batches = -(-largest // min(at_once or largest, largest))
        self._rows_s, self._rows_d = (-(-n // self.n_batches) for n in (n_s, n_d))
        self.compilable = _is_tensorflow(simulator, self.n_params, dtype)
        self.input_shape = self._shape_of_one()
        if delta_theta is None and not self.compilable:
            raise ValueError(
                "`δθ` must be given for a `simulator` that is not TensorFlow code, to difference "
                "its simulations."
            )
        self.blocks: tuple[int, ...] = (self._rows_s,)
        if delta_theta is not None:
            self.blocks += (self._rows_d,) * (2 * self.n_params)
            half = np.diag(delta_theta) / 2
            self._points = np.concatenate([[theta_fid], theta_fid - half, theta_fid + half])
            self._weights = slope_weights(1, delta_theta).reshape(-1, self.n_params)

    def _shape_of_one(self) -> tuple[int, ...]:
        parameters = tf.constant(np.repeat(self._theta_fid[None], 2, axis=0), self.dtype)
        shape = tuple(self._simulate(parameters, self._seed).shape)
        if len(shape) < 2 or shape[0] != 2:
            raise ValueError(
                "`simulator` must return a simulation for each row of parameters, (batch, "
                f"*input_shape), got {shape} for a batch of 2."
            )
        return shape[1:]

    def _simulate(self, parameters: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if self.compilable:
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
        fold_in = tf.random.experimental.stateless_fold_in
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
        data, weights = [], [tf.zeros([self._rows_s, self.n_params], self.dtype)]
        for point, rows in zip(self._points, self.blocks, strict=True):
            parameters = tf.constant(np.repeat(point[None], rows, axis=0), self.dtype)
            data.append(self._simulate(parameters, seed))
        for row in self._weights:
            weights.append(real_d[:, None] * tf.constant(row / self.n_d, self.dtype))
        fiducial = tf.concat([real_s, tf.zeros([sum(self.blocks[1:])], self.dtype)], axis=0)
        return Batch(tf.concat(data, axis=0), fiducial, tf.concat(weights, axis=0))

    def _tangents(self, seed: tf.Tensor, index: tf.Tensor) -> Batch:
        rows = self._rows_s
        parameters = tf.constant(np.repeat(self._theta_fid[None], rows, axis=0), self.dtype)
        tangents = []
        for direction in np.eye(self.n_params):
            along = tf.constant(np.repeat(direction[None], rows, axis=0), self.dtype)
            with tf.autodiff.ForwardAccumulator(parameters, along) as forward:
                data = self._simulate(parameters, seed)
            tangent = forward.jvp(data)
            if tangent is None:
                raise ValueError(
                    "`simulator` must be differentiable TensorFlow code where `δθ` is left out, "
                    "but its simulations do not depend on the parameters."
                )
            tangents.append(tangent)
        real = self._counts(index, rows, self.n_s)
        known = self._counts(index, rows, self.n_d)
        weights = tf.tile((real * known / self.n_d)[:, None], [1, self.n_params])
        return Batch(data, real, weights, tf.stack(tangents, axis=-1))

    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Simulations that no update sees, fiducial and derivative ones as arrays."""
        batch_at = self._pass(_VALIDATION, 0)
        batches = [batch_at(tf.constant(index)) for index in range(self.n_batches)]
        if self._delta_theta is None:
            derivative = np.concatenate([batch.tangents for batch in batches])[: self.n_d]
            fiducial = np.concatenate([batch.data for batch in batches])[: self.n_s]
        else:
            parts = [tf.split(batch.data, self.blocks) for batch in batches]
            blocks = [np.concatenate(block) for block in zip(*parts, strict=True)]
            fiducial = blocks[0][: self.n_s]
            varied = np.stack(blocks[1:], axis=1)[: self.n_d]
            derivative = varied.reshape(self.n_d, 2, self.n_params, *self.input_shape)
        return fiducial, derivative


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
