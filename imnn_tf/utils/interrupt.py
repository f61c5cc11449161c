"""Ctrl-C that ends work at a point where nothing is lost."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """Lets the work inside the block decide when Ctrl-C ends it.

    The first Ctrl-C only sets an event, which the work checks whenever it could stop. A second one
    raises `KeyboardInterrupt` at once. If blocks are nested, the first Ctrl-C sets the events of
    all of them. Python delivers signals to the main thread only, so in other threads the event is
    never set.

    Yields:
        The event.
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
    """Handles Ctrl-C for one block.

    Args:
        previous: The handler outside the block, as `signal.getsignal` returns it.

    Attributes:
        previous: As passed.
        requested: Set once the user has asked to stop.
    """

    def __init__(self, previous: Any) -> None:
        self.requested, self.previous = threading.Event(), previous
        if isinstance(previous, _Handler) and previous.requested.is_set():
            self.requested.set()

    def __call__(self, signum: int, frame: object) -> None:
        if self.requested.is_set():
            raise KeyboardInterrupt
        self.request()

    def request(self) -> None:
        """Asks this block and those around it to stop."""
        self.requested.set()
        if isinstance(self.previous, _Handler):
            self.previous.request()
