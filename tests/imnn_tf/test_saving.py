"""Saved fits: their files, and fits that continue from them."""

import itertools

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf

from imnn_tf import IMNN, Estimator
from imnn_tf.utils import checkpoint
from imnn_tf.utils.checkpoint import CorruptFileError


def make(folder, **changes):
    fiducial, derivative = reference.simulations(0, 100)
    validation_fiducial, validation_derivative = reference.simulations(1, 100)
    given = {
        "θ_fid": reference.THETA_FID,
        "δθ": reference.DELTA_THETA,
        "fiducial": fiducial,
        "derivative": derivative,
        "validation_fiducial": validation_fiducial,
        "validation_derivative": validation_derivative,
        "verbose": False,
        "directory": folder,
        "filename": "fitted",
        **changes,
    }
    if not changes.get("load"):
        dropout = [keras.layers.Dropout(0.1, seed=1)]
        given.setdefault("model", reference.dense_model(width=16, extra=dropout))
        given.setdefault("optimiser", keras.optimizers.Adam(0.01))
    return IMNN(**given)


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_fit_is_loaded_with_its_model_and_its_fiducial_point(tmp_path):
    def model(slope=0.01, rate=0.1, seed=5):
        dropout = [keras.layers.Dropout(rate, seed=1)]
        result = reference.dense_model(seed, width=16, extra=dropout)
        result.layers[1].negative_slope = slope
        return result

    imnn = make(tmp_path, save=True, model=model())
    imnn.fit(3)
    again = make(tmp_path, load=True, model=model(rate=0.2, seed=9))
    np.testing.assert_array_equal(again.F, imnn.F)
    with pytest.raises(ValueError, match=r"`model` .* LeakyReLU with negative_slope 0.01, got 0.2"):
        make(tmp_path, load=True, model=model(0.2))
    layers = [
        keras.layers.Activation("tanh") if "leaky" in each.name else each for each in model().layers
    ]
    with pytest.raises(ValueError, match="`model` must have the layers of the saved fit"):
        make(tmp_path, load=True, model=keras.Sequential([keras.Input((10,)), *layers]))
    with pytest.raises(ValueError, match=r"`θ_fid` must be that of the saved fit, \[0.0, 1.0\]"):
        make(tmp_path, load=True, θ_fid=[0.0, 1.5])


def test_a_fit_leaves_what_the_predecessor_left(tmp_path):
    imnn = make(tmp_path, save=True)
    imnn.fit(5, weight_file="chosen")
    folder = tmp_path / "fitted"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "model.keras",
        "chosen.weights.h5",
        "estimator.npz",
        "history.npz",
        "fit.npz",
        "manifest.json",
    }
    model = reference.dense_model(width=16, extra=[keras.layers.Dropout(0.1, seed=1)])
    model.load_weights(folder / "chosen.weights.h5")
    assert same(model.get_weights(), imnn.model.get_weights())
    stored = np.load(folder / "estimator.npz")
    data = imnn.data[:3].numpy()
    # The formula in the predecessor's documentation.
    estimate = stored["θ_fid"] + np.einsum(
        "ij,jk,kl,ml->mi",
        stored["Finv"],
        stored["dμ_dθ"],
        stored["Cinv"],
        model(data) - stored["μ"],
    )
    np.testing.assert_allclose(imnn.get_estimate(data), estimate, rtol=1e-4, atol=1e-5)
    history = np.load(folder / "history.npz")
    assert history["val_dμ_dθ"].shape == (5, 2, 2)
    np.testing.assert_array_equal(history["det_F"], imnn.history["det_F"])
    np.testing.assert_array_equal(Estimator.load(folder)(data), imnn.get_estimate(data))


def test_nothing_is_written_unless_asked_for(tmp_path):
    make(tmp_path).fit(2)
    assert list(tmp_path.iterdir()) == []


def test_load_brings_everything_back(tmp_path):
    imnn = make(tmp_path, save=True)
    imnn.fit(6, regulariser="published", λ=8, ϵ=0.1)
    back = make(tmp_path, load=True)
    assert same(imnn.model.get_weights(), back.model.get_weights())
    assert back.history.keys() == imnn.history.keys()
    for key, values in imnn.history.items():
        np.testing.assert_array_equal(back.history[key], values)
    for name in ("F", "Finv", "C", "Cinv", "μ", "dμ_dθ", "reg", "r"):
        np.testing.assert_array_equal(getattr(back, name), getattr(imnn, name))
    assert (back.λ, back.ϵ, back.α, back.regulariser) == (imnn.λ, imnn.ϵ, imnn.α, "published")
    np.testing.assert_array_equal(back.get_estimate(imnn.data), imnn.get_estimate(imnn.data))
    assert len(back.plot()) == 3
    assert isinstance(back.optimiser, keras.optimizers.Adam)
    assert float(back.optimiser.learning_rate) == pytest.approx(0.01)


