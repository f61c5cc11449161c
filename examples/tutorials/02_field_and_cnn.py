# %% [markdown]
# # A field and a convolutional network
#
# *How much does the power spectrum of a map miss, and can a network read the rest?*
#
# The maps of this tutorial are log-normal: the logarithm of a map is a Gaussian field with the power
# spectrum `A k^−B`. Such maps are a simple model of the density of matter, with peaks and voids. Because
# the logarithm is Gaussian, the information in a map about `A` and `B` is known exactly. Neither the power
# spectrum nor the network is told of the logarithm. The tutorial takes a minute.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow_probability as tfp

from imnn_tf import IMNN
from imnn_tf.lfi import GaussianApproximation
from imnn_tf.networks import dense_network, field_network

size = 32
θ_fid, δθ = np.array([0.25, 1.0]), np.array([0.01, 0.05])
names = ["$A$", "$B$"]

# %% [markdown]
# ## Maps
#
# `k` is in radians per pixel. The real Fourier transform stores most modes once for two real numbers;
# `count` says how many real numbers a mode holds. The mode `k = 0` has no power.

# %% tags=["gallery"]
k = 2 * np.pi * np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
k[0, 0] = 1.0
count = np.full(k.shape, 2.0)
count[:, [0, -1]], count[0, 0] = 1.0, 0.0


def lognormal(θ, noise):
    """Maps with the parameters `θ`, from standard normal noise."""
    amplitude = np.sqrt(θ[0]) * k ** (-θ[1] / 2) * (count > 0)
    return np.exp(np.fft.irfft2(np.fft.rfft2(noise) * amplitude, s=(size, size)))


def simulations(seed, n_s, n_d):
    """Maps at the fiducial point, and pairs below and above it with the same noise."""
    rng = np.random.default_rng(seed)
    fiducial = lognormal(θ_fid, rng.normal(size=(n_s, size, size)))
    noise = rng.normal(size=(n_d, size, size))
    half_steps = np.array([-0.5, 0.5])[:, None, None] * np.diag(δθ)
    varied = [
        [lognormal(θ_fid + step, noise) for step in side] for side in half_steps
    ]
    return fiducial.astype("float32"), np.moveaxis(
        np.array(varied, "float32"), 2, 0
    )


fiducial, derivative = simulations(1, 1000, 250)
validation, validation_derivative = simulations(2, 1000, 250)
fresh, fresh_derivative = simulations(3, 5000, 1250)

figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
for ax, field in zip(axes, fiducial[:3], strict=True):
    ax.imshow(field, cmap="magma", vmax=4)
    ax.set_axis_off()
plt.show()

# %% [markdown]
# ## How much there is to know
#
# The modes of the logarithm are independent Gaussians of variance `P(k)`, so the information is
# `½ Σ ∂ln P ∂ln Pᵀ` over all of them.

# %%
slopes = np.stack([np.full(k.size, 1 / θ_fid[0]), -np.log(k).ravel()])
exact = 0.5 * (slopes * count.ravel()) @ slopes.T
print("exact forecast errors of A and B:", np.sqrt(np.diag(np.linalg.inv(exact))))


def share(evaluation):
    """The share of the exact det F, and its error."""
    found = np.exp(float(evaluation.log_det_fisher)) / np.linalg.det(exact)
    return found, found * evaluation.log_det_fisher_std


# %% [markdown]
# ## The power spectrum
#
# The usual summary is the mean power in bands of `k`. Sixteen bands hold all that the spectrum of such a
# small map says. An IMNN with a single dense layer makes the best two linear summaries of the logarithms of
# the band powers.

# %%
edges = np.geomspace(k[k > 0].min() * 0.999, k.max() * 1.001, 17)
band = np.digitize(k, edges) - 1
of_band = np.stack([(band == i) * count for i in range(16)])
of_band = of_band[of_band.sum(axis=(1, 2)) > 0]


def spectrum(maps):
    """The logarithm of the mean power in each band, `[..., bands]`."""
    power = np.abs(np.fft.rfft2(maps - 1)) ** 2 / size**2
    total = np.einsum("...xy,bxy->...b", power, of_band)
    return np.log(total / of_band.sum(axis=(1, 2)))


of_spectrum = IMNN(
    θ_fid=θ_fid,
    δθ=δθ,
    fiducial=spectrum(fiducial),
    derivative=spectrum(derivative),
    validation_fiducial=spectrum(validation),
    validation_derivative=spectrum(validation_derivative),
    model=dense_network(len(of_band), 2, hidden=(), seed=0),
    optimiser=keras.optimizers.Adam(0.03),
)
of_spectrum.fit(400, patience=100)
spectrum_kept = of_spectrum.evaluate(spectrum(fresh), spectrum(fresh_derivative))
print(
    "share of det F in the power spectrum: {:.2f} ± {:.2f}".format(
        *share(spectrum_kept)
    )
)

