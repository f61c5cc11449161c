"""Posteriors of five tasks against reference samples, beside published results and sbi.

The tasks, their ten observations and the reference posteriors are those of the benchmark of
Lueckmann et al. (2021), arXiv:2101.04653; see `posterior_tasks.py`. The measure is its C2ST, the
accuracy of a classifier between 10,000 samples of a posterior and of the reference: 0.5 is perfect
and 1 is useless. Which boundary a classifier finds depends on its seed: the same samples of two
moons gave 0.55 to 0.67. So the measure is the mean over several seeds where training takes seconds,
and of one seed where it takes half a minute, in more than five dimensions.

A budget is the number of simulations in all: for each observation with population Monte Carlo,
which moves to it, and for all ten together with the other methods.

Rejection and population Monte Carlo compare estimates, as many as there are parameters. These are
the data where the numbers agree, and for slcp the sample means, log standard deviations and the
inverse hyperbolic tangent of the correlation of its four draws, which are sufficient. The metric is
the inverse covariance of the noise of the estimates, from pairs of simulations at the same draws
from the prior; a tenth of the budget goes into these pairs.

    python benchmarks/posteriors.py --sbibm path/to/its/python --sbi path/to/its/python

Population Monte Carlo has one setting for all tasks: a particle for every 100 simulations, three
times as many first draws, and a fifth of local kernels.

Results are written after each observation. `--keep 1` keeps those that the file has, and runs what
is missing. `--methods` and `--tasks` choose what to run.
"""

import csv
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import FOLDER, finish, options
from posterior_tasks import TASKS, Task, observation, package_files, reference

SAMPLES = 10_000
MOST_PARAMETERS = 5  # up to this dimension a posterior is judged by several classifiers
METHODS = ("rejection", "PMC", "NeuralPosterior", "sbi NPE")
# The published algorithms that are shown beside ours.
PUBLISHED = ("REJ-ABC", "SMC-ABC", "NPE", "SNPE")


class Setting(NamedTuple):
    """What one method is run on.

    Attributes:
        task: The task.
        budget: The number of simulations.
        numbers: The numbers of the observations.
        data: The observations, `(observations, data)`.
        seed: Seed of everything random.
    """

    task: Task
    budget: int
    numbers: list[int]
    data: np.ndarray
    seed: int


# ---- estimates and their metric ------------------------------------------------------------


def as_they_are(data: np.ndarray) -> np.ndarray:
    """The data, `(n, parameters)`."""
    return data


def gaussian_statistics(data: np.ndarray) -> np.ndarray:
    """Means, log standard deviations and the transformed correlation of four pairs, `(n, 5)`."""
    pairs = data.reshape(-1, 4, 2)
    mean, std = pairs.mean(axis=1), pairs.std(axis=1)
    std = np.maximum(std, 1e-9)
    correlation = ((pairs - mean[:, None]) / std[:, None]).prod(axis=2).mean(axis=1)
    return np.column_stack([mean, np.log(std), np.arctanh(correlation.clip(-1 + 1e-9, 1 - 1e-9))])


