"""Training a RIM on the likelihood of one observation alone, whose truth is not known."""

from typing import Any

import keras
import tensorflow as tf

from imnn_tf.utils import checks
from imnn_tf.utils.display import bar
from imnn_tf.utils.types import KerasModel
from rim_tf.fitting.data import Data
from rim_tf.fitting.keywords import UNITLESS_EPSILON
from rim_tf.problem.observation import as_arrays, as_tensors


def adapt(
    rim: KerasModel,
    y: Data,
    *args: Any,
    updates: int = 50,
    learning_rate: float = 1e-4,
    chi2: float | None = None,
    verbose: bool = True,
) -> KerasModel:
    """A copy of the RIM whose estimate explains an observation that is unlike the training data.

    The weights follow the gradient of the log likelihood of the last iterate, `score(u_T)` times
    the slope of `u_T`. No true parameters are needed, and none of the training data. What the RIM
    has learnt of the parameters is only kept as far as the updates are few: without a limit
    they would fit the noise. With a likelihood they therefore end where chi-squared is right.

    Args:
        rim: A trained RIM, which stays as it is.
        y: The observation, `[batch, ...]`. Several are fitted by one set of weights.
        *args: The other arguments of the score, `[batch, ...]` each.
        updates: The most updates of the weights. Defaults to 50.
        learning_rate: Adam's learning rate. Defaults to 1e-4.
        chi2: The updates end where the mean chi-squared of an observation is at most this. Defaults
            to `None`: with a likelihood the mean number of its data, of which masked ones do not
            count and complex ones count twice; without one there is no such end. A likelihood of
            your own that masks data needs a method `count`, as `GaussianLikelihood` has.
        verbose: Whether to show a progress bar. Defaults to True.

    Returns:
        The copy, which is not compiled.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or `chi2` is given without a likelihood.
    """
    updates = checks.integer("updates", updates, minimum=0)
    rate = checks.real("learning_rate", learning_rate, above=0)
    twin = rim.copy()
    likelihood = twin.likelihood
    if chi2 is not None:
        checks.real("chi2", chi2, minimum=0)
        if likelihood is None:
            raise ValueError("`chi2` must be None for a RIM without a `likelihood`, got a number.")
    given = (*y, *args) if isinstance(y, tuple | list) else (y, *args)
    inputs = as_tensors(as_arrays(tuple(given), twin.variable_dtype), twin.variable_dtype)
    end = chi2 if chi2 is not None or likelihood is None else _counted(likelihood, inputs)
    optimizer = keras.optimizers.Adam(rate, epsilon=UNITLESS_EPSILON)
    optimizer.build(twin.trainable_variables)

    @tf.function(autograph=False)
    def update() -> None:
        with tf.GradientTape() as tape:
            u = twin(tuple(inputs), training=False)[:, -1]
            # Its slope is that of minus the log likelihood.
            loss = -tf.reduce_sum(tf.stop_gradient(twin.score(u, *inputs)) * u)
        gradients = tape.gradient(loss, twin.trainable_variables)
        optimizer.apply_gradients(zip(gradients, twin.trainable_variables, strict=True))

    @tf.function(autograph=False)
    def misfit() -> tf.Tensor:
        u = twin(tuple(inputs), training=False)[:, -1]
        return tf.reduce_mean(likelihood.chi2(twin.parameters.link(u), *inputs))

    with bar(total=updates, disable=not verbose, desc="adapting") as progress:
        for _ in range(updates):
            if end is not None and float(misfit()) <= end:
                break
            update()
            progress.update()
    return twin


def _counted(likelihood: Any, inputs: list[Any]) -> float:
    """How many real numbers of an example count: all, if the likelihood has no `count`."""
    if hasattr(likelihood, "count"):
        return float(tf.reduce_mean(likelihood.count(*inputs)))
    parts = tf.nest.flatten(inputs[0])
    return float(sum(each[0].shape.num_elements() * (1 + each.dtype.is_complex) for each in parts))
