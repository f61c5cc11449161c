"""Checks of arguments, and the ASCII names of Greek keywords.

Each check takes the name of an argument and its value. It returns the value as a plain Python
or NumPy object, or raises an error that names the argument, what it must be and what it was.
"""

import functools
import inspect
import operator
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Literal, TypeVar, cast, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike


def integer(name: str, value: Any, *, minimum: int | None = None) -> int:
    """Converts a value of any integral type to an `int`.

    Args:
        name: Name of the argument.
        value: What the user passed.
        minimum: The smallest value allowed; any by default.

    Raises:
        TypeError: If `value` is not an integer. A bool is not an integer.
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
    """Converts a real scalar of any type to a finite `float`.

    Args:
        name: Name of the argument.
        value: What the user passed.
        above: The value must be greater than this; no bound by default.
        minimum: The value must be at least this; no bound by default.
        below: The value must be less than this; no bound by default.
        maximum: The value must be at most this; no bound by default.

    Raises:
        TypeError: If `value` is not a real number.
        ValueError: If `value` is not finite, or out of bounds.
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


def flag(name: str, value: object) -> bool:
    """Converts a Python or NumPy bool to a `bool`.

    Raises:
        TypeError: If `value` is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be True or False, got {value!r}.")
    return bool(value)


def choice(name: str, value: object, options: Collection[str]) -> str:
    """Checks that a value is one of the strings in `options`, and returns it.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(value, str) or value not in options:
        listed = ", ".join(repr(option) for option in options)
        raise ValueError(f"`{name}` must be one of {listed}, got {value!r}.")
    return value


def function(name: str, value: object) -> Callable[..., Any]:
    """Checks that a value can be called, and returns it.

    Raises:
        TypeError: If it cannot.
    """
    if not callable(value):
        raise TypeError(f"`{name}` must be callable, got {type(value).__name__}.")
    return value


def callbacks(value: Iterable[Any] | None) -> list[Any]:
    """Converts the Keras callbacks of an argument `callbacks` to a list; none for `None`.

    Raises:
        TypeError: If one of them is not a Keras callback.
    """
    import keras  # workers that simulate import this module, and do without Keras

    listed = [] if value is None else list(value)
    for each in listed:
        if not isinstance(each, keras.callbacks.Callback):
            raise TypeError(
                "`callbacks` must be a sequence of keras.callbacks.Callback, got a "
                f"{type(each).__name__}."
            )
    return listed


def second_argument(function: Callable[..., Any]) -> str | None:
    """Name of a function's second positional argument that has no default; `None` without one."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in functions have no signature
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [parameter for parameter in parameters if parameter.kind in kinds]
    if len(positional) < 2 or positional[1].default is not inspect.Parameter.empty:
        return None
    return positional[1].name


def strings(name: str, value: Any, length: int) -> list[str] | None:
    """Converts an iterable of `length` strings to a list. `None` is returned as it is.

    Raises:
        TypeError: If `value` is not an iterable of strings.
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


def names(name: str, value: Any, length: int) -> list[str] | None:
    """Converts a sequence of strings that tell things apart to a list.

    Args:
        name: Name of the argument.
        value: A list or a tuple of strings, or `None`.
        length: The number of strings that there must be.

    Returns:
        The list, or `None` if `value` is.

    Raises:
        TypeError: If `value` is not a list or tuple of strings.
        ValueError: If there are not `length` of them, or two are the same.
    """
    result = strings(name, value, length)
    if result is not None and len(set(result)) < len(result):
        raise ValueError(f"`{name}` must differ from each other, got {result}.")
    return result


