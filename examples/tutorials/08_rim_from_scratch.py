# %% [markdown]
# # A recurrent inference machine from scratch
#
# *I know how my instrument blurs a signal. Can a network learn to undo it, for blurs and noise that it sees
# for the first time?*
#
# A recurrent inference machine (RIM) solves inverse problems. It steps from a first guess to the solution; each step is
# proposed by a small network that sees the current guess and the **score**, the gradient of the log likelihood. The
# physics is in the score, and only what signals look like, the prior, is learnt. That is why one RIM works for
# many instruments.
#
# The signals here are Gaussian processes, for which the best possible answer is known: the Wiener filter. It takes a
# minute.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from rim_tf import RIM, GaussianLikelihood, TrajectoryLoss, UNet

n = 64

# %% [markdown]
# ## The problem
#
# A signal `x` of 64 values is blurred by a matrix `A`, and has noise `sigma`: `y = A x + noise`. Every example has
# a blur of another width and another noise level.

# %%
position = np.arange(n)
distance = np.abs(position[:, None] - position)
distance = np.minimum(distance, n - distance)  # the signals are periodic
covariance = np.exp(-0.5 * (distance / 3.0) ** 2) + 0.3 * np.exp(-distance / 10.0)
root = np.linalg.cholesky(covariance + 1e-9 * np.eye(n))


def blur(width):
    """Matrices `(batch, n, n)` that average over a Gaussian of the width `(batch,)`."""
    matrix = np.exp(-0.5 * (distance / width[:, None, None]) ** 2)
    return matrix / matrix.sum(axis=2, keepdims=True)


