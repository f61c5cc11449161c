import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from problems import draw, score_fn, small_network, small_rim

from imnn_tf.utils import checkpoint
from rim_tf import RIM
from rim_tf.fitting.callbacks import MaxTime, Patience
from rim_tf.fitting.checkpoints import saved_epochs

OPTIONS = {"batch_size": 8, "seed": 5, "verbose": 0, "checkpoints": 1}


@keras.saving.register_keras_serializable("test_checkpoints")
class Noisy(keras.layers.Layer):
    """A network with a random layer, whose seed is part of the state of a fit."""

    channels = 1

    def __init__(self, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.inner = small_network(seed)
        self.dropout = keras.layers.Dropout(0.3, seed=seed)

    def build(self, input_shape):
        self.inner.build(input_shape)

    def initial_state(self, batch_size, sizes):
        return self.inner.initial_state(batch_size, sizes)

    def call(self, inputs, state):
        return self.inner(self.dropout(inputs), state)

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


def make_rim(**options):
    rim = small_rim(network=Noisy(), score_preprocessing_method="adam", T=3, **options)
    rim.compile(jit_compile=False)
    return rim


def fit(rim, epochs, directory=None, data=None, **options):
    settings = {**OPTIONS, "learning_rate": 1e-2, "ema_decay": 0.9, "patience": 50}
    return rim.fit(
        data or draw(40, 0),
        epochs=epochs,
        checkpoints_directory=directory,
        **{**settings, **options},
    )


class Killed(keras.callbacks.Callback):
    """Raises in the middle of an epoch, as a dying machine would."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.place, self.epoch = (epoch, batch), None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            raise KeyboardInterrupt


def test_a_killed_fit_goes_on_as_if_it_had_not_been(tmp_path):
    """Weights, averages, moments, order of the data, dropout, history: equal to the bit."""
    whole = make_rim()
    expected = fit(whole, 5)
    with pytest.raises(KeyboardInterrupt):
        fit(make_rim(), 5, tmp_path, callbacks=[Killed(3, 2)])
    resumed = make_rim()
    # A new process knows nothing of the old one's seed.
    history = fit(resumed, 5, tmp_path, seed=None)
    for ours, theirs in zip(resumed.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(resumed.optimizer.variables, whole.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert history.history == expected.history
    assert history.epoch == expected.epoch


def test_a_finished_fit_is_not_repeated(tmp_path):
    fit(make_rim(), 2, tmp_path)
    again = make_rim()
    history = fit(again, 2, tmp_path)
    assert len(history.history["loss"]) == 2
    assert int(again.optimizer.iterations) == 2 * 5


def test_the_directory_rebuilds_the_rim(tmp_path):
    rim = make_rim(link_function="softplus")
    y, x, *args = draw(40, 0)
    fit(rim, 3, tmp_path, (y, np.abs(x), *args))
    again = RIM.from_checkpoints(tmp_path, "newest", score_fn=score_fn)
    assert json.dumps(again.get_config()) == json.dumps(rim.get_config())
    y, _, *args = draw(6, 1)
    # After the fit the model has the averaged weights, and so has the one rebuilt.
    np.testing.assert_array_equal(
        again.predict(y, *args, jit_compile=False), rim.predict(y, *args, jit_compile=False)
    )


def test_a_new_process_predicts_the_same_to_the_bit(tmp_path):
    """It imports nothing but the RIM, which must know its networks."""
    rim = small_rim(score_fn=lambda x, y, *_: y[:, :5, None] - x)
    rim.compile(jit_compile=False)
    fit(rim, 2, tmp_path, ema_decay=0.0)
    y = draw(6, 1)[0]
    np.save(tmp_path / "data.npy", y)
    program = f"""
        import numpy as np
        from rim_tf import RIM
        score_fn = lambda x, y, *_: y[:, :5, None] - x
        rim = RIM.from_checkpoints({str(tmp_path)!r}, "newest", score_fn=score_fn)
        there = rim.predict(np.load({str(tmp_path / "data.npy")!r}), jit_compile=False)
        np.save({str(tmp_path / "there.npy")!r}, there)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        check=True,
    )
    there = np.load(tmp_path / "there.npy")
    np.testing.assert_array_equal(there, rim.predict(y, jit_compile=False))


