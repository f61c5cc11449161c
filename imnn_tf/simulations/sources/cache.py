"""Where simulations are kept between two passes over them."""

import logging
import os
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from imnn_tf.simulations.sources.copies import on_disk
from imnn_tf.simulations.sources.readers import ArrayReader, Reader
from imnn_tf.simulations.sources.unordered import Source, UnorderedSimulations
from imnn_tf.utils import checks

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cache:
    """Where simulations are kept between two passes over them.

    Attributes:
        where: `"memory"`; a folder, for a copy on disk; `"auto"`, which is memory for a set of
            simulations that fits; or `False` for nowhere.
        limit: The most bytes that a set of simulations may take to fit into memory.
    """

    where: str | Path | bool = "auto"
    limit: float = float("inf")

    @classmethod
    def checked(cls, cache: str | Path | bool, memory_limit: float | None) -> "Cache":
        """Makes a cache from arguments of `IMNN`.

        Args:
            cache: `"auto"`, `"memory"`, a folder or `False`.
            memory_limit: The limit of `"auto"` in bytes, positive; a quarter of the machine's
                memory if `None`.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument has the wrong value.
        """
        if not isinstance(cache, str | Path) and cache is not False:
            raise TypeError(f"`cache` must be 'auto', 'memory', a folder or False, got {cache!r}.")
        if memory_limit is None:
            limit = _physical_memory() / 4
        else:
            limit = checks.real("memory_limit", memory_limit, above=0)
        if isinstance(cache, str) and cache not in ("auto", "memory"):
            cache = Path(cache)
        return cls(cache, limit)

    def holds(self, size: float) -> bool:
        """Whether a set of simulations of this size, in bytes, is held in memory."""
        return self.where == "memory" or (self.where == "auto" and size <= self.limit)

    def reader(self, name: str, source: Source, dtype: tf.DType) -> Reader:
        """Prepares a source for being read at every pass without being held in memory.

        Args:
            name: The argument that the user passed the source in.
            source: The simulations.
            dtype: Floating type of a copy on disk, if one is needed.

        Raises:
            ValueError: If the source needs a copy on disk and the cache is `False`.
        """
        if isinstance(source, ArrayReader):
            return source
        if isinstance(self.where, Path):
            return on_disk(name, source, self.where, dtype)
        if not isinstance(source, UnorderedSimulations):
            return source
        if self.where is False:
            raise ValueError(
                f"`cache` must be 'auto', 'memory' or a folder where `{name}` is compressed or a "
                "data set, of which no single simulation can be read, got False."
            )
        folder = Path(tempfile.mkdtemp(prefix="imnn_tf-"))
        logger.info("`%s` does not fit into memory and is unpacked in %s.", name, folder)
        reader = on_disk(name, source, folder, dtype)
        weakref.finalize(reader, shutil.rmtree, folder, ignore_errors=True)
        return reader


def _physical_memory() -> float:
    """Bytes of memory that the machine has; 16 GB where the system does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError):
        return 16e9
