"""The settings of how simulations run, declared and checked in one place."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any, Protocol

from imnn_tf.running.arguments import described
from imnn_tf.running.executors import Workers, check_executor
from imnn_tf.utils import checks, display


class ProgressBar(Protocol):
    """The part of a tqdm bar that counts."""

    def update(self, n: int) -> Any:
        """Counts `n` more simulations."""


@described()
@dataclass(frozen=True, kw_only=True)
class Execution:
    """How simulations run: where, how many in a call, and what happens when one fails.

    `imnn_tf.lfi.simulate` and the methods of inference that simulate take it as
    `execution`, or take its fields as separate keywords.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of range, or there is a `timeout` without an `executor`.
    """

    executor: Workers = None
    batch_size: int | None = None
    timeout: float | None = None
    on_error: str = "raise"
    retries: int = 0
    store: str | os.PathLike[str] | None = None
    progress: bool | ProgressBar = True
    max_pending: int | None = None

    def __post_init__(self) -> None:
        plain: dict[str, Any] = {
            "executor": check_executor(self.executor),
            "on_error": checks.choice("on_error", self.on_error, ("raise", "skip", "retry")),
            "retries": checks.integer("retries", self.retries, minimum=0),
        }
        for name in ("batch_size", "max_pending"):
            if getattr(self, name) is not None:
                plain[name] = checks.integer(name, getattr(self, name), minimum=1)
        if self.timeout is not None:
            plain["timeout"] = checks.real("timeout", self.timeout, above=0)
            if self.executor is None:
                raise ValueError("`timeout` must come with an `executor`, got none.")
        if not hasattr(self.progress, "update"):
            plain["progress"] = checks.flag("progress", self.progress)
        for name, value in plain.items():
            object.__setattr__(self, name, value)  # the way to set a field of a frozen dataclass

    @classmethod
    def of(cls, execution: Execution | None, *separate: Any) -> Execution:
        """The settings that a user passed, as one value or as separate keywords.

        Args:
            execution: The one value, or `None`.
            *separate: The values of separate keywords, in the order of the fields.

        Raises:
            TypeError: If `execution` is not an `Execution`.
            ValueError: If settings are given in both ways.
        """
        settings = fields(cls)[: len(separate)]
        if execution is None:
            return cls(
                **{field.name: value for field, value in zip(settings, separate, strict=True)}
            )
        if not isinstance(execution, cls):
            raise TypeError(f"`execution` must be an Execution, got {type(execution).__name__}.")
        both = [
            f.name for f, value in zip(settings, separate, strict=True) if value is not f.default
        ]
        if both:
            raise ValueError(f"`execution` must come without its separate keywords, got {both}.")
        return execution

    @property
    def attempts(self) -> int:
        """How often a simulation is tried."""
        return 1 + (self.retries if self.on_error == "retry" else 0)

    def bar(self, total: int | None = None) -> AbstractContextManager[Any]:
        """The bar that counts simulations: the user's, or one that is closed at the end."""
        if isinstance(self.progress, bool):
            return display.bar(total=total, desc="Simulations", disable=not self.progress)
        return nullcontext(self.progress)
