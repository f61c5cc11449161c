"""The fused step gives the same as Keras's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from imnn_tf.fit.adam import fused_steps

SHAPES = ((3, 4), (4,), ())


def trained(optimiser, fused, dtype, compiled=True, steps=20):
    """Variables and optimiser state after some steps along random gradients."""
    random = np.random.default_rng(0)
    variables = [keras.Variable(random.normal(size=shape), dtype=dtype) for shape in SHAPES]
    optimiser.build(variables)

    def step(gradients):
        if fused:
            with fused_steps(optimiser):
                optimiser.apply_gradients(zip(gradients, variables, strict=True))
        else:
            optimiser.apply_gradients(zip(gradients, variables, strict=True))

    if compiled:
        step = tf.function(step, autograph=False)
    for _ in range(steps):
        step([tf.constant(random.normal(size=shape), dtype) for shape in SHAPES])
    return [variable.numpy() for variable in (*variables, *optimiser.variables)]


OPTIMISERS = {
    "Adam": lambda: keras.optimizers.Adam(0.1, beta_1=0.8, beta_2=0.99, epsilon=1e-4),
    "AdamW": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.1),
    "clipped": lambda: keras.optimizers.Adam(0.1, clipnorm=0.5),
    "averaged": lambda: keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.9),
    "accumulating": lambda: keras.optimizers.Adam(0.1, gradient_accumulation_steps=3),
    "scheduled": lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 15)),
    "amsgrad": lambda: keras.optimizers.Adam(0.1, amsgrad=True),
    "SGD": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_it_gives_what_keras_gives(name, dtype):
    got = trained(OPTIMISERS[name](), True, dtype)
    exact = trained(OPTIMISERS[name](), False, dtype)
    tolerance = 1e-12 if dtype == "float64" else 1e-4
    for a, b in zip(got, exact, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_it_is_the_published_rule():
    got = trained(OPTIMISERS["Adam"](), True, "float64")
    random = np.random.default_rng(0)
    variables = [np.array(random.normal(size=shape)) for shape in SHAPES]
    first, second = ([np.zeros(shape) for shape in SHAPES] for _ in range(2))
    for step in range(1, 21):
        # Keras rounds the rates to single precision, but not their complements below.
        alpha, beta_1, beta_2 = (float(np.float32(rate)) for rate in (0.1, 0.8, 0.99))
        rate = alpha * np.sqrt(1 - beta_2**step) / (1 - beta_1**step)
        for variable, m, v in zip(variables, first, second, strict=True):
            gradient = random.normal(size=variable.shape)
            m += 0.2 * (gradient - m)
            v += 0.01 * (gradient**2 - v)
            variable -= rate * m / (np.sqrt(v) + 1e-4)
    # The variables of the optimiser follow in `got`.
    for a, b in zip(got, variables, strict=False):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_it_works_eagerly():
    got, exact = (
        trained(OPTIMISERS["Adam"](), f, "float64", compiled=False) for f in (True, False)
    )
    for a, b in zip(got, exact, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_graph_has_one_operation_for_each_variable(name):
    optimiser = OPTIMISERS[name]()
    variables = [keras.Variable(np.ones(shape), dtype="float32") for shape in SHAPES]
    optimiser.build(variables)

    @tf.function(autograph=False)
    def step(gradients):
        with fused_steps(optimiser):
            optimiser.apply_gradients(zip(gradients, variables, strict=True))

    graph = step.get_concrete_function([tf.ones(shape) for shape in SHAPES]).graph
    library = graph.as_graph_def().library.function
    nodes = [node for function in library for node in function.node_def]
    fused = [n for n in (*graph.as_graph_def().node, *nodes) if n.op == "ResourceApplyAdam"]
    other = ("accumulating", "amsgrad", "SGD")
    assert len(fused) == (0 if name in other else len(SHAPES))


def test_the_optimiser_is_left_as_it_was():
    optimiser = keras.optimizers.Adam()
    with fused_steps(optimiser):
        assert "update_step" in vars(optimiser)
    assert "update_step" not in vars(optimiser)
    optimiser.build([keras.Variable(np.ones(3))])
    with pytest.raises(ValueError, match="must match"), fused_steps(optimiser):
        optimiser.apply([np.ones(3)] * 2)
    assert "update_step" not in vars(optimiser)


def test_rows_of_an_embedding_are_updated_as_keras_does():
    results = []
    for fused in (True, False):
        optimiser = keras.optimizers.Adam(0.1)
        table = keras.Variable(np.ones((4, 2)), dtype="float64")
        optimiser.build([table])
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(table.value, [1, 1, 3]) ** 2)
        gradient = tape.gradient(loss, table.value)
        assert isinstance(gradient, tf.IndexedSlices)
        if fused:
            with fused_steps(optimiser):
                optimiser.apply_gradients([(gradient, table)])
        else:
            optimiser.apply_gradients([(gradient, table)])
        results.append(table.numpy())
    np.testing.assert_array_equal(*results)
