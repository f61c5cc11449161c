"""Runs a worker process in its own environment and sends it one request at a time.

The programs that are compared run in parallel processes and take turns, so that all of them see
the same machine. A worker reads one JSON request per line from its standard input and answers with
one JSON line. Anything that libraries print goes to its standard error.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import machine


class Peer:
    """A worker process.

    Args:
        python: The Python interpreter of its environment.
        program: The file to run, which calls `serve`, and its command-line arguments.
        environment: Environment variables to set in addition to those of this process.
    """

    def __init__(self, python: str, *program: str, environment: dict[str, str] | None = None):
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        variables = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **(environment or {})}
        if python != sys.executable:
            variables.pop("PYTHONPATH", None)  # it would make the peer import this project
        self._process = subprocess.Popen(
            [python, *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=variables,
        )

    def ask(self, name: str, **arguments: Any) -> Any:
        """Calls the worker's function `name` with the arguments and returns its result."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, arguments]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            status = self._process.wait()
            self._log.seek(0)
            tail = "".join(self._log.readlines()[-20:])
            raise RuntimeError(f"The worker ended with status {status}:\n{tail}")
        return json.loads(answer)

    def close(self) -> None:
        """Ends the worker."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._log.close()


def serve(functions: dict[str, Callable[..., Any]]) -> None:
    """Answers requests with `functions`, and with `versions`, until the input ends."""
    functions = {"versions": machine.versions, **functions}
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        name, arguments = json.loads(line)
        answers.write(json.dumps(functions[name](**arguments)) + "\n")
        answers.flush()
