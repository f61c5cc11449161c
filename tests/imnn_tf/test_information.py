"""The statistics against NumPy and closed forms, in every mode and precision."""

import numpy as np
import tensorflow as tf
from summaries import TOLERANCE, draws, dtypes, modes, statistics_of

from imnn_tf import information as info


@modes
@dtypes
def test_moments_and_covariance_are_numpys(mode, dtype):
    x = draws(dtype)
    moments = mode(info.moments)(x)
    assert moments.n == len(x)
    np.testing.assert_allclose(moments.mean, x.mean(0), rtol=TOLERANCE[dtype])
    np.testing.assert_allclose(
        info.covariance(moments), np.cov(x, rowvar=False), rtol=TOLERANCE[dtype]
    )


def test_rows_of_no_weight_do_not_count():
    x = draws()
    weights = (np.arange(len(x)) % 3 == 0).astype(float)
    moments = info.moments(tf.constant(x), tf.constant(weights))
    kept = x[::3]
    assert moments.n == len(kept)
    np.testing.assert_allclose(info.covariance(moments), np.cov(kept, rowvar=False))


@modes
@dtypes
def test_merging_parts_gives_the_moments_of_the_whole(mode, dtype):
    x = draws(dtype)
    parts = [info.moments(tf.constant(part)) for part in np.split(x, [7, 200, 201])]

    def fold(*parts):
        total = info.moments(tf.zeros([1, 3], dtype), tf.zeros([1], dtype))
        for part in parts:
            total = info.merge(total, part)
        return total

    merged = mode(fold)(*parts)
    assert merged.n == len(x)
    np.testing.assert_allclose(merged.mean, x.mean(0), rtol=TOLERANCE[dtype])
    np.testing.assert_allclose(
        info.covariance(merged), np.cov(x, rowvar=False), rtol=TOLERANCE[dtype]
    )


def test_merging_does_not_cancel_in_single_precision():
    x = (draws() + 3000).astype("float32")
    total = info.moments(tf.constant(x[:100]))
    for part in np.split(x[100:], 4):
        total = info.merge(total, info.moments(tf.constant(part)))
    exact = np.cov(x.astype("float64"), rowvar=False)
    np.testing.assert_allclose(info.covariance(total), exact, rtol=1e-3)
    # The sum of squares minus the square of the sum has no correct digit here.
    naive = (np.sum(x * x, 0) - len(x) * x.mean(0) ** 2) / (len(x) - 1)
    assert np.max(np.abs(naive / np.diag(exact) - 1)) > 0.1


@modes
@dtypes
def test_slope_is_the_mean_difference_over_the_step(mode, dtype):
    rng = np.random.default_rng(1)
    below, above = rng.normal(size=(2, 2, 50, 3)).astype(dtype)  # [parameter, simulation, summary]
    step = np.array([0.1, 0.4])
    weights = np.repeat(np.diag(1 / (50 * step)), 50, axis=0)
    summaries = np.concatenate([above.reshape(-1, 3), below.reshape(-1, 3)])
    slope = mode(info.slope)(
        tf.constant(summaries), tf.constant(np.concatenate([weights, -weights]).astype(dtype))
    )
    exact = (above - below).mean(1) / step[:, None]
    np.testing.assert_allclose(slope, exact, rtol=10 * TOLERANCE[dtype], atol=1e-4)


@modes
@dtypes
def test_fisher_information_is_numpys(mode, dtype):
    x, slope = draws(dtype), np.random.default_rng(2).normal(size=(2, 3)).astype(dtype)
    result = mode(info.fisher_information)(statistics_of(x, slope))
    C = np.cov(x.astype("float64"), rowvar=False)
    F = slope @ np.linalg.inv(C) @ slope.T
    for got, exact in (
        (result.covariance, C),
        (result.inverse_covariance, np.linalg.inv(C)),
        (result.fisher, F),
        (result.log_det_covariance, np.linalg.slogdet(C)[1]),
        (result.log_det_fisher, np.linalg.slogdet(F)[1]),
    ):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, exact, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@modes
