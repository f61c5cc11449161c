"""Symmetries of the simulations: other transformations of the same fields at every update.

A transformation of a field only says at which pixel of the old field each pixel of the new one is
read. All simulations of a batch are therefore transformed by one lookup.
"""

from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from itertools import permutations
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from imnn_tf.simulations.batch import Rows, RowsAt, row_of
from imnn_tf.simulations.mapping import fold_in
from imnn_tf.utils import checks
from imnn_tf.utils.seeds import stateless_seed
from imnn_tf.utils.tensors import known_shape

# What a user passes: names in one string, names in a sequence, or a mapping from names to axes.
Symmetries: TypeAlias = (
    str | Sequence[str] | MappingType[str, int | Sequence[int] | np.ndarray | None]
)
# Each symmetry with its axes, or with `None` for all axes of space.
NamedAxes: TypeAlias = dict[str, tuple[int, ...] | None]

NAMES = ("shift", "flip", "rotate")

# Separates the draws from those of a simulator and of a `map_fn` with the same seed.
_STREAM = 0x5EED

# By default TensorFlow chooses another generator under XLA than without.
_GENERATOR: Final = "philox"


class Draws(NamedTuple):
    """One transformation for each of several simulations.

    A simulation is first shifted, then flipped, then its axes change places. Zeros leave it as it
    is.
    """

    shifts: tf.Tensor  # [n, n_axes], pixels towards higher indices along each axis, int32
    flips: tf.Tensor  # [n, n_axes], whether each axis is reversed, 0 or 1
    orders: tf.Tensor  # [n], place in `Augmentation.orders` of the new order of the axes


class Augmentation:
    """Random transformations under which the statistics of the simulations do not change.

    Args:
        symmetries: Names and axes, as `checked_symmetries` returns them.
        shape: Shape of one simulation.
        count: The number of simulations of a pass that are numbered apart.
        seed: A non-negative integer from which all draws are derived.

    Attributes:
        orders: The orders of the axes that are drawn from, `[n_orders, n_axes]`. Axis `i` of a new
            simulation is axis `orders[k, i]` of the old one.

    Raises:
        ValueError: If the shape does not have the axes, leaves open which axes are of space, or
            the axes to rotate are of different lengths.
    """

    def __init__(
        self, symmetries: NamedAxes, shape: tuple[int, ...], count: int, seed: int
    ) -> None:
        axes = {name: _axes_of(name, given, shape) for name, given in symmetries.items()}
        # Axes behind the last one that changes are moved as a whole.
        self._n_axes = 1 + max(max(each) for each in axes.values())
        self._shape, self._count = shape[: self._n_axes], count
        self._seed = self.seed_within(tf.constant(stateless_seed(seed), tf.int32))
        rotated = axes.get("rotate", ())
        reversible = {*axes.get("flip", ()), *rotated}
        # The number of values that each draw takes: shifts, flips, orders of the axes.
        shifts = [n if i in axes.get("shift", ()) else 1 for i, n in enumerate(self._shape)]
        flips = [2 if i in reversible else 1 for i in range(self._n_axes)]
        self.orders = _orders(self._n_axes, rotated)
        self._values = tf.constant([*shifts, *flips, len(self.orders)], tf.int32)

    def applied(self, rows_at: RowsAt, update: tf.Tensor | int, numbers: tf.Tensor) -> RowsAt:
        """Transforms the rows of every batch of a pass.

        Args:
            rows_at: Gives the rows of the batch of an index.
            update: The number of the update.
            numbers: The number of the simulation in each row of all batches, `[n_batches, rows]`.
        """
        draws = self.draws(self.seed(update))
        return lambda index: self(rows_at(index), draws, row_of(numbers, index))

    def seed(self, update: tf.Tensor | int) -> tf.Tensor:
        """The seed of an update, `[2]`."""
        return fold_in(self._seed, tf.cast(update, tf.int32), alg=_GENERATOR)

    @staticmethod
    def seed_within(seed: tf.Tensor) -> tf.Tensor:
        """The seed, `[2]`, of the transformations where another seed, `[2]`, is used as well."""
        return fold_in(seed, _STREAM, alg=_GENERATOR)

    def draws(self, seed: tf.Tensor) -> Draws:
        """Draws a transformation for each number of a simulation, each of them equally likely.

        Args:
            seed: The seed of an update, `[2]`.
        """
        words = tf.random.stateless_uniform(
            [self._count, 2 * self._n_axes + 1],
            seed,
            minval=0,
            maxval=tf.int32.max,
            dtype=tf.int32,
            alg=_GENERATOR,
        )
        shifts, flips, orders = tf.split(
            tf.math.floormod(words, self._values), [self._n_axes, self._n_axes, 1], axis=1
        )
        return Draws(shifts, flips, tf.squeeze(orders, 1))

    def __call__(self, rows: Rows, draws: Draws, numbers: tf.Tensor) -> Rows:
        """Transforms simulations, and their exact derivatives alike.

        Args:
            rows: The simulations, `[batch, *shape]`, and their exact derivatives if there are any,
                `[batch, *shape, n_params]`.
            draws: The transformation of every number.
            numbers: The number of each simulation, `[batch]`, int32.
        """
        places = self._places(Draws(*(tf.gather(each, numbers) for each in draws)))
        n_pixels = int(np.prod(self._shape))

        def moved(part: tf.Tensor) -> tf.Tensor:
            batch, *shape = known_shape(part)
            pixels = tf.reshape(part, [batch, n_pixels, *shape[self._n_axes :]])
            return tf.reshape(tf.gather(pixels, places, batch_dims=1), part.shape)

        return tuple(moved(part) for part in rows)

    def _places(self, draws: Draws) -> tf.Tensor:
        """The pixel of the old simulation at each pixel of the new one, `[batch, n_pixels]`."""
        strides = [int(np.prod(self._shape[i + 1 :])) for i in range(self._n_axes)]
        along = []
        for i, (size, stride) in enumerate(zip(self._shape, strides, strict=True)):
            shift, flip = draws.shifts[:, i, None], draws.flips[:, i, None]
            place = tf.range(size)[None]
            place = tf.where(flip > 0, size - 1 - place, place)
            along.append(stride * tf.math.floormod(place - shift, size))
        orders = tf.gather(tf.constant(self.orders, tf.int32), draws.orders)
        total = tf.zeros([1] * (1 + self._n_axes), tf.int32)
        for i in range(self._n_axes):
            terms = along[i]
            for other in set(self.orders[:, i].tolist()) - {i}:
                terms = tf.where(orders[:, i, None] == other, along[other], terms)
            axes = [-1 if axis == i else 1 for axis in range(self._n_axes)]
            total += tf.reshape(terms, [known_shape(draws.orders)[0], *axes])
        return tf.reshape(total, [known_shape(draws.orders)[0], -1])


