"""Which weights a fit keeps, and what patience waits for."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from imnn_tf.fit.snapshot import BestSnapshot, Score
from imnn_tf.information import Information


def model():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


def score(log_det_fisher, divergence):
    return Score(tf.constant(log_det_fisher, tf.float64), tf.constant(divergence, tf.float64))


def kept(scores):
    """The numbers of the scores whose weights were kept, and of those that were progress."""
    network, snapshot = model(), None
    snapshot = BestSnapshot(network)
    best, progress = [], []
    for number, each in enumerate(scores):
        snapshot.keep_if_better(network, score(*each), tf.constant(number, tf.int64))
        best.append(int(snapshot.update))
        progress.append(int(snapshot.last_progress))
    return best, progress


def test_the_score_is_that_of_the_covariance_and_the_fisher_information():
    C, zero = np.diag([0.5, 2.0]), tf.constant(0.0, tf.float64)
    info = Information(None, tf.constant(3.0), tf.constant(C), None, zero, None, None)
    found = Score.of(info)
    assert found.log_det_fisher == 3
    np.testing.assert_allclose(found.divergence, (2.5 - 0 - 2) / 2)
    assert found.scaled


def test_near_the_identity_the_higher_information_is_better():
    assert kept([(1, 0.1), (3, 0.9), (2, 0.0), (3, 0.0), (4, 0.5)])[0] == [0, 1, 1, 1, 4]


def test_weights_near_the_identity_are_better_than_all_others():
    # The hump of det F while the scale is still wrong counts for nothing afterwards.
    assert kept([(5, 20), (9, 10), (2, 0.9), (8, 1.1), (3, 0.2)])[0] == [0, 1, 2, 2, 4]


def test_a_covariance_that_comes_closer_is_progress_until_it_is_near():
    _, progress = kept([(5, 20), (4, 19), (3, 18.999), (2, 18), (1, 0.5), (0.5, 0.1), (2, 0.3)])
    assert progress == [0, 1, 1, 3, 4, 4, 6]


def test_weights_that_are_not_finite_are_never_kept():
    assert kept([(np.nan, np.nan), (1, 0.1), (np.nan, 0.1), (2, np.nan)])[0] == [-1, 1, 1, 1]


def test_what_was_kept_can_be_saved_and_taken_over():
    network = model()
    snapshot, other = BestSnapshot(network), BestSnapshot(network)
    for number, each in enumerate([(5, 20), (4, 19)]):
        snapshot.keep_if_better(network, score(*each), tf.constant(number, tf.int64))
    other.take_over(snapshot.arrays(), snapshot.record())
    assert other.record() == snapshot.record() == [5, 0, False, 19, 1]
    for ours, theirs in zip(snapshot.arrays(), other.arrays(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    other.forget()
    assert other.record() == BestSnapshot(network).record()
    assert other.arrays() == []


@pytest.mark.parametrize("old", [[3.5, 7], [-np.inf, -1]])
def test_the_record_of_version_0_3_has_no_covariance(old):
    snapshot = BestSnapshot(model())
    snapshot.take_over([], old)
    assert snapshot.record()[:2] == old
