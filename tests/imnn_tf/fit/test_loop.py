"""One update, and the compiled loop of updates."""

import gc
import weakref

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from gradients import MODELS, batch_normalised_model, objective_of, one_tape_gradient, plain_model
from tensorflow.python.framework.func_graph import FuncGraph

from imnn_tf import IMNN, information, regularisation
from imnn_tf.fit.loop import MEASURES, UpdateLoop
from imnn_tf.fit.snapshot import BestSnapshot, Snapshot

DTYPE = tf.float64


def source(seed=0, at_once=None, n_s=60, n_d=40, dtype=DTYPE):
    return reference.held(
        *reference.simulations(seed, n_s, n_d), reference.DELTA_THETA, dtype=dtype, at_once=at_once
    )


@pytest.mark.parametrize("at_once", [60, 20, 13, 1])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("name", MODELS)
def test_streamed_gradient_is_that_of_one_tape(name, compiled, at_once):
    if name == "normalised" and at_once == 1:
        at_once = 2  # one pair in a batch has no spread
    model, same = MODELS[name](), MODELS[name]()
    simulations = source(at_once=at_once)
    objective = objective_of(model)
    streamed = objective.streamed_gradient
    result = (tf.function(streamed, autograph=False) if compiled else streamed)(simulations)
    loss, gradients = one_tape_gradient(objective_of(same), simulations)
    np.testing.assert_allclose(result.loss.total, loss, rtol=1e-9)
    for got, exact in zip(result.gradients, gradients, strict=True):
        np.testing.assert_allclose(got, exact, rtol=1e-7, atol=1e-9)
    # Running averages and noise must have seen the data exactly once.
    for got, exact in zip(model.non_trainable_variables, same.non_trainable_variables, strict=True):
        np.testing.assert_allclose(got.numpy(), exact.numpy(), rtol=1e-12)


def test_whole_and_streamed_gradients_agree():
    objective = objective_of(plain_model(), "published")
    whole = objective.gradient(source())
    for at_once in (50, 7):
        streamed = objective.gradient(source(at_once=at_once))
        np.testing.assert_allclose(streamed.loss.total, whole.loss.total, rtol=1e-10)
        for got, exact in zip(streamed.gradients, whole.gradients, strict=True):
            np.testing.assert_allclose(got, exact, rtol=1e-8, atol=1e-10)


def test_gradient_is_the_finite_difference():
    model = plain_model()
    objective, simulations = objective_of(model), source(at_once=20)
    gradients = objective.gradient(simulations).gradients
    rng = np.random.default_rng(0)
    weights = model.get_weights()
    directions = [rng.normal(size=weight.shape) for weight in weights]
    losses = []
    for step in (1e-5, -1e-5):
        model.set_weights([w + step * d for w, d in zip(weights, directions, strict=True)])
        losses.append(objective.gradient(simulations).loss.total)
    numerical = (losses[0] - losses[1]) / 2e-5
    exact = sum(np.sum(g * d) for g, d in zip(gradients, directions, strict=True))
    np.testing.assert_allclose(exact, numerical, rtol=1e-6)


def test_the_gradient_of_unused_variables_is_zero():
    inputs = keras.Input((10,), dtype="float64")
    unused = keras.layers.Dense(3, dtype="float64", name="unused")(inputs)
    outputs = keras.layers.Dense(2, dtype="float64")(inputs) + 0 * keras.ops.stop_gradient(
        unused[:, :2]
    )
    model = keras.Model(inputs, outputs)
    gradients = objective_of(model).gradient(source()).gradients
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert np.any(gradient != 0) != ("unused" in variable.path)


def loop_of(model, *, validation=True, jit=False, freq=1, learning_rate=3e-3, capacity=50, at=None):
    optimiser = keras.optimizers.Adam(learning_rate)
    optimiser.build(model.trainable_variables)
    return UpdateLoop(
        objective_of(model),
        optimiser,
        source(0, at),
        source(1, at) if validation else None,
        validation_freq=freq,
        capacity=capacity,
        jit_compile=jit,
        best=BestSnapshot(model),
        finite=Snapshot(model),
    )


