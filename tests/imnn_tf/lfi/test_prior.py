import copy

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from imnn_tf.lfi import (
    ApproximateBayesianComputation,
    GaussianApproximation,
    NeuralPosterior,
    PopulationMonteCarlo,
)
from imnn_tf.lfi.prior import Prior

tfd = tfp.distributions


class Disc:
    """Uniform on the unit disc: no box, no TensorFlow, bounds attached."""

    event_shape = (2,)
    low = (-1.0, -1.0)
    high = (1.0, 1.0)

    def sample(self, n, seed):
        rng = np.random.default_rng(seed)
        radius, angle = np.sqrt(rng.uniform(size=n)), rng.uniform(0, 2 * np.pi, n)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)

    def log_prob(self, x):
        inside = (x**2).sum(-1) <= 1
        return np.where(inside, -np.log(np.pi), -np.inf)


class Seedless(Disc):
    def sample(self, n):
        return super().sample(n, 0)


def test_bounds_come_from_wherever_the_distribution_has_them(box_prior):
    mixed = tfd.Blockwise([tfd.Normal(0.0, 1.0), tfd.LogNormal(0.0, 1.0), tfd.Beta(2.0, 3.0)])
    cases = [
        (box_prior, [-10, 0.1], [10, 10]),
        (mixed, [-np.inf, 0, 0], [np.inf, np.inf, 1]),
        (tfd.Independent(tfd.Uniform([0.0, 1.0], [2.0, 3.0]), 1), [0, 1], [2, 3]),
        (tfd.Sample(tfd.Uniform(0.0, 2.0), 3), [0, 0, 0], [2, 2, 2]),
        (tfd.MultivariateNormalDiag([0.0, 0.0]), [-np.inf] * 2, [np.inf] * 2),
        (Disc(), [-1, -1], [1, 1]),
    ]
    for distribution, low, high in cases:
        prior = Prior(distribution)
        np.testing.assert_allclose(prior.low, low, rtol=1e-6)
        np.testing.assert_allclose(prior.high, high, rtol=1e-6)


def test_the_users_prior_is_left_as_it_was(box_prior):
    before = set(vars(box_prior))
    prior = Prior(box_prior)
    prior.finite_range()
    prior.log_prob([[0.0, 1.0]])
    assert set(vars(box_prior)) == before
    assert Prior(prior).distribution is box_prior
    assert prior.name == box_prior.name
    assert copy.copy(prior).n_params == 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float64_in_and_out_whatever_the_prior_computes_in(dtype):
    low, high = np.array(0.1, dtype), np.array(10, dtype)
    prior = Prior(tfd.Blockwise([tfd.Uniform(low, high), tfd.Normal(low, high)]))
    draws = prior.sample(100, seed=1)
    assert draws.dtype == np.float64
    log_prob = prior.log_prob(draws)
    assert log_prob.dtype == np.float64
    z = (draws[:, 1] - 0.1) / 10
    expected = -np.log(9.9) - 0.5 * z**2 - np.log(10 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5)
    np.testing.assert_allclose(prior.prob(draws), np.exp(expected), rtol=1e-4)


def test_both_ends_belong_to_the_support_and_nothing_beyond(box_prior):
    prior = Prior(box_prior)
    points = [[-10, 0.1], [10, 10], [10.001, 5], [0, 0.0999], [np.inf, 1]]
    log_prob = prior.log_prob(points)
    np.testing.assert_allclose(log_prob[:2], -np.log(20 * 9.9), rtol=1e-6)
    assert np.isneginf(log_prob[2:]).all()
    np.testing.assert_array_equal(prior.supports(points), [True, True, False, False, False])


@pytest.mark.parametrize("distribution", ["tfp", "seeded", "seedless"])
def test_same_seed_same_draws(distribution, box_prior):
    prior = Prior({"tfp": box_prior, "seeded": Disc(), "seedless": Seedless()}[distribution])
    np.testing.assert_array_equal(prior.sample(5, seed=3), prior.sample(5, seed=3))
    if distribution != "seedless":
        assert (prior.sample(5, seed=3) != prior.sample(5, seed=4)).all()
        assert (prior.sample(5) != prior.sample(5)).all()


def test_a_seed_sequence_used_twice_gives_the_same_draws(box_prior):
    prior, seed = Prior(box_prior), np.random.SeedSequence(5)
    seed.spawn(3)
    np.testing.assert_array_equal(prior.sample(4, seed=seed), prior.sample(4, seed=seed))


def test_infinite_bounds_give_a_finite_box():
    prior = Prior(tfd.Blockwise([tfd.Normal(2.0, 3.0), tfd.Uniform(0.0, 1.0)]))
    low, high = prior.finite_range()
    # The standard error of a 0.1 % quantile from 10,000 draws is 0.094 standard deviations.
    reach = 3.0902 * 3
    np.testing.assert_allclose([low[0], high[0]], [2 - reach, 2 + reach], atol=4 * 0.094 * 3)
    assert (low[1], high[1]) == (0, 1)
    np.testing.assert_array_equal(prior.finite_range(), (low, high))


