"""Recurrent inference machines for Keras 3."""

from imnn_tf.version import __version__

__all__ = ["__version__"]
