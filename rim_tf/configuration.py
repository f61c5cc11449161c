"""How the functions a user gave a RIM survive being saved.

What Keras can store (names, registered functions, objects with a configuration) is stored.
Of the rest, only that it must be given again is, under its argument's name: code is never
written to a file, and never read from one.
"""

from collections.abc import Mapping
from typing import Any

import keras

_MISSING = {"given_by_user": True}


def store_functions(functions: Mapping[str, Any]) -> dict[str, Any]:
    """The functions by argument name, in a form that JSON holds."""
    return {name: _store(value) for name, value in functions.items()}


def _store(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        stored = {key: _store(each) for key, each in value.items()}
        return _MISSING if _MISSING in stored.values() else {"by_field": stored}
    if _is_registered(value):
        return {"stored": keras.saving.serialize_keras_object(value)}
    return _MISSING


def _is_registered(value: Any) -> bool:
    """Whether Keras finds the function or class again by the name it is registered under."""
    kind = value if hasattr(value, "__name__") else type(value)
    name = keras.saving.get_registered_name(kind)
    return ">" in name and keras.saving.get_registered_object(name) is kind


def restore_functions(stored: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The functions by argument name, as the constructor takes them.

    Args:
        stored: What `store_functions` made.
        given: Functions by argument name, which win over those stored.

    Raises:
        ValueError: If a function that could not be stored is not given.
    """
    functions, missing = {}, []
    for name, value in stored.items():
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


def _restore(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    if "by_field" in value:
        return {key: _restore(each) for key, each in value["by_field"].items()}
    return keras.saving.deserialize_keras_object(value["stored"])
