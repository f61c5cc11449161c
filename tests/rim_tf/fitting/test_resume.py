"""A fit that was killed goes on as if it had not been, whatever its data and callbacks."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from problems import draw, small_rim

from rim_tf.fitting.data import arrange

EPOCHS = 4


def make_rim():
    rim = small_rim()
    rim.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    return rim


class Killed(keras.callbacks.Callback):
    """Raises in the middle of the third epoch, as a dying machine would."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (2, 1):
            raise KeyboardInterrupt


def examples():
    return tf.data.Dataset.from_tensor_slices(draw(20, 0))


def generated():
    columns = draw(20, 0)

    def one_by_one():
        yield from zip(*columns, strict=True)

    spec = tuple(tf.TensorSpec(column.shape[1:]) for column in columns)
    return tf.data.Dataset.from_generator(one_by_one, output_signature=spec)


DATA = {
    "arrays": lambda: {"x": draw(20, 0), "batch_size": 4, "n_iterations_in_epoch": 3},
    "examples": lambda: {"x": examples(), "batch_size": 4, "n_iterations_in_epoch": 7},
    "generator": lambda: {"x": generated(), "batch_size": 4},
    "part of a generator": lambda: {"x": generated(), "batch_size": 4, "n_iterations_in_epoch": 3},
    "batches": lambda: {"x": examples().batch(4), "n_iterations_in_epoch": 3},
    "repeated": lambda: {"x": examples().batch(4).repeat(), "n_iterations_in_epoch": 3},
    "shuffled and repeated": lambda: {
        "x": examples().shuffle(20, seed=3).batch(4).repeat(),
        "n_iterations_in_epoch": 3,
    },
}


def fit(rim, directory=None, callbacks=(), epochs=EPOCHS, **data):
    return rim.fit(
        epochs=epochs,
        seed=5,
        verbose=0,
        checkpoints=1,
        checkpoints_directory=directory,
        callbacks=list(callbacks),
        **data,
    )


def assert_same_fit(one, history, other, expected):
    for ours, theirs in zip(one.variables, other.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(one.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert history.history == expected.history
    assert history.epoch == expected.epoch


@pytest.mark.parametrize("name", DATA)
def test_any_data(tmp_path, name):
    whole, resumed = make_rim(), make_rim()
    expected = fit(whole, **DATA[name]())
    with pytest.raises(KeyboardInterrupt):
        fit(make_rim(), tmp_path, [Killed()], **DATA[name]())
    history = fit(resumed, tmp_path, **DATA[name]())
    assert_same_fit(resumed, history, whole, expected)


CALLBACKS = {
    "plateau": lambda: keras.callbacks.ReduceLROnPlateau(
        "loss", factor=0.5, patience=2, min_delta=10.0, cooldown=1
    ),
    "stopping": lambda: keras.callbacks.EarlyStopping("loss", patience=3, min_delta=10.0),
    "best weights": lambda: keras.callbacks.EarlyStopping(
        "loss", patience=3, min_delta=10.0, restore_best_weights=True
    ),
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_callbacks_of_keras(tmp_path, name):
    """With this `min_delta` no epoch but the first is an improvement."""
    data = {"x": draw(16, 0), "batch_size": 4, "epochs": 6}
    whole, resumed = make_rim(), make_rim()
    expected = fit(whole, None, [CALLBACKS[name]()], **data)
    with pytest.raises(KeyboardInterrupt):
        fit(make_rim(), tmp_path, [CALLBACKS[name](), Killed()], **data)
    callback = CALLBACKS[name]()
    history = fit(resumed, tmp_path, [callback], **data)
    assert_same_fit(resumed, history, whole, expected)
    if name == "plateau":
        rates = history.history["learning_rate"]
        assert len(set(rates)) == 3
        return

    # The patience is spent, and no further epoch is trained.
    assert len(history.epoch) == 4
    again = make_rim()
    history = fit(again, tmp_path, [CALLBACKS[name]()], **data)
    assert_same_fit(again, history, whole, expected)
    longer = CALLBACKS[name]()
    longer.patience = 5
    assert len(fit(make_rim(), tmp_path, [longer], **data).epoch) == 6


def test_the_best_model_of_keras_is_not_written_over_by_a_worse_one(tmp_path):
    path = tmp_path / "best.weights.h5"

    def best():
        return keras.callbacks.ModelCheckpoint(
            path, monitor="loss", save_best_only=True, save_weights_only=True
        )

    data = {"x": draw(16, 0), "batch_size": 4}
    first = best()
    fit(make_rim(), tmp_path, [first], epochs=2, **data)
    second = best()
    fit(make_rim(), tmp_path, [second], epochs=2, **data)
    assert second.best == first.best


def test_a_callback_of_ones_own_has_its_memory(tmp_path):
    class Counter(keras.callbacks.Callback):
        count = 0

        def on_epoch_end(self, epoch, logs=None):
            self.count += 1

        def get_state(self):
            return {"count": self.count}

        def set_state(self, state):
            self.count = state["count"]

    data = {"x": draw(8, 0), "batch_size": 4}
    fit(make_rim(), tmp_path, [Counter()], epochs=2, **data)
    counter = Counter()
    fit(make_rim(), tmp_path, [counter], epochs=3, **data)
    assert counter.count == 3


def test_other_callbacks_are_not_given_the_memory_of_the_first(tmp_path):
    data = {"x": draw(8, 0), "batch_size": 4}
    fit(make_rim(), tmp_path, [CALLBACKS["plateau"]()], epochs=1, **data)
    with pytest.raises(ValueError, match="pass the same as before"):
        fit(make_rim(), tmp_path, [CALLBACKS["stopping"]()], epochs=2, **data)


@pytest.mark.parametrize(
    "change", [{"batch_size": 2}, {"n_iterations_in_epoch": 1}, {"shuffle": False}]
)
def test_another_order_is_not_resumed_in_silence(tmp_path, change):
    data = {"x": draw(8, 0), "batch_size": 4}
    fit(make_rim(), tmp_path, epochs=1, **data)
    (name,) = change
    with pytest.raises(ValueError, match=f"`{name}` must be as in the fit in"):
        fit(make_rim(), tmp_path, epochs=2, **{**data, **change})


@pytest.mark.parametrize("steps", [1, 3, 5, 7, 12])
@pytest.mark.parametrize("name", ["arrays", "examples", "generator", "batches"])
def test_each_epoch_goes_on_where_the_last_one_ended(name, steps):
    """Whatever the number of updates in an epoch, the order is that of whole passes."""
    columns = (np.arange(9), np.arange(9))
    data = tf.data.Dataset.from_tensor_slices(columns)
    if name == "arrays":
        data = columns
    elif name == "generator":
        spec = (tf.TensorSpec([], tf.int64),) * 2
        data = tf.data.Dataset.from_generator(
            lambda: zip(*columns, strict=True), output_signature=spec
        )
    options = {"batch_size": None if name == "batches" else 4, "dtype": "float32", "seed": 1}
    data = data.batch(4) if name == "batches" else data
    options["shuffle"] = name in ("arrays", "examples")

    def order(first_epoch, count):
        batches = arrange(data, steps=steps, first_epoch=first_epoch, **options)
        assert batches.steps == steps
        return [y[0].tolist() for (y, _) in batches.data.take(count).as_numpy_iterator()]

    whole = order(0, 4 * steps)
    for epoch in range(4):
        assert order(epoch, steps) == whole[epoch * steps : (epoch + 1) * steps]
    one_pass = sorted(number for batch in whole[:3] for number in batch)
    if steps >= 3:
        assert one_pass == list(range(9))
