"""Calls from scripts that were written for the predecessor run unchanged."""

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from imnn_tf.lfi import (
    ApproximateBayesianComputation,
    GaussianApproximation,
    PopulationMonteCarlo,
)

tfd = tfp.distributions


class Noise:
    """A simulator with optional arguments, which draws from its own generator."""

    def __init__(self, n_params):
        self.n_params = n_params
        self.rng = np.random.default_rng(0)

    def simulator(self, parameters, seed=None, simulator_args=None):
        assert seed is None
        if len(parameters.shape) == 1:
            parameters = parameters[np.newaxis, :]
        if self.n_params == 1:
            parameters = np.repeat(parameters, 2, axis=1)
            parameters[:, 0] = np.zeros_like(parameters[:, 0])
        shape = (10, parameters.shape[0])
        draws = self.rng.normal(parameters[:, 0], np.sqrt(parameters[:, 1]), shape)
        return np.moveaxis(draws, -1, 0)


@pytest.fixture(params=[1, 2], ids=["variance", "mean and variance"])
def problem(request):
    """Arguments with two targets, and a prior that has bounds attached; all tests share it."""
    n_params = request.param
    low, high = np.array([-10.0, 0.1])[-n_params:], np.array([10.0, 10.0])[-n_params:]
    prior = tfd.Blockwise([tfd.Uniform(low=low[i], high=high[i]) for i in range(n_params)])
    prior.low, prior.high = low, high
    noise = Noise(n_params)

    def get_estimate(data):
        columns = [tf.reduce_mean(data, axis=1), tf.math.reduce_variance(data, axis=1)]
        return tf.stack(columns[-n_params:], axis=1)

    truths = np.array([[3.0, 2.0], [0.0, 1.0]])[:, -n_params:]
    arguments = {
        "target_data": noise.simulator(truths),
        "prior": prior,
        "Fisher": tf.constant(np.diag([10.0, 5.0][-n_params:])),
        "get_estimate": get_estimate,
        "labels": [r"$\mu$", r"$\Sigma$"][-n_params:],
    }
    return arguments, noise


def one(arguments):
    return {**arguments, "target_data": arguments["target_data"][:1]}


def test_gaussian_approximation(problem):
    arguments, _ = problem
    GA = GaussianApproximation(**arguments)
    p = GA.n_params
    ax = GA.plot_Fisher(figsize=(5, 5))
    assert ax.get_title()
    assert GA.log_posterior(grid=np.ones(p)).shape == (2,)
    if p == 1:
        sigma = np.linspace(0.1, 10, 1000)[np.newaxis]
        assert GA.posterior(sigma).shape == GA.posterior(sigma).shape == (2, 1000)
    gridsize = (100,) * p
    axes = GA.plot(gridsize=gridsize, figsize=(7, 7), color="C1", label="Gaussian")
    assert axes.shape == (p, p)
    assert GA.plot(gridsize=gridsize, ax=axes, color="C2", label="again") is axes
    np.testing.assert_allclose(GA.prior.low, arguments["prior"].low)
    np.testing.assert_allclose(GA.prior.prob(np.ones((1, p))), 1 / 9.9 / 20 ** (p - 1), rtol=1e-6)


def test_rejection_with_one_target(problem):
    arguments, noise = problem
    ABC = ApproximateBayesianComputation(simulator=noise.simulator, **one(arguments))
    p = ABC.n_params
    ax = ABC.plot(ϵ=2.0, accepted=50, draws=1000, color="C1", label="ABC", bins=20)
    ABC.plot(ax=ax, color="C2", label="again", bins=10)
    post = ABC.posterior(ϵ=2.0, accepted=50, draws=1000, bins=20)
    assert post.shape == (1, *(20,) * p)
    assert ABC.grid[0].shape == (20,)
    assert ABC.estimate[0].shape == (p,)
    n = ABC.num_accepted[0]
    assert ABC.accepted_parameters.shape == ABC.accepted_estimates.shape == (1, n, p)
    plt.scatter(ABC.accepted_parameters, ABC.accepted_estimates)
    plt.scatter(ABC.rejected_parameters[0][::10], ABC.rejected_estimates[0][::10])
    for mode in ("parameter_estimate", "parameter_parameter", "estimate_estimate"):
        assert ABC.scatter_plot(axes=mode, rejected=0.01).shape == (p, p)


