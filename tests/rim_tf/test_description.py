import logging
import sys

import keras
import pytest
import tensorflow as tf
from problems import SIZE, draw, energy_fn, score_fn, small_network, small_rim

from rim_tf import RIM, GaussianLikelihood, PutzkyWelling

QUIET = {"verbose": 0, "seed": 0}


def eager(**options):
    """Compiled without XLA, which takes its time."""
    rim = small_rim(**options)
    rim.compile(jit_compile=False)
    return rim


def test_a_rim_says_what_it_is():
    network = small_network()
    rim = small_rim(network=network)
    assert repr(rim) == (
        f"RIM(parameters: of shape ({SIZE}, 1), score: score_fn = score_fn, steps: 2 from zeros, "
        f"network: PutzkyWelling, {network.count_params():,} weights, "
        "score preprocessing: Identity, state: not fitted)"
    )
    assert rim._repr_html_().count("<tr>") == 6
    assert isinstance(rim, keras.Model)


def test_fields_links_and_likelihoods_are_named():
    def square(x):
        return x**2

    fields = RIM(
        [None, None],
        PutzkyWelling(3),
        energy_fn=energy_fn,
        fields={"light": 1, "mass": 2},
        link_function={"light": "exp"},
    )
    assert "of shape (None, None, 3), with the fields light (1), mass (2), links light exp" in repr(
        fields
    )
    assert "score: energy_fn = energy_fn" in repr(fields)
    rim = RIM(
        [4],
        small_network(),
        likelihood=GaussianLikelihood(lambda x: x),
        link_function=square,
        inverse_link_function=tf.sqrt,
    )
    assert "of shape (4, 1), link square, score: likelihood = GaussianLikelihood" in repr(rim)


def test_the_state_of_a_fit_and_of_a_loaded_model_are_told(tmp_path):
    rim = eager(score_preprocessing_method="scaled")
    assert "Scaled, with scales that `fit` will measure" in repr(rim)
    history = rim.fit(draw(32, 0), epochs=2, checkpoints_directory=tmp_path, **QUIET)
    last = history.history["loss"][-1]
    assert "preprocessing: Scaled, state: fitted for 2 epochs" in repr(rim)
    assert f"loss {last:.4g}" in repr(rim)
    loaded = RIM.from_checkpoints(tmp_path, score_fn=score_fn)
    assert "state: weights of epoch 2 of a saved fit" in repr(loaded)
    rim.save(tmp_path / "rim.keras")
    loaded = keras.saving.load_model(tmp_path / "rim.keras", {"score_fn": score_fn})
    assert "state: fitted for 2 updates" in repr(loaded)


def test_the_metrics_of_each_step_are_not_listed():
    rim = small_rim()
    rim.compile(jit_compile=False, step_metrics=True)
    assert "error_2" in rim.fit(draw(8, 0), **QUIET).history
    assert "error_2" not in repr(rim)


def test_a_fit_says_how_it_ended(capsys, caplog):
    rim, data = eager(), draw(64, 1)
    with caplog.at_level(logging.INFO, logger="rim_tf"):
        history = rim.fit(data, epochs=3, seed=0).history["loss"]
    said = f"The fit ended after 3 epochs, 6 updates; loss {history[-1]:.4g}, at its lowest"
    assert said in caplog.text
    shown = capsys.readouterr().out
    assert said in shown.splitlines()[-1]
    rim.fit(data, epochs=1, **QUIET)
    assert "ended" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        # No loss is below a tenth of the one before it.
        ({"patience": 2, "tolerance": 0.9}, "Patience ended the fit after 3 epochs, 3 updates"),
        ({"max_time": 1e-9}, "`max_time` ended the fit after 1 epochs"),
        (
            {"callbacks": [keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=1)]},
            "A callback ended the fit after 2 epochs",
        ),
    ],
)
def test_the_reason_is_named(options, said, caplog):
    with caplog.at_level(logging.INFO, logger="rim_tf"):
        eager().fit(draw(8, 2), epochs=20, **QUIET, **options)
    assert [said in message for message in caplog.messages].count(True) == 1


def test_a_log_file_gets_one_line_for_each_epoch(capsys, monkeypatch):
    data = draw(64, 3)
    rim = eager()
    rim.fit(data, epochs=2, batch_size=2)
    written = capsys.readouterr().out
    assert written.count("32/32") == 2
    assert written.count("/32") == 2
    assert "\b" not in written
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    rim.fit(data, batch_size=2)
    assert " 1/32" in capsys.readouterr().out
