"""Where simulations are kept between two passes."""

from sources import DERIVATIVE, FIDUCIAL, simulations_of

from imnn_tf.simulations.feeds.memory import MemoryFeed
from imnn_tf.simulations.feeds.stream import StreamFeed
from imnn_tf.simulations.sources.cache import Cache


def test_what_fits_into_memory_is_held_there():
    sources = lambda s: FIDUCIAL[s], lambda *label: DERIVATIVE[label]
    size = FIDUCIAL.nbytes + DERIVATIVE.nbytes
    feeds = {Cache("auto", size): MemoryFeed, Cache("auto", size - 1): StreamFeed}
    for cache, feed in {**feeds, Cache("memory", 1): MemoryFeed}.items():
        assert isinstance(simulations_of(sources, cache=cache).feed, feed)
