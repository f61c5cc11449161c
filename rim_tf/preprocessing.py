"""What is done to a score before the network sees it.

Scores span orders of magnitude, across examples and along a trajectory. What a method remembers
from step to step is state that the RIM hands on, never kept on the object, so that one object
serves any number of trajectories at once.
"""

from typing import Any

import keras
import tensorflow as tf

from imnn_tf.utils import checks

State = tuple[tf.Tensor, ...]


@keras.saving.register_keras_serializable("rim_tf")
class Identity:
    """The score as it is."""

    def initial_state(self, x: tf.Tensor) -> State:
        """The memory before the first step, for parameters like `x`."""
        return ()

    def __call__(self, score: tf.Tensor, state: State, step: int) -> tuple[tf.Tensor, State]:
        """Returns what the network sees at `step`, counted from zero, and the new memory."""
        return score, state

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Identity":
        """The method with the constructor arguments given."""
        return cls(**config)


@keras.saving.register_keras_serializable("rim_tf")
class Arcsinh(Identity):
    """`arcsinh(score)`: linear for small scores, logarithmic for large ones."""

    def __call__(self, score: tf.Tensor, state: State, step: int) -> tuple[tf.Tensor, State]:
        """Returns what the network sees at `step`, counted from zero, and the new memory."""
        return tf.asinh(score), state


@keras.saving.register_keras_serializable("rim_tf")
class Adam(Identity):
    """The step that Adam would take along the score at a learning rate of one.

        m' = beta_1 m + (1 - beta_1) score
        v' = beta_2 v + (1 - beta_2) score^2
        sees m' / (1 - beta_1^t) * sqrt(1 - beta_2^t) / (sqrt(v') + epsilon),   t = step + 1

    Args:
        beta_1: Memory of the mean, within 0 and 1.
        beta_2: Memory of the square, within 0 and 1.
        epsilon: Keeps the quotient finite; positive.

    Raises:
        TypeError: If an argument is not a real number.
        ValueError: If an argument is out of range.

    References:
        Kingma & Ba (2015), arXiv:1412.6980, section 2, in the form Keras uses.
    """

    def __init__(self, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7):
        self.beta_1 = checks.real("beta_1", beta_1, minimum=0, below=1)
        self.beta_2 = checks.real("beta_2", beta_2, minimum=0, below=1)
        self.epsilon = checks.real("epsilon", epsilon, above=0)

    def initial_state(self, x: tf.Tensor) -> State:
        """The mean and the mean square, both zero."""
        return tf.zeros_like(x), tf.zeros_like(x)

    def __call__(self, score: tf.Tensor, state: State, step: int) -> tuple[tf.Tensor, State]:
        """Returns what the network sees at `step`, counted from zero, and the new memory."""
        mean, square = state
        mean = mean + (score - mean) * (1 - self.beta_1)
        square = square + (tf.square(score) - square) * (1 - self.beta_2)
        t = tf.cast(step + 1, score.dtype)
        unbias = tf.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        return mean * unbias / (tf.sqrt(square) + self.epsilon), (mean, square)

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}


@keras.saving.register_keras_serializable("rim_tf")
class RMSprop(Identity):
    """The step that RMSprop would take along the score at a learning rate of one.

        v' = rho v + (1 - rho) score^2
        sees score / sqrt(v' + epsilon)

    Args:
        rho: Memory of the square, within 0 and 1.
        epsilon: Keeps the quotient finite; positive.

    Raises:
        TypeError: If an argument is not a real number.
        ValueError: If an argument is out of range.

    References:
        Hinton (2012), lecture 6e of Neural Networks for Machine Learning, in the form Keras
        uses.
    """

    def __init__(self, rho: float = 0.9, epsilon: float = 1e-7):
        self.rho = checks.real("rho", rho, minimum=0, below=1)
        self.epsilon = checks.real("epsilon", epsilon, above=0)

    def initial_state(self, x: tf.Tensor) -> State:
        """The mean square, zero."""
        return (tf.zeros_like(x),)

    def __call__(self, score: tf.Tensor, state: State, step: int) -> tuple[tf.Tensor, State]:
        """Returns what the network sees at `step`, counted from zero, and the new memory."""
        square = self.rho * state[0] + (1 - self.rho) * tf.square(score)
        return score * tf.math.rsqrt(square + self.epsilon), (square,)

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        return {"rho": self.rho, "epsilon": self.epsilon}


METHODS: dict[str, Any] = {
    "identity": Identity,
    "arcsinh": Arcsinh,
    "adam": Adam,
    "rmsprop": RMSprop,
}


def get_preprocessing(
    method: Any,
    *,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
) -> Any:
    """A method by its name, or as it is.

    Args:
        method: "identity", "arcsinh", "adam" or "rmsprop", in any case, or an object with
            `initial_state` and `__call__` like the classes here.
        beta_1: For "adam".
        beta_2: For "adam".
        epsilon: For "adam" and "rmsprop".

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
