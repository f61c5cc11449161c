"""Measures how time and memory grow with each size, fits power laws and draws them.

The subjects are an update of the IMNN, with the whole batch and with a fixed number of simulations
at once; rejection and population Monte Carlo; and an update of the RIM. A time is the best of
several. The memory is the peak, less the memory before the run, which includes the simulations.
The exponents are fitted to the upper half of each range.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import denoising
import keras
import machine
import numpy as np
from common import FOLDER, finish, options
from peer import Peer, serve

import imnn_tf
from imnn_tf import lfi as imnn_lfi

WIDTH, STEP, AT_ONCE = 128, 0.1, 250

# The sizes that are kept while one grows, and the values of the one that grows: quick, full.
IMNN = {"n_s": 1000, "n_params": 2, "n_summaries": 16, "input size": 32}
RIM = {"T": 4, "batch": 8, "image size": 32}
POSTERIOR = {"draws": 100_000, "targets": 1}
POPULATION = {"particles": 1000, "targets": 1}
RANGES: dict[str, dict[str, tuple[list[int], list[int]]]] = {
    "IMNN": {
        "n_s": ([250, 500, 1000], [500, 1000, 2000, 4000, 8000, 16000]),
        "n_params": ([1, 2, 4], [1, 2, 4, 8, 16]),
        "n_summaries": ([4, 8, 16], [4, 8, 16, 32, 64]),
        "input size": ([32, 64, 128], [32, 128, 512, 1024, 2048]),
    },
    "ABC": {
        "draws": ([10_000, 100_000], [10_000, 30_000, 100_000, 300_000, 1_000_000]),
        "targets": ([1, 4], [1, 2, 4, 8, 16]),
    },
    "PMC": {
        "particles": ([100, 200, 400], [250, 500, 1000, 2000, 4000]),
        "targets": ([1, 2, 4], [1, 2, 4, 8]),
    },
    "RIM": {
        "T": ([2, 4], [1, 2, 4, 8]),
        "batch": ([2, 8], [2, 8, 32, 64]),
        "image size": ([16, 32], [16, 32, 64, 128]),
    },
}


# Updates in one call of `fit`, so that the overhead of a call does not count.
UPDATES = 5


# ---- what is measured: each returns a function to time --------------------------------------


def imnn_update(sizes: dict[str, int], streamed: bool) -> Callable[[], Any]:
    """Updates of an IMNN with two hidden layers, without a validation set."""
    n_s, n_params, n_summaries, size = sizes.values()
    random = np.random.default_rng(0)
    fiducial = random.standard_normal((n_s, size), dtype="float32")
    templates = random.standard_normal((n_params, size), dtype="float32")
    half = np.float32(STEP / 2) * templates
    derivative = np.empty((n_s, 2, n_params, size), "float32")
    for side, shift in enumerate((-half, half)):
        np.add(fiducial[:, None], shift, out=derivative[:, side])
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(WIDTH, activation="leaky_relu") for _ in range(2)]
    imnn = imnn_tf.IMNN(
        θ_fid=np.zeros(n_params),
        δθ=np.full(n_params, STEP),
        fiducial=fiducial,
        derivative=derivative,
        model=keras.Sequential([keras.Input((size,)), *layers, keras.layers.Dense(n_summaries)]),
        at_once=AT_ONCE if streamed else None,
        verbose=False,
    )
    return lambda: imnn.fit(UPDATES, steps_per_execution=UPDATES)


def rim_update(sizes: dict[str, int]) -> Callable[[], Any]:
    """Updates of a small RIM."""
    steps, batch, size = sizes.values()
    rim, data = denoising.small_rim(size, steps), denoising.noisy_fields(batch, size)
    return lambda: denoising.updates(rim, data, UPDATES)


def inference(kind: Any, targets: int) -> Any:
    """An inference of the given class on the problem of `lfi.py`, for several targets."""
    from lfi import FISHER, Simulator, estimate, gaussian_prior

    random = np.random.default_rng(37)
    return kind(
        random.normal(3, np.sqrt(2), (targets, 10)),
        gaussian_prior("float32"),
        FISHER,
        estimate,
        Simulator(random),
        seed=0,
        progress=False,
    )


def rejection(sizes: dict[str, int]) -> Callable[[], Any]:
    """Rejection: draws simulations and accepts those within a distance of 1."""
    draws, targets = sizes.values()

    def run() -> None:
        abc = inference(imnn_lfi.ApproximateBayesianComputation, targets)
        abc.ABC(draws)
        abc.accept_reject(1.0)

    return run


def population(sizes: dict[str, int]) -> Callable[[], Any]:
    """Population Monte Carlo until all particles are within a distance of 2."""
    particles, targets = sizes.values()

    def run() -> None:
        pmc = inference(imnn_lfi.PopulationMonteCarlo, targets)
        pmc(particles, particles, percentile=50, tolerance=2.0)

    return run


# The fixed sizes of each subject, and the functions that make its curves.
SUBJECTS: dict[str, tuple[dict[str, int], dict[str, Callable[..., Callable[[], Any]]]]] = {
    "IMNN": (
        IMNN,
        {
            "whole batch": lambda sizes: imnn_update(sizes, False),
            f"{AT_ONCE} at once": lambda sizes: imnn_update(sizes, True),
        },
    ),
    "ABC": (POSTERIOR, {"rejection": rejection}),
    "PMC": (POPULATION, {"population": population}),
    "RIM": (RIM, {"update": rim_update}),
}
TITLES = {
    "IMNN": "an update of the IMNN",
    "ABC": "rejection ABC",
    "PMC": "population Monte Carlo",
    "RIM": "an update of the RIM",
}


# ---- how it is measured --------------------------------------------------------------------


def measure(subject: str, curve: str, sizes: dict[str, int], seconds: float) -> tuple[float, float]:
    """The best time of several runs, in seconds, and the peak memory, in megabytes.

    Runs are repeated for about `seconds`. Call this in a new process, because TensorFlow keeps
    memory that it has freed, which hides the next peak. The memory includes that of compilation,
    some tens of megabytes.
    """
    run, best = SUBJECTS[subject][1][curve](sizes), np.inf
    peak = machine.PeakMemory()
    run()  # compiles
    started = time.perf_counter()
    for repeat in range(20):
        if repeat > 1 and time.perf_counter() - started > seconds:
            break
        before = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - before)
    return best / (UPDATES if subject in ("IMNN", "RIM") else 1), peak.bytes() / 1e6


def measure_apart(**arguments: Any) -> tuple[float, float]:
    """The result of `measure` in a new process."""
    peer = Peer(sys.executable, str(Path(__file__).resolve()), "--worker")
    measured = peer.ask("measure", **arguments)
    peer.close()
    return measured


def exponent(values: list[int], measured: list[float]) -> float | None:
    """Exponent of a power law fitted to the upper half of the range; `None` if a value is zero."""
    x, y = np.array(values, float), np.array(measured)
    upper = x >= np.sqrt(x.min() * x.max()) * (1 - 1e-9)
    upper[-2:] = True  # a line needs two points
    if not (y[upper] > 0).all():
        return None
    return float(np.polyfit(np.log(x[upper]), np.log(y[upper]), 1)[0])


def follow(subject: str, axis: str, values: list[int], seconds: float) -> dict[str, Any]:
    """Measures the curves of a subject while the size `axis` takes `values`."""
    base, curves = SUBJECTS[subject]
    followed = []
    for curve in curves:
        where = {"subject": subject, "curve": curve, "seconds": seconds}
        points = [measure_apart(**where, sizes={**base, axis: value}) for value in values]
        times, megabytes = (list(column) for column in zip(*points, strict=True))
        followed.append(
            {
                "name": curve,
                "seconds": times,
                "megabytes": megabytes,
                "exponent of seconds": exponent(values, times),
                "exponent of megabytes": exponent(values, megabytes),
            }
        )
    fixed = {key: value for key, value in base.items() if key != axis}
    law = {"subject": TITLES[subject], "axis": axis, "fixed": fixed, "values": values}
    return {**law, "curves": followed}


# ---- figures -------------------------------------------------------------------------------


def draw(laws: list[dict[str, Any]], path: Any) -> None:
    """Draws the scaling of a subject: time above, memory below, a column for each size."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import matplotlib.ticker

    figure, axes = plt.subplots(
        2, len(laws), figsize=(3.4 * len(laws), 5.6), squeeze=False, layout="constrained"
    )
    for column, law in enumerate(laws):
        for row, (quantity, unit, label) in enumerate(
            (("seconds", 1e3, "time [ms]"), ("megabytes", 1, "peak memory [MB]"))
        ):
            ax = axes[row, column]
            for curve in law["curves"]:
                power = curve[f"exponent of {quantity}"]
                shown = "" if power is None else f": power {power:.2f}"
                measured = unit * np.array(curve[quantity])
                ax.plot(law["values"], measured, "o-", label=f"{curve['name']}{shown}")
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            for which in ("major", "minor"):
                formatter = mpl.ticker.LogFormatter(minor_thresholds=(1.5, 0.5))
                getattr(ax.yaxis, f"set_{which}_formatter")(formatter)
            ax.tick_params(axis="y", which="both", labelsize=7)
            ax.set_xticks(law["values"], [f"{value:,}" for value in law["values"]], fontsize=7)
            ax.xaxis.minorticks_off()
            ax.set_xlabel(law["axis"])
            ax.set_ylabel(label if column == 0 else "")
            ax.grid(alpha=0.3)
            ax.legend(fontsize=7)
        fixed = ", ".join(f"{key} {value:,}" for key, value in law["fixed"].items())
        axes[0, column].set_title(f"at {fixed}", fontsize=7)
    figure.suptitle(laws[0]["subject"])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Measures and draws the scaling of all subjects."""
    full = {"seconds": 0.5, "subjects": tuple(RANGES)}
    arguments = options(
        __doc__ or "", "scaling", full, {"seconds": 0.1, "subjects": ("ABC", "RIM")}
    )
    figures = arguments.output.parent if arguments.quick else FOLDER.parent / "docs" / "figures"
    result = []
    for subject in arguments.subjects:
        laws = [
            follow(subject, axis, ranges[0 if arguments.quick else 1], arguments.seconds)
            for axis, ranges in RANGES[subject].items()
        ]
        draw(laws, figures / f"scaling_{subject.lower()}.png")
        result += laws
    finish("scaling", arguments.output, {"ours": machine.versions()}, result)


if __name__ == "__main__":
    if "--worker" in sys.argv:
        serve({"measure": measure})
    else:
        main()
