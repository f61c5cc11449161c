"""What the width of a numerical derivative adds to the Fisher information.

A difference over the width `δ` gives the slope `g(δ) = g + a δ² + O(δ⁴)`. From two widths `δ` and
`rδ`, Richardson's extrapolation gives `g ≈ g(δ) − [g(rδ) − g(δ)] / (r² − 1)`. It holds as long as
the second term is small.
"""

from typing import NamedTuple

import numpy as np

from imnn_tf.fisher.correction import Correction, Determinant, correct
from imnn_tf.fisher.sample import Sample


class Truncation(NamedTuple):
    """How much of the Fisher information comes from the width of the step."""

    fisher: np.ndarray  # [n_params, n_params]
    log_det: float
    log_det_std: float
    parameter_std: np.ndarray  # [n_params], how much of the forecast errors
    limit: Determinant  # at a width of zero


def narrow_part(sample: Sample) -> Sample:
    """The sample with the derivatives over the narrow step, the first half of all."""
    return sample._replace(slope=sample.slope[..., : sample.slope.shape[-2] // 2, :])


def truncation_of(sample: Sample, narrow: Correction, ratio: np.ndarray) -> Truncation:
    """Richardson's estimate of what the narrow step adds to the Fisher information.

    Args:
        sample: A sample with the derivatives over the narrow step followed by those over the wide
            one.
        narrow: The correction of the sample with the derivatives over the narrow step.
        ratio: The wide step over the narrow one, `[n_params]`, above one.
    """
    near, far = np.split(sample.slope, 2, axis=-2)
    weight = 1 / (ratio**2 - 1)
    limit = correct(sample._replace(slope=near - weight[:, np.newaxis] * (far - near)))
    # The noise of both is that of the same simulations, and cancels in part.
    parts = narrow.determinant.slope_parts - limit.determinant.slope_parts
    return Truncation(
        fisher=narrow.fisher - limit.fisher,
        log_det=float(narrow.log_det_fisher - limit.log_det_fisher),
        log_det_std=float(np.sqrt(np.square(parts).sum())),
        parameter_std=narrow.parameter_std - limit.parameter_std,
        limit=limit.determinant,
    )
