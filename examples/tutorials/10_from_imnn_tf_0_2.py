# %% [markdown]
# # Coming from imnn-tf 0.2
#
# *I have a script and a trained network of imnn-tf 0.2. What do I change, and does the old network still give
# the same numbers?*
#
# The names and the order of the arguments are unchanged, so most scripts run. What changed is Keras: version 0.2
# used Keras 2, and this one uses Keras 3, so models are written in `keras` instead of `tf.keras`, and files of
# models must be converted once. It takes ten seconds.

# %%
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
import tf_keras

from imnn_tf import IMNN, Estimator
from imnn_tf.convert import convert

# %% [markdown]
# ## A folder of version 0.2
#
# `IMNN(save=True)` of version 0.2 left these files in `directory/filename`:
#
# | file | content |
# | --- | --- |
# | `saved_model.pb`, `variables/` | the model, a SavedModel of Keras 2 |
# | `weights.h5` | its weights |
# | `estimator.npz` | `Finv`, `θ_fid`, `dμ_dθ`, `Cinv`, `μ` |
#
# If you have such a folder, skip the next cell. It makes one, with `tf_keras`, which is Keras 2 and comes with
# this package. The network is one that was fitted to ten draws from a Gaussian.

# %%
folder = Path("model/model")
old = tf_keras.Sequential(
    [
        tf_keras.Input((10,)),
        tf_keras.layers.Dense(128),
        tf_keras.layers.LeakyReLU(0.01),
        tf_keras.layers.Dense(128),
        tf_keras.layers.LeakyReLU(0.01),
        tf_keras.layers.Dense(2),
    ]
)


def simulate(parameters, noise):
    """Draws with the mean and the variance in `parameters`, from standard normal noise."""
    return parameters[..., :1] + np.sqrt(parameters[..., 1:]) * noise


def simulations(seed, n):
    """Simulations at the fiducial point, and pairs below and above it with the same noise."""
    noise = np.random.default_rng(seed).normal(size=(n, 10))
    half_step = np.array([-0.5, 0.5])[:, None, None] * np.diag([0.1, 0.1])
    θ_fid = np.array([0.0, 1.0])
    return simulate(θ_fid, noise), simulate(θ_fid + half_step, noise[:, None, None])


fiducial, derivative = simulations(0, 1000)
validation_fiducial, validation_derivative = simulations(1, 1000)

# %% [markdown]
# The network that plays the old one is fitted here, and its weights and statistics are written as 0.2 wrote
# them. `old_estimates` are what it says about ten observations.


# %%
def new_model():
    """The same layers in Keras 3."""
    return keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(
                128, kernel_initializer=keras.initializers.GlorotUniform(0)
            ),
            keras.layers.LeakyReLU(0.01),
            keras.layers.Dense(
                128, kernel_initializer=keras.initializers.GlorotUniform(1)
            ),
            keras.layers.LeakyReLU(0.01),
            keras.layers.Dense(
                2, kernel_initializer=keras.initializers.GlorotUniform(2)
            ),
        ]
    )


first = IMNN(
    θ_fid=[0.0, 1.0],
    δθ=[0.1, 0.1],
    fiducial=fiducial,
    derivative=derivative,
    validation_fiducial=validation_fiducial,
    validation_derivative=validation_derivative,
    model=new_model(),
    verbose=False,
)
first.fit(patience=50)
old.set_weights(first.model.get_weights())
folder.mkdir(parents=True, exist_ok=True)
old.save(folder, save_format="tf")
old.save_weights(folder / "weights.h5")
first.save_estimator(folder / "estimator.npz")

observations = simulations(2, 10)[0]
with np.load(folder / "estimator.npz") as saved:
    statistics = dict(saved)
step = statistics["Finv"] @ statistics["dμ_dθ"] @ statistics["Cinv"]
summaries = old(observations.astype("float32")).numpy()
old_estimates = statistics["θ_fid"] + (summaries - statistics["μ"]) @ step.T
print(sorted(path.name for path in folder.iterdir()))

# %% [markdown]
# ## What Keras 3 says of it
#
# Keras 3 does not open a SavedModel of Keras 2. The model itself cannot be given to `IMNN` either, and the
# error names what it got.

# %%
for attempt in (
    lambda: keras.models.load_model(folder),
    lambda: IMNN(
        θ_fid=[0.0, 1.0],
        δθ=[0.1, 0.1],
        fiducial=fiducial,
        derivative=derivative,
        model=old,
    ),
):
    try:
        attempt()
        raise AssertionError("a model of Keras 2 was taken")
    except (ValueError, TypeError) as error:
        print(type(error).__name__, "-", str(error).splitlines()[0][:200], "\n")

