"""Likelihood-free inference with any estimator, prior and simulator.

It takes arrays and functions, and needs no IMNN. A public name is imported when it is first used,
so that the workers that run simulations import only what they need.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import imnn_tf.lfi.calibration as calibration
    from imnn_tf.lfi.approximate_bayesian_computation import ApproximateBayesianComputation
    from imnn_tf.lfi.gaussian_approximation import GaussianApproximation
    from imnn_tf.lfi.neural_posterior import NeuralPosterior
    from imnn_tf.lfi.plots.triangle import triangle
    from imnn_tf.lfi.population_monte_carlo import PopulationMonteCarlo
    from imnn_tf.lfi.posterior.marginals import Marginals
    from imnn_tf.lfi.posterior.samples import Posterior
    from imnn_tf.running.execution import Execution
    from imnn_tf.running.run import SimulationError
    from imnn_tf.running.simulation import simulate

__all__ = [
    "ApproximateBayesianComputation",
    "Execution",
    "GaussianApproximation",
    "Marginals",
    "NeuralPosterior",
    "PopulationMonteCarlo",
    "Posterior",
    "SimulationError",
    "calibration",
    "simulate",
    "triangle",
]

# The modules that define the public names. No module or folder here may have a public name: its
# import would replace what the name stands for.
_MODULES = {
    "ApproximateBayesianComputation": "lfi.approximate_bayesian_computation",
    "Execution": "running.execution",
    "GaussianApproximation": "lfi.gaussian_approximation",
    "Marginals": "lfi.posterior.marginals",
    "NeuralPosterior": "lfi.neural_posterior",
    "PopulationMonteCarlo": "lfi.population_monte_carlo",
    "Posterior": "lfi.posterior.samples",
    "SimulationError": "running.run",
    "simulate": "running.simulation",
    "triangle": "lfi.plots.triangle",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(import_module(f"imnn_tf.{_MODULES[name]}"), name)
    if name == "calibration":
        return import_module("imnn_tf.lfi.calibration")
    raise AttributeError(f"module 'imnn_tf.lfi' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
