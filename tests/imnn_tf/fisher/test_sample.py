"""What groups of simulations tell of the summaries."""

import numpy as np
import pytest
from fisher_samples import sample_from


@pytest.mark.parametrize(
    ("draw", "expected", "rtol"),
    [
        ("normal", 3.0, 0.05),
        ("uniform", 1.8, 0.05),
        ("laplace", 6.0, 0.15),
        ("exponential", 9.0, 0.2),
    ],
)
def test_kurtosis(draw, expected, rtol):
    # The variance of 64 variances is known to 18 %; 50 summaries have it to 2.5 %, and a few times
    # that where fourth moments scatter themselves.
    rng = np.random.default_rng(0)
    summaries = getattr(rng, draw)(size=(20_000, 50))
    kurtosis = sample_from(summaries, np.zeros((2, 1, 50))).kurtosis()
    assert kurtosis.shape == (50,)
    np.testing.assert_allclose(kurtosis.mean(), expected, rtol=rtol)


def test_few_simulations_tell_no_kurtosis():
    sample = sample_from(np.random.default_rng(0).normal(size=(200, 2)), np.zeros((2, 1, 2)))
    assert np.isnan(sample.kurtosis()).all()
