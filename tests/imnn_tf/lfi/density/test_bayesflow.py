import copy
import logging
import os
import random
import subprocess
import sys

import bayesflow
import keras
import numpy as np
import pytest
import tensorflow as tf
from linear_pairs import StopAfter, linear_pairs, linear_posterior

from imnn_tf.lfi import NeuralPosterior
from imnn_tf.lfi.density import BayesFlowEstimator, BayesFlowTraining, DensityEstimator
from imnn_tf.lfi.neural import estimators
from imnn_tf.utils.checkpoint import CorruptFileError


def small_network():
    return bayesflow.networks.CouplingFlow(
        depth=1, transform="affine", subnet_kwargs={"widths": (16,)}
    )


@bayesflow.utils.serialization.serializable("tests")
class Unbuildable(bayesflow.networks.InferenceNetwork):
    def build(self, xz_shape, conditions_shape=None):
        raise ValueError("not for two")


def small(network=small_network, **options):
    return BayesFlowEstimator(network, training=BayesFlowTraining(**{"epochs": 2, **options}))


@pytest.fixture(scope="module")
def pairs():
    return linear_pairs(300)


@pytest.fixture(scope="module")
def fitted(pairs):
    """A small flow after two epochs, and its history."""
    estimator = small()
    history = estimator.fit(*pairs, seed=3, progress=False)
    return estimator, history


@pytest.fixture(scope="module")
def learnt():
    """A flow that was trained to the end on a linear Gaussian."""
    estimator = small(epochs=6, batch_size=64, learning_rate=1e-2)
    estimator.fit(*linear_pairs(4000), seed=0, progress=False)
    return estimator


def test_it_is_a_density_estimator(fitted, pairs):
    estimator, history = fitted
    assert isinstance(estimator, DensityEstimator)
    samples = estimator.sample(7, pairs[1][:3], seed=0)
    assert samples.shape == (3, 7, 2)
    logarithms = estimator.log_prob(samples, pairs[1][:3])
    assert logarithms.shape == (3, 7)
    assert logarithms.dtype == np.float64
    assert history.keys() == {"loss", "val_loss"}
    assert all(values.shape == (2,) and np.isfinite(values).all() for values in history.values())
    assert estimator.log_prob(samples[:, :0], pairs[1][:3]).shape == (3, 0)


def test_it_learns_a_linear_gaussian(learnt):
    _, x = linear_pairs(5, seed=1)
    for each, drawn in zip(x, learnt.sample(10_000, x, seed=2), strict=True):
        mean, covariance = linear_posterior(each)
        deviations = np.sqrt(np.diag(covariance))
        # What 3,600 pairs leave unknown is several times the Monte Carlo error of 0.01 deviations.
        np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.2 * deviations.min())
        np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.2 * covariance.max())


def test_the_density_is_normalised_and_that_of_the_samples(learnt):
    n, x = 20_000, linear_pairs(1, seed=1)[1]
    mean, covariance = linear_posterior(x[0])
    points = np.linspace(-8, 8, 201)
    unit = np.stack(np.meshgrid(points, points, indexing="ij"), axis=-1).reshape(-1, 2)
    scale = np.linalg.cholesky(covariance)
    grid = mean + unit @ scale.T
    logarithms = learnt.log_prob(grid[None], x)[0]
    density = np.exp(logarithms) * (points[1] - points[0]) ** 2 * np.linalg.det(scale)
    np.testing.assert_allclose(density.sum(), 1, atol=5e-3)
    samples = learnt.sample(n, x, seed=0)
    found = learnt.log_prob(samples, x)
    np.testing.assert_allclose(
        found.mean(), density @ logarithms, atol=4 * found.std() / np.sqrt(n) + 5e-3
    )
    error = 4 * np.sqrt(np.diag(covariance) / n).max() + 5e-3
    np.testing.assert_allclose(samples[0].mean(axis=0), density @ grid, atol=error)


def test_a_seed_decides_everything(fitted, pairs):
    estimator, history = fitted
    samples = estimator.sample(5, pairs[1][:2], seed=1)
    again = small()
    others = again.fit(*pairs, seed=3, progress=False)
    for name, values in history.items():
        np.testing.assert_array_equal(others[name], values)
    np.testing.assert_array_equal(again.sample(5, pairs[1][:2], seed=1), samples)
    assert (again.sample(5, pairs[1][:2], seed=2) != samples).any()
    assert (again.fit(*pairs, seed=4, progress=False)["loss"] != history["loss"]).any()


