"""Damages files that scripts wrote, and reads them."""

import functools
import logging
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jobs
import numpy as np
from jobs import Results
from processes import Run, digests_of, run, scratch

KINDS = ("flipped bit", "truncation", "deletion", "swap")


def read_fit(folder: Path, **given: Any) -> dict[str, Callable[[], Results]]:
    """What people read of a saved fit."""
    from imnn_tf import Estimator

    def state(**options: Any) -> Results:
        imnn = jobs.imnn_of(folder, load=True, save=False, **given, **options)
        history = {name: np.array(values) for name, values in imnn.history.items()}
        return {**history, "weights": imnn.model.get_weights(), "F": np.array(imnn.F)}

    return {
        "state": state,
        "weights": lambda: {"weights": state(weights="weights")["weights"]},
        "estimator": lambda: {"estimate": np.array(Estimator.load(folder / "fit")(jobs.TARGET))},
    }


def read_rim(folder: Path) -> dict[str, Callable[[], Results]]:
    """What people read of the checkpoints of a RIM."""
    import problems

    from rim_tf import RIM

    def weights(which: str | int) -> Results:
        machine = RIM.from_checkpoints(folder / "rim", which, score_fn=problems.score_fn)
        return {"weights": machine.get_weights()}

    return {str(which): functools.partial(weights, which) for which in ("newest", "best", 6)}


def read_records(folder: Path) -> dict[str, Callable[[], Results]]:
    """What people read of TFRecord files, and write over them."""
    from imnn_tf.simulations.sources.open import Counts, open_source

    def simulations() -> Results:
        files = sorted(folder.glob("*.tfrecords"))
        if not files:  # the user would have to pass something
            raise FileNotFoundError(f"There is no TFRecord file in {folder}.")
        source: Any = open_source("fiducial", files, Counts("n_s", None, ()), None)
        read = np.empty((source.counts[0], *source.shape), np.float32)
        source.read(np.arange(len(read)), read)
        return {"simulations": read}

    return {"simulations": simulations, "written again": lambda: jobs.records(folder)}


def go_on(job: Callable[..., Results], folder: Path) -> dict[str, Callable[[], Results]]:
    """An inference that goes on with its store."""
    return {"store": lambda: job(folder, None)}


READERS: dict[str, Callable[[Path], dict[str, Callable[[], Results]]]] = {
    "fit": lambda folder: read_fit(folder, **jobs.arrays()),
    "refine": lambda folder: read_fit(folder, n_s=100, simulator=jobs.simulator),
    "RIM, arrays": read_rim,
    "TFRecords": read_records,
    "rejection": functools.partial(go_on, jobs.rejection),
    "PMC": functools.partial(go_on, jobs.monte_carlo),
    "NPE": functools.partial(go_on, jobs.neural),
}


class Warned(logging.Handler):
    """Counts the warnings of the two packages."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0
        for name in ("imnn_tf", "rim_tf"):
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Counts one."""
        self.count += 1


def digest(results: Results) -> str:
    """All results as one word."""
    return " ".join(f"{name}:{each}" for name, each in sorted(digests_of(results).items()))


def spoil(folder: Path, random: np.random.Generator) -> str:
    """Damages one file in a folder; returns what was done, "" if nothing could be."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path, kind = files[random.integers(len(files))], KINDS[random.integers(len(KINDS))]
    content = path.read_bytes()
    if kind == "flipped bit" and content:
        at = int(random.integers(len(content)))
        path.write_bytes(
            content[:at] + bytes([content[at] ^ 1 << int(random.integers(8))]) + content[at + 1 :]
        )
    elif kind == "truncation" and content:
        path.write_bytes(content[: random.integers(len(content))])
    elif kind == "deletion":
        path.unlink()
    elif kind == "swap":
        others = [each for each in files if each != path and each.suffix == path.suffix]
        if not others:
            return ""
        other = others[random.integers(len(others))]
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)
        path = path.with_name(f"{path.name} and {other.name}")
    else:
        return ""
    return f"{kind} of {path.relative_to(folder)}"


def earlier_states(folder: Path) -> list[Path]:
    """Copies of a folder in which an earlier state, which is kept, is the newest."""
    copies = []
    for number, previous in enumerate(folder.rglob("fit.previous.npz")):
        copy = Path(shutil.copytree(folder, folder.with_name(f"{folder.name} earlier {number}")))
        place = copy / previous.relative_to(folder)
        place.replace(place.with_name("fit.npz"))
        copies.append(copy)
    for newest in sorted(folder.rglob("checkpoint_*.npz"))[1:]:
        copy = Path(shutil.copytree(folder, folder.with_name(f"{folder.name} to {newest.stem}")))
        for later in copy.rglob("checkpoint_*.npz"):
            if later.name >= newest.name:
                later.unlink()
        copies.append(copy)
    return copies


def judge(folder: Path, name: str, allowed: dict[str, list[str]], warned: Warned) -> list[str]:
    """What became of each thing that people read of a damaged folder."""
    verdicts = []
    for part, read in READERS[name](folder).items():
        before = warned.count
        try:
            found = digest(read())
        except (ValueError, OSError) as error:
            message = f"{error} {' '.join(getattr(error, '__notes__', []))}"
            named = "`fiducial`" in message or any(
                path.name in message for path in [folder, *folder.rglob("*")]
            )
            verdicts.append("detected" if named else f"a riddle: {part}: {error}")
        except Exception as error:
            verdicts.append(f"a riddle: {part}: {type(error).__name__}: {error}")
        else:
            if found == allowed[part][0]:
                verdicts.append("recovered" if warned.count > before else "harmless")
            else:
                verdicts.append("recovered" if found in allowed[part] else f"silent: {part}")
    return verdicts


def damage(name: str, times: int, seed: int) -> Counter[str]:
    """Damages what one script wrote, many times, in the middle of the script and at its end.

    A damage is silent if something is read that the script never wrote. It is harmless if all is
    read as before, and recovered if it was made anew, or an earlier state is read.
    """
    random, place = np.random.default_rng([seed, *name.encode()]), scratch()
    job = jobs.JOBS[name]
    whole = run(job, place / "whole")
    run(job, place / "half", Run(at_step=int(whole.steps * 0.7)))
    warned = Warned()
    counts: Counter[str] = Counter()
    states = [place / "whole", place / "half"]
    allowed = []
    for state in states:
        alike: dict[str, list[str]] = {}
        for each in [state, *earlier_states(state)]:
            copy = Path(shutil.copytree(each, place / "damaged folder"))
            for part, read in READERS[name](copy).items():
                try:
                    alike.setdefault(part, []).append(digest(read()))
                except (ValueError, OSError):  # what was not written yet cannot be read
                    if each == states[0]:
                        raise
                    alike.setdefault(part, []).append("")
            shutil.rmtree(copy)
        allowed.append(alike)
    while counts["damages"] < times:
        which = int(random.integers(2))
        copy = Path(shutil.copytree(states[which], place / "damaged folder"))
        done = spoil(copy, random)
        if done:
            verdicts = judge(copy, name, allowed[which], warned)
            bad = [each for each in verdicts if ":" in each]
            for each in bad:
                print(f"{name}, {states[which].name}: {done}: {each}", flush=True)
            counts["damages"] += 1
            order = ("detected", "recovered", "harmless")
            counts[bad[0].split(":")[0] if bad else min(verdicts, key=order.index)] += 1
        shutil.rmtree(copy)
    shutil.rmtree(place)
    return counts
