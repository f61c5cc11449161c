"""Several targets in one object: each with its own Fisher information, and drawn by number."""

import numpy as np
import pytest
import tensorflow_probability as tfp
from scipy import stats

from imnn_tf.lfi import (
    ApproximateBayesianComputation,
    GaussianApproximation,
    PopulationMonteCarlo,
)

tfd = tfp.distributions

FISHERS = np.array([[[4.0, 1.0], [1.0, 2.0]], [[0.5, -0.2], [-0.2, 9.0]], [[2.0, 0.0], [0.0, 2.0]]])
ESTIMATES = np.array([[0.5, 5.0], [9.5, 0.4], [-2.0, 3.0]])


def identity(data):
    return data


def approximation(chosen, prior, **change):
    arguments = {
        "target_data": ESTIMATES[chosen],
        "prior": prior,
        "Fisher": FISHERS[chosen],
        "get_estimate": identity,
    }
    return GaussianApproximation(**{**arguments, **change})


def test_targets_and_their_estimates_are_copies(box_prior):
    def in_place(data):
        data *= 2
        return data

    data = ESTIMATES.copy()
    for get_estimate, factor in ((in_place, 2), (identity, 1)):
        change = {"target_data": data, "get_estimate": get_estimate}
        found = approximation([0, 1, 2], box_prior, **change)
        np.testing.assert_array_equal(data, ESTIMATES)
        np.testing.assert_array_equal(found.estimate, factor * ESTIMATES)
    found = approximation([0, 1, 2], box_prior, target_data=data)
    data[:] = 0
    np.testing.assert_array_equal(found.estimate, ESTIMATES)
    with pytest.raises(ValueError, match="`target_data` must not have masked values, got 1 of 6"):
        approximation([0, 1, 2], box_prior, target_data=np.ma.masked_greater(ESTIMATES, 6))


@pytest.fixture
def together(box_prior):
    return approximation([0, 1, 2], box_prior)


@pytest.fixture
def alone(box_prior):
    return [approximation([i], box_prior, Fisher=FISHERS[i]) for i in range(3)]


def test_attributes_keep_the_shape_that_was_passed(together, alone):
    np.testing.assert_array_equal(together.F, FISHERS)
    np.testing.assert_allclose(together.Finv @ FISHERS, np.stack([np.eye(2)] * 3), atol=1e-12)
    assert alone[0].F.shape == alone[0].Finv.shape == (2, 2)


@pytest.mark.parametrize("method", ["log_prob", "prob", "log_posterior", "posterior"])
def test_gaussian_approximation_is_that_of_each_target_alone(together, alone, method):
    points = np.random.default_rng(0).uniform(0.2, 6, (2, 50))
    values = getattr(together, method)(points)
    for i, single in enumerate(alone):
        np.testing.assert_allclose(values[i], getattr(single, method)(points)[0], rtol=1e-12)
    if method == "log_prob":
        normal = stats.multivariate_normal(ESTIMATES[1], np.linalg.inv(FISHERS[1]))
        np.testing.assert_allclose(values[1], normal.logpdf(points.T))


def test_evidence_samples_and_marginals_are_those_of_each_target_alone(together, alone):
    marginals = together.marginals()
    for i, single in enumerate(alone):
        assert together.log_evidence()[i] == pytest.approx(single.log_evidence()[0], rel=1e-12)
        ours, theirs = together.result(i, n=50, seed=3), single.result(0, n=50, seed=3)
        np.testing.assert_allclose(ours.samples, theirs.samples)
        np.testing.assert_allclose(ours.weights, theirs.weights)
        other = single.marginals()[0]
        np.testing.assert_allclose(marginals[i].points, other.points)
        np.testing.assert_allclose(marginals[i].pairs[0, 1], other.pairs[0, 1])


