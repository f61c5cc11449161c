"""Kills, damage and faults: `python tests/torture/run.py`, or `--quick` for two minutes of it.

Everything that is written must survive a `kill -9` at any moment; what is damaged must be noticed;
and what cannot be written must be named, with the old files as they were. The exit code is the
number of kinds of failure.
"""

import argparse
import json
import os
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
for folder in (HERE, HERE.parent, HERE.parent / "rim_tf", HERE.parents[1]):
    sys.path.insert(0, str(folder))

# What is counted without being a failure.
FINE = {
    "kills",
    "scripts",
    "damages",
    "detected",
    "recovered",
    "harmless",
    "loads",
    "saves",
    "named",
    "finished",
}


def together(
    tasks: dict[str, Callable[[], Counter[str]]], processes: int
) -> dict[str, Counter[str]]:
    """Runs tasks in forked processes, some at a time, and returns their counts.

    There are no threads, because a process with threads must not be forked.
    """
    waiting, running, found = list(tasks), {}, {}
    with tempfile.TemporaryDirectory() as folder:
        while waiting or running:
            while waiting and len(running) < processes:
                name = waiting.pop(0)
                path = Path(folder) / str(len(waiting))
                child = os.fork()
                if child == 0:
                    _end_with(tasks[name], path)
                running[child] = name, path
            child, _ = os.wait()
            name, path = running.pop(child)
            found[name] = Counter(json.loads(path.read_text()) if path.exists() else {"crashed": 1})
            print(f"{name:24s}", ", ".join(f"{n} {what}" for what, n in found[name].items() if n))
            sys.stdout.flush()
    return found


def _end_with(task: Callable[[], Counter[str]], path: Path) -> None:
    """Ends this process with a task, whose counts it leaves in a file."""
    try:
        path.write_text(json.dumps(task()))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def main() -> int:
    """Runs everything, and prints what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two minutes of everything")
    parser.add_argument("--kills", type=int, help="300 by default")
    parser.add_argument("--damages", type=int, help="1000 by default")
    parser.add_argument("--seconds", type=float, help="for savers against a loader; 60 by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="*", help="the scripts to kill and to damage")
    given = parser.parse_args()
    kills = given.kills if given.kills is not None else 8 if given.quick else 300
    damages = given.damages if given.damages is not None else 60 if given.quick else 1000
    seconds = given.seconds if given.seconds is not None else 3 if given.quick else 60

    # Imported once, for all the processes that are forked from this one.
    import keras  # noqa: F401
    import tensorflow_probability  # noqa: F401
    from damages import READERS, damage
    from faults import FAULTS, fail, mixture
    from jobs import JOBS
    from kills import torture

    import imnn_tf.lfi  # noqa: F401
    from imnn_tf import IMNN, refine  # noqa: F401
    from rim_tf import RIM  # noqa: F401

    names = given.only or list(JOBS)
    tasks: dict[str, Callable[[], Counter[str]]] = {}
    for name in names:
        tasks[f"kill: {name}"] = lambda name=name: torture(
            name, -(-kills // len(names)), given.seed
        )
    readers = [name for name in READERS if name in names]
    for name in readers:
        tasks[f"damage: {name}"] = lambda name=name: damage(
            name, -(-damages // len(readers)), given.seed
        )
    for fault in FAULTS:
        for name in names[:: 5 if given.quick else 1]:
            tasks[f"{fault}: {name}"] = lambda fault=fault, name=name: fail(fault, name)
    tasks["two savers, one loader"] = lambda: mixture(seconds)
    found = together(tasks, given.processes)
    total: Counter[str] = Counter()
    for counts in found.values():
        total += counts
    print("in all:", ", ".join(f"{count} {what}" for what, count in total.items()))
    failures = [what for what in total if what not in FINE]
    print("failures:", ", ".join(failures) or "none")
    return len(failures)


if __name__ == "__main__":
    sys.exit(main())
