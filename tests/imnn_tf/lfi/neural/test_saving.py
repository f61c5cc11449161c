"""A neural posterior that is written to a folder, and a training that is killed."""

import copy
import pickle

import keras
import numpy as np
import pytest
from linear_gaussian import GaussianPrior, LinearGaussian

from imnn_tf.lfi import NeuralPosterior
from imnn_tf.lfi.density import Architecture, SplineFlows, TrainingOptions
from imnn_tf.lfi.neural import estimators
from imnn_tf.utils.checkpoint import CorruptFileError

PRIOR = GaussianPrior([0.0, 1.0], [1.0, 2.0])
TARGETS = np.array([[0.5, 1.0], [1.0, 0.0]])


def simulator(parameters, rng):
    return parameters + rng.normal(size=parameters.shape)


def estimates(data):
    return np.asarray(data) * 2.0


def small():
    return SplineFlows(
        architecture=Architecture(transforms=2, width=8),
        training=TrainingOptions(members=2, epochs=6),
    )


def neural(**change):
    arguments = {
        "target_data": TARGETS,
        "prior": PRIOR,
        "get_estimate": estimates,
        "simulator": simulator,
        "labels": ["$a$", "$b$"],
        "seed": 1,
        "progress": False,
        "density_estimator": small,
    }
    return NeuralPosterior(**{**arguments, **change})


@pytest.fixture(scope="module")
def trained():
    npe = neural()
    npe(400)
    npe.add(*[np.zeros((3, 2))] * 2)  # added, but not trained on
    return npe


def load(folder, **change):
    arguments = {"prior": PRIOR, "get_estimate": estimates, "density_estimator": small}
    return NeuralPosterior.load(folder, **{**arguments, **change})


def test_what_was_saved_is_read(tmp_path, trained):
    trained.save(tmp_path / "folder")
    again = load(tmp_path / "folder", simulator=simulator)
    assert again.trained_on == 400
    assert len(again.parameters) == 403
    assert again.labels == ["$a$", "$b$"]
    for target in range(2):
        np.testing.assert_array_equal(again.result(target).samples, trained.result(target).samples)
        at = np.ones((2, 2))
        np.testing.assert_array_equal(again.log_prob(at, target), trained.log_prob(at, target))
    np.testing.assert_array_equal(again.history["loss"], trained.history["loss"])
    more = copy.deepcopy(trained)
    more(200)
    again(200, progress=False)
    np.testing.assert_array_equal(again.result().samples, more.result().samples)


def test_rounds_and_nothing_at_all_are_saved_too(tmp_path):
    npe = neural()
    npe.save(tmp_path / "new")
    assert load(tmp_path / "new").trained_on == 0
    npe(200, rounds=2, target=1)
    npe.save(tmp_path / "rounds")
    again = load(tmp_path / "rounds")
    np.testing.assert_array_equal(again.result(1).samples, npe.result(1).samples)
    with pytest.raises(ValueError, match="Target 0 must be like target 1"):
        again.result(0)


def test_other_functions_and_damage_are_refused(tmp_path, trained):
    trained.save(tmp_path)
    with pytest.raises(ValueError, match="`get_estimate` must be the one that the posterior was"):
        load(tmp_path, get_estimate=lambda x: x)
    with pytest.raises(ValueError, match="`prior` must be the one that the posterior was saved"):
        load(tmp_path, prior=GaussianPrior([0.0, 1.0], [1.0, 3.0]))
    with pytest.raises(TypeError, match="`density_estimator` must have `load`"):
        load(tmp_path, density_estimator=LinearGaussian())
    for name in ("density.npz", "posterior.npz"):
        content = bytearray((tmp_path / name).read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CorruptFileError):
            load(tmp_path)
        trained.save(tmp_path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "elsewhere")


def test_an_estimator_that_cannot_be_saved_is_named(tmp_path):
    npe = neural(density_estimator=LinearGaussian())
    npe(200)
    with pytest.raises(TypeError, match="`density_estimator` must have `save`"):
        npe.save(tmp_path)


def test_flows_are_pickled_and_copied_with_the_posterior(trained):
    for other in (pickle.loads(pickle.dumps(trained)), copy.deepcopy(trained)):  # noqa: S301
        np.testing.assert_array_equal(other.result().samples, trained.result().samples)


class Killed(keras.callbacks.Callback):
    """Ends a training with an error before its fourth epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 3:
            raise RuntimeError("killed")


def test_a_killed_training_goes_on_as_if_it_had_not_been(tmp_path, trained):
    with pytest.raises(RuntimeError, match="killed"):
        neural(store=tmp_path)(400, callbacks=[Killed()])
    epochs = []
    count = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(epoch))
    resumed = neural(store=tmp_path)
    resumed(400, callbacks=[count])
    # It goes on from an epoch after which the training was written, the first at least.
    assert epochs in ([1, 2, 3, 4, 5], [2, 3, 4, 5], [3, 4, 5])
    np.testing.assert_array_equal(resumed.result().samples, trained.result().samples)
    again = neural(store=tmp_path)
    again(400, callbacks=[Killed()])  # finished before, so there is nothing to do
    np.testing.assert_array_equal(again.result().samples, trained.result().samples)
    assert epochs[-1] == 5


def test_a_training_that_a_callback_stopped_goes_on_when_asked(trained):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    npe = neural()
    npe(400, callbacks=[Stop()])
    assert len(npe.history["loss"]) == 1
    npe.train()
    np.testing.assert_array_equal(npe.result().samples, trained.result().samples)


def test_an_estimator_is_recognised():
    assert estimators.maker_of(None) is estimators.maker_of("spline_flows")
    assert isinstance(estimators.maker_of(None)(), SplineFlows)
    assert isinstance(estimators.maker_of(LinearGaussian)(), LinearGaussian)
