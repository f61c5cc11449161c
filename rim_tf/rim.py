"""The recurrent inference machine: a learned optimiser, unrolled, as a Keras model."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import keras
import tensorflow as tf

from imnn_tf.utils import checks
from rim_tf import checkpoints as saved_fits
from rim_tf import prediction
from rim_tf.configuration import restore_functions, store_functions
from rim_tf.data import as_tensors
from rim_tf.parameters import Parameters, check_shape
from rim_tf.preprocessing import get_preprocessing
from rim_tf.scores import unlinked_score
from rim_tf.training import Training

INITIALIZATIONS = ("zeros", "approximate_inverse", "model")


@keras.saving.register_keras_serializable("rim_tf")
class RIM(Training):
    """Solves inverse problems by steps that a network proposes from the score.

    From an observation `y`, anything else that the score depends on, and `u_0`,

        g_t, h_{t+1} = network([u_t, preprocess(score(u_t, y, ...)) (, y)], h_t)
        u_{t+1} = u_t + g_t,      t = 0 ... T - 1

    in unlinked numbers `u`, with parameters `x = link(u)`. The model's output is the whole
    trajectory `u_1 ... u_T`, of shape `(batch, T, *dimensions, channels)`.

    Args:
        dimensions: Spatial sizes of the parameters; `()` for a vector, `None` for a size that
            the observation (or the approximate inverse) decides.
        network: Proposes the steps; see `rim_tf.networks` for those here and for what one of
            your own must do.
        score_fn: `score_fn(x, y, *args)`, the gradient of the log probability with respect to
            the parameters `(batch, *dimensions, channels)`, of the same shape. Exactly one of
            `score_fn`, `energy_fn` and `likelihood` must be given.
        energy_fn: `energy_fn(x, y, *args)`, minus the log probability up to a constant,
            `(batch,)`.
        likelihood: An object with methods `score(x, y, *args)` and `chi2(x, y, *args)`, such
            as `GaussianLikelihood`. Its chi-squared is reported as a metric.
        T: The number of steps; can be changed when predicting.
        link_function: From unlinked numbers to parameters: a name in `rim_tf.links.LINKS`, or
            a function. With `fields`, a dictionary of those by field.
        inverse_link_function: The inverse of each link that is a function.
        fields: Channels of each field by name, when the parameters are a dictionary of fields
            on the same grid; `x` is then that dictionary everywhere.
        initialization_method: `u_0` is "zeros"; the inverse link of `approximate_inverse_fn`;
            or, with "model", the network's answer to zeros (and the observation).
        approximate_inverse_fn: `approximate_inverse_fn(y, *args)`, parameters.
        score_preprocessing_method: "identity", "arcsinh", "adam", "rmsprop", or an object as
            in `rim_tf.preprocessing`.
        epsilon: For "adam" and "rmsprop".
        beta_1: For "adam".
        beta_2: For "adam".
        vectorize: Whether `score_fn` or `energy_fn` is of one example, without batch axes.
        score_gradient: Whether training differentiates through the score.
        observation_channels: Channels of an observation on the parameters' own grid that is
            shown to the network at every step; 0 keeps it out.
        **kwargs: Keras's own, such as `name` and `dtype`.

    Call arguments:
        inputs: The observation, or a tuple of the observation and the score's other arguments,
            each with the batch as its first axis.
        T: The number of steps, if not the model's own.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or does not fit another.

    References:
        Putzky & Welling (2017), arXiv:1706.04008, equations 6 to 8.
    """

    def __init__(
        self,
        dimensions: Sequence[int | None],
        network: Any,
        *,
        score_fn: Callable[..., Any] | None = None,
        energy_fn: Callable[..., Any] | None = None,
        likelihood: Any = None,
        T: int = 10,
        link_function: Any = None,
        inverse_link_function: Any = None,
        fields: Mapping[str, int] | None = None,
        initialization_method: str = "zeros",
        approximate_inverse_fn: Callable[..., Any] | None = None,
        score_preprocessing_method: Any = "identity",
        epsilon: float = 1e-7,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        vectorize: bool = False,
        score_gradient: bool = False,
        observation_channels: int = 0,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        self.dimensions = checks.sizes("dimensions", dimensions, unknown=True)
        self.network = network
        self.channels = checks.integer(
            "network.channels", getattr(network, "channels", None), minimum=1
        )
        self.T = checks.integer("T", T, minimum=1)
        self.initialization_method = checks.choice(
            "initialization_method", initialization_method, INITIALIZATIONS
        )
        self.score_preprocessing = get_preprocessing(
            score_preprocessing_method, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon
        )
        self.vectorize = checks.flag("vectorize", vectorize)
        self.score_gradient = checks.flag("score_gradient", score_gradient)
        self.observation_channels = checks.integer(
            "observation_channels", observation_channels, minimum=0
        )
        self.parameters = Parameters(self.channels, fields, link_function, inverse_link_function)
        functions = {
            "score_fn": score_fn,
            "energy_fn": energy_fn,
            "likelihood": likelihood,
            "link_function": link_function,
            "inverse_link_function": inverse_link_function,
            "approximate_inverse_fn": approximate_inverse_fn,
        }
        self._functions = _check_functions(functions, self.initialization_method)
        self._score = unlinked_score(
            self.parameters.link,
            score_fn=likelihood.score if likelihood is not None else score_fn,
            energy_fn=energy_fn,
            vectorize=self.vectorize and likelihood is None,
            gradient=self.score_gradient,
        )
        self._build_network()
        self._prepare_training(likelihood)
        self._predictors: dict[Any, Callable[..., Any]] = {}

    # The model

    def call(self, inputs: Any, training: bool = False, T: int | None = None) -> tf.Tensor:
        """The trajectory `(batch, T, *dimensions, channels)`, unlinked."""
        y, *args = as_tensors(inputs, self.variable_dtype)
        shown = self._shown(y)
        x, state = self._start(y, args, shown)
        memory = self.score_preprocessing.initial_state(x)
        trajectory = []
        for step in range(self.T if T is None else T):
            score = tf.ensure_shape(self._score(x, y, *args), x.shape)
            score, memory = self.score_preprocessing(score, memory, step)
            update, state = self._propose([x, score, *shown], state)
            x = x + update
            trajectory.append(x)
        return tf.stack(trajectory, axis=1)

    def _propose(self, seen: list[tf.Tensor], state: Any) -> tuple[tf.Tensor, Any]:
        """One call of the network: the step, and the new state."""
        update, state = self.network(tf.concat(seen, -1), state)
        return tf.cast(update, self.variable_dtype), state

    def _shown(self, y: tf.Tensor) -> list[tf.Tensor]:
        """The observation as channels beside the parameters, if the network is to see it."""
        if not self.observation_channels:
            return []
        if len(y.shape) == len(self.dimensions) + 1:
            y = y[..., tf.newaxis]
        expected = (*self.dimensions, self.observation_channels)
        got = tuple(y.shape[1:])
        if len(got) != len(expected) or any(
            want not in (None, size) for want, size in zip(expected, got, strict=True)
        ):
            raise ValueError(
                f"`y` must have shape (batch, *{expected}) to be shown to the network as "
                f"`observation_channels` says, got {y.shape}."
            )
        return [y]

    def _start(
        self, y: tf.Tensor, args: Sequence[Any], shown: list[tf.Tensor]
    ) -> tuple[tf.Tensor, Any]:
        """The initial iterate and hidden state."""
        if self.initialization_method == "approximate_inverse":
            inverse = self._functions["approximate_inverse_fn"](y, *args)
            x = tf.cast(self.parameters.unlink(inverse), self.variable_dtype)
            check_shape("`approximate_inverse_fn`'s result", x, (*self.dimensions, self.channels))
        else:
            sizes = self._observed_sizes(y)
            x = tf.zeros([tf.shape(y)[0], *sizes, self.channels], self.variable_dtype)
        state = self.network.initial_state(tf.shape(x)[0], x.shape[1:-1].as_list())
        if self.initialization_method == "model":
            x, state = self._propose([x, tf.zeros_like(x), *shown], state)
        return x, state

    def _observed_sizes(self, y: tf.Tensor) -> list[int]:
        seen = y.shape[1 : 1 + len(self.dimensions)].as_list()
        seen += [None] * (len(self.dimensions) - len(seen))
        sizes = [want or got for want, got in zip(self.dimensions, seen, strict=True)]
        if None in sizes:
            raise ValueError(
                f"`dimensions` {self.dimensions} leaves sizes to the observation, "
                f"but that has shape {y.shape}."
            )
        return sizes

    def _build_network(self) -> None:
        """Makes the network's weights, and checks that it does what a RIM needs."""
        if not isinstance(self.network, keras.layers.Layer):
            raise TypeError(
                "`network` must be a keras.layers.Layer or keras.Model, "
                f"got {type(self.network).__name__}."
            )
        checks.function("network.initial_state", getattr(self.network, "initial_state", None))
        rank = getattr(self.network, "dimensions", None)
        if isinstance(rank, int) and rank != len(self.dimensions):
            raise ValueError(
                f"`network` must have as many dimensions as `dimensions` {self.dimensions}, "
                f"got {rank}."
            )
        sizes = [16 if size is None else size for size in self.dimensions]
        channels = 2 * self.channels + self.observation_channels
        state = self.network.initial_state(1, sizes)
        step, new_state = self.network(tf.zeros([1, *sizes, channels]), state)
        expected = [1, *sizes, self.channels]
        if step.shape.as_list() != expected:
            raise ValueError(f"`network` must return a step {expected}, got {step.shape}.")
        old, new = (tf.nest.map_structure(tf.shape, each) for each in (state, new_state))
        tf.nest.assert_same_structure(old, new)
        for was, now in zip(tf.nest.flatten(old), tf.nest.flatten(new), strict=True):
            if was.numpy().tolist() != now.numpy().tolist():
                raise ValueError(
                    f"`network` must return states of the shapes it got, {was.numpy()}, "
                    f"got {now.numpy()}."
                )
        self.built = True

    # Prediction

    def predict(
        self,
        y: Any,
        *args: Any,
        T: int | None = None,
        batch_size: int | None = None,
        trajectory: bool = False,
        jit_compile: bool | str = "auto",
        **kwargs: Any,
    ) -> Any:
        """The parameters, in their own space.

        Args:
            y: The observation, `(batch, ...)`; or a tuple of it and the score's other
                arguments; or a `tf.data.Dataset` or `keras.utils.PyDataset` of either, which
                Keras's own `predict` then runs through.
            *args: The score's other arguments, each with the batch as its first axis; a
                scalar holds for every example.
            T: The number of steps, if not the model's own.
            batch_size: How many examples at once; all, up to 256, when `None`.
            trajectory: Whether to return all steps, `(batch, T, ...)`, or the last.
            jit_compile: As for `compile`.
            **kwargs: For Keras's own `predict`: `verbose`, `steps`, `callbacks`.

        Returns:
            An array `(batch, *dimensions, channels)`, or a dictionary of those by field.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument is out of range, or the batch axes differ.
        """
        if isinstance(y, tf.data.Dataset | keras.utils.PyDataset):
            if args or T is not None or trajectory:
                raise ValueError("`y` must hold arrays for `T`, `trajectory` or more arguments.")
            return super().predict(y, batch_size=batch_size, **kwargs)
        inputs = tuple(y) + args if isinstance(y, tuple | list) else (y, *args)
        steps = self.T if T is None else checks.integer("T", T, minimum=1)
        jit = self.resolve_jit(jit_compile) is True
        key = (steps, trajectory, jit)
        if key not in self._predictors:
            self._predictors[key] = prediction.compiled(self, *key)
        return prediction.in_batches(self._predictors[key], inputs, batch_size, self.variable_dtype)

    def plot_trajectory(self, y: Any, *args: Any, truth: Any = None, **options: Any) -> Any:
        """Draws how one example's parameters change from step to step.

        Args:
            y: The observation, with a batch axis.
            *args: The score's other arguments.
            truth: The true parameters, drawn beside them if given.
            **options: `T`, as for `predict`; `example`, `channel`, `axes`, as for
                `rim_tf.plotting.plot_trajectory`.

        Returns:
            The Matplotlib axes, as an array.
        """
        from rim_tf import plotting

        steps = options.pop("T", None)
        trajectory = self.predict(y, *args, T=steps, trajectory=True)
        return plotting.plot_trajectory(trajectory, truth=truth, **options)

    def predict_step(self, data: Any) -> Any:
        """The parameters of one element of a data set."""
        return self.parameters.link(self(prediction.inputs_of(data), training=False)[:, -1])

    # Configuration

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments; functions that Keras cannot store are marked missing."""
        return {
            **super().get_config(),
            "dimensions": self.dimensions,
            "network": keras.saving.serialize_keras_object(self.network),
            "T": self.T,
            "fields": self.parameters.fields,
            "initialization_method": self.initialization_method,
            "score_preprocessing_method": keras.saving.serialize_keras_object(
                self.score_preprocessing
            ),
            "vectorize": self.vectorize,
            "score_gradient": self.score_gradient,
            "observation_channels": self.observation_channels,
            "functions": store_functions(self._functions),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "RIM":
        """A RIM from its configuration.

        Args:
            config: As returned by `get_config`.
            custom_objects: The functions that Keras cannot store, by the name of their
                argument; also those passed to `keras.saving.load_model` or set by
                `keras.saving.custom_object_scope` are found.

        Raises:
            ValueError: If a function is missing.
        """
        import_module("rim_tf.networks")  # so that Keras knows them
        config = dict(config)
        functions = restore_functions(config.pop("functions"), custom_objects or {})
        for name in ("network", "score_preprocessing_method"):
            config[name] = keras.saving.deserialize_keras_object(
                config[name], custom_objects=custom_objects
            )
        return cls(**config, **functions)

    @classmethod
    def from_checkpoints(cls, directory: Any, which: Any = "best", **functions: Any) -> "RIM":
        """The model of a fit that was saved: network, weights, T, preprocessing, everything.

        Args:
            directory: The `checkpoints_directory` of the fit.
            which: "best", "newest", or the number of an epoch. Where the fit kept a moving
                average of the weights, the model gets that.
            **functions: The functions that Keras could not store, by argument: `score_fn`, ...

        Raises:
            ValueError: If there is no such checkpoint, or a function is missing.
        """
        return saved_fits.load(cls, directory, which, functions)


def _check_functions(functions: dict[str, Any], initialization: str) -> dict[str, Any]:
    """Checks what the user gave against each other and what must be callable."""
    given = [
        name for name in ("score_fn", "energy_fn", "likelihood") if functions[name] is not None
    ]
    if len(given) != 1:
        raise ValueError(
            "Exactly one of `score_fn`, `energy_fn` and `likelihood` must be given, "
            f"got {given or 'none'}."
        )
    for name in ("score_fn", "energy_fn", "approximate_inverse_fn"):
        if functions[name] is not None:
            checks.function(name, functions[name])
    if functions["likelihood"] is not None:
        for method in ("score", "chi2"):
            checks.function(f"likelihood.{method}", getattr(functions["likelihood"], method, None))
    if (initialization == "approximate_inverse") != (
        functions["approximate_inverse_fn"] is not None
    ):
        raise ValueError(
            "`approximate_inverse_fn` must be given if and only if `initialization_method` is "
            f"'approximate_inverse', got {initialization!r}."
        )
    return functions