def checked_symmetries(value: Symmetries | None) -> NamedAxes | None:
    """Reads the argument `augment` of `IMNN`, where it is explained.

    Returns:
        The names with their axes; `None` if nothing was passed.

    Raises:
        TypeError: If it is neither a string, nor a sequence of strings, nor a mapping from strings
            to axes.
        ValueError: If it is empty, or a name is not known.
    """
    if value is None:
        return None
    named: dict[str, tuple[int, ...] | None]
    if isinstance(value, MappingType):
        named = {
            name: None
            if axes is None
            else checks.sizes(
                f"augment[{name!r}]", axes if np.ndim(axes) else np.array([axes]), minimum=0
            )
            for name, axes in value.items()
        }
    elif isinstance(value, str):
        named = dict.fromkeys(name.strip() for name in value.split(","))
    elif isinstance(value, Sequence):
        named = dict.fromkeys(value)
    else:
        raise TypeError(
            "`augment` must be a string of names, a sequence of names, or a mapping from names to "
            f"axes, got {value!r}."
        )
    for name in named:
        if name not in NAMES:
            raise ValueError(
                "`augment` must be made of the names 'shift', 'flip' and 'rotate', separated by "
                f"commas in a string, got {name!r}."
            )
    if not named:
        raise ValueError("`augment` must name at least one of 'shift', 'flip' and 'rotate'.")
    return named


def axes_of_space(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of a simulation that are axes of space, if its shape tells.

    All axes are if they have the same length. A last axis that is shorter than every other one
    holds channels, and so does the last of four axes.

    Raises:
        ValueError: If the shape does not tell.
    """
    if not 1 <= len(shape) <= 4:
        raise ValueError(
            "`augment` must be a mapping from names to axes, such as {'shift': (0, 1)}, for "
            f"simulations that do not have one to four axes, got shape {shape}."
        )
    *others, last = shape
    if len(shape) == 4 or (others and last < min(others)):
        return tuple(range(len(others)))
    if len(set(shape)) == 1:
        return tuple(range(len(shape)))
    raise ValueError(
        "`augment` must be a mapping from names to axes, such as {'shift': (0, 1)}, where the "
        f"shape of a simulation does not tell whether its last axis holds channels, got {shape}."
    )


def _axes_of(name: str, given: tuple[int, ...] | None, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of one symmetry, checked to go with the shape of a simulation."""
    axes = axes_of_space(shape) if given is None else given
    if given is not None and (not axes or len(set(axes)) < len(axes) or max(axes) >= len(shape)):
        raise ValueError(
            f"`augment[{name!r}]` must hold different axes of a simulation of shape {shape}, "
            f"counted from 0, got {axes}."
        )
    if name == "rotate":
        sizes = [shape[axis] for axis in axes]
        if len(axes) < 2 or len(set(sizes)) > 1:
            raise ValueError(
                "`augment` must name two or more axes of equal length to 'rotate', such as "
                f"{{'rotate': (0, 1)}}, got lengths {sizes} along axes {axes}."
            )
    return axes


def _orders(n_axes: int, rotated: tuple[int, ...]) -> np.ndarray:
    """All orders of axes in which those to rotate change places, the present order first."""
    rotated = tuple(sorted(rotated))
    orders = []
    for places in permutations(rotated):
        order = np.arange(n_axes)
        order[list(rotated)] = places
        orders.append(order)
    return np.array(orders)
