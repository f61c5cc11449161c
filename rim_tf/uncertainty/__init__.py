"""Errors on every pixel: a network that measures them, their intervals, and whether these hold."""
