"""Draws the accuracy of posteriors against the number of simulations, from the results alone.

    python benchmarks/posteriors_figure.py --output docs/figures/posteriors.png

The budgets are those that `benchmarks/posteriors.py` ran. Points are means over the observations
that were run with all methods and budgets, so that a method that was run on few is compared on
these. The published points are means over ten.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

# Methods as the results name them, with their marker and line.
OURS = {
    "rejection": "s--",
    "PMC": "v--",
    "PMC, adjusted": "^-",
    "NeuralPosterior": "o-",
}
PEERS = {"sbi NPE": "D"}
PUBLISHED = {"SMC-ABC": "x:", "NPE": "+:"}


def shared(rows: list[dict[str, Any]], task: str, methods: Iterable[str]) -> list[int]:
    """The numbers of the observations that every method has at each of its budgets."""
    found: dict[tuple[str, int], set[int]] = {}
    for row in rows:
        if row["task"] == task and row["method"] in methods:
            found.setdefault((row["method"], row["budget"]), set()).add(row["observation"])
    return sorted(set.intersection(*found.values())) if found else []


def curve(rows: list[dict[str, Any]], task: str, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Budgets in increasing order, `(n,)`, and the mean accuracy at each, `(n,)`.

    Args:
        rows: What was measured, a row for each observation.
        task: The name of a task.
        method: The name of a method.
    """
    found: dict[int, list[float]] = {}
    for row in rows:
        if row["task"] == task and row["method"] == method:
            found.setdefault(row["budget"], []).append(row["c2st"])
    budgets = sorted(found)
    return np.array(budgets), np.array([np.mean(found[budget]) for budget in budgets])


def draw(result: dict[str, Any], task: str, path: Path) -> None:
    """Draws the curves of all methods that were run on a task, with published ones beside them."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    common = shared(result["runs"], task, OURS)
    if not common:
        raise ValueError(
            f"`results` must have an observation of {task} that all methods were run on."
        )
    ours = [row for row in result["runs"] if row["observation"] in common]
    figure, ax = plt.subplots(figsize=(7.6, 4), layout="constrained")
    for methods, rows, suffix, width in (
        (OURS | PEERS, ours, "", 2.0),
        (PUBLISHED, result["published"], ", published", 1.0),
    ):
        for method, style in methods.items():
            budgets, accuracies = curve(rows, task, method)
            if len(budgets):
                ax.plot(budgets, accuracies, style, label=method + suffix, linewidth=width)
    ax.axhline(0.5, color="black", linewidth=0.8)
    ax.set(
        xscale="log",
        ylim=(0.48, 1.0),
        xlabel="simulations",
        ylabel="C2ST: 0.5 is perfect, 1 is useless",
        title=f"{task.replace('_', ' ')}, observations {', '.join(map(str, common))}",
    )
    ax.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Reads the results and writes the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    folder = Path(__file__).resolve().parent
    results = folder / "results" / "posteriors.json"
    figure = folder.parent / "docs" / "figures" / "posteriors.png"
    parser.add_argument("--results", type=Path, default=results, help="JSON file of the results")
    parser.add_argument("--output", type=Path, default=figure, help="PNG file to write")
    parser.add_argument("--task", default="two_moons", help="the task to draw")
    arguments = parser.parse_args()
    draw(json.loads(arguments.results.read_text())["result"], arguments.task, arguments.output)


if __name__ == "__main__":
    main()
