"""The layers of the networks that Keras does not have.

They are registered with Keras, so that a saved model loads as soon as this module was imported.
"""

from typing import Any

import keras
import tensorflow as tf

from imnn_tf.utils import checks
from imnn_tf.utils.types import Json


@keras.saving.register_keras_serializable("imnn_tf")
class PeriodicPadding(keras.layers.Layer):
    """Extends every spatial axis by entries from its other end.

    Args:
        width: The number of entries to add at both ends of every axis. No axis may be shorter.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = checks.integer("width", width, minimum=1)

    def call(self, field: tf.Tensor) -> tf.Tensor:
        """Extends fields `[batch, *shape, channels]` to `[batch, *(shape + 2 width), channels]`."""
        for axis in range(1, len(field.shape) - 1):
            size = int(field.shape[axis] or 0)
            _, last = tf.split(field, [size - self.width, self.width], axis)
            first, _ = tf.split(field, [self.width, size - self.width], axis)
            field = tf.concat([last, field, first], axis)
        return field

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the extended fields."""
        batch, *shape, channels = input_shape
        return (batch, *(size + 2 * self.width for size in shape), channels)

    def get_config(self) -> dict[str, Json]:
        """The arguments of the constructor."""
        return {**super().get_config(), "width": self.width}


@keras.saving.register_keras_serializable("imnn_tf")
class SubtractMean(keras.layers.Layer):
    """Subtracts from every field its own mean, in each channel."""

    def call(self, field: tf.Tensor) -> tf.Tensor:
        """Fields `[batch, *shape, channels]` whose mean over `shape` is zero."""
        axes = list(range(1, len(field.shape) - 1))
        return field - tf.reduce_mean(field, axes, keepdims=True)

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape stays."""
        return input_shape


@keras.saving.register_keras_serializable("imnn_tf")
class HalveResolution(keras.layers.Layer):
    """Means over pairs of neighbours along every spatial axis; the odd one out stays.

    It is average pooling in any number of dimensions. TensorFlow has none for three dimensions in
    double precision.
    """

    def call(self, field: tf.Tensor) -> tf.Tensor:
        """Halves fields `[batch, *shape, channels]` to `[batch, *ceil(shape / 2), channels]`."""
        for axis in range(1, len(field.shape) - 1):
            size = int(field.shape[axis] or 0)
            pairs, rest = tf.split(field, [size - size % 2, size % 2], axis)
            sizes = [-1 if n is None else n for n in field.shape]
            sizes[axis : axis + 1] = [size // 2, 2]
            field = tf.concat([tf.reduce_mean(tf.reshape(pairs, sizes), axis + 1), rest], axis)
        return field

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the fields at half the resolution."""
        batch, *shape, channels = input_shape
        return (batch, *(-(-size // 2) for size in shape), channels)


@keras.saving.register_keras_serializable("imnn_tf")
class SplitMask(keras.layers.Layer):
    """Splits the last feature of the objects in a catalogue off as a mask.

    An entry whose mask is greater than 0.5 is an object; any other is padding. The features of
    padding are replaced by zeros, so that whatever they held reaches neither a summary nor a
    gradient.
    """

    def call(self, catalogue: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Splits `[batch, n_objects, n_features + 1]`.

        Returns:
            The features `[batch, n_objects, n_features]`, and the mask `[batch, n_objects, 1]`,
            which is one for an object and zero for padding.
        """
        features, mask = tf.split(catalogue, [-1, 1], axis=-1)
        present = mask > 0.5
        return (
            tf.where(present, features, tf.zeros_like(features)),
            tf.cast(present, catalogue.dtype),
        )

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[tuple[int | None, ...], tuple[int | None, ...]]:
        """Shapes of the features and the mask."""
        *axes, width = input_shape
        assert width is not None
        return (*axes, width - 1), (*axes, 1)


@keras.saving.register_keras_serializable("imnn_tf")
class MaskedSum(keras.layers.Layer):
    """Sum over the objects of a catalogue that are not padding."""

    def call(self, values: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Adds `values`, `[batch, n_objects, n]`, up to `[batch, n]`.

        Args:
            values: One row for each object, `[batch, n_objects, n]`.
            mask: One for an object and zero for padding, `[batch, n_objects, 1]`; every row is an
                object by default.
        """
        return tf.reduce_sum(values if mask is None else values * mask, axis=1)

    def compute_output_shape(
        self, values_shape: tuple[int | None, ...], mask_shape: object = None
    ) -> tuple[int | None, ...]:
        """Shape of the sums."""
        return (values_shape[0], values_shape[2])


@keras.saving.register_keras_serializable("imnn_tf")
class InformationWeightedSum(keras.layers.Layer):
    """The estimate `(1 + Σᵢ Fᵢ)⁻¹ Σᵢ tᵢ`, from a score and an information of each object.

    Each `Fᵢ = Lᵢ Lᵢᵀ` is positive definite, because the diagonal of the triangle `Lᵢ` is passed
    through a softplus.

    References:
        Makinen, Alsing & Wandelt (2023), arXiv:2310.03812, section 2.
    """

    def call(
        self, scores: tf.Tensor, triangles: tf.Tensor, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Estimates `[batch, n]`.

        Args:
            scores: Scores `tᵢ`, `[batch, n_objects, n]`.
            triangles: The entries of each `Lᵢ`, `[batch, n_objects, n (n + 1) / 2]`.
            mask: One for an object and zero for padding, `[batch, n_objects, 1]`; every row is an
                object by default.
        """
        # A sum over thousands of objects has no digits left in half precision.
        dtype = tf.float32 if scores.dtype.size < 4 else scores.dtype
        scores, triangles = tf.cast(scores, dtype), tf.cast(triangles, dtype)
        n = int(scores.shape[-1] or 0)
        lower = _lower_triangle(triangles, n)
        if mask is not None:
            mask = tf.cast(mask, dtype)
            scores, lower = scores * mask, lower * tf.expand_dims(mask, -1)
        information = tf.einsum("boik,bojk->bij", lower, lower) + tf.eye(n, dtype=dtype)
        total = tf.expand_dims(tf.reduce_sum(scores, axis=1), -1)
        estimate = tf.linalg.cholesky_solve(tf.linalg.cholesky(information), total)
        return tf.squeeze(estimate, -1)

    def compute_output_shape(
        self,
        scores_shape: tuple[int | None, ...],
        triangles_shape: tuple[int | None, ...],
        mask_shape: object = None,
    ) -> tuple[int | None, ...]:
        """Shape of the estimates."""
        return (scores_shape[0], scores_shape[2])


def _lower_triangle(entries: tf.Tensor, n: int) -> tf.Tensor:
    """Triangles `[..., n, n]` with a positive diagonal from `[..., n (n + 1) / 2]` entries."""
    columns = iter(tf.unstack(entries, axis=-1))
    rows = []
    for row in range(n):
        left = [next(columns) for _ in range(row)]
        diagonal = tf.nn.softplus(next(columns))
        right = [tf.zeros_like(diagonal)] * (n - row - 1)
        rows.append(tf.stack([*left, diagonal, *right], axis=-1))
    return tf.stack(rows, axis=-2)
