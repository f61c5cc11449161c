# %% [markdown]
# # Your first IMNN
#
# *How much do ten numbers say about the Gaussian that they were drawn from, and how do we get all of
# it out without writing down a likelihood?*
#
# An information maximising neural network (IMNN) turns each simulation into a few numbers, the
# summaries, that keep as much information about the parameters as possible. This tutorial fits one to
# a problem whose answers are known: each simulation is ten draws from a Gaussian, and the parameters
# are its mean and its variance. It takes about ten seconds.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow_probability as tfp

from imnn_tf import IMNN
from imnn_tf.lfi import GaussianApproximation, Marginals, triangle

# %% [markdown]
# ## The simulations
#
# An IMNN needs two kinds of simulations:
#
# - simulations at one point, the **fiducial parameters** `θ_fid`. They show how much the summaries
#   scatter;
# - pairs of simulations a little below and a little above `θ_fid` in one parameter, `δθ` apart. They show
#   how the summaries respond.
#
# Both members of a pair must have the same noise. What differs between them is then the effect of the
# parameter alone. Here that is easy: the simulator gets its noise from outside.

# %%
θ_fid = np.array([0.0, 1.0])  # mean and variance
δθ = np.array([0.1, 0.1])
names = ["mean", "variance"]


def simulate(parameters, noise):
    """Draws with the mean and the variance in `parameters`, from standard normal noise."""
    return parameters[..., :1] + np.sqrt(parameters[..., 1:]) * noise


def simulations(seed, n):
    """Simulations at the fiducial point, and pairs below and above it with the same noise."""
    noise = np.random.default_rng(seed).normal(size=(n, 10))
    half_step = np.array([-0.5, 0.5])[:, None, None] * np.diag(δθ)
    fiducial = simulate(θ_fid, noise)
    derivative = simulate(θ_fid + half_step, noise[:, None, None])
    return fiducial, derivative


fiducial, derivative = simulations(seed=0, n=1000)
validation_fiducial, validation_derivative = simulations(seed=1, n=1000)
print("fiducial  ", fiducial.shape, " (simulation, draw)")
print("derivative", derivative.shape, " (pair, below or above, parameter, draw)")

# %%
figure, axes = plt.subplots(
    1, 3, figsize=(10, 2.8), sharey=True, layout="constrained"
)
axes[0].plot(fiducial[:5].T, ".-", alpha=0.6)
axes[0].set(title="five simulations", xlabel="draw", ylabel="value")
for parameter, ax in enumerate(axes[1:]):
    ax.plot(derivative[0, 0, parameter], "v-", label="below")
    ax.plot(derivative[0, 1, parameter], "^-", label="above")
    ax.set(title=f"a pair: {names[parameter]} ± {δθ[parameter] / 2}", xlabel="draw")
axes[2].legend()
plt.show()

# %% [markdown]
# ## The network and the fit
#
# The network is any Keras model from a simulation to at least as many numbers as there are parameters.
# A network of this size learns a thousand simulations by heart if it can. Noise on its input, in
# training only, makes that hard, and the validation set tells when to stop: `patience=50` ends the fit
# after 50 updates without a better result on it, and puts the best weights back.


# %%
def initial(seed):
    return keras.initializers.GlorotUniform(seed)


model = keras.Sequential(
    [
        keras.Input((10,)),
        keras.layers.GaussianNoise(0.3, seed=0),
        keras.layers.Dense(128, kernel_initializer=initial(0)),
        keras.layers.LeakyReLU(0.01),
        keras.layers.Dense(128, kernel_initializer=initial(1)),
        keras.layers.LeakyReLU(0.01),
        keras.layers.Dense(2, kernel_initializer=initial(2)),
    ]
)
imnn = IMNN(
    θ_fid=θ_fid,
    δθ=δθ,
    fiducial=fiducial,
    derivative=derivative,
    validation_fiducial=validation_fiducial,
    validation_derivative=validation_derivative,
    model=model,
)
imnn.fit(patience=50)
imnn

# %% [markdown]
# The fit maximises the determinant of the Fisher information, det F. For n draws from a Gaussian of
# variance 1 the information is diag(n, n/2), so nothing can keep more than det F = 10 × 5 = 50.

