import keras
import numpy as np
import pytest
import tensorflow as tf
from problems import SIZE, draw, score_fn, small_network, small_rim

from rim_tf import RIM, Hourglass, TrajectoryLoss
from rim_tf.fitting.data import arrange
from rim_tf.fitting.keywords import make_callbacks, make_optimizer
from rim_tf.fitting.schedules import Warmup
from rim_tf.problem.likelihoods import GaussianLikelihood

FAST = {"verbose": 0, "seed": 0, "learning_rate": 1e-2, "batch_size": 8}


def compiled_rim(**options):
    """Compiled without XLA, which takes its time, before `fit` sees it."""
    rim = small_rim(**options)
    rim.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    return rim


def weights_after(rim, *data, **options):
    rim.fit(*data, **{**FAST, "learning_rate": None, **options})
    return [variable.numpy() for variable in rim.variables]


def test_the_call_of_the_predecessor():
    """As its documentation has it, with channels last."""
    y, x, a, sigma = draw(32, 0)
    dataset = tf.data.Dataset.from_tensor_slices((y, x, a, sigma))
    net = Hourglass(channels=1, dimensions=1, nf=4, hidden_units=4)
    rim = RIM([SIZE], net, score_fn=score_fn, T=2)
    history = rim.fit(dataset, epochs=3, learning_rate=1e-3, batch_size=16, verbose=0)
    assert rim.jit_compile is True
    assert len(history.history["loss"]) == 3
    assert rim.predict(y, a, sigma).shape == x.shape


def test_training_beats_doing_nothing():
    """Zeros have error one; the posterior mean of this problem has about 0.1."""
    data, held_out = draw(1024, 1), draw(512, 2)
    rim = compiled_rim(T=4)
    y, x, *args = held_out
    before = np.mean((rim.predict(y, *args, jit_compile=False) - x) ** 2)
    rim.fit(data, epochs=12, batch_size=64, verbose=0, seed=0)
    after = np.mean((rim.predict(y, *args, jit_compile=False) - x) ** 2)
    assert after < 0.5 < before


@pytest.mark.parametrize("layout", ["arrays", "keras", "examples", "batches", "sequence"])
def test_every_layout_gives_the_same_fit(layout):
    y, x, a, sigma = draw(20, 3)
    examples = tf.data.Dataset.from_tensor_slices((y, x, a, sigma))
    options = {"shuffle": False, "epochs": 2}
    data = {
        "arrays": ((y, x, a, sigma),),
        "keras": ((y, a, sigma), x),
        "examples": (examples,),
        "batches": (examples.batch(8),),
        "sequence": ([(y[k], x[k], a[k], sigma[k]) for k in range(20)],),
    }[layout]
    if layout == "batches":
        options["batch_size"] = None
    if layout == "sequence":

        class Sequence:
            def __len__(self):
                return 20

            def __getitem__(self, index):
                return y[index], x[index], a[index], sigma[index]

        data = (Sequence(),)
    expected = weights_after(compiled_rim(), (y, x, a, sigma), shuffle=False, epochs=2)
    for ours, theirs in zip(weights_after(compiled_rim(), *data, **options), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_seed_decides_the_order():
    data = draw(20, 3)
    first, again, other = (
        weights_after(compiled_rim(), data, seed=seed, epochs=2) for seed in (1, 1, 2)
    )
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, c) for a, c in zip(first, other, strict=True))


def orders(seed, global_seed):
    """The numbers of the examples in the order of two epochs."""
    examples = tf.data.Dataset.range(9).map(lambda n: (n, n))
    if global_seed is not None:
        tf.random.set_seed(global_seed)
    try:
        data, steps = arrange(examples, batch_size=4, shuffle=True, seed=seed)
        return np.concatenate([y[0] for y, _ in data.take(2 * steps).as_numpy_iterator()])
    finally:
        tf.random.set_seed(None)


def test_the_order_of_examples_depends_on_no_global_seed():
    expected = orders(3, None)
    for epoch in (expected[:9], expected[9:]):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(9))
    assert not np.array_equal(expected[:9], expected[9:])
    for global_seed in (0, 1, 2**31 - 1):
        np.testing.assert_array_equal(orders(3, global_seed), expected)
    assert not np.array_equal(orders(4, 0), expected)
    # The order of version 0.3, if there was no global seed.
    old = [8, 1, 6, 5, 4, 0, 2, 7, 3, 0, 6, 5, 2, 1, 7, 3, 4, 8]
    np.testing.assert_array_equal(expected, old)


