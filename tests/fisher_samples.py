"""Samples of summaries for the correction of their Fisher information."""

import numpy as np

from imnn_tf.fisher.groups import N_GROUPS, group_sizes
from imnn_tf.fisher.sample import Sample


def sizes_of(n):
    sizes = group_sizes(n)
    return sizes[sizes > 0].astype(float)


def sample_from(summaries, slopes):
    """The sample of summaries, `[n_s, s]`, and of slopes of single simulations, `[n_d, p, s]`."""
    groups = [summaries[group::N_GROUPS] for group in range(min(N_GROUPS, len(summaries)))]
    scatter = [len(x) * np.atleast_2d(np.cov(x, rowvar=False, bias=True)) for x in groups]
    return Sample(
        sizes_of(len(summaries)),
        np.array([x.mean(0) for x in groups]),
        np.array(scatter),
        sizes_of(len(slopes)),
        np.array([slopes[group::N_GROUPS].mean(0) for group in range(min(N_GROUPS, len(slopes)))]),
    )