@pytest.mark.parametrize("given", [{}, "model and optimiser"])
def test_a_loaded_fit_goes_on_as_if_never_stopped(tmp_path, given):
    whole = make(tmp_path / "whole")
    whole.fit(20)
    first = make(tmp_path, save=True)
    first.fit(8)
    if given:
        given = {
            "model": reference.dense_model(5, width=16, extra=[keras.layers.Dropout(0.1, seed=1)]),
            "optimiser": keras.optimizers.Adam(0.01),
        }
    second = make(tmp_path, load=True, **(given or {}))
    second.fit(12)
    assert same(whole.model.get_weights(), second.model.get_weights())
    assert whole.history["loss"] == second.history["loss"]
    np.testing.assert_array_equal(whole.F, second.F)


class Killed(BaseException):
    """Ends a fit like the end of its process, which no `except Exception` catches."""


def test_a_checkpoint_of_a_killed_fit_goes_on_as_if_never_stopped(tmp_path, monkeypatch):
    whole = make(tmp_path / "whole")
    whole.fit(20)
    killed = make(tmp_path, save=True)

    class Kill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 13:
                raise Killed

    with pytest.raises(Killed):
        killed.fit(20, checkpoint=5, callbacks=[Kill()])
    back = make(tmp_path, load=True)
    assert len(back.history["loss"]) == 10
    assert np.linalg.det(back.F) == pytest.approx(max(back.history["val_det_F"]), rel=1e-3)
    back.fit(10)
    assert same(whole.model.get_weights(), back.model.get_weights())
    assert whole.history["loss"] == back.history["loss"]


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_first_checkpoint_that_is_killed_can_be_loaded_or_is_not_there(
    tmp_path, monkeypatch, writes
):
    """Whichever file is the last that is written before the kill."""
    killed, count, write = make(tmp_path, save=True), itertools.count(), checkpoint.write_atomically

    def write_or_die(path, content):
        if next(count) == writes:
            raise Killed
        write(path, content)

    monkeypatch.setattr(checkpoint, "write_atomically", write_or_die)
    with pytest.raises(Killed):
        killed.fit(4, checkpoint=2)
    monkeypatch.undo()
    assert (tmp_path / "fitted" / "fit.npz").exists() == (writes > 1)
    if writes > 1:
        assert len(make(tmp_path, load=True).history["loss"]) == 2


def test_a_file_of_something_else_gives_way_to_the_state_before(tmp_path, caplog):
    imnn = make(tmp_path, save=True)
    imnn.fit(3)
    imnn.fit(3)
    checkpoint.write_fit(tmp_path / "fitted" / "fit.npz", {}, {"epoch": 3})
    assert len(make(tmp_path, load=True).history["loss"]) == 3
    assert "is damaged" in caplog.text


def test_weights_picks_a_weights_file(tmp_path):
    imnn = make(tmp_path, save=True)
    imnn.fit(3, weight_file="early")
    early, early_C = imnn.model.get_weights(), imnn.C
    imnn.fit(5, weight_file="late")
    back = make(tmp_path, load=True, weights="early")
    assert same(back.model.get_weights(), early)
    np.testing.assert_array_equal(back.C, early_C)


def test_classes_of_the_user_are_loaded_by_name_only(tmp_path):
    class Doubling(keras.layers.Layer):
        def call(self, inputs):
            return 2 * inputs

    imnn = make(tmp_path, save=True, model=reference.dense_model(width=4, extra=[Doubling()]))
    imnn.fit(2)
    with pytest.raises(TypeError, match="Doubling"):
        make(tmp_path, load=True)
    back = make(tmp_path, load=True, custom_objects={"Doubling": Doubling})
    np.testing.assert_array_equal(back.F, imnn.F)


def test_a_damaged_state_gives_way_to_the_one_before(tmp_path, caplog):
    imnn = make(tmp_path, save=True)
    imnn.fit(3)
    imnn.fit(3)
    state = tmp_path / "fitted" / "fit.npz"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    back = make(tmp_path, load=True)
    assert len(back.history["loss"]) == 3
    assert "is damaged" in caplog.text
    (tmp_path / "fitted" / "fit.previous.npz").write_bytes(b"")
    with pytest.raises(CorruptFileError, match=r"fit\.previous\.npz is damaged"):
        make(tmp_path, load=True)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"directory": "nowhere"}, FileNotFoundError, "There is no saved model at"),
        (
            {"model": "other"},
            ValueError,
            "`model` must be that of the saved fit, which has a Dense with units 16, got 9",
        ),
        (
            {"optimiser": keras.optimizers.SGD()},
            ValueError,
            "`optimiser` must have the saved one's variables",
        ),
    ],
)
def test_what_does_not_fit_the_files_is_named(tmp_path, changes, error, message):
    make(tmp_path, save=True).fit(1)
    if changes.get("model"):
        changes = {"model": reference.dense_model(width=9)}
    with pytest.raises(error, match=message):
        make(tmp_path, **{"load": True, **changes})