def draws_of_all_generators():
    return [
        random.random(),
        np.random.random(),  # noqa: NPY002
        float(keras.random.uniform(())),
        float(tf.random.uniform(())),
    ]


def test_global_generators_are_untouched(pairs):
    state = np.random.get_state()  # noqa: NPY002
    keras.utils.set_random_seed(5)
    expected = draws_of_all_generators()
    keras.utils.set_random_seed(5)
    estimator = small(epochs=1)
    estimator.fit(*pairs, seed=0, progress=False)
    estimator.log_prob(estimator.sample(3, pairs[1][:2], seed=0), pairs[1][:2])
    found = draws_of_all_generators()
    np.random.set_state(state)  # noqa: NPY002
    assert found == expected


def test_it_stops_early_with_the_best_weights(pairs):
    """Those of the epoch with the lowest loss of the pairs that were held out."""
    estimator = small(epochs=50, learning_rate=0.1, patience=2)
    history = estimator.fit(*pairs, seed=0, progress=False)
    best = int(np.argmin(history["val_loss"]))
    assert best == len(history["loss"]) - 3 < 47
    stopped = small(epochs=50, learning_rate=0.1, patience=2)
    stopped.fit(*pairs, seed=0, callbacks=[StopAfter(best + 1)], progress=False)
    x = pairs[1][:2]
    np.testing.assert_array_equal(estimator.sample(4, x, seed=1), stopped.sample(4, x, seed=1))


@pytest.mark.parametrize("copied", [copy.deepcopy, "saved"])
def test_copies_and_files_are_the_same_estimator(copied, fitted, pairs, tmp_path):
    estimator, x = fitted[0], pairs[1][:3]
    samples = estimator.sample(5, x, seed=1)
    logarithms = estimator.log_prob(samples, x)
    if copied == "saved":
        estimator.save(tmp_path / "density.npz")
        other = BayesFlowEstimator.load(tmp_path / "density.npz")
    else:
        other = copied(estimator)
    np.testing.assert_array_equal(other.sample(5, x, seed=1), samples)
    np.testing.assert_array_equal(other.log_prob(samples, x), logarithms)


def test_a_damaged_file_is_refused(fitted, tmp_path):
    path = tmp_path / "density.npz"
    fitted[0].save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptFileError):
        BayesFlowEstimator.load(path)


