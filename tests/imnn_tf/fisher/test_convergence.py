"""How the information depends on the number of simulations."""

import keras
import numpy as np
import pytest
import reference
from fisher_information import gaussian_samples

from imnn_tf import IMNN
from imnn_tf.fisher.convergence import convergence_of


def one(n_s, n_d, n_summaries=10, seed=0):
    sample = gaussian_samples(np.random.default_rng(seed), 1, n_s, n_d, n_summaries, 4.0)
    return sample._replace(mean=sample.mean[0], scatter=sample.scatter[0], slope=sample.slope[0])


def plain_det(n_s, n_d, n_summaries=10, repetitions=400):
    """The mean over many samples of the plain det F."""
    samples = gaussian_samples(np.random.default_rng(9), repetitions, n_s, n_d, n_summaries, 4.0)
    spread = samples.spread().sum(1) / (n_s - 1)
    slope = samples.mean_slope()
    return np.linalg.det(slope @ np.linalg.solve(spread, np.swapaxes(slope, 1, 2))).mean()


@pytest.mark.parametrize("vary", ["fiducial", "derivative", "both"])
def test_predictions_are_what_more_simulations_give(vary):
    # The prediction has the error of its own simulations, which its mean over samples has less of.
    n_s, n_d = 640, 128
    found = [convergence_of(one(n_s, n_d, seed=seed)).predict(4, vary=vary) for seed in range(40)]
    det = np.array([each.det_fisher for each in found])
    more = {"fiducial": (4, 1), "derivative": (1, 4), "both": (4, 4)}[vary]
    expected = plain_det(n_s * more[0], n_d * more[1])
    now = plain_det(n_s, n_d)
    error = det.std() / np.sqrt(len(det))
    assert abs(det.mean() - expected) < 4 * error + 0.01 * expected
    assert now > 1.01 * expected
    assert abs(det.mean() - expected) < 0.5 * (now - expected) + 2 * error


def test_curves_and_sentences():
    result = convergence_of(one(640, 128))
    np.testing.assert_allclose(result.both.det_fisher.n, [80, 160, 320, 640])
    np.testing.assert_allclose(result.derivative.det_fisher.n, [16, 32, 64, 128])
    assert (np.diff(result.both.det_fisher.values) < 0).all()
    for curve in (result.both.det_fisher, *result.both.parameter_std):
        np.testing.assert_allclose(curve.predict(curve.n), curve.values, rtol=0.05)
    assert result.both.corrected.shape == (4, 2)
    now, later = result.predict(1), result.predict(4)
    np.testing.assert_allclose(later.parameter_std_error, now.parameter_std_error / 2)
    np.testing.assert_allclose(now.parameter_std_error, result.correction.parameter_std_error)
    assert (later.parameter_std > now.parameter_std).all()
    change = 100 * (later.parameter_std[0] / now.parameter_std[0] - 1)
    lines = result.sentences(4).splitlines()
    assert len(lines) == 2
    start = f"With four times the simulations the error of θ₁ would grow by {change:.2g} %."
    assert lines[0].startswith(start)
    axes = result.plot()
    assert axes.shape == (3, 2)
    assert axes[0, 0].get_xscale() == "log"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"factor": 0}, ValueError, "`factor` must be"),
        ({"factor": "much"}, TypeError, "`factor` must be"),
        ({"vary": "seeds"}, ValueError, "`vary` must be"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        convergence_of(one(100, 20)).predict(**arguments)


def test_too_few_simulations_are_named():
    with pytest.raises(ValueError, match=r"`n_d` must be larger.* got 3"):
        convergence_of(one(100, 3))


def imnn_of(fiducial, derivative):
    model = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Lambda(
                lambda x: keras.ops.stack(
                    [keras.ops.mean(x, axis=-1), keras.ops.mean(x**2, axis=-1)], axis=-1
                )
            ),
        ]
    )
    return IMNN(
        θ_fid=reference.THETA_FID,
        δθ=reference.DELTA_THETA,
        fiducial=fiducial,
        derivative=derivative,
        model=model,
        verbose=False,
    )


def test_an_imnn_takes_its_own_simulations_or_others():
    imnn = imnn_of(*reference.simulations(0, 500))
    own = imnn.convergence()
    again = imnn.convergence(*reference.simulations(0, 500))
    np.testing.assert_allclose(own.both.det_fisher.values, again.both.det_fisher.values, rtol=1e-6)
    assert (own.n_s, own.n_d) == (500, 500)
    np.testing.assert_allclose(own.both.det_fisher.values[-1], np.linalg.det(imnn.F), rtol=1e-4)
    with pytest.raises(TypeError, match="`derivative` must be an array"):
        imnn.convergence(reference.simulations(1, 500)[0])


@pytest.mark.slow
def test_four_times_the_simulations_of_the_reference_problem():
    imnn = imnn_of(*reference.simulations(0, 500))
    for seed in range(5):
        fiducial, derivative = reference.simulations(100 + seed, 80_000)
        predicted = imnn.convergence(fiducial[:20_000], derivative[:20_000]).predict(4).det_fisher
        measured = imnn.evaluate(fiducial, derivative, debias=False)
        # det F of the first quarter differs from that of all by 1.2 %, one standard deviation.
        assert predicted == pytest.approx(float(np.exp(measured.log_det_fisher)), rel=0.03)


def test_sentences_say_where_the_noise_outweighs_the_slope():
    sample = one(640, 16)
    noisy = sample.slope - sample.mean_slope()
    result = convergence_of(sample._replace(slope=noisy + 1e-3 * sample.mean_slope()))
    assert np.isnan(result.correction.parameter_std).all()
    for line in result.sentences(4).splitlines():
        assert line.endswith("Corrected, it is not known, as the noise outweighs the slope.")


def test_it_says_what_it_found():
    shown = repr(convergence_of(one(640, 128)))
    assert shown.startswith("Convergence(simulations: 640 fiducial, 128 for the slope, plain det F")
    assert "with four times as many" in shown
