"""The two-sample test by a classifier against the accuracy of the best classifier there is."""

import numpy as np
import pytest
from scipy import stats

from imnn_tf.lfi import Posterior, calibration


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("distance", [0.0, 1.0, 2.0])
def test_accuracy_is_that_of_the_best_classifier_between_gaussians(dimensions, distance):
    # The best accuracy between N(0, 1) and N(d, 1) is Phi(d/2).
    n, rng = 4000, np.random.default_rng(dimensions)
    shift = distance * np.eye(dimensions)[0]
    reference = rng.normal(size=(n, dimensions))
    found = calibration.c2st(rng.normal(size=(n, dimensions)) + shift, reference, seed=1)
    best = stats.norm.cdf(distance / 2)
    error = np.sqrt(best * (1 - best) / (2 * n))
    # A trained classifier is never better than the best one, and hardly worse.
    assert best - 0.01 - 3 * error < found < best + 3 * error


def test_scale_and_shift_of_both_do_not_matter():
    rng = np.random.default_rng(0)
    samples, reference = rng.normal(size=(2, 200, 2)) * [[[1, 1]], [[1, 3]]]
    found = calibration.c2st(samples, reference, seed=3)
    assert found > 0.6
    scaled = calibration.c2st(samples * [1e3, 1e-6] + 5, reference * [1e3, 1e-6] + 5, seed=3)
    assert scaled == pytest.approx(found, abs=0.011)  # rounding may move single rows of 400


def test_weights_count():
    # Samples of N(0, 2) with weights that make them N(0, 1): about 34,600 effective ones.
    rng = np.random.default_rng(1)
    wide, reference = 2**0.5 * rng.normal(size=(40_000, 1)), rng.normal(size=(4000, 1))
    weighted = Posterior(wide, np.exp(-(wide[:, 0] ** 2) / 4))
    error = np.sqrt(0.25 / 8000)
    assert abs(calibration.c2st(weighted, reference, seed=1) - 0.5) < 3 * error
    assert calibration.c2st(Posterior(wide), reference, seed=1) > 0.5 + 3 * error
    assert abs(calibration.c2st(reference, weighted, seed=1) - 0.5) < 3 * error


def test_agrees_with_scikit_learn():
    model_selection = pytest.importorskip("sklearn.model_selection")
    from sklearn.neural_network import MLPClassifier

    rng = np.random.default_rng(5)
    samples, reference = rng.normal(size=(200, 2)) * [1, 2], rng.normal(3, 4, size=(200, 2))
    both = np.concatenate([reference, samples])
    both = (both - reference.mean(0)) / reference.std(0, ddof=1)
    theirs = []
    for state in range(5):
        model = MLPClassifier((20, 20), max_iter=10_000, random_state=state)
        folds = model_selection.KFold(5, shuffle=True, random_state=state)
        which = np.arange(400) // 200
        theirs.append(model_selection.cross_val_score(model, both, which, cv=folds).mean())
    ours = [calibration.c2st(samples, reference, seed=seed) for seed in range(5)]
    error = np.sqrt((np.var(ours, ddof=1) + np.var(theirs, ddof=1)) / 5)
    assert abs(np.mean(ours) - np.mean(theirs)) < 3 * error


def test_same_seed_same_accuracy_and_no_global_generator():
    rng = np.random.default_rng(2)
    samples, reference = rng.normal(size=(200, 2)), rng.normal(size=(220, 2))
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - that of others
    first, second, other = (calibration.c2st(samples, reference, seed=seed) for seed in (1, 1, 2))
    assert first == second != other
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize(
    ("samples", "reference", "message"),
    [
        (np.zeros((20, 2)), np.ones((20, 3)), "as many parameters.* got 2 and 3"),
        (np.zeros(20), np.zeros((20, 1)), "`samples` must have shape"),
        (np.zeros((9, 1)), np.zeros((20, 1)), "`samples` must have at least 10 samples, got 9"),
        (np.zeros((20, 1)), np.zeros((9, 1)), "`reference` must have at least 10"),
        (np.arange(20.0)[:, None], np.ones((20, 1)), r"`reference` must vary.* got constant \[0\]"),
        (np.arange(60.0)[:, None], np.full((60, 1), 0.1), r"`reference` must vary"),
        (np.full((20, 1), np.nan), np.zeros((20, 1)), "`samples` must be finite"),
    ],
)
def test_bad_samples_are_refused(samples, reference, message):
    with pytest.raises(ValueError, match=message):
        calibration.c2st(samples, reference)
