"""The error of every pixel of a recurrent inference machine, learnt from what it leaves."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.saving.serialization_lib import SafeModeScope

from imnn_tf.utils import checks, display
from imnn_tf.utils.types import Json, KerasLayer, KerasOptimizer, KerasVariable, Numbers
from rim_tf import description
from rim_tf.fitting import checkpoints, compilation, keywords
from rim_tf.fitting.compilation import Compilation, resolve_jit
from rim_tf.fitting.data import Data, inputs_only
from rim_tf.networks.layers import spatial_sizes
from rim_tf.networks.protocol import StepNetwork, check_network
from rim_tf.prediction import in_batches
from rim_tf.problem.observation import as_tensors
from rim_tf.problem.parameters import Values
from rim_tf.rim import RIM
from rim_tf.uncertainty.calibration import calibrated_factors
from rim_tf.uncertainty.draws import Draws
from rim_tf.uncertainty.likelihood import PixelLikelihood, PixelMetrics
from rim_tf.uncertainty.reconstruction import DEVIATIONS, Reconstruction, kind_of_intervals
from rim_tf.uncertainty.risk import DataRisk, require_risk, with_terms
from rim_tf.uncertainty.typical import TINY, TypicalErrors

_LARGEST = 12.0
"""The largest distance of a log-variance from its typical value at which the data are probed."""


@keras.saving.register_keras_serializable("rim_tf")
class PixelErrors(display.Shown, keras.Model):
    """Learns the standard deviation of each pixel of a trained RIM.

    With the estimate `u` of the RIM, a typical variance `exp(s_0)`, and random signs `e_k`,

        d_k = exp(s_k / 2),   c_k = d_k (score(u + d_k e_k) - score(u))
        g_k, h_{k+1} = network([u, s_k - s_0, d_k score(u), e_k, c_k, -e_k c_k, ...], h_k)
        s_{k+1} = s_k + g_k,      k = 0 ... probes - 1

    The log-variances `s` are trained by the likelihood of the true parameters, with the estimate
    held fixed, so the estimate stays what it is. Where the RIM gives the posterior mean, the
    variance is that of the posterior; what the RIM gets wrong is counted as an error too.

    **The typical variance.** If the likelihood has a method `simulate`, as `GaussianLikelihood`
    has, data of other parameters are simulated with the operator and the noise of each example,
    `simulations` times, and the RIM is run on them. `exp(s_0)` is the mean square of what it
    leaves, over the pixels: it is right for operators and noise levels that were not in training,
    before any training. The other parameters are up to 64 true ones of the first batch, or the
    estimate itself if the spatial sizes are not fixed. For another likelihood `exp(s_0)` is the
    mean square of the residuals of the first batch, and errors are only right for problems like
    those of the training.

    **What the network sees** besides: the means of `-e_k c_k` and `c_k^2` over the pixels, what
    the RIM left of simulation `k`, in units of `d_k`, and the data if the RIM is shown them; of
    what has no limit the `arcsinh`. The probes tell how strongly the data hold each pixel: for a
    Gaussian likelihood of a linear operator `A` and signs without blocks, the mean of `-e_k c_k`
    is the diagonal of `A^T N^-1 A` times the present variance. The signs of probe `k` are the same
    in blocks of `2^k` pixels, at most 16, because data hold large structures otherwise than small
    ones.

    Args:
        rim: A trained RIM. It is copied, and the copy is never trained.
        network: The network of the log-variances, which needs as many channels as that of the RIM.
            It may be of any kind that a RIM takes, and of the same size or smaller.
        probes: How often the data are probed, at least 1. Defaults to 4.
        simulations: How many data are simulated for each example that is predicted, at least
            `probes`. In training there are `probes`. If the typical variance of one simulation
            has a relative error `e`, that of the mean has `e / sqrt(simulations)`, as long as
            there are as many true parameters. Memory grows with it. Defaults to `None`, `probes`.
        risk_probes: How often Stein's estimate of the squared error of an observation is probed
            when it is predicted. Its ratio to what the network expects scales the variances of the
            observation, in predictions, not in training. Each probe runs the RIM twice; four are
            enough for images. The likelihood must be a `GaussianLikelihood`, or one with Gaussian
            noise and the methods `simulate`, `chi2` and `count`. Defaults to 0, no scaling.
        seed: The seed of signs and simulations. Defaults to 0.
        **kwargs: Arguments of `keras.Model`, such as `name`.

    Call arguments:
        inputs: The observation `y`, or `(y, *args)` as the score takes them, `[batch, ...]` each.

    Returns of a call:
        The estimate and the log-variances after each probe, unlinked,
        `[batch, 1 + probes, *dimensions, channels]`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or the network does not fit the RIM. A call
            raises it if neither `fit` nor `measure_scales` has measured what is typical.

    References:
        Nix & Weigend (1994), doi:10.1109/ICNN.1994.374138, for the likelihood; Stein (1981),
        doi:10.1214/aos/1176345632, for the estimate.
    """

    def __init__(
        self,
        rim: RIM,
        network: StepNetwork,
        *,
        probes: int = 4,
        simulations: int | None = None,
        risk_probes: int = 0,
        seed: int = 0,
        **kwargs: Any,
    ):
        if not isinstance(rim, RIM):
            raise TypeError(f"`rim` must be a `RIM`, got {type(rim).__name__}.")
        super().__init__(autocast=False, dtype=rim.dtype_policy, **kwargs)
        self.rim = rim.copy()
        self.network = network
        self.probes = checks.integer("probes", probes, minimum=1)
        self.seed = checks.integer("seed", seed, minimum=0)
        self.parameters, self.dimensions = self.rim.parameters, self.rim.dimensions
        channels = checks.integer("network.channels", getattr(network, "channels", None))
        if channels != rim.channels:
            raise ValueError(
                f"`network` must have as many channels as the RIM, {rim.channels}, got {channels}."
            )
        self._simulates = hasattr(rim.likelihood, "simulate")
        self.simulations = _checked_simulations(simulations, self.probes, self._simulates)
        self.risk_probes = checks.integer("risk_probes", risk_probes, minimum=0)
        if risk_probes:
            require_risk(rim.likelihood)
        seen = 9 if self._simulates else 8
        check_network(network, self.dimensions, seen * channels + rim.observation_channels)
        fixed = tuple(size for size in self.dimensions if size is not None)
        keeps = self._simulates and len(fixed) == len(self.dimensions)
        sizes = fixed if keeps else None
        self.scales = TypicalErrors(channels, sizes, dtype=self.dtype_policy)
        self.draws = Draws(self.probes, self.seed, dtype=self.dtype_policy)
        self.risk = DataRisk(risk_probes, dtype=self.dtype_policy) if risk_probes else None
        self.factors = self.add_weight(
            name="factors",
            shape=(len(DEVIATIONS),),
            initializer=lambda shape, dtype=None: tf.constant(DEVIATIONS, dtype),
            trainable=False,
        )
        self.built = True
        self.compilation = Compilation(PixelMetrics(self.parameters))

    def call(self, inputs: Data, training: bool = False) -> tf.Tensor:
        """The estimate and the log-variances, `[batch, 1 + probes, *dimensions, channels]`."""
        inputs = as_tensors(inputs, self.variable_dtype)
        found = self.found(inputs, training)
        if self.risk is None or training:
            return found
        terms = self.risk.terms(self.rim, found, self.draws, inputs)
        return self.risk.scaled(found, terms)

    def found(self, inputs: Sequence[Any], training: bool) -> tf.Tensor:
        """What a call returns but for the factor of each observation."""
        with tf.init_scope():  # out of the function that is being compiled
            if not self.scales.measured:
                raise ValueError(
                    "`PixelErrors` must be fitted, or given scales by `measure_scales`: it does "
                    "not know a typical error yet."
                )
        y, *args = inputs
        u = tf.stop_gradient(self.rim((y, *args), training=False)[:, -1])
        shown = self.rim.shown(y)
        at_estimate = self._score(u, y, args)
        residuals = None
        if self._simulates:
            each = self.probes if training else self.simulations
            residuals = self.scales.residuals(self.rim, (y, *args), u, self.draws, each, training)
        typical = self.scales.log_variance(residuals) + tf.zeros_like(u)
        variance = typical
        state = self.network.initial_state(tf.shape(u)[0], spatial_sizes(u))
        variances = []
        for probe in range(self.probes):
            # The slope through the probes is left out, as that through the score of a RIM is.
            distance = tf.clip_by_value(variance - typical, -_LARGEST, _LARGEST)
            deviation = tf.stop_gradient(tf.exp(0.5 * (distance + typical)))
            signs = self.draws.signs(u, probe, training)
            change = deviation * (self._score(u + deviation * signs, y, args) - at_estimate)
            held = -signs * change
            seen = [
                u / tf.convert_to_tensor(self.scales.of_parameters),
                distance,
                tf.asinh(deviation * at_estimate),
                signs,
                tf.asinh(change),
                tf.asinh(held),
                tf.zeros_like(u) + tf.asinh(_mean(held)),
                tf.zeros_like(u) + tf.asinh(tf.sqrt(_mean(tf.square(change)) + TINY)),
                *([] if residuals is None else [tf.asinh(residuals[:, probe] / deviation)]),
                *shown,
            ]
            step, state = self.network(tf.concat(seen, -1), state)
            variance += tf.cast(step, u.dtype)
            variances.append(variance)
        return tf.stack([u, *variances], axis=1)

    def _score(self, u: tf.Tensor, y: tf.Tensor, args: Sequence[Any]) -> tf.Tensor:
        """The score of `u`, of its shape `[batch, *sizes, channels]`, through which none trains."""
        return tf.stop_gradient(tf.ensure_shape(self.rim.score(u, y, *args), u.shape))

    def measure_scales(self, inputs: Data, x: Values, sample_weight: Numbers = None) -> None:
        """Measures scales and keeps true parameters, which `fit` does once by itself.

        Args:
            inputs: The observation `y`, or `(y, *args)`, of some examples, `[batch, ...]`.
            x: Their true parameters, `[batch, *dimensions, channels]` or a dictionary by field.
            sample_weight: Not used; what has no weight may count here. Defaults to `None`.

        Raises:
            ValueError: If a shape is wrong.
        """
        inputs = as_tensors(inputs, self.variable_dtype)
        trajectory = self.rim(tuple(inputs), training=False)
        self.scales.measure(self.parameters.target(x, trajectory), trajectory[:, -1])

    fit = keywords.fit
    evaluate = keywords.evaluate

    def compile(
        self,
        optimizer: str | KerasOptimizer = "adam",
        loss: PixelLikelihood | None = None,
        *,
        jit_compile: bool | str = "auto",
        **kwargs: Any,
    ) -> None:
        """Keras's `compile`, with the likelihood as the loss.

        Args:
            optimizer: What `keras.optimizers.get` takes. Defaults to "adam".
            loss: How the probes are weighted. Defaults to `PixelLikelihood()`.
            jit_compile: Whether XLA compiles the model, as for `RIM.compile`. Defaults to "auto".
            **kwargs: Other arguments of Keras's `compile`.

        Raises:
            TypeError: If the loss is of another kind.
        """
        if not isinstance(loss, PixelLikelihood | None):
            raise TypeError(f"`loss` must be a `PixelLikelihood` or None, got {loss!r}.")
        self.compilation.arguments = {"loss": loss, "jit_compile": jit_compile, **kwargs}
        super().compile(
            optimizer=optimizer,
            loss=loss or PixelLikelihood(),
            jit_compile=resolve_jit(self, jit_compile),
            **kwargs,
        )

    def get_compile_config(self) -> dict[str, Any]:
        """What `compile_from_config` takes; empty if the model was never compiled."""
        config = super().get_compile_config()
        return {**config, "optimizer_built": self.optimizer.built} if config else config

    compile_from_config = compilation.compile_from_config

    @property
    def trainable_variables(self) -> list[KerasVariable]:
        """Those of the network: the RIM is never trained."""
        network: KerasLayer = self.network
        return network.trainable_variables

    @property
    def trainable_weights(self) -> list[KerasVariable]:
        """The same as `trainable_variables`."""
        return self.trainable_variables

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Keras's metrics, and `within`."""
        return [*super().metrics, *self.compilation.metrics.metrics]

    def compute_loss(
        self,
        x: Data = None,
        y: Values = None,
        y_pred: Any = None,
        sample_weight: Numbers = None,
        training: bool = True,
    ) -> tf.Tensor:
        """The compiled loss, a scalar, of parameters `[batch, *dimensions, channels]`."""
        target = self.parameters.target(y, y_pred)
        return super().compute_loss(x, target, y_pred, sample_weight, training)

    def compute_metrics(
        self, x: Data, y: Values, y_pred: tf.Tensor, sample_weight: Numbers = None
    ) -> dict[str, Any]:
        """Adds a batch to the metrics, and returns their values, scalars, by name."""
        self.compilation.metrics.update(y_pred, y, sample_weight)
        target = self.parameters.target(y, y_pred)
        return super().compute_metrics(x, target, y_pred, sample_weight)

    def predict(
        self, y: Data, *args: Any, batch_size: int | None = None, **kwargs: Any
    ) -> Reconstruction:
        """The parameters, with an error for every pixel.

        Args:
            y: The observation, `[batch, ...]`; or a data set, as for `RIM.predict`, in which all
                batches have the same sizes.
            *args: The other arguments of the score, `[batch, ...]` each. A scalar holds for every
                example.
            batch_size: The number of examples at once. Defaults to `None`, all of them up to 256.
            **kwargs: Arguments of Keras's own `predict`, if `y` is a data set.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument is out of range, the batch axes differ, or the model was
                not fitted.
        """
        if isinstance(y, tf.data.Dataset | keras.utils.PyDataset):
            if args or batch_size is not None:
                raise ValueError("`y` must hold arrays for `batch_size` or more arguments.")
            sizes = (*self.dimensions, self.rim.channels)
            data = inputs_only(y, self.rim.argument_counts, sizes, self.parameters.fields)
            predicted = super().predict(data, **kwargs)
        else:
            if kwargs:
                raise TypeError(f"`predict` must be given a data set for {list(kwargs)}.")
            inputs = _together(y, args)
            predicted = in_batches(self._predictor(), inputs, batch_size, self.variable_dtype)
        return self._reconstruction(predicted)

    def _reconstruction(self, predicted: np.ndarray) -> Reconstruction:
        """What a call returned, as estimates, standard deviations and intervals."""
        factors = keras.ops.convert_to_numpy(self.factors)
        deviation = np.exp(0.5 * predicted[:, -1])
        return Reconstruction(predicted[:, 0], deviation, self.parameters.link, factors)

    def _predictor(self) -> Callable[..., Any]:
        """The compiled function from inputs `[batch, ...]` to what a call returns."""
        jit = resolve_jit(self, "auto") is True
        predictors = self.compilation.predictors
        if jit not in predictors:
            predictors[jit] = tf.function(self.__call__, jit_compile=jit, autograph=False)
        return predictors[jit]

    def calibrate(self, y: Data, x: Values, *args: Any, batch_size: int | None = None) -> None:
        """Makes intervals hold as many pixels of these examples as they say.

        Residuals of images are not Gaussian: most are small beside their standard deviation, and
        some are large. The half-widths of intervals are therefore measured, in units of the
        standard deviation, on examples that neither network was trained on. They are saved with
        the weights.

        Args:
            y: The observation, `[batch, ...]`.
            x: The true parameters, `[batch, *dimensions, channels]` or a dictionary by field.
            *args: The other arguments of the score, `[batch, ...]` each.
            batch_size: The number of examples at once. Defaults to `None`, all of them up to 256.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If a shape is wrong.

        References:
            Angelopoulos et al. (2022), arXiv:2202.05265, for the method.
        """
        if self.risk is None:
            reconstruction = self.predict(y, *args, batch_size=batch_size)
        else:
            run, inputs = with_terms(self, self.risk), _together(y, args)
            found, terms = in_batches(run, inputs, batch_size, self.variable_dtype)
            self.risk.measure(terms)
            reconstruction = self._reconstruction(self.risk.scaled(found, terms).numpy())
        self.factors.assign(calibrated_factors(reconstruction, self.parameters, x))

    def _facts(self) -> dict[str, str]:
        size = display.numbers(keras.ops.convert_to_numpy(self.scales.of_residuals))
        simulated = f", and {self.simulations} simulations" if self._simulates else ""
        return {
            "parameters": f"of shape {(*self.dimensions, self.rim.channels)}",
            "rim": f"{self.rim.T} steps, {description.of_network(self.rim.network)}",
            "network": description.of_network(self.network),
            "probes": f"{self.probes}{simulated}",
            "typical error": size if self.scales.measured else "not measured, `fit` will do it",
            "intervals": kind_of_intervals(keras.ops.convert_to_numpy(self.factors)),
            "state": description.state(self),
        }

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments, that of the RIM as its own configuration."""
        config = self.rim.get_config()
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "probes": self.probes,
            "simulations": self.simulations if self._simulates else None,
            "risk_probes": self.risk_probes,
            "seed": self.seed,
            "rim": config,
            "functions": config["functions"],
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Json], custom_objects: Mapping[str, Any] | None = None
    ) -> "PixelErrors":
        """Makes the model from its configuration.

        Args:
            config: What `get_config` returned.
            custom_objects: The functions of the RIM that Keras cannot store, by the name of their
                argument. Defaults to `None`.

        Raises:
            ValueError: If a function is missing.
        """
        arguments = dict(config)
        rim = RIM.from_config(arguments.pop("rim"), custom_objects)
        for derived in ("functions", "dtype"):
            arguments.pop(derived, None)
        with SafeModeScope(True):
            network = keras.saving.deserialize_keras_object(
                arguments.pop("network"), custom_objects=custom_objects
            )
        return cls(rim, network, **arguments)

    @classmethod
    def from_checkpoints(
        cls, directory: str | Path, which: str | int = "best", **functions: Any
    ) -> "PixelErrors":
        """Makes the model of a saved fit, as `RIM.from_checkpoints` makes a RIM.

        Args:
            directory: The `checkpoints_directory` of the fit.
            which: "best" (the default), "newest", or the number of an epoch.
            **functions: The functions of the RIM that Keras could not store, by argument.

        Raises:
            ValueError: If there is no such checkpoint, or a function is missing.
        """
        return checkpoints.load(cls, directory, which, functions)


def _mean(values: tf.Tensor) -> tf.Tensor:
    """The mean over the pixels, `[batch, 1, ..., channels]`."""
    axes = list(range(1, len(values.shape) - 1))
    return tf.reduce_mean(values, axes, keepdims=True) if axes else values


def _together(y: Data, args: Sequence[Any]) -> tuple[Any, ...]:
    """An observation, perhaps with arguments of the score in a tuple, and further arguments."""
    return (*y, *args) if isinstance(y, tuple | list) else (y, *args)


def _checked_simulations(simulations: int | None, probes: int, simulates: bool) -> int:
    """How many data are simulated for each example, by default as many as there are probes."""
    if simulations is None:
        return probes
    if not simulates:
        raise ValueError("`simulations` must be None for a likelihood without `simulate`.")
    return checks.integer("simulations", simulations, minimum=probes)