def test_rejection_with_several_targets(problem):
    arguments, noise = problem
    ABC = ApproximateBayesianComputation(simulator=noise.simulator, **arguments)
    ABC(draws=3000, at_once=True, save_sims=None, predrawn=False)
    ABC.accept_reject(ϵ=2.0)
    ABC.get_min_accepted(2.0, 20, min_draws=500, at_once=True, save_sims=None, tqdm_notebook=False)
    for i in range(2):
        assert ABC.accepted_parameters[i].shape == (ABC.num_accepted[i], ABC.n_params)
    assert ABC.posterior(bins=10).shape[0] == 2


def test_population_with_positional_arguments(problem):
    arguments, noise = problem
    PMC = PopulationMonteCarlo(simulator=noise.simulator, **arguments)
    p = PMC.n_params
    assert PMC(100, 100, 0.3, 75, True, None, False) is None
    ax = PMC.plot(
        draws=100,
        initial_draws=100,
        criterion=0.3,
        percentile=75,
        color="C3",
        label="PMC",
        bins=20,
    )
    assert ax.shape == (p, p)
    post = PMC.posterior(draws=100, initial_draws=100, criterion=0.3, percentile=75)
    assert post.shape == (2, *(25,) * p)
    assert PMC.scatter_plot(axes="parameter_estimate").shape == (p, p)
    assert PMC.accepted_parameters.shape == PMC.accepted_estimates.shape == (2, 100, p)
    assert PMC.rejected_parameters[1][::10].size == 0
    assert PMC.rejected_estimates[1][::10].size == 0
    assert PMC.weighting.shape == PMC.distances.shape == (2, 100)


def test_import_costs_and_changes_nothing():
    script = (
        "import sys, numpy as np\n"
        "before = np.get_printoptions()\n"
        "import imnn_tf.lfi\n"
        "assert np.get_printoptions() == before\n"
        "for name in ('tensorflow', 'matplotlib', 'scipy'):\n"
        "    assert name not in sys.modules, name\n"
        "from imnn_tf.lfi import GaussianApproximation, ApproximateBayesianComputation\n"
        "from imnn_tf.lfi import PopulationMonteCarlo\n"
        "for name in ('tensorflow', 'matplotlib.pyplot'):\n"
        "    assert name not in sys.modules, name\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_public_names():
    import imnn_tf.lfi

    for name in imnn_tf.lfi.__all__:
        assert getattr(imnn_tf.lfi, name) is not None
    assert dir(imnn_tf.lfi) == sorted(imnn_tf.lfi.__all__)
    with pytest.raises(AttributeError, match="no attribute 'LFI'"):
        _ = imnn_tf.lfi.LFI


@pytest.mark.parametrize("cls", [GaussianApproximation, ApproximateBayesianComputation])
def test_a_fisher_information_may_span_any_scales(box_prior, cls):
    unit = np.array([1e-8, 1e8])
    F = np.array([[2.0, 1.99999], [1.99999, 2.0]]) * np.outer(unit, unit)
    made = cls(np.zeros((1, 10)), box_prior, F, lambda data: data[:, :2])
    np.testing.assert_array_equal(made.F, F)
    for wrong in ([[2.0, 2.1], [2.1, 2.0]], [[2.0, 0.5], [0.6, 2.0]]):
        with pytest.raises(ValueError, match="`Fisher` must be"):
            cls(np.zeros((1, 10)), box_prior, wrong * np.outer(unit, unit), lambda x: x[:, :2])
