"""Kills scripts at random moments and at operations on files, and runs them again."""

import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
from jobs import JOBS
from processes import Ended, Run, run, scratch

# Which files there are depends on when they were written, and one state is kept beside the newest.
_DEPENDS_ON_TIME = re.compile(r"shard-\d+\.npz|probe-\d+\.npz|fit\.previous\.npz")


def names_in(folder: Path) -> set[str]:
    """Every file and folder of a script, hidden ones too."""
    paths = (str(path.relative_to(folder)) for path in folder.rglob("*"))
    return {path for path in paths if not _DEPENDS_ON_TIME.search(path)}


def undisturbed(name: str, place: Path) -> tuple[Ended, set[str]]:
    """What a script finds, and the files that it leaves, if nothing happens."""
    folder = place / f"undisturbed {name}"
    ended = run(JOBS[name], folder)
    if ended.digests is None:
        raise RuntimeError(f"{name} failed without a kill: {ended.error}")
    return ended, names_in(folder)


def torture(name: str, kills: int, seed: int) -> Counter[str]:
    """Kills one script many times.

    Args:
        name: The script.
        kills: The number of kills.
        seed: Decides the moments.

    Returns:
        The number of kills, of scripts that were run to their end, and of each kind of failure.
    """
    random, place = np.random.default_rng([seed, *name.encode()]), scratch()
    whole, names = undisturbed(name, place)
    counts: Counter[str] = Counter()
    while counts["kills"] < kills:
        folder, told = place / "killed", []
        # Every fourth script is killed again when it goes on.
        for _ in range(2 if random.random() < 0.25 else 1):
            if random.random() < 0.6:
                how = Run(at_step=int(random.integers(1, whole.steps + 1)))
            else:
                how = Run(after=random.uniform(0, whole.seconds))
            ended = run(JOBS[name], folder, how)
            told.append(f"{how} {ended.error}")
            counts["kills"] += ended.killed
            counts["processes left"] += len(ended.left)
            if ended.error:
                counts["not started again"] += 1
        ended = run(JOBS[name], folder)
        counts["scripts"] += 1
        counts["processes left"] += len(ended.left)
        if ended.digests is None:
            counts["not started again"] += 1
        elif ended.digests != whole.digests:
            counts["other results"] += 1
            assert whole.digests is not None
            told += [each for each in whole.digests if whole.digests[each] != ended.digests[each]]
        elif names_in(folder) != names:
            counts["files left or missing"] += 1
            told.append(str(names_in(folder) ^ names))
        else:
            told = []
        if told:
            print(f"{name}: {told} {ended.error}", flush=True)
        shutil.rmtree(folder)
    shutil.rmtree(place)
    return counts
