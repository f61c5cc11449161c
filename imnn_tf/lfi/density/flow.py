"""Conditional flows of rational-quadratic splines, all members of an ensemble at once."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from imnn_tf.lfi.density import spline
from imnn_tf.lfi.density.architecture import Conditioner, Layout, Weights
from imnn_tf.lfi.density.linear import LinearStart

# Rows that each member works on in one call, so that memory stays small.
_ROWS = 8192

_LOG_2PI = float(np.log(2 * np.pi))


class Flows:
    """The flows of an ensemble, from parameters to independent standard normal numbers.

    A masked autoregressive network decides about the spline of each parameter from the parameters
    before it (Papamakarios et al. 2017, arXiv:1705.07057) and from the summaries. What it is told
    of the summaries comes from a network that all transforms of a member share.

    Args:
        layout: Where the weights are.
        start: The linear regression that the flows start from.
    """

    def __init__(self, layout: Layout, start: LinearStart) -> None:
        self._layout, self._start = layout, start
        members, n_params, n_summaries = layout.shape
        signature = [
            tf.TensorSpec([members, layout.size]),
            tf.TensorSpec([members, None, n_params]),
            tf.TensorSpec([members, None, n_summaries]),
        ]
        self._log_prob = tf.function(self.log_prob, input_signature=signature, autograph=False)
        self._inverse = tf.function(self.inverse, input_signature=signature, autograph=False)

    def log_prob(self, flat: tf.Tensor, parameters: tf.Tensor, summaries: tf.Tensor) -> tf.Tensor:
        """Logarithm of each member's density.

        Args:
            flat: All weights, `[members, size]`.
            parameters: `[members, n, n_params]`.
            summaries: `[members, n, n_summaries]`.

        Returns:
            `[members, n]`.
        """
        weights = self._layout.unpack(flat)
        context = _context(weights, summaries)
        z, log_slope = self._start.forward(parameters, summaries)
        for conditioner in weights.conditioners:
            given = _linear(context, conditioner.from_context, conditioner.bias)
            z, log_slopes = self._transform(conditioner, given, z).forward(z)
            log_slope += tf.reduce_sum(log_slopes, axis=-1)
        return log_slope - tf.reduce_sum(z**2 + _LOG_2PI, axis=-1) / 2

    def inverse(self, flat: tf.Tensor, z: tf.Tensor, summaries: tf.Tensor) -> tf.Tensor:
        """Parameters to which standard normal numbers belong.

        Args:
            flat: All weights, `[members, size]`.
            z: `[members, n, n_params]`.
            summaries: `[members, n, n_summaries]`.

        Returns:
            `[members, n, n_params]`.
        """
        weights = self._layout.unpack(flat)
        context = _context(weights, summaries)
        for conditioner, degrees in zip(
            weights.conditioners[::-1], self._layout.degrees[::-1], strict=True
        ):
            given = _linear(context, conditioner.from_context, conditioner.bias)
            z = self._inverse_of_one(conditioner, degrees[:, None, :], given, z)
        return self._start.inverse(z, summaries)

    def _inverse_of_one(
        self, conditioner: Conditioner, degrees: np.ndarray, given: tf.Tensor, z: tf.Tensor
    ) -> tf.Tensor:
        """The arguments of one transform from its values `z`, both `[members, n, n_params]`."""

        def step(degree: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            transform = self._transform(conditioner, given, x)
            return degree + 1, tf.where(degrees == degree, transform.inverse(z), x)

        # A parameter is known once all of less degree are.
        _, x = tf.while_loop(
            lambda degree, _: degree < self._layout.n_degrees,
            step,
            (tf.constant(0), tf.zeros_like(z)),
            parallel_iterations=1,
        )
        return x

    def log_prob_of_rows(
        self, flat: np.ndarray, parameters: np.ndarray, summaries: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """What `log_prob` returns, for any number of parameters.

        Args:
            flat: All weights, `[members, size]`.
            parameters: `[members, n, n_params]`.
            summaries: `[m, n_summaries]`.
            rows: The row of the summaries that each is given, `[members, n]`.

        Returns:
            `[members, n]`.
        """
        return _in_parts(self._log_prob, flat, parameters, summaries, rows)

    def inverse_of_rows(
        self, flat: np.ndarray, z: np.ndarray, summaries: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """What `inverse` returns, for any number of rows, in the shape of `z`.

        Args:
            flat: All weights, `[members, size]`.
            z: `[members, n, n_params]`.
            summaries: `[m, n_summaries]`.
            rows: The row of the summaries that each is given, `[members, n]`.
        """
        return _in_parts(self._inverse, flat, z, summaries, rows)

    def _transform(
        self, conditioner: Conditioner, given: tf.Tensor, z: tf.Tensor
    ) -> spline.Transform:
        """Maps `[members, n, n_params]` that depend on `z` by its order, and on the summaries.

        Args:
            conditioner: The network.
            given: What the summaries add to its first and last layer.
            z: `[members, n, n_params]`.
        """
        settings, n_params = self._layout.settings, self._layout.shape.n_params
        n_raw = spline.n_raw(settings.bins)
        hidden, raw = tf.split(given, [settings.width, n_params * n_raw], axis=-1)
        for first, last in zip(conditioner.first, conditioner.last, strict=True):
            hidden += z @ first
            for matrix, bias in conditioner.blocks:
                hidden += _linear(tf.nn.relu(hidden), matrix, bias)
            raw += tf.nn.relu(hidden) @ last
        shape = tf.concat([tf.shape(z), [n_raw]], axis=0)
        return spline.transform_of(tf.reshape(raw, shape), settings.bound)


def _context(weights: Weights, summaries: tf.Tensor) -> tf.Tensor:
    """What the conditioners are told of the summaries, `[members, n, width]`."""
    (first, first_bias), (second, second_bias) = weights.context
    hidden = _linear(summaries, first, first_bias)
    return tf.nn.relu(hidden + _linear(tf.nn.relu(hidden), second, second_bias))


def _linear(x: tf.Tensor, matrix: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    return x @ matrix + bias


def _in_parts(
    function: Callable[..., tf.Tensor],
    flat: np.ndarray,
    values: np.ndarray,
    summaries: np.ndarray,
    rows: np.ndarray,
) -> np.ndarray:
    """A function of all weights, of values and of their summaries, for some values at a time."""
    weights = tf.constant(flat)
    parts = [slice(start, start + _ROWS) for start in range(0, values.shape[1], _ROWS)]
    results = [
        function(weights, tf.constant(values[:, part]), tf.constant(summaries[rows[:, part]]))
        for part in parts
    ]
    return np.concatenate(results, axis=1)