def test_four_parameters():
    # A Gaussian prior makes the evidence a Gaussian in the estimate.
    prior = tfd.MultivariateNormalDiag(np.zeros(4), np.full(4, 2.0))
    fishers = np.stack([np.eye(4), np.diag([1.0, 4.0, 9.0, 16.0])])
    estimate = np.array([[0.5, 0.0, -1.0, 2.0], [1.0, 1.0, 0.0, 0.0]])
    ga = GaussianApproximation(estimate, prior, fishers, identity)
    expected = [
        stats.multivariate_normal(np.zeros(4), np.linalg.inv(F) + 4 * np.eye(4)).logpdf(x)
        for F, x in zip(fishers, estimate, strict=True)
    ]
    np.testing.assert_allclose(np.exp(ga.log_evidence() - expected), 1, rtol=1e-2)


def test_ranges_hold_every_target_at_its_own_width():
    prior = tfd.MultivariateNormalDiag(np.zeros(2), np.full(2, 1000.0))
    low, high = approximation([0, 1, 2], prior).ranges()
    widths = np.sqrt([np.diag(np.linalg.inv(F)) for F in FISHERS])
    np.testing.assert_allclose(low, (ESTIMATES - 5 * widths).min(axis=0))
    np.testing.assert_allclose(high, (ESTIMATES + 5 * widths).max(axis=0))


def test_fisher_of_one_target_is_drawn(together, alone):
    for target in (0, 2, -1):
        ax = together.plot_Fisher(figsize=(3, 3), target=target)
        np.testing.assert_allclose(ax.images[0].get_array(), np.linalg.inv(FISHERS[target]))
        assert ax.get_title() == f"Inverse Fisher information of target {target % 3 + 1}"
    assert alone[0].plot_Fisher(figsize=(3, 3)).get_title() == "Inverse Fisher information"
    with pytest.raises(IndexError, match="`target` must be one of 3, got 3"):
        together.plot_Fisher(target=3)


@pytest.fixture
def sampled(box_prior, mean_variance, gaussian_draws, target, other_target):
    """Makes an object of a class for those of the two targets that are chosen."""
    data = np.concatenate([target, other_target])
    fishers = np.array([[[10.0, 1.0], [1.0, 5.0]], [[2.0, 0.0], [0.0, 20.0]]])

    def make(cls, chosen, **change):
        arguments = {
            "target_data": data[chosen],
            "prior": box_prior,
            "Fisher": fishers[chosen] if len(chosen) > 1 else fishers[chosen[0]],
            "get_estimate": mean_variance,
            "simulator": gaussian_draws,
            "seed": 1,
            "progress": False,
        }
        return cls(**{**arguments, **change})

    return make


def test_rejection_measures_in_each_targets_own_metric(sampled):
    both = sampled(ApproximateBayesianComputation, [0, 1])
    both(3000)
    both.accept_reject(3.0)
    for i in range(2):
        d = both.differences[:, i]
        expected = np.sqrt(np.einsum("nj,jk,nk->n", d, both.F[i], d))
        np.testing.assert_allclose(both.distances[:, i], expected)
        single = sampled(ApproximateBayesianComputation, [i])
        single(3000)
        single.accept_reject(3.0)
        np.testing.assert_allclose(both.distances[:, i], single.distances[:, 0])
        np.testing.assert_array_equal(both.accepted_parameters[i], single.accepted_parameters[0])
        ours, theirs = both.result(i, adjust=True), single.result(adjust=True)
        np.testing.assert_allclose(ours.samples, theirs.samples)


