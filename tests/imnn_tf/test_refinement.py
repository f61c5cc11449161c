"""Refitting at the estimate, and the moves of the fiducial point."""

import signal

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf

from imnn_tf import IMNN, refine

DRAWS = reference.N_DRAWS


def simulator(parameters, seed):
    noise = tf.random.stateless_normal(
        [tf.shape(parameters)[0], DRAWS], seed, dtype=parameters.dtype
    )
    return parameters[:, :1] + tf.sqrt(parameters[:, 1:]) * noise


def imnn_of(*, n_s=1000, width=32, rate=0.01, **changes):
    settings = {
        "θ_fid": reference.THETA_FID,
        "δθ": reference.DELTA_THETA,
        "n_s": n_s,
        "simulator": simulator,
        "verbose": False,
        **changes,
    }
    if not changes.get("load"):
        settings.setdefault("model", reference.dense_model(width=width))
        settings.setdefault("optimiser", keras.optimizers.Adam(rate))
    return IMNN(**settings)


def drawn(n=1, seed=0, mean=1.0, variance=3.0):
    return reference.simulate(
        np.array([mean, variance]), np.random.default_rng(seed).normal(size=(n, DRAWS))
    )


def fisher_of(variance, n=1):
    return n * np.diag([DRAWS / variance, DRAWS / (2 * variance**2)])


def fresh_information(imnn, n=20_000):
    """Information on simulations that the fit has not seen."""
    noise = np.random.default_rng(99).normal(size=(n, DRAWS))
    theta_fid = np.array(imnn.θ_fid, np.float64)
    if imnn.δθ is None:
        derivative = np.stack([np.ones_like(noise), noise / (2 * np.sqrt(theta_fid[1]))], axis=-1)
    else:
        half = np.diag(reference.DELTA_THETA) / 2
        varied = np.stack([theta_fid - half, theta_fid + half])
        derivative = reference.simulate(varied, noise[:, None, None])
    return imnn.evaluate(reference.simulate(theta_fid, noise), derivative)


@pytest.mark.parametrize(
    ("n", "delta_theta"), [(1, reference.DELTA_THETA), (1, None), (5, reference.DELTA_THETA)]
)
def test_it_converges_to_the_maximum_likelihood_estimate(n, delta_theta):
    # The maximum-likelihood estimate, where the score is zero, is the mean and the biased variance.
    target, tolerance = drawn(n), 0.2
    # The gradient of an exact slope ignores the kinks of an activation; see docs/imnn.md.
    model = reference.dense_model(width=32, activation="gelu") if delta_theta is None else None
    imnn = imnn_of(δθ=delta_theta, **({"model": model} if model else {}))
    result = refine(imnn, target, tolerance=tolerance, n_iterations=150, bounds=([-9, 0.1], 9))
    assert result.converged
    assert 1 < len(result.distances) <= 10
    np.testing.assert_array_equal(result.fiducials[0], reference.THETA_FID)
    np.testing.assert_allclose(result.fiducials[1:], result.estimates[:-1], rtol=1e-6)
    np.testing.assert_allclose(imnn.θ_fid, result.fiducials[-1])

    variance = result.fiducials[-1, 1]
    exact = fisher_of(variance, n)
    kept = np.linalg.eigvals(np.linalg.solve(exact, n * fresh_information(imnn).fisher)).real
    # The covariance of 20,000 simulations has an error of 1 %; the compression is not perfect.
    assert (kept > 0.8).all()
    assert (kept < 1.1).all()
    # The IMNN measures F on 1,000 simulations: 4.5 % for a variance, and as much for the slope.
    np.testing.assert_allclose(np.diag(result.fisher), np.diag(exact), rtol=0.3)

    # The estimates differ from those of the exact score with the variance F_kept⁻¹ − F⁻¹, the
    # mean summary has the variance 1/n_s, and the distance may be as large as the tolerance.
    off = result.estimate - [target.mean(), target.var()]
    expected = np.sum(1 / np.minimum(kept, 0.97) - 1) + 2 * n / 1000
    # A chi-squared with two degrees of freedom is below 13.8 with a probability of 99.9 %.
    assert off @ exact @ off < 13.8 / 2 * expected + tolerance**2


def test_a_moved_imnn_is_compiled_once_and_marks_its_history():
    imnn = imnn_of(n_s=100, width=8)
    imnn.fit(4)
    weights = [w.numpy() for w in imnn.model.weights]
    before, best = imnn.F.numpy(), imnn._state.best.score.numpy()
    imnn.move_to([0.5, 4.0])
    for kept, weight in zip(weights, imnn.model.weights, strict=True):
        np.testing.assert_array_equal(kept, weight)
    np.testing.assert_array_equal(imnn.θ_fid, np.float32([0.5, 4.0]))
    assert not np.allclose(imnn.F, before)
    assert best > imnn._state.best.score.numpy() == -np.inf
    assert imnn.optimiser.iterations == 0
    imnn.fit(3)
    assert imnn.optimiser.iterations == 3
    imnn.move_to([0.4, 3.0], keep_optimiser=True)
    assert imnn.optimiser.iterations == 3
    assert imnn.history["θ_fid_iteration"] == [4, 7]
    np.testing.assert_array_equal(imnn.history["θ_fid"], [[0.5, 4.0], [0.4, 3.0]])
    (loop,) = imnn._session._loops.values()
    assert loop._compiled.experimental_get_tracing_count() == 1


