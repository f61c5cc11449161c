"""What holds the covariance of the summaries near the identity, and the loss it is part of.

With a regulariser `Λ₂` of the covariance and its coupling `r`, the loss is `Λ = −ln det F + r Λ₂`.
Every function works in eager mode, in a `tf.function` and under XLA, in the precision of its
arguments.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from imnn_tf.information import Information
from imnn_tf.utils import checks
from imnn_tf.utils.tensors import identity_like

# The default strength of each regulariser; docs/imnn.md has the measurements.
DEFAULT_STRENGTH = {"divergence": 1.0, "published": 10.0}


class Loss(NamedTuple):
    """The training loss and its regularisation."""

    total: tf.Tensor  # []
    regularisation: tf.Tensor  # [], Λ₂
    coupling: tf.Tensor  # [], r


def divergence_from_identity(information: Information) -> tf.Tensor:
    """`tr C − ln det C − n_summaries`, `[]`: zero where `C = 1`, positive elsewhere, smooth.

    It is twice the Kullback-Leibler divergence from N(0, C) to N(0, 1).
    """
    C = information.covariance
    return tf.linalg.trace(C) - information.log_det_covariance - C.shape[0]


def distance_from_identity(information: Information) -> tf.Tensor:
    """`‖C − 1‖ + ‖C⁻¹ − 1‖` in the Frobenius norm, `[]`: the published regulariser.

    References:
        Charnock, Lavaux & Wandelt (2018), arXiv:1802.03537.
    """
    C = information.covariance
    identity = identity_like(C)
    return _norm(C - identity) + _norm(information.inverse_covariance - identity)


def _norm(matrix: tf.Tensor) -> tf.Tensor:
    """Frobenius norm whose gradient is zero, and not NaN, where the matrix vanishes."""
    square = tf.reduce_sum(tf.square(matrix))
    vanishes = tf.equal(square, 0)
    return tf.where(vanishes, square, tf.sqrt(tf.where(vanishes, tf.ones_like(square), square)))


def coupling_rate(strength: float, closeness: float) -> float:
    """Rate `α = −ln[ϵ(λ−1) + ϵ²/(1+ϵ)] / ϵ` of the coupling.

    Args:
        strength: λ, the coupling far from the identity.
        closeness: ϵ, how close to the identity the covariance is to be.

    Raises:
        ValueError: If the two do not give a positive rate, for then the coupling would grow as
            the covariance approaches the identity.

    References:
        Charnock, Lavaux & Wandelt (2018), arXiv:1802.03537.
    """
    strength = checks.real("λ", strength, above=0)
    closeness = checks.real("ϵ", closeness, above=0)
    argument = closeness * (strength - 1) + closeness**2 / (1 + closeness)
    if not 0 < argument < 1:
        raise ValueError(
            "`λ` and `ϵ` must give 0 < ϵ(λ−1) + ϵ²/(1+ϵ) < 1, so that the coupling falls towards "
            f"the identity, got {argument:.4g} from λ={strength} and ϵ={closeness}."
        )
    return float(-np.log(argument) / closeness)


def coupling(regularisation: tf.Tensor, strength: float, rate: float) -> tf.Tensor:
    """Coupling `r = λ Λ₂ / (Λ₂ + exp(−α Λ₂))` of the published regulariser.

    Args:
        regularisation: The regulariser `Λ₂`, `[]`.
        strength: The coupling `λ` far from the identity.
        rate: The rate `α`.

    Returns:
        The coupling, `[]`.
    """
    return strength * regularisation / (regularisation + tf.exp(-rate * regularisation))


@dataclass(frozen=True)
class Regularisation:
    """What holds the covariance of the summaries near the identity, and how strongly.

    `F` does not change under an invertible linear map of the summaries, so the minimum of the
    loss has `C = 1` whatever the strength.

    Attributes:
        name: `"divergence"` for `tr C − ln det C − n_summaries` with a constant coupling, or
            `"published"` for `‖C − 1‖ + ‖C⁻¹ − 1‖` with the coupling of the paper.
        strength: The coupling λ; far from the identity, if it is `"published"`.
        closeness: How close ϵ to the identity `"published"` is to bring the covariance.
    """

    name: str = "divergence"
    strength: float = 1.0
    closeness: float = 0.01

    @classmethod
    def checked(cls, name: str, λ: float | None, ϵ: float) -> "Regularisation":
        """The regularisation from the arguments of `IMNN.fit`.

        Args:
            name: `"divergence"` or `"published"`.
            λ: Its strength; by default 1 and 10.
            ε: Its closeness.

        Raises:
            TypeError: If a number is not real.
            ValueError: If `name` is unknown, or a number is out of range.
        """
        checks.choice("regulariser", name, DEFAULT_STRENGTH)
        strength = checks.real("λ", DEFAULT_STRENGTH[name] if λ is None else λ, above=0)
        closeness = checks.real("ϵ", ϵ, above=0)
        if name == "published":
            coupling_rate(strength, closeness)  # raises where the two do not go together
        return cls(name, strength, closeness)

    @property
    def rate(self) -> float | None:
        """Rate α of the published coupling; `None` for a constant one."""
        if self.name == "published":
            return coupling_rate(self.strength, self.closeness)
        return None

    def loss(self, information: Information) -> Loss:
        """The loss `Λ = −ln det F + r Λ₂` of summaries, the regulariser and `r`, `[]` each."""
        if self.rate is None:
            penalty = divergence_from_identity(information)
            r = tf.constant(self.strength, penalty.dtype)
        else:
            penalty = distance_from_identity(information)
            r = coupling(penalty, self.strength, self.rate)
        return Loss(r * penalty - information.log_det_fisher, penalty, r)