def test_rejection_with_a_radius_for_each_target(sampled):
    abc = sampled(ApproximateBayesianComputation, [0, 1])
    abc(3000)
    abc.accept_reject(ϵ=[2.0, 4.0])
    assert abc.num_accepted.tolist() == (abc.distances < [2.0, 4.0]).sum(axis=0).tolist()
    radii = [abc._accepted(i).tolerance for i in range(2)]
    assert radii == [2.0, 4.0]
    abc.get_min_accepted(ϵ=np.array([1.5, 3.0]), accepted=30)
    assert ((abc.distances < [1.5, 3.0]).sum(axis=0) == abc.num_accepted).all()
    assert (abc.num_accepted >= 30).all()
    with pytest.raises(ValueError, match=r"`ε` must have shape \(2,\), got \(3,\)"):
        abc.accept_reject([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"`ε` must be greater than 0, got \[1.0, 0.0\]"):
        abc.accept_reject([1.0, 0.0])


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_population_moves_in_each_targets_own_metric(sampled, order):
    rules = {"draws": 60, "initial_draws": 200, "criterion": 0.3}
    both = sampled(PopulationMonteCarlo, order)
    both(**rules)
    # Seeds depend on the target's number, so only the first target can be the same as alone.
    single = sampled(PopulationMonteCarlo, order[:1])
    single(**rules)
    np.testing.assert_allclose(both.parameters[0], single.parameters[0])
    np.testing.assert_allclose(both.weighting[0], single.weighting[0])
    lengths = np.einsum("tnj,tjk,tnk->tn", both.differences, both.F, both.differences)
    np.testing.assert_allclose(both.distances, np.sqrt(lengths))


@pytest.mark.parametrize(
    ("fisher", "message"),
    [
        (np.ones((2, 2, 2)), r"`Fisher` must have shape \(2, 2\), or \(3, 2, 2\) with one for"),
        (np.ones(2), r"`Fisher` must have shape .*, got \(2,\)"),
        (FISHERS + np.eye(3)[2, :, None, None] * [[0, 1], [0, 0]], "must be symmetric"),
        (FISHERS * np.array([1, -1, 1])[:, None, None], "must be positive definite"),
    ],
)
def test_wrong_fishers_are_named(box_prior, fisher, message):
    with pytest.raises(ValueError, match=message):
        approximation([0, 1, 2], box_prior, Fisher=fisher)


def test_targets_are_chosen_for_plots(together, sampled):
    axes = together.plot(target=[0, 2])
    texts = [text.get_text() for text in axes[0, 1].get_legend().get_texts()]
    assert texts == ["Target 1", "Target 3"]
    centres = [line.get_xdata()[line.get_ydata().argmax()] for line in axes[0, 0].lines]
    np.testing.assert_allclose(centres, ESTIMATES[[0, 2], 0], atol=0.05)
    assert len(together.plot(target=1, gridsize=30)[0, 0].lines) == 1
    abc = sampled(ApproximateBayesianComputation, [0, 1])
    abc(3000)
    abc.accept_reject(4.0)
    legend = abc.plot(target=1)[0, 1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["Target 2"]
    drawn = abc.scatter_plot(target=1, rejected=None)
    assert len(drawn[0, 0].collections) == 1
    np.testing.assert_array_equal(
        drawn[0, 0].collections[0].get_offsets()[:, 0], abc.accepted_parameters[1][:, 0]
    )
    np.testing.assert_allclose(drawn[1, 0].lines[0].get_ydata()[0], abc.estimate[1, 1])
    for wrong in (2, [0, 2], -3):
        with pytest.raises(IndexError, match="`target` must be one of 2"):
            abc.plot(target=wrong)
    with pytest.raises(ValueError, match="`target` must name one target at least"):
        abc.plot(target=[])


def test_marginals_are_where_each_posterior_is(sampled):
    abc = sampled(ApproximateBayesianComputation, [0, 1])
    abc(5000)
    abc.accept_reject(3.0)
    marginals = abc.marginals(bins=10)
    for i, each in enumerate(marginals):
        samples = abc.result(i).samples
        counts, edges = np.histogram(samples[:, 0], len(each.points[0]), _ends(each, 0))
        density = counts / counts.sum() / np.diff(edges)
        np.testing.assert_allclose(each.single[0], density)
        assert edges[0] <= samples[:, 0].min()
        assert samples[:, 0].max() <= edges[-1]
    shared = abc.marginals(bins=10, ranges=np.array([[-10, 10], [0.1, 10]]))
    np.testing.assert_allclose(shared[0].points, shared[1].points)


def _ends(marginals, i):
    points, widths = marginals.points[i], marginals.widths[i]
    return points[0] - widths[0] / 2, points[-1] + widths[-1] / 2
