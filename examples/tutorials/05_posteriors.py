# %% [markdown]
# # From summaries to a posterior
#
# *There are four ways from summaries to a posterior. Which one is right, what does each cost, and how would
# I notice that one is wrong?*
#
# Ten draws from a Gaussian of unknown mean and variance again. The summaries are the mean and the variance
# of the sample, which is what an IMNN finds for this problem; `imnn.get_estimate` goes in the same place. The
# exact posterior is known, so all four methods can be held against it. It takes a minute.

# %%
import matplotlib.pyplot as plt
import numpy as np
import tensorflow_probability as tfp

from imnn_tf.lfi import (
    ApproximateBayesianComputation,
    GaussianApproximation,
    Marginals,
    NeuralPosterior,
    PopulationMonteCarlo,
    calibration,
    triangle,
)

prior = tfp.distributions.Blockwise(
    [tfp.distributions.Uniform(-10.0, 10.0), tfp.distributions.Uniform(0.1, 10.0)]
)


def simulator(θ, rng):
    """Simulations `(n, 10)` at parameters `(n, 2)`; `rng` is a generator of NumPy."""
    return rng.normal(θ[:, :1], np.sqrt(θ[:, 1:]), (len(θ), 10))


def get_estimate(data):
    """Estimates of mean and variance, `(n, 2)`."""
    return np.stack([data.mean(axis=1), data.var(axis=1)], axis=1)


truth = np.array([3.0, 2.0])
observation = simulator(truth[None], np.random.default_rng(37))
F = np.diag([10 / 2, 5 / 2**2])  # the Fisher information at a variance of 2
problem = {
    "target_data": observation,
    "prior": prior,
    "get_estimate": get_estimate,
    "labels": ["mean", "variance"],
}
print("estimate:", get_estimate(observation)[0])

# %% [markdown]
# ## The exact answer
#
# The likelihood of ten draws on a grid, times a flat prior.

# %%
grid = [np.linspace(-1, 7, 241), np.linspace(0.1, 10, 240)]
mean, variance = np.meshgrid(*grid, indexing="ij")
chi2 = ((observation[0][:, None, None] - mean) ** 2).sum(axis=0) / variance
density = np.exp(-0.5 * (chi2 - chi2.min() + 10 * np.log(variance)))
density /= density.sum()
moments = [np.array([(density * x).sum() for x in (mean, variance)])]
moments.append(
    np.sqrt(
        [
            (density * (x - m) ** 2).sum()
            for x, m in zip((mean, variance), moments[0], strict=True)
        ]
    )
)
exact = Marginals.of_grid(density, grid)
print("exact means", moments[0], "and standard deviations", moments[1])

# %% [markdown]
# ## Four methods
#
# 1. `GaussianApproximation` needs no simulation. It takes the estimate for Gaussian, with the covariance
#    `F⁻¹`.
# 2. `ApproximateBayesianComputation` draws from the prior, simulates, and keeps what comes close to the
#    observation.
# 3. `PopulationMonteCarlo` does the same in generations that close in on the observation.
# 4. `NeuralPosterior` learns a density of the parameters given the summaries from simulations. One training
#    answers for any observation.
#
# `adjust=True` corrects for the tolerance of 2 and 3 by a regression.

# %%
gaussian = GaussianApproximation(Fisher=F, **problem)

abc = ApproximateBayesianComputation(
    Fisher=F, simulator=simulator, seed=1, **problem
)
abc(300_000)
abc.accept_reject(1.0)

pmc = PopulationMonteCarlo(Fisher=F, simulator=simulator, seed=2, **problem)
pmc(1000, 3000, criterion=0.05)

npe = NeuralPosterior(simulator=simulator, seed=3, **problem)
npe(3000)

results = {
    "Gaussian approximation": (gaussian.result(), 0),
    "rejection": (abc.result(adjust=True), abc.num_draws),
    "population Monte Carlo": (pmc.result(adjust=True), pmc.num_draws),
    "neural posterior": (npe.result(), 3000),
}

# %% tags=["gallery"]
axes = triangle(
    [exact], labels=problem["labels"], label="exact", known=truth, color="k"
)
for number, (name, (result, _)) in enumerate(results.items()):
    result.plot(ax=axes, label=name, color=f"C{number}")
plt.show()

