"""A shim for tools that still look for it; the project is described in pyproject.toml."""

from setuptools import setup

setup()