def test_what_is_wrong_is_said():
    with pytest.raises(TypeError, match="`prior` must have `event_shape`, got object"):
        Prior(object())
    with pytest.raises(ValueError, match=r"event_shape \(n_params,\), got \(\)"):
        Prior(tfd.Normal(0.0, 1.0))
    joint = tfd.JointDistributionSequential([tfd.Normal(0.0, 1.0), tfd.Normal(0.0, 1.0)])
    with pytest.raises(TypeError, match="Blockwise"):
        Prior(joint)
    bad = Disc()
    bad.low = (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match=r"`prior.low` must have shape \(2,\), got \(3,\)"):
        Prior(bad)
    bad.low = (2.0, 0.0)
    with pytest.raises(ValueError, match="low below high"):
        Prior(bad)
    with pytest.raises(TypeError, match="`seed` must be an integer"):
        Prior(Disc()).sample(3, seed="x")


class Scaled:
    """A prior of which the density is wrong by a constant."""

    def __init__(self, distribution, constant):
        self.distribution, self.constant = distribution, constant
        self.event_shape, self.dtype = distribution.event_shape, distribution.dtype

    def sample(self, n, seed=None):
        return self.distribution.sample(n, seed=seed)

    def log_prob(self, points):
        return self.distribution.log_prob(points) + np.log(self.constant)


class Columns(Scaled):
    """A prior whose log density is wrongly that of each parameter."""

    def log_prob(self, points):
        return np.zeros(np.shape(points))


def test_a_log_density_for_each_parameter_is_refused():
    with pytest.raises(ValueError, match=r"`prior.log_prob` must give .* got \(3, 2\)"):
        Prior(Columns(tfd.MultivariateNormalDiag(np.zeros(2), np.ones(2)), 1))


class Summed(Disc):
    """A prior whose log density is summed over the wrong axis."""

    def log_prob(self, x):
        return np.asarray(x).sum(axis=0)


class Failing(Disc):
    def log_prob(self, x):
        raise KeyError("no table")


class Nowhere(Disc):
    def log_prob(self, x):
        return np.full(np.shape(x)[:-1], np.nan)


class Undefined(tfd.Distribution):
    """A distribution of TensorFlow Probability that can be sampled and has no density."""

    def __init__(self):
        super().__init__(tf.float32, tfd.NOT_REPARAMETERIZED, False, True)

    def _event_shape(self):
        return tf.TensorShape([2])

    def _sample_n(self, n, seed=None):
        return tf.random.stateless_normal([n, 2], seed)


class Sampler:
    event_shape = (2,)

    def sample(self, n, seed=None):
        return np.zeros((n, 2))


@pytest.mark.parametrize(
    ("prior", "error", "said"),
    [
        (Sampler(), TypeError, "`prior` must have `log_prob`, got Sampler without it"),
        (Summed(), ValueError, r"`prior.log_prob` must give one number for each .*got \(2,\)"),
        (Failing(), ValueError, "`prior` must have a density, got a `log_prob` that raises Key"),
        (Undefined(), ValueError, "`prior` must have a density, .* NotImplementedError"),
        (Nowhere(), ValueError, "`prior` must have a density that is finite at draws"),
    ],
)
def test_methods_refuse_a_prior_without_a_density(prior, error, said):
    def estimate(data):
        return data

    with pytest.raises(error, match=said):
        GaussianApproximation(np.zeros((1, 2)), prior, np.eye(2), estimate)
    with pytest.raises(error, match=said):
        ApproximateBayesianComputation(np.zeros((1, 2)), prior, np.eye(2), estimate, estimate)
    with pytest.raises(error, match=said):
        PopulationMonteCarlo(np.zeros((1, 2)), prior, np.eye(2), estimate, estimate)
    with pytest.raises(error, match=said):
        NeuralPosterior(np.zeros((1, 2)), prior, estimate, estimate)


@pytest.mark.parametrize(
    "distribution",
    [
        tfd.MultivariateNormalDiag(np.zeros(10), np.full(10, 1e-9)),
        tfd.Independent(tfd.Uniform(np.zeros(2), np.full(2, 1e9)), 1),
        tfd.Blockwise([tfd.LogNormal(-20.0, 1.0), tfd.Exponential(1e-3), tfd.Beta(2.0, 5.0)]),
        tfd.Independent(tfd.StudentT(3.0, np.zeros(1), np.ones(1)), 1),
    ],
)
@pytest.mark.parametrize("constant", [1e-6, 1.0, 7.8])
def test_the_constant_of_an_unnormalised_prior_is_found(distribution, constant, caplog):
    found = Prior(Scaled(distribution, constant)).normalisation
    if constant == 1:
        assert found == 1
        assert not caplog.text
    else:
        np.testing.assert_allclose(found, constant, rtol=0.1)
        assert "not normalised" in caplog.text
