"""Draws from a prior that is restricted to a region of a posterior."""

import numpy as np
import pytest
from linear_gaussian import GaussianPrior, LinearGaussian
from scipy import stats

from imnn_tf.lfi.methods.simulated import Simulated
from imnn_tf.lfi.neural import truncation
from imnn_tf.lfi.neural.trained import Trained
from imnn_tf.lfi.neural.truncation import Region, draw_truncated
from imnn_tf.lfi.prior import Prior
from imnn_tf.utils.seeds import seed_sequence


class Flat:
    """A uniform density on a box that the prior does not tell, so that parameters stay as they are.

    Posteriors of linear models are then normal, and the truncated prior uniform on an ellipse.
    """

    def __init__(self, half_width, size=2):
        self.half_width, self.event_shape = half_width, (size,)

    def sample(self, n, seed=None):
        rng = np.random.default_rng(seed)
        return rng.uniform(-self.half_width, self.half_width, (n, *self.event_shape))

    def log_prob(self, x):
        inside = (np.abs(x) <= self.half_width).all(axis=-1)
        return np.where(inside, -len(x[0]) * np.log(2 * self.half_width), -np.inf)


def region_of(prior, noise, seed=0):
    """The region of a posterior with the standard deviation `noise` about zero."""
    rng = np.random.default_rng(seed)
    parameters = prior.sample(4000, seed=1)
    summaries = parameters + rng.normal(0, noise, parameters.shape)
    fitting = {"folder": None, "callbacks": None, "progress": False}
    trained = Trained(
        LinearGaussian(), prior, Simulated(parameters, summaries), seed_sequence(2), **fitting
    )
    region = Region(trained, np.zeros((1, prior.n_params)), seed_sequence(3))
    return trained, region


def test_a_region_holds_all_but_its_share_of_the_posterior():
    prior = Prior(GaussianPrior([0.0, 0.0], [3.0, 3.0]))
    trained, region = region_of(prior, 0.5)
    samples = trained.sample(200_000, np.zeros((1, 2)), seed_sequence(4))[0]
    outside = 1 - region.holds(samples).mean()
    # Ten of the 100,000 samples that give the level lie outside, give or take their root.
    assert abs(outside - 1e-4) < 4 * np.sqrt(1e-4 * (1 / 100_000 + 1 / 200_000))
    # The region is the disc within which all but 1e-4 of a two-dimensional normal lies.
    radius = np.sqrt(stats.chi2(2).ppf(1 - 1e-4)) / np.sqrt(4 + 1 / 9)
    ring = np.stack([np.cos(angles := np.linspace(0, 6, 50)), np.sin(angles)], axis=1)
    assert region.holds(0.9 * radius * ring).all()
    assert not region.holds(1.1 * radius * ring).any()


@pytest.mark.parametrize("half_width", [4.0, 200.0], ids=["from the prior", "from a box"])
def test_draws_are_uniform_in_the_region_of_a_flat_prior(half_width, monkeypatch):
    asked = []
    real = Region.box
    monkeypatch.setattr(Region, "box", lambda *args: asked.append(1) or real(*args))
    prior = Prior(Flat(half_width))
    trained, region = region_of(prior, 0.5)
    draws = draw_truncated(prior, region, 3000, seed_sequence(5))
    assert bool(asked) == (half_width > 100)
    assert draws.shape == (3000, 2)
    assert region.holds(draws).all()
    # Squared distances in the metric of the posterior are uniform on a disc up to its edge.
    heights = region.log_prob(draws)
    peak = region.log_prob(trained.sample(50_000, np.zeros((1, 2)), seed_sequence(6))[0]).max()
    squares = (peak - heights) / (peak - region._level)
    assert stats.kstest(squares, "uniform").pvalue > 1e-3
    angles = np.arctan2(draws[:, 1] - draws[:, 1].mean(), draws[:, 0] - draws[:, 0].mean())
    assert stats.kstest(angles / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-3


def test_both_ways_follow_a_prior_that_is_not_flat(monkeypatch):
    prior = Prior(GaussianPrior([3.0], [1.5]))
    _, region = region_of(prior, 1.0)
    from_prior = draw_truncated(prior, region, 4000, seed_sequence(7))
    monkeypatch.setattr(truncation, "_LEAST_ACCEPTED", 1.1)
    monkeypatch.setattr(truncation, "_AT_A_TIME", 10_000)
    # At most the first 10,000 come from the prior, all others from the box.
    from_box = draw_truncated(prior, region, 14_000, seed_sequence(8))[10_000:]
    assert stats.ks_2samp(from_prior[:, 0], from_box[:, 0]).pvalue > 1e-3
    low, high = from_prior.min(), from_prior.max()
    cut = stats.truncnorm((low - 3) / 1.5, (high - 3) / 1.5, 3, 1.5)
    assert stats.kstest(from_box[:, 0], cut.cdf).pvalue > 1e-3


def test_same_seed_same_draws():
    prior = Prior(Flat(4.0))
    _, region = region_of(prior, 0.5)
    first, again = (draw_truncated(prior, region, 100, seed_sequence(9)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first != draw_truncated(prior, region, 100, seed_sequence(10))).all()


def test_too_few_draws_are_an_error(monkeypatch):
    monkeypatch.setattr(truncation, "_MOST_LOOKED_AT", 100_000)
    prior = Prior(Flat(1000.0))
    _, region = region_of(prior, 0.5)
    with pytest.raises(ValueError, match="`rounds` must be fewer, or `draws` fewer: of 100000"):
        draw_truncated(prior, region, 10_000, seed_sequence(11))