def test_plain_keras_works_too():
    y, x, *args = draw(24, 4)
    rim = small_rim()
    rim.compile("adam", loss=TrajectoryLoss("last"), metrics=[], jit_compile=False)
    stop = keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=1e9)
    history = rim.fit(
        (y, *args), x, validation_data=((y, *args), x), epochs=9, callbacks=[stop], verbose=0
    )
    assert len(history.epoch) == 2
    assert set(history.history) == {"loss", "error", "val_loss", "val_error"}
    # With the last step alone, loss and error are the same number.
    np.testing.assert_allclose(history.history["val_loss"], history.history["val_error"], rtol=1e-5)


def test_metrics_are_those_of_the_last_iterate():
    y, x, *args = draw(10, 5)
    likelihood = GaussianLikelihood(lambda x, a: tf.linalg.matvec(a, x[..., 0]))
    rim = compiled_rim(likelihood=likelihood, link_function="exp")
    x = np.exp(x)
    logs = rim.evaluate((y, *args), x, batch_size=4, verbose=0, return_dict=True)
    estimate = rim.predict(y, *args, jit_compile=False)
    np.testing.assert_allclose(logs["error"], np.mean((estimate - x) ** 2), rtol=1e-5)
    residual = y - np.einsum("nij,nj->ni", args[0], estimate[..., 0])
    chi2 = np.sum((residual / args[1][:, None]) ** 2, 1)
    np.testing.assert_allclose(logs["chi2"], chi2.mean(), rtol=1e-5)
    unlinked = rim((y, *args))
    loss = np.mean((np.asarray(unlinked) - np.log(x)[:, None]) ** 2)
    np.testing.assert_allclose(logs["loss"], loss, rtol=1e-4)


def test_every_step_can_be_measured(tmp_path):
    y, x, *args = draw(10, 5)
    likelihood = GaussianLikelihood(lambda x, a: tf.linalg.matvec(a, x[..., 0]))
    rim = small_rim(likelihood=likelihood, link_function="exp", T=3)
    rim.compile(keras.optimizers.Adam(1e-2), jit_compile=False, step_metrics=True)
    x = np.exp(x)
    logs = rim.evaluate((y, *args), x, batch_size=4, verbose=0, return_dict=True)
    trajectory = rim.predict(y, *args, trajectory=True, jit_compile=False)
    for step in range(3):
        estimate = trajectory[:, step]
        error = np.mean((estimate - x) ** 2)
        residual = y - np.einsum("nij,nj->ni", args[0], estimate[..., 0])
        chi2 = np.sum((residual / args[1][:, None]) ** 2, 1).mean()
        np.testing.assert_allclose(logs[f"error_{step + 1}"], error, rtol=1e-5)
        np.testing.assert_allclose(logs[f"chi2_{step + 1}"], chi2, rtol=1e-5)
    assert logs["error"] == logs["error_3"] != logs["error_1"]
    assert logs["chi2"] == logs["chi2_3"]

    # The choice outlives a new optimiser and a file, and metrics start anew in each epoch.
    history = rim.fit((y, x, *args), **{**FAST, "learning_rate": 1e-30}, epochs=2).history
    np.testing.assert_allclose(history["error_1"], 2 * [logs["error_1"]], rtol=1e-5)
    rim.save(tmp_path / "rim.keras")
    again = keras.saving.load_model(
        tmp_path / "rim.keras", custom_objects={"likelihood": likelihood}
    )
    after = again.evaluate((y, *args), x, verbose=0, return_dict=True)
    assert after.keys() == logs.keys()


def absolute_error(target, trajectory):
    """The mean over all steps, which a squeezed trajectory would not give."""
    return tf.reduce_mean(tf.abs(trajectory - target[:, tf.newaxis]), (1, 2, 3))


