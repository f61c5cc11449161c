"""Five tasks of the benchmark of Lueckmann et al. (2021), arXiv:2101.04653.

Priors and simulators are written anew from the description in its appendix T. Observations and
samples of the reference posteriors are read from the files of the package sbibm 1.1.0, in the
environment that `make` creates from `environments/alone/sbibm-1.1.0.txt`; none of its code is run.
Only NumPy is imported until a prior is asked for, so that peers can use the tasks.
"""

import bz2
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

BUDGETS = (1_000, 10_000, 100_000)


class Task(NamedTuple):
    """A prior and a simulator.

    Attributes:
        name: Its name, that of its folder in the package.
        parameters: The number of parameters.
        data: The number of data.
        bound: The prior is uniform from minus to plus this in each parameter.
        deviation: If there is no bound, the standard deviation of the Gaussian prior.
        simulator: From parameters, `(n, parameters)`, and a `numpy.random.Generator` to data,
            `(n, data)`.
    """

    name: str
    parameters: int
    data: int
    bound: float | None
    deviation: float | None
    simulator: Callable[[np.ndarray, np.random.Generator], np.ndarray]

    def prior(self):
        """The prior, as a TensorFlow Probability distribution of events `(parameters,)`."""
        import tensorflow_probability as tfp

        ones = np.ones(self.parameters, np.float32)
        if self.bound is None:
            return tfp.distributions.MultivariateNormalDiag(0 * ones, self.deviation * ones)
        uniform = tfp.distributions.Uniform(-self.bound * ones, self.bound * ones)
        return tfp.distributions.Independent(uniform, 1)

    def sample_prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draws from the prior without TensorFlow, `(n, parameters)`."""
        if self.bound is None:
            return rng.normal(0, self.deviation, (n, self.parameters))
        return rng.uniform(-self.bound, self.bound, (n, self.parameters))


def two_moons(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A noisy half circle, moved by a rotation of the parameters with its sign lost."""
    angle = rng.uniform(-np.pi / 2, np.pi / 2, len(theta))
    radius = rng.normal(0.1, 0.01, len(theta))
    across, along = theta[:, 0] + theta[:, 1], theta[:, 1] - theta[:, 0]
    x = radius * np.cos(angle) + 0.25 - np.abs(across) / 2**0.5
    y = radius * np.sin(angle) + along / 2**0.5
    return np.stack([x, y], axis=1)


def gaussian_linear(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The parameters with Gaussian noise of variance 0.1."""
    return theta + rng.normal(0, 0.1**0.5, theta.shape)


def gaussian_mixture(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The parameters with Gaussian noise of standard deviation 1 or, as often, 0.1."""
    scale = np.where(rng.uniform(size=(len(theta), 1)) < 0.5, 1.0, 0.1)
    return theta + scale * rng.normal(size=theta.shape)


def slcp(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Four draws from a Gaussian in two dimensions, whose five parameters enter by squares."""
    noise = rng.normal(size=(len(theta), 4, 2))
    first, second = theta[:, 2:3] ** 2, theta[:, 3:4] ** 2
    rho = np.tanh(theta[:, 4:5])
    x = theta[:, :1] + first * noise[..., 0]
    y = theta[:, 1:2] + second * (rho * noise[..., 0] + np.sqrt(1 - rho**2) * noise[..., 1])
    return np.stack([x, y], axis=2).reshape(len(theta), 8)


TASKS = {
    task.name: task
    for task in (
        Task("two_moons", 2, 2, 1.0, None, two_moons),
        Task("gaussian_mixture", 2, 2, 10.0, None, gaussian_mixture),
        Task("gaussian_linear", 10, 10, None, 0.1**0.5, gaussian_linear),
        Task("gaussian_linear_uniform", 10, 10, 1.0, None, gaussian_linear),
        Task("slcp", 5, 8, 3.0, None, slcp),
    )
}


def package_files(python: str) -> Path:
    """The folder of the tasks' files in the environment of this Python interpreter.

    Raises:
        FileNotFoundError: If the package sbibm is not installed there.
    """
    found = sorted(Path(python).absolute().parent.parent.glob("lib/python*/site-packages/sbibm"))
    if not found:
        raise FileNotFoundError(f"sbibm is not installed in the environment of {python}.")
    return found[0] / "tasks"


def observation(files: Path, task: str, number: int) -> np.ndarray:
    """Observed data number 1 to 10, `(data,)`."""
    path = files / task / "files" / f"num_observation_{number}" / "observation.csv"
    return np.loadtxt(path, delimiter=",", skiprows=1, ndmin=1)


def reference(files: Path, task: str, number: int) -> np.ndarray:
    """Samples of the reference posterior of observation 1 to 10, `(10_000, parameters)`."""
    folder = files / task / "files" / f"num_observation_{number}"
    with bz2.open(folder / "reference_posterior_samples.csv.bz2", "rt") as file:
        return np.loadtxt(file, delimiter=",", skiprows=1, ndmin=2)
