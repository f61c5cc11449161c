"""Likelihood-free inference: works with any estimator, prior and simulator.

It takes arrays and callables, and needs no IMNN.
"""

from imnn_tf.lfi.gaussian_approximation import GaussianApproximation

__all__ = ["GaussianApproximation"]