def pilot(setting: Setting) -> tuple[Callable[..., Any], np.ndarray, np.ndarray, np.ndarray]:
    """The estimator, its metric, and the draws from the prior with estimates that it was made of.

    Returns:
        A function from data to estimates, the inverse covariance of the noise of estimates,
        parameters, `(n, parameters)`, and their estimates. Half of the simulations of the pilot are
        not among these, because a draw from the prior counts once.
    """
    task, rng = setting.task, np.random.default_rng([setting.seed, setting.budget])
    estimate = as_they_are if task.data == task.parameters else gaussian_statistics
    theta = task.sample_prior(setting.budget // 20, rng)
    pair = [estimate(task.simulator(theta, rng)) for _ in range(2)]
    noise = pair[0] - pair[1]
    return estimate, np.linalg.inv(noise.T @ noise / 2 / len(noise)), theta, pair[0]


# ---- one function for each family of methods ------------------------------------------------


def rejection(setting: Setting, **_: Any) -> Iterator[tuple[str, int, Any]]:
    """The nearest hundredth, and with adjustment the nearest tenth, of draws from the prior."""
    from imnn_tf.lfi import ApproximateBayesianComputation

    estimate, metric, theta, known = pilot(setting)
    for name, share in (("rejection", 0.01), ("rejection, adjusted", 0.1)):
        abc = ApproximateBayesianComputation(
            setting.data,
            setting.task.prior(),
            metric,
            estimate,
            setting.task.simulator,
            seed=setting.seed,
            progress=False,
        )
        abc.add(theta, known)
        # The second simulations of the pairs count towards the budget.
        abc(setting.budget - 2 * len(theta))
        nearest = max(50, int(share * len(abc.distances)))
        abc.accept_reject(np.sort(abc.distances, axis=0)[nearest])
        for i, number in enumerate(setting.numbers):
            yield name, number, abc.result(i, adjust=name != "rejection")


def population_monte_carlo(setting: Setting, **_: Any) -> Iterator[tuple[str, int, Any]]:
    """Population Monte Carlo, a budget for each observation, with and without adjustment."""
    from imnn_tf.lfi import PopulationMonteCarlo

    estimate, metric, theta, known = pilot(setting)
    particles = max(100, setting.budget // 100)
    for i, number in enumerate(setting.numbers):
        pmc = PopulationMonteCarlo(
            setting.data[i : i + 1],
            setting.task.prior(),
            metric,
            estimate,
            setting.task.simulator,
            seed=100 * setting.seed + number,
            progress=False,
            local_kernels=0.2,
        )
        pmc.add(theta, known)
        # Simulations that were added count as initial draws, the other half of the pairs do not.
        pmc(particles, 3 * particles, max_simulations=setting.budget - len(theta))
        for name, adjust in (("PMC", False), ("PMC, adjusted", True)):
            yield name, number, pmc.result(adjust=adjust)


def neural_posterior(setting: Setting, costs: list, **_: Any) -> Iterator[tuple[str, int, Any]]:
    """Neural posterior estimation of this package, on the data as they are."""
    from imnn_tf.lfi import NeuralPosterior

    npe = NeuralPosterior(
        setting.data, setting.task.prior(), None, setting.task.simulator, seed=setting.seed
    )
    started = time.perf_counter(), time.process_time()
    npe(setting.budget, progress=False)
    seconds = time.perf_counter() - started[0], time.process_time() - started[1]
    costs.append(cost("NeuralPosterior", setting, *seconds))
    for i, number in enumerate(setting.numbers):
        yield "NeuralPosterior", number, npe.result(i, n_samples=SAMPLES)


def sbi(setting: Setting, costs: list, arguments: Any) -> Iterator[tuple[str, int, Any]]:
    """Neural posterior estimation of sbi, with its neural spline flow and its defaults."""
    from peer import Peer

    if not arguments.sbi:
        return
    peer = Peer(arguments.sbi, str(FOLDER / "posteriors_sbi.py"), str(arguments.threads))
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "samples.npz")
        seconds = peer.ask(
            "npe",
            task=setting.task.name,
            budget=setting.budget,
            observations=setting.numbers,
            seed=setting.seed,
            draws=SAMPLES,
            path=path,
            files=arguments.sbibm,
        )
        costs.append(cost("sbi NPE", setting, *seconds.values()))
        with np.load(path) as samples:
            drawn = {number: samples[str(number)] for number in setting.numbers}
    peer.close()
    for number, rows in drawn.items():
        yield "sbi NPE", number, rows


def cost(method: str, setting: Setting, seconds: float, processor: float) -> dict[str, Any]:
    """What a training took, as the results hold it."""
    where = {"method": method, "task": setting.task.name, "budget": setting.budget}
    return {**where, "seconds": seconds, "processor seconds": processor}


FAMILIES = {
    "rejection": rejection,
    "PMC": population_monte_carlo,
    "NeuralPosterior": neural_posterior,
    "sbi NPE": sbi,
}


# The names of the results of a family.
METHODS_OF = {
    family: {family, f"{family}, adjusted"} if family in ("rejection", "PMC") else {family}
    for family in FAMILIES
}


# ---- samples for the classifier ---------------------------------------------------------------


def smoothed(posterior: Any, rng: np.random.Generator) -> np.ndarray:
    """10,000 draws from a kernel density of weighted samples, on the real line within the bounds.

    A classifier recognises samples that are repeated. The package sbibm draws from a kernel density
    too, if asked to, with a bandwidth by cross-validation. Here the kernel has the shape of the
    covariance, and the centres move towards the mean so that the covariance stays (West 1993,
    J. R. Stat. Soc. B 55, 409). 10,000 equal weights need none of it.
    """
    from scipy.special import expit, logit

    if len(posterior) >= SAMPLES and np.ptp(posterior.weights) == 0:
        return posterior.samples
    low, width = posterior.low, posterior.high - posterior.low
    bounded = np.isfinite(width).all()
    points = posterior.samples
    if bounded:
        points = logit(((points - low) / width).clip(1e-12, 1 - 1e-12))
    mean = posterior.weights @ points
    root = np.linalg.cholesky(np.cov(points, rowvar=False, aweights=posterior.weights))
    white = np.linalg.solve(root, (points - mean).T).T
    h = bandwidth(white, posterior.weights, rng)
    chosen = white[rng.choice(len(white), size=SAMPLES, p=posterior.weights)]
    drawn = (chosen + h * rng.normal(size=chosen.shape)) / np.sqrt(1 + h**2)
    drawn = mean + drawn @ root.T
    return low + width * expit(drawn) if bounded else drawn


def bandwidth(white: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> float:
    """The bandwidth with the largest likelihood of 300 samples, each left out of the density."""
    held = rng.choice(len(white), size=300, p=weights)
    squares = ((white[held, np.newaxis] - white) ** 2).sum(axis=2)
    mass = np.where(squares > 0, weights, 0)  # without itself, and what equals it
    grid = np.geomspace(0.005, 1, 25)
    scores = []
    for h in grid:
        shrunk = mass * np.exp(-squares / (2 * h**2))
        scores.append(np.log(shrunk.sum(axis=1) + 1e-300).mean() - white.shape[1] * np.log(h))
    return float(grid[np.argmax(scores)])


# ---- running ------------------------------------------------------------------------------


def published(tasks: tuple[str, ...]) -> list[dict[str, Any]]:
    """The published accuracies of these tasks, one row for each algorithm and budget."""
    with (FOLDER / "posteriors_published.csv").open() as file:
        lines = [line for line in file if not line.startswith("#")]
    rows = []
    for row in csv.DictReader(lines):
        if row["task"] in tasks and row["algorithm"] in PUBLISHED:
            for key, budget in (("1e3", 1_000), ("1e4", 10_000), ("1e5", 100_000)):
                where = {"task": row["task"], "method": row["algorithm"], "budget": budget}
                rows.append({**where, "c2st": float(row[key])})
    return rows


def versions() -> dict[str, dict[str, str]]:
    """Versions of the packages in this process."""
    import machine

    return {"ours": machine.versions()}


def main() -> None:
    """Runs the methods chosen on the tasks chosen, smallest budgets first."""
    full = {
        "tasks": tuple(TASKS),
        "methods": METHODS,
        "budgets": (1_000, 10_000, 100_000),
        "observations": 10,
        "classifiers": 3,
        "seed": 1,
        "threads": 1,
        "keep": 0,
    }
    quick = {"tasks": ("two_moons",), "budgets": (1_000,), "observations": 1}
    arguments = options(__doc__, "posteriors", full, quick, peers=("sbibm", "sbi"))
    if not arguments.sbibm:
        sys.exit("--sbibm must name the Python of the environment with the package's files.")
    files, output = package_files(arguments.sbibm), arguments.output
    found: dict[str, Any] = {"runs": [], "costs": []}
    if arguments.keep and output.exists():
        found = json.loads(output.read_text())["result"]
    found["published"] = published(tuple(TASKS))
    known = {
        (run["method"], run["task"], run["budget"], run["observation"]) for run in found["runs"]
    }
    for budget in sorted(arguments.budgets):
        for name in arguments.tasks:
            for family in arguments.methods:
                numbers = [
                    number
                    for number in range(1, arguments.observations + 1)
                    if METHODS_OF[family]
                    - {m for m, *rest in known if rest == [name, budget, number]}
                ]
                if not numbers:
                    continue
                data = np.stack([observation(files, name, number) for number in numbers])
                setting = Setting(TASKS[name], budget, numbers, data, arguments.seed)
                judge(setting, FAMILIES[family], files, found, arguments)
    finish("posteriors", output, versions(), found)


def judge(setting: Setting, family: Any, files: Path, found: Any, arguments: Any) -> None:
    """Runs one family of methods, and writes each accuracy when it is known."""
    from imnn_tf.lfi import Posterior, calibration

    for method, number, posterior in family(setting, costs=found["costs"], arguments=arguments):
        where = {"method": method, "task": setting.task.name, "budget": setting.budget}
        where["observation"] = number
        if any(where.items() <= run.items() for run in found["runs"]):
            continue  # it was kept, and the other results of its family are missing
        right = reference(files, setting.task.name, number)
        if isinstance(posterior, Posterior):
            posterior = smoothed(posterior, np.random.default_rng(number))
        seeds = arguments.classifiers if right.shape[1] <= MOST_PARAMETERS else 1
        each = [calibration.c2st(posterior, right, seed=number + 100 * k) for k in range(seeds)]
        found["runs"].append({**where, "c2st": float(np.mean(each)), "each": each})
        finish("posteriors", arguments.output, versions(), found)


if __name__ == "__main__":
    main()
