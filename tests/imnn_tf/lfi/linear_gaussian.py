"""The posterior of a linear model with Gaussian noise, and an estimator that learns it exactly."""

import numpy as np
from scipy import stats


class LinearGaussian:
    """A normal density of the parameters whose mean is linear in the summaries.

    It is exact for Gaussian parameters with linear Gaussian summaries, up to the noise of the
    simulations. It draws nothing at random while it is fitted.
    """

    def fit(self, parameters, summaries, *, seed=None, callbacks=None, progress=True):
        assert np.isfinite(parameters).all()
        assert np.isfinite(summaries).all()
        design = np.column_stack([np.ones(len(summaries)), summaries])
        self.coefficients = np.linalg.lstsq(design, parameters, rcond=1e-10)[0]
        residuals = parameters - design @ self.coefficients
        self.covariance = np.atleast_2d(np.cov(residuals.T))
        return {"loss": np.array([1.0, 0.5])}

    def _mean(self, summaries):
        return np.column_stack([np.ones(len(summaries)), summaries]) @ self.coefficients

    def sample(self, n, summaries, seed=None):
        mean = self._mean(np.asarray(summaries))
        rng = np.random.default_rng(seed)
        noise = rng.multivariate_normal(np.zeros(mean.shape[1]), self.covariance, (len(mean), n))
        return mean[:, np.newaxis] + noise

    def log_prob(self, parameters, summaries):
        centred = parameters - self._mean(np.asarray(summaries))[:, np.newaxis]
        normal = stats.multivariate_normal(np.zeros(centred.shape[-1]), self.covariance)
        return np.reshape(normal.logpdf(centred), centred.shape[:-1])


class GaussianPrior:
    """N(mean, scale^2) of several parameters, which can be pickled."""

    def __init__(self, mean, scale):
        self.mean, self.scale = np.asarray(mean, float), np.asarray(scale, float)
        self.event_shape = self.mean.shape

    def sample(self, n, seed=None):
        return np.random.default_rng(seed).normal(self.mean, self.scale, (n, *self.event_shape))

    def log_prob(self, parameters):
        return stats.norm(self.mean, self.scale).logpdf(parameters).sum(axis=-1)


class Triangle:
    """A uniform density on the triangle `x >= 0, y >= 0, x + y <= 1`, of which the box is told."""

    event_shape = (2,)
    low, high = np.zeros(2), np.ones(2)

    def sample(self, n, seed=None):
        points = np.random.default_rng(seed).uniform(size=(n, 2))
        above = points.sum(axis=1) > 1
        points[above] = 1 - points[above]
        return points

    def log_prob(self, parameters):
        inside = (parameters >= 0).all(axis=-1) & (parameters.sum(axis=-1) <= 1)
        return np.where(inside, np.log(2.0), -np.inf)


def conjugate(matrix, noise, prior, summaries):
    """Exact mean and covariance of a `GaussianPrior`'s posterior, given summaries.

    The summaries are `matrix @ parameters` with Gaussian noise of standard deviation `noise`.
    """
    precision = np.diag(1 / prior.scale**2) + matrix.T @ matrix / noise**2
    covariance = np.linalg.inv(precision)
    return covariance @ (prior.mean / prior.scale**2 + matrix.T @ summaries / noise**2), covariance
