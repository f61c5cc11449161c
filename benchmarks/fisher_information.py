"""Repeats the measurement of a Fisher information, and counts how often its interval is right.

The summaries are linear and Gaussian, so their Fisher information is known. The two sides of a
derivative do not share their noise. For each number of summaries, of derivative simulations and of
fiducial simulations the table shows, over all repetitions,

- the mean of the parameters' forecast errors over the true one, plain and corrected;
- how often the 68 % interval of det F holds the true value;
- the error of ln det F that is stated, over the scatter of ln det F.

    python benchmarks/fisher_information.py                     1,000 repetitions of each
    python benchmarks/fisher_information.py --repetitions 200   a short look
    python benchmarks/fisher_information.py --steps             with steps that are not small
    python benchmarks/fisher_information.py --cost              the time of an evaluation

The second table has summaries whose mean is a known function of the parameter, so both the slope
and what a step adds to it are known.
"""

import argparse
import time

import numpy as np

from imnn_tf.fisher.correction import correct
from imnn_tf.fisher.groups import N_GROUPS, group_sizes, group_statistics
from imnn_tf.fisher.sample import Sample
from imnn_tf.fisher.truncation import truncation_of

FISHER = np.array([[1.0, 0.3], [0.3, 1.0]])

# Numbers of summaries, with the width of the derivatives in units of 1/√F of a parameter.
PROBLEMS = ((2, 4.0), (10, 4.0), (30, 6.0))
N_D = (10, 30, 100, 1000)
N_S = (50, 200, 1000)

# Means of a summary as a function of its parameter, with a slope of one at zero.
MEANS = {
    "x": lambda x: x,
    "sin x": np.sin,
    "sinh x": np.sinh,
    "tanh x": np.tanh,
    "x / (1 + x²)": lambda x: x / (1 + x**2),
    "x exp(−x²)": lambda x: x * np.exp(-(x**2)),
}

# Half of the narrower step; the wider one is twice as wide.
HALVES = (0.1, 0.3, 0.5, 0.7, 1.0)

# Samples that are drawn and corrected at once hold at most so many numbers.
_NUMBERS_AT_ONCE = 10**7


def gaussian_samples(rng, repetitions, n_s, n_d, n_summaries, step):
    """Samples of summaries with covariance one, whose information is `FISHER`.

    Args:
        rng: NumPy generator.
        repetitions: The number of samples.
        n_s: The number of fiducial simulations.
        n_d: The number of derivative simulations, of each parameter and side.
        n_summaries: The number of summaries.
        step: Width of the derivatives, in units of `1/√F_αα`.
    """
    fiducial, derivative = (sizes[sizes > 0] for sizes in map(group_sizes, (n_s, n_d)))
    slope = np.zeros((2, n_summaries))
    slope[:, :2] = np.linalg.cholesky(FISHER)
    size = (repetitions, len(fiducial), n_summaries)
    mean = rng.normal(size=size) / np.sqrt(fiducial)[:, None]
    scatter = np.zeros((*size, n_summaries))
    for group, n in enumerate(fiducial):
        x = rng.normal(size=(repetitions, n - 1, n_summaries))
        scatter[:, group] = np.swapaxes(x, 1, 2) @ x
    noise = rng.normal(size=(repetitions, len(derivative), *slope.shape))
    noise *= np.sqrt(2) / step / np.sqrt(derivative)[:, None, None]
    return Sample(fiducial.astype(float), mean, scatter, derivative.astype(float), slope + noise)


