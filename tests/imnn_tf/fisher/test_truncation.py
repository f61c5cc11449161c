"""Extrapolation of the slope to a step of zero, where the mean is a known function of θ."""

import numpy as np
import pytest
from fisher_information import gaussian_samples
from scipy.special import erf

from imnn_tf.fisher.truncation import truncation_of

RATIO = np.array([2.0, 2.0])

# Means of a summary with a slope of one at zero.
MEANS = {
    "sin": np.sin,
    "sinh": np.sinh,
    "tanh": np.tanh,
    "erf": lambda x: erf(x) * np.sqrt(np.pi) / 2,
    "Lorentz": lambda x: x / (1 + x**2),
}


def difference(mean, half):
    """The slope of two summaries, each the mean of its own parameter, over a step."""
    return np.eye(2) * mean(half) / half


def sample_of(mean, half, *, noise=0.0, matched=True, seed=0, n_d=10):
    """A sample with steps of `2 half` and twice that, and noise of each derivative simulation."""
    rng = np.random.default_rng(seed)
    (sample,) = (
        each._replace(**{name: getattr(each, name)[0] for name in ("mean", "scatter", "slope")})
        for each in [gaussian_samples(rng, 1, 2000, n_d, 2, 1.0)]
    )
    near = noise * rng.normal(size=(n_d, 2, 2))
    far = near if matched else noise / 2 * rng.normal(size=(n_d, 2, 2))
    slopes = [difference(mean, half) + near, difference(mean, 2 * half) + far]
    return sample._replace(slope=np.concatenate(slopes, axis=-2))


def test_a_cubic_is_extrapolated_exactly():
    found = truncation_of(sample_of(lambda x: x + x**3, 0.1), RATIO)
    linear = truncation_of(sample_of(lambda x: x, 0.1), RATIO)
    np.testing.assert_allclose(found.limit.fisher, linear.limit.fisher, rtol=1e-10)
    np.testing.assert_allclose(found.narrow.fisher, 1.01**2 * linear.limit.fisher, rtol=1e-10)
    np.testing.assert_allclose(found.log_det, 4 * np.log(1.01), rtol=1e-8)
    np.testing.assert_allclose(found.parameter_std, (1 / 1.01 - 1) * linear.limit.parameter_std)
    # The second term over the first one, over the wide step.
    np.testing.assert_allclose(found.growth, 4 * 0.01, rtol=1e-8)
    assert not linear.growth.any()
    assert not linear.log_det_error.any()


@pytest.mark.parametrize("half", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("mean", MEANS.values(), ids=MEANS)
def test_the_error_that_is_left_is_the_one_that_is_stated(mean, half):
    found = truncation_of(sample_of(mean, half), RATIO)
    exact = truncation_of(sample_of(lambda x: x, half), RATIO).limit
    off = abs(found.limit.log_det_fisher - exact.log_det_fisher)
    assert off < abs(found.narrow.log_det_fisher - exact.log_det_fisher) / 2
    # Two parameters that are off in the same way add up, where their errors are taken for
    # independent.
    assert off < 1.5 * np.sqrt(2) * found.log_det_error.max()
    stds = np.abs(found.limit.parameter_std - exact.parameter_std)
    assert (stds < 1.5 * found.parameter_error).all()
    fisher = np.abs(np.diag(found.limit.fisher - exact.fisher))
    assert (fisher < 1.5 * np.diag(found.fisher_error)).all()


@pytest.mark.parametrize("matched", [True, False])
def test_the_interval_holds_the_truth_that_one_step_misses(matched):
    # Over the narrow step ln det F is 0.44 too low, and its error by the noise is 0.25.
    held, missed, widths = [], [], []
    truth = 0.0
    for seed in range(80):
        sample = sample_of(np.tanh, 0.6, noise=0.25, matched=matched, seed=seed)
        found = truncation_of(sample, RATIO)
        low, high = found.log_interval(0.68)
        held.append(low < truth < high)
        low, high = found.narrow.determinant.log_interval(0.68)
        missed.append(high < truth)
        widths.append([found.limit.log_det_fisher_std, found.narrow.log_det_fisher_std])
    assert np.mean(missed) > 0.7
    assert np.mean(held) > 0.68 - 3 * np.sqrt(0.68 * 0.32 / 80)
    of_noise = np.divide(*np.sqrt(np.mean(np.square(widths), axis=0)))
    # The slope is 0.90 times smaller over the narrow step, and its relative noise larger.
    assert 0.8 < of_noise < (1.0 if matched else 1.35)


def test_unmatched_noise_grows_as_derived():
    errors = []
    for seed in range(50):
        sample = sample_of(lambda x: x, 0.5, noise=0.1, matched=False, seed=seed)
        found = truncation_of(sample, RATIO)
        linear = (each.determinant.variance.linear for each in (found.limit, found.narrow))
        errors.append(list(linear))
    ratio = np.divide(*np.mean(errors, axis=0))
    # 16/9 + 1/36, from 50 times 36 degrees of freedom: three errors are 0.14 of each variance.
    np.testing.assert_allclose(ratio, 16 / 9 + 1 / 36, rtol=0.14)


@pytest.mark.parametrize(
    ("mean", "half"), [(np.tanh, 2.0), (np.sinh, 2.0), (np.sin, 2.0), (lambda x: x**5 + x, 0.7)]
)
def test_steps_that_are_too_wide_tell_nothing(mean, half):
    found = truncation_of(sample_of(mean, half), RATIO)
    assert (found.growth >= 1).all()
    assert np.isinf(found.fisher_error).all()
    assert np.isinf(found.parameter_error).all()
    np.testing.assert_array_equal(found.log_interval(0.68), [-np.inf, np.inf])


def test_noise_is_not_taken_for_a_change_of_the_slope():
    # Over the wide step the second term seems to be 0.6 of the first by noise alone.
    growth = [
        truncation_of(
            sample_of(lambda x: x, 0.5, noise=0.5, matched=False, seed=seed, n_d=30), RATIO
        ).growth
        for seed in range(100)
    ]
    square = np.square(growth).mean()
    assert square < 0.5 * (0.5 / np.sqrt(30)) ** 2 * (1 + 1 / 4) * 2 * 16 / 9
    assert np.mean(np.equal(growth, 0)) > 0.4
