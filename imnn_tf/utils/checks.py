"""Argument checks: each returns the value in its plain form or says what is wrong with it.

A message names the argument, what was expected and what came.
"""

import inspect
import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike


def integer(name: str, value: Any, *, minimum: int | None = None) -> int:
    """Any integral type, as an `int` of at least `minimum`.

    Raises:
        TypeError: If `value` is not an integer (a bool is not one).
        ValueError: If `value` is below `minimum`.
    """
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an integer, got {value!r}.") from None
    if minimum is not None and number < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}, got {number}.")
    return number


def real(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    minimum: float | None = None,
    below: float | None = None,
    maximum: float | None = None,
) -> float:
    """Any real scalar, as a finite `float` within the bounds given.

    Raises:
        TypeError: If `value` is not a real number.
        ValueError: If it is not finite, or outside the bounds.
    """
    scalar = np.asarray(value)
    if scalar.ndim != 0 or scalar.dtype.kind not in "iuf":
        raise TypeError(f"`{name}` must be a real number, got {value!r}.")
    number = float(scalar)
    if not np.isfinite(number):
        raise ValueError(f"`{name}` must be finite, got {number}.")
    for bound, words, holds in (
        (above, "greater than", operator.gt),
        (minimum, "at least", operator.ge),
        (below, "less than", operator.lt),
        (maximum, "at most", operator.le),
    ):
        if bound is not None and not holds(number, bound):
            raise ValueError(f"`{name}` must be {words} {bound}, got {number}.")
    return number


def flag(name: str, value: Any) -> bool:
    """A truth value, as a `bool`.

    Raises:
        TypeError: If `value` is neither a bool nor a NumPy bool.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be True or False, got {value!r}.")
    return bool(value)


def choice(name: str, value: Any, options: Collection[str]) -> str:
    """One of a few names.

    Raises:
        ValueError: If `value` is none of them.
    """
    if not isinstance(value, str) or value not in options:
        listed = ", ".join(repr(option) for option in options)
        raise ValueError(f"`{name}` must be one of {listed}, got {value!r}.")
    return value


def function(name: str, value: Any) -> Callable[..., Any]:
    """Something that can be called.

    Raises:
        TypeError: If it cannot.
    """
    if not callable(value):
        raise TypeError(f"`{name}` must be callable, got {type(value).__name__}.")
    return value


def second_argument(function: Callable[..., Any]) -> str | None:
    """Name of a function's second positional argument, if it has one and that has no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in functions tell nothing
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [parameter for parameter in parameters if parameter.kind in kinds]
    if len(positional) < 2 or positional[1].default is not inspect.Parameter.empty:
        return None
    return positional[1].name


def strings(name: str, value: Any, length: int) -> list[str] | None:
    """One string for each of `length` things, as a list; `None` stays `None`.

    Raises:
        TypeError: If `value` is not a sequence of strings.
        ValueError: If there are more or fewer than `length`.
    """
    if value is None:
        return None
    iterable = isinstance(value, Iterable) and not isinstance(value, str)
    if not iterable or not all(isinstance(item, str) for item in value):
        raise TypeError(f"`{name}` must be a list of strings, got {value!r}.")
    listed = list(value)
    if len(listed) != length:
        raise ValueError(f"`{name}` must have {length} entries, got {len(listed)}: {listed}.")
    return listed


def array(
    name: str,
    value: ArrayLike,
    *,
    shape: Sequence[int | None] | None = None,
    dtype: DTypeLike | None = None,
    finite: bool = True,
) -> np.ndarray:
    """Anything `np.asarray` takes, as a real array.

    Args:
        name: The argument's name, for messages.
        value: What the user passed: an array, a tensor, nested lists.
        shape: The shape it must have; `None` stands for any length of an axis.
        dtype: The type to convert to; `None` keeps the type it has.
        finite: Whether infinities and NaN are refused.

    Raises:
        TypeError: If `value` does not hold real numbers.
        ValueError: If its shape differs, or a number is not finite.
    """
    try:
        result = np.asarray(value)
    except ValueError:
        raise ValueError(f"`{name}` must be an array, got rows of unequal lengths.") from None
    if result.dtype.name == "bfloat16":  # a real number, though NumPy has no kind for it
        result = result.astype(np.float32)
    if result.dtype.kind not in "biuf":
        got = f"{type(value).__name__} of {result.dtype}"
        raise TypeError(f"`{name}` must hold real numbers, got {got}.")
    if shape is not None:
        expected = tuple(shape)
        fits = len(expected) == result.ndim and all(
            want in (None, got) for want, got in zip(expected, result.shape, strict=True)
        )
        if not fits:
            words = "(" + ", ".join("any" if n is None else str(n) for n in expected)
            words += ",)" if len(expected) == 1 else ")"
            raise ValueError(f"`{name}` must have shape {words}, got {result.shape}.")
    if dtype is not None:
        result = result.astype(dtype, copy=False)
    if finite and not np.isfinite(result).all():
        count = int(np.size(result) - np.isfinite(result).sum())
        raise ValueError(
            f"`{name}` must be finite, got {count} infinite or NaN values of {result.size}."
        )
    return result


@overload
def sizes(
    name: str,
    value: Any,
    *,
    minimum: int = ...,
    length: int | None = ...,
    unknown: Literal[False] = ...,
) -> tuple[int, ...]: ...
@overload
def sizes(
    name: str,
    value: Any,
    *,
    minimum: int = ...,
    length: int | None = ...,
    unknown: Literal[True],
) -> tuple[int | None, ...]: ...
def sizes(
    name: str,
    value: Any,
    *,
    minimum: int = 1,
    length: int | None = None,
    unknown: bool = False,
) -> tuple[int | None, ...]:
    """A tuple of integers of at least `minimum`, such as the sizes of an array's axes.

    Args:
        name: The argument's name, for messages.
        value: A list, tuple or 1-D array of integers.
        minimum: The smallest value allowed.
        length: How many there must be; any number when `None`.
        unknown: Whether `None` may stand for a size that is not known yet.

    Raises:
        TypeError: If `value` is no sequence, or an entry is not an integer.
        ValueError: If an entry is below `minimum`, or there are not `length` of them.
    """
    if not isinstance(value, list | tuple | np.ndarray):
        raise TypeError(f"`{name}` must be a tuple of integers, got {value!r}.")
    result = tuple(
        None if unknown and size is None else integer(name, size, minimum=minimum) for size in value
    )
    if length is not None and len(result) != length:
        raise ValueError(f"`{name}` must have {length} entries, got {len(result)}.")
    return result
