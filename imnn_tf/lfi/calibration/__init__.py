"""Checks of whether the posteriors of any method are calibrated.

All of them draw true parameters from the prior, simulate data there, infer posteriors from the
data, and compare these with the truth. One object with many targets infers all posteriors:

    >>> import numpy as np
    >>> import tensorflow_probability as tfp
    >>> from imnn_tf.lfi import ApproximateBayesianComputation, calibration
    >>> prior = tfp.distributions.Uniform([0.0], [1.0])
    >>> prior = tfp.distributions.Independent(prior, 1)
    >>> simulator = lambda theta, rng: rng.normal(theta, 0.1)
    >>> truths, data = calibration.simulate_targets(prior, simulator, 300, seed=1)
    >>> abc = ApproximateBayesianComputation(
    ...     data, prior, np.diag([100.0]), np.asarray, simulator, seed=2, progress=False
    ... )
    >>> parameters, _, _, _ = abc(20_000)
    >>> abc.accept_reject(0.2)
    >>> ranks = calibration.sbc_ranks(truths, abc.results())
    >>> (calibration.uniformity(ranks) > 0.01).all()
    np.True_

The posterior given that an estimate is within a tolerance is wider than the posterior given the
estimate. It is calibrated exactly if the estimate of the target is itself moved at random within
the tolerance (Fearnhead & Prangle 2012, arXiv:1004.1112, theorem 1), and nearly if the tolerance
is small.
"""

from imnn_tf.lfi.calibration.coverage import Coverage, expected_coverage, tarp
from imnn_tf.lfi.calibration.local import Local, local
from imnn_tf.lfi.calibration.novelty import Novelty, novelty
from imnn_tf.lfi.calibration.plots import plot_coverage, plot_ranks
from imnn_tf.lfi.calibration.ranks import sbc_ranks, uniformity
from imnn_tf.lfi.calibration.targets import simulate_targets
from imnn_tf.lfi.calibration.two_samples import c2st

__all__ = [
    "Coverage",
    "Local",
    "Novelty",
    "c2st",
    "expected_coverage",
    "local",
    "novelty",
    "plot_coverage",
    "plot_ranks",
    "sbc_ranks",
    "simulate_targets",
    "tarp",
    "uniformity",
]
