import keras
import numpy as np
import pytest
from linear_pairs import StopAfter, linear_pairs, linear_posterior

from imnn_tf.lfi.density import Architecture, DensityEstimator, SplineFlows, TrainingOptions
from imnn_tf.utils.checkpoint import CorruptFileError

SMALL = Architecture(transforms=2, bins=4, width=8)


def small_flows(**options):
    settings = {"members": 2, "epochs": 4, "batch_size": 50, "learning_rate": 3e-3}
    # Compiling takes longer than these trainings.
    training = TrainingOptions(**{**settings, "jit_compile": False, **options})
    return SplineFlows(architecture=SMALL, training=training)


@pytest.fixture(scope="module")
def pairs():
    return linear_pairs(300)


@pytest.fixture(scope="module")
def fitted(pairs):
    flows = small_flows()
    flows.fit(*pairs, seed=3, progress=False)
    return flows


def same(first, second):
    """Whether two estimators are the same to the bit."""
    (arrays, settings), (others, other_settings) = first.state(), second.state()
    return (
        settings == other_settings
        and arrays.keys() == others.keys()
        and all(np.array_equal(arrays[key], others[key]) for key in arrays)
    )


def test_it_is_a_density_estimator():
    assert isinstance(SplineFlows(), DensityEstimator)


def test_shapes_and_types(fitted, pairs):
    x = pairs[1][:3]
    samples = fitted.sample(7, x, seed=0)
    assert samples.shape == (3, 7, 2)
    logarithms = fitted.log_prob(samples, x)
    assert logarithms.shape == (3, 7)
    assert logarithms.dtype == np.float64
    history = fitted.history
    assert history["loss"].shape == history["val_loss"].shape == (4, 2)
    assert history["learning_rate"].shape == (4,)
    assert fitted.finished


def test_the_mixture_is_that_of_the_members(fitted, pairs):
    theta, x = (each[:5].astype(np.float32) for each in pairs)
    members = fitted._open.flows.log_prob_of_rows(
        fitted._open.best, np.stack([theta] * 2), x, np.stack([np.arange(5)] * 2)
    )
    weights = fitted.mixture_weights
    assert weights.shape == (2,)
    np.testing.assert_allclose(weights.sum(), 1)
    expected = np.log(weights @ np.exp(members.astype(np.float64)))
    np.testing.assert_allclose(fitted.log_prob(theta[:, None], x)[:, 0], expected, rtol=1e-5)


def test_samples_agree_with_the_density(fitted, pairs):
    """By importance weights: the mean of `exp(log q - log p)` over draws from `p` is 1."""
    n, x = 20_000, pairs[1][:1]
    samples = fitted.sample(n, x, seed=0)
    mean, covariance = samples[0].mean(axis=0), np.cov(samples[0].T)
    points = np.linspace(-6, 6, 201)
    scale = np.linalg.cholesky(covariance)
    unit = np.stack(np.meshgrid(points, points, indexing="ij"), axis=-1).reshape(-1, 2)
    grid = mean + unit @ scale.T
    density = np.exp(fitted.log_prob(grid[None], x)[0])
    density *= (points[1] - points[0]) ** 2 * np.linalg.det(scale)
    np.testing.assert_allclose(density.sum(), 1, atol=2e-3)
    exact = density @ grid
    np.testing.assert_allclose(mean, exact, atol=4 * np.sqrt(np.diag(covariance) / n).max())
    exact_covariance = (grid - exact).T @ ((grid - exact) * density[:, None])
    np.testing.assert_allclose(covariance, exact_covariance, rtol=0.1, atol=0.1 * covariance.max())
    entropy = -np.sum(density * fitted.log_prob(grid[None], x)[0])
    logarithms = fitted.log_prob(samples, x)
    error = logarithms.std() / np.sqrt(n)
    np.testing.assert_allclose(-logarithms.mean(), entropy, atol=4 * error + 2e-3)


