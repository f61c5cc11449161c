"""Simulations read at every pass are those held in memory, batch for batch."""

import threading

import numpy as np
import pytest
import reference
import tensorflow as tf

from imnn_tf import IMNN
from imnn_tf.simulations.batch import WHOLE, Part
from imnn_tf.simulations.feeds.memory import MemoryFeed
from imnn_tf.simulations.feeds.stream import StreamFeed
from imnn_tf.simulations.sources.cache import Cache
from imnn_tf.utils import TFRecords
from imnn_tf.utils.checkpoint import CorruptFileError

N_S, N_D = 30, 20
FIDUCIAL, DERIVATIVE = (part.astype("float32") for part in reference.simulations(0, N_S, N_D))


def written(folder, compression=None):
    writer = TFRecords(record_size=0.0005, compression=compression, verbose=False)
    return (
        writer.write_record(N_S, lambda seed: FIDUCIAL[seed], directory=folder),
        writer.write_record(
            N_D, lambda *label: DERIVATIVE[label], fiducial=False, n_params=2, directory=folder
        ),
    )


def mapped(folder):
    paths = folder / "fiducial.npy", folder / "derivative.npy"
    for path, array in zip(paths, (FIDUCIAL, DERIVATIVE), strict=True):
        np.save(path, array)
    return tuple(np.load(path, mmap_mode="r") for path in paths)


def data_sets(folder):
    seeds = np.random.default_rng(0).permutation(N_S)
    labels = [np.unravel_index(place, (N_D, 2, 2)) for place in range(N_D * 4)]
    from_slices = tf.data.Dataset.from_tensor_slices
    return (
        from_slices((FIDUCIAL[seeds], seeds)),
        from_slices((np.stack([DERIVATIVE[label] for label in labels]), np.array(labels))),
    )


SOURCES = {
    "arrays": lambda folder: (FIDUCIAL, DERIVATIVE),
    "files mapped into memory": mapped,
    "functions": lambda folder: (lambda s: FIDUCIAL[s], lambda s, d, p: DERIVATIVE[s, d, p]),
    "TFRecords": written,
    "compressed TFRecords": lambda folder: written(folder, "GZIP"),
    "data sets": data_sets,
}
AT_RANDOM = ("arrays", "files mapped into memory", "functions", "TFRecords")


def simulations_of(sources, *, n_d=N_D, delta_theta=reference.DELTA_THETA, **options):
    given = {"dtype": tf.float32, "n_s": N_S, "n_d": n_d, **options}
    return reference.as_simulations(*sources, 2, delta_theta, **given)


def batches(simulations, update=0, part=WHOLE):
    started = simulations.batches(update, part)
    return [started.at(index) for index in range(part.first, simulations.n_batches, part.step)]


def assert_same_batches(ours, theirs):
    for batch, same in zip(ours, theirs, strict=True):
        for got, exact in zip(batch, same, strict=True):
            assert (got is None) == (exact is None)
            if got is not None:
                np.testing.assert_array_equal(got, exact)


@pytest.mark.parametrize("cache", ["nowhere", "auto", "folder"])
@pytest.mark.parametrize("source", SOURCES)
def test_streams_have_the_batches_of_arrays(source, cache, tmp_path):
    where = {"nowhere": False, "auto": "auto", "folder": tmp_path / "copy"}[cache]
    options = {"cache": Cache(where, limit=1000), "at_once": 7}
    sources = SOURCES[source](tmp_path)
    if cache == "nowhere" and source not in AT_RANDOM:
        with pytest.raises(ValueError, match=r"`cache` must be .* where `fiducial` is compressed"):
            simulations_of(sources, **options)
        return
    streamed = simulations_of(sources, **options)
    assert isinstance(streamed.feed, StreamFeed)
    held = simulations_of((FIDUCIAL, DERIVATIVE), at_once=7)
    for _ in range(2):
        assert_same_batches(batches(streamed), batches(held))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_part_of_a_stream_has_every_third_batch(index):
    streamed = simulations_of((FIDUCIAL, DERIVATIVE), at_once=4, cache=Cache(False))
    assert_same_batches(batches(streamed, part=Part(index, 3)), batches(streamed)[index::3])


@pytest.mark.parametrize("parallel_reads", [1, 4])
@pytest.mark.parametrize("n_d", [N_S, 12])
def test_exact_derivatives_are_streamed(n_d, parallel_reads):
    derivative = np.random.default_rng(1).normal(size=(n_d, 10, 2)).astype("float32")
    given = {"n_d": n_d, "delta_theta": None, "at_once": 7}
    functions = lambda seed: FIDUCIAL[seed], lambda seed: derivative[seed]
    streamed = simulations_of(functions, cache=Cache(False), parallel_reads=parallel_reads, **given)
    assert_same_batches(batches(streamed), batches(simulations_of((FIDUCIAL, derivative), **given)))


