"""Simulations read at every pass come in the same batches as simulations held in memory."""

import os
import re

import numpy as np
import pytest
import reference
import tensorflow as tf
from sources import (
    DERIVATIVE,
    FIDUCIAL,
    N_D,
    N_S,
    SOURCES,
    UNORDERED,
    assert_same_batches,
    batches_of,
    simulations_of,
    written,
)

from imnn_tf import IMNN
from imnn_tf.simulations.batch import Part
from imnn_tf.simulations.feeds.stream import StreamFeed
from imnn_tf.simulations.sources.cache import Cache
from imnn_tf.utils.checkpoint import CorruptFileError


@pytest.mark.parametrize("cache", ["nowhere", "auto", "folder"])
@pytest.mark.parametrize("source", SOURCES)
def test_streams_have_the_batches_of_arrays(source, cache, tmp_path):
    where = {"nowhere": False, "auto": "auto", "folder": tmp_path / "copy"}[cache]
    options = {"cache": Cache(where, limit=1000), "at_once": 7}
    sources = SOURCES[source](tmp_path)
    if cache == "nowhere" and source in UNORDERED:
        with pytest.raises(ValueError, match=r"`cache` must be .* where `fiducial` is compressed"):
            simulations_of(sources, **options)
        return
    streamed = simulations_of(sources, **options)
    assert isinstance(streamed.feed, StreamFeed)
    held = simulations_of((FIDUCIAL, DERIVATIVE), at_once=7)
    for _ in range(2):
        assert_same_batches(batches_of(streamed), batches_of(held))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_part_of_a_stream_has_every_third_batch(index):
    streamed = simulations_of((FIDUCIAL, DERIVATIVE), at_once=4, cache=Cache(False))
    assert_same_batches(batches_of(streamed, part=Part(index, 3)), batches_of(streamed)[index::3])


@pytest.mark.parametrize("parallel_reads", [1, 4])
@pytest.mark.parametrize("n_d", [N_S, 12])
def test_exact_derivatives_are_streamed(n_d, parallel_reads):
    derivative = np.random.default_rng(1).normal(size=(n_d, 10, 2)).astype("float32")
    given = {"n_d": n_d, "delta_theta": None, "at_once": 7}
    functions = lambda seed: FIDUCIAL[seed], lambda seed: derivative[seed]
    streamed = simulations_of(functions, cache=Cache(False), parallel_reads=parallel_reads, **given)
    assert_same_batches(
        batches_of(streamed), batches_of(simulations_of((FIDUCIAL, derivative), **given))
    )


def test_a_stream_chooses_the_size_of_its_batches():
    """A batch has about 32 MiB, which is 1,250 of these 5,000 simulations with derivatives."""
    big = np.broadcast_to(np.float32(0.5), (5000, 1342))
    shifted = np.broadcast_to(np.float32(0.5), (5000, 2, 2, 1342))
    streamed = reference.as_simulations(
        big, shifted, 2, np.ones(2), dtype=tf.float32, cache=Cache("auto", 1e6)
    )
    assert streamed.n_batches == 4
    assert streamed.blocks == (1250,) * 5


def imnn_of(sources, **options):
    settings = {
        "θ_fid": reference.THETA_FID,
        "δθ": reference.DELTA_THETA,
        "n_s": N_S,
        "n_d": N_D,
        "model": reference.dense_model(width=8),
        "at_once": 7,
        "verbose": False,
    }
    return IMNN(fiducial=sources[0], derivative=sources[1], **{**settings, **options})


@pytest.mark.parametrize("source", ["TFRecords", "functions"])
def test_a_fit_of_a_stream_is_that_of_arrays(source, tmp_path):
    sources = SOURCES[source](tmp_path)
    validation = dict(zip(("validation_fiducial", "validation_derivative"), sources, strict=True))
    held = imnn_of((FIDUCIAL, DERIVATIVE), **validation)
    streamed = imnn_of(sources, cache=False, **validation)
    held.fit(5)
    streamed.fit(5)
    for got, exact in zip(streamed.model.get_weights(), held.model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, exact)
    np.testing.assert_array_equal(streamed.F, held.F)
    assert streamed.data is None
    assert streamed.derivative is None


def test_a_fit_raises_what_a_read_has_raised():
    calls = 0

    def fails_later(seed):
        nonlocal calls
        calls += 1
        return FIDUCIAL[seed] if calls < 40 else FIDUCIAL[seed][:3]

    imnn = imnn_of((fails_later, DERIVATIVE), cache=False)
    with pytest.raises(ValueError, match=r"`fiducial` must hold simulations of shape \(10,\)"):
        imnn.fit(5)


def test_a_file_cut_short_later_is_named(tmp_path):
    sources = written(tmp_path)
    streamed = simulations_of(sources, cache=Cache(False))
    with sources[0][0].open("r+b") as file:
        file.truncate(100)
    with pytest.raises(tf.errors.OpError, match="has become shorter"):
        batches_of(streamed)
    assert isinstance(streamed.feed.failure, CorruptFileError)


def rewrite(path, *, later=1_000_000):
    """Changes the last numbers of a file, which keeps its size, a millisecond later."""
    modified = path.stat().st_mtime_ns
    with path.open("r+b") as file:
        file.seek(-64, os.SEEK_END)
        file.write(bytes(64))
    os.utime(path, ns=(modified, modified + later))


