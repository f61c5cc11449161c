"""Fails when an update has become slower relative to its own arithmetic.

The gate divides the time of an update by the time of a yardstick: a chain of the update's heaviest
operation that does the same amount of arithmetic in the same process. The speed of the machine
affects both, but not quite alike, so every kind of processor has a record of its own: that of the
slowest host that was met, since hosts of one name differ too (AMD EPYC: 1.6 and 2.1 for the same
code). One without is compared with the largest of the others. Short runs of both alternate, and
the shortest of each counts, because other work on the machine can only add to a time. If the ratio
is too high, the measurement is repeated, up to twelve times in all.

    python benchmarks/gate.py            compares with benchmarks/gate.json
    python benchmarks/gate.py --record   writes the record of this processor
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

RECORD = Path(__file__).resolve().with_name("gate.json")
TOLERANCE = 0.2
ATTEMPTS, PIECES = 12, 40


class Verdict(NamedTuple):
    """The result for one kind of update."""

    measured: float  # time of an update over the time of its arithmetic
    recorded: float  # the ratio in gate.json, of this processor or the largest
    limit: float  # the largest ratio that passes

    @property
    def passes(self) -> bool:
        """Whether the update is fast enough."""
        return self.measured <= self.limit


def ratio(updates: Sequence[float], yardsticks: Sequence[float]) -> float:
    """The shortest time of an update over the shortest time of its arithmetic."""
    return min(updates) / min(yardsticks)


def verdict(updates: Sequence[float], yardsticks: Sequence[float], recorded: float) -> Verdict:
    """Compares the ratio of updates to their arithmetic with the recorded ratio."""
    return Verdict(ratio(updates, yardsticks), recorded, (1 + TOLERANCE) * recorded)


class Contest(NamedTuple):
    """An update and its yardstick."""

    update: Callable[[], float]  # runs several updates, returns the seconds of one
    yardstick: Callable[[], float]  # runs the yardstick, returns the seconds of one update's work


def attempt(contest: Contest, updates: list[float], yardsticks: list[float]) -> None:
    """Adds alternating measurements of both to the lists."""
    for _ in range(PIECES):
        updates.append(contest.update())
        yardsticks.append(contest.yardstick())


def judge(contest: Contest, recorded: float) -> Verdict:
    """Measures until the update passes or all attempts are used up."""
    updates: list[float] = []
    yardsticks: list[float] = []
    for _ in range(ATTEMPTS):
        attempt(contest, updates, yardsticks)
        found = verdict(updates, yardsticks, recorded)
        if found.passes:
            break
    return found


def record(contest: Contest) -> float:
    """The ratio that later measurements are compared with."""
    updates: list[float] = []
    yardsticks: list[float] = []
    for _ in range(ATTEMPTS):
        attempt(contest, updates, yardsticks)
    return ratio(updates, yardsticks)


def recorded_ratios(records: Mapping[str, Any], processor: str) -> dict[str, float]:
    """The ratio of each contest on a processor; the largest of all if it has no record.

    Args:
        records: The record of each processor by its name, with its `ratios` by contest.
        processor: The name of the processor.
    """
    if processor in records:
        return records[processor]["ratios"]
    ratios = [each["ratios"] for each in records.values()]
    return {name: max(each[name] for each in ratios) for name in ratios[0]}


# ---- the contests --------------------------------------------------------------------------


def against(work: Any, update: Callable[[int], float], count: int) -> Contest:
    """Sets updates, `count` at a time, against the heaviest operation in their graph."""
    import arithmetic

    update(2)  # compiles
    operation = arithmetic.yardstick(work.heaviest)
    links = max(1, round(count * work.flop / operation.work))
    scale = work.flop / (links * operation.work)
    return Contest(lambda: update(count) / count, lambda: operation.seconds(links) * scale)


def imnn_contest() -> Contest:
    """The reference problem of `imnn_in_memory.py`, with validation at every update."""
    import time

    import arithmetic
    from imnn_in_memory import reference_fit

    from imnn_tf.fit.session import FitOptions

    imnn = reference_fit(verbose=False)
    # Time the compiled loop alone, because the overhead of a call of `fit` would hide the updates.
    loop, updates_done = imnn._session.loop(FitOptions(updates_per_call=10)), 0

    def update(count: int) -> float:
        nonlocal updates_done
        started = time.perf_counter()
        done, finite, _ = loop.run(count, updates_done, 0, None)
        seconds = time.perf_counter() - started
        if done != count or not finite:
            raise RuntimeError(f"Only {done} of {count} updates were done.")
        updates_done += done
        return seconds

    return against(arithmetic.count_update(imnn), update, 10)


def rim_contest() -> Contest:
    """A small recurrent inference machine on small fields."""
    import arithmetic
    import denoising
    import tensorflow as tf

    rim, batch = denoising.small_rim(size=32, steps=4), denoising.noisy_fields(16, size=32)

    def update(count: int) -> float:
        return denoising.updates(rim, batch, count)

    update(1)  # compiles the model with an optimiser
    y, x = (tf.constant(part) for part in batch)
    work = arithmetic.count(lambda y, x: rim.train_step(((y,), x)), y, x)
    return against(work, update, 3)


CONTESTS = {"IMNN": imnn_contest, "RIM": rim_contest}


def main() -> int:
    """Compares or records the ratios. The exit status is 0 if all updates pass."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="write new ratios to gate.json")
    arguments = parser.parse_args()
    import machine

    records, here = json.loads(RECORD.read_text()), machine.describe()
    if arguments.record:
        ratios = {name: record(make()) for name, make in CONTESTS.items()}
        found = {"machine": here, "versions": machine.versions(), "ratios": ratios}
        records[here["processor"]] = found
        RECORD.write_text(json.dumps(records, indent=1) + "\n")
        return 0
    recorded = recorded_ratios(records, here["processor"])
    status = 0
    for name, make in CONTESTS.items():
        found = judge(make(), recorded[name])
        print(
            f"{name}: an update takes {found.measured:.2f} times its arithmetic; recorded "
            f"{found.recorded:.2f}, limit {found.limit:.2f}",
            "passes" if found.passes else "FAILS",
            sep=": ",
        )
        status |= not found.passes
    if status:
        print("If an update must be slower, say why and run `python benchmarks/gate.py --record`.")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
