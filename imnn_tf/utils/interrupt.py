"""Ctrl-C that loses nothing."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """Lets running work reach a place where it can stop.

    Inside the block the first Ctrl-C only sets the event, which the work looks at when it is
    safe to stop; a second one raises `KeyboardInterrupt` at once. A block inside another is
    asked to stop together with that one. Signals reach the main thread alone, so in any other
    the event is never set.

    Yields:
        The event, set once the user has asked to stop.
    """
    if threading.current_thread() is not threading.main_thread():
        yield threading.Event()
        return
    handler = _Handler(signal.getsignal(signal.SIGINT))
    signal.signal(signal.SIGINT, handler)
    try:
        yield handler.requested
    finally:
        signal.signal(signal.SIGINT, handler.previous)


class _Handler:
    """What a block does with Ctrl-C."""

    def __init__(self, previous: Any) -> None:
        self.requested, self.previous = threading.Event(), previous
        if isinstance(previous, _Handler) and previous.requested.is_set():
            self.requested.set()

    def __call__(self, signum: int, frame: object) -> None:
        if self.requested.is_set():
            raise KeyboardInterrupt
        self.ask()

    def ask(self) -> None:
        """Asks this block and those around it to stop."""
        self.requested.set()
        if isinstance(self.previous, _Handler):
            self.previous.ask()
