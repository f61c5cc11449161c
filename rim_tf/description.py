"""What models say of themselves: as one line, and as a table in a notebook."""

import re
from collections.abc import Mapping
from typing import Any

from imnn_tf.utils import display
from imnn_tf.utils.types import KerasLayer, KerasModel
from rim_tf.problem.links import LinkChoice
from rim_tf.problem.scales import Scales

# The names of the metrics of each step, such as `error_3`.
_OF_A_STEP = re.compile(r"_\d+$")


def facts(rim: KerasModel, functions: Mapping[str, Any]) -> dict[str, str]:
    """What there is to say of a RIM, by its name. Nothing is computed for it.

    Args:
        rim: The model.
        functions: The functions that it was given, by the name of their argument.
    """
    return {
        "parameters": _parameters(rim, functions["link_function"]),
        "score": _score(functions),
        "steps": f"{rim.T} from {rim.initialization_method}",
        "network": of_network(rim.network),
        "score preprocessing": _preprocessing(rim),
        "state": state(rim),
    }


def of_network(network: KerasLayer) -> str:
    """The kind of a network and its size.

    Args:
        network: A network that a RIM takes.
    """
    return f"{type(network).__name__}, {network.count_params():,} weights"


def _parameters(rim: KerasModel, link: LinkChoice) -> str:
    """Their shape, fields and links."""
    said = f"of shape {(*rim.dimensions, rim.channels)}"
    if rim.parameters.fields is not None:
        fields = ", ".join(f"{name} ({size})" for name, size in rim.parameters.fields.items())
        said = f"{said}, with the fields {fields}"
    if isinstance(link, Mapping):
        return f"{said}, links {', '.join(f'{name} {_name(each)}' for name, each in link.items())}"
    return said if link is None else f"{said}, link {_name(link)}"


def _score(functions: Mapping[str, Any]) -> str:
    names = ("likelihood", "score_fn", "energy_fn")
    given = next(name for name in names if functions[name] is not None)
    return f"{given} = {_name(functions[given])}"


def _preprocessing(rim: KerasModel) -> str:
    said = type(rim.score_preprocessing).__name__
    if isinstance(rim.scales, Scales) and not rim.scales.measured:
        return f"{said}, with scales that `fit` will measure"
    return said


def state(model: KerasModel) -> str:
    """How far a model was fitted, with the last values of what a fit logs.

    Args:
        model: A `RIM` or a `PixelErrors`.
    """
    history = getattr(model, "history", None)
    if history is not None and history.epoch:
        last = {name: each[-1] for name, each in history.history.items()}
        values = [
            f"{name} {display.number(last[name])}" for name in last if not _OF_A_STEP.search(name)
        ]
        return f"fitted for {history.epoch[-1] + 1} epochs, {', '.join(values)}"
    if model.compilation.loaded_epoch is not None:
        return f"weights of epoch {model.compilation.loaded_epoch} of a saved fit"
    updates = int(model.optimizer.iterations.numpy()) if model.compiled else 0
    return f"fitted for {updates:,} updates" if updates else "not fitted"


def _name(function: Any) -> str:
    """The name of a function, of the class of a callable object, or a name itself."""
    if isinstance(function, str):
        return function
    return getattr(function, "__name__", type(function).__name__)
