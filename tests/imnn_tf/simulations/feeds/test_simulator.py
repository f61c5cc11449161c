"""Simulations made by a simulator at every update."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf

from imnn_tf import IMNN
from imnn_tf.simulations import SetArguments, SimulationOptions, open_sets
from imnn_tf.simulations.fiducial import FiducialPoint


def in_tensorflow(parameters, seed):
    noise = tf.random.stateless_normal([tf.shape(parameters)[0], 10], seed, dtype=parameters.dtype)
    return parameters[:, :1] + tf.sqrt(parameters[:, 1:]) * noise


def in_numpy(parameters, seed):
    noise = np.random.default_rng(seed).normal(size=(len(parameters), 10))
    return reference.simulate(np.asarray(parameters), noise)


def without_parameters(parameters, seed):
    return tf.random.stateless_normal([tf.shape(parameters)[0], 3], seed)


def source(simulator=in_tensorflow, delta_theta=reference.DELTA_THETA, **changes):
    return sources(simulator, delta_theta, **changes)[0]


def sources(
    simulator=in_tensorflow, delta_theta=reference.DELTA_THETA, at=reference.THETA_FID, **changes
):
    """Training simulations, held-out simulations, and the fiducial point of both."""
    settings = {"n_s": 12, "n_d": 8, "seed": 3, "dtype": tf.float64, **changes}
    point = FiducialPoint(at, delta_theta, settings["dtype"])
    nothing = SetArguments(None, None)
    return *open_sets(SimulationOptions(point, **settings), nothing, nothing, simulator), point


@pytest.mark.parametrize("simulator", [in_tensorflow, in_numpy])
def test_members_of_a_derivative_share_their_noise(simulator):
    simulations = source(simulator)
    batch = simulations.batches(5).at(0)
    fiducial, *varied = tf.split(batch.data, simulations.blocks)
    noise = fiducial[:8]
    for got, (mean, variance) in zip(
        varied, [(-0.05, 1), (0, 0.95), (0.05, 1), (0, 1.05)], strict=True
    ):
        # TensorFlow's stateless numbers depend on the number of rows; NumPy's do not.
        noise = (varied[0] + 0.05) if simulator is in_tensorflow else fiducial[:8]
        np.testing.assert_allclose(got, mean + np.sqrt(variance) * noise, rtol=1e-12)
    np.testing.assert_array_equal(batch.fiducial_weights, [1] * 12)
    np.testing.assert_allclose(batch.slope_weights[:8], [[-1 / 0.8, 0]] * 8)
    np.testing.assert_allclose(batch.slope_weights[24:], [[0, 1 / 0.8]] * 8)


def test_a_simulator_may_work_in_place():
    def in_place(parameters, seed):
        data = in_numpy(parameters, seed)
        parameters += 100
        seed += 1
        return data

    for update in (0, 1, 1):
        expected = source(in_numpy).batches(update).at(0).data
        np.testing.assert_array_equal(source(in_place).batches(update).at(0).data, expected)


def test_simulations_must_be_real():
    with pytest.raises(TypeError, match="`simulator` must return real numbers, got complex128"):
        source(
            lambda parameters, seed: tf.complex(
                in_tensorflow(parameters, seed), 1.0 + 0 * parameters[:, :1]
            )
        )
    with pytest.raises((TypeError, tf.errors.InvalidArgumentError), match="must hold real numbers"):
        source(lambda parameters, seed: in_numpy(parameters, seed) + 1j)


@pytest.mark.parametrize("simulator", [in_tensorflow, in_numpy])
def test_noise_differs_between_updates_batches_and_seeds_and_is_repeatable(simulator):
    def data(seed=3, update=0, index=0):
        return source(simulator, seed=seed, at_once=6).batches(update).at(index).data.numpy()

    first = data()
    np.testing.assert_array_equal(data(), first)
    for other in (data(seed=4), data(seed=3 + 2**31), data(update=1), data(index=1)):
        assert not np.isin(other, first).any()


def test_exact_derivatives_are_those_of_the_simulator():
    batch = source(delta_theta=None, n_d=5).batches(0).at(0)
    exact = np.stack([np.ones_like(batch.data), batch.data / 2], axis=-1)
    np.testing.assert_allclose(batch.tangents, exact)
    np.testing.assert_allclose(batch.slope_weights, [[1 / 5] * 2] * 5 + [[0] * 2] * 7)


def all_batches(simulations):
    return [simulations.batches().at(index) for index in range(simulations.n_batches)]


@pytest.mark.parametrize("delta_theta", [None, reference.DELTA_THETA])
@pytest.mark.parametrize("at_once", [None, 5])
def test_no_update_sees_a_held_out_simulation(delta_theta, at_once):
    simulations, held_out, _ = sources(delta_theta=delta_theta, at_once=at_once)
    batches = all_batches(held_out)
    assert sum(batch.fiducial_weights.numpy().sum() for batch in batches) == 12
    for batch in batches:
        assert not np.isin(batch.data, simulations.batches(0).at(0).data).any()
        if delta_theta is not None:
            _, below, _, above, _ = tf.split(batch.data, held_out.blocks)
            np.testing.assert_allclose(above - below, 0.1)
    if delta_theta is not None:
        first = held_out.blocks[0]
        slope = sum(tf.transpose(batch.slope_weights) @ batch.data[first:] for batch in batches)
        # The first parameter is the mean, so the slope of the mean is one.
        np.testing.assert_allclose(slope[0], np.ones(10))


@pytest.mark.parametrize(
    ("simulator", "delta_theta"),
    [
        (in_tensorflow, reference.DELTA_THETA),
        (in_tensorflow, None),
        (in_numpy, reference.DELTA_THETA),
    ],
)
def test_a_moved_simulator_is_one_made_at_the_new_point_and_is_not_traced_again(
    simulator, delta_theta
):
    there = np.array([0.7, 2.0])
    moved, _, point = sources(simulator, delta_theta)
    made, _, _ = sources(simulator, delta_theta, there)
    traced = tf.function(lambda: moved.batches(5).at(0).data, autograph=False)
    before = traced().numpy()
    point.move(there)
    np.testing.assert_array_equal(traced(), made.batches(5).at(0).data)
    assert traced.experimental_get_tracing_count() == 1
    # The noise of an update does not depend on the fiducial point.
    np.testing.assert_allclose(traced()[:12], 0.7 + np.sqrt(2) * before[:12])
    if delta_theta is None:
        np.testing.assert_allclose(moved.batches(5).at(0).tangents[..., 0], np.ones((12, 10)))


@pytest.mark.parametrize("at_once", [None, 5])
def test_held_out_simulations_move_along_and_get_new_noise(at_once):
    _, held_out, point = sources(at_once=at_once)
    traced = tf.function(lambda k: held_out.batches().at(k).data, autograph=False)
    before = traced(tf.constant(0)).numpy()
    point.move(np.array([50.0, 1.0]))
    after = traced(tf.constant(0)).numpy()
    assert traced.experimental_get_tracing_count() == 1
    assert abs(after - 50).max() < 6
    assert not np.isin(np.round(after - 50, 9), np.round(before, 9)).any()
    assert point.moves == 1


def test_the_point_stays_if_simulations_at_the_new_one_are_not_finite():
    simulations, held_out, point = sources()
    before = [all_batches(held_out)[0].data.numpy(), simulations.batches(1).at(0).data.numpy()]
    with pytest.raises(ValueError, match=r"must return finite simulations.* θ_fid = \[0.0, 0.01\]"):
        point.move(np.array([0.0, 0.01]))
    np.testing.assert_array_equal(all_batches(held_out)[0].data, before[0])
    np.testing.assert_array_equal(simulations.batches(1).at(0).data, before[1])
    np.testing.assert_array_equal(point.theta, reference.THETA_FID)
    assert point.moves == 0


def scaled_with_noise(simulation, seed):
    return 3 * simulation + tf.random.stateless_normal([10], seed, dtype=tf.float64)


@pytest.mark.parametrize("simulator", [in_tensorflow, in_numpy])
@pytest.mark.parametrize("at_once", [None, 5])
def test_a_map_fn_is_applied_with_the_same_noise_to_the_members_of_a_derivative(simulator, at_once):
    plain = source(simulator, at_once=at_once)
    mapped = source(simulator, at_once=at_once, map_fn=scaled_with_noise)
    draws = []
    for index in range(plain.n_batches):
        noise = mapped.batches(4).at(index).data - 3 * plain.batches(4).at(index).data
        blocks = tf.split(noise, plain.blocks)
        for block in blocks[1:]:
            np.testing.assert_allclose(block, blocks[0][: len(block)], atol=1e-12)
        draws.append(blocks[0])
    draws = np.concatenate(draws)
    assert len(np.unique(draws.round(9))) == draws.size
    # The standard deviation of 120 standard normal numbers is 1 ± 0.065.
    np.testing.assert_allclose(draws.std(), 1, atol=0.26)
    np.testing.assert_array_equal(mapped.batches(4).at(0).data, mapped.batches(4).at(0).data)
    assert not np.equal(mapped.batches(4).at(0).data, mapped.batches(5).at(0).data).any()


def test_a_map_fn_is_differentiated_through():
    plain = source(delta_theta=None).batches(0).at(0)
    mapped = source(delta_theta=None, map_fn=tf.square).batches(0).at(0)
    np.testing.assert_allclose(mapped.data, plain.data**2)
    np.testing.assert_allclose(mapped.tangents, 2 * plain.data[..., None] * plain.tangents)


def imnn_of(simulator, *, n_s=200, **changes):
    settings = {
        "θ_fid": reference.THETA_FID,
        "δθ": reference.DELTA_THETA,
        "n_s": n_s,
        "simulator": simulator,
        "model": reference.dense_model(width=32),
        "optimiser": keras.optimizers.Adam(0.01),
        "verbose": False,
        **changes,
    }
    return IMNN(**settings)


@pytest.mark.parametrize(
    ("simulator", "delta_theta"),
    [
        (in_tensorflow, reference.DELTA_THETA),
        (in_tensorflow, None),
        (in_numpy, reference.DELTA_THETA),
    ],
)
def test_two_fits_with_a_simulator_are_one_long_fit(simulator, delta_theta):
    whole, parts = (imnn_of(simulator, δθ=delta_theta) for _ in range(2))
    whole.fit(30)
    parts.fit(11)
    parts.fit(19, steps_per_execution=4)
    assert whole.history["loss"] == parts.history["loss"]
    assert whole.history["val_det_F"][-1] > 10 * whole.history["val_det_F"][0]
    assert whole.input_shape == (10,)
    assert whole.n_d == 200
    assert whole.data is None


def test_batches_of_a_simulator_are_summed():
    def simulator(parameters, seed):
        # Every batch has the same simulations, so two batches must give the covariance of one.
        del seed
        noise = tf.tile(tf.constant(np.random.default_rng(0).normal(size=(1, 10))), [6, 1])
        noise += tf.range(6, dtype=tf.float64)[:, None] ** 2
        return parameters[:, :1] + tf.sqrt(parameters[:, 1:]) * noise[: tf.shape(parameters)[0]]

    model = reference.dense_model(width=8, dtype="float64")
    given = {"dtype": tf.float64, "model": model, "n_s": 12, "at_once": 6}
    imnn = imnn_of(simulator, **given)
    half = imnn_of(simulator, **{**given, "n_s": 6})
    x = np.array(imnn.model(half._training.batches(0).at(0).data[:6]))
    np.testing.assert_allclose(imnn.C, np.cov(np.tile(x, (2, 1)), rowvar=False))
    np.testing.assert_allclose(imnn.dμ_dθ, half.dμ_dθ)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n_s": None}, TypeError, "`n_s` must be an integer, got None"),
        ({"simulator": 3}, TypeError, "`simulator` must be callable"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0"),
        ({"fiducial": np.zeros((5, 10))}, ValueError, "left out where a `simulator` is given"),
        (
            {"map_fn": lambda simulation: simulation + tf.random.normal([10])},
            ValueError,
            "`map_fn` must give the same whenever .* where a `simulator` is given",
        ),
        ({"δθ": None, "simulator": in_numpy}, ValueError, "`δθ` must be given for a `simulator`"),
        (
            {"simulator": lambda parameters, seed: tf.reduce_sum(parameters)},
            ValueError,
            r"`simulator` must return a simulation for each row of parameters, .* got \(\)",
        ),
        (
            {"δθ": None, "simulator": without_parameters},
            ValueError,
            "`simulator` must be differentiable TensorFlow code",
        ),
    ],
)
def test_bad_arguments_are_named(changes, error, message):
    with pytest.raises(error, match=message):
        imnn_of(**{"simulator": in_tensorflow, **changes})


def test_an_error_in_the_simulator_is_raised():
    def failing(parameters, seed):
        raise RuntimeError("the simulator's own")

    with pytest.raises((RuntimeError, tf.errors.OpError), match="the simulator's own"):
        imnn_of(failing)
