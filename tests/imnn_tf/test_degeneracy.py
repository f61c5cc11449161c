"""Summaries without Fisher information, and the reasons that are named."""

import numpy as np
import pytest
from summaries import draws, dtypes, modes, statistics_of

from imnn_tf import degeneracy
from imnn_tf import information as info


def singular_cases():
    x = draws(n=50)
    constant, duplicated, combined = x.copy(), x.copy(), x.copy()
    constant[:, 1] = 0.1
    duplicated[:, 2] = x[:, 0]
    combined[:, 2] = 2 * x[:, 0] - x[:, 1] + 3
    infinite = x.copy()
    infinite[0, 0] = np.inf
    slope = np.random.default_rng(9).normal(size=(2, 3))
    silent, parallel, undefined = slope.copy(), slope.copy(), slope.copy()
    silent[1] = 0
    parallel[1] = -3 * slope[0]
    undefined[0, 0] = np.nan
    return {
        "too few": (x[:3], slope, "3 fiducial simulations are too few"),
        "constant": (constant, slope, "summary 1 is constant"),
        "duplicated": (duplicated, slope, "summary 2 is a linear combination of the others"),
        "combined": (combined, slope, "summary 2 is a linear combination of the others"),
        "infinite": (infinite, slope, "summaries of the fiducial simulations are not finite"),
        "silent": (x, silent, "summaries do not change with parameter 1"),
        "parallel": (x, parallel, "parameter 1 changes the summaries in the same direction"),
        "undefined": (x, undefined, "summaries of the derivative simulations are not finite"),
    }


@modes
@dtypes
@pytest.mark.parametrize("case", singular_cases())
def test_singular_matrices_give_nan_and_one_clear_error(case, mode, dtype):
    x, slope, reason = singular_cases()[case]
    statistics = statistics_of(x.astype(dtype), slope.astype(dtype))
    result = mode(info.fisher_information)(statistics)
    assert np.isnan(result.log_det_fisher)
    with pytest.raises(info.InformationError, match=f"training set is not defined: .*{reason}"):
        degeneracy.require_finite(statistics, result, "training set")


@dtypes
def test_strong_but_resolved_correlations_are_no_error(dtype):
    x = draws(dtype, n_summaries=2)
    x[:, 1] = x[:, 0] + np.asarray(0.01 * x[:, 1], dtype)
    statistics = statistics_of(x, np.eye(2, dtype=dtype))
    degeneracy.require_finite(statistics, info.fisher_information(statistics), "training set")
