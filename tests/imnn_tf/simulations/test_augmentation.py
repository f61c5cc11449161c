"""Symmetries of the training simulations."""

import keras
import numpy as np
import pytest
import reference
import scipy.stats
import tensorflow as tf
from gradients import objective_of

from imnn_tf import IMNN
from imnn_tf.fit.objective import Objective
from imnn_tf.fit.passes import Summariser
from imnn_tf.fit.replicas import Replicas
from imnn_tf.networks import field_network
from imnn_tf.regularisation import Regularisation
from imnn_tf.simulations import SetArguments, SimulationOptions, open_sets
from imnn_tf.simulations.augmentation import (
    Augmentation,
    Draws,
    axes_of_space,
    checked_symmetries,
)
from imnn_tf.simulations.fiducial import FiducialPoint
from imnn_tf.simulations.sources.cache import Cache

SIZE, N_S, N_D = 6, 20, 8
EVERYTHING = "shift, flip, rotate"
STEP = np.array([0.1, 0.2])


def transformed(simulation, shift, flip, order, n_axes):
    """One simulation shifted, flipped and with its axes in another order, by NumPy."""
    axes = tuple(range(n_axes))
    rolled = np.roll(simulation, tuple(shift), axes)
    flipped = np.flip(rolled, tuple(np.flatnonzero(flip)))
    return flipped.transpose(*order, *range(n_axes, simulation.ndim))


def drawn(augmentation, seed=(3, 4)):
    return augmentation.draws(tf.constant(seed))


def stored(seed=0, shape=(SIZE, SIZE), n_s=N_S):
    """Fields of white noise with the mean and the variance as parameters."""
    rng = np.random.default_rng(seed)
    noise, pairs = rng.normal(size=(n_s, *shape)), rng.normal(size=(N_D, *shape))
    sides = [
        [pairs + STEP[0] * sign, pairs * np.sqrt(1 + 2 * STEP[1] * sign)] for sign in (-0.5, 0.5)
    ]
    return noise.astype("float32"), np.moveaxis(np.array(sides, "float32"), 2, 0)


def opened(simulations=None, *, validation=(None, None), simulator=None, step=STEP, **options):
    point = FiducialPoint(np.array([0.0, 1.0]), step, tf.float32)
    options["augment"] = checked_symmetries(options.get("augment", EVERYTHING))
    return open_sets(
        SimulationOptions(point, **options),
        SetArguments(*(simulations or (None, None))),
        SetArguments(*validation),
        simulator,
    )


def rows_of(simulations, update):
    batches = simulations.batches(update)
    return [batches.at(index) for index in range(simulations.n_batches)]


def model_of(shape=(SIZE, SIZE), **options):
    return field_network(shape, 2, filters=(4,), stem_width=3, seed=1, **options)


def imnn_of(simulations, **options):
    given = {"augment": EVERYTHING, "verbose": False, "model": model_of(), **options}
    return IMNN(
        θ_fid=[0.0, 1.0],
        δθ=STEP,
        fiducial=simulations[0],
        derivative=simulations[1],
        **given,
    )


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(
    ("augment", "shape", "n_axes"),
    [
        (EVERYTHING, (7, 7), 2),
        (["flip", "rotate"], (6, 6, 3), 2),
        ("shift,flip", (9,), 1),
        ("flip", (9, 2), 1),
        (EVERYTHING, (5, 5, 5), 3),
        ("rotate", (4, 4, 4, 2), 3),
        ({"rotate": (0, 2), "shift": 1}, (4, 5, 4), 3),
        ({"flip": 1}, (3, 4, 2), 2),
    ],
)
def test_the_transformations_are_those_of_numpy(augment, shape, n_axes, jit_compile):
    n, rng = 40, np.random.default_rng(0)
    augmentation = Augmentation(checked_symmetries(augment), shape, n, seed=1)
    draws, numbers = drawn(augmentation), tf.constant(rng.integers(n, size=30), tf.int32)
    rows = rng.normal(size=(30, *shape)), rng.normal(size=(30, *shape, 2)).astype("float32")
    got = tf.function(augmentation, jit_compile=jit_compile)(rows, draws, numbers)
    for part, new in zip(rows, got, strict=True):
        for row, simulation, number in zip(new, part, numbers.numpy(), strict=True):
            order = augmentation.orders[draws.orders[number]]
            shift, flip = (each[number].numpy() for each in (draws.shifts, draws.flips))
            exact = transformed(simulation, shift, flip, order, n_axes)
            np.testing.assert_array_equal(row, exact)


