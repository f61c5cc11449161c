"""Resampling by two with a fixed smoothing filter, mixing channels on the way."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from imnn_tf.utils import checks
from rim_tf.layers import Convolution, TransposedConvolution


def check_fir_kernel(name: str, value: Any) -> tuple[float, ...]:
    """A smoothing filter: real numbers whose sum is positive.

    Raises:
        TypeError: If it does not hold real numbers.
        ValueError: If it is empty, not finite, or sums to nothing positive.
    """
    taps = checks.array(name, value, shape=(None,), dtype=np.float64)
    if taps.size == 0 or taps.sum() <= 0:
        raise ValueError(f"`{name}` must have a positive sum, got {value!r}.")
    return tuple(taps.tolist())


@keras.saving.register_keras_serializable("rim_tf")
class Downsample(Convolution):
    """Smooths with `fir_kernel` along every axis, keeps every second entry, mixes channels.

    Args:
        filters: Channels of the output.
        fir_kernel: The filter along each axis; divided by its sum.
        rank: Number of spatial axes, 1 to 3.
        **kwargs: As for `Convolution`.
    """

    def __init__(self, filters: int, fir_kernel: Sequence[float], *, rank: int, **kwargs: Any):
        self.fir_kernel = check_fir_kernel("fir_kernel", fir_kernel)
        super().__init__(filters, len(self.fir_kernel), **{"strides": 2, **kwargs}, rank=rank)

    def _kernel_shape(self, channels: int | None) -> tuple[int | None, ...]:
        return (1,) * self.rank + (channels, self.filters)

    def _linear(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return super()._linear(x, _smoothing(self.fir_kernel, self.rank, 1.0, x) * kernel)

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        config = super().get_config()
        del config["kernel_size"]
        return {**config, "fir_kernel": self.fir_kernel}


@keras.saving.register_keras_serializable("rim_tf")
class Upsample(TransposedConvolution):
    """Puts zeros between the entries, smooths with `fir_kernel`, mixes channels.

    Args:
        filters: Channels of the output.
        fir_kernel: The filter along each axis; scaled so that a constant stays constant.
        rank: Number of spatial axes, 1 to 3.
        **kwargs: As for `Convolution`.
    """

    def __init__(self, filters: int, fir_kernel: Sequence[float], *, rank: int, **kwargs: Any):
        self.fir_kernel = check_fir_kernel("fir_kernel", fir_kernel)
        super().__init__(filters, len(self.fir_kernel), **{"strides": 2, **kwargs}, rank=rank)

    def _kernel_shape(self, channels: int | None) -> tuple[int | None, ...]:
        return (1,) * self.rank + (self.filters, channels)

    def _transpose(self, x: tf.Tensor, kernel: tf.Tensor, sizes: tuple[int, ...]) -> tf.Tensor:
        smoothing = _smoothing(self.fir_kernel, self.rank, self.strides, x)
        return super()._transpose(x, smoothing * kernel, sizes)

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        config = super().get_config()
        del config["kernel_size"]
        return {**config, "fir_kernel": self.fir_kernel}


def _smoothing(fir_kernel: Sequence[float], rank: int, gain: float, like: tf.Tensor) -> tf.Tensor:
    """The filter in all dimensions, with axes of length one for the channels."""
    taps = gain * np.asarray(fir_kernel) / np.sum(fir_kernel)
    kernel = np.ones(())
    for _ in range(rank):
        kernel = np.multiply.outer(kernel, taps)
    return tf.constant(kernel[..., None, None], like.dtype)
