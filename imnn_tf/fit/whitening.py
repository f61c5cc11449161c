"""A start of the fit for models whose untrained summaries hardly vary.

The Fisher information does not change under an invertible linear map of the summaries. The
regulariser does. Convolutions with pooling make summaries with a variance of 1e-5; a fit then
spends its first updates, and its patience, on the scale alone.

Such models also learn their simulations by heart, the covariance above all. What helps most by
benchmarks/imnn_defaults.py is a large learning rate with weight decay, updates that see different
parts of the simulations, and the average of the weights over updates.
"""

import keras
import numpy as np
import tensorflow as tf

from imnn_tf.fit.passes import Summariser, assign_all, stateful_variables
from imnn_tf.information import covariance
from imnn_tf.simulations import Simulations
from imnn_tf.simulations.feeds.stream import reading_errors
from imnn_tf.utils.types import KerasLayer, KerasModel, KerasOptimizer

# Summaries with a smaller variance, in any direction, are whitened before the first update. Dense
# networks start at 0.01 to 0.1; whitening those too cost up to a tenth of det F on stored
# simulations, because the model then learns them by heart sooner.
SMALLEST_VARIANCE = 1e-3

# Fiducial simulations of an update of a model that was whitened.
SUBSET = 200


def pooled_optimiser() -> KerasOptimizer:
    """The optimiser of a model that was whitened, unless the user names one."""
    # Whitening makes the last weights large, and with them the effect of the first updates.
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, decay_steps=10**9, warmup_target=1e-2, warmup_steps=4
    )
    # Gradients are large at the start. A longer memory of their squares would slow down the fit.
    return keras.optimizers.AdamW(
        rate, weight_decay=0.6, beta_2=0.95, use_ema=True, ema_momentum=0.97
    )


def whiten(summariser: Summariser, simulations: Simulations) -> bool:
    """Gives summaries that hardly vary the mean zero and the covariance one.

    The linear map goes into the weights of the model's last layer, if that is a `Dense` layer
    without an activation. Any other model keeps its weights. So does a model one of whose
    summaries is constant or a linear combination of the others: no linear map can mend that.

    Args:
        summariser: The model.
        simulations: The training set, of which the simulations of the first update are used.

    Returns:
        Whether the summaries were whitened.
    """
    layer = _linear_output(summariser.model)
    if layer is None:
        return False
    stateful = stateful_variables(summariser.model)
    before = [tf.identity(variable) for variable in stateful]
    with reading_errors(simulations):
        # As in an update: layers that normalise or drop act as they will there.
        total = summariser.statistics(simulations, training=True, update=1)
        probe = simulations.batches(1).at(0).data[:8]
    assign_all(stateful, before)
    moments = summariser.network_alone(total).moments
    C = np.asarray(covariance(moments), np.float64)
    if not np.isfinite(C).all():  # the first update says what is wrong
        return False
    variances, axes = np.linalg.eigh(C)
    if not 1e-6 * variances[-1] < variances[0] < SMALLEST_VARIANCE:
        return False
    # The symmetric square root changes the summaries the least.
    inverse_root = (axes / np.sqrt(variances)) @ axes.T
    mean = np.asarray(moments.mean, np.float64)
    weights = layer.get_weights()
    # A layer without bias cannot remove the mean, which matters neither to F nor to C.
    centre = mean if layer.use_bias else np.zeros_like(mean)
    expected = (np.asarray(summariser.model(probe, training=False)) - centre) @ inverse_root
    mapped = [weights[0] @ inverse_root, *((bias - mean) @ inverse_root for bias in weights[1:])]
    layer.set_weights([part.astype(old.dtype) for part, old in zip(mapped, weights, strict=True)])
    got = np.asarray(summariser.model(probe, training=False))
    if np.allclose(got, expected, rtol=0.05, atol=0.05):
        return True
    layer.set_weights(weights)  # something stands between that layer and the summaries
    return False


def _linear_output(model: KerasModel) -> KerasLayer | None:
    """The last layer of a model, if it is `Dense`, trainable and without an activation."""
    layers = getattr(model, "layers", None)
    if not layers:
        return None
    last = layers[-1]
    if isinstance(last, keras.Model):
        return _linear_output(last)
    linear = isinstance(last, keras.layers.Dense) and last.activation is keras.activations.linear
    return last if linear and last.trainable and len(last.get_weights()) <= 2 else None
