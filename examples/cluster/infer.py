"""Infers the parameters of a field from the fitted estimates.

    python infer.py --folder cluster --scheduler tcp://10.0.0.1:8786

The workers of a cluster simulate.
"""

import fields
import numpy as np
from workers import arguments, connected

TRUTH = np.array([1.1, 0.6])


def infer(folder, draws, client):
    """The posterior of a field with the parameters `TRUTH`, by population Monte Carlo."""
    import tensorflow_probability as tfp  # not above: the workers would import it too

    from imnn_tf import Estimator
    from imnn_tf.lfi import PopulationMonteCarlo

    estimator = Estimator.load(folder / "fits")
    uniform = tfp.distributions.Uniform
    pmc = PopulationMonteCarlo(
        target_data=fields.field(TRUTH, 7)[None],
        prior=tfp.distributions.Blockwise([uniform(0.2, 3.0), uniform(-0.5, 1.5)]),
        get_estimate=estimator,
        Fisher=np.linalg.inv(estimator.inverse_fisher),
        simulator=fields.simulator,
        executor=client,
        batch_size=10,
        store=folder / "simulations",
        seed=1,
        progress=False,
    )
    pmc(draws=draws, initial_draws=2 * draws, criterion=0.3, percentile=50)
    return pmc.result()


if __name__ == "__main__":
    given = arguments(__doc__).parse_args()
    with connected(given.scheduler) as client:
        posterior = infer(given.folder, 100 if given.short else 300, client)
    np.savez(given.folder / "posterior.npz", samples=posterior.samples, weights=posterior.weights)
    for name, mean, std, true in zip("AB", posterior.mean(), posterior.std(), TRUTH, strict=True):
        print(f"{name} = {mean:.3f} ± {std:.3f}, true {true}")