def array(
    name: str,
    value: ArrayLike,
    *,
    shape: Sequence[int | None] | None = None,
    dtype: DTypeLike | None = None,
    finite: bool = True,
) -> np.ndarray:
    """Converts anything that `np.asarray` takes to a real array.

    Args:
        name: Name of the argument.
        value: What the user passed: an array, a tensor or nested lists, in the shape `shape`.
        shape: The shape that the array must have, in which `None` is an axis of any length; any
            shape by default.
        dtype: The type of the result; by default that of `value`.
        finite: Whether infinities and NaN are errors.

    Returns:
        The array, of shape `shape`.

    Raises:
        TypeError: If `value` does not hold real numbers.
        ValueError: If its shape differs, a number is not finite, or anything is masked.
    """
    if isinstance(value, np.ma.MaskedArray):
        value = unmasked(name, value)
    try:
        result = np.asarray(value)
    except ValueError:
        raise ValueError(f"`{name}` must be an array, got rows of unequal lengths.") from None
    if result.dtype.name == "bfloat16":  # a real type, though NumPy has no kind for it
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


def unmasked(name: str, value: Any) -> np.ndarray:
    """Converts a value to an array of any type, unless a part of it is masked.

    NumPy would hand out what is below the mask, as if it had been measured.

    Args:
        name: Name of the argument.
        value: Anything that `np.asarray` takes.

    Returns:
        The array, in the shape and type of `value`.

    Raises:
        ValueError: If `value` is a masked array in which anything is masked.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        count = np.count_nonzero(np.ma.getmaskarray(value))
        raise ValueError(
            f"`{name}` must not have masked values, got {count} of {value.size}; fill them first."
        )
    return np.asarray(value)


def simulation(name: str, value: ArrayLike, label: tuple[int, ...]) -> np.ndarray:
    """Converts one simulation to a real and finite array.

    Args:
        name: The argument that it comes from.
        value: The simulation, of any shape.
        label: The label of the simulation.

    Returns:
        The simulation, in the same shape and type.

    Raises:
        TypeError: If it does not hold real numbers.
        ValueError: If a number is not finite.
    """
    try:
        return array(name, value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{str(error).removesuffix('.')} at {label}.") from None


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
    """Converts a sequence of integers, such as the sizes of an array's axes, to a tuple.

    Args:
        name: Name of the argument.
        value: A list, a tuple or a one-dimensional array of integers.
        minimum: The smallest integer allowed.
        length: The number of integers that there must be; any number by default.
        unknown: Whether an entry may be `None`, for a size that is not known.

    Raises:
        TypeError: If `value` is not a sequence, or an entry is not an integer.
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


# What Greek keywords may also be called.
_ASCII = {
    "θ_fid": "theta_fid",
    "δθ": "delta_theta",
    "second_δθ": "second_delta_theta",
    "λ": "lambda_",
    "ε": "epsilon",
}
Called = TypeVar("Called", bound=Callable[..., Any])


def ascii_keywords(called: Called) -> Called:
    """Lets the Greek keywords of a function, or of the methods of a class, be typed in ASCII.

    `theta_fid`, `delta_theta`, `second_delta_theta`, `lambda_` and `epsilon` stand for `θ_fid`,
    `δθ`, `second_δθ`, `λ` and `ε`. Both letters that Unicode has for epsilon are taken, also as
    keys of a dictionary.

    Args:
        called: A function or a class.

    Returns:
        The class, or a function that calls `called`.
    """
    if isinstance(called, type):
        for name, method in vars(called).copy().items():
            public = not name.startswith("_") or name == "__init__"
            if public and inspect.isfunction(method) and _greek(method):
                setattr(called, name, ascii_keywords(method))
        return called
    greek = {_ASCII[name]: name for name in _greek(called)}

    @functools.wraps(called)
    def translated(*arguments: Any, **keywords: Any) -> Any:
        given: dict[str, Any] = {}
        for key, value in keywords.items():
            name = unicodedata.normalize("NFKC", key)  # as Python does with names that are typed
            name = greek.get(name, name)
            if name in given:
                raise TypeError(f"`{name}` must be given once, got it as {key!r} too.")
            given[name] = value
        return called(*arguments, **given)

    return cast(Called, translated)


def _greek(function: Callable[..., Any]) -> list[str]:
    """The parameters of a function that have a name in ASCII as well."""
    return [name for name in inspect.signature(function).parameters if name in _ASCII]