@pytest.mark.parametrize("form", ["function", "list", "lambda"])
def test_a_function_as_loss_sees_the_whole_trajectory(form):
    y, x, *args = draw(6, 5)
    rim = small_rim(T=SIZE)  # as many steps as parameters, so that wrong shapes would broadcast
    loss = {
        "function": absolute_error,
        "list": [absolute_error],
        "lambda": lambda target, trajectory: absolute_error(target, trajectory),
    }[form]
    rim.compile(loss=loss, metrics=[absolute_error], jit_compile=False)
    logs = rim.evaluate((y, *args), x, verbose=0, return_dict=True)
    expected = np.mean(np.abs(np.asarray(rim((y, *args))) - x[:, None]))
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(logs["absolute_error"], expected, rtol=1e-5)


def test_a_function_as_loss_is_saved(tmp_path):
    y, x, *args = draw(6, 5)
    rim = small_rim()
    rim.compile(loss=absolute_error, jit_compile=False)
    rim.fit((y, *args), x, verbose=0)
    before = rim.evaluate((y, *args), x, verbose=0)
    rim.save(tmp_path / "rim.keras")
    functions = {"score_fn": score_fn, "absolute_error": absolute_error}
    again = keras.saving.load_model(tmp_path / "rim.keras", custom_objects=functions)
    np.testing.assert_allclose(again.evaluate((y, *args), x, verbose=0), before, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"loss": "mse"}, "loss"),
        ({"loss": keras.losses.MeanSquaredError()}, "loss"),
        ({"loss": keras.losses.mean_squared_error}, "loss"),
    ],
)
def test_losses_that_would_squeeze_the_trajectory_are_refused(options, name):
    with pytest.raises(ValueError, match=f"`{name}` must be a function of the targets"):
        small_rim().compile(**options)


@pytest.mark.parametrize("loss_of", ["u", "x"])
def test_the_loss_and_metrics_compare_what_they_are_told(loss_of, tmp_path):
    y, x, *args = draw(10, 5)
    x = np.exp(x)
    rim = small_rim(link_function="exp")
    metrics = ["mae", keras.metrics.RootMeanSquaredError()]
    rim.compile(loss_of=loss_of, metrics=metrics, weighted_metrics=["mse"], jit_compile=False)
    rim.fit((y, *args), x, verbose=0)
    weights = np.linspace(0.1, 1.0, 10).astype("float32")
    options = {"sample_weight": weights, "verbose": 0, "return_dict": True, "batch_size": 4}
    logs = rim.evaluate((y, *args), x, **options)
    trajectory = rim.predict(y, *args, trajectory=True, jit_compile=False)
    truth = x
    if loss_of == "u":
        truth, trajectory = np.log(truth), np.log(trajectory)
    errors = trajectory - truth[:, None]
    sizes = tuple(range(1, errors.ndim))
    last = errors[:, -1]
    np.testing.assert_allclose(logs["mae"], np.abs(last).mean(), rtol=1e-4)
    np.testing.assert_allclose(
        logs["root_mean_squared_error"], np.sqrt(np.mean(last**2)), rtol=1e-4
    )
    weighted = np.average((last**2).mean(sizes[:-1]), weights=weights)
    np.testing.assert_allclose(logs["mse"], weighted, rtol=1e-4)
    by_batch = [slice(0, 4), slice(4, 8), slice(8, 10)]
    losses = [
        np.average((errors[rows] ** 2).mean(sizes), weights=weights[rows]) for rows in by_batch
    ]
    np.testing.assert_allclose(logs["loss"], np.average(losses, weights=[4, 4, 2]), rtol=1e-4)
    rim.save(tmp_path / "rim.keras")
    again = keras.saving.load_model(tmp_path / "rim.keras", custom_objects={"score_fn": score_fn})
    found = again.evaluate((y, *args), x, **options)
    for name, value in logs.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)


def test_a_function_without_a_module_is_a_loss():
    names = {"tf": tf}
    exec("def mine(x, trajectory): return tf.reduce_mean(abs(trajectory - x[:, None]))", names)  # noqa: S102
    names["mine"].__module__ = None
    small_rim().compile(loss=names["mine"])


def test_an_unknown_space_of_the_loss_is_refused():
    with pytest.raises(ValueError, match="`loss_of` must be one of 'u', 'x'"):
        small_rim().compile(loss_of="z")