def test_after_a_move_patience_and_the_best_weights_begin_anew():
    # The information falls as 1/θ², so the best score from before the move would never be beaten.
    imnn = imnn_of(n_s=200, width=8)
    imnn.fit(30)
    imnn.move_to([0.0, 9.0])
    imnn.fit(40, patience=5)
    assert len(imnn.history["loss"]) > 30 + 5
    scores = np.array(imnn.history["val_det_F"][30:])
    assert max(scores) < min(imnn.history["val_det_F"][25:30])
    # The best weights are among those with a covariance near the identity.
    near = np.array(imnn.history["val_reg"][30:]) <= imnn.n_summaries
    np.testing.assert_allclose(np.linalg.det(imnn.F), max(scores[near]), rtol=1e-4)


def test_a_loss_not_finite_after_a_move_leaves_the_weights_from_before():
    imnn = imnn_of(n_s=100, width=8)
    imnn.fit(3)
    imnn.move_to([0.0, 2.0])
    weights = [w.numpy() for w in imnn.model.weights]
    imnn._training.feed._simulator = lambda parameters, seed: np.nan * simulator(parameters, seed)
    imnn._session._loops.clear()
    with pytest.raises(ValueError, match=r"loss of update 4 is not finite.*those of update 3"):
        imnn.fit(3)
    for kept, weight in zip(weights, imnn.model.weights, strict=True):
        np.testing.assert_array_equal(kept, weight)


def test_a_moved_fit_is_taken_up_where_it_was(tmp_path):
    files = {"directory": tmp_path, "save": True, "n_s": 100}
    whole, parts = imnn_of(**{**files, "save": False}, width=8), imnn_of(**files, width=8)
    for imnn in (whole, parts):
        imnn.fit(5)
        imnn.move_to([0.3, 2.0])
        imnn.fit(4)
    taken_up = imnn_of(**files, load=True)
    np.testing.assert_array_equal(taken_up.θ_fid, np.float32([0.3, 2.0]))
    np.testing.assert_array_equal(taken_up.F, whole.F)
    np.testing.assert_array_equal(taken_up.history["θ_fid"], [[0.3, 2.0]])
    for imnn in (whole, taken_up):
        imnn.fit(6)
    assert taken_up.history["loss"] == whole.history["loss"]
    assert taken_up.history["val_loss"] == whole.history["val_loss"]

    fiducial, derivative = reference.simulations(0, 100)
    with pytest.raises(ValueError, match="`simulator` must be given to move the fiducial point"):
        imnn_of(**files, load=True, simulator=None, fiducial=fiducial, derivative=derivative)


def test_an_imnn_that_is_fitted_at_its_point_is_not_fitted_again():
    imnn = imnn_of(n_s=200, width=8)
    imnn.fit(30)
    first = refine(imnn, drawn(), max_steps=1, n_iterations=10)
    assert len(imnn.history["loss"]) == 30
    assert not first.converged
    second = refine(imnn, drawn(), max_steps=2, n_iterations=10)
    assert len(imnn.history["loss"]) == 40
    np.testing.assert_array_equal(second.estimates[0], first.estimate)


def test_a_move_goes_a_fraction_of_the_way():
    result = refine(imnn_of(n_s=200, width=8), drawn(), max_steps=2, n_iterations=30, fraction=0.25)
    way = result.estimates[0] - result.fiducials[0]
    np.testing.assert_allclose(result.fiducials[1] - result.fiducials[0], way / 4, rtol=1e-5)
    np.testing.assert_allclose(
        result.distances[0], np.sqrt(way @ result.fishers[0] @ way), rtol=1e-5
    )


def test_no_simulation_is_made_out_of_bounds():
    seen = []

    def recording(parameters, seed):
        seen.append((parameters.min(axis=0), parameters.max(axis=0)))
        noise = np.random.default_rng(seed).normal(size=(len(parameters), DRAWS))
        return reference.simulate(parameters, noise)

    imnn = imnn_of(n_s=300, simulator=recording, θ_fid=[0.0, 3.0])
    target = drawn(mean=0, variance=0.5)
    result = refine(imnn, target, bounds=([-1, 1.5], [1, np.inf]), n_iterations=60, tolerance=0.3)
    assert result.converged
    np.testing.assert_allclose(result.fiducials[-1, 1], 1.55)
    assert result.estimate[1] < 1.55
    low = np.min([low for low, _ in seen], axis=0)
    assert (low >= np.array([-1, 1.5]) - 1e-6).all()
    assert low[1] < 1.6


