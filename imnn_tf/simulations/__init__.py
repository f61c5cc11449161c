"""Where simulations come from; every source gives the same batches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from imnn_tf.simulations.arrays import ArraySimulations
from imnn_tf.simulations.cache import Cache, Source, in_memory
from imnn_tf.simulations.layout import Layout
from imnn_tf.simulations.mapping import MapFunction, Mapping
from imnn_tf.simulations.simulator import Simulator, SimulatorSimulations
from imnn_tf.simulations.sources import open_pair
from imnn_tf.simulations.stored import StoredSimulations
from imnn_tf.simulations.streams import StreamedSimulations, own_errors

__all__ = [
    "ArraySimulations",
    "Cache",
    "Simulator",
    "SimulatorSimulations",
    "StoredSimulations",
    "StreamedSimulations",
    "as_simulations",
    "own_errors",
]

_KINDS = ("fiducial", "derivative")

_HOLD = Cache("memory")

# A batch of a stream is about this large, in bytes, unless the user says how large.
_BATCH = 2**25


def as_simulations(
    fiducial: Any,
    derivative: Any,
    n_params: int,
    delta_theta: np.ndarray | None,
    *,
    dtype: tf.DType,
    n_s: int | None = None,
    n_d: int | None = None,
    input_shape: Sequence[int] | None = None,
    at_once: int | None = None,
    map_fn: MapFunction | None = None,
    seed: int = 0,
    external: tuple[Any, Any] | None = None,
    cache: Cache = _HOLD,
    parallel_reads: int | None = None,
    min_batches: int = 1,
    verbose: bool = False,
    role: str = "",
) -> StoredSimulations:
    """What the user passed, as a source of batches.

    Both kinds of simulations come as an array; a function of their labels; TFRecord files in the
    format of `imnn_tf.utils.tfrecords`; or a `tf.data.Dataset` of simulations with their labels.

    Args:
        fiducial: Simulations at the fiducial parameters, as an array `[n_s, *input_shape]`, or
            labelled by `seed`.
        derivative: Simulations off the fiducial, as an array `[n_d, 2, n_params, *input_shape]`,
            those below at `[:, 0]`, those above at `[:, 1]`, or labelled by
            `(seed, derivative, parameter)`. Where they are exact, `∂d/∂θ` of the first `n_d`
            fiducial simulations, `[n_d, *input_shape, n_params]` or labelled by `seed`.
        n_params: Number of parameters.
        delta_theta: Differences of the parameters between above and below, `[n_params]`; `None`
            where the derivatives are exact.
        dtype: Floating type of the batches.
        n_s: Number of fiducial simulations; needed by a function only.
        n_d: Number of derivative simulations of each parameter and side, likewise.
        input_shape: Shape of one simulation; needed by TFRecord files without a manifest only.
        at_once: Fiducial simulations in a batch. If left out, all of those held in memory, and as
            many as take 32 MiB with their derivatives of those streamed.
        map_fn: Applied to each simulation; see `Mapping`.
        seed: Of its random numbers.
        external: Fiducial and derivative external summaries, each like the simulations, of shape
            `[n_external]`; always held in memory.
        cache: Whether the simulations are held in memory, on disk or nowhere.
        parallel_reads: Batches of a stream that are read at once; of functions, from how many
            threads they may be called.
        min_batches: The least number of batches.
        verbose: Whether to show progress bars.
        role: `"validation_"` for the names of arguments in messages.

    Raises:
        TypeError: If a source is none of the above.
        ValueError: If a shape is not as above, a number is not finite, or a simulation is missing
            or comes twice.
    """
    exact = delta_theta is None

    def opened(kind: str, values: tuple[Any, Any], shape: Any) -> tuple[Source, Source]:
        return open_pair(
            (f"{role}{kind}fiducial", f"{role}{kind}derivative"),
            values,
            (n_s, n_d),
            n_params,
            exact=exact,
            shape=None if shape is None else tuple(shape),
            threads=parallel_reads or 1,
            verbose=verbose,
        )

    sources = opened("", (fiducial, derivative), input_shape)
    n_s, n_d = (source.counts[0] for source in sources)
    size = sum(_size(source, dtype) for source in sources)
    streams = not cache.holds(size)
    if streams and at_once is None:
        at_once = max(1, int(_BATCH * max(n_s, n_d) / size))
    layout = Layout(n_s, n_d, n_params, delta_theta, at_once=at_once, min_batches=min_batches)
    options: dict[str, Any] = {"dtype": dtype}
    if map_fn is not None:
        options["mapping"] = Mapping(map_fn, sources[0].shape, dtype, seed)
    if external is not None:
        beside = opened("external_", external, None)
        _check_external(role, beside, sources)
        options["external"] = tuple(
            in_memory(f"{role}external_{kind}", source, dtype, verbose=verbose)
            for kind, source in zip(_KINDS, beside, strict=True)
        )
    if not streams:
        fiducial, derivative = (
            in_memory(f"{role}{kind}", source, dtype, verbose=verbose)
            for kind, source in zip(_KINDS, sources, strict=True)
        )
        return ArraySimulations(layout, fiducial, derivative, **options)
    if map_fn is not None and not options["mapping"].repeatable:
        raise ValueError(
            "`map_fn` must give the same whenever it is given the same where simulations do not "
            "fit into memory, got one with a state; take a second argument, `seed`, for "
            "TensorFlow's stateless generators."
        )
    fiducial, derivative = (
        cache.reader(f"{role}{kind}", source, dtype)
        for kind, source in zip(_KINDS, sources, strict=True)
    )
    return StreamedSimulations(
        layout, fiducial, derivative, parallel_reads=parallel_reads, **options
    )


def _size(source: Source, dtype: tf.DType) -> int:
    """Bytes that a source takes in memory."""
    return dtype.size * int(np.prod(source.counts)) * int(np.prod(source.shape))


def _check_external(
    role: str, external: tuple[Source, Source], simulations: tuple[Source, Source]
) -> None:
    if len(external[0].shape) != 1:
        raise ValueError(
            f"`{role}external_fiducial` must have shape (n_s, n_external), got "
            f"{(*external[0].counts, *external[0].shape)}."
        )
    for kind, ours, theirs in zip(_KINDS, external, simulations, strict=True):
        if ours.counts != theirs.counts:
            raise ValueError(
                f"`{role}external_{kind}` must hold the summaries of the simulations in "
                f"`{role}{kind}`, {theirs.counts} of them, got {ours.counts}."
            )
