"""Command-line options and output files, which all benchmarks share."""

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
        description: What the benchmark does; `--help` shows the first line.
        name: Name of the file for its results.
        full: The settings and their defaults. A setting whose default is a tuple takes several
            values.
        quick: The settings that `--quick` changes.
        peers: Options that name the Python interpreter of a peer's environment.

    Returns:
        The settings, the interpreters of the peers (`None` if not given) and `output`, the file
        for the results.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="run a small version of the benchmark")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    for peer in peers:
        parser.add_argument(f"--{peer}", help="Python of its environment; not run if not given")
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
    """Writes the results of a benchmark with the machine and versions, and prints them as tables.

    Args:
        name: Name of the benchmark.
        output: The JSON file to write.
        versions: Versions of the packages, for each program that was compared.
        result: The results, as JSON takes them.
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