def test_save_estimator(tmp_path):
    imnn = make(tmp_path)
    imnn.save_estimator(tmp_path / "mine.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "mine.npz")["Cinv"], imnn.Cinv)


def test_float64_statistics_survive(tmp_path):
    imnn = make(
        tmp_path, save=True, dtype=tf.float64, model=reference.dense_model(width=8, dtype="float64")
    )
    imnn.fit(2)
    back = make(tmp_path, load=True, dtype=tf.float64)
    np.testing.assert_array_equal(back.F, imnn.F)
    assert Estimator.load(tmp_path / "fitted").dtype == tf.float64


def killed_at(update):
    """A callback that ends a fit as its process would."""

    class Kill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == update:
                raise Killed

    return Kill()


@pytest.mark.parametrize("counted", [{"patience": 25}, {"patience": 8, "min_iterations": 35}])
@pytest.mark.parametrize("killed", [True, False])
def test_patience_goes_on_in_the_fit_after(tmp_path, counted, killed):
    """Updates that a killed or stopped fit waited for a better score are not forgotten."""
    given = {"optimiser": keras.optimizers.Adam(0.03)}
    whole = make(tmp_path / "whole", **given)
    whole.fit(**counted)
    updates = len(whole.history["loss"])
    first = make(tmp_path, save=True, **given)
    if killed:
        with pytest.raises(Killed):
            first.fit(checkpoint=4, callbacks=[killed_at(updates - 3)], **counted)
    else:
        first.fit(updates - 5, **counted)
        counted = {"patience": counted["patience"]}
    second = make(tmp_path, load=True)
    assert (second.unfinished > 0) == killed
    assert updates - 9 < len(second.history["loss"]) < updates
    second.fit(**counted)
    assert whole.history["loss"] == second.history["loss"]
    assert same(whole.model.get_weights(), second.model.get_weights())
    assert not second.unfinished


def test_a_fit_without_patience_before_does_not_count():
    imnn = make(None, optimiser=keras.optimizers.Adam(0.3))
    imnn.fit(60, λ=5)
    assert np.argmax(imnn.history["val_det_F"]) < 50
    imnn.fit(patience=8, λ=5)
    assert len(imnn.history["loss"]) >= 68


def test_a_fit_that_is_killed_at_its_end_is_finished_by_the_one_after(tmp_path, monkeypatch):
    """Whether a fit is finished is decided by one file, which is the last to be written."""
    whole = make(tmp_path / "whole", save=True)
    whole.fit(12)
    killed = make(tmp_path, save=True)

    def die(*names):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "write_together", die)
        with pytest.raises(Killed):
            killed.fit(12, checkpoint=4)
    back = make(tmp_path, load=True, save=True)
    assert back.unfinished
    assert len(back.history["loss"]) == 8
    back.fit(4)
    assert whole.history["loss"] == back.history["loss"]
    for name in ("estimator.npz", "history.npz", "weights.weights.h5"):
        expected = tmp_path / "whole" / "fitted" / name
        assert (tmp_path / "fitted" / name).exists() == expected.exists()
    data = back.data[:3].numpy()
    np.testing.assert_array_equal(
        Estimator.load(tmp_path / "fitted")(data), whole.get_estimate(data)
    )


def test_a_checkpoint_has_the_architecture_of_its_model(tmp_path):
    """Another model was fitted in the folder before."""
    make(tmp_path, save=True, model=reference.dense_model(width=5)).fit(2)
    killed = make(tmp_path, save=True)
    with pytest.raises(Killed):
        killed.fit(20, checkpoint=4, callbacks=[killed_at(9)])
    back = make(tmp_path, load=True)
    assert len(back.history["loss"]) == 8
    whole = make(tmp_path / "whole")
    whole.fit(12)
    back.fit(4)
    assert whole.history["loss"] == back.history["loss"]


