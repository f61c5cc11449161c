"""Runs a script in a forked process, and kills it where it hurts.

A fork costs much less than starting TensorFlow anew. It is safe as long as this process has never
computed anything with TensorFlow, which starts its threads then.
"""

import hashlib
import json
import os
import pathlib
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# Seconds after which a script has hung, and after which a process was left behind.
HUNG, LEFT = 300, 20

Action = Callable[[Path], None]


class Ended(NamedTuple):
    """How a script ended."""

    killed: bool
    digests: dict[str, str] | None  # of each result; None if there is none
    error: str  # the type and the whole message of its error, "" without one
    steps: int  # operations on files
    seconds: float
    left: list[int]  # processes that outlived it


class Run(NamedTuple):
    """How to run a script."""

    at_step: int | None = None  # the operation on files before which something happens
    after: float | None = None  # the seconds after which it is killed
    act: Action | None = None  # what happens at the step, in place of a kill
    before: Action | None = None  # what happens in the process before the script starts


def kill_now(_: Path) -> None:
    """Ends this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def run(job: Callable[[Path], dict[str, Any]], folder: Path, how: Run = Run()) -> Ended:  # noqa: B008
    """Runs a script in a process of its own, in a session of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    read, write = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(read)
        _script(job, folder, how, write)
    os.close(write)
    limit = started + (HUNG if how.after is None else how.after)
    content, killed = b"", False
    os.set_blocking(read, False)
    while True:
        try:
            more = os.read(read, 2**16)
        except BlockingIOError:
            more = None
        content += more or b""
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > limit and not killed:
            os.kill(child, signal.SIGKILL)
            killed = True
        if more is None or not more:
            time.sleep(0.002)
    os.set_blocking(read, True)
    while more := os.read(read, 2**16):
        content += more
    os.close(read)
    seconds = time.monotonic() - started
    if killed and how.after is None:
        raise RuntimeError(f"A script in {folder} hung.")
    died = os.WIFSIGNALED(status)
    if died and os.WTERMSIG(status) != signal.SIGKILL:
        content = json.dumps({"error": f"signal {os.WTERMSIG(status)}"}).encode()
    told = json.loads(content) if content.endswith(b"}") else {}
    return Ended(
        died,
        told.get("digests"),
        told.get("error", ""),
        told.get("steps", 0),
        seconds,
        outliving(child),
    )


def outliving(session: int) -> list[int]:
    """The processes of a session that do not end in good time. They are killed here."""
    end = time.monotonic() + LEFT
    while left := _processes_of(session):
        if time.monotonic() > end:
            for process in left:
                os.kill(process, signal.SIGKILL)
            return left
        time.sleep(0.05)
    return []


def _processes_of(session: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = status.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_session) == session and state != "Z":
            found.append(int(status.parent.name))
    return found


def _script(job: Callable[[Path], Any], folder: Path, how: Run, pipe: int) -> None:
    """The whole life of the forked process."""
    code = 1
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        steps = count_steps(folder, how)
        told: dict[str, Any] = {}
        try:
            if how.before is not None:
                how.before(folder)
            told["digests"] = digests_of(job(folder))
            code = 0
        except BaseException as error:
            told["error"] = "\n".join(traceback.format_exception_only(error))
            told["error"] += "".join(traceback.format_tb(error.__traceback__)[-1:])
        told["steps"] = steps[0]
        with open(pipe, "wb") as file:
            file.write(json.dumps(told).encode())
    finally:
        os._exit(code)


def count_steps(folder: Path, how: Run) -> list[int]:
    """Counts operations on the files of a folder from now on, and acts before one of them.

    A file whose content is written at once is also left half written.
    """
    count, place, act = [0], str(folder), how.act or kill_now
    events = {"os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "fcntl.flock"}
    fsync, write_bytes = os.fsync, pathlib.Path.write_bytes

    def step() -> bool:
        count[0] += 1
        return count[0] == how.at_step

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            wanted = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
        else:
            path, wanted = arguments[0] if arguments else None, event in events
        if not wanted or not (event == "fcntl.flock" or str(path).startswith(place)):
            return
        if step():
            act(folder)

    def synchronise(descriptor: int) -> None:
        if step():
            act(folder)
        fsync(descriptor)

    def write_half(path: Path, content: bytes) -> int:
        if str(path).startswith(place) and step():
            write_bytes(path, content[: len(content) // 2])
            act(folder)
        return write_bytes(path, content)

    sys.addaudithook(hook)
    os.fsync, pathlib.Path.write_bytes = synchronise, write_half  # type: ignore[method-assign]
    return count


def digests_of(results: dict[str, Any]) -> dict[str, str]:
    """SHA-256 of each result, an array or a list of arrays."""
    found = {}
    for name, values in results.items():
        digest = hashlib.sha256()
        for value in values if isinstance(values, list) else [values]:
            array = np.ascontiguousarray(value)
            digest.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
        found[name] = digest.hexdigest()
    return found


def scratch() -> Path:
    """A new folder for scripts."""
    return Path(tempfile.mkdtemp(prefix="torture-"))
