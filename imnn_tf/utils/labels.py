"""Labels, which say what each simulation of a set is.

A fiducial simulation and an exact derivative have the label `(seed,)`. A simulation for a numerical
derivative has the label `(seed, side, parameter)`, with side 0 below the fiducial value of the
parameter and side 1 above. A label is the index of the simulation in the array of all of them.
"""

from typing import Any, TypeAlias

import numpy as np

Label: TypeAlias = tuple[int, ...]

# The names of the parts in TFRecord files; the side is called `derivative` there.
PARTS = ("seed", "derivative", "parameter")


def as_label(value: Any) -> Label:
    """Converts an integer, or a sequence or array of integers, `[parts]`, to a label."""
    return tuple(int(part) for part in np.ravel(np.asarray(value)))


def label_at(index: int | np.integer, counts: tuple[int, ...]) -> Label:
    """The label at an index into the flattened array of all simulations, of shape `counts`."""
    return tuple(int(part) for part in np.unravel_index(index, counts))