def mapped(path, array, mode="r"):
    np.save(path, array)
    return np.load(path, mmap_mode=mode)


@pytest.mark.parametrize("kind", ["records", "map", "part of a map", "map in Fortran order"])
def test_a_file_that_changes_during_a_fit_is_named(tmp_path, kind):
    path = tmp_path / "fiducial.npy"
    if kind == "records":
        sources = written(tmp_path)
        path = sources[0][-1]
    elif kind == "map":
        sources = mapped(path, FIDUCIAL), DERIVATIVE
    elif kind == "part of a map":
        sources = mapped(path, np.concatenate([FIDUCIAL, FIDUCIAL]))[: len(FIDUCIAL)], DERIVATIVE
    else:
        sources = mapped(path, np.asfortranarray(FIDUCIAL)), DERIVATIVE
    imnn = imnn_of(sources, cache=False)
    imnn.fit(1)
    rewrite(path)
    with pytest.raises(CorruptFileError, match=f"{re.escape(str(path))} has changed since it was"):
        imnn.fit(1)
    imnn.model.set_weights([each + 1e-3 for each in imnn.model.get_weights()])
    with pytest.raises(CorruptFileError, match="has changed since it was opened"):
        _ = imnn.F


def test_a_file_that_changes_during_an_evaluation_is_named(tmp_path):
    imnn = imnn_of((FIDUCIAL, DERIVATIVE), cache=False)
    path = tmp_path / "other.npy"
    other = mapped(path, FIDUCIAL + 1)

    def derivative(*label):
        if label == (0, 0, 0):
            rewrite(path)
        return DERIVATIVE[label] + 1

    with pytest.raises(CorruptFileError, match="has changed since it was opened"):
        imnn.evaluate(other, derivative)


def test_what_was_written_to_a_map_before_is_no_change(tmp_path):
    held = batches_of(simulations_of((FIDUCIAL, DERIVATIVE)))
    for mode in ("r+", "c"):
        array = mapped(tmp_path / f"{mode}.npy", np.zeros_like(FIDUCIAL), mode)
        array[:] = FIDUCIAL
        streamed = simulations_of((array, DERIVATIVE), cache=Cache(False))
        assert_same_batches(batches_of(streamed), held)


def test_a_map_of_a_deleted_file_is_read_from_memory(tmp_path):
    array = mapped(tmp_path / "gone.npy", FIDUCIAL)
    (tmp_path / "gone.npy").unlink()
    streamed = simulations_of((array, DERIVATIVE), cache=Cache(False))
    assert_same_batches(batches_of(streamed), batches_of(simulations_of((FIDUCIAL, DERIVATIVE))))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"cache": True}, TypeError, "`cache` must be 'auto', 'memory', a folder or False"),
        ({"cache": None}, TypeError, "`cache` must be"),
        ({"memory_limit": 0}, ValueError, "`memory_limit` must be greater than 0"),
        ({"parallel_reads": 0}, ValueError, "`parallel_reads` must be at least 1"),
    ],
)
def test_bad_settings_are_named(options, error, message):
    with pytest.raises(error, match=message):
        imnn_of((FIDUCIAL, DERIVATIVE), **options)


def noisy(simulation, seed):
    return simulation + tf.random.stateless_normal([10], seed)


@pytest.mark.parametrize("cache", ["memory", False])
def test_a_map_fn_with_a_seed_is_fresh_at_every_update(cache):
    simulations = simulations_of(
        (FIDUCIAL, DERIVATIVE), at_once=7, map_fn=noisy, cache=Cache(cache)
    )
    first = np.concatenate([batch.data for batch in batches_of(simulations, update=1)])
    again = np.concatenate([batch.data for batch in batches_of(simulations, update=1)])
    other = np.concatenate([batch.data for batch in batches_of(simulations, update=2)])
    np.testing.assert_array_equal(first, again)
    assert not np.equal(first, other).any()


def test_the_members_of_a_derivative_share_the_noise_of_a_map_fn():
    simulations = simulations_of((FIDUCIAL, DERIVATIVE), map_fn=noisy)
    blocks = np.split(batches_of(simulations, update=3)[0].data, np.cumsum(simulations.blocks)[:-1])
    # The simulations above and below differ by δθ in the mean, as they did without the noise.
    np.testing.assert_allclose(blocks[3] - blocks[1], 0.1, rtol=1e-4)
    noise = blocks[1][:, 0] - DERIVATIVE[:, 0, 0, 0]
    assert len(np.unique(noise.round(4))) == N_D
    # The standard deviation of 20 standard normal numbers is 1 ± 0.16.
    assert 0.5 < noise.std() < 1.5


def test_a_map_fn_with_a_state_needs_memory():
    def draws(simulation):
        return simulation + tf.random.normal([10])

    given = {"map_fn": draws, "at_once": 7}
    simulations_of((FIDUCIAL, DERIVATIVE), **given)
    with pytest.raises(ValueError, match=r"`map_fn` must give the same .* take a second argument"):
        simulations_of((FIDUCIAL, DERIVATIVE), cache=Cache(False), **given)
