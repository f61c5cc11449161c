"""Properties that hold for all shapes, types, scales, seeds and orders, tried by Hypothesis."""

import functools
import itertools

import numpy as np
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from problems import SIZE, draw, small_rim

from rim_tf import GaussianLikelihood, TrajectoryLoss
from rim_tf.fitting.data import arrange
from rim_tf.fitting.losses import step_weights, weighted_mean
from rim_tf.networks.layers import pad_axis
from rim_tf.problem.links import LINKS
from rim_tf.problem.preprocessing import get_preprocessing

# Every run tries the same examples, and the checks of global generators hold for all of them.
SAME = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}
SEEDS = st.integers(0, 2**31 - 1)
PRECISIONS = st.sampled_from([("float32", 1e-3), ("float64", 1e-10)])


def close(found, wanted, tolerance):
    """Equal to a part of the largest number, for numbers of any scale."""
    wanted = np.asarray(wanted)
    np.testing.assert_allclose(
        found, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max(initial=0)
    )


@settings(max_examples=60, **SAME)
@given(
    seed=SEEDS,
    sizes=st.tuples(*[st.integers(1, 4)] * 3),
    precision=PRECISIONS,
    decades=st.tuples(st.integers(-8, 8), st.integers(-4, 4)),
    is_complex=st.booleans(),
    noise=st.sampled_from(["sigma", "sigma of each", "covariance", "covariance of each"]),
    masked=st.booleans(),
)
def test_gaussian_scores(seed, sizes, precision, decades, is_complex, noise, masked):
    """In closed form, and as the slope of the energy; masked data may be anything."""
    (count, rows, columns), (dtype, tolerance) = sizes, precision
    random = np.random.default_rng(seed)
    scale, level = (10.0**power for power in decades)

    def normal(*shape):
        parts = random.normal(size=(*shape, 2))
        return parts[..., 0] + 1j * parts[..., 1] if is_complex else parts[..., 0]

    x, a = scale * random.normal(size=(count, columns, 1)), normal(count, rows, columns)
    y = scale * normal(count, rows)
    mask = (random.uniform(size=(count, rows)) < 0.6).astype(float)
    if "sigma" in noise:
        shape = (count, rows) if "each" in noise else (rows,)
        given_noise = level * scale * random.uniform(0.5, 2, size=shape)
        weights = np.eye(rows) / given_noise[..., None] ** 2 * mask[:, :, None] ** masked
    else:
        root = np.eye(rows) + 0.3 * normal(*([count] if "each" in noise else []), rows, rows)
        given_noise = (level * scale) ** 2 * root @ np.swapaxes(root.conj(), -1, -2)
        kept = mask[:, :, None] * mask[:, None, :] if masked else np.ones((count, rows, rows))
        of_all = np.broadcast_to(given_noise, kept.shape)
        weights = np.linalg.pinv(kept * of_all, hermitian=True)
    residual = y - np.einsum("nij,nj->ni", a, x[..., 0])
    weighted = np.einsum("nij,nj->ni", np.broadcast_to(weights, (count, rows, rows)), residual)
    chi2 = np.einsum("ni,ni->n", residual.conj(), weighted).real
    score = np.einsum("nij,ni->nj", a.conj(), weighted).real[..., None]

    options = {
        "covariance" if "cov" in noise else "sigma": "given" if "each" in noise else given_noise
    }
    likelihood = GaussianLikelihood(mask="given" if masked else None, **options)
    data = np.where(mask > 0, y, np.nan) if masked else y
    arguments = [data, a, *([given_noise] if "each" in noise else [])]
    arguments = [tf.cast(tf.constant(each), _type(each, dtype)) for each in arguments]
    arguments += [tf.constant(mask, dtype)] if masked else []
    point = tf.constant(x, dtype)
    close(likelihood.chi2(point, *arguments), chi2, tolerance)
    close(likelihood.score(point, *arguments), score, tolerance)
    with tf.GradientTape() as tape:
        tape.watch(point)
        energy = likelihood.energy(point, *arguments)
    close(-tape.gradient(energy, point), score, tolerance)


