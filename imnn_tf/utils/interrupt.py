"""Ctrl-C that loses nothing."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """Lets running work reach a place where it can stop.

    Inside the block the first Ctrl-C only sets the event, which the work looks at when it is
    safe to stop; a second one raises `KeyboardInterrupt` at once. Signals reach the main
    thread alone, so in any other the event is never set.

    Yields:
        The event, set once the user has asked to stop.
    """
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested
        return

    def handle(signum: int, frame: object) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield requested
    finally:
        signal.signal(signal.SIGINT, previous)
