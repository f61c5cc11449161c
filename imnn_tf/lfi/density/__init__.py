"""Densities of parameters given summaries, learnt from pairs of both.

`Marginals` and `hpd_levels`, which version 0.3 had here, are those of `imnn_tf.lfi.posterior`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imnn_tf.lfi.density.architecture import Architecture
    from imnn_tf.lfi.density.bayesflow import BayesFlowEstimator, BayesFlowTraining
    from imnn_tf.lfi.density.estimator import DensityEstimator
    from imnn_tf.lfi.density.spline_flows import SplineFlows
    from imnn_tf.lfi.density.training import TrainingOptions
    from imnn_tf.lfi.posterior import Marginals, hpd_levels

__all__ = [
    "Architecture",
    "BayesFlowEstimator",
    "BayesFlowTraining",
    "DensityEstimator",
    "Marginals",
    "SplineFlows",
    "TrainingOptions",
    "hpd_levels",
]

_MODULES = {
    "Architecture": "density.architecture",
    "BayesFlowEstimator": "density.bayesflow",
    "BayesFlowTraining": "density.bayesflow",
    "DensityEstimator": "density.estimator",
    "Marginals": "posterior",
    "SplineFlows": "density.spline_flows",
    "TrainingOptions": "density.training",
    "hpd_levels": "posterior",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(import_module(f"imnn_tf.lfi.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'imnn_tf.lfi.density' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