# %% [markdown]
# The table has the errors of mean and standard deviation of each parameter, in units of the exact standard
# deviation.

# %%
print(f"{'':24}{'simulations':>12}{'mean':>16}{'standard deviation':>20}")
errors = {}
for name, (result, cost) in results.items():
    errors[name] = np.stack(
        [(result.mean() - moments[0]) / moments[1], result.std() / moments[1] - 1]
    )
    (a, b), (c, d) = errors[name]
    print(f"{name:24}{int(np.max(cost)):12,}{a:8.2f}{b:8.2f}{c:12.2f}{d:8.2f}")

# %% [markdown]
# The three methods that simulate agree with the exact posterior within 0.1 of a standard deviation. The
# Gaussian approximation gets the mean right, and puts the variance 0.86 standard deviations too low: the
# posterior of a variance has a tail that no Gaussian has. It cost nothing, though, and tells where to look.
#
# What did the others cost? Rejection took 300,000 simulations, population Monte Carlo 80,000, the neural
# posterior 3,000. If a simulation takes a microsecond, rejection is the simplest. If it takes a second, only
# the neural posterior is left. [Likelihood-free inference](../../docs/lfi.md) has a table of which to use when.

# %%
for name in ("rejection", "population Monte Carlo", "neural posterior"):
    assert np.abs(errors[name]).max() < 0.1 + 0.1  # the network depends on rounding
assert abs(errors["Gaussian approximation"][0, 1] + 0.86) < 0.02
assert abs(pmc.num_draws - 80_000).max() < 30_000

# %% [markdown]
# ## Would I notice?
#
# Without an exact answer, ask for posteriors of many observations whose parameters are known, because they
# were drawn from the prior. If the posteriors are right, the rank of the truth among the samples is uniform
# (simulation-based calibration), and a region of 68 % holds the truth in 68 % of the cases.
#
# A neural posterior answers for 300 observations in seconds, without a further simulation.

# %%
truths, data = calibration.simulate_targets(prior, simulator, 300, seed=4)
posteriors = npe.results(data=data, n_samples=500)
ranks = calibration.sbc_ranks(truths, posteriors)
p_values = calibration.uniformity(ranks)
print("p-values of uniform ranks:", p_values)
calibration.plot_ranks(ranks)
plt.show()

# %%
coverage = calibration.expected_coverage(truths, posteriors)
calibration.plot_coverage(coverage)
plt.show()

# %% [markdown]
# Now the Gaussian approximation, with the one Fisher information it was given, for 100 of the same
# observations. It is far too sure of itself where the variance is larger than where `F` belongs. Of the
# p-values of its ranks the smaller is below 0.001: this is what a wrong posterior looks like.

# %%
of_many = GaussianApproximation(data[:100], prior, F, get_estimate)
wrong = of_many.results()
wrong_ranks = calibration.sbc_ranks(truths[:100], wrong)
wrong_p = calibration.uniformity(wrong_ranks)
print("p-values of uniform ranks:", wrong_p)
calibration.plot_coverage(calibration.expected_coverage(truths[:100], wrong))
plt.show()
assert np.all(
    p_values > 0.001
)  # one in a thousand networks that are right would fail
assert wrong_p.min() < 0.001

# %% [markdown]
# ## Could the data have come from the simulator at all?
#
# A posterior always comes out, even for data that the simulator never makes. `novelty` compares summaries of
# the observation with those of simulations. Mean and variance of almost any ten numbers are those of some
# Gaussian, so a summary that measures the fit is needed as well: here the largest squared deviation.


# %%
def with_fit(data):
    squares = (data - data.mean(axis=1, keepdims=True)) ** 2
    return np.column_stack(
        [get_estimate(data), squares.max(axis=1) / squares.mean(axis=1)]
    )


glitch = observation + np.array(
    [25.0] + [0.0] * 9
)  # one of the ten values went wrong
_, simulated = calibration.simulate_targets(prior, simulator, 10_000, seed=5)
checked = calibration.novelty(
    with_fit(np.concatenate([observation, glitch])), with_fit(simulated)
)
print("p-values:", checked.p_values, "unlike the simulations:", checked.unlike)
assert list(checked.unlike) == [False, True]

# %% [markdown]
# Next: [what a network adds to summaries that you already have](06_external_summaries.ipynb), or
# [a slow simulator that fails](07_external_simulator.ipynb).