@pytest.mark.parametrize("name", MODELS)
def test_the_number_of_updates_in_a_call_does_not_change_them(name):
    results = []
    for calls in ([30], [1] * 30, [7, 20, 3]):
        model = MODELS[name]()
        loop, done = loop_of(model), 0
        rows = []
        for updates in calls:
            number, finite, records = loop.run(updates, done, 0, None)
            assert number == updates
            assert finite
            rows.append(records.validation)
            done += number
        results.append([np.concatenate(rows), *model.get_weights(), *loop.best.arrays()])
    for other in results[1:]:
        for got, exact in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(got, exact)


# Without dropout, because XLA draws different numbers from the same seed.
@pytest.mark.parametrize("at", [None, 20])
@pytest.mark.parametrize("model", [plain_model, batch_normalised_model])
def test_xla_and_graph_agree(model, at):
    tables = []
    for jit in (False, True):
        _, _, records = loop_of(model(), jit=jit, at=at).run(10, 0, 0, None)
        tables.append(records)
    for got, exact in zip(*tables, strict=True):
        np.testing.assert_allclose(got, exact, rtol=1e-6, atol=1e-8)


def test_records_are_of_the_weights_before_and_after_the_update():
    model = plain_model()
    loop = loop_of(model)
    objective = objective_of(model)
    before = information.fisher_information(objective.summariser.statistics(source(0)))
    _, _, records = loop.run(1, 0, 0, None)
    after = information.fisher_information(objective.summariser.statistics(source(1)))
    at = MEASURES.index("log_det_F")
    np.testing.assert_allclose(records.training[0, at], before.log_det_fisher)
    np.testing.assert_allclose(records.training_slope[0], before.slope)
    np.testing.assert_allclose(records.validation[0, at], after.log_det_fisher)
    np.testing.assert_allclose(records.validation_slope[0], after.slope)


@pytest.mark.parametrize("validation", [True, False])
def test_best_weights_are_those_of_the_highest_information(validation):
    model = plain_model()
    loop = loop_of(model, validation=validation, learning_rate=0.05)
    _, _, records = loop.run(40, 0, 0, None)
    scores = (records.validation if validation else records.training)[:, 1]
    best = int(np.argmax(scores))
    # The training set is measured with the weights before the update.
    assert loop.best.update == best + (1 if validation else 0)
    loop.best.restore(model)
    info = information.fisher_information(
        loop.objective.summariser.statistics(source(1 if validation else 0))
    )
    np.testing.assert_allclose(info.log_det_fisher, scores[best], rtol=1e-10)


@pytest.mark.parametrize("chunks", [200, 3])
@pytest.mark.parametrize("warm_up", [0, 60])
@pytest.mark.parametrize("validation", [True, False])
def test_patience_counts_updates_without_a_better_score(validation, warm_up, chunks):
    model = plain_model()
    loop = loop_of(model, validation=validation, learning_rate=0.05, capacity=200)
    scores, done, patience = [], 0, 4
    while done < 200:
        wanted = min(chunks, 200 - done)
        number, _, records = loop.run(wanted, done, warm_up, patience)
        scores += (records.validation if validation else records.training)[:, 1].tolist()
        done += number
        if number < wanted:
            break
    expected, best_at, best = 0, 0, -np.inf
    for update, score in enumerate(scores, start=1 if validation else 0):
        if score > best:
            best, best_at = score, update
        expected += 1
        if expected - max(best_at, warm_up) >= patience:
            break
    assert done == expected == len(scores)
    assert done < 200
    assert done >= warm_up + patience


@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_no_update_is_made_after_patience_has_run_out(name, validation):
    states = []
    for patience in (4, None):
        model = MODELS[name]()
        loop = loop_of(model, validation=validation, learning_rate=0.1, capacity=200)
        if patience:
            enough, _, _ = loop.run(200, 0, 0, patience)
            assert enough < 200
        else:
            loop.run(enough, 0, 0, None)
        states.append([v.numpy() for v in (*model.variables, *loop._optimiser.variables)])
    for impatient, patient in zip(*states, strict=True):
        np.testing.assert_array_equal(impatient, patient)


class Lookup(keras.layers.Layer):
    """Scales every feature by an entry of a table."""

    def build(self, shape):
        self.table = self.add_weight(shape=(20,), initializer="ones")

    def call(self, inputs):
        return inputs * tf.gather(self.table.value, tf.range(inputs.shape[-1]) + 3)