@pytest.mark.parametrize("cache", ["memory", False])
@pytest.mark.parametrize("parallel_reads", [None, 3])
def test_functions_are_called_from_as_many_threads_as_are_allowed(parallel_reads, cache):
    threads, together = set(), threading.Barrier(parallel_reads or 1, timeout=20)

    def fiducial(seed):
        threads.add(threading.get_ident())
        if seed < 3:  # no one goes on before all threads are here
            together.wait()
        return FIDUCIAL[seed]

    options = {"cache": Cache(cache), "parallel_reads": parallel_reads, "input_shape": (10,)}
    simulations = simulations_of((fiducial, DERIVATIVE), at_once=N_S, **options)
    held = simulations_of((FIDUCIAL, DERIVATIVE))
    threads.clear()
    assert_same_batches(batches(simulations), batches(held))
    if cache is False:
        assert len(threads) == (parallel_reads or 1)


def test_functions_are_called_once_for_what_is_held_in_the_order_of_their_labels():
    calls = []

    def derivative(*label):
        calls.append(label)
        return DERIVATIVE[label]

    simulations_of((FIDUCIAL, derivative), at_once=7)
    assert calls == list(np.ndindex(N_D, 2, 2))


def test_what_fits_is_held():
    sources = lambda s: FIDUCIAL[s], lambda *label: DERIVATIVE[label]
    size = FIDUCIAL.nbytes + DERIVATIVE.nbytes
    feeds = {Cache("auto", size): MemoryFeed, Cache("auto", size - 1): StreamFeed}
    for cache, feed in {**feeds, Cache("memory", 1): MemoryFeed}.items():
        assert isinstance(simulations_of(sources, cache=cache).feed, feed)


def test_a_stream_chooses_batches_of_some_size():
    """A batch has about 32 MiB; here that is 1,250 of the 5,000 with their derivatives."""
    big = np.broadcast_to(np.float32(0.5), (5000, 1342))
    shifted = np.broadcast_to(np.float32(0.5), (5000, 2, 2, 1342))
    streamed = reference.as_simulations(
        big, shifted, 2, np.ones(2), dtype=tf.float32, cache=Cache("auto", 1e6)
    )
    assert streamed.n_batches == 4
    assert streamed.blocks == (1250,) * 5


def test_a_copy_on_disk_is_found_again(tmp_path):
    sources = written(tmp_path, "GZIP")
    folder = tmp_path / "copy"
    simulations_of(sources, cache=Cache(folder))
    copies = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(copies) == 2
    simulations_of(sources, cache=Cache(folder))
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == copies
    simulations_of(sources, cache=Cache(folder), dtype=tf.float64)
    assert len(list(folder.iterdir())) == 4


def test_a_copy_of_what_a_function_gave_ends_with_its_reader(tmp_path):
    sources = lambda s: FIDUCIAL[s], lambda *label: DERIVATIVE[label]
    streamed = simulations_of(sources, cache=Cache(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2
    del streamed
    assert not list(tmp_path.iterdir())


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


def test_what_a_read_raises_is_what_the_fit_raises():
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
        batches(streamed)
    assert isinstance(streamed.feed.failure, CorruptFileError)


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
    first = np.concatenate([batch.data for batch in batches(simulations, update=1)])
    again = np.concatenate([batch.data for batch in batches(simulations, update=1)])
    other = np.concatenate([batch.data for batch in batches(simulations, update=2)])
    np.testing.assert_array_equal(first, again)
    assert not np.equal(first, other).any()


def test_the_members_of_a_derivative_share_the_noise_of_a_map_fn():
    simulations = simulations_of((FIDUCIAL, DERIVATIVE), map_fn=noisy)
    blocks = np.split(batches(simulations, update=3)[0].data, np.cumsum(simulations.blocks)[:-1])
    # Above and below in the mean differ by its difference, as they did before the noise.
    np.testing.assert_allclose(blocks[3] - blocks[1], 0.1, rtol=1e-4)
    noise = blocks[1][:, 0] - DERIVATIVE[:, 0, 0, 0]
    assert len(np.unique(noise.round(4))) == N_D
    # 20 standard normal numbers have a standard deviation of 1 +- 0.16.
    assert 0.5 < noise.std() < 1.5


def test_a_map_fn_with_a_state_needs_memory():
    def draws(simulation):
        return simulation + tf.random.normal([10])

    given = {"map_fn": draws, "at_once": 7}
    simulations_of((FIDUCIAL, DERIVATIVE), **given)
    with pytest.raises(ValueError, match=r"`map_fn` must give the same .* take a second argument"):
        simulations_of((FIDUCIAL, DERIVATIVE), cache=Cache(False), **given)