def test_gradients_are_those_of_automatic_differentiation(mode):
    random = np.random.default_rng(5)
    factor, by_fisher, by_inverse = random.normal(size=(3, 4, 4))
    by_fisher, by_determinants = by_fisher[:2, :2], random.normal(size=2)
    covariance = factor @ factor.T + np.eye(4)
    derivative = random.normal(size=(2, 4))

    def ours(scatter, slope):
        statistics = info.Statistics(
            info.Moments(tf.constant(10.0, tf.float64), tf.zeros(4, tf.float64), scatter), slope
        )
        found = info.fisher_information(statistics)
        return (
            found.fisher,
            found.inverse_covariance,
            found.log_det_covariance,
            found.log_det_fisher,
        )

    def plain(scatter, slope):
        inverse = tf.linalg.inv(scatter / 9)
        fisher = slope @ inverse @ tf.transpose(slope)
        determinants = tf.linalg.slogdet(scatter / 9)[1], tf.linalg.slogdet(fisher)[1]
        return fisher, inverse, determinants[0], determinants[1]

    def gradients(function):
        def of(scatter, slope):
            with tf.GradientTape() as tape:
                tape.watch([scatter, slope])
                results = function(scatter, slope)
                total = tf.add_n(
                    [
                        tf.reduce_sum(by * result)
                        for by, result in zip(
                            (by_fisher, by_inverse, *by_determinants), results, strict=True
                        )
                    ]
                )
            by_scatter, by_slope = tape.gradient(total, [scatter, slope])
            # The gradient by a symmetric matrix is determined up to an antisymmetric part.
            return by_scatter + tf.transpose(by_scatter), by_slope

        return of

    arguments = tf.constant(9 * covariance), tf.constant(derivative)
    got, exact = mode(gradients(ours))(*arguments), gradients(plain)(*arguments)
    for a, b in zip(got, exact, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_sample_mean_and_variance_have_the_information_of_the_draws():
    # The sufficient statistics of 10 draws of N(0, 1) have F = diag(10, 10/2 · 9/10), since the
    # variance of the sample variance is 2/(n − 1).
    n_s = 200_000
    data = np.random.default_rng(3).normal(size=(n_s, 10))
    summaries = np.stack([data.mean(1), data.var(1, ddof=1)], axis=1)
    result = info.fisher_information(statistics_of(summaries, np.eye(2)))
    # The variance of n_s draws has the relative error √(2/n_s), and about √2 times that for the
    # second summary, which has a larger kurtosis. The tolerance is five errors.
    np.testing.assert_allclose(result.fisher, np.diag([10.0, 4.5]), atol=5 * 10 * np.sqrt(4 / n_s))


def test_linear_maps_of_the_summaries_keep_the_fisher_information():
    x, slope = draws(), np.random.default_rng(4).normal(size=(2, 3))
    mixing = np.random.default_rng(5).normal(size=(3, 3))
    plain = info.fisher_information(statistics_of(x, slope))
    mixed = info.fisher_information(statistics_of(x @ mixing, slope @ mixing))
    np.testing.assert_allclose(mixed.fisher, plain.fisher, rtol=1e-9)


def test_estimate_of_a_linear_gaussian_model_is_its_maximum_likelihood():
    # x = A θ + n with n ~ N(0, C): θ̂ = (Aᵀ C⁻¹ A)⁻¹ Aᵀ C⁻¹ x, and the slope of the mean is Aᵀ.
    rng = np.random.default_rng(8)
    A, root = rng.normal(size=(4, 2)), rng.normal(size=(4, 4))
    Cinv = np.linalg.inv(root @ root.T)
    theta_fid = np.array([0.3, -1.2])
    x = rng.normal(size=(5, 4))
    got = info.estimate(
        *(tf.constant(value) for value in (x, theta_fid, A @ theta_fid, A.T, Cinv)),
        tf.constant(np.linalg.inv(A.T @ Cinv @ A)),
    )
    exact = np.linalg.solve(A.T @ Cinv @ A, A.T @ Cinv @ x.T).T
    np.testing.assert_allclose(got, exact)


def test_determinants_beyond_single_precision():
    np.testing.assert_allclose(info.determinant(np.float32(200.0)), np.exp(200.0))
    assert info.determinant(1000.0) == np.inf
