"""Simulations that were made elsewhere and are added."""

import numpy as np
import pytest

from imnn_tf.lfi import ApproximateBayesianComputation, PopulationMonteCarlo


@pytest.fixture
def make(box_prior, mean_variance, gaussian_draws, target, other_target):
    def make(cls=ApproximateBayesianComputation, **change):
        arguments = {
            "target_data": np.concatenate([target, other_target]),
            "prior": box_prior,
            "Fisher": np.diag([10.0, 5.0]),
            "get_estimate": mean_variance,
            "simulator": gaussian_draws,
            "seed": 1,
            "progress": False,
        }
        return cls(**{**arguments, **change})

    return make


@pytest.fixture
def here(make, tmp_path):
    """An object that simulated, and the data it saved."""
    abc = make()
    abc(3000, save_sims=tmp_path / "data")
    return abc, np.load(tmp_path / "data.npy")


@pytest.mark.parametrize("given", ["estimates", "data"])
def test_added_simulations_count_as_those_made_here(make, here, given):
    abc, data = here
    there = make(simulator=None)
    half = slice(None, 1000), slice(1000, None)
    for rows in half:
        what = {"estimates": abc.estimates[rows]} if given == "estimates" else {"data": data[rows]}
        there.add(abc.parameters[rows], **what)
    np.testing.assert_allclose(there.estimates, abc.estimates)
    np.testing.assert_allclose(there.distances, abc.distances)
    for each in (abc, there):
        each.accept_reject(3.0)
    np.testing.assert_array_equal(there.num_accepted, abc.num_accepted)
    for i in range(2):
        np.testing.assert_array_equal(there.accepted_parameters[i], abc.accepted_parameters[i])
        for adjust in (False, True):
            ours, theirs = there.result(i, adjust=adjust), abc.result(i, adjust=adjust)
            np.testing.assert_allclose(ours.samples, theirs.samples)
            np.testing.assert_allclose(ours.weights, theirs.weights)
    np.testing.assert_allclose(there.posterior(bins=8), abc.posterior(bins=8))
    lines = [each.plot(bins=12)[1, 1].lines for each in (there, abc)]
    for ours, theirs in zip(*lines, strict=True):
        np.testing.assert_allclose(ours.get_xydata(), theirs.get_xydata())
    clouds = [each.scatter_plot(rejected=0.5)[1, 0].collections for each in (there, abc)]
    for ours, theirs in zip(*clouds, strict=True):
        np.testing.assert_allclose(ours.get_offsets(), theirs.get_offsets())


def test_without_a_simulator_only_simulating_fails(make, here):
    abc, _ = here
    there = make(simulator=None)
    there.add(abc.parameters, abc.estimates)
    there.get_min_accepted(ϵ=3.0, accepted=5)
    there.posterior(ϵ=3.0, draws=3000, bins=5)
    missing = "`simulator` must be given to simulate at more parameters, got None"
    for call in (
        lambda: there(10),
        lambda: there.get_min_accepted(ϵ=1e-3, accepted=5),
        lambda: there.plot(ϵ=3.0, draws=3001),
        lambda: there(abc.parameters, predrawn=True),
    ):
        with pytest.raises(ValueError, match=missing):
            call()
    assert len(there.parameters) == 3000
    with pytest.raises(TypeError, match="`simulator` must be callable, got NoneType"):
        make(PopulationMonteCarlo, simulator=None)


def test_added_and_simulated_together(make, here):
    abc, _ = here
    mixed = make(seed=2)
    mixed.add(abc.parameters, abc.estimates)
    mixed.posterior(ϵ=3.0, draws=4000, bins=5)
    assert mixed.num_draws == 4000
    np.testing.assert_array_equal(mixed.parameters[:3000], abc.parameters)
    mixed.reset()
    assert len(mixed.parameters) == 0


def test_a_population_starts_from_what_was_added(make, here):
    abc, _ = here
    sizes = []

    def counted(theta, rng):
        sizes.append(len(theta))
        mean, variance = theta[:, :1], theta[:, 1:]
        return rng.normal(mean, np.sqrt(variance), (len(theta), 10))

    pmc = make(PopulationMonteCarlo, simulator=counted)
    pmc.add(abc.parameters, abc.estimates)
    pmc(draws=100, max_simulations=3000)
    assert sizes == []
    assert pmc.num_draws.tolist() == [3000, 3000]
    for i in range(2):
        nearest = np.argsort(abc.distances[:, i])[:100]
        np.testing.assert_array_equal(pmc.parameters[i], abc.parameters[nearest])
    with pytest.raises(ValueError, match="`add` must come before the first population"):
        pmc.add(abc.parameters, abc.estimates)
    pmc.reset()
    pmc.add(abc.parameters, abc.estimates)
    pmc(draws=100, initial_draws=3500, max_simulations=3500)
    assert sizes == [500]
    pmc.reset()
    with pytest.raises(ValueError, match="`draws` and `initial_draws` must be given at first"):
        pmc(draws=100, criterion=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "`estimates` or `data` must be given, got neither"),
        ({"estimates": np.ones((3, 2)), "data": np.ones((3, 10))}, "must be given, got both"),
        ({"estimates": np.ones((4, 2))}, r"`estimates` must have shape \(3, 2\), got \(4, 2\)"),
        ({"data": np.ones((4, 10))}, r"`estimates` must have shape \(3, 2\), got \(4, 2\)"),
        ({"estimates": np.full((3, 2), np.nan)}, "`estimates` must be finite"),
        (
            {"estimates": np.ones((3, 2)), "parameters": [[0, 1], [0, 0], [11, 1]]},
            "`parameters` must be draws from the prior, got 2 of 3 that it forbids",
        ),
        ({"parameters": np.ones(3)}, r"`parameters` must have shape \(any, 2\)"),
    ],
)
def test_wrong_arguments_are_named(make, arguments, message):
    abc = make(simulator=None)
    with pytest.raises(ValueError, match=message):
        abc.add(**{"parameters": np.ones((3, 2)), **arguments})
    assert len(abc.parameters) == 0


def test_simulations_have_the_shape_of_the_targets(box_prior, mean_variance, target):
    abc = ApproximateBayesianComputation(
        target,
        box_prior,
        np.eye(2),
        mean_variance,
        lambda theta: np.ones((len(theta), 7)),
        progress=False,
        seed=1,
    )
    with pytest.raises(ValueError, match="must have the shape of the targets"):
        abc(10)
    with pytest.raises(ValueError, match="`data` must have the shape of the targets"):
        abc.add(np.ones((3, 2)), data=np.ones((3, 7)))


def test_the_check_of_a_store_writes_no_simulations(
    box_prior, mean_variance, target, gaussian_draws, tmp_path
):
    for _ in range(2):
        abc = ApproximateBayesianComputation(
            target, box_prior, np.eye(2), mean_variance, gaussian_draws, progress=False, seed=1,
            store=tmp_path / "store",
        )  # fmt: skip
        abc(50, save_sims=tmp_path / "sims")
    assert [path.name for path in tmp_path.glob("*.npy")] == ["sims.npy"]
    assert np.load(tmp_path / "sims.npy").shape == (50, 10)
