# %% [markdown]
# # A simulator on the fly
#
# *My simulator takes microseconds, and my data are far from where I guessed. Where do they come from, and
# what may I publish about the information in my summaries?*
#
# If simulations can be made during the fit, every update sees new ones: the network cannot learn any by
# heart. And the fiducial point can move to the data. This tutorial does both on ten draws from a
# Gaussian of unknown mean and variance, where the right answers are known. It takes half a minute.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from imnn_tf import IMNN, refine
from imnn_tf.networks import dense_network

names = ["mean", "variance"]


def simulator(parameters, seed):
    """Simulations `(batch, 10)` at parameters `(batch, 2)`, from a seed of two integers."""
    noise = tf.random.stateless_normal([tf.shape(parameters)[0], 10], seed)
    return parameters[:, :1] + tf.sqrt(parameters[:, 1:]) * noise


# %% [markdown]
# A simulator written in TensorFlow becomes part of the compiled update. Any other function works too. The
# two members of a derivative pair are simulated with the same seed, so their noise cancels.
#
# ## A fit with fresh simulations
#
# An update takes 1,000 new simulations at the fiducial point and 1,000 for each side of each derivative. The
# validation set is simulated once.

# %%
updates = 500
imnn = IMNN(
    θ_fid=[0.0, 1.0],
    δθ=[0.1, 0.1],
    n_s=1000,
    simulator=simulator,
    model=dense_network(10, 2, activation="gelu", seed=0),
    optimiser=keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(3e-3, updates)
    ),
)
imnn.fit(updates, validation_freq=50)
imnn

# %% [markdown]
# ## The Fisher information and its error
#
# The number to publish is the information on simulations that chose neither the weights nor when to stop.
# `evaluate` returns it with its error, and with the bias of a finite number of simulations taken away.


# %%
def fresh(n, seed, steps=([0.1, 0.1],), θ=(0.0, 1.0)):
    """Simulations at `θ`, and pairs over one or two steps with the same noise."""
    noise = np.random.default_rng(seed).normal(size=(n, 10))
    θ, sides = np.asarray(θ), np.array([-0.5, 0.5])[:, None, None]
    varied = np.concatenate([θ + sides * np.diag(step) for step in steps], axis=1)
    at = lambda θ, noise: θ[..., :1] + np.sqrt(θ[..., 1:]) * noise  # noqa: E731
    return at(θ, noise), at(varied, noise[:, None, None])


kept = imnn.evaluate(*fresh(100_000, seed=1))
det_F = np.exp(float(kept.log_det_fisher))
error = det_F * kept.log_det_fisher_std
print(f"det F = {det_F:.2f} ± {error:.2f} of 50")
print("68 % interval:", kept.interval(0.68))

# %% [markdown]
# det F is 49.2 ± 0.3, and 50 is the most there is. Two questions remain.
#
# **Was the step of the derivatives narrow enough?** Derivatives over a second, wider step tell. Here the
# width adds less than 1 % to det F.

# %%
assert abs(det_F - 49.2) < 3 * error + 0.3
fiducial, both = fresh(100_000, seed=1, steps=([0.1, 0.1], [0.2, 0.2]))
two_steps = imnn.evaluate(fiducial, both, second_δθ=[0.2, 0.2])
print("share of ln det F due to the step:", two_steps.log_det_truncation)
assert abs(two_steps.log_det_truncation) < 0.01

# %% [markdown]
# **Were there enough simulations?** `convergence` measures how det F depends on their number. A plain
# estimate of the information is too high for few simulations; the corrected one is not.

# %%
convergence = imnn.convergence(*fresh(2000, seed=2))
convergence.plot()
plt.show()
print(convergence.sentences(4))

# %% [markdown]
# ## Going to where the data are
#
# The observation is far from the fiducial point. An estimate is a linear extrapolation, so it is not to be
# trusted there.

# %%
observation = simulator(tf.constant([[1.0, 3.0]]), (7, 8)).numpy()
best = np.array(
    [observation.mean(), observation.var()]
)  # the maximum-likelihood estimate
first = imnn.get_estimate(observation).numpy()[0]
print("estimate from (0, 1):", first)
print("the best estimate:   ", best)

# %% [markdown]
# `refine` moves the fiducial point to the estimate and fits again, until the two agree. `bounds` keeps the
# variance positive.

# %%
result = refine(
    imnn, observation, bounds=([-np.inf, 0.1], np.inf), n_iterations=300
)
result

# %% tags=["gallery"]
path = np.vstack([result.fiducials, result.estimate])
plt.figure(figsize=(5, 3.5), layout="constrained")
plt.plot(*path.T, "o-", label="fiducial points, and the last estimate")
plt.plot(*best, "k*", ms=12, label="maximum likelihood")
plt.xlabel(names[0])
plt.ylabel(names[1])
plt.legend()
plt.show()

# %% [markdown]
# The refinement converges to within a third of a standard deviation of the maximum-likelihood estimate. At
# that point the exact information is diag(10/v, 5/v²), with `v` the variance there, and the network keeps more
# than 90 % of it in each parameter.

# %%
distance = result.estimate - best
in_std = np.sqrt(distance @ result.fisher @ distance)
v = result.fiducials[-1][1]
shares = np.diag(result.fisher) / [10 / v, 5 / v**2]
print("distance in standard deviations:", in_std, "shares:", shares)
assert result.converged
assert in_std < 0.33
assert np.all(shares > 0.9)

# %% [markdown]
# The forecast errors follow from the information, and it from a finite number of simulations, so `refine`
# returns its errors too. That is what to publish:

# %%
forecast = np.sqrt(np.diag(np.linalg.inv(result.fisher)))
for name, value, std in zip(names, result.estimate, forecast, strict=True):
    print(f"{name:9} {value:.2f} ± {std:.2f}")
print("relative error of F:", np.diag(result.fisher_std) / np.diag(result.fisher))
assert np.all(np.diag(result.fisher_std) < 0.2 * np.diag(result.fisher))

# %% [markdown]
# [The Fisher information with its error](../../docs/information.md) says how it is computed and what to
# publish. Next: [from summaries to a posterior](05_posteriors.ipynb).
