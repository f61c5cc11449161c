# %% [markdown]
# # Simulations larger than memory
#
# *My simulations fill a disk. Can I fit an IMNN to them, and is the result the one that I would get if they
# fitted into memory?*
#
# The simulations here are time series of 500 values, `x_t = φ x_(t−1) + ε_t`. The parameters are `φ` and
# the variance `v` of `ε`. They are written to TFRecord files in pieces of a megabyte and are never in memory
# together. The files are small, so that the tutorial takes half a minute; nothing in the code depends on
# their size.

# %%
import os
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
from scipy.signal import lfilter

from imnn_tf import IMNN, Estimator
from imnn_tf.networks import series_network
from imnn_tf.utils import TFRecords

length = 500
θ_fid, δθ = np.array([0.5, 1.0]), np.array([0.04, 0.06])
n_s, n_d = 1000, 250


def series(θ, seed):
    """One series with the parameters `θ`. The same seed gives the same noise."""
    φ, v = θ
    noise = np.sqrt(v) * np.random.default_rng(seed).normal(size=length)
    noise[0] /= np.sqrt(1 - φ**2)  # the series begins in its stationary state
    return lfilter([1.0], [1.0, -φ], noise).astype("float32")


# %% [markdown]
# ## Writing the files
#
# The writer asks for one simulation at a time, by its label: a seed; for derivatives also whether the
# parameter is below (0) or above (1) its fiducial value, and which parameter it is. It never holds
# more than one of them. Validation simulations get other seeds.


# %%
def get_fiducial(seed):
    return series(θ_fid, seed)


def get_derivative(seed, side, parameter):
    θ = θ_fid.copy()
    θ[parameter] += (side - 0.5) * δθ[parameter]
    return series(θ, seed)


writer = TFRecords(record_size=1, verbose=False)  # megabytes per file
writer.write_record(n_s, get_fiducial, directory="data")
writer.write_record(
    n_d, get_derivative, fiducial=False, n_params=2, directory="data"
)
writer.write_record(
    n_s, lambda seed: get_fiducial(seed + 10**6), validation=True, directory="data"
)
writer.write_record(
    n_d,
    lambda seed, side, parameter: get_derivative(seed + 10**6, side, parameter),
    fiducial=False,
    n_params=2,
    validation=True,
    directory="data",
)
files = sorted(Path("data").glob("*.tfrecords"))
size = sum(path.stat().st_size for path in files) / 1e6
print(f"{len(files)} files, {size:.1f} MB, the first: {files[0].name}")

# %% [markdown]
# That is 12 files of 8.3 MB in all. If the writing is interrupted, run the same call again: it keeps the files
# that are complete. On a cluster, `part=(index, count)` shares the work between the jobs of an array.

# %%
assert len(files) == 12
assert abs(size - 8.3) < 0.1
written = files[0].stat().st_mtime_ns
writer.write_record(n_s, get_fiducial, directory="data")  # finds everything done
assert written == files[0].stat().st_mtime_ns

# %% [markdown]
# ## The fit
#
# `fiducial` and `derivative` are lists of files, in any order. `cache=False` reads them again at every
# update; this is what happens by itself if they take more than a quarter of the memory. `at_once=200`
# says how many fiducial simulations are in memory together. An update is still one update of *all*
# simulations: the gradient is summed over the parts and is exactly that of the whole.


# %%
def paths(name):
    return [str(path) for path in Path("data").glob(f"{name}_*.tfrecords")]


def fitted(**where):
    """An IMNN after 60 updates, with the simulations from anywhere."""
    imnn = IMNN(
        θ_fid=θ_fid,
        δθ=δθ,
        model=series_network(length, 2, filters=(8, 8, 8), seed=0),
        optimiser=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(1e-2, 60)
        ),
        at_once=200,
        **where,
    )
    imnn.fit(60, λ=0.1, validation_freq=10)
    return imnn


streamed = fitted(
    fiducial=paths("fiducial"),
    derivative=paths("derivative"),
    validation_fiducial=paths("validation_fiducial"),
    validation_derivative=paths("validation_derivative"),
    cache=False,
    save=True,
    directory="fits",
    filename="series",
)

# %% [markdown]
# ## The same from memory
#
# To see that nothing was lost, here is the same fit with arrays. Every number of the history and every
# weight is the same, to the last bit.


# %%
def arrays(first):
    fiducial = np.stack([get_fiducial(first + seed) for seed in range(n_s)])
    varied = [
        [
            [get_derivative(first + seed, side, p) for p in range(2)]
            for side in range(2)
        ]
        for seed in range(n_d)
    ]
    return fiducial, np.array(varied)


fiducial, derivative = arrays(0)
validation_fiducial, validation_derivative = arrays(10**6)
in_memory = fitted(
    fiducial=fiducial,
    derivative=derivative,
    validation_fiducial=validation_fiducial,
    validation_derivative=validation_derivative,
)
same = np.array_equal(streamed.history["det_F"], in_memory.history["det_F"])
print("the same history:", same)
assert same
for one, other in zip(
    streamed.model.get_weights(), in_memory.model.get_weights(), strict=True
):
    np.testing.assert_array_equal(one, other)

# %% [markdown]
# ## How much was kept
#
# The exact Fisher information of such a series is known. After 60 updates the network keeps 0.93 of its
# det F, measured on simulations that had no part in the fit.

# %% tags=["gallery"]
φ, v = θ_fid
exact = np.array(
    [
        [
            (length - 1) / (1 - φ**2) + 2 * φ**2 / (1 - φ**2) ** 2,
            φ / (v * (1 - φ**2)),
        ],
        [φ / (v * (1 - φ**2)), length / (2 * v**2)],
    ]
)
kept = streamed.evaluate(*arrays(2 * 10**6))
share = np.exp(float(kept.log_det_fisher)) / np.linalg.det(exact)
print(f"share of det F: {share:.2f} ± {share * kept.log_det_fisher_std:.2f}")
assert abs(share - 0.93) < 3 * 0.07

streamed.plot(known_det_fisher=np.linalg.det(exact))
plt.show()

# %% [markdown]
# ## A damaged file
#
# Files rot, and copies break off. Beside the files lies a manifest with their checksums, so a damaged file
# is named before the first update, and not found out from a strange posterior.

# %%
broken = Path(paths("fiducial")[0])
content = bytearray(broken.read_bytes())
content[len(content) // 2] ^= 1  # one bit
broken.write_bytes(content)
try:
    fitted(fiducial=paths("fiducial"), derivative=paths("derivative"), cache=False)
    raise AssertionError("a damaged file was read")
except Exception as error:
    print(type(error).__name__, "-", str(error)[:160])
    assert broken.name in str(error)

# %% [markdown]
# ## What is needed afterwards
#
# The folder `fits/series` holds the fit. To estimate parameters from data elsewhere, nothing else is needed,
# neither the files nor the simulator.

# %%
observations = np.stack([series([0.52, 1.05], seed) for seed in range(3000, 3200)])
estimator = Estimator.load("fits/series")
estimates = estimator(observations).numpy()
print(sorted(os.listdir("fits/series")))
print(
    "mean of 200 estimates:",
    estimates.mean(axis=0),
    "scatter:",
    estimates.std(axis=0),
)
pull = (estimates.mean(axis=0) - [0.52, 1.05]) / (
    estimates.std(axis=0) / np.sqrt(200)
)
assert np.all(np.abs(pull) < 4)

# %% [markdown]
# Next: [a simulator on the fly](04_simulator_on_the_fly.ipynb) needs no files at all.
# [Where simulations come from](../../docs/simulations.md) has the speeds, and files of 16 GB.
