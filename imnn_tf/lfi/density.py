"""The place of `Marginals` and `hpd_levels` in version 0.3: now `imnn_tf.lfi.posterior`."""

from imnn_tf.lfi.posterior import Marginals, hpd_levels

__all__ = ["Marginals", "hpd_levels"]