def test_a_network_of_ones_own(pairs):
    """As an object whose weights are left alone, and of another kind that has one parameter."""
    network = bayesflow.networks.FlowMatching(
        subnet_kwargs={"widths": (16,)}, integrate_kwargs={"method": "euler", "steps": 20}
    )
    network.build((None, 1), (None, 3))
    weights = network.get_weights()
    theta, x = pairs[0][:, :1], pairs[1]
    first, second = (small(network) for _ in range(2))
    histories = [each.fit(theta, x, seed=3, progress=False) for each in (first, second)]
    np.testing.assert_array_equal(histories[0]["loss"], histories[1]["loss"])
    samples = copy.deepcopy(first).sample(5, x[:2], seed=1)
    assert samples.shape == (2, 5, 1)
    np.testing.assert_array_equal(second.sample(5, x[:2], seed=1), samples)
    assert np.isfinite(first.log_prob(samples, x[:2])).all()
    for before, after in zip(weights, network.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_one_parameter_is_for_flow_matching(pairs, monkeypatch):
    made = bayesflow.networks.FlowMatching(
        subnet_kwargs={"widths": (16,)}, integrate_kwargs={"method": "euler", "steps": 20}
    )
    monkeypatch.setattr(bayesflow.networks, "FlowMatching", lambda: made)
    theta, x = pairs[0][:, :1], pairs[1]
    estimator = small(None, epochs=1)
    estimator.fit(theta, x, seed=0, progress=False)
    assert estimator.sample(5, x[:2], seed=1).shape == (2, 5, 1)


def test_a_posterior_by_name_and_in_a_folder(monkeypatch, tmp_path):
    made = small_network()
    monkeypatch.setattr(bayesflow.networks, "CouplingFlow", lambda transform: made)
    monkeypatch.setitem(
        BayesFlowEstimator.__init__.__kwdefaults__, "training", BayesFlowTraining(epochs=2)
    )
    prior = Box()
    arguments = {"density_estimator": "bayesflow"}

    def noisy(theta, rng):
        return theta + 0.3 * rng.normal(size=theta.shape)

    npe = NeuralPosterior([[0.5, 0.2]], prior, None, noisy, seed=0, progress=False, **arguments)
    npe(300)
    points = np.array([[0.5, 0.2], [3.0, 0.0]])
    found = npe.log_prob(points)
    assert np.isfinite(found[0])
    assert found[1] == -np.inf
    assert npe.history["loss"].shape == (2,)
    npe.save(tmp_path / "npe")
    loaded = NeuralPosterior.load(tmp_path / "npe", prior, **arguments)
    np.testing.assert_array_equal(loaded.log_prob(points), found)
    np.testing.assert_array_equal(
        loaded.result(n_samples=50, seed=1).samples, npe.result(n_samples=50, seed=1).samples
    )


class Box:
    """The uniform distribution on [-1, 1]²."""

    event_shape = (2,)
    low, high = np.full(2, -1.0), np.full(2, 1.0)

    def sample(self, n, seed=None):
        return np.random.default_rng(seed).uniform(-1, 1, (n, 2))

    def log_prob(self, x):
        return np.where((np.abs(x) <= 1).all(axis=-1), -np.log(4.0), -np.inf)


def test_without_bayesflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "bayesflow", None)
    for make in (BayesFlowEstimator, lambda: estimators.maker_of("bayesflow")):
        with pytest.raises(ImportError, match=r'package: pip install "imnn-tf\[neural\]"\.$'):
            make()


IMPORT = """
import logging, os, sys
os.environ.pop("KERAS_BACKEND", None)
import imnn_tf.lfi.density.bayesflow
assert "bayesflow" not in sys.modules
imnn_tf.lfi.density.BayesFlowEstimator()
assert "bayesflow" in sys.modules
assert not logging.getLogger().handlers and "KERAS_BACKEND" not in os.environ
assert logging.getLogger("bayesflow").level == logging.NOTSET
"""


def test_importing_it_is_quiet():
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", IMPORT],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "bayesflow" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("make", "error", "message"),
    {
        "network": (lambda: BayesFlowEstimator(3), TypeError, "`network` must be an Inference"),
        "layer": (
            lambda: BayesFlowEstimator(keras.layers.Dense(2)),
            TypeError,
            "`network` must be an InferenceNetwork of BayesFlow .*, got Dense",
        ),
        "made": (
            lambda: small(lambda: 3).fit(*linear_pairs(50), progress=False),
            TypeError,
            "`network` must be an InferenceNetwork of BayesFlow .*, got int",
        ),
        "training": (
            lambda: BayesFlowEstimator(training={"epochs": 3}),
            TypeError,
            "`training` must be a BayesFlowTraining, got dict",
        ),
        "epochs": (lambda: BayesFlowTraining(epochs=0), ValueError, "`epochs` must be"),
        "few": (
            lambda: small().fit(*linear_pairs(19), progress=False),
            ValueError,
            "`parameters` must have at least 20 rows, got 19",
        ),
        "large": (
            lambda: small(epochs=1).fit(
                linear_pairs(50)[0] * 1e30, linear_pairs(50)[1], progress=False
            ),
            ValueError,
            "must be of order one",
        ),
        "parameters": (
            lambda: small(Unbuildable).fit(*linear_pairs(50), progress=False),
            ValueError,
            "`network` must take 2 parameters and 3 summaries, and cannot .*: not for two",
        ),
        "unfitted": (lambda: small().sample(3, [[0.0]]), RuntimeError, "must be fitted first"),
    }.values(),
)
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_ctrl_c_ends_a_training_after_an_epoch(pairs, caplog):
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            os.kill(os.getpid(), 2)
            self.on_train_batch_end = lambda batch, logs=None: None

    with caplog.at_level(logging.WARNING):
        history = small(epochs=5).fit(*pairs, seed=0, callbacks=[Interrupt()], progress=False)
    assert len(history["loss"]) == 1
    assert "interrupted after 1 epochs" in caplog.text
