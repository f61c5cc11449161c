"""What the benchmarks share: their options, and where their numbers go."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import machine
import report

FOLDER = Path(__file__).resolve().parent


def options(
    description: str,
    name: str,
    full: dict[str, Any],
    quick: dict[str, Any],
    peers: tuple[str, ...] = (),
) -> argparse.Namespace:
    """Reads the options of a benchmark.

    Args:
        description: What it does; the first line is shown.
        name: That of its file of results.
        full: Its settings and their defaults; tuples take several values.
        quick: What `--quick` makes of some of them.
        peers: Options that name the Python of a peer's environment.

    Returns:
        The settings, the peers (`None` if not given) and `output`, the file for the results.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small version of everything")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    for peer in peers:
        parser.add_argument(f"--{peer}", help="Python of its environment; left out if not given")
    for key, value in full.items():
        several = isinstance(value, tuple)
        parser.add_argument(
            f"--{key.replace('_', '-')}",
            type=type(value[0]) if several else type(value),
            nargs="+" if several else None,
            help=f"{value} by default, {quick.get(key, value)} with --quick",
        )
    arguments = parser.parse_args()
    for key, value in {**full, **(quick if arguments.quick else {})}.items():
        if getattr(arguments, key) is None:
            setattr(arguments, key, value)
    if arguments.output is None:
        folder = "results-quick" if arguments.quick else "results"
        arguments.output = FOLDER / folder / f"{name}.json"
    return arguments


def finish(name: str, output: Path, versions: dict[str, dict[str, str]], result: Any) -> None:
    """Writes what a benchmark found, with what it ran on, and prints it as tables.

    Args:
        name: The benchmark's.
        output: The file.
        versions: Versions of the packages of each side.
        result: What was found.
    """
    found = {
        "machine": machine.describe(),
        "measured": time.strftime("%Y-%m-%d"),
        "versions": versions,
        "result": result,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(report.section(name, found) + "\n")
