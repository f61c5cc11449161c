import keras
import numpy as np
import pytest
import tensorflow as tf

from rim_tf.networks.layers import Convolution, TransposedConvolution, pad_axis, same_padding
from rim_tf.networks.resampling import Downsample, Upsample

MODES = {"zero": "constant", "reflect": "reflect", "periodic": "wrap"}
SIZES = {0: (), 1: (7,), 2: (5, 8), 3: (3, 4, 5)}


@pytest.mark.parametrize("padding", MODES)
@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 2), (4, 3), (11, 9)])
def test_padding_is_numpys(padding, before, after):
    x = np.random.default_rng(0).normal(size=(2, 4, 3))
    padded = pad_axis(tf.constant(x), 1, before, after, padding)
    expected = np.pad(x, [(0, 0), (before, after), (0, 0)], mode=MODES[padding])
    np.testing.assert_array_equal(padded, expected)


def test_reflecting_a_single_entry_repeats_it():
    padded = pad_axis(tf.constant([[5.0]]), 1, 2, 1, "reflect")
    np.testing.assert_array_equal(padded, [[5.0] * 4])


def reference_convolution(x, kernel, stride, mode):
    """The definition, entry by entry."""
    rank = x.ndim - 2
    size = kernel.shape[0]
    pads = [same_padding(n, size, stride) for n in x.shape[1:-1]]
    padded = np.pad(x, [(0, 0), *pads, (0, 0)], mode=mode)
    out = np.zeros((len(x), *[-(-n // stride) for n in x.shape[1:-1]], kernel.shape[-1]))
    for index in np.ndindex(*out.shape[1:-1]):
        window = tuple(slice(i * stride, i * stride + size) for i in index)
        patch = padded[(slice(None), *window)]
        out[(slice(None), *index)] = np.tensordot(patch, kernel, axes=rank + 1)
    return out


@pytest.mark.parametrize("padding", MODES)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_is_its_definition(padding, rank, stride):
    x = np.random.default_rng(rank).normal(size=(2, *SIZES[rank], 3))
    layer = Convolution(4, 3, rank=rank, strides=stride, padding=padding, dtype="float64")
    y = layer(x)
    expected = reference_convolution(x, layer.kernel.numpy(), stride, MODES[padding])
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


def test_convolution_without_axes_is_dense():
    x = np.random.default_rng(0).normal(size=(5, 3))
    layer = Convolution(2, rank=0, dtype="float64", activation="tanh")
    y = layer(x)
    np.testing.assert_allclose(y, np.tanh(x @ layer.kernel.numpy()), rtol=1e-12)


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
@pytest.mark.parametrize("kernel_size", [2, 3, 5])
def test_transposed_convolution_is_the_adjoint(rank, kernel_size):
    """With zeros or periodic padding `<conv(x), y> = <x, conv^T(y)>`."""
    random = np.random.default_rng(3)
    for padding in ("zero", "periodic"):
        # A periodic grid is coarsened without seam only if two divides its sizes.
        sizes = SIZES[rank] if padding == "zero" else (4, 8, 6)[:rank]
        coarse = [-(-n // 2) for n in sizes]
        options = {"rank": rank, "strides": 2, "padding": padding, "dtype": "float64"}
        down = Convolution(4, kernel_size, use_bias=False, **options)
        up = TransposedConvolution(3, kernel_size, use_bias=False, **options)
        x = random.normal(size=(2, *sizes, 3))
        y = random.normal(size=(2, *coarse, 4))
        forward, backward = down(x), None
        up.build(y.shape)
        up.kernel.assign(down.kernel)
        backward = up(y, sizes=sizes)
        assert backward.shape == x.shape
        np.testing.assert_allclose(
            np.vdot(forward, y), np.vdot(x, backward), rtol=1e-10, atol=1e-10
        )


@pytest.mark.parametrize("shift", [2, -4])
def test_periodic_resampling_commutes_with_shifts(shift):
    x = np.random.default_rng(1).normal(size=(1, 12, 8, 2))
    options = {"rank": 2, "strides": 2, "padding": "periodic", "dtype": "float64"}
    down, up = Convolution(3, **options), TransposedConvolution(2, **options)
    there = up(down(x), sizes=(12, 8))
    shifted = up(down(np.roll(x, shift, (1, 2))), sizes=(12, 8))
    np.testing.assert_allclose(shifted, np.roll(there, shift, (1, 2)), atol=1e-12)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_smoothing_resamplers_keep_constants(rank):
    """Away from the edge a constant stays what it was, times the mixing of channels."""
    options = {"rank": rank, "padding": "periodic", "dtype": "float64", "use_bias": False}
    sizes = (8, 4, 6)[:rank]
    x = np.full((1, *sizes, 1), 3.0)
    down, up = Downsample(1, (1, 3, 3, 1), **options), Upsample(1, (1, 3, 3, 1), **options)
    down.build(x.shape)
    up.build(x.shape)
    for layer in (down, up):
        layer.kernel.assign(np.ones(layer.kernel.shape))
    coarse = down(x)
    np.testing.assert_allclose(coarse, np.full((1, *[n // 2 for n in sizes], 1), 3.0))
    np.testing.assert_allclose(up(coarse, sizes=sizes), x)


@pytest.mark.parametrize(
    "layer",
    [
        Convolution(3, 5, rank=2, strides=2, padding="periodic", activation="tanh"),
        TransposedConvolution(3, 5, rank=1, use_bias=False),
        Downsample(3, (1, 2, 1), rank=2),
        Upsample(3, (1, 2, 1), rank=2, padding="reflect"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_round_trip(layer):
    stored = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(stored)
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"filters": 0}, ValueError, "`filters` must be at least 1, got 0"),
        ({"kernel_size": 1.5}, TypeError, "`kernel_size` must be an integer, got 1.5"),
        ({"rank": 4}, ValueError, "`rank` must be at most 3, got 4"),
        ({"padding": "same"}, ValueError, "`padding` must be one of 'zero'"),
        ({"use_bias": 1}, TypeError, "`use_bias` must be True or False, got 1"),
    ],
)
def test_bad_arguments_are_named(change, error, words):
    with pytest.raises(error, match=words):
        Convolution(**{"filters": 2, "rank": 1, **change})


def test_wrong_number_of_axes_is_refused():
    with pytest.raises(ValueError, match="ndim"):
        Convolution(2, rank=2)(keras.ops.zeros((1, 4, 3)))


@pytest.mark.parametrize("kernel", [(), (1, -1), (0.0,)])
def test_smoothing_filter_needs_a_sum(kernel):
    with pytest.raises(ValueError, match="`fir_kernel` must have a positive sum"):
        Downsample(2, kernel, rank=1)
