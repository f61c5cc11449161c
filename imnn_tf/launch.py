"""Runs a script in several processes of this machine that train together.

    python -m imnn_tf.launch --workers 4 script.py [arguments of the script]

Each process gets the environment variable `TF_CONFIG`, from which
`tf.distribute.MultiWorkerMirroredStrategy()` learns of the others. The output of the first worker
is shown as it is; lines of the others begin with their number. If a worker fails, the others are
ended, and the exit code is that of the one that failed first. A script that runs in one process
runs here unchanged; docs/scaling.md shows one.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO

from imnn_tf.utils.backend import without_start

# Seconds that the other workers have to say why they stop, before they are killed.
_GRACE = 30.0
_POLL = 0.2


def run(workers: int, command: Sequence[str]) -> int:
    """Runs a command in several processes at once, and waits for all of them.

    Args:
        workers: The number of processes.
        command: The program and its arguments.

    Returns:
        Zero, or the exit code of the first process that failed; negative where a signal ended it.
    """
    addresses = _free_addresses(workers)
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, "TF_CONFIG": _configuration(addresses, index)},
            stdout=None if index == 0 else subprocess.PIPE,
            stderr=None if index == 0 else subprocess.STDOUT,
            text=True,
        )
        for index in range(workers)
    ]
    forwarding = [
        threading.Thread(target=_forward, args=(index, process.stdout))
        for index, process in enumerate(processes[1:], start=1)
    ]
    for thread in forwarding:
        thread.start()
    try:
        try:
            failed = _first_failure(processes)
        except KeyboardInterrupt:
            # The terminal has sent Ctrl-C to the workers too, which end as a fit ends by it.
            failed = _first_failure(processes)
        if failed:
            deadline = time.monotonic() + _GRACE
            while any(each.poll() is None for each in processes) and time.monotonic() < deadline:
                time.sleep(_POLL)
    finally:
        for process in processes:
            process.kill()  # it has ended, unless it hangs or the launcher itself is ended
            process.wait()
        for thread in forwarding:
            thread.join()
    return failed


def _first_failure(processes: Sequence["subprocess.Popen[str]"]) -> int:
    """Waits until a process has failed, or all have succeeded; returns the exit code."""
    while True:
        codes = [process.poll() for process in processes]
        failures = [code for code in codes if code]
        if failures:
            return failures[0]
        if None not in codes:
            return 0
        time.sleep(_POLL)


def _configuration(addresses: Sequence[str], index: int) -> str:
    """What TensorFlow reads from `TF_CONFIG`."""
    return json.dumps(
        {"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": index}}
    )


def _free_addresses(count: int) -> list[str]:
    """Addresses of this machine with ports that nothing uses."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [f"localhost:{each.getsockname()[1]}" for each in sockets]


def _forward(index: int, lines: IO[str] | None) -> None:
    """Shows the output of a worker, but for TensorFlow's start, with its number in front."""
    assert lines is not None
    with lines:
        for line in filter(without_start, lines):
            sys.stdout.write(f"[worker {index}] {line}")
            sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line and runs the script.

    Args:
        arguments: The arguments; those of the command line by default.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m imnn_tf.launch", description=__doc__)
    parser.add_argument("--workers", type=int, required=True, help="the number of processes")
    parser.add_argument("script", help="a Python script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what the script is given")
    given = parser.parse_args(arguments)
    if given.workers < 1:
        parser.error(f"--workers must be at least 1, got {given.workers}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return run(given.workers, [sys.executable, given.script, *given.arguments])


if __name__ == "__main__":
    sys.exit(main())
