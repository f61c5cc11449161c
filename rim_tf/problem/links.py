"""Links: maps from the unbounded numbers that a network steps through to the parameters."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from imnn_tf.utils import checks

TensorFunction: TypeAlias = Callable[[tf.Tensor], tf.Tensor]


class Link(NamedTuple):
    """A differentiable, increasing function that acts on each entry alone, and its inverse.

    Attributes:
        forward: From unbounded numbers to parameters, of the same shape.
        inverse: From parameters to unbounded numbers, of the same shape.
        low: The lower edge of the range of the parameters. Defaults to minus infinity.
        high: The upper edge of the range of the parameters. Defaults to infinity.
    """

    forward: TensorFunction
    inverse: TensorFunction
    low: float = -np.inf
    high: float = np.inf


# What a user may pass as a link: a name, a `Link`, a function, or a dictionary of them by field.
LinkChoice: TypeAlias = str | Link | TensorFunction | Mapping[str, Any] | None

# What a user may pass as its inverse.
InverseChoice: TypeAlias = TensorFunction | Mapping[str, TensorFunction] | None

# The inverses are applied to training targets, which may lie exactly on the edge of a link's
# range: a pixel may be zero. They are moved inside to the nearest number of the working precision,
# at zero the smallest normal one, so that every parameter within the range keeps its value.


def _above_zero(x: tf.Tensor) -> tf.Tensor:
    return tf.maximum(x, np.finfo(x.dtype.name).tiny)


def _below_one(x: tf.Tensor) -> tf.Tensor:
    one = np.ones((), x.dtype.as_numpy_dtype)
    return tf.minimum(x, np.nextafter(one, np.zeros_like(one)))


def _softplus_inverse(x: tf.Tensor) -> tf.Tensor:
    x = _above_zero(x)
    # expm1 overflows for large x, where the inverse is x to every digit.
    return tf.where(x > 50.0, x, tf.math.log(tf.math.expm1(tf.minimum(x, 50.0))))


def _logit(x: tf.Tensor) -> tf.Tensor:
    x = _below_one(_above_zero(x))
    # log1p is exact for small x, where 1 - x would round to 1.
    return tf.math.log(x) - tf.math.log1p(-x)


def _artanh(x: tf.Tensor) -> tf.Tensor:
    # Odd, so that both edges are the same one.
    return tf.sign(x) * tf.math.atanh(_below_one(tf.abs(x)))


LINKS = {
    "identity": Link(tf.identity, tf.identity),
    "exp": Link(tf.exp, lambda x: tf.math.log(_above_zero(x)), low=0.0),
    "power10": Link(
        lambda x: tf.exp(np.log(10.0) * x),
        lambda x: tf.math.log(_above_zero(x)) / np.log(10.0),
        low=0.0,
    ),
    "sigmoid": Link(tf.sigmoid, _logit, low=0.0, high=1.0),
    "softplus": Link(tf.math.softplus, _softplus_inverse, low=0.0),
    "tanh": Link(tf.tanh, _artanh, low=-1.0, high=1.0),
}
"""The links that have a name."""


def get_link(
    forward: LinkChoice,
    inverse: InverseChoice = None,
    name: str = "link_function",
) -> Link:
    """Makes a link from its name, or from a function and its inverse.

    Args:
        forward: A name in `LINKS`, a `Link`, a function, or `None` for the identity. A dictionary
            is refused: `Parameters` takes it apart.
        inverse: The inverse of `forward` if that is a function, otherwise `None` (the default).
        name: The name of the argument `forward`, for error messages.

    Raises:
        TypeError: If `forward` or `inverse` cannot be called.
        ValueError: If the name is unknown, if a function comes without its inverse, or if an
            inverse comes without a function.
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
    function = checks.function(name, forward)
    if inverse is None:
        raise ValueError(f"`inverse_{name}` must be given with `{name}`, got None.")
    return Link(function, checks.function(f"inverse_{name}", inverse))