def examples(seed, count, widths=(1.0, 4.0)):
    """Data, signals, blurs and noise levels."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, n)) @ root.T
    A = blur(rng.uniform(*widths, count))
    sigma = rng.uniform(0.05, 0.5, count)
    y = (A @ x[..., None])[..., 0] + sigma[:, None] * rng.normal(size=(count, n))
    return [part.astype("float32") for part in (y, x[..., None], A, sigma)]


y, x, A, sigma = examples(0, 4)
figure, axes = plt.subplots(
    1, 3, figsize=(11, 2.8), sharey=True, layout="constrained"
)
for i, ax in enumerate(axes):
    ax.plot(x[i, :, 0], "k", lw=1, label="signal")
    ax.plot(y[i], ".", ms=4, label="data")
    ax.set_title(f"noise {sigma[i]:.2f}")
axes[0].legend()
plt.show()

# %% [markdown]
# ## The score
#
# For Gaussian noise the log likelihood is `−|y − A x|² / 2σ²`, and its gradient is `Aᵀ (y − A x) / σ²`. Parameters always
# have an axis of channels at the end.


# %%
def score_fn(x, y, A, sigma):
    residual = y - tf.linalg.matvec(A, x[..., 0])
    score = tf.linalg.matvec(A, residual, transpose_a=True) / sigma[:, None] ** 2
    return score[..., None]


# %% [markdown]
# `GaussianLikelihood()` is the same score, found by automatic differentiation, and logs chi-squared as well.

# %%
by_hand = score_fn(np.zeros_like(x), y, A, sigma)
by_library = GaussianLikelihood().score(tf.zeros_like(x), y, A, sigma)
print("largest difference:", np.abs(by_hand - by_library).max())
np.testing.assert_allclose(by_hand, by_library, rtol=1e-3, atol=1e-3)

# %% [markdown]
# ## The machine
#
# A small U-Net proposes the steps. An untrained RIM returns its first guess, which is zero, whatever the number of
# steps.

# %%
network = UNet(1, dimensions=1, nf=16, hidden_units=16, padding="periodic", seed=0)
rim = RIM([n], network, likelihood=GaussianLikelihood(), T=6)
print("untrained:", np.abs(rim.predict(y, A, sigma, jit_compile=False)).max())

# %% [markdown]
# It is a `keras.Model`, so Keras's own `compile` and `fit` train it. `TrajectoryLoss("linear")` compares every step with
# the truth, later steps more than early ones.

# %%
updates = 400
rate = keras.optimizers.schedules.CosineDecay(3e-3, updates)
rim.compile(
    keras.optimizers.Adam(rate, epsilon=1e-12),
    TrajectoryLoss("linear"),
    jit_compile=False,
)
y, x, A, sigma = examples(1, 6400)
history = rim.fit((y, x, A, sigma), epochs=4, batch_size=64, seed=0, verbose=2)

# %% [markdown]
# ## How good it is
#
# The Wiener filter knows the covariance of the signals and every blur: no method has a smaller error on average.


# %%
def wiener(y, A, sigma):
    """The best reconstruction, `(batch, n)`."""
    inner = A @ covariance @ A.transpose(0, 2, 1) + sigma[
        :, None, None
    ] ** 2 * np.eye(n)
    return (
        covariance @ A.transpose(0, 2, 1) @ np.linalg.solve(inner, y[..., None])
    )[..., 0]


def error(estimate, truth):
    """Mean squared error, and its standard error over the examples."""
    each = ((estimate - truth[..., 0]) ** 2).mean(axis=1)
    return each.mean(), each.std() / np.sqrt(len(each))


fresh = y, x, A, sigma = examples(2, 1000)
steps = rim.predict(y, A, sigma, trajectory=True, jit_compile=False)
best = error(wiener(y, A, sigma), x)
data = error(y, x)
found = [error(steps[:, t, :, 0], x)[0] for t in range(6)]
print("error of the data:", data, " Wiener:", best)
print("RIM, step by step:", np.round(found, 4))
print("RIM over Wiener:", found[-1] / best[0])

# %%
plt.figure(figsize=(5, 3), layout="constrained")
plt.plot(np.arange(1, 7), found, "o-", label="RIM")
plt.axhline(best[0], color="k", label="best possible")
plt.axhline(data[0], color="C3", ls=":", label="data")
plt.yscale("log")
plt.xlabel("step")
plt.ylabel("mean squared error")
plt.legend()
plt.show()
rim.plot_trajectory(y[:1], A[:1], sigma[:1], truth=x[:1])
plt.show()

# %% [markdown]
# After 400 updates the error is 1.06 times the smallest possible. The network has learnt the prior from examples: nobody
# told it the covariance.

# %%
assert abs(found[-1] / best[0] - 1.06) < 0.04
assert found[-1] < found[2] < found[0]

# %% [markdown]
# ## Instruments it never saw
#
# Now a blur that is not Gaussian, and lopsided: an exponential tail to one side, as of a slow detector. And less noise than
# in any example of the training.

# %% tags=["gallery"]
y, x, A, sigma = examples(3, 1000)
behind = (position[:, None] - position) % n
A = np.exp(-behind / 4.0)
A = np.repeat((A / A.sum(axis=1, keepdims=True))[None], 1000, axis=0).astype(
    "float32"
)
sigma = np.full(1000, 0.1, "float32")
noise = np.random.default_rng(4).normal(size=(1000, n))
y = ((A @ x)[..., 0] + 0.1 * noise).astype("float32")

estimate = rim.predict(y, A, sigma, jit_compile=False)[..., 0]
unseen, possible = error(estimate, x), error(wiener(y, A, sigma), x)
print("data:", error(y, x), "RIM:", unseen, "best possible:", possible)

plt.figure(figsize=(6, 3), layout="constrained")
plt.plot(x[0, :, 0], "k", lw=1, label="signal")
plt.plot(y[0], ".", label="data")
plt.plot(estimate[0], label="RIM")
plt.legend()
plt.show()

# %%
print("RIM over the best possible:", unseen[0] / possible[0])

# %% [markdown]
# The error is a ninth of that of the data, and 1.4 times the smallest possible, for an instrument and a noise level that were
# not in its training.

# %%
ratio = unseen[0] / possible[0]
assert abs(error(y, x)[0] / unseen[0] - 9) < 1.5
assert abs(ratio - 1.4) < 0.25

# %% [markdown]
# Training on operators like those that will be met brings it nearer: what a network learns of the prior is
# general, what it learns of how to step is less so.
#
# Next: [a RIM for images](09_rim_for_images.ipynb). [Recurrent inference machines](../../docs/rim.md) has links for
# positive parameters, networks, checkpoints and memory.