# %% [markdown]
# ## The network
#
# `field_network` is an ordinary Keras model: convolutions that look at every pixel, at every scale, and
# the mean over the map of what they see. `pointwise=8` lets it learn a function of the value of a pixel
# before all that. `augment` shows every map shifted, mirrored and turned at every update, so a thousand maps
# are worth many more. [Networks for fields](../../docs/fields.md) explains each setting.

# %%
updates = 400
of_maps = IMNN(
    θ_fid=θ_fid,
    δθ=δθ,
    fiducial=fiducial,
    derivative=derivative,
    validation_fiducial=validation,
    validation_derivative=validation_derivative,
    model=field_network((size, size), 2, pointwise=8, filters=(8, 8, 8), seed=0),
    optimiser=keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(1e-2, updates)
    ),
    augment="shift, flip, rotate",
)
of_maps.fit(updates, λ=0.1, validation_freq=80, batch_size=100)
maps_kept = of_maps.evaluate(fresh, fresh_derivative)
print(
    "share of det F that the network keeps: {:.2f} ± {:.2f}".format(
        *share(maps_kept)
    )
)

# %%
of_maps.plot(known_det_fisher=np.linalg.det(exact))
plt.show()

# %% [markdown]
# The power spectrum keeps 0.49 of det F and the network 0.94, each with an error of a few per cent. The
# forecast errors of the spectrum are 1.14 times the exact ones for `A` and 1.15 times for `B`; those of the
# network are within 3 % of them.

# %%
best = np.sqrt(np.diag(np.linalg.inv(exact)))
of_both = spectrum_kept.parameter_std / best, maps_kept.parameter_std / best
print(
    "errors in units of the exact ones: spectrum", of_both[0], "network", of_both[1]
)
assert abs(share(spectrum_kept)[0] - 0.49) < 0.06
assert abs(share(maps_kept)[0] - 0.94) < 0.1
assert np.allclose(of_both[0], [1.14, 1.15], atol=0.06)
assert np.all(of_both[1] < 1.03 + 0.03)

# %% [markdown]
# ## What the network has learned
#
# Its first layer sees the field plus a learned function of the value at a pixel. Up to a factor and a
# constant, that function is nearly the logarithm, which nobody told it about.

# %%
values = np.linspace(*np.quantile(fresh, [0.001, 0.999]), size**2)
learned = keras.Model(
    of_maps.model.input, of_maps.model.get_layer("pointwise").output
)
function = learned(values.reshape(1, size, size).astype("float32")).numpy().ravel()
density = np.histogram(fresh, np.append(values, 2 * values[-1] - values[-2]))[0]
slope, offset = np.polyfit(function, np.log(values), 1, w=np.sqrt(density))
plt.figure(figsize=(5, 3.2), layout="constrained")
plt.plot(values, np.log(values), "k", lw=3, alpha=0.3, label="logarithm")
plt.plot(values, slope * function + offset, "C3--", label="learned")
plt.xlabel("value at a pixel")
plt.legend()
plt.show()
correlation = np.corrcoef(
    np.repeat(function, density), np.repeat(np.log(values), density)
)[0, 1]
print("correlation with the logarithm over the pixels:", correlation)
assert correlation > 0.97

# %% [markdown]
# ## From one map to its parameters
#
# A map that neither of them has seen, and the posteriors from its spectrum and from the network.

# %%
truth = np.array([0.27, 1.05])
observation = lognormal(
    truth, np.random.default_rng(11).normal(size=(1, size, size))
)
prior = tfp.distributions.Blockwise(
    [tfp.distributions.Uniform(0.05, 0.6), tfp.distributions.Uniform(0.0, 2.0)]
)
shared = {"prior": prior, "labels": names}
from_spectrum = GaussianApproximation(
    spectrum(observation),
    Fisher=spectrum_kept,
    get_estimate=of_spectrum.get_estimate,
    **shared,
)
from_map = GaussianApproximation(
    observation, Fisher=maps_kept, get_estimate=of_maps.get_estimate, **shared
)
axes = from_spectrum.plot(label="power spectrum", known=truth)
from_map.plot(ax=axes, label="network")
plt.show()

# %% [markdown]
# Over 1,000 maps at the fiducial point the estimates of the network scatter less, as forecast, and are not
# biased: their mean is within 4 standard errors of the truth.

# %%
estimates = of_maps.get_estimate(fresh[:1000]).numpy()
pull = (estimates.mean(axis=0) - θ_fid) / (estimates.std(axis=0) / np.sqrt(1000))
others = of_spectrum.get_estimate(spectrum(fresh[:1000])).numpy()
print(
    "scatter:",
    estimates.std(axis=0),
    "spectrum:",
    others.std(axis=0),
    "pull:",
    pull,
)
assert np.all(np.abs(pull) < 4)
assert np.all(estimates.std(axis=0) < others.std(axis=0))

# %% [markdown]
# What the spectrum misses are the phases: where the peaks are, and how pointed. A network reads them
# without being told what to look for.
#
# Next: [TFRecords larger than memory](03_larger_than_memory.ipynb), or
# [what a network adds to a power spectrum](06_external_summaries.ipynb) that you already trust.