@pytest.mark.parametrize("damage", ["flipped bit", "cut", "another"])
@pytest.mark.parametrize("name", ["early", "late"])
def test_a_damaged_weights_file_is_named(tmp_path, name, damage):
    imnn = make(tmp_path, save=True)
    imnn.fit(1, weight_file="early")
    imnn.fit(1, weight_file="late")
    path = tmp_path / "fitted" / f"{name}.weights.h5"
    content = path.read_bytes()
    if damage == "flipped bit":
        at = content.index(imnn.model.get_weights()[-1].tobytes()) if name == "late" else 4000
        content = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    elif damage == "cut":
        content = content[:-100]
    else:
        other = {"early": "late", "late": "early"}[name]
        content = path.with_name(f"{other}.weights.h5").read_bytes()
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=rf"{name}\.weights\.h5 is damaged"):
        make(tmp_path, load=True, weights=name)


def test_weights_that_no_manifest_knows_are_loaded_with_a_warning(tmp_path, caplog):
    imnn = make(tmp_path, save=True)
    imnn.fit(1)
    path = tmp_path / "fitted" / "mine.weights.h5"
    weights = [weight + 1 for weight in imnn.model.get_weights()]
    imnn.model.set_weights(weights)
    imnn.model.save_weights(path)
    assert same(make(tmp_path, load=True, weights="mine").model.get_weights(), weights)
    assert "mine.weights.h5 was not written by a fit" in caplog.text
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CorruptFileError, match=r"mine\.weights\.h5 is damaged"):
        make(tmp_path, load=True, weights="mine")
    with pytest.raises(FileNotFoundError, match=r"none\.weights\.h5"):
        make(tmp_path, load=True, weights="none")


def test_a_model_with_a_lambda_layer_is_refused_before_it_is_fitted(tmp_path):
    """Its file could not be loaded."""
    inner = keras.Sequential([keras.layers.Lambda(lambda x: x, name="mine"), keras.layers.Dense(2)])
    model = keras.Sequential([keras.Input((10,)), inner, keras.layers.Dense(2)])
    assert make(tmp_path, model=model).n_summaries == 2
    with pytest.raises(ValueError, match=r"`Lambda` layer.*'mine'"):
        make(tmp_path, model=model, save=True)


def test_what_a_fit_shows_of_itself(caplog):
    imnn = make(None)
    assert "updates: 0" in repr(imnn)
    assert "det F" not in repr(imnn), "nothing is computed to be shown"
    with caplog.at_level("INFO", logger="imnn_tf"):
        imnn.fit(5000, patience=10)
    updates, best = len(imnn.history["loss"]), int(np.argmax(imnn.history["val_det_F"]))
    kept = f"kept update {best + 1}, det F {imnn.history['val_det_F'][best]:.4g}"
    assert (
        f"Patience ended the fit after {updates} updates; {kept} on the validation" in caplog.text
    )
    lines = []
    imnn.summary(lines.append)
    assert any(line.startswith("det F") and "±" in line for line in lines)
    assert "<table>" in imnn._repr_html_()


def noisier(prefix=""):
    """Simulations with more noise, and so with another det F."""
    fiducial, derivative = reference.simulations(8, 100)
    fiducial = fiducial + np.random.default_rng(9).normal(0, 1, fiducial.shape)
    return {f"{prefix}fiducial": fiducial, f"{prefix}derivative": derivative}


@pytest.mark.parametrize("scored_on", ["validation", "training", "stream"])
def test_the_best_score_of_a_loaded_fit_is_that_on_the_simulations_at_hand(
    tmp_path, caplog, scored_on
):
    none = {"validation_fiducial": None, "validation_derivative": None}
    given = {"training": none, "validation": {}, "stream": {"cache": False, "at_once": 40}}
    first = make(tmp_path, model=reference.dense_model(width=16), save=True, **given[scored_on])
    first.fit(20)
    before = first._state.best.score.numpy()
    changed = noisier("" if scored_on == "training" else "validation_")
    back = make(tmp_path, load=True, **{**given[scored_on], **changed})
    expected = np.log(np.linalg.det(back.F))  # of the best weights, which the model has
    assert abs(before - expected) > 0.05
    back.fit(1)
    key = "det_F" if scored_on == "training" else "val_det_F"
    assert back._state.best.score.numpy() == pytest.approx(
        max(expected, np.log(back.history[key][-1])), abs=1e-3
    )
    assert "The best weights of the saved fit had det F" in caplog.text


def test_patience_counts_anew_on_other_simulations(tmp_path):
    still = {"optimiser": keras.optimizers.SGD(1e-30)}  # so that nothing ever gets better
    make(tmp_path, model=reference.dense_model(width=16), save=True, **still).fit(30, patience=99)
    for changed, updates in (({}, 0), (noisier("validation_"), 3)):
        back = make(tmp_path, load=True, **changed)
        back.fit(100, patience=3)
        assert len(back.history["loss"]) - 30 == updates
