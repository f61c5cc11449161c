"""Recurrent inference machines for Keras 3.

The public names are loaded when first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from imnn_tf.utils.backend import require_tensorflow
from imnn_tf.version import __version__

if TYPE_CHECKING:
    from rim_tf.fitting.losses import TrajectoryLoss
    from rim_tf.networks import Hourglass, PutzkyWelling, UNet
    from rim_tf.networks.cells import ConvGRUCell, GRUBlock
    from rim_tf.problem.likelihoods import GaussianLikelihood
    from rim_tf.rim import RIM
    from rim_tf.uncertainty.calibration import pixel_coverage
    from rim_tf.uncertainty.ensemble import Ensemble
    from rim_tf.uncertainty.pixel_errors import PixelErrors
    from rim_tf.uncertainty.reconstruction import Reconstruction

__all__ = [
    "RIM",
    "ConvGRUCell",
    "Ensemble",
    "GRUBlock",
    "GaussianLikelihood",
    "Hourglass",
    "PixelErrors",
    "PutzkyWelling",
    "Reconstruction",
    "TrajectoryLoss",
    "UNet",
    "__version__",
    "pixel_coverage",
]

_HOMES = {
    "RIM": "rim_tf.rim",
    "ConvGRUCell": "rim_tf.networks.cells",
    "Ensemble": "rim_tf.uncertainty.ensemble",
    "GRUBlock": "rim_tf.networks.cells",
    "GaussianLikelihood": "rim_tf.problem.likelihoods",
    "Hourglass": "rim_tf.networks",
    "PixelErrors": "rim_tf.uncertainty.pixel_errors",
    "PutzkyWelling": "rim_tf.networks",
    "Reconstruction": "rim_tf.uncertainty.reconstruction",
    "TrajectoryLoss": "rim_tf.fitting.losses",
    "UNet": "rim_tf.networks",
    "pixel_coverage": "rim_tf.uncertainty.calibration",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        require_tensorflow()
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rim_tf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
