"""The error of an observation from its own data, by Stein's unbiased risk estimate."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from imnn_tf.utils.types import KerasModel
from rim_tf.fitting.data import Data
from rim_tf.problem.observation import as_tensors
from rim_tf.uncertainty.draws import Draws

_STEP = 0.3
"""How far the data are moved, in standard deviations of their noise."""

_SPREAD = 0.5
"""The relative spread of the actual over the predicted error before any is measured."""

_LEAST_SPREAD = 0.1
"""The least spread that is measured: a precise estimate always counts."""

_LEAST_RATIO = 0.1
"""The least ratio of variances that an observation is corrected by."""

_NOTHING = 1e-12
"""A predicted error of the data that counts as zero: all of them are masked."""

_METHODS = ("simulate", "chi2", "count")


@keras.saving.register_keras_serializable("rim_tf")
class DataRisk(keras.layers.Layer):
    """How much larger the errors of an observation are than predicted, from its data alone.

    With the noise covariance `C`, `n` data that count, and random signs `s` for noise,
    `e = C^(1/2) s`, and for pixels, `s_u`,

        risk      = chi2(x(y)) - n + < e^T C^-1 (F(x(y + δ e)) - F(x(y - δ e))) > / δ
        predicted = < |C^(-1/2) (F(u + exp(v / 2) s_u) - F(u))|^2 >

    where `< >` is the mean over the probes. The risk is Stein's: its mean over the noise is that of
    the squared error of `F(x)`, in units of the noise, whatever the truth is. Its standard error is
    about `sqrt(2 n)`. So the ratio of the two says by which factor the variances `exp(v)` of this
    observation are wrong. It is drawn towards its typical value, the less the more the data are:

        factor = 1 + (ratio / typical - 1) spread^2 / (spread^2 + error^2)

    What data do not hold cannot be found in them. The factor is that of the part that they hold,
    and is used for all.

    Args:
        probes: The number of probes, at least 1.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    References:
        Stein (1981), doi:10.1214/aos/1176345632, for the estimate; Ramani, Blu & Unser (2008),
        doi:10.1109/TIP.2008.2001404, for its slope by random probes.
    """

    def __init__(self, probes: int, **kwargs: Any):
        super().__init__(trainable=False, **kwargs)
        self._probes = probes
        self.typical = self.add_weight(
            name="typical", shape=(), initializer="ones", trainable=False
        )
        self.spread = self.add_weight(
            name="spread",
            shape=(),
            initializer=keras.initializers.Constant(_SPREAD),
            trainable=False,
        )
        self.built = True

    def terms(
        self, rim: KerasModel, found: tf.Tensor, draws: Draws, inputs: Sequence[Any]
    ) -> tf.Tensor:
        """The risk, what was predicted of it, and the number of data, `[batch, 3]`.

        Args:
            rim: The RIM, whose likelihood simulates and counts.
            found: The estimates, and the log-variances last, unlinked,
                `[batch, 2 or more, *sizes, channels]`.
            draws: Makes the signs.
            inputs: `y` and the other arguments of the score, `[batch, ...]` each.
        """
        (y, *args), likelihood, link = inputs, rim.likelihood, rim.parameters.link
        u, deviation = found[:, 0], tf.exp(0.5 * found[:, -1])
        y = tf.cast(y, u.dtype) if y.dtype.is_integer else y  # counts move by less than one
        x = link(u)
        without_noise = likelihood.simulate(x, tf.zeros_like(y), *args)
        slopes, changes = [], []
        for probe in range(self._probes):
            noisy = likelihood.simulate(x, draws.independent_signs(y, probe), *args)
            noise = tf.cast(noisy - without_noise, y.dtype)
            up, down = (
                link(rim((y + sign * _STEP * noise, *args), training=False)[:, -1])
                for sign in (1, -1)
            )
            # The product with the noise, from four chi-squared.
            product = [
                likelihood.chi2(down, data, *args) - likelihood.chi2(up, data, *args)
                for data in (noisy, without_noise)
            ]
            slopes.append((product[0] - product[1]) / (2 * _STEP))
            moved = u + deviation * draws.independent_signs(u, probe)
            changes.append(likelihood.chi2(link(moved), without_noise, *args))
        slope, predicted = (tf.add_n(each) / self._probes for each in (slopes, changes))
        count = tf.cast(likelihood.count(y, *args), slope.dtype)
        risk = likelihood.chi2(x, y, *args) - count + slope
        return tf.stop_gradient(tf.stack([risk, predicted, count], axis=1))

    def log_factor(self, terms: tf.Tensor) -> tf.Tensor:
        """The logarithm of the factor of the variances, `[batch]`, for terms `[batch, 3]`."""
        risk, predicted, count = tf.unstack(terms, axis=1)
        expected = tf.convert_to_tensor(self.typical) * predicted
        # Shares of the squared prediction, which may be zero.
        known = tf.square(tf.convert_to_tensor(self.spread) * expected)
        excess = (risk - expected) * tf.math.divide_no_nan(known, expected)
        factor = 1.0 + tf.math.divide_no_nan(excess, known + 2.0 * count)
        return tf.math.log(tf.maximum(factor, _LEAST_RATIO))

    def scaled(self, found: tf.Tensor, terms: tf.Tensor) -> tf.Tensor:
        """Estimates and log-variances, the last with the factor of each observation.

        Args:
            found: As for `terms`.
            terms: What `terms` returned, `[batch, 3]`.
        """
        factor = tf.reshape(self.log_factor(terms), [-1, *[1] * (len(found.shape) - 1)])
        return tf.concat([found[:, :-1], found[:, -1:] + factor], axis=1)

    def measure(self, terms: np.ndarray) -> None:
        """Measures the typical ratio and its spread from terms of some observations, `[n, 3]`."""
        risk, predicted, count = terms.astype(float).T
        known = predicted > _NOTHING
        risk, predicted, count = risk[known], predicted[known], count[known]
        if not len(risk):
            raise ValueError("`y` must hold data that count, got masked ones only.")
        ratio, error = risk / predicted, np.sqrt(2 * count) / predicted
        weights = 1 / (_SPREAD**2 + error**2)
        typical = max(np.average(ratio, weights=weights), _LEAST_RATIO)
        variance = np.average((ratio / typical - 1) ** 2 - (error / typical) ** 2, weights=weights)
        self.typical.assign(typical)
        self.spread.assign(np.sqrt(max(variance, _LEAST_SPREAD**2)))

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {**super().get_config(), "probes": self._probes}


def with_terms(errors: KerasModel, risk: DataRisk) -> Callable[..., Any]:
    """The compiled function from inputs, `[batch, ...]`, to what is found and its terms.

    Args:
        errors: The `PixelErrors`, which keeps the function.
        risk: Its risk.
    """

    def run(inputs: Data) -> tuple[tf.Tensor, tf.Tensor]:
        given = as_tensors(inputs, errors.variable_dtype)
        found = errors.found(given, training=False)
        return found, risk.terms(errors.rim, found, errors.draws, given)

    known = errors.compilation.predictors
    return known.setdefault("risk", tf.function(run, autograph=False))


def require_risk(likelihood: Any) -> None:
    """Raises a ValueError for a likelihood that has no estimate of the risk."""
    missing = [name for name in _METHODS if not hasattr(likelihood, name)]
    if missing:
        raise ValueError(
            f"`risk_probes` must be 0 for a likelihood without {' and '.join(missing)}, as "
            "`GaussianLikelihood` has them."
        )
