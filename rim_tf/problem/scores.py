"""Scores: gradients of the log probability, from functions and energies, through links.

The network steps through unlinked numbers `u`, with parameters `x = link(u)`. It needs the
gradient with respect to `u`, which by the chain rule is `J_link(u)^T score(x)`. The energy is minus
the log probability up to a constant, so that `score = -d energy / d x`.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import tensorflow as tf

from rim_tf.problem.observation import require_real
from rim_tf.problem.parameters import COMPLEX_PARAMETERS, Values

# score_fn(x, y, *args), with the structure and shape of x; energy_fn(x, y, *args), [batch].
ScoreFunction: TypeAlias = Callable[..., Values]
EnergyFunction: TypeAlias = Callable[..., tf.Tensor]


def vectorized(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turns a function of one example into a function of a batch.

    Args:
        function: Takes and returns tensors of any shape, without a batch axis.

    Returns:
        A function that takes and returns the same tensors for a batch, `[batch, ...]`.
    """

    def batched(*arguments: Any) -> Any:
        return tf.vectorized_map(lambda example: function(*example), arguments)

    return batched


def named(name: str, function: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """Makes what a user's function raises say which argument it was, and what it got.

    Args:
        name: The argument that the function was passed in.
        function: `function(x, y, *args)`, which returns anything; or `None`, which stays `None`.

    Returns:
        The same function. It raises a ValueError where the function raises anything but that
        memory is exhausted.
    """
    if function is None:
        return None

    def called(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except (MemoryError, tf.errors.ResourceExhaustedError):
            raise
        except Exception as error:  # whatever a user's function raises
            kind = type(error).__name__
            got = ", ".join(_described(each) for each in arguments)
            raise ValueError(
                f"`{name}` must take (x, y, *args), here {got}. It raised {kind}: {error}"
            ) from error

    return called


def _described(value: Any) -> str:
    """Shape and type of a tensor, or of each field."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_described(each)}" for key, each in value.items()) + "}"
    return f"{tuple(value.shape)} {value.dtype.name}"


def _as_tensor(name: str, value: Any, dtype: tf.DType) -> Any:
    """What a user's function returned, as a tensor; `None` and tensors are left as they are."""
    if value is None or tf.is_tensor(value):
        return value
    try:
        tensor = tf.convert_to_tensor(value)
    except (TypeError, ValueError):
        got = type(value).__name__
        raise TypeError(f"`{name}` must return tensors, got {got}.") from None
    # NumPy computes in float64 whatever it is given.
    return tf.cast(tensor, dtype) if tensor.dtype.is_floating and dtype.is_floating else tensor


def score_from_energy(energy_fn: EnergyFunction) -> ScoreFunction:
    """The score that belongs to an energy.

    Args:
        energy_fn: `energy_fn(x, y, *args)`, one energy for each example, `[batch]`. The energy of
            an example must not depend on another example.

    Returns:
        `score_fn(x, y, *args)`, with the structure and shape of `x`. It raises a ValueError if
        the energy does not depend on `x`.
    """

    def score_fn(x: Values, *args: Any) -> Values:
        # Only x is watched: the weights of a network inside the energy need no gradient here.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            # No example depends on another, so the gradient of the sum holds all gradients.
            energy = tf.reduce_sum(energy_fn(x, *args))
        slope = tape.gradient(energy, x)
        if all(each is None for each in tf.nest.flatten(slope)):
            raise ValueError(
                "`energy_fn` must be a differentiable function of `x`, got a constant."
            )
        # An energy may leave a field out, whose slope is then None. The gradient of a gather is
        # an IndexedSlices, which only becomes a tensor by conversion.
        return tf.nest.map_structure(
            lambda each, like: tf.zeros_like(like) if each is None else -tf.convert_to_tensor(each),
            slope,
            x,
        )

    return score_fn


def _check_energies(energies: Any, u: tf.Tensor) -> tf.Tensor:
    batch = u.shape[:1]
    energies = _as_tensor("energy_fn", energies, u.dtype)
    if energies is None:
        raise ValueError(f"`energy_fn` must return the shape {tuple(batch)}, got None.")
    if not energies.shape.is_compatible_with(batch):
        raise ValueError(
            f"`energy_fn` must return the shape {tuple(batch)}, got {tuple(energies.shape)}."
        )
    if not energies.dtype.is_floating:
        raise TypeError(f"`energy_fn` must return real numbers, got {energies.dtype.name}.")
    return energies


def through_link(score_fn: ScoreFunction, link: Callable[[tf.Tensor], Values]) -> ScoreFunction:
    """The score with respect to the unlinked parameters, by the chain rule.

    Args:
        score_fn: `score_fn(x, y, *args)` of the parameters, with the structure and shape of `x`.
        link: Maps an unlinked tensor `[batch, *sizes, channels]` to the parameters.

    Returns:
        `score_fn(u, y, *args)`, `[batch, *sizes, channels]`. It raises a ValueError if the score
        does not have the fields and shapes of the parameters.
    """

    def unlinked_score_fn(u: tf.Tensor, *args: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(u)
            x = link(u)
        score = _checked_score(score_fn(x, *args), x)
        # A vector-Jacobian product, J_link(u)^T score: the Jacobian itself is never formed.
        return tape.gradient(
            x, u, output_gradients=score, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    return unlinked_score_fn


def _checked_score(score: Any, x: Values) -> Values:
    names = list(x) if isinstance(x, Mapping) else None
    if names is not None and (not isinstance(score, Mapping) or set(score) != set(names)):
        got = list(score) if isinstance(score, Mapping) else type(score).__name__
        raise ValueError(f"`score_fn` must return the fields {names}, got {got}.")

    def checked(ours: Any, like: tf.Tensor) -> tf.Tensor:
        ours = _as_tensor("score_fn", ours, like.dtype)
        shape = None if ours is None else tf.TensorShape(ours.shape)
        if shape is None or not shape.is_compatible_with(like.shape):
            raise ValueError(f"`score_fn` must return the shape of `x`, {like.shape}, got {shape}.")
        require_real("`score_fn`'s result", ours, COMPLEX_PARAMETERS)
        return ours

    if names is None or not isinstance(x, Mapping):
        return checked(score, x)
    return {name: checked(score[name], x[name]) for name in names}


def unlinked_score(
    link: Callable[[tf.Tensor], Values],
    *,
    score_fn: ScoreFunction | None = None,
    energy_fn: EnergyFunction | None = None,
    vectorize: bool = False,
    gradient: bool = False,
) -> ScoreFunction:
    """The score that a RIM follows.

    Args:
        link: Maps an unlinked tensor `[batch, *sizes, channels]` to the parameters.
        score_fn: `score_fn(x, y, *args)`, with the structure and shape of `x`. If it is `None`
            (the default), `energy_fn` is used.
        energy_fn: `energy_fn(x, y, *args)`, `[batch]`. Defaults to `None`.
        vectorize: Whether the function is for one example, without the batch axis. Defaults to
            False.
        gradient: Whether training differentiates through the score, which takes second
            derivatives of the energy. By default (False) the score is an input of the network
            like any other.

    Returns:
        `score_fn(u, y, *args)`, `[batch, *sizes, channels]`.

        It raises a ValueError or TypeError if the function returns another shape or type.

    Raises:
        ValueError: If neither function is given.
    """
    batched = vectorized if vectorize else lambda function: function
    if score_fn is not None:
        score = through_link(batched(score_fn), link)
    elif energy_fn is not None:
        energy = batched(energy_fn)
        # Differentiated as a whole: one backward pass goes through the energy and the link.
        score = score_from_energy(lambda u, *args: _check_energies(energy(link(u), *args), u))
    else:
        raise ValueError("One of `score_fn` and `energy_fn` must be given, got neither.")
    if gradient:
        return score
    # The inner stop keeps the training tape from recording the score of u at all. The outer one
    # covers what does not come through u: a variable that the user's function reads.
    return lambda u, *args: tf.stop_gradient(score(tf.stop_gradient(u), *args))