def test_an_estimate_without_finite_simulations_is_an_error_and_not_a_move():
    imnn = imnn_of(n_s=300, δθ=[0.1, 0.8])
    target = np.full((1, DRAWS), 0.01)  # its variance is zero
    with pytest.raises(ValueError, match="must return finite simulations"):
        refine(imnn, target, n_iterations=60)
    np.testing.assert_array_equal(imnn.θ_fid, reference.THETA_FID)
    assert imnn.history["θ_fid"] == []
    assert np.isfinite(imnn.get_estimate(target)).all()


class Interrupt(keras.callbacks.Callback):
    """Presses Ctrl-C at an update."""

    def __init__(self, update):
        super().__init__()
        self.update = update

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.update:
            signal.raise_signal(signal.SIGINT)


def test_an_interrupt_returns_the_steps_made():
    imnn = imnn_of(n_s=200, width=8)
    result = refine(
        imnn, drawn(), n_iterations=10, callbacks=[Interrupt(12)], tolerance=1e-6, verbose=True
    )
    assert len(result.estimates) == 2
    assert len(imnn.history["loss"]) == 13
    assert not result.converged
    np.testing.assert_array_equal(imnn.get_estimate(drawn())[0], np.float32(result.estimate))


def test_an_interrupt_before_any_estimate_is_raised():
    class AtOnce(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        refine(imnn_of(n_s=200, width=8), drawn(), n_iterations=10, callbacks=[AtOnce()])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"imnn": 3}, TypeError, "`imnn` must be an IMNN, got int"),
        ({"target": drawn()[0]}, ValueError, r"`target` must have shape \(any, 10\), got \(10,\)"),
        ({"target": np.zeros((0, 10))}, ValueError, "`target` must hold at least one simulation"),
        ({"target": np.full((1, 10), np.nan)}, ValueError, "`target` must be finite"),
        ({"tolerance": 0}, ValueError, "`tolerance` must be greater than 0"),
        ({"max_steps": 0}, ValueError, "`max_steps` must be at least 1"),
        ({"fraction": 1.5}, ValueError, "`fraction` must be at most 1"),
        ({"n_iterations": None}, ValueError, "`n_iterations` or `patience` must be given"),
        ({"reset": True}, ValueError, "`reset` must be left out"),
        ({"bounds": 3}, ValueError, "`bounds` must be a lowest and a highest value, got 3"),
        ({"bounds": ([1, 2, 3], 4)}, ValueError, "`bounds` must each be a number or one for each"),
        ({"bounds": ([0, 1], [0.05, 2])}, ValueError, "`bounds` must leave room .* with δθ"),
        ({"bounds": ([-1, 1], 2)}, ValueError, "`bounds` must hold the fiducial .* got .0.0, 1.0"),
    ],
)
def test_bad_arguments_are_named(changes, error, message):
    given = {"imnn": None, "target": drawn(), "n_iterations": 5, **changes}
    imnn = given.pop("imnn") or imnn_of(n_s=50, width=8)
    with pytest.raises(error, match=message):
        refine(imnn, given.pop("target"), **given)


def test_simulations_of_another_point_cannot_be_moved():
    fiducial, derivative = reference.simulations(0, 100)
    arrays = {"fiducial": fiducial, "derivative": derivative}
    imnn = imnn_of(n_s=None, simulator=None, **arrays)
    with pytest.raises(ValueError, match="`simulator` must be given to move the fiducial point"):
        refine(imnn, drawn(), n_iterations=5)
    validation = {f"validation_{name}": array for name, array in arrays.items()}
    with pytest.raises(ValueError, match="`validation_fiducial` must be left out to move"):
        imnn_of(n_s=100, **validation).move_to([0, 2])
    with pytest.raises(ValueError, match=r"`θ_fid` must have shape \(2,\), got \(3,\)"):
        imnn_of(n_s=100).move_to([0, 2, 3])


class Killed(BaseException):
    """Ends a fit like the end of its process, which no `except Exception` catches."""


@pytest.mark.parametrize("update", [6, 13, 26])
def test_a_refinement_that_is_killed_goes_on_with_its_fit(tmp_path, update):
    class Kill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == update:
                raise Killed

    def refined(imnn, **options):
        steps = 3 - len(imnn.history["θ_fid"])
        return refine(imnn, drawn(), tolerance=1e-9, max_steps=steps, n_iterations=10, **options)

    files = {"directory": tmp_path, "save": True, "n_s": 100}
    whole = refined(imnn_of(**{**files, "save": False}, width=8))
    with pytest.raises(Killed):
        refined(imnn_of(**files, width=8), checkpoint=4, callbacks=[Kill()])
    taken_up = imnn_of(**files, load=True)
    assert taken_up.unfinished == {6: 4, 13: 2, 26: 4}[update]
    second = refined(taken_up)
    assert len(second.estimates) == {6: 3, 13: 2, 26: 1}[update]
    np.testing.assert_array_equal(second.estimate, whole.estimate)
    np.testing.assert_array_equal(second.fisher, whole.fisher)
    assert taken_up.history["loss"] == whole.imnn.history["loss"]
