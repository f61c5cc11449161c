"""The random numbers of pixel errors: new ones in training, the same ones in every prediction."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

_COARSEST = 4
"""The logarithm to base two of the size of the largest blocks of signs."""

_FIRST_OF_RISK = 1_000_000
"""The first of the seeds of the signs for Stein's estimate, beyond all others."""


@keras.saving.register_keras_serializable("rim_tf")
class Draws(keras.layers.Layer):
    """Signs, normals and choices for a number of probes.

    In training they are new for every example. Otherwise they are the same for all, so that the
    error of an example does not depend on those beside it.

    Args:
        probes: The number of probes.
        seed: The seed of all draws.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.
    """

    def __init__(self, probes: int, seed: int, **kwargs: Any):
        super().__init__(trainable=False, **kwargs)
        self._probes, self._seed = probes, seed
        self._generator = keras.random.SeedGenerator(seed)
        self.built = True

    def signs(self, u: tf.Tensor, probe: int, training: bool) -> tf.Tensor:
        """Random signs in blocks of `2^probe` pixels, of the shape of `u`.

        Args:
            u: The estimates, `[batch, *sizes, channels]`.
            probe: The number of the probe.
            training: Whether to draw new ones.
        """
        shape, block = tf.shape(u), 2 ** min(probe, _COARSEST)
        blocks = tf.concat([shape[:1], -(-shape[1:-1] // block), shape[-1:]], 0)
        if training:
            uniform = keras.random.uniform(blocks, dtype=u.dtype, seed=self._generator)
        else:
            one = tf.concat([[1], blocks[1:]], 0)
            # The same numbers under XLA, which has an algorithm of its own otherwise.
            options: Any = {"dtype": u.dtype, "alg": "philox"}
            uniform = tf.random.stateless_uniform(one, (self._seed, probe), **options)
            uniform = tf.broadcast_to(uniform, blocks)
        for axis in range(1, len(u.shape) - 1):
            uniform = tf.repeat(uniform, block, axis)
        uniform = tf.ensure_shape(tf.slice(uniform, tf.zeros_like(shape), shape), u.shape)
        return _signs_of(uniform)

    def independent_signs(self, like: tf.Tensor, number: int) -> tf.Tensor:
        """Random signs, the same for all examples; of complex numbers in both parts.

        Args:
            like: What they have the shape and the type of, `[batch, ...]`.
            number: The number of the draw.
        """
        parts = 1 + like.dtype.is_complex
        shape = tf.concat([[parts, 1], tf.shape(like)[1:]], 0)
        seed = (self._seed, _FIRST_OF_RISK + number)
        options: Any = {"dtype": like.dtype.real_dtype, "alg": "philox"}
        signs = _signs_of(tf.random.stateless_uniform(shape, seed, **options))
        one = tf.complex(signs[0], signs[1]) if parts == 2 else signs[0]
        return tf.ensure_shape(tf.broadcast_to(one, tf.shape(like)), like.shape)

    def normals(self, y: tf.Tensor, each: int, training: bool) -> tf.Tensor:
        """Standard normals like the data, of complex data in both parts.

        Args:
            y: The data, `[batch, *data]`.
            each: How many to draw for each example.
            training: Whether to draw new ones.

        Returns:
            `[batch * each, *data]`, those of one example in a row.
        """
        real = self._real_normals(y, each, training, 0)
        if not y.dtype.is_complex:
            return real
        return tf.complex(real, self._real_normals(y, each, training, 1))

    def _real_normals(self, y: tf.Tensor, each: int, training: bool, part: int) -> tf.Tensor:
        shape = tf.concat([[each], tf.shape(y)[1:]], 0)
        if training:
            every = tf.concat([tf.shape(y)[:1] * each, shape[1:]], 0)
            return keras.random.normal(every, dtype=self.variable_dtype, seed=self._generator)
        seed = (self._seed, self._probes + part)  # not those of the signs
        normals = tf.random.stateless_normal(shape, seed, dtype=self.variable_dtype, alg="philox")
        return tf.tile(normals, tf.concat([tf.shape(y)[:1], tf.ones_like(shape[1:])], 0))

    def rows(self, count: tf.Tensor, each: int, limit: int, training: bool) -> tf.Tensor:
        """Numbers of rows, at least 0 and less than `limit`, `[count * each]`.

        Args:
            count: The number of examples, `[]`.
            each: How many to draw for each example.
            limit: The number of rows to choose from.
            training: Whether to draw new ones, or to take the first rows in their order.
        """
        if training:
            shape = [count * each]
            return keras.random.randint(shape, 0, limit, seed=self._generator)
        first = tf.constant(np.arange(each) % limit, tf.int32)
        return tf.tile(first, tf.reshape(count, [1]))

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {**super().get_config(), "probes": self._probes, "seed": self._seed}


def _signs_of(uniform: tf.Tensor) -> tf.Tensor:
    """Random signs from uniform numbers in [0, 1), of the same shape."""
    return tf.where(uniform < 0.5, -tf.ones_like(uniform), tf.ones_like(uniform))