def test_draws_of_zero_change_nothing():
    augmentation = Augmentation(checked_symmetries(EVERYTHING), (5, 5, 5), 4, seed=1)
    zeros = Draws(tf.zeros([4, 3], tf.int32), tf.zeros([4, 3], tf.int32), tf.zeros([4], tf.int32))
    data = np.random.default_rng(0).normal(size=(4, 5, 5, 5))
    np.testing.assert_array_equal(augmentation((data,), zeros, tf.range(4))[0], data)


@pytest.mark.parametrize(
    ("augment", "shape", "n_kinds"),
    [
        (EVERYTHING, (3, 3), 9 * 8),
        ("rotate", (4, 4), 8),
        ("rotate", (2, 2, 2, 1), 48),
        ("shift", (7, 2), 7),
        ("flip", (5, 5), 4),
    ],
)
def test_every_transformation_is_equally_likely(augment, shape, n_kinds):
    n = 200 * n_kinds
    augmentation = Augmentation(checked_symmetries(augment), shape, n, seed=2)
    pattern = np.arange(np.prod(shape)).reshape(1, *shape)
    new = augmentation((np.repeat(pattern, n, 0),), drawn(augmentation), tf.range(n))[0]
    _, counts = np.unique(new.numpy().reshape(n, -1), axis=0, return_counts=True)
    assert len(counts) == n_kinds
    # With a fixed seed: fails for one seed in ten thousand if the draws are uniform.
    assert ((counts - 200) ** 2 / 200).sum() < scipy.stats.chi2(n_kinds - 1).ppf(0.9999)


@pytest.mark.parametrize("at_once", [None, 7])
def test_the_members_of_a_derivative_are_transformed_alike(at_once):
    simulations = stored()
    fitted, _ = opened(simulations, at_once=at_once)
    plain, _ = opened(simulations, at_once=at_once, augment=None)
    for batch, old in zip(rows_of(fitted, 3), rows_of(plain, 3), strict=True):
        ends = np.cumsum(fitted.blocks)[:-1]
        blocks, before = (np.split(each.data.numpy(), ends) for each in (batch, old))
        assert not np.array_equal(blocks[1], before[1])
        # A parameter that is added to every pixel, or scales every pixel, does so afterwards too.
        np.testing.assert_allclose(blocks[3] - blocks[1], STEP[0], atol=1e-6)
        np.testing.assert_allclose(blocks[4] / blocks[2], np.sqrt(1.2 / 0.8), rtol=1e-5)
        for block, same in zip(blocks, before, strict=True):
            np.testing.assert_array_equal(*(np.sort(each.ravel()) for each in (block, same)))


def test_transformations_belong_to_the_update_and_the_number_of_the_simulation():
    simulations = stored()
    once, _ = opened(simulations)
    in_batches, _ = opened(simulations, at_once=7)
    streamed, _ = opened(simulations, at_once=7, cache=Cache(False))
    other_seed, _ = opened(simulations, seed=1)
    first, again, next_update, other = (
        rows_of(*arguments)[0].data[:N_S].numpy()
        for arguments in ((once, 1), (once, 1), (once, 2), (other_seed, 1))
    )
    np.testing.assert_array_equal(first, again)
    same = (first == next_update).all((1, 2)) | (first == other).all((1, 2))
    assert same.sum() <= 2  # one in 288 by chance
    for several in (in_batches, streamed):
        rows = np.concatenate([batch.data[:7] for batch in rows_of(several, 1)])
        np.testing.assert_array_equal(rows[:N_S], first)


def test_exact_derivatives_are_transformed_with_their_simulations():
    fiducial, _ = stored()
    derivative = np.stack([2 * fiducial, -fiducial], axis=-1)
    fitted, _ = opened((fiducial, derivative), step=None)
    batch = rows_of(fitted, 5)[0]
    assert not np.array_equal(batch.data, fiducial)
    np.testing.assert_array_equal(batch.tangents[..., 0], 2 * batch.data)
    np.testing.assert_array_equal(batch.tangents[..., 1], -batch.data)


def ramp(parameters, seed):
    """Fields that increase along their rows; the same field for every seed."""
    pattern = tf.reshape(tf.range(float(SIZE**2)), [1, SIZE, SIZE])
    return pattern * parameters[:, 1, None, None] + parameters[:, 0, None, None]


