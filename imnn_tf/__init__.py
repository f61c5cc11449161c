"""Information maximising neural networks and likelihood-free inference.

The public names are loaded when they are first used, so that importing the package is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from imnn_tf.utils.backend import require_tensorflow
from imnn_tf.version import __version__

if TYPE_CHECKING:
    from imnn_tf import lfi, networks, utils
    from imnn_tf.estimator import Estimator
    from imnn_tf.imnn import IMNN
    from imnn_tf.refinement import Refinement, refine

__all__ = [
    "IMNN",
    "Estimator",
    "Refinement",
    "__version__",
    "lfi",
    "networks",
    "refine",
    "utils",
]

_HOMES = {
    "IMNN": "imnn_tf.imnn",
    "Estimator": "imnn_tf.estimator",
    "Refinement": "imnn_tf.refinement",
    "refine": "imnn_tf.refinement",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        require_tensorflow()
        return getattr(import_module(_HOMES[name]), name)
    if name in ("lfi", "networks", "utils"):
        return import_module(f"imnn_tf.{name}")
    raise AttributeError(f"module 'imnn_tf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