def _type(value, dtype):
    if np.iscomplexobj(value):
        return {"float32": "complex64", "float64": "complex128"}[dtype]
    return dtype


@settings(max_examples=100, **SAME)
@given(
    name=st.sampled_from(sorted(LINKS)),
    precision=PRECISIONS,
    decade=st.floats(-30, 4),
    digits=st.lists(st.floats(1, 10), min_size=1, max_size=5),
)
def test_links_are_undone_by_their_inverses(name, precision, decade, digits):
    (dtype, _), link = precision, LINKS[name]
    x = np.array(digits) * 10**decade
    if name in ("sigmoid", "tanh"):
        x = x / (1 + x)
    x = tf.constant(x.astype(dtype))
    if name == "sigmoid":
        x = tf.concat([x, 1 - x], 0)
    elif name in ("identity", "tanh"):
        x = tf.concat([x, -x], 0)
    inside = {"sigmoid": x < 1, "tanh": tf.abs(x) < 1}.get(name, x == x)
    x = tf.boolean_mask(x, inside & (tf.abs(x) > (0 if name != "sigmoid" else 1e-37)))
    # A logarithm of up to 70 is rounded to as many parts.
    close_to = 100 * np.finfo(dtype).eps
    found = link.forward(link.inverse(x))
    np.testing.assert_allclose(found, x, rtol=close_to)
    order = np.argsort(np.asarray(x), kind="stable")
    u = np.asarray(link.inverse(x))[order]
    # Equal numbers at different places of a tensor may be rounded differently.
    assert np.all(np.diff(u) >= -4 * np.finfo(dtype).eps * np.abs(u[1:]))


@functools.cache
def fixed_rim():
    return small_rim(score_preprocessing_method="adam", observation_channels=0)


@settings(max_examples=12, **SAME)
@given(
    seed=SEEDS,
    count=st.sampled_from([1, 3, 7]),
    batch_size=st.sampled_from([1, 3, 100]),
    global_seed=st.none() | SEEDS,
)
def test_predictions_depend_on_no_other_example(seed, count, batch_size, global_seed):
    """Nor on the size of batches, the order of examples, or a global seed."""
    y, _, *args = draw(7, seed)
    rim = fixed_rim()
    whole = rim.predict(y, *args, jit_compile=False)
    order = np.random.default_rng(seed).permutation(7)[:count]
    if global_seed is not None:
        tf.random.set_seed(global_seed)
    try:
        some = [each[order] for each in (y, *args)]
        parts = rim.predict(*some, batch_size=batch_size, jit_compile=False)
    finally:
        tf.random.set_seed(None)
    np.testing.assert_allclose(parts, whole[order], rtol=1e-4, atol=1e-5)
    spoiled = [each.copy() for each in (y, *args)]
    for each in spoiled:
        each[order[0]] = np.nan  # one bad row
    found = rim.predict(*spoiled, jit_compile=False)
    others = np.arange(7) != order[0]
    np.testing.assert_allclose(found[others], whole[others], rtol=1e-4, atol=1e-5)
    assert np.isnan(found[order[0]]).all()


