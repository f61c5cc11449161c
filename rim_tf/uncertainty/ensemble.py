"""Several models of the errors of the same problem, as one."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rim_tf.fitting.data import Data
from rim_tf.problem.parameters import Values
from rim_tf.uncertainty.calibration import calibrated_factors
from rim_tf.uncertainty.pixel_errors import PixelErrors
from rim_tf.uncertainty.reconstruction import Reconstruction, combine


class Ensemble:
    """The mixture of several `PixelErrors`, each of a RIM of its own.

    RIMs that were trained with other seeds or data differ where they know little. The variance of
    the mixture is the mean of their variances and the variance of their estimates.

    Args:
        members: Two or more models of the same problem.

    Raises:
        TypeError: If a member is no `PixelErrors`.
        ValueError: If there are less than two, or their parameters differ.
    """

    def __init__(self, members: Sequence[PixelErrors]):
        self.members = tuple(members)
        for each in self.members:
            if not isinstance(each, PixelErrors):
                raise TypeError(f"`members` must be `PixelErrors`, got {type(each).__name__}.")
        if len(self.members) < 2:
            raise ValueError(f"`members` must hold at least two, got {len(self.members)}.")
        grids = {(*each.dimensions, each.rim.channels) for each in self.members}
        if len(grids) > 1:
            raise ValueError(f"`members` must infer the same parameters, got {sorted(grids)}.")
        self.factors: np.ndarray | None = None

    def predict(self, y: Data, *args: Data, batch_size: int | None = None) -> Reconstruction:
        """The parameters, with an error for every pixel, as `PixelErrors.predict` gives them.

        Args:
            y: The observation, `[batch, ...]`.
            *args: The other arguments of the score, `[batch, ...]` each. A scalar holds for every
                example.
            batch_size: The number of examples at once. Defaults to `None`, all of them up to 256.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument is out of range, the batch axes differ, or a member was not
                fitted.
        """
        each = [member.predict(y, *args, batch_size=batch_size) for member in self.members]
        mixture = combine(each)
        return mixture if self.factors is None else replace(mixture, factors=self.factors)

    def calibrate(self, y: Data, x: Values, *args: Data, batch_size: int | None = None) -> None:
        """Makes intervals hold as many pixels of these examples as they say.

        The widths are kept in `factors`, which no file holds: calibrate again after loading.

        Args:
            y: The observation, `[batch, ...]`.
            x: The true parameters, `[batch, *dimensions, channels]` or a dictionary by field.
            *args: The other arguments of the score, `[batch, ...]` each.
            batch_size: The number of examples at once. Defaults to `None`, all of them up to 256.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If a shape is wrong.
        """
        mixture = self.predict(y, *args, batch_size=batch_size)
        self.factors = calibrated_factors(mixture, self.members[0].parameters, x)