def test_compiling_again_replaces_the_metrics():
    data = draw(4, 5)
    rim = small_rim()

    def furthest(truth, trajectory):
        return tf.reduce_max(tf.abs(trajectory - truth[:, tf.newaxis]), (1, 2, 3))

    for _ in range(2):
        metric = keras.metrics.MeanMetricWrapper(furthest, "mine")
        rim.compile(jit_compile=False, step_metrics=True, metrics=[metric])
    expected = ["loss", "mine", "error", "error_1", "error_2"]
    assert sorted(rim.evaluate(data, verbose=0, return_dict=True)) == sorted(expected)
    assert len(rim.evaluate(data, verbose=0)) == len(expected)
    rim.compile(jit_compile=False)  # Keras itself keeps "mine"
    assert sorted(rim.evaluate(data, verbose=0, return_dict=True)) == ["error", "loss", "mine"]


def test_data_sets_are_evaluated_and_predicted_like_arrays():
    y, x, a, sigma = draw(10, 5)
    rim = compiled_rim()
    data = tf.data.Dataset.from_tensor_slices((y, x, a, sigma))
    options = {"verbose": 0, "return_dict": True}
    expected = rim.evaluate((y, a, sigma), x, batch_size=4, **options)
    for layout in (
        {"x": (y, x, a, sigma), "batch_size": 4},
        {"x": data, "batch_size": 4},
        {"x": data.batch(4)},
    ):
        logs = rim.evaluate(**layout, **options)
        for name, value in expected.items():
            np.testing.assert_allclose(logs[name], value, rtol=1e-6)
    estimate = rim.predict(y, a, sigma, jit_compile=False)
    for dataset in (data.batch(4), data.map(lambda y, x, *args: ((y, *args),)).batch(4)):
        np.testing.assert_allclose(rim.predict(dataset, verbose=0), estimate, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="`y` must hold arrays for `T`"):
        rim.predict(data.batch(4), T=3)


def test_masked_pixels_train_as_if_absent():
    """Spoiling the targets of pixels without weight changes no weight of the network."""
    y, x, a, sigma = draw(16, 6)
    mask = (np.random.default_rng(0).uniform(size=(16, SIZE)) < 0.6).astype("float32")
    spoiled = np.where(mask[..., None] > 0, x, 1e3).astype("float32")
    results = [
        weights_after(compiled_rim(), (y, a, sigma), target, sample_weight=mask)
        for target in (x, spoiled)
    ]
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_two_replicas_train_like_one(mirrored):
    """Each sees half of every batch; the gradients add up to the whole batch's."""
    data = draw(16, 7)
    results = []
    for strategy in (tf.distribute.OneDeviceStrategy("CPU:0"), mirrored):
        with strategy.scope():
            rim = small_rim()
            rim.compile(keras.optimizers.SGD(0.1), jit_compile=False)
        results.append(weights_after(rim, data, epochs=2))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_xla_trains_like_the_graph():
    data = draw(16, 8)
    results = []
    for jit in (True, False):
        rim = small_rim()
        rim.compile(keras.optimizers.SGD(0.1), jit_compile=jit)
        results.append(weights_after(rim, data, epochs=2))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_averaged_weights_replace_the_last_ones():
    """The average of the weights after each update, by hand."""
    data = draw(8, 9)
    rim = small_rim()
    rim.compile(jit_compile=False)
    trace = []
    record = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: trace.append(rim.network.down.bias.numpy())
    )
    rim.fit(data, epochs=5, ema_decay=0.6, callbacks=[record], **FAST)
    average = trace[0]  # Keras starts from the weights after the first update
    for value in trace[1:]:
        average = 0.6 * average + 0.4 * value
    result = rim.network.down.bias.numpy()
    np.testing.assert_allclose(result, average, rtol=1e-5)
    assert not np.allclose(result, trace[-1])


def test_learning_rates_are_the_keywords():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.1)
    assert make_optimizer(scheduler=schedule).learning_rate == schedule(0)
    rates = [float(Warmup(schedule, 4)(step)) for step in range(8)]
    expected = [0.5 * 0.1 ** (k / 10) * min((k + 1) / 4, 1) for k in range(8)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(Warmup(schedule, 4))
    )
    np.testing.assert_allclose([float(again(step)) for step in range(8)], rates)
    assert make_optimizer(0.1, clip=2.0).global_clipnorm == 2.0
    np.testing.assert_allclose(float(make_optimizer().learning_rate), 1e-4)


