"""Several replicas give the same as one device."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from gradients import MODELS, objective_of

from imnn_tf import IMNN
from imnn_tf.fit.objective import Objective
from imnn_tf.fit.passes import Summariser
from imnn_tf.fit.replicas import Replicas
from imnn_tf.regularisation import Regularisation
from imnn_tf.simulations.sources.cache import Cache

DTYPE = tf.float64
SIMULATIONS = reference.simulations(0, n_s=60, n_d=45)


def source(**options):
    return reference.held(*SIMULATIONS, reference.DELTA_THETA, dtype=DTYPE, **options)


def replicated(mirrored, name):
    with mirrored.scope():
        model = MODELS[name]()
    return Objective(Summariser(model, 2, replicas=Replicas(mirrored)), Regularisation())


@pytest.mark.parametrize("cache", ["memory", False])
@pytest.mark.parametrize("at_once", [30, 13])
@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_is_that_of_one_device(mirrored, name, at_once, cache):
    simulations = source(at_once=at_once, cache=Cache(cache))
    alone = objective_of(MODELS[name]()).gradient(simulations)
    objective = replicated(mirrored, name)
    compiled = tf.function(lambda: objective.gradient(simulations), autograph=False)
    result = compiled()
    np.testing.assert_allclose(result.loss.total, alone.loss.total, rtol=1e-9)
    np.testing.assert_allclose(result.information.fisher, alone.information.fisher, rtol=1e-9)
    for got, exact in zip(result.gradients, alone.gradients, strict=True):
        np.testing.assert_allclose(got, exact, rtol=1e-7, atol=1e-9)


def test_running_averages_are_those_of_all_replicas(mirrored):
    simulations = source(at_once=30)
    objective = replicated(mirrored, "normalised")
    before = [v.numpy() for v in objective.summariser.model.non_trainable_variables]
    tf.function(lambda: objective.gradient(simulations), autograph=False)()
    variables = objective.summariser.model.non_trainable_variables
    assert not np.array_equal(variables[0].numpy(), before[0])
    for variable in variables:
        first, second = (copy.numpy() for copy in variable.value.values)
        np.testing.assert_array_equal(first, second)


def imnn_of(model, **options):
    fiducial, derivative = SIMULATIONS
    return IMNN(
        θ_fid=reference.THETA_FID,
        δθ=reference.DELTA_THETA,
        fiducial=fiducial,
        derivative=derivative,
        validation_fiducial=fiducial,
        validation_derivative=derivative,
        model=model,
        optimiser=keras.optimizers.Adam(0.01),
        dtype=DTYPE,
        verbose=False,
        **options,
    )


def test_a_fit_is_that_of_one_device(mirrored, tmp_path):
    alone = imnn_of(MODELS["dropout"](), at_once=30)
    alone.fit(7)
    with mirrored.scope():
        model = MODELS["dropout"]()
    given = {"strategy": mirrored, "directory": tmp_path, "save": True}
    spread = imnn_of(model, **given)
    spread.fit(4)
    spread.fit(3)
    for got, exact in zip(spread.model.get_weights(), alone.model.get_weights(), strict=True):
        np.testing.assert_allclose(got, exact, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(spread.F, alone.F, rtol=1e-6)
    np.testing.assert_allclose(spread.history["loss"], alone.history["loss"], rtol=1e-7)
    data = SIMULATIONS[0][:3]
    np.testing.assert_allclose(spread.get_estimate(data), alone.get_estimate(data), rtol=1e-5)
    with mirrored.scope():
        model = MODELS["dropout"]()
    loaded = imnn_of(model, load=True, **given)
    np.testing.assert_allclose(loaded.F, spread.F)


def test_a_fit_with_a_simulator_is_that_of_one_device(mirrored):
    def simulator(parameters, seed):
        noise = tf.random.stateless_normal([tf.shape(parameters)[0], 10], seed, dtype=DTYPE)
        return parameters[:, :1] + tf.sqrt(parameters[:, 1:]) * noise

    given = {
        "θ_fid": reference.THETA_FID,
        "δθ": reference.DELTA_THETA,
        "n_s": 60,
        "simulator": simulator,
        "dtype": DTYPE,
        "verbose": False,
    }
    alone = IMNN(model=MODELS["plain"](), at_once=30, **given)
    with mirrored.scope():
        model = MODELS["plain"]()
    spread = IMNN(model=model, strategy=mirrored, **given)
    for imnn in (alone, spread):
        imnn.fit(3)
    np.testing.assert_allclose(spread.history["loss"], alone.history["loss"], rtol=1e-7)


def test_a_model_of_one_device_is_refused(mirrored):
    with pytest.raises(ValueError, match=r"`model` must be made under `strategy.scope\(\)`"):
        imnn_of(MODELS["plain"](), strategy=mirrored)


def test_xla_is_refused(mirrored):
    with mirrored.scope():
        model = MODELS["plain"]()
    imnn = imnn_of(model, strategy=mirrored)
    with pytest.raises(ValueError, match="`jit_compile` must be left out where a `strategy`"):
        imnn.fit(1, jit_compile=True)
