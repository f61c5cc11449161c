# %% [markdown]
# # A slow simulator that fails
#
# *My simulator is an external program. It takes long, it sometimes fails, and it runs on a cluster. How do I
# get a posterior from it that I can trust?*
#
# The simulator here solves the SIR equations of an epidemic with SciPy and reports noisy weekly case counts. It
# stands for any program: it knows nothing of TensorFlow, and for some parameters it gives up. Two processes run
# it; a cluster takes one more line. It takes a minute.
#
# In a script, put what starts processes under `if __name__ == "__main__":`. A notebook does not need that.

# %%
import shutil

import matplotlib.pyplot as plt
import numpy as np
import tensorflow_probability as tfp

from imnn_tf.lfi import NeuralPosterior, calibration, simulate

# %% [markdown]
# ## The simulator
#
# `β` is the rate of infections and `γ` that of recoveries, per week. Ten of a million people are infected at
# first, and one case in ten is reported. A simulator takes parameters `(n, 2)` and returns data `(n, 20)`; an
# argument called `seeds` gets one integer for each row.

# %% tags=["gallery"]
weeks, people = np.arange(1, 21), 1e6


def epidemic(θ, seeds):
    """Reported cases in each of 20 weeks, `(n, 20)`, at rates `(n, 2)`."""
    from scipy.integrate import solve_ivp

    def slope(t, state, β, γ):
        susceptible, infected, _ = state
        new = β * susceptible * infected / people
        return [-new, new - γ * infected, new]

    rows = []
    for (β, γ), seed in zip(θ, seeds, strict=True):
        rng = np.random.default_rng(seed)
        start = [people - 10, 10, 0]
        solution = solve_ivp(
            slope, (0, 20), start, args=(β, γ), t_eval=np.arange(21)
        )
        if rng.uniform() < 0.02:  # as programs do: a node dies, a disk is full
            raise RuntimeError(f"the solver gave up at β = {β:.2f}, γ = {γ:.2f}")
        cases = np.diff(solution.y[2])
        rows.append(rng.poisson(0.1 * np.maximum(cases, 0)))
    return np.array(rows, float)


truth = np.array([2.2, 1.0])
observation = epidemic(truth[None], [3])
plt.figure(figsize=(6, 3), layout="constrained")
plt.bar(weeks, observation[0])
plt.xlabel("week")
plt.ylabel("reported cases")
plt.show()

# %% [markdown]
# ## Running it
#
# `simulate` runs a simulator at many parameters:
#
# - `executor=2` starts two processes. A `Client` of Dask, an executor for MPI or any other
#   `concurrent.futures.Executor` goes in the same place;
# - `on_error="skip"` leaves out what fails. If a batch fails, it is halved until the rows that fail are found,
#   and the others are kept. `"retry"` would try them again with other seeds;
# - `store="runs"` keeps every finished simulation on disk, so a run that is killed goes on where it was;
# - `seed` makes the result the same on any number of workers.

# %%
prior = tfp.distributions.Blockwise(
    [tfp.distributions.Uniform(1.0, 4.0), tfp.distributions.Uniform(0.5, 2.0)]
)
shutil.rmtree("runs", ignore_errors=True)
options = {
    "executor": 2,
    "batch_size": 50,
    "on_error": "skip",
    "seed": 1,
    "store": "runs",
}
θ = np.asarray(prior.sample(1500, seed=(1, 2)), float)

result = simulate(epidemic, θ, **options)
print(f"{result.ok.sum()} of {len(θ)} simulations, {len(result.failures)} failed")
print("the first failure:", result.failures[0].error)

# %% [markdown]
# About 2 % failed, each costs only itself, and each is listed with its parameters and its seed. Failures that
# depend on the parameters would bias what is inferred, so look where they are. Here they are everywhere.

# %%
failed = np.array([θ[failure.index] for failure in result.failures])
plt.figure(figsize=(4.5, 3.5), layout="constrained")
plt.scatter(*θ.T, s=2, alpha=0.4)
plt.scatter(*failed.T, s=20, color="C3", label="failed")
plt.xlabel("β")
plt.ylabel("γ")
plt.legend()
plt.show()
share = len(result.failures) / len(θ)
print("share of failures:", share)
assert abs(share - 0.02) < 4 * np.sqrt(0.02 * 0.98 / len(θ))

# %% [markdown]
# ## The same call again
#
# The script was killed, or you come back the next day: the same call reads the store and simulates nothing but
# what is missing. One simulation is run again, to see that the simulator is still the same one.

# %%
again = simulate(epidemic, θ, **options)
np.testing.assert_array_equal(again.x[again.ok], result.x[result.ok])
print("the same:", np.array_equal(again.ok, result.ok))

# %% [markdown]
# ## The posterior
#
# A neural posterior needs the fewest simulations. It takes summaries of any length: here the roots of the
# weekly cases, whose scatter is the same in every week. The simulations that are there are added; they were
# drawn from the prior, and that is all that it needs.


# %%
def summaries(cases):
    return np.sqrt(cases)


npe = NeuralPosterior(
    observation,
    prior,
    summaries,
    labels=["β", "γ"],
    parameter_names=["beta", "gamma"],
    seed=2,
)
npe.add(θ[result.ok], data=result.x[result.ok])
npe.train()
posterior = npe.result()
posterior

# %%
npe.plot(known=truth)
plt.show()

# %% [markdown]
# Both rates come out within 3 posterior standard deviations of the truth, and known to better than 10 %.

# %%
pull = (posterior.mean() - truth) / posterior.std()
print("mean", posterior.mean(), "standard deviation", posterior.std(), "pull", pull)
assert np.all(np.abs(pull) < 3)
assert np.all(posterior.std() < 0.1 * truth)

# %% [markdown]
# ## Checks
#
# Could these data have come from the simulator at all? And are the posteriors calibrated? 200 further
# simulations, of which some fail as well, tell.

# %%
checked = calibration.novelty(
    summaries(observation), summaries(result.x[result.ok])
)
print("p-value of the observation:", checked.p_values)
assert not checked.unlike.any()

others = np.asarray(prior.sample(200, seed=(3, 4)), float)
fresh = simulate(epidemic, others, **options | {"seed": 5, "store": None})
posteriors = npe.results(data=fresh.x[fresh.ok], n_samples=500)
ranks = calibration.sbc_ranks(others[fresh.ok], posteriors)
p_values = calibration.uniformity(ranks)
print("p-values of uniform ranks:", p_values)
calibration.plot_ranks(ranks)
plt.show()
assert np.all(p_values > 1e-4)

# %% [markdown]
# ## On a cluster
#
# ```python
# from dask.distributed import Client
#
# result = simulate(epidemic, θ, executor=Client("scheduler:8786"), timeout=3600, store="runs", seed=1)
# ```
#
# `timeout` gives up on a batch after that many seconds, and workers that die are replaced. The numbers are the
# same as on one core. [Over many machines](../../docs/scaling.md) has MPI and SLURM.
