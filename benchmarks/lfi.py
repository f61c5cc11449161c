"""Compares population Monte Carlo with imnn-tf 0.2.0 and pyABC at the same final tolerance.

The problem is to infer the mean and variance of ten Gaussian draws. The data are drawn from
N(3, 2), and the prior is U(-10, 10) x U(0.1, 10). The estimator is the sample mean and variance,
and the metric of distances is F = diag(10, 5). The exact posterior, given that the distance is
below the tolerance, is known by quadrature.

The other packages run if the interpreters of their environments are given. All take turns, seed by
seed:

    python benchmarks/lfi.py --predecessor path/to/its/python --pyabc path/to/its/python

The results for each tool are:

- the simulations per effective sample. The number of effective samples follows from the error of
  the posterior mean over the seeds and, in brackets, from the weights;
- the overhead: the time not spent in the simulator, in microseconds per simulation;
- the root mean square errors of the posterior means and standard deviations, in posterior
  standard deviations.
"""

import contextlib
import sys
import time
from pathlib import Path

import numpy as np

LOW, HIGH = np.array([-10.0, 0.1]), np.array([10.0, 10.0])
FISHER = np.diag([10.0, 5.0])
DATA = np.random.RandomState(37).normal([3.0], np.sqrt([2.0]), (10, 1)).T


def estimate(data):
    """Mean and variance of each row."""
    return np.stack([np.mean(data, axis=1), np.var(data, axis=1)], axis=1)


class Simulator:
    """Draws ten numbers for each row of parameters, and counts simulations and seconds."""

    def __init__(self, rng):
        self.rng, self.calls, self.seconds = rng, 0, 0.0

    def __call__(self, theta):
        """Data `[n, 10]` from parameters `[n, 2]`."""
        start = time.perf_counter()
        theta = np.asarray(theta, dtype=float)
        data = self.rng.normal(theta[:, :1], np.sqrt(theta[:, 1:]), (len(theta), 10))
        self.calls += len(theta)
        self.seconds += time.perf_counter() - start
        return data


def gaussian_prior(dtype):
    """The prior as a TensorFlow Probability distribution."""
    import tensorflow_probability as tfp

    low, high = LOW.astype(dtype), HIGH.astype(dtype)
    return tfp.distributions.Blockwise(
        [tfp.distributions.Uniform(a, b) for a, b in zip(low, high, strict=True)]
    )


def ours(simulator, particles, tolerance, seed, percentile, recycle):
    """Samples and weights from this package."""
    from imnn_tf.lfi import PopulationMonteCarlo

    pmc = PopulationMonteCarlo(
        DATA,
        gaussian_prior("float32"),
        FISHER,
        estimate,
        simulator,
        seed=seed,
        progress=False,
        recycle=recycle,
    )
    pmc(particles, particles, percentile=percentile, tolerance=tolerance)
    result = pmc.result()
    return result.samples, result.weights


def imnn02(simulator, particles, tolerance, seed):
    """Samples and weights from imnn-tf 0.2.0, stopped when it reaches the tolerance."""
    from imnn_tf.lfi import PopulationMonteCarlo

    class ReachedError(Exception):
        pass

    def until_reached(theta):
        distances = pmc.distances
        if distances.shape == (1, particles) and distances.max() < tolerance:
            raise ReachedError
        return simulator(theta)

    np.random.seed(seed)  # noqa: NPY002 - its only generator
    pmc = PopulationMonteCarlo(
        target_data=DATA,
        prior=gaussian_prior("float64"),
        Fisher=FISHER,
        get_estimate=estimate,
        simulator=until_reached,
    )
    with contextlib.suppress(ReachedError):
        pmc(draws=particles, initial_draws=particles, criterion=1e-9, tqdm_notebook=False)
    # imnn-tf 0.2.0 ignores the weights in its own results and plots.
    return pmc.parameters[0], np.ones(particles)


