"""Posteriors: as weighted samples, as marginal densities, and on grids."""

from imnn_tf.lfi.posterior.marginals import Marginals, hpd_levels
from imnn_tf.lfi.posterior.samples import Posterior

__all__ = ["Marginals", "Posterior", "hpd_levels"]
