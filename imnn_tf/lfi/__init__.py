"""Likelihood-free inference: works with any estimator, prior and simulator.

It takes arrays and callables, and needs no IMNN. The public names are loaded when first used,
so that the workers that run simulations load only what they need.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import imnn_tf.lfi.calibration as calibration
    from imnn_tf.lfi.approximate_bayesian_computation import ApproximateBayesianComputation
    from imnn_tf.lfi.density import Marginals
    from imnn_tf.lfi.gaussian_approximation import GaussianApproximation
    from imnn_tf.lfi.plotting import triangle
    from imnn_tf.lfi.population_monte_carlo import PopulationMonteCarlo
    from imnn_tf.lfi.posterior import Posterior
    from imnn_tf.lfi.simulation import SimulationError, simulate

__all__ = [
    "ApproximateBayesianComputation",
    "GaussianApproximation",
    "Marginals",
    "PopulationMonteCarlo",
    "Posterior",
    "SimulationError",
    "calibration",
    "simulate",
    "triangle",
]

_HOMES = {
    "ApproximateBayesianComputation": "approximate_bayesian_computation",
    "GaussianApproximation": "gaussian_approximation",
    "Marginals": "density",
    "PopulationMonteCarlo": "population_monte_carlo",
    "Posterior": "posterior",
    "SimulationError": "simulation",
    "simulate": "simulation",
    "triangle": "plotting",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"imnn_tf.lfi.{_HOMES[name]}"), name)
    if name == "calibration":
        return import_module("imnn_tf.lfi.calibration")
    raise AttributeError(f"module 'imnn_tf.lfi' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
