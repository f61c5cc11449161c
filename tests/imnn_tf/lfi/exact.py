"""The exact posterior of the mean and variance problem, given that estimates are close."""

import numpy as np
from scipy import stats

N = 10  # draws that make up one datum
FISHER = np.diag([10.0, 5.0])
LOW, HIGH = np.array([-10.0, 0.1]), np.array([10.0, 10.0])


def likelihood(estimate, theta):
    """Density of sample mean and variance, which are independent: normal and chi-squared."""
    mean = stats.norm(theta[..., 0], np.sqrt(theta[..., 1] / N)).pdf(estimate[..., 0])
    scale = theta[..., 1] / N
    return mean * stats.chi2(N - 1).pdf(estimate[..., 1] / scale) / scale


def abc_posterior(target, tolerance, size=(120, 200), nodes=(12, 24)):
    """Grid `(size, 2)` and probabilities `(size)` of the posterior given distance < tolerance.

    The likelihood is integrated over the ellipse of estimates about the target's, in polar
    coordinates.
    """
    means = np.linspace(target[0] - 4.5, target[0] + 4.5, size[0])
    variances = np.linspace(LOW[1], HIGH[1], size[1])
    # Midpoints of cells, so that no point lies on an end of the prior.
    variances = (variances[1:] + variances[:-1]) / 2
    grid = np.stack(np.meshgrid(means, variances, indexing="ij"), axis=-1)
    radii, weights = np.polynomial.legendre.leggauss(nodes[0])
    radii = tolerance * (radii + 1) / 2
    angles = 2 * np.pi * np.arange(nodes[1]) / nodes[1]
    density = np.zeros(grid.shape[:2])
    for radius, weight in zip(radii, weights, strict=True):
        for angle in angles:
            offset = radius * np.array([np.cos(angle), np.sin(angle)])
            estimate = target + offset / np.sqrt(np.diag(FISHER))
            if estimate[1] > 0:
                density += weight * radius * likelihood(estimate, grid)
    return grid, density / density.sum()


def moments(grid, probability):
    """Means and standard deviations of the parameters, `(2,)` each."""
    mean = (grid * probability[..., np.newaxis]).sum(axis=(0, 1))
    square = (grid**2 * probability[..., np.newaxis]).sum(axis=(0, 1))
    return mean, np.sqrt(square - mean**2)


def draw(grid, probability, n, rng):
    """Draws, `(n, 2)`, from the posterior on the grid, spread uniformly over its cells."""
    chosen = rng.choice(probability.size, size=n, p=probability.ravel())
    cells = [grid[1, 0, 0] - grid[0, 0, 0], grid[0, 1, 1] - grid[0, 0, 1]]
    return grid.reshape(-1, 2)[chosen] + rng.uniform(-0.5, 0.5, (n, 2)) * cells