# %%
imnn.plot(known_det_fisher=50)
plt.show()

# %% [markdown]
# ## What was kept
#
# The score on the validation set is a little too high, because that set chose the weights. So ask
# simulations that had no part in the fit, and enough of them: `evaluate` returns the information with
# its error.

# %%
kept = imnn.evaluate(*simulations(seed=2, n=100_000))
det_F = np.exp(float(kept.log_det_fisher))
error = det_F * kept.log_det_fisher_std
print(f"det F = {det_F:.1f} ± {error:.1f} of 50")
print(
    "forecast errors",
    kept.parameter_std,
    "and the smallest possible",
    np.sqrt([1 / 10, 1 / 5]),
)

# %% [markdown]
# A thousand simulations teach this network about 44.6 of the 50, with an error of 0.3. The errors that it
# forecasts for mean and variance are within 8 % of the smallest possible. The rest is missing because
# simulations were few: with new ones at every update the same network keeps nearly all of it
# ([Where simulations come from](../../docs/simulations.md)).

# %%
assert abs(det_F - 44.6) < 1.5  # fits on other machines differ by their rounding
assert error < 0.35
assert np.all(kept.parameter_std < 1.08 * np.sqrt([1 / 10, 1 / 5]))

# %% [markdown]
# ## An observation
#
# Now pretend to observe ten numbers, and estimate where they came from. For this problem the best
# estimates are well known: the mean and the variance of the sample.

# %%
observation = simulations(seed=4, n=1)[0]
estimate = imnn.get_estimate(observation).numpy()[0]
print(f"estimate: mean {estimate[0]:+.2f}, variance {estimate[1]:.2f}")
print(f"sample:   mean {observation.mean():+.2f}, variance {observation.var():.2f}")

many = simulations(seed=5, n=2000)[0]
estimates = imnn.get_estimate(many).numpy()
best = np.stack([many.mean(axis=1), many.var(axis=1)], axis=1)
figure, axes = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
for i, ax in enumerate(axes):
    ax.scatter(best[:, i], estimates[:, i], s=3, alpha=0.4)
    ax.axline((θ_fid[i], θ_fid[i]), slope=1, color="k", lw=1)
    ax.set(xlabel=f"{names[i]} of the sample", ylabel="estimate of the IMNN")
plt.show()

# %% [markdown]
# The network has found them by itself. Over 2,000 observations the correlation of its estimates with
# the best ones is 0.98 for the mean and 0.91 for the variance.

# %%
correlations = [np.corrcoef(best[:, i], estimates[:, i])[0, 1] for i in range(2)]
print("correlations", np.round(correlations, 3))
assert np.allclose(correlations, [0.98, 0.91], atol=0.03)

# %% [markdown]
# ## The posterior
#
# `GaussianApproximation` takes the estimate and the Fisher information as a Gaussian likelihood, and
# needs no further simulations. Beside it stands the exact posterior, which this problem has.

# %% tags=["gallery"]
prior = tfp.distributions.Blockwise(
    [tfp.distributions.Uniform(-10.0, 10.0), tfp.distributions.Uniform(0.1, 10.0)]
)
approximation = GaussianApproximation(
    target_data=observation,
    prior=prior,
    Fisher=kept,
    get_estimate=imnn.get_estimate,
    labels=names,
)
axes = approximation.plot(label="Gaussian approximation", known=θ_fid)

grid = [np.linspace(-2, 2, 150), np.linspace(0.1, 5, 150)]
mean, variance = np.meshgrid(*grid, indexing="ij")
chi2 = ((observation[0][:, None, None] - mean) ** 2).sum(axis=0) / variance
log_likelihood = -0.5 * (chi2 + 10 * np.log(variance))
exact = Marginals.of_grid(np.exp(log_likelihood - log_likelihood.max()), grid)
triangle([exact], labels=names, ax=axes, label="exact")
plt.show()

# %% [markdown]
# The mean comes out right. The exact posterior of the variance has a long tail, which no Gaussian has.
# [From summaries to a posterior](05_posteriors.ipynb) infers it with four methods, and
# [A simulator on the fly](04_simulator_on_the_fly.ipynb) moves the fiducial point to the estimate.
