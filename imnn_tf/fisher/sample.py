"""What a Fisher information is estimated from: moments and slopes of groups of simulations."""

from typing import NamedTuple

import numpy as np

from imnn_tf.fisher.groups import group_sizes
from imnn_tf.information import Statistics


class Sample(NamedTuple):
    """Moments and slopes of groups of simulations that differ by chance alone.

    Axes before those below stand for several samples of the same size.
    """

    n_s: np.ndarray  # [fiducial_groups], the number of fiducial simulations in each, at least one
    mean: np.ndarray  # [fiducial_groups, n_summaries]
    scatter: np.ndarray  # [fiducial_groups, n_summaries, n_summaries], about the group's mean
    n_d: np.ndarray  # [derivative_groups], the number of derivative simulations, at least one
    slope: np.ndarray  # [derivative_groups, n_params, n_summaries], its mean in the group

    def spread(self) -> np.ndarray:
        """Second moments of each group about the mean of all, `[fiducial_groups, s, s]`."""
        share = self.n_s / self.n_s.sum()
        centre = np.einsum("k,...ks->...s", share, self.mean)
        shift = self.mean - centre[..., np.newaxis, :]
        between = np.einsum("k,...ks,...kt->...kst", self.n_s, shift, shift)
        return self.scatter + between

    def mean_slope(self) -> np.ndarray:
        """The slope of the mean of the summaries, `[n_params, n_summaries]`."""
        return np.einsum("k,...kps->...ps", self.n_d / self.n_d.sum(), self.slope)

    def kurtosis(self) -> np.ndarray:
        """Fourth moment of each summary over its squared variance, `[n_summaries]`; 3 if Gaussian.

        The variance of `m` summaries has the relative variance `[κ − (m − 3)/(m − 1)] / m`, so the
        scatter of the groups' variances tells `κ`. It is NaN where groups have fewer than four
        simulations.
        """
        m = self.n_s.mean()
        if m < 4:
            return np.full(self.mean.shape[:-2] + self.mean.shape[-1:], np.nan)
        each = np.diagonal(self.scatter, axis1=-2, axis2=-1) / (self.n_s - 1)[:, np.newaxis]
        relative = each.var(axis=-2, ddof=1) / np.square(each.mean(axis=-2))
        return m * relative + (m - 3) / (m - 1)

    def subset(self, fiducial: slice, derivative: slice) -> "Sample":
        """Some of the fiducial groups and some of the derivative groups."""
        return Sample(
            self.n_s[fiducial],
            self.mean[..., fiducial, :],
            self.scatter[..., fiducial, :, :],
            self.n_d[derivative],
            self.slope[..., derivative, :, :],
        )


def sample_of(groups: Statistics, n_d: int) -> Sample:
    """The sample in the statistics of groups, without the groups that have no simulations.

    Args:
        groups: What `group_statistics` returns.
        n_d: Number of derivative simulations.
    """
    (count, mean, scatter), slope = groups
    n_s, sizes = np.asarray(count, np.float64), group_sizes(n_d)
    fiducial, derivative = n_s > 0, sizes > 0
    share = (sizes[derivative] / n_d)[:, np.newaxis, np.newaxis]
    return Sample(
        n_s[fiducial],
        np.asarray(mean, np.float64)[fiducial],
        np.asarray(scatter, np.float64)[fiducial],
        sizes[derivative].astype(np.float64),
        np.asarray(slope, np.float64)[derivative] / share,
    )
