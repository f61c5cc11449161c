"""The methods on mean and variance of ten Gaussian draws, against the exact ABC posterior."""

import exact
import numpy as np
import pytest
import tensorflow_probability as tfp

from imnn_tf.lfi import ApproximateBayesianComputation, PopulationMonteCarlo, Posterior

tfd = tfp.distributions
TOLERANCE = 1.0
SEEDS = 20


@pytest.fixture(scope="module")
def truth():
    legacy = np.random.RandomState(37)
    data = legacy.normal([3.0], np.sqrt([2.0]), (10, 1)).T
    estimate = np.array([data.mean(), data.var()])
    return data, *exact.abc_posterior(estimate, TOLERANCE)


@pytest.fixture(scope="module")
def arguments(truth, box_prior, mean_variance):
    def simulator(theta, rng):
        return rng.normal(theta[:, :1], np.sqrt(theta[:, 1:]), (len(theta), exact.N))

    return {
        "target_data": truth[0],
        "prior": box_prior,
        "Fisher": exact.FISHER,
        "get_estimate": mean_variance,
        "simulator": simulator,
        "progress": False,
    }


@pytest.fixture(scope="module")
def populations(arguments):
    """Posteriors of 2,000 particles, from the last generation alone and from all of them."""
    made: dict[bool, list[Posterior]] = {False: [], True: []}
    for seed in range(SEEDS):
        pmc = PopulationMonteCarlo(**arguments, seed=seed)
        pmc(draws=2000, initial_draws=2000, percentile=50, tolerance=TOLERANCE)
        for recycle, results in made.items():
            pmc._populations.recycle = recycle
            results.append(pmc.result())
    return made


def deviations(results, truth):
    """How far the averages over runs are from the truth, in standard errors, `(2, 2)`.

    The first row is of the means of the parameters, the second of their standard deviations.
    """
    found = np.array([[result.mean(), result.std()] for result in results])
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    return (found.mean(axis=0) - exact.moments(*truth[1:])) / error


def separability(samples, others, rng):
    """Accuracy with which a classifier tells two sets of samples of the same size apart.

    Logistic regression on polynomials of third degree, fitted to one half, by Newton's method.
    """
    x = np.concatenate([samples, others])
    x = np.column_stack([x[:, 0], np.log(x[:, 1])])
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    powers = [(i, j) for i in range(4) for j in range(4 - i)]
    features = np.stack([x[:, 0] ** i * x[:, 1] ** j for i, j in powers], axis=1)
    labels = np.repeat([0.0, 1.0], len(samples))
    order = rng.permutation(len(labels))
    train, test = order[::2], order[1::2]
    beta = np.zeros(features.shape[1])
    for _ in range(20):
        p = 1 / (1 + np.exp(-np.clip(features[train] @ beta, -30, 30)))
        hessian = (features[train] * (p * (1 - p))[:, np.newaxis]).T @ features[train]
        hessian += 1e-3 * np.eye(len(beta))
        beta += np.linalg.solve(hessian, features[train].T @ (labels[train] - p) - 1e-3 * beta)
    return float(((features[test] @ beta > 0) == labels[test]).mean())


def test_rejection(arguments, truth):
    abc = ApproximateBayesianComputation(**arguments, seed=0)
    abc(500_000)
    abc.accept_reject(TOLERANCE)
    result, (mean, std) = abc.result(), exact.moments(*truth[1:])
    assert (np.abs(result.mean() - mean) < 3 * std / np.sqrt(len(result))).all()
    fourth = ((result.samples - mean) ** 4).mean(axis=0)
    error = np.sqrt((fourth - std**4) / len(result)) / (2 * std)
    assert (np.abs(result.std() - std) < 3 * error).all()


@pytest.mark.slow
@pytest.mark.parametrize("recycle", [False, True])
def test_population_monte_carlo_over_seeds(populations, truth, recycle):
    assert (np.abs(deviations(populations[recycle], truth)) < 3).all()


@pytest.mark.slow
@pytest.mark.parametrize("recycle", [False, True])
def test_particles_and_exact_draws_cannot_be_told_apart(populations, truth, recycle):
    rng = np.random.default_rng(0)
    accuracies = []
    for seed, result in enumerate(populations[recycle]):
        draws = exact.draw(*truth[1:], 2000, rng)
        accuracies.append(separability(result.sample(2000, seed), draws, rng))
    assert abs(np.mean(accuracies) - 0.5) < 0.05
    # The classifier works: it tells apart particles that were made to spread too little.
    narrow = [r.mean() + 0.6 * (r.sample(2000, 0) - r.mean()) for r in populations[recycle][:3]]
    for samples in narrow:
        assert separability(samples, exact.draw(*truth[1:], 2000, rng), rng) > 0.6


@pytest.mark.slow
def test_recycling_pays(populations):
    def spread(results):
        return np.array([result.mean() for result in results]).var(axis=0, ddof=1)

    # Recycling more than halves the variance. F(19, 19) exceeds 2.2 by chance in 5 % of cases.
    assert (spread(populations[True]) < spread(populations[False]) / 2).all()


@pytest.mark.parametrize("p", [1, 2, 5, 10])
@pytest.mark.parametrize("tolerance", [0.5, 1.0, 2.0])
def test_width_of_the_posterior_at_a_tolerance_is_predicted(p, tolerance, caplog):
    # A flat prior and unit errors: theta | estimates in a ball is N(target, 1) plus the ball.
    rng = np.random.default_rng(7)
    direction = rng.normal(size=(100_000, p))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    estimates = tolerance * direction * rng.uniform(size=(100_000, 1)) ** (1 / p)
    prior = tfd.Independent(tfd.Uniform(np.full(p, -50.0), np.full(p, 50.0)), 1)
    abc = ApproximateBayesianComputation(np.zeros((1, p)), prior, np.eye(p), lambda x: x, seed=1)
    abc.add(estimates + rng.normal(size=estimates.shape), estimates)
    abc.accept_reject(1.001 * tolerance)
    wider = np.sqrt(1 + tolerance**2 / (p + 2))
    plain = abc.result()
    np.testing.assert_allclose(plain.std(), wider, rtol=0.01)
    assert (f"to {wider:.2f} times" in caplog.text) == (wider > 1.1)
    told = len(caplog.records)
    np.testing.assert_allclose(abc.result(adjust=True).std(), 1, rtol=0.02)
    assert len(caplog.records) == told
