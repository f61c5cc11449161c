"""Derivative simulations whose axes of sides and parameters are exchanged."""

import numpy as np
import pytest
import reference

from imnn_tf import IMNN

SAID = "axes of sides and parameters exchanged"
SIDES = np.array([-0.05, 0.05])


def imnn_of(derivative, fiducial=None, **options):
    if fiducial is None:
        fiducial = reference.simulations(0, 100)[0]
    return IMNN(
        θ_fid=reference.THETA_FID,
        δθ=reference.DELTA_THETA,
        fiducial=fiducial,
        derivative=derivative,
        model=reference.dense_model(width=8),
        verbose=False,
        **options,
    )


def matched(seed, n=100):
    return reference.simulations(seed, n)[1]


def offset(seed, n=100):
    return 1000 + matched(seed, n)


def field(seed, n=100):
    """Two parameters of a spectrum, which leave the mean of every number at zero."""
    noise = np.random.default_rng(seed).normal(size=(n, 1, 1, 10))
    slopes = SIDES[:, None] * np.eye(2)[:, None, :]  # [parameter, side, value]
    k = np.fft.rfftfreq(10)[None, None]
    power = np.exp(slopes[..., :1] + slopes[..., 1:] * k).swapaxes(0, 1)
    return np.fft.irfft(np.fft.rfft(noise) * power, 10)


def independent(seed, n=100):
    """Every simulation has noise of its own."""
    theta = reference.THETA_FID + SIDES[:, None, None] * np.eye(2)
    return reference.simulate(theta, np.random.default_rng(seed).normal(size=(n, 2, 2, 10)))


def cancelling(seed, n=100):
    """Two parameters with opposite effects, so that the mean over them is nearly constant."""
    noise = np.random.default_rng(seed).normal(size=(n, 1, 1, 10))
    return np.exp(SIDES[:, None] * [1, -1])[..., None] * noise


@pytest.mark.parametrize("made", [matched, offset, field])
@pytest.mark.parametrize("seed", range(3))
def test_exchanged_axes_are_told(caplog, made, seed):
    derivative = made(seed)
    imnn_of(derivative)
    assert SAID not in caplog.text
    imnn_of(derivative.swapaxes(1, 2))
    assert f"`derivative` seems to have the {SAID}" in caplog.text


@pytest.mark.parametrize("made", [independent, cancelling])
@pytest.mark.parametrize("n", [10, 100])
def test_nothing_is_said_of_axes_that_may_be_right(caplog, made, n):
    for seed in range(10):
        imnn_of(made(seed, n))
    assert SAID not in caplog.text


def test_exchanged_labels_of_functions_are_told(caplog):
    fiducial, derivative = reference.simulations(0, 100)
    functions = {"n_s": 100, "n_d": 100, "cache": False, "at_once": 50}
    imnn_of(lambda s, d, p: derivative[s, d, p], lambda s: fiducial[s], **functions)
    assert SAID not in caplog.text
    imnn_of(lambda s, p, d: derivative[s, d, p], lambda s: fiducial[s], **functions)
    assert SAID in caplog.text


def test_exchanged_validation_derivatives_are_told(caplog):
    fiducial, derivative = reference.simulations(1, 100)
    other = {"validation_fiducial": fiducial, "validation_derivative": derivative.swapaxes(1, 2)}
    imnn = imnn_of(matched(0), **other)
    assert f"`validation_derivative` seems to have the {SAID}" in caplog.text
    caplog.clear()
    imnn.evaluate(fiducial + 1, derivative.swapaxes(1, 2) + 1)
    assert SAID in caplog.text
