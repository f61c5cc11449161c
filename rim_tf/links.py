"""Links: from the unbounded numbers a network steps through to the parameters themselves."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from imnn_tf.utils import checks


class Link(NamedTuple):
    """A differentiable, increasing map and its inverse, both acting on each entry alone."""

    forward: Callable[[tf.Tensor], tf.Tensor]
    inverse: Callable[[tf.Tensor], tf.Tensor]


def _above(x: tf.Tensor) -> tf.Tensor:
    """Keeps a logarithm finite: a pixel may well be exactly zero."""
    return tf.maximum(x, np.finfo(x.dtype.as_numpy_dtype).eps)


def _between(x: tf.Tensor, low: float, high: float) -> tf.Tensor:
    margin = np.finfo(x.dtype.as_numpy_dtype).eps
    return tf.clip_by_value(x, low + margin, high - margin)


def _logit(x: tf.Tensor) -> tf.Tensor:
    x = _between(x, 0.0, 1.0)
    return tf.math.log(x) - tf.math.log1p(-x)


LINKS = {
    "identity": Link(tf.identity, tf.identity),
    "exp": Link(tf.exp, lambda x: tf.math.log(_above(x))),
    "power10": Link(
        lambda x: tf.exp(np.log(10.0) * x), lambda x: tf.math.log(_above(x)) / np.log(10.0)
    ),
    "sigmoid": Link(tf.sigmoid, _logit),
    "softplus": Link(tf.math.softplus, lambda x: tf.math.log(tf.math.expm1(_above(x)))),
    "tanh": Link(tf.tanh, lambda x: tf.math.atanh(_between(x, -1.0, 1.0))),
}
"""Links known by name. Inverses stop just inside the range, so that all targets are finite."""


def get_link(forward: Any, inverse: Any = None, name: str = "link_function") -> Link:
    """A link from its name, or from a function and its inverse.

    Args:
        forward: A name in `LINKS`, a `Link`, a function, or `None` for the identity.
        inverse: The inverse of a function; must be left out otherwise.
        name: The argument's name, for messages.

    Raises:
        TypeError: If one of the two is not callable.
        ValueError: If the name is unknown, or one of function and inverse is missing.
    """
    if isinstance(forward, str | Link) or forward is None:
        if inverse is not None:
            raise ValueError(
                f"`inverse_{name}` must be left out unless `{name}` is a function, "
                f"got `{name}` = {forward!r}."
            )
        if isinstance(forward, Link):
            return forward
        return LINKS[checks.choice(name, forward or "identity", LINKS)]
    checks.function(name, forward)
    if inverse is None:
        raise ValueError(f"`inverse_{name}` must be given with `{name}`, got None.")
    return Link(forward, checks.function(f"inverse_{name}", inverse))
