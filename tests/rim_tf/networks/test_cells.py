import keras
import numpy as np
import pytest
import tensorflow as tf

from rim_tf import ConvGRUCell, GRUBlock

SIZES = {0: (), 1: (7,), 2: (5, 6), 3: (3, 4, 5)}
WRAPS = {"eager": lambda f: f, "graph": tf.function}
MODES = {"zero": "constant", "reflect": "reflect", "periodic": "wrap"}


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def convolve(x, kernel, mode):
    """Correlation of every position's neighbourhood with the kernel, in NumPy."""
    rank = x.ndim - 2
    if rank == 0:
        return x @ kernel
    half = kernel.shape[0] // 2
    padded = np.pad(x, [(0, 0), *[(half, half)] * rank, (0, 0)], mode=mode)
    out = 0.0
    for shift in np.ndindex(*kernel.shape[:rank]):
        window = tuple(slice(s, s + n) for s, n in zip(shift, x.shape[1:-1], strict=True))
        out = out + padded[(slice(None), *window)] @ kernel[shift]
    return out


def reference_step(cell, x, h, mode):
    """The equations in the class's docstring."""
    wx = convolve(x, cell.of_input.kernel.numpy(), mode) + cell.of_input.bias.numpy()
    uh = convolve(h, cell.of_state.kernel.numpy(), mode)
    wz, wr, wa = np.split(wx, 3, -1)
    n = cell.units
    z, r = sigmoid(wz + uh[..., :n]), sigmoid(wr + uh[..., n : 2 * n])
    if cell.reset_after:
        a = np.tanh(wa + r * (uh[..., 2 * n :] + cell.candidate_bias.numpy()))
    else:
        a = np.tanh(wa + convolve(r * h, cell.of_reset.kernel.numpy(), mode))
    return z * h + (1 - z) * a


def randomize(layer, seed):
    random = np.random.default_rng(seed)
    for variable in layer.variables:
        variable.assign(random.normal(scale=0.4, size=variable.shape))


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("padding", MODES)
@pytest.mark.parametrize("rank", SIZES)
def test_cell_is_its_equations(wrap, reset_after, padding, rank):
    random = np.random.default_rng(rank)
    cell = ConvGRUCell(4, 3, rank=rank, padding=padding, reset_after=reset_after, dtype="float64")
    x = random.normal(size=(2, *SIZES[rank], 3))
    h = random.normal(size=(2, *SIZES[rank], 4))
    cell(x, h)
    randomize(cell, 5)
    new = wrap(lambda x, h: cell(x, h))(tf.constant(x), tf.constant(h))
    np.testing.assert_allclose(new, reference_step(cell, x, h, MODES[padding]), rtol=1e-11)


@pytest.mark.parametrize("reset_after", [True, False])
def test_cell_without_axes_is_keras_grucell(reset_after):
    random = np.random.default_rng(0)
    x, h = random.normal(size=(3, 5)), random.normal(size=(3, 4))
    cell = ConvGRUCell(4, rank=0, reset_after=reset_after, dtype="float64")
    theirs = keras.layers.GRUCell(4, reset_after=reset_after, dtype="float64")
    cell(x, h)
    theirs(x, h)
    randomize(cell, 1)
    theirs.kernel.assign(cell.of_input.kernel)
    bias = cell.of_input.bias.numpy()
    if reset_after:
        theirs.recurrent_kernel.assign(cell.of_state.kernel)
        second = np.concatenate([np.zeros(8), cell.candidate_bias.numpy()])
        theirs.bias.assign(np.stack([bias, second]))
    else:
        recurrent = [cell.of_state.kernel.numpy(), cell.of_reset.kernel.numpy()]
        theirs.recurrent_kernel.assign(np.concatenate(recurrent, -1))
        theirs.bias.assign(bias)
    np.testing.assert_allclose(cell(x, h), theirs(x, h)[0], rtol=1e-11)


@pytest.mark.parametrize("rank", SIZES)
def test_block_is_its_equations_and_moves_both_states(rank):
    random = np.random.default_rng(rank)
    block = GRUBlock(6, 4, 3, rank=rank, conv_kernel_size=5, seed=rank, dtype="float64")
    x = random.normal(size=(2, *SIZES[rank], 2))
    state = block.initial_state(2, SIZES[rank])
    for _ in range(3):
        out, new = block(x, state)
        h1 = reference_step(block.first, x, np.asarray(state[0]), "constant")
        between = np.tanh(convolve(h1, block.between.kernel.numpy(), "constant"))
        h2 = reference_step(block.second, between, np.asarray(state[1]), "constant")
        np.testing.assert_allclose(new[0], h1, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(new[1], h2, rtol=1e-10, atol=1e-14)
        behind = convolve(h2, block.behind.kernel.numpy(), "constant")
        np.testing.assert_allclose(out, behind, rtol=1e-10, atol=1e-14)
        for before, after in zip(state, new, strict=True):
            assert np.all(np.asarray(before) != np.asarray(after))
        state = new


def test_seed_decides_the_weights_and_each_tensor_has_its_own():
    first, again, other = (GRUBlock(8, 4, 3, rank=1, seed=seed) for seed in (1, 1, 2))
    for block in (first, again, other):
        block.build((None, None, 4))
    for a, b, c in zip(first.variables, again.variables, other.variables, strict=True):
        np.testing.assert_array_equal(a, b)
        if "bias" not in a.name:
            assert not np.array_equal(a, c)
    np.testing.assert_array_equal(first.first.of_state.kernel.shape, (3, 4, 12))
    assert not np.array_equal(first.first.of_state.kernel, first.second.of_state.kernel)


@pytest.mark.parametrize(
    "layer",
    [
        ConvGRUCell(4, 5, rank=2, padding="periodic", reset_after=False, seed=3),
        GRUBlock(4, 3, 5, rank=0, conv_kernel_size=7, padding="reflect", seed=3),
    ],
    ids=["cell", "block"],
)
def test_layers_round_trip(layer):
    stored = keras.saving.serialize_keras_object(layer)
    assert keras.saving.deserialize_keras_object(stored).get_config() == layer.get_config()


def test_a_keras_model_with_a_cell_in_it_survives_a_file(tmp_path):
    x, state = keras.Input((7, 2)), keras.Input((7, 3))
    model = keras.Model([x, state], ConvGRUCell(3, rank=1)(x, state))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    random = np.random.default_rng(0)
    data = [random.normal(size=(2, 7, n)).astype("float32") for n in (2, 3)]
    np.testing.assert_array_equal(again(data), model(data))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="`units` must be even, half for each state, got 3"):
        GRUBlock(3, 2, rank=1)
    with pytest.raises(ValueError, match="`units` must be at least 1, got 0"):
        ConvGRUCell(0, rank=1)
    with pytest.raises(ValueError, match="`seed` must be at least 0, got -1"):
        ConvGRUCell(1, rank=1, seed=-1)
