"""True parameters and the data simulated at them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.lfi.posterior.samples import Posterior
from imnn_tf.lfi.prior import Prior
from imnn_tf.running.execution import Execution
from imnn_tf.running.run import SimulationError
from imnn_tf.running.simulation import simulate
from imnn_tf.utils import checks
from imnn_tf.utils.seeds import Seed, child, seed_sequence


def simulate_targets(
    prior: Any,
    simulator: Callable[..., Any],
    n: int,
    seed: Seed = None,
    *,
    execution: Execution | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws true parameters from the prior and simulates one target at each.

    Args:
        prior: The prior: anything with `event_shape` `(n_params,)`, `sample` and `log_prob`.
        simulator: Takes parameters, `(n, n_params)`, and returns data, `(n,) + input shape`; see
            `imnn_tf.lfi.simulate` for how it gets random seeds.
        n: The number of targets.
        seed: An integer or a `numpy.random.SeedSequence`. `None` for fresh entropy.
        execution: How the simulations run: executor, batch size, failures, store and progress.
            `None` for all in one call in this process, without a bar.

    Returns:
        True parameters, `(n, n_params)`, and targets, `(n,) + input shape`, of the simulations that
        did not fail.

    Raises:
        SimulationError: If a simulation fails and `on_error` is "raise", or all of them fail.
    """
    sequence = seed_sequence(seed)
    n = checks.integer("n", n, minimum=1)
    truths = Prior(prior).sample(n, seed=child(sequence, 0))
    if execution is None:
        execution = Execution(batch_size=n, progress=False)
    result = simulate(simulator, truths, seed=child(sequence, 1), execution=execution)
    if result.x is None:
        raise SimulationError("All simulations of targets failed; see `.result`.", result)
    return truths[result.ok], result.x[result.ok]


def check_truths(truths: ArrayLike, posteriors: Sequence[Posterior]) -> np.ndarray:
    """The truths as an array, `(n, n_params)`; there must be a posterior of each."""
    values = checks.array("truths", truths, shape=(None, None), dtype=float)
    if len(values) != len(posteriors):
        raise ValueError(
            f"`posteriors` must be one for each of {len(values)} truths, got {len(posteriors)}."
        )
    for posterior in posteriors:
        if posterior.samples.shape[1] != values.shape[1]:
            raise ValueError(
                f"`posteriors` must have {values.shape[1]} parameters, as `truths` do, got one of "
                f"{posterior.samples.shape[1]}."
            )
    return values