def test_the_best_are_kept_and_the_newest(tmp_path):
    rim = make_rim()
    # A rate that ruins the model from the third epoch on.
    ruin = keras.optimizers.schedules.PiecewiseConstantDecay([9], [1e-3, 10.0])
    options = {"learning_rate": ruin, "models_to_keep": 1, "ema_decay": 0.0}
    losses = fit(rim, 5, tmp_path, **options).history["loss"]
    best = int(np.argmin(losses)) + 1
    assert best < 5
    assert saved_epochs(tmp_path) == [best, 5]
    found = RIM.from_checkpoints(tmp_path, score_fn=score_fn)
    saved = checkpoint.read_fit(tmp_path / f"checkpoint_{best:05d}.npz")
    assert saved.settings["score"] == min(losses)
    np.testing.assert_array_equal(found.variables[0], saved.variables("model")[0])


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, damage, caplog):
    fit(make_rim(), 3, tmp_path)
    newest = tmp_path / "checkpoint_00003.npz"
    content = bytearray(newest.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    rim = make_rim()
    fit(rim, 2, tmp_path)
    assert int(rim.optimizer.iterations) == 2 * 5
    assert "Passed over" in caplog.text


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    checkpoint.write_atomically(path, lambda aside: aside.write_text("old"))

    def refuse(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="no space left"):
        checkpoint.write_atomically(path, lambda aside: aside.write_text("new"))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_arrays_with_code_in_them_are_refused(tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, a=np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="is damaged"):
        checkpoint.read_fit(path)


def test_checkpoints_of_another_model_are_refused(tmp_path):
    fit(make_rim(), 1, tmp_path)
    network = small_network(features=(6, 9, 6))
    other = small_rim(network=network, score_preprocessing_method="adam", T=3)
    other.compile(jit_compile=False)
    with pytest.raises(ValueError, match="is of another model"):
        fit(other, 2, tmp_path)
    with pytest.raises(ValueError, match="Checkpoint 7 must be one of those"):
        fit(make_rim(), 2, tmp_path, model_checkpoint=7)
    with pytest.raises(ValueError, match=r"must hold rim.json"):
        RIM.from_checkpoints(tmp_path / "nowhere", score_fn=score_fn)
    with pytest.raises(ValueError, match=r"pass \['score_fn'\]"):
        RIM.from_checkpoints(tmp_path)


def test_a_fit_can_go_back_to_an_epoch(tmp_path):
    whole = make_rim()
    fit(whole, 3, tmp_path)
    again = make_rim()
    fit(again, 3, tmp_path, model_checkpoint=1)
    for ours, theirs in zip(again.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_going_back_forgets_the_epochs_after(tmp_path):
    """Otherwise a fit killed after going back would jump to them."""
    fit(make_rim(), 4, tmp_path, models_to_keep=5)
    fit(make_rim(), 2, tmp_path, model_checkpoint=1, models_to_keep=5)
    assert saved_epochs(tmp_path) == [1, 2]


def test_going_back_without_training_deletes_nothing(tmp_path):
    fit(make_rim(), 2, tmp_path)
    fit(make_rim(), 1, tmp_path, model_checkpoint=1)
    assert saved_epochs(tmp_path) == [1, 2]


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"link_function": "exp"}, {}, "`link_function`"),
        ({"initialization_method": "model"}, {}, "`initialization_method`"),
        ({}, {"learning_rate": 1e-3}, "`learning_rate`"),
        ({}, {"ema_decay": 0.5}, "`ema_momentum`"),
    ],
)
def test_another_setup_is_not_resumed_in_silence(tmp_path, change, options, words):
    fit(make_rim(), 1, tmp_path)
    with pytest.raises(ValueError, match=f"{words} must be as in the fit in"):
        fit(make_rim(**change), 2, tmp_path, **options)


def test_another_number_of_steps_is_not_resumed_in_silence(tmp_path):
    fit(make_rim(), 1, tmp_path)
    other = small_rim(network=Noisy(), score_preprocessing_method="adam", T=4)
    other.compile(jit_compile=False)
    with pytest.raises(ValueError, match="`T` must be as in the fit in"):
        fit(other, 2, tmp_path)


