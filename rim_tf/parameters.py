"""The parameters a RIM infers: one field, or several by name, and their links.

Inside, parameters are one tensor `(batch, *sizes, channels)` of unlinked numbers. Outside,
they are that tensor after its link, or a dictionary of fields, each after its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import tensorflow as tf

from imnn_tf.utils import checks
from rim_tf.links import Link, get_link

Values: TypeAlias = Any
"""A tensor, or a dictionary of tensors by field."""


class Parameters:
    """Translates between the network's tensor and what the user means by it.

    Args:
        channels: Channels of the network's tensor.
        fields: Channels of each field by name, in the order they are stacked; `None` when the
            parameters are a single field.
        link_function: A link as `get_link` takes it; with `fields`, a dictionary of those, in
            which a missing field has the identity.
        inverse_link_function: The inverses of links that are functions, likewise.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the channels do not add up, a name is unknown, or an inverse is missing.
    """

    def __init__(
        self,
        channels: int,
        fields: Mapping[str, int] | None = None,
        link_function: Any = None,
        inverse_link_function: Any = None,
    ):
        self.fields: dict[str, int] | None = None
        if fields is None:
            self._link = get_link(link_function, inverse_link_function)
            return
        self.fields = _check_fields(fields, channels)
        forward = _by_field("link_function", link_function, self.fields)
        inverse = _by_field("inverse_link_function", inverse_link_function, self.fields)
        self._links: dict[str, Link] = {
            name: get_link(forward.get(name), inverse.get(name)) for name in self.fields
        }

    def link(self, x: tf.Tensor) -> Values:
        """The parameters that the unlinked tensor `x` stands for."""
        if self.fields is None:
            return self._link.forward(x)
        pieces = tf.split(x, list(self.fields.values()), axis=-1)
        return {
            name: self._links[name].forward(piece)
            for name, piece in zip(self.fields, pieces, strict=True)
        }

    def unlink(self, values: Values) -> tf.Tensor:
        """The unlinked tensor that stands for the parameters `values`.

        Raises:
            TypeError: If the parameters have fields and `values` is not a dictionary.
            ValueError: If its keys are not the names of the fields.
        """
        if self.fields is None:
            return self._link.inverse(values)
        if not isinstance(values, Mapping):
            raise TypeError(
                f"Parameters must be a dictionary of {list(self.fields)}, "
                f"got {type(values).__name__}."
            )
        if set(values) != set(self.fields):
            raise ValueError(
                f"Parameters must have the fields {list(self.fields)}, got {list(values)}."
            )
        return tf.concat([self._links[name].inverse(values[name]) for name in self.fields], -1)


def check_shape(name: str, tensor: tf.Tensor, expected: Sequence[int | None]) -> None:
    """Checks what is known of a tensor's shape behind its batch axis.

    Raises:
        ValueError: If it differs from `expected`, in which `None` stands for any size.
    """
    if not tf.TensorShape([None, *expected]).is_compatible_with(tensor.shape):
        words = ", ".join(["batch", *("any" if n is None else str(n) for n in expected)])
        raise ValueError(f"{name} must have shape ({words}), got {tuple(tensor.shape)}.")


def _check_fields(fields: Any, channels: int) -> dict[str, int]:
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


def _by_field(name: str, value: Any, fields: Mapping[str, int]) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"`{name}` must be a dictionary with `fields`, got {value!r}.")
    unknown = [key for key in value if key not in fields]
    if unknown:
        raise ValueError(f"`{name}` must name only the fields {list(fields)}, got {unknown}.")
    return value
