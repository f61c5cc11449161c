"""A network for catalogues: sets of objects in any order and of any number."""

from collections.abc import Callable, Sequence

import keras
from numpy.typing import DTypeLike

from imnn_tf.networks.initial import Initial, activation_layer
from imnn_tf.networks.layers import InformationWeightedSum, MaskedSum, SplitMask
from imnn_tf.utils import checks
from imnn_tf.utils.types import KerasModel


def set_network(
    n_features: int,
    n_summaries: int,
    *,
    mask: bool = False,
    information: bool = True,
    hidden: Sequence[int] = (64, 64),
    activation: str | Callable[..., object] | None = "gelu",
    seed: int | None = None,
    dtype: DTypeLike | str | None = None,
) -> KerasModel:
    """A network for catalogues of independent objects.

    The score of independent objects is the sum of their scores, and so is their information. A
    dense network that all objects share therefore computes a score `tᵢ` and an information `Fᵢ` of
    each object, and the summaries are a linear map of `(1 + Σᵢ Fᵢ)⁻¹ Σᵢ tᵢ`. They do not depend on
    the order of the objects, and the weights fit any number of them.

    The division by the information makes the summaries nearly the same for catalogues of different
    lengths. It also takes out what the number of objects alone says about the parameters. Where
    that number depends on them, pass `information=False`: the summaries are then linear in
    `Σᵢ tᵢ`, as the score of a Poisson process is.

    The table has the share of det F that is kept for the mean and the variance of n Gaussian
    objects, after 300 updates with new catalogues of 100 objects and `fit(λ=0.1)`: the least and
    the largest over six seeds with the information, and one seed without. The noise of the
    information costs something where objects are few and alike. A smaller prior precision than the
    1 of the formula, 0.01, made that worse.

    | | n = 10 | 100 | 1,000 | 10,000 |
    | --- | --- | --- | --- | --- |
    | `information=True` | 0.988–0.9998 | 0.997–0.9999 | 0.998–0.9999 | 0.998–0.9999 |
    | `information=False` | 0.998 | 0.998 | 0.999 | 0.999 |

    An `IMNN` measures mean, covariance and Fisher information of the summaries at the catalogues
    that it was given. They hold for others only if their lengths vary in the same way.

    Args:
        n_features: The number of features of an object, without the mask.
        n_summaries: The number of summaries.
        mask: Whether each object has one more feature, the last, which is 1 for an object and 0
            for padding. What else padding holds makes no difference. Catalogues of different
            lengths are padded to the longest, so that they fit into one array.
        information: Whether to divide by the information of the objects.
        hidden: Widths of the hidden layers that every object passes.
        activation: Name of a Keras activation or a function; `None` is a leaky ReLU with slope
            0.01.
        seed: Seed of the initial weights; different ones in every call by default.
        dtype: Floating type, or a Keras policy; by default that of Keras.

    Returns:
        A model from `[batch, n_objects, n_features]`, or `[batch, n_objects, n_features + 1]` with
        a mask, to `[batch, n_summaries]`, for any `n_objects`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a size is below one.

    Example:
        >>> from imnn_tf.networks import set_network
        >>> set_network(3, 2, mask=True).input_shape
        (None, None, 4)

    References:
        Zaheer et al. (2017), arXiv:1703.06114, for sums over a set; Makinen, Alsing & Wandelt
        (2023), arXiv:2310.03812, for the score and the information of an object.
    """
    n_features = checks.integer("n_features", n_features, minimum=1)
    n_summaries = checks.integer("n_summaries", n_summaries, minimum=1)
    initial = Initial(seed, dtype)
    columns = n_features + checks.flag("mask", mask)
    catalogue = keras.Input((None, columns), dtype=initial.input_dtype)
    x, present = catalogue, ()
    if mask:
        x, *present = SplitMask(dtype=initial.policy)(catalogue)
    for width in checks.sizes("hidden", hidden):
        x = keras.layers.Dense(width, **initial.weights())(x)
        x = activation_layer(activation, initial.policy)(x)
    scores = keras.layers.Dense(n_summaries, **initial.weights())(x)
    if checks.flag("information", information):
        entries = n_summaries * (n_summaries + 1) // 2
        # With zeros all objects weigh alike at first, and differences must be worth their noise.
        zeros = {**initial.weights(), "kernel_initializer": "zeros"}
        triangles = keras.layers.Dense(entries, **zeros)(x)
        x = InformationWeightedSum(dtype=initial.policy)(scores, triangles, *present)
    else:
        x = MaskedSum(dtype=initial.policy)(scores, *present)
    summaries = keras.layers.Dense(n_summaries, **initial.weights())(x)
    return keras.Model(catalogue, summaries, name="set")
