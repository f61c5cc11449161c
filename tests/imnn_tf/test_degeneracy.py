"""Summaries without Fisher information, and the reasons that are named."""

import numpy as np
import pytest
import reference
from summaries import draws, dtypes, modes, statistics_of

from imnn_tf import IMNN, degeneracy
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


@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_units_beyond_the_range_of_a_type_are_told_with_the_remedy(unit):
    def statistics(dtype, unit):
        return statistics_of(draws(dtype), np.array(np.eye(2, 3) / unit, dtype))

    single = statistics("float32", unit)
    said = r"information of parameter 0, parameter 1, \de[+-]\d\d, is beyond the range of float32"
    with pytest.raises(info.InformationError, match=f"{said}; use units .* `dtype=tf.float64`"):
        degeneracy.require_finite(single, info.fisher_information(single), "training set")
    double = statistics("float64", unit)
    degeneracy.require_finite(double, info.fisher_information(double), "training set")


@pytest.mark.parametrize("unit", [1e-17, 1e17])
def test_results_in_float32_do_not_depend_on_the_units_of_the_parameters(unit):
    def results(unit):
        fiducial, derivative = reference.simulations(0, 100)
        imnn = IMNN(
            θ_fid=unit * reference.THETA_FID,
            δθ=unit * reference.DELTA_THETA,
            fiducial=fiducial,
            derivative=derivative,
            model=reference.dense_model(width=8),
            verbose=False,
        )
        imnn.fit(5)
        fisher = np.asarray(imnn.F, float) * unit**2
        error = np.asarray(imnn.F_std, float) * unit**2
        return fisher, error, np.asarray(imnn.get_estimate(fiducial[:5]), float) / unit

    for got, expected in zip(results(unit), results(1.0), strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-3, atol=1e-3)
