"""Samples of linear Gaussian summaries, whose Fisher information is known."""

import numpy as np

from imnn_tf.fisher.sample import Sample

GROUPS = 64
FISHER = np.array([[1.0, 0.3], [0.3, 1.0]])


def counts(n):
    return np.bincount(np.arange(n) % GROUPS).astype(float)[:GROUPS]


def gaussian_samples(rng, repetitions, n_s, n_d, n_summaries, step):
    """Samples of summaries with covariance one, and derivatives of unmatched noise.

    Args:
        rng: NumPy generator.
        repetitions: The number of samples.
        n_s: The number of fiducial simulations.
        n_d: The number of derivative simulations, of each parameter and side.
        n_summaries: The number of summaries.
        step: Width of the derivatives, in units of `1/√F_αα`.
    """
    fiducial, derivative = counts(n_s), counts(n_d)
    slope = np.zeros((2, n_summaries))
    slope[:, :2] = np.linalg.cholesky(FISHER)
    size = (repetitions, len(fiducial), n_summaries)
    mean = rng.normal(size=size) / np.sqrt(fiducial)[:, None]
    scatter = np.zeros((*size, n_summaries))
    for group, n in enumerate(fiducial.astype(int)):
        x = rng.normal(size=(repetitions, n - 1, n_summaries))
        scatter[:, group] = np.swapaxes(x, 1, 2) @ x
    noise = rng.normal(size=(repetitions, len(derivative), *slope.shape))
    noise *= np.sqrt(2) / step / np.sqrt(derivative)[:, None, None]
    return Sample(fiducial, mean, scatter, derivative, slope + noise)


def sample_from(summaries, slopes):
    """The sample of summaries, `[n_s, s]`, and of slopes of single simulations, `[n_d, p, s]`."""
    groups = [summaries[group::GROUPS] for group in range(min(GROUPS, len(summaries)))]
    scatter = [len(x) * np.atleast_2d(np.cov(x, rowvar=False, bias=True)) for x in groups]
    return Sample(
        counts(len(summaries)),
        np.array([x.mean(0) for x in groups]),
        np.array(scatter),
        counts(len(slopes)),
        np.array([slopes[group::GROUPS].mean(0) for group in range(min(GROUPS, len(slopes)))]),
    )
