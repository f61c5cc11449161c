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

__all__ = [
    "RIM",
    "ConvGRUCell",
    "GRUBlock",
    "GaussianLikelihood",
    "Hourglass",
    "PutzkyWelling",
    "TrajectoryLoss",
    "UNet",
    "__version__",
]

_HOMES = {
    "RIM": "rim_tf.rim",
    "ConvGRUCell": "rim_tf.networks.cells",
    "GRUBlock": "rim_tf.networks.cells",
    "GaussianLikelihood": "rim_tf.problem.likelihoods",
    "Hourglass": "rim_tf.networks",
    "PutzkyWelling": "rim_tf.networks",
    "TrajectoryLoss": "rim_tf.fitting.losses",
    "UNet": "rim_tf.networks",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        require_tensorflow()
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rim_tf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
