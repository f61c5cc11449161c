"""Whether a model is the one that a fit was saved with, as far as its layers tell."""

from collections.abc import Iterator
from typing import Any

from imnn_tf.estimator import configuration_of
from imnn_tf.utils.types import Json, KerasModel

# Layers that only act in training, and settings that do not change what given weights compute.
_TRAINING_ONLY = ("Input", "Dropout", "SpatialDropout", "AlphaDropout", "Gaussian")
_SETTINGS_APART = {"name", "seed", "dtype", "trainable", "rate", "stddev", "build_config"}
_ENDINGS_APART = ("_initializer", "_regularizer", "_constraint", "shape", "_id")


def require_same_layers(model: KerasModel, saved: Json) -> None:
    """Checks that a model has the layers of a saved one: the weights alone do not tell.

    How the layers are connected is not compared, nor is a subclass of `keras.Model`.

    Args:
        model: The model.
        saved: The configuration of the saved one, as `configuration_of` returned it.

    Raises:
        ValueError: If a layer is of another class, or has another setting such as its activation.
    """
    ours, theirs = list(_layers(configuration_of(model))), list(_layers(saved))
    if not ours or not theirs:
        return
    classes = [[name for name, _ in layers] for layers in (ours, theirs)]
    if classes[0] != classes[1]:
        raise ValueError(
            f"`model` must have the layers of the saved fit, {classes[1]}, got {classes[0]}."
        )
    for (name, here), (_, there) in zip(ours, theirs, strict=True):
        for key in sorted(here.keys() & there.keys()):
            if here[key] != there[key]:
                raise ValueError(
                    f"`model` must be that of the saved fit, which has a {name} with {key} "
                    f"{there[key]!r}, got {here[key]!r}."
                )


def _layers(configuration: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The class and the settings that matter of each layer, those of inner models included."""
    for layer in configuration["config"].get("layers", ()):
        if "layers" in layer["config"]:
            yield from _layers(layer)
        elif not layer["class_name"].startswith(_TRAINING_ONLY):
            yield layer["class_name"], _settings(layer["config"])


def _settings(value: Any) -> Any:
    if isinstance(value, list):
        return [_settings(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _settings(each)
        for key, each in value.items()
        if key not in _SETTINGS_APART and not key.endswith(_ENDINGS_APART)
    }
