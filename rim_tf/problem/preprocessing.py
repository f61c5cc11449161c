"""What is done to a score before the network sees it.

Scores span orders of magnitude, between examples and along a trajectory. Whatever a method
remembers from step to step is state that the RIM passes along. It is never kept on the object, so
one object can serve any number of trajectories at once.

To add a method, write a class like those here and add it to `METHODS`.
"""

from typing import Any, Protocol, TypeAlias

import keras
import tensorflow as tf

from imnn_tf.utils import checks

# What a method remembers from step to step: tensors `[batch, ...]`.
Moments: TypeAlias = tuple[tf.Tensor, ...]


class Preprocessing(Protocol):
    """What a RIM needs of a preprocessing method."""

    def initial_state(self, x: tf.Tensor) -> Moments:
        """The state before the first step, tensors `[batch, ...]`.

        Args:
            x: The parameters, unlinked, `[batch, *sizes, channels]`.
        """

    def __call__(self, score: tf.Tensor, state: Moments, step: int) -> tuple[tf.Tensor, Moments]:
        """One step.

        Args:
            score: `[batch, *sizes, channels]`.
            state: What `initial_state` or the step before returned, tensors `[batch, ...]`.
            step: The number of the step, counted from zero.

        Returns:
            What the network sees, of the shape of `score`, and the new state, of the shapes of
            `state`.
        """


@keras.saving.register_keras_serializable("rim_tf")
class Identity:
    """The score as it is."""

    def initial_state(self, x: tf.Tensor) -> Moments:
        """The empty tuple, because nothing is remembered.

        Args:
            x: The parameters, unlinked, `[batch, *sizes, channels]`.
        """
        return ()

    def __call__(self, score: tf.Tensor, state: Moments, step: int) -> tuple[tf.Tensor, Moments]:
        """One step.

        Args:
            score: `[batch, *sizes, channels]`.
            state: The empty tuple, because nothing is remembered.
            step: The number of the step, counted from zero.

        Returns:
            What the network sees, of the shape of `score`, and the new state, the same.
        """
        return score, state

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Identity":
        """Makes the method from its constructor arguments."""
        return cls(**config)


@keras.saving.register_keras_serializable("rim_tf")
class Arcsinh(Identity):
    """`arcsinh(score)`: linear for small scores, logarithmic for large ones."""

    def __call__(self, score: tf.Tensor, state: Moments, step: int) -> tuple[tf.Tensor, Moments]:
        """One step.

        Args:
            score: `[batch, *sizes, channels]`.
            state: The empty tuple, because nothing is remembered.
            step: The number of the step, counted from zero.

        Returns:
            What the network sees, of the shape of `score`, and the new state, the same.
        """
        return tf.asinh(score), state


@keras.saving.register_keras_serializable("rim_tf")
class Scaled(Identity):
    """Scores and iterates of order one, in any unit and at any noise level.

    The RIM divides iterates, scores and shown data by the scales of the problem, and multiplies
    steps by theirs (`rim_tf.problem.scales`). What is left are the differences between examples
    and steps. They are compressed, by one factor for all entries of an example:

        sees score * arcsinh(r) / r,   r = root mean square of the example's score

    The direction of the score is kept, and with it what is linear in the inverse problem.
    """

    def __call__(self, score: tf.Tensor, state: Moments, step: int) -> tuple[tf.Tensor, Moments]:
        """One step.

        Args:
            score: In units of its scale, `[batch, *sizes, channels]`.
            state: The empty tuple, because nothing is remembered.
            step: The number of the step, counted from zero.

        Returns:
            What the network sees, of the shape of `score`, and the new state, the same.
        """
        axes = list(range(1, len(score.shape)))
        square = tf.reduce_mean(tf.square(score), axes, keepdims=True)
        # Far below one the factor is one; and the slope of the root is infinite at zero. The upper
        # limit keeps the factor a number where the square is infinite.
        size = tf.sqrt(tf.clip_by_value(square, 1e-12, 1e36))
        return score * (tf.asinh(size) / size), state