def test_a_function_can_set_the_rate():
    rim = small_rim()
    rim.compile(jit_compile=False)
    history = rim.fit(draw(8, 1), epochs=3, scheduler=lambda epoch, rate: 0.1 / (epoch + 1), **FAST)
    np.testing.assert_allclose(history.history["learning_rate"], [0.1, 0.05, 0.1 / 3])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"learning_rate": -1.0}, ValueError, "`learning_rate` must be greater than 0"),
        ({"clip": -1.0}, ValueError, "`clip` must be at least 0"),
        ({"ema_decay": 1.0}, ValueError, "`ema_decay` must be less than 1"),
        ({"warmup": 3, "scheduler": lambda e, r: r}, ValueError, "`warmup` must be 0 with"),
        ({"scheduler": 3}, TypeError, "`scheduler` must be callable, got int"),
        ({"patience": 0}, ValueError, "`patience` must be at least 1"),
        ({"max_time": 0.0}, ValueError, "`max_time` must be greater than 0"),
        ({"patience": 1.5}, TypeError, "`patience` must be an integer, got 1.5"),
        ({"epochs": -1}, ValueError, "`epochs` must be at least 0, got -1"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1, got 0"),
        ({"shuffle": "yes"}, TypeError, "`shuffle` must be True or False, got 'yes'"),
        ({"seed": 1.5}, TypeError, "`seed` must be an integer, got 1.5"),
        ({"n_iterations_in_epoch": 1.5}, TypeError, "`steps_per_epoch` must be an integer"),
        ({"model_checkpoint": 3}, ValueError, "must come with `checkpoints_directory`"),
        ({"validation_split": 0.5}, ValueError, "`validation_split` must be left out"),
        ({"sample_weight": np.ones((4, 3))}, ValueError, "`sample_weight` must have the leading"),
    ],
)
def test_bad_keywords_are_named(options, error, words):
    with pytest.raises(error, match=words):
        small_rim().fit(draw(4, 0), **{**FAST, **options})


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (3, TypeError, "Training data must be arrays"),
        ((np.ones((3, 2)),), ValueError, r"must hold \(y, x, \*args\), got 1 entries"),
        (
            (np.ones((3, 2)), np.ones((4, 2))),
            ValueError,
            r"share their batch axis, got \[3, 4\]",
        ),
        # Parameters of these shapes would broadcast against the trajectory.
        (
            (draw(4, 0)[0], draw(4, 0)[1][..., 0], *draw(4, 0)[2:]),
            ValueError,
            r"`x` must have shape \(batch, 5, 1\), got \(None, 5\)",
        ),
        (
            (draw(4, 0)[0], draw(4, 0)[1][:, :1], *draw(4, 0)[2:]),
            ValueError,
            r"`x` must have shape \(batch, 5, 1\), got \(None, 1, 1\)",
        ),
    ],
)
def test_bad_data_are_named(data, error, words):
    with pytest.raises(error, match=words):
        small_rim().fit(data, **FAST)


def test_a_data_set_holds_its_own_weights():
    data = tf.data.Dataset.from_tensor_slices(draw(4, 0))
    with pytest.raises(ValueError, match="`sample_weight` must be part of a data set"):
        compiled_rim().fit(data, sample_weight=np.ones(4), batch_size=2)


def test_a_scalar_holds_for_every_example_in_training_too():
    y, x, a, _ = draw(8, 2)
    for ours, theirs in zip(
        weights_after(compiled_rim(), (y, x, a, 0.5)),
        weights_after(compiled_rim(), (y, x, a, np.full(8, 0.5))),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_no_limit_may_be_said_as_infinity():
    assert make_callbacks("loss", patience=np.inf, max_time=np.inf) == []


def test_network_of_the_small_problem_is_reproducible():
    for one, two in zip(small_network().variables, small_network().variables, strict=True):
        np.testing.assert_array_equal(one, two)


def test_several_processes_are_refused():
    with tf.distribute.MultiWorkerMirroredStrategy().scope():  # of one worker, without TF_CONFIG
        rim = small_rim()
    with pytest.raises(ValueError, match="got a `MultiWorkerMirroredStrategy`"):
        rim.fit(draw(4, 0), **FAST)