def test_spent_patience_trains_no_further_epoch(tmp_path):
    options = {"patience": 1, "tolerance": 0.99}
    first = fit(make_rim(), 9, tmp_path, **options)
    again = make_rim()
    history = fit(again, 9, tmp_path, **options)
    assert history.history == first.history
    assert int(again.optimizer.iterations) == 5 * len(first.epoch)
    assert len(fit(make_rim(), 9, tmp_path, **{**options, "patience": 2}).epoch) > len(first.epoch)


def test_patience_waits_for_validation(tmp_path):
    """Epochs without validation are saved, and are no misses."""
    data = {"validation_data": draw(8, 1), "validation_freq": 3, "patience": 2, "tolerance": 0.99}
    history = fit(make_rim(), 20, tmp_path, **data)
    assert len(history.epoch) == 9
    assert len(history.history["val_loss"]) == 3
    assert max(saved_epochs(tmp_path)) == 9


def test_a_folder_is_named_for_the_fit(tmp_path):
    fit(make_rim(), 1, logdir=tmp_path / "new", logname="mine")
    fit(make_rim(), 1, logdir=tmp_path / "new", logname_prefix="try")
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names[0] == "mine"
    assert names[1].startswith("try_")


def run(callback, values):
    """Feeds a callback one loss for each epoch; how many epochs it let run."""
    callback.set_model(tf.Module())
    callback.model.stop_training = False
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, {"loss": value})
        if callback.model.stop_training:
            return epoch + 1
    return len(values)


def test_patience_counts_misses_in_a_row():
    losses = [5.0, 4.0, 4.5, 4.4, 3.0, 3.5, 3.1, 3.2, 1.0]
    assert run(Patience(3), losses) == 8
    assert run(Patience(4), losses) == 9
    # Nothing here falls by half but the second and the last.
    assert run(Patience(2, tolerance=0.5), [5.0, 2.0, 1.5, 1.1, 0.1]) == 4


def test_patience_takes_up_where_it_left_off():
    first, second = Patience(3), Patience(3)
    run(first, [2.0, 3.0, 3.0])
    second.set_state(json.loads(json.dumps(first.get_state())))
    assert run(second, [3.0, 1.0]) == 1


def test_time_runs_out(monkeypatch):
    clock = iter(range(0, 1000, 30))  # half a minute between any two looks
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    # Half a minute's epoch and half a minute's pause: the sixth ends when time is up.
    assert run(MaxTime(6 / 60), [1.0] * 20) == 6


@pytest.mark.parametrize("damage", ["flipped bit", "cut"])
def test_a_damaged_configuration_is_named(tmp_path, damage):
    fit(make_rim(), 1, tmp_path)
    path = tmp_path / "rim.json"
    content = path.read_text()
    path.write_text(
        content.replace('"T": 3', '"T": 2') if damage == "flipped bit" else content[:300]
    )
    assert path.read_text() != content
    with pytest.raises(checkpoint.CorruptFileError, match=r"rim\.json is damaged"):
        RIM.from_checkpoints(tmp_path, "newest", score_fn=score_fn)


def test_a_checkpoint_with_the_name_of_another_epoch_is_passed_over(tmp_path, caplog):
    fit(make_rim(), 3, tmp_path)
    paths = [tmp_path / f"checkpoint_0000{epoch}.npz" for epoch in (1, 2, 3)]
    paths[2].write_bytes(paths[0].read_bytes())
    with pytest.raises(
        ValueError, match=r"checkpoint_00003\.npz is damaged: it must be of epoch 3"
    ):
        RIM.from_checkpoints(tmp_path, 3, score_fn=score_fn)
    newest = RIM.from_checkpoints(tmp_path, "newest", score_fn=score_fn)
    second = RIM.from_checkpoints(tmp_path, 2, score_fn=score_fn)
    for ours, theirs in zip(newest.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert "Passed over" in caplog.text


def test_a_fit_that_was_killed_before_it_deleted_an_old_checkpoint_deletes_it(tmp_path):
    options = {"models_to_keep": 1}
    fit(make_rim(), 1, tmp_path, **options)
    old = (tmp_path / "checkpoint_00001.npz").read_bytes()
    fit(make_rim(), 4, tmp_path, **options)
    expected = saved_epochs(tmp_path)
    assert 1 not in expected
    (tmp_path / "checkpoint_00001.npz").write_bytes(old)
    fit(make_rim(), 4, tmp_path, **options)
    assert saved_epochs(tmp_path) == expected
