"""What objects and long work show of themselves, in a terminal, a notebook and a log file."""

import html
import sys
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np
from tqdm.auto import tqdm

Class = TypeVar("Class", bound=type)

# Seconds between two lines of a bar in a log file, where nothing overwrites a line.
_SECONDS_IN_A_LOG = 30.0


def bar(**options: Any) -> "tqdm[Any]":
    """A progress bar that writes few lines where its output is not a terminal.

    Args:
        **options: Arguments of `tqdm`.
    """
    if not overwrites(options.get("file", sys.stderr)):
        options.setdefault("mininterval", _SECONDS_IN_A_LOG)
        options.setdefault("maxinterval", _SECONDS_IN_A_LOG)
    return tqdm(**options)


def conclude(progress: "tqdm[Any]", said: str) -> None:
    """Says how a piece of work ended: beside its bar in a notebook, and above it elsewhere.

    Beside the bar, a terminal of 80 columns would cut the sentence off.

    Args:
        progress: The bar.
        said: What to say.
    """
    if progress.disable:
        return
    if "ipykernel" in sys.modules:
        progress.set_postfix_str(said)
    else:
        progress.write(said, file=progress.fp)


def attribute(path: str, kind: str, meaning: str) -> Any:
    """A property that reads what a part of the object holds, and that `help` can describe.

    Args:
        path: Where it is, from the object on, such as `"part.name"`.
        kind: Its type.
        meaning: What it is.
    """
    return property(attrgetter(path), doc=f"{kind}: {meaning}")


def overwrites(file: Any) -> bool:
    """Whether what is written to a file can be written over: in a terminal and in a notebook.

    Args:
        file: A file that is open for writing.
    """
    return (hasattr(file, "isatty") and file.isatty()) or "ipykernel" in sys.modules


class Shown:
    """An object that says what it is: as one line, and as a table in a notebook.

    A subclass defines `_facts`.
    """

    def _facts(self) -> dict[str, str]:
        """What there is to say, by its name."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return line(self, self._facts())

    def _repr_html_(self) -> str:
        return table(self, self._facts())


def shown(named_tuple: Class) -> Class:
    """Gives a named tuple, which takes no base class, what `Shown` gives."""
    for name in ("__repr__", "_repr_html_"):
        setattr(named_tuple, name, getattr(Shown, name))
    return named_tuple


def line(shown: object, facts: dict[str, str]) -> str:
    """An object in one line.

    Args:
        shown: The object, which gives the line the name of its class.
        facts: What there is to say of it, by its name.
    """
    return f"{type(shown).__name__}({', '.join(f'{name}: {fact}' for name, fact in facts.items())})"


def table(shown: object, facts: dict[str, str]) -> str:
    """An object as a table in HTML.

    Args:
        shown: The object, which gives the table the name of its class.
        facts: What there is to say of it, by its name.
    """
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(fact)}</td></tr>"
        for name, fact in facts.items()
    )
    title = html.escape(type(shown).__name__)
    return f"<table><caption style='text-align:left'><b>{title}</b></caption>{rows}</table>"


def number(value: Any, error: Any = None) -> str:
    """A number with four digits, and with its error unless that is `None` or NaN."""
    shown = f"{float(value):.4g}"
    if error is None or np.isnan(error):
        return shown
    return f"{shown} ± {float(error):.2g}"


def numbers(values: Any, errors: Any = None) -> str:
    """Numbers, `[n]`, with their errors, `[n]`, if these are known."""
    values = np.asarray(values, dtype=float)
    errors = [None] * len(values) if errors is None else errors
    return ", ".join(number(*pair) for pair in zip(values, errors, strict=True))