@keras.saving.register_keras_serializable("rim_tf")
class Adam(Identity):
    """The step that Adam would take along the score at a learning rate of one.

        m' = beta_1 m + (1 - beta_1) score
        v' = beta_2 v + (1 - beta_2) score^2
        sees m' / (1 - beta_1^t) * sqrt(1 - beta_2^t) / (sqrt(v') + epsilon),   t = step + 1

    Args:
        beta_1: The decay rate of the mean of the scores, in [0, 1). Defaults to 0.9.
        beta_2: The decay rate of the mean of their squares, in [0, 1). Defaults to 0.999.
        epsilon: Keeps the quotient finite where all scores are zero; positive. Defaults to 1e-7,
            as in Keras.

    Raises:
        TypeError: If an argument is not a real number.
        ValueError: If an argument is out of range.

    References:
        Kingma & Ba (2015), arXiv:1412.6980, section 2: the form with the bias corrections taken
        out of the quotient, which Keras uses.
    """

    def __init__(self, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7):
        self.beta_1 = checks.real("beta_1", beta_1, minimum=0, below=1)
        self.beta_2 = checks.real("beta_2", beta_2, minimum=0, below=1)
        self.epsilon = checks.real("epsilon", epsilon, above=0)

    def initial_state(self, x: tf.Tensor) -> Moments:
        """The mean and the mean square of the scores, both zero, of the shape of `x`.

        Args:
            x: The parameters, unlinked, `[batch, *sizes, channels]`.
        """
        return tf.zeros_like(x), tf.zeros_like(x)

    def __call__(self, score: tf.Tensor, state: Moments, step: int) -> tuple[tf.Tensor, Moments]:
        """One step.

        Args:
            score: `[batch, *sizes, channels]`.
            state: The mean and the mean square of the scores so far, of the shape of `score`.
            step: The number of the step, counted from zero.

        Returns:
            What the network sees, of the shape of `score`, and the new mean and mean square.
        """
        mean, square = state
        # In Keras's form, which rounds in the same way: old + (new - old) * (1 - beta).
        mean = mean + (score - mean) * (1 - self.beta_1)
        square = square + (tf.square(score) - square) * (1 - self.beta_2)
        # The means start from zero. Dividing by 1 - beta^t makes them means of the scores alone.
        t = tf.cast(step + 1, score.dtype)
        unbias = tf.sqrt(1 - tf.pow(self.beta_2, t)) / (1 - tf.pow(self.beta_1, t))
        # The slope of the root is infinite at zero, and zero times infinity would be NaN.
        zero = tf.equal(square, 0)
        root = tf.where(zero, 0.0, tf.sqrt(tf.where(zero, 1.0, square)))
        return mean * unbias / (root + self.epsilon), (mean, square)

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}


@keras.saving.register_keras_serializable("rim_tf")
class RMSprop(Identity):
    """The step that RMSprop would take along the score at a learning rate of one.

        v' = rho v + (1 - rho) score^2
        sees score / sqrt(v' + epsilon)

    Args:
        rho: The decay rate of the mean of the squared scores, in [0, 1). Defaults to 0.9.
        epsilon: Keeps the quotient finite where all scores are zero; positive. Defaults to 1e-7,
            as in Keras, where it also stands under the root.

    Raises:
        TypeError: If an argument is not a real number.
        ValueError: If an argument is out of range.

    References:
        Hinton (2012), Neural Networks for Machine Learning, lecture 6e, in the form that Keras
        uses.
    """

    def __init__(self, rho: float = 0.9, epsilon: float = 1e-7):
        self.rho = checks.real("rho", rho, minimum=0, below=1)
        self.epsilon = checks.real("epsilon", epsilon, above=0)

    def initial_state(self, x: tf.Tensor) -> Moments:
        """The mean square of the scores, zero, of the shape of `x`.

        Args:
            x: The parameters, unlinked, `[batch, *sizes, channels]`.
        """
        return (tf.zeros_like(x),)

    def __call__(self, score: tf.Tensor, state: Moments, step: int) -> tuple[tf.Tensor, Moments]:
        """One step.

        Args:
            score: `[batch, *sizes, channels]`.
            state: The mean square of the scores so far, of the shape of `score`.
            step: The number of the step, counted from zero.

        Returns:
            What the network sees, of the shape of `score`, and the new mean square.
        """
        square = self.rho * state[0] + (1 - self.rho) * tf.square(score)
        return score * tf.math.rsqrt(square + self.epsilon), (square,)

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {"rho": self.rho, "epsilon": self.epsilon}


METHODS: dict[str, type[Identity]] = {
    "scaled": Scaled,
    "identity": Identity,
    "arcsinh": Arcsinh,
    "adam": Adam,
    "rmsprop": RMSprop,
}
"""The methods that have a name."""


def get_preprocessing(
    method: str | Preprocessing,
    *,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
) -> Preprocessing:
    """Makes a method from its name, or returns the one given.

    Args:
        method: "scaled", "identity", "arcsinh", "adam" or "rmsprop", in any case, or an object
            with the methods of `Preprocessing`.
        beta_1: The decay rate of the mean, for "adam". Defaults to 0.9.
        beta_2: The decay rate of the mean square, for "adam". Defaults to 0.999.
        epsilon: Keeps the quotient finite, for "adam" and "rmsprop". Defaults to 1e-7.

    Raises:
        TypeError: If `method` is neither a name nor such an object.
        ValueError: If the name is unknown.
    """
    if isinstance(method, str):
        name = checks.choice("score_preprocessing_method", method.lower(), METHODS)
        if name == "adam":
            return Adam(beta_1, beta_2, epsilon)
        return RMSprop(epsilon=epsilon) if name == "rmsprop" else METHODS[name]()
    checks.function("score_preprocessing_method", method)
    checks.function(
        "score_preprocessing_method.initial_state", getattr(method, "initial_state", None)
    )
    return method
