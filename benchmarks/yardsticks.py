"""Measures how fast this machine runs a single operation, such as a matrix product."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf


class Yardstick:
    """A chain of one operation in a compiled loop, in which each step waits for the last.

    Args:
        link: The operation, from a tensor to the next one of the same shape.
        start: The first tensor.
        work: The work of one operation, in arithmetic operations or in bytes.
    """

    def __init__(self, link: Callable[[Any], Any], start: Any, work: float) -> None:
        self.work, self._start = work, start

        @tf.function(autograph=False)
        def run(links: Any, tensor: Any) -> Any:
            return tf.while_loop(
                lambda k, _: k < links,
                lambda k, tensor: (k + 1, link(tensor)),
                (tf.constant(0), tensor),
                parallel_iterations=1,
            )[1]

        self._run = run
        self.seconds(1)  # compiles

    def seconds(self, links: int) -> float:
        """Seconds that a chain of `links` operations takes."""
        started = time.perf_counter()
        self._run(tf.constant(links), self._start)
        return time.perf_counter() - started

    def rate(self, at_least: float = 0.3) -> float:
        """Work per second, measured on a chain that takes at least so many seconds."""
        links = 1
        while (taken := self.seconds(links)) < at_least:
            links = math.ceil(links * min(1.3 * at_least / taken, 20) + 1)
        return self.work * links / taken


def matmul(rows: int, width: int) -> Yardstick:
    """`[rows, width] @ [width, width]` with a rotation, so that the numbers keep their size."""
    random = np.random.default_rng(0)
    rotation = tf.constant(np.linalg.qr(random.normal(size=(width, width)))[0], tf.float32)
    start = tf.constant(random.normal(size=(rows, width)), tf.float32)
    return Yardstick(lambda x: tf.matmul(x, rotation), start, 2 * rows * width**2)


def convolution(images: list[int], kernel: list[int], strides: list[int], pad: str) -> Yardstick:
    """`tf.nn.conv2d` of images `[n, rows, columns, channels]`, padded by `pad`."""
    random = np.random.default_rng(0)
    data = tf.constant(random.normal(size=images), tf.float32)
    filters = tf.constant(random.normal(size=kernel), tf.float32)

    def convolve(filters: Any) -> Any:
        return tf.nn.conv2d(data, filters, strides, pad)

    positions = math.prod(convolve(filters).shape[:-1])
    # Adding almost nothing to the filters links the convolutions in a chain. The filters are
    # small, so it costs little.
    return Yardstick(
        lambda filters: filters + 1e-30 * convolve(filters)[0, 0, 0, 0],
        filters,
        2 * positions * math.prod(kernel),
    )


def copy(size: float) -> Yardstick:
    """Reads `size` bytes and writes as many."""
    return Yardstick(lambda x: x * 0.9999999, tf.ones([int(size / 4)]), 2 * size)