@settings(max_examples=25, **SAME)
@given(
    count=st.integers(1, 12),
    batch_size=st.integers(1, 13),
    steps=st.none() | st.integers(1, 9),
    epoch=st.integers(0, 3),
    seed=SEEDS,
    layout=st.sampled_from(["arrays", "examples"]),
    global_seed=st.none() | SEEDS,
)
def test_orders(count, batch_size, steps, epoch, seed, layout, global_seed):
    """Each pass has every example once; any epoch can be reached; no global seed matters."""
    columns = (np.arange(count), np.arange(count))
    data = columns
    if layout == "examples":
        data = tf.data.Dataset.from_tensor_slices(columns)
    options = {"batch_size": batch_size, "dtype": "float32", "shuffle": True, "seed": seed}
    per_pass = -(-count // batch_size)
    steps = steps or per_pass

    def batches(first_epoch, number):
        found = arrange(data, **options, steps=steps, first_epoch=first_epoch).data
        return [y[0].tolist() for (y, _) in found.take(number).as_numpy_iterator()]

    whole = batches(0, (epoch + 1) * steps)
    passes = [
        list(itertools.chain(*whole[k : k + per_pass])) for k in range(0, len(whole), per_pass)
    ]
    for each in passes[: len(whole) // per_pass]:
        assert sorted(each) == list(range(count))
    if global_seed is not None:
        tf.random.set_seed(global_seed)
    try:
        assert batches(epoch, steps) == whole[epoch * steps :]
    finally:
        tf.random.set_seed(None)


@settings(max_examples=40, **SAME)
@given(
    seed=SEEDS,
    sizes=st.lists(st.integers(1, 4), max_size=3),
    axes=st.integers(0, 5),
    steps=st.integers(1, 4),
    schedule=st.sampled_from(["uniform", "linear", "quadratic", "logarithmic", "last"]),
    decade=st.integers(-8, 8),
)
def test_losses_are_weighted_means(seed, sizes, axes, steps, schedule, decade):
    random = np.random.default_rng(seed)
    shape = (3, *sizes, 2)
    truth, trajectory = random.normal(size=shape), random.normal(size=(3, steps, *sizes, 2))
    weights = 10.0**decade * random.uniform(size=shape[: min(axes + 1, len(shape))])
    weights = np.where(random.uniform(size=weights.shape) < 0.3, 0, weights)
    squares = np.einsum(
        "t,nt...->n...", step_weights(schedule, steps), (trajectory - truth[:, None]) ** 2
    )
    full = np.broadcast_to(
        weights.reshape(weights.shape + (1,) * (len(shape) - weights.ndim)), shape
    )
    expected = (full * squares).sum() / full.sum() if full.sum() else 0.0
    spoiled = np.where(full > 0, truth, np.nan)
    loss = TrajectoryLoss(schedule)(tf.constant(spoiled), tf.constant(trajectory), weights)
    np.testing.assert_allclose(loss, expected, rtol=1e-10)
    np.testing.assert_allclose(weighted_mean(tf.constant(squares), weights), expected, rtol=1e-10)


@settings(max_examples=60, **SAME)
@given(
    size=st.integers(1, 6),
    before=st.integers(0, 9),
    after=st.integers(0, 9),
    padding=st.sampled_from(["zero", "reflect", "periodic"]),
)
def test_padding_is_that_of_numpy(size, before, after, padding):
    """With a size that is known, and with one that is not."""
    x = np.random.default_rng(0).normal(size=(2, size, 3))
    mode = {"zero": "constant", "reflect": "reflect", "periodic": "wrap"}[padding]
    expected = np.pad(x, [(0, 0), (before, after), (0, 0)], mode=mode)
    np.testing.assert_array_equal(pad_axis(tf.constant(x), 1, before, after, padding), expected)
    found = unknown_size_padding(padding)(x, before, after)
    np.testing.assert_array_equal(found, expected)


@functools.cache
def unknown_size_padding(padding):
    widths = [tf.TensorSpec([], tf.int32)] * 2
    return tf.function(
        lambda x, before, after: pad_axis(x, 1, before, after, padding),
        input_signature=[tf.TensorSpec([2, None, 3], tf.float64), *widths],
    )


@settings(max_examples=30, **SAME)
@given(
    seed=SEEDS,
    method=st.sampled_from(["scaled", "identity", "arcsinh", "adam", "rmsprop"]),
    decade=st.integers(-15, 15),
)
def test_preprocessing_is_finite_at_every_scale(seed, method, decade):
    """Of scores of which some are zero; with a slope."""
    random = np.random.default_rng(seed)
    scores = 10.0**decade * random.normal(size=(4, 2, SIZE, 1)).astype("float32")
    scores[:, 0] = 0
    preprocessing = get_preprocessing(method)
    scores = tf.constant(scores, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        state, total = preprocessing.initial_state(scores[0]), 0.0
        for step in range(4):
            seen, state = preprocessing(scores[step], state, step)
            total += tf.reduce_sum(seen)
    assert np.isfinite(total)
    assert np.isfinite(tape.gradient(total, scores)).all()
