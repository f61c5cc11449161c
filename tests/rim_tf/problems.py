"""Small inverse problems that several tests share."""

import keras
import numpy as np
import tensorflow as tf

from rim_tf import RIM, PutzkyWelling

SIZE, DATA = 5, 8


def score_fn(x, y, a, sigma):
    """Score of `y = a x + sigma n` with one noise level for each example."""
    residual = y - tf.linalg.matvec(a, x[..., 0])
    score = tf.linalg.matvec(a, residual, transpose_a=True) / sigma[:, tf.newaxis] ** 2
    return score[..., tf.newaxis]


def energy_fn(x, y, a, sigma):
    """The energy whose score that is."""
    residual = y - tf.linalg.matvec(a, x[..., 0])
    return 0.5 * tf.reduce_sum(residual**2, -1) / sigma**2


def draw(count, seed, dtype="float32"):
    """`count` examples `(y, x, a, sigma)` of a random matrix and noise level each."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, SIZE))
    a = random.normal(size=(count, DATA, SIZE))
    sigma = random.uniform(0.5, 1.0, size=count)
    y = np.einsum("nij,nj->ni", a, x) + sigma[:, None] * random.normal(size=(count, DATA))
    return tuple(v.astype(dtype) for v in (y, x[..., None], a, sigma))


def awake(network, seed=0):
    """The network with a last layer that does not start at zero, so that it takes steps at once."""
    network.output_layer.kernel_initializer = keras.initializers.GlorotUniform(seed)
    return network


def small_network(seed=0, **options):
    """A network of a few hundred weights that takes steps at once."""
    options = {"features": (6, 8, 6), "seed": seed, "dimensions": 1, **options}
    return awake(PutzkyWelling(1, **options), seed)


def small_rim(**options):
    """A RIM of two steps for the problem above, which sees the score as it is."""
    if not options.keys() & {"score_fn", "energy_fn", "likelihood"}:
        options["score_fn"] = score_fn
    network = options.pop("network", None) or small_network()
    return RIM([SIZE], network, **{"T": 2, "score_preprocessing_method": "identity", **options})