def test_it_learns_a_linear_gaussian():
    flows = SplineFlows(
        architecture=Architecture(transforms=2, width=32),
        training=TrainingOptions(members=3, epochs=5, learning_rate=1e-3),
    )
    flows.fit(*linear_pairs(4000), seed=0, progress=False)
    _, x = linear_pairs(5, seed=1)
    samples = flows.sample(10_000, x, seed=2)
    for each, drawn in zip(x, samples, strict=True):
        mean, covariance = linear_posterior(each)
        deviations = np.sqrt(np.diag(covariance))
        # Three standard errors of a regression on 4,000 pairs, and as much for the splines.
        np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.1 * deviations.min())
        np.testing.assert_allclose(
            np.cov(drawn.T), covariance, atol=0.12 * np.diag(covariance).max()
        )


@pytest.mark.slow
def test_it_learns_two_modes_and_a_scale_that_depends_on_the_summary():
    """`|theta|` is seen with an error of a fifth of it; the density against quadrature."""
    generator = np.random.default_rng(0)
    theta = generator.normal(size=(4000, 1))
    x = np.abs(theta) * (1 + 0.2 * generator.normal(size=(4000, 1)))
    flows = SplineFlows(training=TrainingOptions(members=3, epochs=30, learning_rate=3e-3))
    flows.fit(theta, x, seed=0, progress=False)
    points = np.linspace(-4, 4, 2000)  # without zero
    for seen in (0.4, 1.0, 1.6):
        exact = np.exp(-(points**2) / 2 - ((seen / np.abs(points) - 1) / 0.2) ** 2 / 2) / np.abs(
            points
        )
        exact /= exact.sum()
        learnt = np.exp(flows.log_prob(points[None, :, None], [[seen]])[0])
        learnt /= learnt.sum()
        assert np.abs(exact - learnt).sum() / 2 < 0.1


def test_one_seed_gives_one_result(fitted, pairs):
    again, other = small_flows(), small_flows()
    again.fit(*pairs, seed=3, progress=False)
    other.fit(*pairs, seed=4, progress=False)
    assert same(fitted, again)
    assert not np.array_equal(fitted.history["loss"], other.history["loss"])
    x = pairs[1][:2]
    draws = fitted.sample(5, x, seed=1)
    np.testing.assert_array_equal(draws, again.sample(5, x, seed=1))
    assert not np.array_equal(draws, fitted.sample(5, x, seed=2))


def test_a_global_seed_makes_no_difference(fitted, pairs):
    before = np.random.get_state(legacy=False)  # noqa: NPY002
    keras.utils.set_random_seed(1)  # NumPy's, Python's and TensorFlow's generators
    again = small_flows()
    again.fit(*pairs, seed=3, progress=False)
    np.random.set_state(before)  # noqa: NPY002
    assert same(fitted, again)


def test_without_a_seed_trainings_differ(pairs):
    one, other = small_flows(epochs=1), small_flows(epochs=1)
    losses = [each.fit(*pairs, progress=False)["loss"] for each in (one, other)]
    assert not np.array_equal(*losses)


@pytest.mark.parametrize("through_a_file", [False, True], ids=["in memory", "from a file"])
def test_a_stopped_training_ends_as_if_it_had_not_been(fitted, pairs, tmp_path, through_a_file):
    flows = small_flows()
    flows.fit(*pairs, seed=3, progress=False, callbacks=[StopAfter(2)])
    assert not flows.finished
    assert len(flows.history["loss"]) == 2
    if through_a_file:
        flows.save(tmp_path / "flows.npz")
        flows = SplineFlows.load(tmp_path / "flows.npz")
    flows.fit(*pairs, progress=False)
    assert same(fitted, flows)


def test_a_stopped_training_begins_anew_with_other_pairs_or_another_seed(fitted, pairs):
    flows = small_flows()
    flows.fit(*linear_pairs(300, seed=9), seed=3, progress=False, callbacks=[StopAfter(1)])
    flows.fit(*pairs, seed=3, progress=False)
    assert same(fitted, flows)
    flows = small_flows()
    flows.fit(*pairs, seed=8, progress=False, callbacks=[StopAfter(1)])
    flows.fit(*pairs, seed=3, progress=False)
    assert same(fitted, flows)