@pytest.mark.parametrize("at", [None, 20])
def test_only_the_entries_that_were_looked_up_are_trained(at):
    model = reference.dense_model(width=4, dtype="float64", extra=[Lookup(dtype="float64")])
    done, finite, _ = loop_of(model, at=at).run(3, 0, 0, None)
    assert (done, finite) == (3, True)
    (table,) = (v.numpy() for v in model.trainable_variables if v.shape == (20,))
    np.testing.assert_array_equal(np.flatnonzero(table != 1), [3, 4, 5, 6])


def test_validation_is_measured_when_it_is_due():
    _, _, records = loop_of(plain_model(), freq=4).run(10, 1, 0, None)
    measured = ~np.isnan(records.validation[:, 0])
    np.testing.assert_array_equal(np.flatnonzero(measured), [2, 6])  # updates 4 and 8


class Exploding(keras.layers.Layer):
    """Returns NaN in training after a number of calls."""

    def __init__(self, calls):
        super().__init__(dtype="float64")
        self.calls = calls
        self.count = self.add_weight(shape=(), trainable=False, initializer="zeros")

    def call(self, inputs, training=False):
        if training:
            self.count.assign_add(1)
        return tf.where(self.count > self.calls, tf.constant(np.nan, inputs.dtype), inputs)


@pytest.mark.parametrize("jit", [False, True])
def test_a_loss_that_is_not_finite_stops_at_once(jit):
    model = keras.Sequential(
        [
            keras.Input((10,), dtype="float64"),
            Exploding(5),
            keras.layers.Dense(8, activation="relu", dtype="float64"),
            keras.layers.Dense(2, dtype="float64"),
        ]
    )
    loop = loop_of(model, jit=jit)
    done, finite, records = loop.run(20, 0, 0, None)
    assert done == 5
    assert not finite
    assert np.isfinite(records.training).all()
    assert loop.finite.update == 4
    loop.finite.restore(model)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


class Infinite(keras.layers.Layer):
    """Adds a zero whose gradient is not finite."""

    def call(self, inputs):
        return inputs + tf.sqrt(0 * inputs)


class NotInUse(keras.layers.Layer):
    """Returns NaN outside of training."""

    def call(self, inputs, training=False):
        return inputs if training else inputs * tf.constant(np.nan, inputs.dtype)


@pytest.mark.parametrize(
    ("layer", "loss", "reason"),
    [
        (Infinite, "divergence", "its gradient is not finite"),
        (NotInUse, "divergence", "on the validation set the summaries of the fiducial simulations"),
        (None, "infinite", "its regularisation on the training set is not finite"),
    ],
)
def test_the_reason_for_a_loss_that_is_not_finite_is_named(monkeypatch, layer, loss, reason):
    def infinite(self, info):
        return regularisation.Loss(*[tf.constant(np.inf, DTYPE)] * 3)

    if loss == "infinite":
        monkeypatch.setattr(regularisation.Regularisation, "loss", infinite)
    extra = [] if layer is None else [layer(dtype="float64")]
    model = reference.dense_model(width=4, dtype="float64", extra=extra)
    objective = objective_of(model, loss)
    assert objective.why_not_finite(source(0), source(1), 1).startswith(reason)
    optimiser = keras.optimizers.Adam()
    optimiser.build(model.trainable_variables)
    loop = UpdateLoop(
        objective,
        optimiser,
        source(0),
        source(1),
        validation_freq=1,
        capacity=5,
        jit_compile=False,
        best=BestSnapshot(model),
        finite=Snapshot(model),
    )
    done, finite, _ = loop.run(5, 0, 0, None)
    assert (done, finite) == (0, False)


def test_a_fit_leaves_no_graph_behind():
    """TensorFlow keeps custom gradients for ever, among them those of `silu`."""

    def fit():
        fiducial, derivative = reference.simulations(0, 50)
        imnn = IMNN(
            θ_fid=reference.THETA_FID,
            δθ=reference.DELTA_THETA,
            fiducial=fiducial,
            derivative=derivative,
            model=reference.dense_model(width=4, activation="silu"),
            verbose=False,
        )
        imnn.fit(2)
        return weakref.ref(imnn)

    def graphs():
        gc.collect()
        gc.collect()  # of what the end of the loop set free
        return sum(isinstance(each, FuncGraph) for each in gc.get_objects())

    before = graphs()
    imnn = fit()
    assert graphs() <= before
    assert imnn() is None
