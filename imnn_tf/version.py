"""The version of both packages, readable without importing TensorFlow."""

__version__ = "0.3.0"
