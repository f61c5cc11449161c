"""Resampling by two with a fixed smoothing filter that also mixes the channels."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from imnn_tf.utils import checks
from rim_tf.networks.layers import ConfiguredLayer, Convolution, Size, TransposedConvolution


class _Smoothing(ConfiguredLayer):
    """What the two resamplers share: a kernel of ones by one, smoothed by `fir_kernel`."""

    def __init__(self, filters: int, fir_kernel: Sequence[float], *, rank: int, **kwargs: Any):
        self.fir_kernel = check_fir_kernel("fir_kernel", fir_kernel)
        super().__init__(filters, len(self.fir_kernel), **{"strides": 2, **kwargs}, rank=rank)

    def _smoothed(self, kernel: tf.Tensor, gain: float) -> tf.Tensor:
        """The outer product of the filter along all axes and a kernel `[1, ..., in, out]`."""
        taps = gain * np.asarray(self.fir_kernel) / np.sum(self.fir_kernel)
        smoothing = np.ones(())
        for _ in range(self.rank):
            smoothing = np.multiply.outer(smoothing, taps)
        return tf.constant(smoothing[..., None, None], kernel.dtype) * kernel

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        config = super().get_config()
        del config["kernel_size"]  # it is the length of fir_kernel, and no argument here
        return config


@keras.saving.register_keras_serializable("rim_tf")
class Downsample(_Smoothing, Convolution):
    """Smooths with `fir_kernel` along every axis, keeps every second entry, mixes channels.

    Args:
        filters: The number of channels of the output.
        fir_kernel: The filter along each axis. It is divided by its sum.
        rank: The number of spatial axes, 1 to 3.
        **kwargs: Other arguments of `Convolution`.

    Call arguments:
        x: `[batch, *sizes, channels]`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or the sum of `fir_kernel` is not positive.

    References:
        Zhang (2019), arXiv:1904.11486, section 3.
    """

    def _kernel_shape(self, channels: int | None) -> tuple[int | None, ...]:
        return (1,) * self.rank + (channels, self.filters)

    def _linear(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return super()._linear(x, self._smoothed(kernel, 1.0))


@keras.saving.register_keras_serializable("rim_tf")
class Upsample(_Smoothing, TransposedConvolution):
    """Puts zeros between the entries, smooths with `fir_kernel`, mixes channels.

    Args:
        filters: The number of channels of the output.
        fir_kernel: The filter along each axis. It is scaled so that a constant stays constant.
        rank: The number of spatial axes, 1 to 3.
        **kwargs: Other arguments of `TransposedConvolution`.

    Call arguments:
        x: `[batch, *ceil(sizes / 2), channels]`.
        sizes: The spatial sizes of the output.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or the sum of `fir_kernel` is not positive.
    """

    def _kernel_shape(self, channels: int | None) -> tuple[int | None, ...]:
        return (1,) * self.rank + (self.filters, channels)

    def _transpose(self, x: tf.Tensor, kernel: tf.Tensor, sizes: Sequence[Size]) -> tf.Tensor:
        # Along each axis only one entry in `strides` is not zero: the gain makes up for the rest.
        return super()._transpose(x, self._smoothed(kernel, self.strides), sizes)


def check_fir_kernel(name: str, value: Any) -> tuple[float, ...]:
    """Checks a smoothing filter.

    Args:
        name: The name of the argument, for error messages.
        value: Real numbers with a positive sum, `[taps]`.

    Raises:
        TypeError: If `value` does not hold real numbers.
        ValueError: If it is empty or not finite, or its sum is not positive.
    """
    taps = checks.array(name, value, shape=(None,), dtype=np.float64)
    if taps.size == 0 or taps.sum() <= 0:
        raise ValueError(f"`{name}` must have a positive sum, got {value!r}.")
    return tuple(taps.tolist())
