"""What several parts of both packages use."""

from importlib import import_module
from typing import TYPE_CHECKING

from imnn_tf.utils.backend import quiet_start

if TYPE_CHECKING:
    from imnn_tf.simulations.writer import TFRecords

__all__ = ["TFRecords", "quiet_start"]


# The writer stands above this room, because it uses workers. Its public name is here.
def __getattr__(name: str) -> object:
    if name == "TFRecords":
        return import_module("imnn_tf.simulations.writer").TFRecords
    raise AttributeError(f"module 'imnn_tf.utils' has no attribute {name!r}")