# %% [markdown]
# ## Converting it
#
# One call, or `python -m imnn_tf.convert model/model converted` in a shell, writes a folder that
# `Estimator.load` reads. It takes the trained weights from `weights.h5`, checks that the network gives the same
# summaries, and keeps the statistics.

# %% tags=["gallery"]
estimator = convert(folder, "converted")
estimates = estimator(observations).numpy()
print("largest difference:", np.abs(estimates - old_estimates).max())

plt.figure(figsize=(4, 3.5), layout="constrained")
plt.plot(old_estimates, estimates, "o")
plt.axline((0, 0), slope=1, color="k", lw=1)
plt.xlabel("estimates of the old network")
plt.ylabel("estimates of the new one")
plt.legend(["mean", "variance"])
plt.show()

# %% [markdown]
# The estimates agree to the rounding of single precision, 1e-5. The old folder is not needed any more.

# %%
assert np.abs(estimates - old_estimates).max() < 1e-5
loaded = Estimator.load("converted")
np.testing.assert_array_equal(loaded(observations).numpy(), estimates)
loaded

# %% [markdown]
# A network with layers of your own cannot be converted. Write it in Keras 3, with the layers in the same order, and move
# the weights over. With the statistics it is an `Estimator` again:

# %%
model = new_model()
model.set_weights(tf_keras.models.load_model(folder, compile=False).get_weights())
by_hand = Estimator(
    model,
    theta_fid=statistics["θ_fid"],
    mean=statistics["μ"],
    slope=statistics["dμ_dθ"],
    inverse_covariance=statistics["Cinv"],
    inverse_fisher=statistics["Finv"],
)
assert np.abs(by_hand(observations).numpy() - old_estimates).max() < 1e-5

# %% [markdown]
# ## The script
#
# A script of version 0.2 looks like this. Every argument still exists; `itype`, `check_shape` and
# `tqdm_notebook` have no effect any more. `theta_fid`, `delta_theta`, `lambda_` and `epsilon` are other names for
# the Greek ones.

# %%
imnn = IMNN(
    n_s=1000,
    n_d=1000,
    n_params=2,
    n_summaries=2,
    θ_fid=np.array([0.0, 1.0], np.float32),
    δθ=np.array([0.1, 0.1], np.float32),
    input_shape=(10,),
    fiducial=fiducial,
    derivative=derivative,
    validation_fiducial=validation_fiducial,
    validation_derivative=validation_derivative,
    model=new_model(),
    optimiser=keras.optimizers.Adam(1e-3),
    dtype=tf.float32,
    itype=tf.int32,
    check_shape=True,
    verbose=False,
)
imnn.fit(n_iterations=1000, λ=10.0, ϵ=0.1, patience=50, tqdm_notebook=False)
print(
    "updates:", len(imnn.history["det_F"]), "det F:", float(np.linalg.det(imnn.F))
)

# %% [markdown]
# The default regulariser is another one than in version 0.2, and a fit needs far fewer updates with it. The old
# one, as the paper has it, is `regulariser="published"`:

# %%
published = IMNN(
    θ_fid=[0.0, 1.0],
    δθ=[0.1, 0.1],
    fiducial=fiducial,
    derivative=derivative,
    validation_fiducial=validation_fiducial,
    validation_derivative=validation_derivative,
    model=new_model(),
    optimiser=keras.optimizers.Adam(1e-3),
    verbose=False,
)
published.fit(patience=50, λ=10.0, ϵ=0.1, regulariser="published")
counts = [len(one.history["det_F"]) for one in (imnn, published)]
fresh = simulations(3, 100_000)
kept = [
    float(np.exp(one.evaluate(*fresh).log_det_fisher)) for one in (imnn, published)
]
print("updates:", counts, "det F of 50 on fresh simulations:", kept)

# %% [markdown]
# With the arguments of the old script the default regulariser ends after about 480 updates and the published one
# after about 1,280. Both keep about 43 of 50. With the defaults of this version, which are `λ=1` and a larger learning
# rate, a fit like `first` above takes fewer still: about 130.

# %%
assert abs(counts[0] - 480) < 150
assert abs(counts[1] - 1280) < 400
assert np.all(np.abs(np.array(kept) - 43) < 1.5)
print(len(first.history["det_F"]))
assert abs(len(first.history["det_F"]) - 130) < 40

# %% [markdown]
# [Coming from imnn-tf 0.2](../../docs/migration.md) lists everything that gives another result, and the names of
# the likelihood-free inference.