@pytest.mark.parametrize("step", [STEP, None])
def test_fields_of_a_simulator_are_transformed_but_not_those_of_its_validation_set(step):
    fitted, validation = opened(simulator=ramp, n_s=N_S, n_d=N_D, step=step)
    pattern = np.arange(SIZE**2, dtype="float32").reshape(SIZE, SIZE)
    assert (rows_of(validation, 0)[0].data[:N_S].numpy() == pattern).all()
    batch, later = (rows_of(fitted, update)[0] for update in (1, 2))
    assert len(np.unique(batch.data[:N_S].numpy(), axis=0)) > N_S // 2
    assert not np.array_equal(batch.data, later.data)
    if step is None:
        np.testing.assert_array_equal(batch.tangents[..., 1], batch.data)
        np.testing.assert_array_equal(batch.tangents[..., 0], np.ones_like(batch.data))
    else:
        blocks = np.split(batch.data.numpy(), np.cumsum(fitted.blocks)[:-1])
        np.testing.assert_allclose(blocks[3] - blocks[1], STEP[0], atol=1e-5)
        np.testing.assert_allclose(blocks[4] / 1.1, blocks[2] / 0.9, rtol=1e-6)
        np.testing.assert_allclose(blocks[2] / 0.9, blocks[0][:N_D], rtol=1e-6)


def test_validation_simulations_and_data_are_left_alone():
    simulations, others = stored(), stored(1)
    fitted, validation = opened(simulations, validation=others)
    np.testing.assert_array_equal(rows_of(validation, 3)[0].data[:N_S], others[0])
    np.testing.assert_array_equal(fitted.fiducial, simulations[0])
    model = model_of()
    imnn, plain = (
        imnn_of(
            simulations,
            model=model,
            augment=augment,
            validation_fiducial=others[0],
            validation_derivative=others[1],
        )
        for augment in (EVERYTHING, None)
    )
    np.testing.assert_array_equal(imnn.F, plain.F)
    np.testing.assert_array_equal(imnn.get_estimate(others[0]), plain.get_estimate(others[0]))
    np.testing.assert_array_equal(imnn.evaluate(*others, debias=False).fisher, plain.F)


def test_external_summaries_stay_those_of_their_simulations():
    fiducial, derivative = stored()
    external = fiducial.mean((1, 2))[:, None], derivative.mean((3, 4))[..., None]
    point = FiducialPoint(np.array([0.0, 1.0]), STEP, tf.float32)
    options = SimulationOptions(point, augment=checked_symmetries(EVERYTHING))
    arguments = SetArguments(fiducial, derivative, *external)
    fitted, _ = open_sets(options, arguments, SetArguments(None, None), None)
    batch = rows_of(fitted, 4)[0]
    means = tf.reduce_mean(batch.data, (1, 2))[:, None]
    np.testing.assert_allclose(batch.external, means, atol=1e-6)


@pytest.mark.parametrize("stateful", [False, True])
def test_a_map_fn_gets_what_is_transformed(stateful):
    """The function adds a ramp, which stands as it is if it is added last."""
    ramp = np.arange(SIZE**2, dtype="float32").reshape(SIZE, SIZE)
    noise = tf.Variable(0.0)

    def add_ramp(simulation):
        return simulation + ramp + (noise.assign_add(0.0) if stateful else 0.0)

    simulations = stored()
    alone, mapped = (opened(simulations, map_fn=map_fn)[0] for map_fn in (None, add_ramp))
    assert mapped.fixed(2) is mapped or stateful
    got = mapped.fixed(2).batches(2).at(0).data
    np.testing.assert_allclose(got, alone.batches(2).at(0).data + ramp, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"at_once": 7}, {"at_once": 7, "cache": False}])
def test_a_resumed_fit_is_bit_for_bit_one_of_that_length(options, tmp_path):
    simulations = stored()
    whole = imnn_of(simulations, **options)
    whole.fit(7, λ=1.0)
    folder = {"directory": tmp_path, "filename": "fit"}
    part = imnn_of(simulations, save=True, **folder, **options)
    part.fit(4, λ=1.0)
    resumed = imnn_of(simulations, load=True, **folder, **options)
    resumed.fit(3, λ=1.0)
    assert resumed.history["loss"] == whole.history["loss"]
    for got, exact in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, exact)


