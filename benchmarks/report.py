"""Writes the results of all benchmarks as tables, from their JSON files alone.

Run as `python benchmarks/report.py --folder benchmarks/results --output benchmarks/results.md`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

PREDECESSOR = "imnn-tf 0.2.0"
NOT_HERE = "not run"


# ---- pieces --------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    """A number with three significant digits, with an exponent only where it is needed."""
    return f"{value:,.0f}" if 100 <= abs(value) < 1e7 else f"{value:.3g}"


def spread(values: Sequence[float], scale: float = 1.0) -> str:
    """Median, with minimum and maximum in brackets."""
    scaled = np.array(values) * scale
    return f"{number(np.median(scaled))} ({number(scaled.min())} to {number(scaled.max())})"


def ratio(values: Sequence[float], others: Sequence[float]) -> str:
    """Median over the rounds of the ratio of two values measured in the same round."""
    return f"{np.median(np.divide(values, others)):.2f}"


def beside(values: dict[str, Sequence[float]], theirs: str) -> str:
    """The ratio to a peer, if it was measured."""
    ours = next(iter(values.values()))
    return ratio(ours, values[theirs]) if theirs in values else NOT_HERE


# ---- one function for each benchmark ----------------------------------------------------------


def imnn_in_memory(result: Any) -> list[str]:
    """Updates a second, det F after given times, and the time to a threshold."""
    rates, ceilings = result["updates_per_second"], np.median(result["matmul_flop_per_second"], 0)
    rows = []
    for name, values in rates.items():
        shares = result["update_flop"] * np.median(values) / ceilings
        against = ratio(values, rates[PREDECESSOR]) if PREDECESSOR in rates else NOT_HERE
        rows.append([name, spread(values), against, *(f"{100 * share:.0f} %" for share in shares)])
    header = ["updates a second", "median (range)", "relative to the predecessor"]
    header += ["share of `tf.matmul` at these shapes", "share of `tf.matmul` at 2000 x 2000"]
    speed = table(header, rows)
    runs = [
        [name, f"{run['seconds']:.1f}", number(run["updates"])]
        + [f"{run[key]:.1f}" for key in ("validation", "fresh")]
        for name, race in result["race"].items()
        for run in race
    ]
    header = ["seconds", "updates", "best validation", "fresh simulations"]
    fitting = table(["det F after a given time", *header], runs)
    passes = [
        [name, *(number(run[key]) for key in ("updates", "seconds", "of which compilation"))]
        for name, run in result["passes_43"].items()
    ]
    header = ["updates", "seconds", "of which compilation"]
    passing = table(["until det F of the validation set passes 43", *header], passes)
    return [speed, fitting, passing]


def imnn_sources(result: Any) -> list[str]:
    """Updates a second from each source."""
    rates = result["updates_per_second"]
    theirs = rates.get(PREDECESSOR)
    rows = []
    for source, values in rates["ours"].items():
        row = [source, spread(values), ratio(values, rates["ours"]["arrays"])]
        if theirs is None:
            row += [NOT_HERE, ""]
        elif source in theirs:
            row += [spread(theirs[source]), ratio(values, theirs[source])]
        else:
            row += ["no such source", ""]
        rows.append(row)
    header = ["updates a second from", "ours", "relative to our arrays", PREDECESSOR, "ratio"]
    return [table(header, rows)]


def imnn_streaming(result: Any) -> list[str]:
    """Peak memory, and speed relative to reading and parsing alone."""
    rows = []
    for run in result:
        updates, reads = run["seconds of an update"], run["seconds to read and parse twice"]
        rows.append(
            [
                f"{run['gigabytes']:.1f} GB, {run['simulations']:,} simulations",
                f"{run['peak memory in gigabytes']:.2f}",
                spread(updates),
                number(2 * run["gigabytes"] / np.median(updates)),
                ratio(reads, updates),
                number(run["seconds to check and index"]),
            ]
        )
    header = ["data set", "peak memory, GB", "seconds per update", "GB/s"]
    header += ["share of the speed of reading and parsing alone", "seconds to check and index"]
    why = f"{PREDECESSOR} cannot run this, because it keeps in memory everything that it reads."
    return [table(header, rows), why]


def lfi(result: Any) -> list[str]:
    """Cost and error of the posteriors."""
    mean, std = (np.array(result["exact"][key]) for key in ("mean", "std"))
    rows = []
    for tool, runs in result["runs"].items():
        error = (np.array([run["mean"] for run in runs]) - mean) / std
        width = (np.array([run["std"] for run in runs]) - std) / std
        simulations = np.mean([run["simulations"] for run in runs])
        by_weights = simulations / np.mean([run["ess"] for run in runs])
        of_mean, of_std = (np.sqrt((values**2).mean()) for values in (error, width))
        rows.append(
            [
                tool,
                f"{simulations:,.0f}",
                f"{simulations * of_mean**2:,.0f} ({by_weights:,.0f})",
                spread([run["overhead"] for run in runs]),
                f"{of_mean:.3f}",
                f"{of_std:.3f}",
            ]
        )
    header = ["tool", "simulations", "simulations per effective sample (by the weights)"]
    header += ["overhead per simulation, us", "error of mean", "error of std"]
    return [table(header, rows)]


def posteriors(result: Any) -> list[str]:
    """Mean C2ST of each method, budget by budget, and what the trainings took."""
    budgets = sorted({run["budget"] for run in result["runs"]})
    tasks = list(dict.fromkeys(run["task"] for run in result["runs"]))
    found: dict[tuple[str, str, int], list[float]] = {}
    for run in result["runs"]:
        found.setdefault((run["method"], run["task"], run["budget"]), []).append(run["c2st"])
    for row in result["published"]:
        name = f"{row['method']}, published"
        found[name, row["task"], row["budget"]] = [row["c2st"]]
    parts = []
    for budget in budgets:
        methods = list(dict.fromkeys(m for m, _, b in found if b == budget))
        rows = [[m, *(_accuracy(found.get((m, t, budget), []), m) for t in tasks)] for m in methods]
        parts.append(table([f"C2ST at {budget:,} simulations", *tasks], rows))
    rows = [
        [
            cost["method"],
            cost["task"],
            f"{cost['budget']:,}",
            number(cost["processor seconds"]),
            number(cost["seconds"]),
        ]
        for cost in result["costs"]
    ]
    header = ["training", "task", "simulations", "processor seconds", "seconds"]
    judges = sorted({len(run.get("each", [run["c2st"]])) for run in result["runs"]})
    numbers = ", ".join(map(str, judges))
    parts.append(f"Numbers of classifiers that judged one posterior: {numbers}.")
    return [*parts, *([table(header, rows)] if rows else [])]


def _accuracy(values: Sequence[float], method: str) -> str:
    """The mean of accuracies, with the number of observations where it is not ten."""
    if not values:
        return NOT_HERE
    few = len(values) < 10 and not method.endswith("published")
    return f"{np.mean(values):.3f}" + (f" ({len(values)} of 10)" if few else "")


def rim(result: Any) -> list[str]:
    """Errors after training, and speeds in alternating rounds."""
    keys = {"error": "{:.4f}", "seconds": "{:.0f}", "weights": "{:,}"}
    trained = [
        [name, *(form.format(run[key]) if key in run else "" for key, form in keys.items())]
        for name, run in result["trained"].items()
    ]
    names = ["rim_tf, the same layers", "torch_rim"]
    rows = [
        [
            what,
            *(spread(rates[name]) if name in rates else NOT_HERE for name in names),
            beside(rates, "torch_rim"),
        ]
        for what, rates in result["rates_per_second"].items()
    ]
    header = [f"after {result['epochs']} epochs", "error", "seconds of training", "weights"]
    return [table(header, trained), table(["per second", *names, "ratio"], rows)]


def roofline(result: Any) -> list[str]:
    """Arithmetic, ceilings, and the share of each ceiling that was reached."""
    parts = []
    for case, found in result.items():
        work, ceilings = found["work"], found["ceilings"]
        per_second = {name: np.median(values) for name, values in ceilings.items()}
        parts.append(
            f"**{case}**: {work['flop'] / 1e6:,.0f} MFLOP per update; "
            f"{work['core_bytes'] / 1e6:,.0f} MB read and written by matrix products and "
            f"convolutions, {work['bytes'] / 1e6:,.0f} MB by all operations if none are fused; "
            f"largest tensor {work['largest'] / 1e6:.1f} MB."
        )
        rows = [[name, spread(values, 1e-9)] for name, values in ceilings.items()]
        parts.append(table(["ceiling", "GFLOP/s or GB/s"], rows))
        rows = []
        for variant, seconds in found["seconds"].items():
            rate = work["flop"] / np.median(seconds)
            shares = [rate / per_second[name] for name in (found["shapes"], "matmul, 2000 cubed")]
            shown = [f"{100 * share:.0f} %" for share in shares]
            times = ratio(found["seconds"]["default"], seconds)
            rows.append([variant, spread(seconds, 1e3), *shown, times])
        rows += [[variant, f"fails: {why}", "", "", ""] for variant, why in found["failed"].items()]
        header = ["variant", "ms per update", "share of the ceiling at these shapes"]
        header += ["share of `tf.matmul` at 2000 x 2000", "speed relative to the default"]
        parts.append(table(header, rows))
        parts.append(_predictions(work, per_second, found))
    return parts


def _predictions(work: Any, per_second: dict[str, float], found: Any) -> str:
    """The roofline prediction: the slower of arithmetic and memory sets the time of an update."""
    arithmetic = work["flop"] / per_second[found["shapes"]]
    outcome = np.median(found["seconds"]["default"])
    rows = []
    for what, key in (("all operations fused", "core_bytes"), ("none fused", "bytes")):
        moved = work[key] / per_second["copy of the largest tensor"]
        slower = "arithmetic" if arithmetic > moved else "memory"
        times = [arithmetic, moved, max(arithmetic, moved), arithmetic + moved]
        rows.append([what, *(number(1e3 * t) for t in times), slower])
        rows[-1].append(f"{outcome / times[2]:.2f} ({outcome / times[3]:.2f})")
    header = ["prediction, ms", "arithmetic", "memory", "both at once", "one after the other"]
    header += ["bound by", "measured over predicted, both at once (one after the other)"]
    return table(header, rows)


def scaling(result: Any) -> list[str]:
    """Fitted exponents."""
    rows = [
        [law["subject"], law["axis"], curve["name"]]
        + [_exponent(curve, quantity) for quantity in ("seconds", "megabytes")]
        + [f"{min(law['values']):,} to {max(law['values']):,}"]
        for law in result
        for curve in law["curves"]
    ]
    header = ["cost of", "grows with", "curve", "exponent of time", "exponent of memory", "range"]
    note = (
        "The exponents are fitted to the upper half of each range. The figures are "
        "docs/figures/scaling_*.png."
    )
    return [table(header, rows), note]


def _exponent(curve: Any, quantity: str) -> str:
    exponent = curve[f"exponent of {quantity}"]
    return "" if exponent is None else f"{exponent:.2f}"


def workers(result: Any) -> list[str]:
    """Time and traffic of an update over one process and over several."""
    alone = [run["seconds"] for run in result["runs"]["1"]]
    rows = []
    for count, runs in result["runs"].items():
        seconds = [run["seconds"] for run in runs]
        sent = np.median([run["bytes"] for run in runs])
        rows.append([count, spread(seconds), ratio(alone, seconds), f"{sent:,.0f}"])
    header = ["processes, one core each", "seconds an update", "times as fast", "bytes sent"]
    weights, pixels = result["runs"]["1"][0]["weights"], result["size"]
    note = (
        f"An update sees {result['simulations']:,} fiducial simulations of {pixels} × {pixels} "
        f"pixels and as many above and below. The network has 2 summaries and {weights:,} weights, "
        f"whose gradient has {4 * weights:,} bytes."
    )
    return [table(header, rows), note]


def cluster(result: Any) -> list[str]:
    """What a cluster with dying workers lost, doubled or changed, and how busy it was."""
    wanted = ("killed", "failed", "lost", "doubled", "different")
    header = [f"{result['simulations']:,} simulations", "seconds", *wanted]
    row = [f"{result['workers']} workers", number(result["seconds"])]
    row += [f"{result[key]:,}" for key in wanted]
    shares = {
        "busy": "of all the time",
        "busy between the first and the last call of a process": "but for starting successors",
    }
    busy = [[text, f"{100 * result[key]:.1f} %"] for key, text in shares.items()]
    note = (
        f"One simulation waits {result['milliseconds']:g} ms, {result['batch_size']} are a task, "
        f"{100 * result['failing']:g} % fail, and a worker is killed every "
        f"{result['kill_every']:g} s. Lost, doubled and different are numbers of simulations, "
        "against a run in one process. A call that was running when its worker was killed does not "
        "count as busy."
    )
    return [table(header, [row]), table(["workers busy", "share"], busy), note]


def imnn_defaults(result: Any) -> list[str]:
    """The share of det F that fits keep by default and with other settings, and what they cost."""
    problems = result["problems"]
    settings = list(dict.fromkeys(each for fits in problems.values() for each in fits))
    rows = [
        [name, *(_fits(fits.get(each)) for each in settings)] for name, fits in problems.items()
    ]
    limits = result["limits"]
    note = (
        "For each fit, one for each seed: the share of the exact det F on fresh simulations. In "
        "brackets: updates and processor seconds of all fits together. A fit has at most "
        f"{limits['n_iterations']} updates and a patience of {limits['patience']}."
    )
    return [table(["problem", *settings], rows), note]


def _fits(fits: Any | None) -> str:
    if fits is None:
        return NOT_HERE
    shares = ", ".join(f"{fit['share']:.3f}" for fit in fits)
    updates, seconds = (sum(fit[key] for fit in fits) for key in ("updates", "processor_seconds"))
    return f"{shares} ({updates}; {number(seconds)})"


# ---- all of them -------------------------------------------------------------------------------


SECTIONS = {
    "cluster": ("Simulating on a cluster whose workers are killed", cluster),
    "imnn_defaults": ("IMNN, defaults over many problems", imnn_defaults),
    "imnn_in_memory": ("IMNN, the reference problem in memory", imnn_in_memory),
    "imnn_sources": ("IMNN, every source of simulations", imnn_sources),
    "imnn_streaming": ("IMNN, data larger than memory", imnn_streaming),
    "lfi": ("Population Monte Carlo", lfi),
    "posteriors": ("Posteriors of five tasks", posteriors),
    "rim": ("Recurrent inference machine, torch_rim's problem", rim),
    "roofline": ("Roofline of an update", roofline),
    "scaling": ("Scaling laws", scaling),
    "workers": ("IMNN over several processes", workers),
}


def section(name: str, found: Any | None) -> str:
    """The section of one benchmark, which may not have been run."""
    title, tables = SECTIONS[name]
    heading = f"## {title}\n\n`benchmarks/{name}.py`"
    if found is None:
        return f"{heading}: {NOT_HERE}.\n"
    return "\n\n".join([f"{heading}, {origin(found)}.", *tables(found["result"])]) + "\n"


def origin(found: Any) -> str:
    """The date, the machine and the versions of a result."""
    machine, alike = found["machine"], {}
    for side, packages in found["versions"].items():
        listed = ", ".join(f"{package} {version}" for package, version in packages.items())
        alike.setdefault(listed, []).append(side)
    versions = "; ".join(f"{' and '.join(sides)}: {listed}" for listed, sides in alike.items())
    memory = f"{machine['memory_gb']} GB, " if "memory_gb" in machine else ""
    return (
        f"{found['measured']}, {machine['processor']}, {machine['cores']} cores, {memory}"
        f"{machine['system']}. Versions: {versions}"
    )


def report(folder: Path) -> str:
    """The whole report, from the JSON files in a folder."""
    intro = (
        "# Results\n\n`benchmarks/report.py` makes this page from the JSON files of a run. "
        '"Ours" is this package. Programs that are compared ran in the same session and took '
        "turns. Values are medians, with the minimum and maximum in brackets. Ratios are medians "
        "over the rounds.\n"
    )
    parts = [intro]
    for name in SECTIONS:
        path = folder / f"{name}.json"
        parts.append(section(name, json.loads(path.read_text()) if path.exists() else None))
    return "\n".join(parts)


def main() -> None:
    """Writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--output", type=Path, help="standard output if left out")
    arguments = parser.parse_args()
    text = report(arguments.folder)
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        arguments.output.write_text(text)


if __name__ == "__main__":
    main()
