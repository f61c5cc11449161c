"""The parameters that a RIM infers: a single field or several named ones, and their links.

The network works on one tensor `u`, `[batch, *sizes, channels]`, of unbounded numbers. The user
sees the parameters `x = link(u)`: a tensor of the same shape, or a dictionary with one tensor for
each field. `u` is called unlinked throughout.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from imnn_tf.utils import checks
from rim_tf.problem.links import InverseChoice, Link, LinkChoice, get_link
from rim_tf.problem.observation import require_real

COMPLEX_PARAMETERS = ": give the real and the imaginary part as two channels"
"""What to do with complex parameters, for error messages."""

# A tensor `[batch, *sizes, channels]`, or a dictionary of such tensors by field. To the type
# checker it is `Any`, because a user's functions take one or the other without asking.
Values: TypeAlias = Any


class Parameters:
    """Translates between the network's tensor and the user's parameters.

    Args:
        channels: The number of channels of the network's tensor.
        fields: The number of channels of each field by name, in the order in which they are
            stacked in the tensor. `None` (the default) if the parameters are a single field.
        link_function: A link as `get_link` takes it. With `fields`, a dictionary of links by
            field, in which a field that is missing has the identity.
        inverse_link_function: The inverse of `link_function` if that is a function. With
            `fields`, a dictionary of the inverses by field.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the channels do not add up, a field is unknown, or an inverse is missing.
    """

    def __init__(
        self,
        channels: int,
        fields: Mapping[str, int] | None = None,
        link_function: LinkChoice = None,
        inverse_link_function: InverseChoice = None,
    ):
        self.fields: dict[str, int] | None = None
        if fields is None:
            self._link = get_link(link_function, inverse_link_function)
            return
        self.fields = _check_fields(fields, channels)
        forward = _by_field("link_function", link_function, self.fields)
        inverse = _by_field("inverse_link_function", inverse_link_function, self.fields)
        self._links = {name: get_link(forward.get(name), inverse.get(name)) for name in self.fields}

    def link(self, u: tf.Tensor) -> Values:
        """The parameters for an unlinked tensor.

        Args:
            u: `[batch, *sizes, channels]`, or with any other leading axes.

        Returns:
            A tensor of the shape of `u`; or a dictionary with a tensor for each field, of the
            shape of `u` but for the number of channels, which is that of the field.
        """
        if self.fields is None:
            return self._link.forward(u)
        pieces = tf.split(u, list(self.fields.values()), axis=-1)
        return {
            name: self._links[name].forward(piece)
            for name, piece in zip(self.fields, pieces, strict=True)
        }

    def joined(self, u: tf.Tensor) -> tf.Tensor:
        """What `link` gives, with all fields along the channels, of the shape of `u`.

        Args:
            u: `[batch, *sizes, channels]`, or with any other leading axes.
        """
        linked = self.link(u)
        return linked if self.fields is None else tf.concat([linked[n] for n in self.fields], -1)

    def unlink(self, values: Values) -> tf.Tensor:
        """The unlinked tensor for parameters.

        Args:
            values: A tensor `[batch, *sizes, channels]`, or a dictionary of such tensors by field.

        Returns:
            `[batch, *sizes, channels]`.

        Raises:
            TypeError: If the parameters have fields and `values` is not a dictionary.
            ValueError: If its keys are not the names of the fields, or a field has another number
                of channels.
        """
        if self.fields is None:
            return self._link.inverse(values)
        self._check_fields(values)
        return tf.concat([self._links[name].inverse(values[name]) for name in self.fields], -1)

    def _check_fields(self, values: Values) -> None:
        assert self.fields is not None
        if not isinstance(values, Mapping):
            raise TypeError(
                f"Parameters must be a dictionary of {list(self.fields)}, "
                f"got {type(values).__name__}."
            )
        if set(values) != set(self.fields):
            raise ValueError(
                f"Parameters must have the fields {list(self.fields)}, got {list(values)}."
            )
        for name, channels in self.fields.items():
            if values[name].shape[-1] not in (None, channels):
                raise ValueError(
                    f"The field {name!r} must have as many channels as in `fields`, {channels}, "
                    f"got shape {tuple(values[name].shape)}."
                )

    def _map_links(self, function: Callable[[Link, Any], Any], values: Values) -> Any:
        """A function of the link and the value, or of those of each field."""
        if self.fields is None:
            return function(self._link, values)
        return {name: function(self._links[name], values[name]) for name in self.fields}

    def check_range(self, values: Values, counts: np.ndarray | None = None) -> None:
        """Checks that parameters are within the ranges of their links.

        Args:
            values: An array `[batch, *sizes, channels]` or a dictionary of arrays by field.
            counts: Which pixels count, as an array of weights with leading axes of the
                parameters; zero for those that do not. Defaults to `None`, all.

        Raises:
            TypeError: If the parameters have fields and `values` is not a dictionary.
            ValueError: If a number is outside, or the fields are wrong. NaN is not outside.
        """

        def check(link: Link, array: np.ndarray) -> None:
            outside = (array < link.low) | (array > link.high)
            # Weights of a wrong shape are refused later, by the loss.
            if counts is not None and counts.ndim <= array.ndim:
                sizes = zip(counts.shape, array.shape, strict=False)
                if all(own in (1, full) for own, full in sizes):
                    ones = (1,) * (array.ndim - counts.ndim)
                    outside &= counts.reshape(counts.shape + ones) != 0
            if outside.any():
                raise ValueError(
                    f"The parameters `x` must lie within [{link.low}, {link.high}], the range of "
                    f"`link_function`, got {outside.sum()} outside, such as {array[outside][0]}."
                )

        if self.fields is not None:
            self._check_fields(values)
        if all(np.isrealobj(each) for each in tf.nest.flatten(values)):  # others are refused later
            self._map_links(check, values)

    def target(self, values: Values, trajectory: tf.Tensor) -> tf.Tensor:
        """The unlinked tensor that a trajectory is trained towards.

        Args:
            values: The true parameters, `[batch, *sizes, channels]` or a dictionary by field.
            trajectory: The iterates, unlinked, `[batch, T, *sizes, channels]`.

        Returns:
            `[batch, *sizes, channels]`, of the type of `trajectory`; NaN where a parameter is
            outside the range of its link, for which there is no target.

        Raises:
            TypeError: If the parameters have fields and `values` is not a dictionary, or if they
                are complex.
            ValueError: If the fields or the shape differ from those of the trajectory.
        """
        cast = []
        for value in map(tf.convert_to_tensor, tf.nest.flatten(values)):
            require_real("The parameters `x`", value, COMPLEX_PARAMETERS)
            cast.append(tf.cast(value, trajectory.dtype))
        values = tf.nest.pack_sequence_as(values, cast)
        target = self.unlink(values)
        outside = self._map_links(lambda link, x: (x < link.low) | (x > link.high), values)
        if self.fields is not None:
            outside = tf.concat([outside[name] for name in self.fields], -1)
        target = tf.where(outside, tf.constant(np.nan, target.dtype), target)
        # A target of another shape could broadcast, and something else would be trained.
        check_shape("The parameters `x`", target, trajectory.shape[2:])
        if trajectory.shape[2:].is_fully_defined() and target.shape[1:].is_fully_defined():
            return target
        shape = tf.shape(trajectory)
        message = "The parameters `x` must have the shape of the trajectory without its steps."
        same = tf.debugging.assert_equal(tf.shape(target)[1:], shape[2:], message=message)
        # In eager mode the assertion has no operation to wait for.
        with tf.control_dependencies([] if same is None else [same]):
            return tf.identity(target)


def check_shape(
    name: str, tensor: tf.Tensor, expected: Sequence[int | None] | tf.TensorShape
) -> None:
    """Checks the shape of a tensor behind its batch axis, as far as it is known.

    Args:
        name: What the tensor is, for the error message.
        tensor: `[batch, ...]`.
        expected: The sizes of the axes behind the batch axis. `None` stands for any size.

    Raises:
        ValueError: If the shape differs from `expected`.
    """
    sizes = list(expected)
    if not tf.TensorShape([None, *sizes]).is_compatible_with(tensor.shape):
        words = ", ".join(["batch", *("any" if n is None else str(n) for n in sizes)])
        raise ValueError(f"{name} must have shape ({words}), got {tuple(tensor.shape)}.")


def _check_fields(fields: Mapping[str, int], channels: int) -> dict[str, int]:
    if not isinstance(fields, Mapping) or not fields:
        raise TypeError(f"`fields` must be a dictionary of names to channels, got {fields!r}.")
    result = {
        str(name): checks.integer(f"fields[{name!r}]", count, minimum=1)
        for name, count in fields.items()
    }
    if sum(result.values()) != channels:
        raise ValueError(
            f"`fields` must have as many channels as the network, {channels}, "
            f"got {sum(result.values())} in {result}."
        )
    return result


def _by_field(name: str, value: object, fields: Mapping[str, int]) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"`{name}` must be a dictionary with `fields`, got {value!r}.")
    unknown = [key for key in value if key not in fields]
    if unknown:
        raise ValueError(f"`{name}` must name only the fields {list(fields)}, got {unknown}.")
    return value