def repeat(repetitions, n_s, n_d, n_summaries, step):
    """What the repetitions of one measurement give, `[repetitions]` each."""
    rng = np.random.default_rng([n_summaries, n_d, n_s])
    truth, std = np.linalg.slogdet(FISHER)[1], np.sqrt(np.diag(np.linalg.inv(FISHER)))
    found, left = [], repetitions
    while left > 0:
        size = n_summaries * (n_s + 4 * N_GROUPS * n_summaries)
        count = min(left, max(1, _NUMBERS_AT_ONCE // size))
        left -= count
        result = correct(gaussian_samples(rng, count, n_s, n_d, n_summaries, step))
        low, high = result.determinant.log_interval(0.68).T
        plain = np.sqrt(np.diagonal(np.linalg.inv(result.plain), axis1=1, axis2=2))
        found.append(
            [
                (low < truth) & (truth < high),
                (plain / std).mean(axis=1),
                (result.parameter_std / std).mean(axis=1),
                result.log_det_fisher,
                result.log_det_fisher_std,
                result.determinant.log_det_plain,
            ]
        )
    return np.concatenate(found, axis=1)


def study(repetitions):
    """Prints the table."""
    truth = np.linalg.slogdet(FISHER)[1]
    print("| summaries | n_d | n_s | plain det F | plain std | corrected std | holds | error |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for n_summaries, step in PROBLEMS:
        for n_d in N_D:
            for n_s in N_S:
                found = repeat(repetitions, n_s, n_d, n_summaries, step)
                held, plain, corrected, log_det, error, log_det_plain = found
                ratio = np.nanmedian(error) / np.nanstd(log_det)
                high = np.exp(np.median(log_det_plain - truth))
                print(
                    f"| {n_summaries} | {n_d} | {n_s} | {high:.2f}"
                    f" | {plain.mean():.2f} | {np.nanmean(corrected):.3f} | {held.mean():.3f} "
                    f"| {ratio:.2f} |",
                    flush=True,
                )


def two_steps(rng, mean, half):
    """A sample of two summaries with ten derivative simulations, whose sides share their noise.

    Args:
        rng: NumPy generator.
        mean: The mean of each summary as a function of its parameter.
        half: Half of the narrower step.
    """
    sample = gaussian_samples(rng, 1, 1000, 10, 2, 1.0)
    noise = 0.3 * rng.normal(size=(10, 2, 2))
    slopes = [np.eye(2) * mean(h) / h + noise for h in (half, 2 * half)]
    slope = np.concatenate(slopes, axis=1)
    return Sample(sample.n_s, sample.mean[0], sample.scatter[0], sample.n_d, slope)


def steps(repetitions):
    """Prints how often the 68 % interval holds the truth with one step and two, and is infinite."""
    print("| mean |", " | ".join(f"half step {half}" for half in HALVES), "|")
    print("| --- |", " | ".join("---" for _ in HALVES), "|")
    for name, mean in MEANS.items():
        cells = []
        for half in HALVES:
            rng, found = np.random.default_rng(int(10 * half)), []
            for _ in range(repetitions):
                result = truncation_of(two_steps(rng, mean, half), np.full(2, 2.0))
                one = result.narrow.determinant.log_interval(0.68)
                both = result.log_interval(0.68)
                wide = (result.growth >= 1).any()
                found.append([one[0] < 0 < one[1], both[0] < 0 < both[1], wide])
            one, both, wide = np.mean(found, axis=0)
            cells.append(f"{one:.2f}, {both:.2f}, {wide:.2f}")
        print(f"| {name} |", " | ".join(cells), "|", flush=True)


def cost(rounds, n_s, width):
    """Prints the processor time of an evaluation over that of the plain statistics, in turns."""
    import keras
    import tensorflow as tf

    from imnn_tf import degeneracy, information
    from imnn_tf.fisher.evaluation import evaluation_of
    from imnn_tf.fit.passes import Summariser
    from imnn_tf.simulations import SetArguments, SimulationOptions
    from imnn_tf.simulations.fiducial import FiducialPoint
    from imnn_tf.simulations.open import open_stored

    rng = np.random.default_rng(0)
    fiducial = rng.normal(size=(n_s, 10)).astype("float32")
    derivative = rng.normal(size=(n_s, 2, 2, 10)).astype("float32")
    point = FiducialPoint(np.zeros(2), np.full(2, 0.1), tf.float32)
    for at_once in (None, n_s // 10, 1000):
        options = SimulationOptions(point, at_once=at_once)
        simulations = open_stored(options, SetArguments(fiducial, derivative))
        layers = [keras.layers.Dense(width, "leaky_relu") for _ in range(2)]
        model = keras.Sequential([keras.Input((10,)), *layers, keras.layers.Dense(2)])
        summariser = Summariser(model, 2)
        seconds = {"plain": [], "corrected": []}
        for _ in range(rounds + 1):
            started = time.process_time()
            total = summariser.statistics(simulations)
            degeneracy.require_finite(total, information.fisher_information(total), "")
            between = time.process_time()
            evaluation_of(group_statistics(summariser, simulations), n_s)
            seconds["plain"].append(between - started)
            seconds["corrected"].append(time.process_time() - between)
        plain, corrected = (np.array(seconds[key][1:]) for key in ("plain", "corrected"))
        print(
            f"at_once={at_once}: plain {np.median(plain):.4f} s, corrected "
            f"{np.median(corrected):.4f} s, ratio {np.median(corrected / plain):.2f} "
            f"(quartiles {np.quantile(corrected / plain, [0.25, 0.75]).round(2).tolist()})"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--steps", action="store_true", help="two steps that are not small")
    parser.add_argument("--cost", action="store_true", help="measure the time of an evaluation")
    parser.add_argument("--n-s", type=int, default=10_000, help="simulations of that evaluation")
    parser.add_argument("--width", type=int, default=128, help="units of a layer of its network")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    if arguments.cost:
        cost(arguments.rounds, arguments.n_s, arguments.width)
    elif arguments.steps:
        steps(arguments.repetitions)
    else:
        study(arguments.repetitions)