def test_a_file_saved_by_a_callback_goes_on(fitted, pairs, tmp_path):
    path, flows = tmp_path / "flows.npz", small_flows()

    class Save(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                flows.save(path)

    flows.fit(*pairs, seed=3, progress=False, callbacks=[Save()])
    loaded = SplineFlows.load(path)
    assert not loaded.finished
    loaded.fit(*pairs, seed=3, progress=False)
    assert same(fitted, loaded)


def test_a_loaded_estimator_is_the_saved_one(fitted, pairs, tmp_path):
    fitted.save(tmp_path / "flows.npz")
    loaded = SplineFlows.load(str(tmp_path / "flows.npz"))
    assert same(fitted, loaded)
    x = pairs[1][:2]
    np.testing.assert_array_equal(fitted.sample(9, x, seed=0), loaded.sample(9, x, seed=0))


def test_a_damaged_file_is_refused(fitted, tmp_path):
    path = tmp_path / "flows.npz"
    fitted.save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CorruptFileError):
        SplineFlows.load(path)


def test_callbacks_see_every_epoch_and_set_the_learning_rate(pairs):
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append("begin")

        def on_epoch_begin(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 1e-4

        def on_epoch_end(self, epoch, logs=None):
            seen.append((epoch, logs))

        def on_train_end(self, logs=None):
            seen.append("end")

    flows = small_flows()
    history = flows.fit(*pairs, seed=0, progress=False, callbacks=[Watch()])
    assert (seen[0], seen[-1]) == ("begin", "end")
    assert [epoch for epoch, _ in seen[1:-1]] == [0, 1, 2, 3]
    for (_, logs), loss, val_loss in zip(
        seen[1:-1], history["loss"], history["val_loss"], strict=True
    ):
        assert logs == {
            "loss": pytest.approx(loss.mean()),
            "val_loss": pytest.approx(val_loss.mean()),
        }
    np.testing.assert_allclose(history["learning_rate"], 1e-4)


def test_keras_stops_it_early(pairs):
    flows = small_flows(epochs=50)
    stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=1, min_delta=10.0)
    flows.fit(*pairs, seed=0, progress=False, callbacks=[stop])
    assert len(flows.history["loss"]) == 2
    assert not flows.finished


def test_each_member_keeps_its_best_weights_and_stops_alone():
    # Noise alone: whatever is learnt from so few pairs is wrong.
    generator = np.random.default_rng(0)
    pairs = generator.normal(size=(60, 2)), generator.normal(size=(60, 3))
    flows = small_flows(epochs=60, patience=3, learning_rate=0.03, batch_size=20)
    history = flows.fit(*pairs, seed=0, progress=False)
    assert flows.finished
    scores = np.vstack([flows._open.first_scores, history["val_loss"]])
    for member, best in enumerate(flows.best_epochs):
        # The first of the least scores before three epochs brought nothing better.
        running = np.minimum.accumulate(scores[:, member])
        improved = [0] + [e for e in range(1, len(scores)) if scores[e, member] < running[e - 1]]
        gaps = np.diff([*improved, len(scores) + 3])
        assert best == improved[int(np.argmax(gaps > 3))]
        assert flows._open.scores[member] == scores[best, member]
    assert len(history["loss"]) == flows.best_epochs.max() + 3 < 60


@pytest.mark.parametrize("n_params", [1, 12])
def test_few_and_many_parameters(n_params):
    generator = np.random.default_rng(0)
    theta = generator.normal(size=(100, n_params))
    x = np.concatenate([theta + generator.normal(size=theta.shape), np.ones((100, 30))], axis=1)
    flows = small_flows(epochs=1)
    flows.fit(theta, x, seed=0, progress=False)
    samples = flows.sample(3, x[:2], seed=0)
    assert samples.shape == (2, 3, n_params)
    assert np.isfinite(flows.log_prob(samples, x[:2])).all()