def pyabc(simulator, particles, tolerance, seed):
    """Samples and weights from pyABC, in one process, with its history in memory."""
    import logging

    from pyabc import ABCSMC, RV, Distribution, QuantileEpsilon, SingleCoreSampler

    logging.getLogger("ABC").setLevel("ERROR")
    np.random.seed(seed)  # noqa: NPY002 - its only generator
    target = estimate(DATA)[0]
    metric = np.sqrt(np.diag(FISHER))

    class Shrinking(QuantileEpsilon):
        def __call__(self, t):
            return max(super().__call__(t), tolerance)

    def model(theta):
        data = simulator(np.array([[theta["mean"], theta["variance"]]]))
        return {"x": estimate(data)[0]}

    def distance(x, x0):
        return float(np.linalg.norm((x["x"] - x0["x"]) * metric))

    width = HIGH - LOW
    prior = Distribution(
        mean=RV("uniform", LOW[0], width[0]), variance=RV("uniform", LOW[1], width[1])
    )
    smc = ABCSMC(
        model, prior, distance, particles, eps=Shrinking(alpha=0.5), sampler=SingleCoreSampler()
    )
    smc.new("sqlite://", {"x": target})
    history = smc.run(minimum_epsilon=tolerance)
    samples, weights = history.get_distribution()
    return samples[["mean", "variance"]].to_numpy(), np.asarray(weights)


TOOLS = {
    "imnn-tf, all generations": lambda *a: ours(*a, percentile=50, recycle=True),
    "imnn-tf, last generation": lambda *a: ours(*a, percentile=50, recycle=False),
    "imnn-tf, percentile 75": lambda *a: ours(*a, percentile=75, recycle=True),
    "imnn-tf 0.2.0": imnn02,
    "pyABC": pyabc,
}
# The command-line option with the interpreter of each tool that needs its own.
INTERPRETERS = {"imnn-tf 0.2.0": "predecessor", "pyABC": "pyabc"}


def measure(tool, particles, tolerance, seed):
    """Runs one tool once and returns its cost and its posterior moments."""
    simulator = Simulator(np.random.default_rng(1000 + seed))
    start = time.perf_counter()
    samples, weights = TOOLS[tool](simulator, particles, tolerance, seed)
    seconds = time.perf_counter() - start
    weights = weights / weights.sum()
    mean = weights @ samples
    return {
        "simulations": simulator.calls,
        "overhead": (seconds - simulator.seconds) / simulator.calls * 1e6,
        "ess": 1 / (weights**2).sum(),
        "mean": mean.tolist(),
        "std": np.sqrt(weights @ (samples - mean) ** 2).tolist(),
    }


def exact_moments(tolerance):
    """Exact mean and standard deviation of the posterior, by the quadrature of the tests."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "imnn_tf" / "lfi"))
    import exact

    mean, std = exact.moments(*exact.abc_posterior(estimate(DATA)[0], tolerance))
    return {"mean": np.asarray(mean).tolist(), "std": np.asarray(std).tolist()}


def main():
    """Runs every tool that has an interpreter, and writes the results."""
    from common import finish, options
    from peer import Peer

    full = {"particles": 1000, "tolerance": 1.0, "seeds": 10}
    quick = {"particles": 300, "seeds": 2}
    arguments = options(__doc__, "lfi", full, quick, peers=tuple(INTERPRETERS.values()))
    here, peers = str(Path(__file__).resolve()), {}
    for tool in TOOLS:
        python = getattr(arguments, INTERPRETERS[tool]) if tool in INTERPRETERS else sys.executable
        if python:
            peers[tool] = Peer(python, here, "--worker")
    settings = {"particles": arguments.particles, "tolerance": arguments.tolerance}
    for tool, peer in peers.items():
        peer.ask("measure", tool=tool, seed=0, particles=50, tolerance=5.0)  # imports everything
    runs = {tool: [] for tool in peers}
    for seed in range(arguments.seeds):
        for tool, peer in peers.items():
            runs[tool].append(peer.ask("measure", tool=tool, seed=seed, **settings))
    versions = {tool: peer.ask("versions") for tool, peer in peers.items()}
    for peer in peers.values():
        peer.close()
    result = {**settings, "exact": exact_moments(arguments.tolerance), "runs": runs}
    finish("lfi", arguments.output, versions, result)


if __name__ == "__main__":
    if "--worker" in sys.argv:
        from peer import serve

        serve({"measure": measure})
    else:
        main()
