"""The two-sample test by a classifier against the accuracy of the best classifier there is."""

import sys

import numpy as np
import pytest
from scipy import stats

from imnn_tf.lfi import Posterior, calibration

sklearn = pytest.importorskip("sklearn")


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
    samples, reference = rng.normal(size=(2, 500, 2)) * [[[1, 1]], [[1, 2]]]
    found = calibration.c2st(samples, reference, seed=3)
    assert found > 0.55
    scaled = calibration.c2st(samples * [1e3, 1e-6] + 5, reference * [1e3, 1e-6] + 5, seed=3)
    assert scaled == pytest.approx(found, abs=2e-3)  # rounding may move single rows


def test_weights_count():
    # Samples of N(0, 2) with weights that make them N(0, 1): about 7,400 effective ones.
    rng = np.random.default_rng(1)
    wide, reference = 2**0.5 * rng.normal(size=(10_000, 1)), rng.normal(size=(2000, 1))
    weighted = Posterior(wide, np.exp(-(wide[:, 0] ** 2) / 4))
    error = np.sqrt(0.25 / 4000)
    assert abs(calibration.c2st(weighted, reference, seed=1) - 0.5) < 3 * error
    assert calibration.c2st(Posterior(wide), reference, seed=1) > 0.5 + 3 * error
    assert abs(calibration.c2st(reference, weighted, seed=1) - 0.5) < 3 * error


def test_is_that_of_scikit_learn_on_standardised_rows():
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    rng = np.random.default_rng(5)
    samples, reference = rng.normal(size=(300, 2)) * [1, 1.5], rng.normal(3, 4, size=(300, 2))
    scores = []
    for state in range(20):
        both = np.concatenate([reference, samples])
        both = (both - reference.mean(0)) / reference.std(0, ddof=1)
        model = MLPClassifier((20, 20), max_iter=10_000, random_state=state)
        folds = KFold(5, shuffle=True, random_state=state)
        scores.append(cross_val_score(model, both, np.arange(600) // 300, cv=folds).mean())
    ours = [calibration.c2st(samples, reference, seed=seed) for seed in range(5)]
    difference = np.mean(ours) - np.mean(scores)
    assert abs(difference) < 3.5 * np.std(scores, ddof=1) * np.sqrt(1 / 5 + 1 / 20)


def test_same_seed_same_accuracy_and_no_global_generator():
    rng = np.random.default_rng(2)
    samples, reference = rng.normal(size=(100, 1)), rng.normal(size=(150, 1))
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
        (np.full((20, 1), np.nan), np.zeros((20, 1)), "`samples` must be finite"),
    ],
)
def test_bad_samples_are_refused(samples, reference, message):
    with pytest.raises(ValueError, match=message):
        calibration.c2st(samples, reference)


def test_says_what_to_install(monkeypatch):
    for name in ("sklearn", "sklearn.model_selection", "sklearn.neural_network"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install imnn-tf\[calibration\]"):
        calibration.c2st(np.zeros((20, 1)), np.zeros((20, 1)))