def test_xla_gives_the_same_training(fitted, pairs):
    flows = small_flows(jit_compile=True)
    history = flows.fit(*pairs, seed=3, progress=False)
    np.testing.assert_allclose(history["loss"], fitted.history["loss"], rtol=1e-3)
    np.testing.assert_allclose(history["val_loss"], fitted.history["val_loss"], rtol=1e-3)


def test_types_of_numbers_make_no_difference(pairs):
    rounded = [np.round(4 * each) for each in pairs]
    results = []
    for dtype in (np.float32, np.float64, np.int64):
        flows = small_flows(epochs=1)
        theta, x = (each.astype(dtype) for each in rounded)
        flows.fit(theta, x, seed=0, progress=False)
        results.append((flows.log_prob(theta[:3, None], x[:3]), flows.sample(2, x[:3], seed=1)))
    for result in results[1:]:
        np.testing.assert_array_equal(result[0], results[0][0])
        np.testing.assert_array_equal(result[1], results[0][1])


def test_heavy_tails_are_learnt_without_nan():
    generator = np.random.default_rng(0)
    theta = generator.standard_t(1.5, size=(500, 2))
    x = theta + generator.standard_cauchy(size=(500, 2))
    flows = small_flows()
    history = flows.fit(theta, x, seed=0, progress=False)
    assert all(np.isfinite(values).all() for values in history.values())
    assert np.isfinite(flows.sample(100, [[0.0, 0.0], [1e4, -1e4]], seed=0)).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1.0, 2.0], [[1.0], [2.0]]), ValueError, "`parameters` must have shape"),
        ((np.zeros((30, 2)), np.zeros((29, 2))), ValueError, "`summaries` must have shape"),
        ((np.zeros((30, 2)), np.zeros((30, 0))), ValueError, "`summaries` must have at least one"),
        ((np.zeros((19, 2)), np.zeros((19, 2))), ValueError, "at least 20 rows, got 19"),
        ((np.full((30, 1), np.nan), np.zeros((30, 1))), ValueError, "`parameters` must be finite"),
        ((np.full((30, 1), "a"), np.zeros((30, 1))), TypeError, "`parameters` must hold real"),
        ((np.arange(30.0)[:, None], np.arange(30.0)[:, None] * 1.1e37), ValueError, "of order one"),
    ],
)
def test_bad_pairs(arguments, error, message):
    with pytest.raises(error, match=message):
        small_flows().fit(*arguments, seed=0, progress=False)


def test_bad_arguments(fitted, pairs):
    x = pairs[1][:2]
    with pytest.raises(TypeError, match="`callbacks`"):
        small_flows().fit(*pairs, callbacks=["stop"], progress=False)
    with pytest.raises(TypeError, match="`seed`"):
        small_flows().fit(*pairs, seed="one", progress=False)
    with pytest.raises(ValueError, match="`summaries` must have shape"):
        fitted.sample(3, x[:, :2])
    with pytest.raises(ValueError, match="`n` must be at least 1"):
        fitted.sample(0, x)
    with pytest.raises(ValueError, match="`parameters` must have shape"):
        fitted.log_prob(np.zeros((3, 4, 2)), x)
    with pytest.raises(ValueError, match="`summaries` must be finite"):
        fitted.sample(3, np.full((1, 3), np.inf))
    with pytest.raises(RuntimeError, match="fitted first"):
        small_flows().sample(3, x)
    with pytest.raises(TypeError, match="`training` must be a TrainingOptions"):
        SplineFlows(training={"epochs": 3})


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Architecture, {"bins": 1}),
        (Architecture, {"width": 0}),
        (Architecture, {"bound": 0.0}),
        (TrainingOptions, {"members": 0}),
        (TrainingOptions, {"validation_share": 1.0}),
        (TrainingOptions, {"averaging": 1.0}),
        (TrainingOptions, {"learning_rate": 0.0}),
    ],
)
def test_bad_settings(kind, options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be"):
        kind(**options)
