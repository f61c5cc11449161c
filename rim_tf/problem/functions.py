"""The functions that a user gives a RIM: how they are checked, saved and found again.

What Keras can store is stored: names, registered functions, objects with a configuration. Every
other function is only marked as missing, under its argument's name, and must be given again. Code
is never written to a file and never read from one.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras

from imnn_tf.utils import checks
from imnn_tf.utils.types import Json

INITIALIZATIONS = ("zeros", "approximate_inverse", "model")

_MISSING = {"given_by_user": True}


def check_functions(initialization_method: str, **functions: Any) -> dict[str, Any]:
    """Checks that the functions can be called, and that they fit each other.

    Args:
        initialization_method: The RIM's argument, one of `INITIALIZATIONS`.
        **functions: The functions by argument name, `None` for those that were left out.

    Returns:
        The functions by argument name.

    Raises:
        TypeError: If one cannot be called, or the likelihood lacks a method.
        ValueError: If not exactly one of `score_fn`, `energy_fn` and `likelihood` is given, or if
            `approximate_inverse_fn` does not fit the initialisation, or if that is unknown.
    """
    checks.choice("initialization_method", initialization_method, INITIALIZATIONS)
    sources = ("score_fn", "energy_fn", "likelihood")
    given = [name for name in sources if functions[name] is not None]
    if len(given) != 1:
        raise ValueError(
            "Exactly one of `score_fn`, `energy_fn` and `likelihood` must be given, "
            f"got {given or 'none'}."
        )
    for name in ("score_fn", "energy_fn", "approximate_inverse_fn"):
        if functions[name] is not None:
            checks.function(name, functions[name])
    if functions["likelihood"] is not None:
        for method in ("score", "chi2"):
            checks.function(f"likelihood.{method}", getattr(functions["likelihood"], method, None))
    needs_inverse = initialization_method == "approximate_inverse"
    if needs_inverse != (functions["approximate_inverse_fn"] is not None):
        raise ValueError(
            "`approximate_inverse_fn` must be given if and only if `initialization_method` is "
            f"'approximate_inverse', got {initialization_method!r}."
        )
    return functions


def count_arguments(function: Callable[..., Any], leading: int) -> tuple[int, int | None]:
    """How many arguments a function takes after its first ones.

    Args:
        function: Any function.
        leading: The number of the first arguments, which are not counted.

    Returns:
        The least and the largest number; `None` for the largest if there is no limit.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in functions have no signature
        return 0, None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [each for each in parameters if each.kind in kinds]
    needed = sum(each.default is inspect.Parameter.empty for each in positional)
    if any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters):
        return max(needed - leading, 0), None
    return max(needed - leading, 0), max(len(positional) - leading, 0)


def count_score_arguments(functions: Mapping[str, Any]) -> tuple[int, int | None]:
    """How many arguments the score takes after `x` and `y`, as `count_arguments` returns it.

    Args:
        functions: What `check_functions` returned.
    """
    likelihood = functions["likelihood"]
    if likelihood is None:
        return count_arguments(functions["score_fn"] or functions["energy_fn"], 2)
    counts = getattr(likelihood, "argument_counts", None)
    return count_arguments(likelihood.score, 2) if counts is None else counts


def store_functions(functions: Mapping[str, Any]) -> dict[str, Json]:
    """The functions by argument name, in a form that JSON can hold."""
    return {name: _store(value) for name, value in functions.items()}


def _store(value: Any) -> Json:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        stored = {key: _store(each) for key, each in value.items()}
        # The user gives an argument again as a whole, so one missing entry makes all of it missing.
        return _MISSING if _MISSING in stored.values() else {"by_field": stored}
    kind = value if hasattr(value, "__name__") else type(value)
    name = keras.saving.get_registered_name(kind)
    # A class that is not registered has a name too, but without a package and a ">".
    if ">" in name and keras.saving.get_registered_object(name) is kind:
        return {"stored": keras.saving.serialize_keras_object(value)}
    return _MISSING


def restore_functions(stored: Mapping[str, Json], given: Mapping[str, Any]) -> dict[str, Any]:
    """The functions by argument name, as the constructor of the RIM takes them.

    Args:
        stored: What `store_functions` returned.
        given: Functions by argument name. They take precedence over the stored ones.

    Raises:
        ValueError: If a function that could not be stored is not given.
    """
    functions, missing = {}, []
    for name, value in stored.items():
        # The second look-up finds what the user passed to `keras.saving.load_model`.
        replacement = given.get(name, keras.saving.get_registered_object(name))
        if replacement is not None:
            functions[name] = replacement
        elif value == _MISSING:
            missing.append(name)
        else:
            functions[name] = _restore(value)
    if missing:
        raise ValueError(
            f"The saved RIM needs its own functions again: pass {missing} as keyword "
            "arguments, or by these names in `custom_objects`."
        )
    return functions


def _restore(value: Json) -> Any:
    if not isinstance(value, Mapping):
        return value
    if "by_field" in value:
        return {key: _restore(each) for key, each in value["by_field"].items()}
    return keras.saving.deserialize_keras_object(value["stored"])
