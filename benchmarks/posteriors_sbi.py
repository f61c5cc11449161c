"""The worker for sbi, which `benchmarks/posteriors.py` runs in sbi's own environment."""

import sys
import time

import numpy as np
import torch
from posterior_tasks import TASKS, observation, package_files
from sbi.inference import NPE
from torch import distributions


def prior(task):
    """The prior of a task, as PyTorch has it."""
    ones = torch.ones(task.parameters)
    if task.bound is None:
        return distributions.MultivariateNormal(
            torch.zeros(task.parameters), task.deviation**2 * torch.eye(task.parameters)
        )
    uniform = distributions.Uniform(-task.bound * ones, task.bound * ones)
    return distributions.Independent(uniform, 1)


def npe(task, budget, observations, seed, draws, path, files):
    """Trains on `budget` simulations, and writes samples of the posterior of each observation.

    Args:
        task: Name of the task.
        budget: The number of simulations.
        observations: The numbers of the observations.
        seed: Seed of the simulations and of PyTorch.
        draws: The number of samples from each posterior.
        path: The file for the samples.
        files: The Python interpreter of the environment of the package sbibm.

    Returns:
        Seconds and processor seconds of the training.
    """
    torch.manual_seed(seed)
    rng, this = np.random.default_rng(seed), TASKS[task]
    theta = this.sample_prior(budget, rng)
    data = this.simulator(theta, rng)
    started = time.perf_counter(), time.process_time()
    inference = NPE(prior=prior(this), density_estimator="nsf", show_progress_bars=False)
    inference.append_simulations(
        torch.as_tensor(theta, dtype=torch.float32), torch.as_tensor(data, dtype=torch.float32)
    )
    inference.train()
    ended = time.perf_counter(), time.process_time()
    posterior = inference.build_posterior()
    samples = {}
    for number in observations:
        target = torch.as_tensor(observation(package_files(files), task, number)).float()
        drawn = posterior.sample((draws,), x=target, show_progress_bars=False)
        samples[str(number)] = drawn.numpy()
    np.savez(path, **samples)
    return {"seconds": ended[0] - started[0], "processor seconds": ended[1] - started[1]}


if __name__ == "__main__":
    from peer import serve

    torch.set_num_threads(int(sys.argv[1]))
    serve({"npe": npe})