def test_a_fit_under_xla_sees_the_same_transformations():
    simulations = stored()
    losses = []
    for jit_compile in (False, True):
        imnn = imnn_of(simulations, model=model_of())
        imnn.fit(5, λ=1.0, jit_compile=jit_compile)
        losses.append(imnn.history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)


@pytest.mark.parametrize("cache", ["memory", False])
def test_replicas_see_the_same_transformations(mirrored, cache):
    fitted, _ = opened(stored(), at_once=5, cache=Cache(cache))
    alone = objective_of(model_of()).gradient(fitted, 3)
    with mirrored.scope():
        model = model_of()
    replicated = Objective(Summariser(model, 2, replicas=Replicas(mirrored)), Regularisation())
    together = tf.function(lambda: replicated.gradient(fitted, 3), autograph=False)()
    np.testing.assert_allclose(together.loss.total, alone.loss.total, rtol=1e-4)
    for got, exact in zip(together.gradients, alone.gradients, strict=True):
        np.testing.assert_allclose(got, exact, rtol=1e-3, atol=1e-4)


def test_no_simulation_is_transformed_on_its_own():
    fitted, _ = opened(stored())
    traced = tf.function(lambda update: fitted.batches(update).at(0).data, autograph=False)
    graph = traced.get_concrete_function(tf.TensorSpec([], tf.int32)).graph
    assert not any("While" in op.type or "Map" in op.type for op in graph.get_operations())


def test_shifts_make_a_few_stored_fields_worth_more():
    """Without symmetries a dense layer learns 60 fields by heart."""
    simulations, fresh = stored(n_s=60), stored(7, n_s=2000)
    kept = []
    for augment in (None, EVERYTHING):
        model = keras.Sequential(
            [
                keras.Input((SIZE, SIZE)),
                keras.layers.Flatten(),
                keras.layers.Dense(64, "gelu", kernel_initializer=keras.initializers.HeNormal(1)),
                keras.layers.Dense(2, kernel_initializer=keras.initializers.GlorotUniform(2)),
            ]
        )
        imnn = imnn_of(simulations, model=model, augment=augment)
        imnn.fit(200, λ=1.0)
        kept.append(float(imnn.evaluate(*fresh).log_det_fisher))
    # The gain was measured to be more than 1; the error of ln det F of 2,000 fields is 0.05.
    assert kept[1] > kept[0] + 0.5


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((9,), (0,)),
        ((9, 9), (0, 1)),
        ((9, 3), (0,)),
        ((9, 9, 1), (0, 1)),
        ((9, 12, 3), (0, 1)),
        ((9, 9, 9), (0, 1, 2)),
        ((9, 8, 7, 30), (0, 1, 2)),
    ],
)
def test_the_axes_of_space_are_read_off_the_shape(shape, axes):
    assert axes_of_space(shape) == axes


@pytest.mark.parametrize(
    ("augment", "shape", "error", "message"),
    [
        ("shift, turn", (6, 6), ValueError, "`augment` must be made of .* got 'turn'"),
        ("", (6, 6), ValueError, "`augment` must be made of .* got ''"),
        ([], (6, 6), ValueError, "`augment` must name at least one"),
        ([1], (6, 6), ValueError, "`augment` must be made of .* got 1"),
        (3, (6, 6), TypeError, "`augment` must be a string of names"),
        ({"shift": 1.5}, (6, 6), TypeError, r"`augment\['shift'\]` must be an integer"),
        ({"shift": 2}, (6, 6), ValueError, r"`augment\['shift'\]` must hold different axes"),
        ({"flip": (0, 0)}, (6, 6), ValueError, r"`augment\['flip'\]` must hold different axes"),
        ({"flip": ()}, (6, 6), ValueError, r"`augment\['flip'\]` must hold different axes"),
        ({"flip": -1}, (6, 6), ValueError, r"`augment\['flip'\]` must be at least 0"),
        ("rotate", (6, 8, 3), ValueError, r"of equal length to 'rotate'.* lengths \[6, 8\]"),
        ("rotate", (6,), ValueError, r"two or more axes .* got lengths \[6\]"),
        ("shift", (6, 8), ValueError, "does not tell whether its last axis holds channels"),
        ("shift", (2,) * 5, ValueError, "do not have one to four axes"),
    ],
)
def test_what_cannot_be_done_is_named(augment, shape, error, message):
    with pytest.raises(error, match=message):
        imnn_of(stored(shape=shape), augment=augment, model=reference.dense_model())
