"""The recurrent inference machine: a learned optimiser, unrolled, as a Keras model."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras.src.saving.serialization_lib import SafeModeScope

from imnn_tf.utils import checks, display
from imnn_tf.utils.types import Json, Numbers
from rim_tf import (  # noqa: F401 - importing networks registers them
    adaptation,
    description,
    networks,
    prediction,
)
from rim_tf.fitting import checkpoints, compilation, keywords, weights
from rim_tf.fitting.compilation import Compilation
from rim_tf.fitting.data import Data
from rim_tf.fitting.losses import broadcast_weights
from rim_tf.fitting.metrics import TrajectoryMetrics
from rim_tf.networks.layers import spatial_sizes
from rim_tf.networks.protocol import State, StepNetwork, check_network
from rim_tf.problem.functions import (
    check_functions,
    count_score_arguments,
    restore_functions,
    store_functions,
)
from rim_tf.problem.likelihoods import Likelihood
from rim_tf.problem.links import InverseChoice, LinkChoice
from rim_tf.problem.observation import as_channels, as_tensors, observed_sizes, require_real
from rim_tf.problem.parameters import COMPLEX_PARAMETERS, Parameters, Values, check_shape
from rim_tf.problem.preprocessing import Preprocessing, Scaled, get_preprocessing
from rim_tf.problem.scales import Scales, Unscaled
from rim_tf.problem.scores import EnergyFunction, ScoreFunction, named, unlinked_score
from rim_tf.recomputation import check_recomputable, recomputed


@keras.saving.register_keras_serializable("rim_tf")
class RIM(display.Shown, keras.Model):
    """Solves inverse problems by steps that a network proposes from the score.

    From an observation `y`, the other arguments of the score, and an initial iterate `u_0`,

        g_t, h_{t+1} = network([u_t, preprocess(score(u_t, y, ...)) (, y)], h_t)
        u_{t+1} = u_t + g_t,      t = 0 ... T - 1

    The iterates `u` are unbounded numbers, with parameters `x = link(u)`. The output of the model
    is the whole trajectory `u_1 ... u_T`, `[batch, T, *dimensions, channels]`.

    Args:
        dimensions: The spatial sizes of the parameters; `()` for a vector, `None` for a size that
            the observation (or the approximate inverse) decides.
        network: The Keras layer that proposes the steps; `rim_tf.networks` says what it must do.
        score_fn: `score_fn(x, y, *args)`, the gradient of the log probability with respect to the
            parameters `x`, `[batch, *dimensions, channels]`, with the shape of `x`. Exactly one
            of `score_fn`, `energy_fn` and `likelihood` must be given.
        energy_fn: `energy_fn(x, y, *args)`, minus the log probability up to a constant, `[batch]`.
        likelihood: An object with the methods `score(x, y, *args)` and `chi2(x, y, *args)`, such
            as `GaussianLikelihood`. Its chi-squared is logged as a metric.
        T: The number of steps, which can be changed when predicting. Defaults to 10.
        link_function: A name in `rim_tf.problem.links.LINKS` or a function, from unbounded
            numbers to parameters; with `fields`, a dictionary by field. Defaults to the identity.
        inverse_link_function: The inverse of each link that is a function. Defaults to `None`.
        fields: The number of channels of each field by name, if the parameters are several fields
            on the same grid. `x` is then a dictionary by field everywhere. Defaults to `None`.
        initialization_method: What `u_0` is. "zeros" (the default); "approximate_inverse", the
            inverse link of `approximate_inverse_fn`; or "model", the network's answer to zeros
            (and the observation).
        approximate_inverse_fn: `approximate_inverse_fn(y, *args)`, approximate parameters,
            `[batch, *dimensions, channels]`. Defaults to `None`.
        score_preprocessing_method: "scaled" (the default), in units that `fit` measures on its
            first batch; "identity", "arcsinh", "adam", "rmsprop"; or an object like those in
            `rim_tf.problem.preprocessing`.
        epsilon: What keeps the quotients of "adam" and "rmsprop" finite. Defaults to 1e-7.
        beta_1: The decay rate of the mean score, for "adam". Defaults to 0.9.
        beta_2: The decay rate of the mean squared score, for "adam". Defaults to 0.999.
        vectorize: Whether the function is for one example, without batch axes. Defaults to False.
        score_gradient: Whether training differentiates through the score. Defaults to False.
        observation_channels: The number of channels of the observation, if it is on the grid of
            the parameters and is shown to the network at every step. A complex channel counts
            as two, its real and its imaginary part. Defaults to 0, not shown.
        remat: Whether training computes every step again in the backward pass. It then keeps the
            iterates and hidden states alone, and not what the network computes between them, for
            about a third more time. Defaults to False.
        **kwargs: Arguments of `keras.Model`, such as `name` and `dtype`.

    Call arguments:
        inputs: The observation `y`, or `(y, *args)` as the score takes them, `[batch, ...]` each.
        T: The number of steps. Defaults to `None`, the model's own.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or does not fit another.

    References:
        Putzky & Welling (2017), arXiv:1706.04008, equations 6 to 8.
    """

    def __init__(
        self,
        dimensions: Sequence[int | None],
        network: StepNetwork,
        *,
        score_fn: ScoreFunction | None = None,
        energy_fn: EnergyFunction | None = None,
        likelihood: Likelihood | None = None,
        T: int = 10,
        link_function: LinkChoice = None,
        inverse_link_function: InverseChoice = None,
        fields: Mapping[str, int] | None = None,
        initialization_method: str = "zeros",
        approximate_inverse_fn: Callable[..., Values] | None = None,
        score_preprocessing_method: str | Preprocessing = "scaled",
        epsilon: float = 1e-7,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        vectorize: bool = False,
        score_gradient: bool = False,
        observation_channels: int = 0,
        remat: bool = False,
        **kwargs: Any,
    ):
        # Under mixed precision Keras would round the observation to 16 bits before `call` sees it.
        super().__init__(autocast=False, **kwargs)
        self.dimensions = checks.sizes("dimensions", dimensions, unknown=True)
        self.network = network
        self.channels = checks.integer(
            "network.channels", getattr(network, "channels", None), minimum=1
        )
        self.T = checks.integer("T", T, minimum=1)
        self.initialization_method = initialization_method
        self.score_preprocessing = get_preprocessing(
            score_preprocessing_method, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon
        )
        self.vectorize = checks.flag("vectorize", vectorize)
        self.score_gradient = checks.flag("score_gradient", score_gradient)
        self.observation_channels = checks.integer(
            "observation_channels", observation_channels, minimum=0
        )
        self.scales: Scales | Unscaled = Unscaled()
        if isinstance(self.score_preprocessing, Scaled):
            self.scales = Scales(self.channels, self.observation_channels, dtype=self.dtype_policy)
        self.parameters = Parameters(self.channels, fields, link_function, inverse_link_function)
        self._functions = check_functions(
            initialization_method,
            score_fn=score_fn,
            energy_fn=energy_fn,
            likelihood=likelihood,
            link_function=link_function,
            inverse_link_function=inverse_link_function,
            approximate_inverse_fn=approximate_inverse_fn,
        )
        self.score = unlinked_score(
            self.parameters.link,
            score_fn=named("score_fn", score_fn) if likelihood is None else likelihood.score,
            energy_fn=named("energy_fn", energy_fn),
            vectorize=self.vectorize and likelihood is None,
            gradient=self.score_gradient,
        )
        check_network(network, self.dimensions, 2 * self.channels + self.observation_channels)
        self.remat = checks.flag("remat", remat)
        if self.remat:
            check_recomputable(network, self.dimensions, 2 * self.channels + observation_channels)
        self.built = True
        self.compilation = Compilation(TrajectoryMetrics(self.parameters, likelihood))

    def call(self, inputs: Data, training: bool = False, T: int | None = None) -> tf.Tensor:
        """The unlinked trajectory `[batch, T, *dimensions, channels]` of inputs `[batch, ...]`."""
        y, *args = as_tensors(inputs, self.variable_dtype)
        shown = self.shown(y)
        u, state = self._start(y, args, shown)
        moments = self.score_preprocessing.initial_state(u)
        # Scores are not part of it: while it computes, TensorFlow records nothing, and the tape
        # with which a score is found would see nothing.
        advance = recomputed(self._advance) if self.remat else self._advance
        trajectory = []
        for step in range(self.T if T is None else T):
            # With sizes that are known, padding is faster, and a user's score may have lost them.
            score = tf.ensure_shape(self.score(u, y, *args), u.shape)
            seen, moments = self.score_preprocessing(self.scales.scores(score), moments, step)
            u, state = advance(u, seen, shown, state)
            trajectory.append(u)
        return tf.stack(trajectory, axis=1)

    def _advance(
        self, u: tf.Tensor, seen: tf.Tensor, shown: list[tf.Tensor], state: State
    ) -> tuple[tf.Tensor, State]:
        """The next iterate, `[batch, *dimensions, channels]`, and hidden state."""
        inputs = tf.concat([self.scales.parameters(u), seen, *shown], -1)
        update, state = self._propose(inputs, state)
        return u + self.scales.steps(tf.cast(update, u.dtype)), state

    def shown(self, y: tf.Tensor) -> list[tf.Tensor]:
        """The data that the network is shown, `[batch, *dimensions, channels]`, or none."""
        return self.scales.data(as_channels(y, self.dimensions, self.observation_channels))

    def _start(
        self, y: tf.Tensor, args: Sequence[Any], shown: list[tf.Tensor]
    ) -> tuple[tf.Tensor, State]:
        """The initial iterate, `[batch, *dimensions, channels]`, and the hidden state."""
        if self.initialization_method == "approximate_inverse":
            inverse = self._functions["approximate_inverse_fn"](y, *args)
            unlinked = self.parameters.unlink(inverse)
            require_real("`approximate_inverse_fn`'s result", unlinked, COMPLEX_PARAMETERS)
            u = tf.cast(unlinked, self.variable_dtype)
            check_shape("`approximate_inverse_fn`'s result", u, (*self.dimensions, self.channels))
        else:
            sizes = observed_sizes(y, self.dimensions)
            count = tf.shape(tf.nest.flatten(y)[0])[0]  # of one or several observations
            u = tf.zeros([count, *sizes, self.channels], self.variable_dtype)
        count = tf.shape(u)[0]
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            count = tf.maximum(count, 1)  # as in `_propose`
        state = self.network.initial_state(count, spatial_sizes(u))
        if self.initialization_method == "model":
            # Without a score: there is none before there is an iterate.
            first, state = self._propose(tf.concat([u, tf.zeros_like(u), *shown], -1), state)
            u = self.scales.steps(tf.cast(first, u.dtype))
        return u, state

    def _propose(self, inputs: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """The network's step, `[batch, *dimensions, channels]`, and its new state."""
        if tf.distribute.get_strategy().num_replicas_in_sync == 1:
            return self.network(inputs, state)
        # The last batch may leave a replica without examples, and TensorFlow's convolutions of
        # nothing have a wrong shape. The network then sees an example of zeros, left out after.
        count = tf.shape(inputs)[0]
        widths: Any = [[0, tf.maximum(1 - count, 0)], *[[0, 0]] * (len(inputs.shape) - 1)]
        step, state = self.network(tf.pad(inputs, widths), state)
        return step[:count], state

    def measure_scales(self, inputs: Data, x: Values, sample_weight: Numbers = None) -> None:
        """Measures the scales of parameters, scores and data, which `fit` does once by itself.

        Args:
            inputs: The observation `y`, or `(y, *args)`, of some examples, `[batch, ...]`.
            x: Their true parameters, `[batch, *dimensions, channels]` or a dictionary by field.
            sample_weight: Weights as for `fit`. What has no weight does not count. Defaults to
                `None`, everything counts.

        Raises:
            ValueError: If `score_preprocessing_method` is not "scaled", or a shape is wrong.
        """
        if not isinstance(self.scales, Scales):
            raise ValueError("`score_preprocessing_method` must be 'scaled' to measure scales.")
        y, *args = as_tensors(inputs, self.variable_dtype)
        shown = as_channels(y, self.dimensions, self.observation_channels)
        start, _ = self._start(y, args, self.scales.data(shown))
        target = self.parameters.target(x, start[:, tf.newaxis])
        if sample_weight is not None:
            without = tf.equal(broadcast_weights(sample_weight, target), 0)
            target = tf.where(without, start, target)
        scores = [self.score(u, y, *args) for u in (start, target)]
        self.scales.measure(target, start, scores, shown)

    # Keras's own, with torch_rim's keywords and layouts of data, which `keywords` translates.
    compile = compilation.compile
    get_compile_config = compilation.get_compile_config
    compile_from_config = compilation.compile_from_config
    fit = keywords.fit
    evaluate = keywords.evaluate
    predict = prediction.predict
    adapt = adaptation.adapt
    plot_trajectory = prediction.plot_trajectory
    save_weights = weights.save_weights
    load_weights = weights.load_weights

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Keras's metrics, and those of the trajectory."""
        return [*super().metrics, *self.compilation.metrics.metrics]

    def compute_loss(
        self,
        x: Data = None,
        y: Values = None,
        y_pred: Any = None,
        sample_weight: Numbers = None,
        training: bool = True,
    ) -> tf.Tensor:
        """The compiled loss of targets and trajectory, a scalar.

        `x` is `[batch, ...]`, `y` is `[batch, *dimensions, channels]` or a dictionary by field, and
        `y_pred` is `[batch, T, *dimensions, channels]`; `sample_weight` is as for `fit`.
        """
        target, y_pred = self._compared(y, y_pred)
        return super().compute_loss(x, target, y_pred, sample_weight, training)

    def compute_metrics(
        self, x: Data, y: Values, y_pred: tf.Tensor, sample_weight: Numbers = None
    ) -> dict[str, Any]:
        """Adds a batch to the metrics, and returns their values, scalars, by name.

        `x` is `[batch, ...]`, `y` is `[batch, *dimensions, channels]` or a dictionary by field, and
        `y_pred` is `[batch, T, *dimensions, channels]`; `sample_weight` is as for `fit`.
        """
        inputs = as_tensors(x, self.variable_dtype)
        self.compilation.metrics.update(y_pred, inputs, y, sample_weight)
        target, y_pred = self._compared(y, y_pred)
        return super().compute_metrics(x, target, y_pred, sample_weight)

    def _compared(self, y: Values, trajectory: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The targets and the trajectory as the loss compares them; see `compile`."""
        target = self.parameters.target(y, trajectory)
        if self.compilation.loss_of == "u":
            return target, trajectory
        return self.parameters.joined(target), self.parameters.joined(trajectory)

    def predict_step(self, data: Data) -> Values:
        """The parameters for one batch of a data set, `[batch, *dimensions, channels]`."""
        inputs = keras.utils.unpack_x_y_sample_weight(data)[0]
        return self.parameters.link(self(inputs, training=False)[:, -1])

    @property
    def likelihood(self) -> Likelihood | None:
        """The likelihood, unless a score or an energy was given."""
        return self._functions["likelihood"]

    def copy(self) -> "RIM":
        """A RIM of its own with the same arguments, functions and weights, not compiled."""
        twin = type(self).from_config(self.get_config(), self._functions)
        for variable, value in zip(twin.variables, self.variables, strict=True):
            variable.assign(value)
        return twin

    @property
    def argument_counts(self) -> tuple[int, int | None]:
        """The least and the largest number of arguments of the score after `y`.

        The largest is `None` without a limit.
        """
        return count_score_arguments(self._functions)

    def _facts(self) -> dict[str, str]:
        return description.facts(self, self._functions)

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments. Functions that Keras cannot store are marked as missing."""
        serialized = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "dimensions": self.dimensions,
            "network": serialized(self.network),
            "T": self.T,
            "fields": self.parameters.fields,
            "initialization_method": self.initialization_method,
            "score_preprocessing_method": serialized(self.score_preprocessing),
            "vectorize": self.vectorize,
            "score_gradient": self.score_gradient,
            "observation_channels": self.observation_channels,
            "remat": self.remat,
            "functions": store_functions(self._functions),
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Json], custom_objects: Mapping[str, Any] | None = None
    ) -> "RIM":
        """Makes a RIM from its configuration.

        Args:
            config: What `get_config` returned.
            custom_objects: The functions that Keras cannot store, by the name of their argument.
                Those passed to `keras.saving.load_model` are found too. Defaults to `None`.

        Raises:
            ValueError: If a function is missing.
        """
        arguments = dict(config)
        # The scope holds whatever the user enabled: code in a file is never run.
        with SafeModeScope(True):
            functions = restore_functions(arguments.pop("functions"), custom_objects or {})
            for name in ("network", "score_preprocessing_method"):
                arguments[name] = keras.saving.deserialize_keras_object(
                    arguments[name], custom_objects=custom_objects
                )
        return cls(**arguments, **functions)

    @classmethod
    def from_checkpoints(
        cls, directory: str | Path, which: str | int = "best", **functions: Any
    ) -> "RIM":
        """Makes the RIM of a saved fit, with its weights, or their moving average if it kept one.

        Args:
            directory: The `checkpoints_directory` of the fit.
            which: "best" (the default), "newest", or the number of an epoch.
            **functions: The functions that Keras could not store, by argument: `score_fn`, ...

        Raises:
            ValueError: If there is no such checkpoint, or a function is missing.
        """
        return checkpoints.load(cls, directory, which, functions)
