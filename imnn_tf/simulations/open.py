"""From what a user passed to simulations: for training, for validation, to evaluate."""

from typing import Any, NamedTuple

import numpy as np

from imnn_tf.simulations.augmentation import Augmentation
from imnn_tf.simulations.exchanged import warn_of_exchanged
from imnn_tf.simulations.feeds import Feed
from imnn_tf.simulations.feeds.memory import MemoryFeed
from imnn_tf.simulations.feeds.simulator import SimulatorFeed, SimulatorFunction
from imnn_tf.simulations.feeds.stream import StreamFeed, reading_errors
from imnn_tf.simulations.layout import Layout
from imnn_tf.simulations.mapping import Mapping
from imnn_tf.simulations.options import SimulationOptions
from imnn_tf.simulations.overlap import warn_of_shared
from imnn_tf.simulations.simulations import Simulations
from imnn_tf.simulations.sources.copies import in_memory
from imnn_tf.simulations.sources.open import open_pair
from imnn_tf.simulations.sources.unordered import Source
from imnn_tf.utils import checks

# Size of a batch of streamed simulations, in bytes, unless the user says how many it holds.
_STREAMED_BATCH = 2**25


class SetArguments(NamedTuple):
    """The arguments that one set of simulations comes in, as the user passed them.

    Each is an array, a function of labels, TFRecord files or a `tf.data.Dataset`; see `IMNN`.

    Attributes:
        fiducial: Simulations at the fiducial parameters, `[n_s, *input_shape]`.
        derivative: Derivative simulations, `[n_d, 2, n_params, *input_shape]`, or exact
            derivatives, `[n_d, *input_shape, n_params]`.
        external_fiducial: External summaries of `fiducial`, `[n_s, n_external]`, or `None`.
        external_derivative: External summaries of `derivative`, `[n_d, 2, n_params, n_external]`,
            or their exact derivatives, `[n_d, n_external, n_params]`; or `None`.
    """

    fiducial: Any
    derivative: Any
    external_fiducial: Any = None
    external_derivative: Any = None

    @property
    def simulations(self) -> tuple[Any, Any]:
        """The fiducial and the derivative simulations, in the shapes that the class lists."""
        return self[:2]

    @property
    def external(self) -> tuple[Any, Any]:
        """The external summaries of both, in the shapes that the class lists."""
        return self[2:]


def open_sets(
    options: SimulationOptions,
    training: SetArguments,
    validation: SetArguments,
    simulator: SimulatorFunction | None,
) -> tuple[Simulations, Simulations | None]:
    """The training set and the validation set.

    Args:
        options: What holds for all simulations of the fit.
        training: The training set as it was passed, if there is no simulator.
        validation: The validation set as it was passed. If there is none, a simulator makes one.
        simulator: A function that makes simulations, or `None`.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If there are both a simulator and a training set, only a part of a set is given,
            or the shapes of the two sets differ.
    """
    if simulator is None:
        fitted = open_stored(options, training, augmented=True)
        options.fiducial.fix(
            "`simulator` must be given to move the fiducial point, got simulations, which "
            "belong to theirs."
        )
    else:
        if any(part is not None for part in training):
            raise ValueError(
                "`fiducial`, `derivative` and external summaries must be left out where a "
                "`simulator` is given."
            )
        n_s = checks.integer("n_s", options.n_s, minimum=1)
        n_d = n_s if options.n_d is None else options.n_d
        layout = options.layout(n_s, n_d, options.at_once)
        feed = SimulatorFeed(checks.function("simulator", simulator), options, layout)
        fitted = Simulations(layout, feed, dtype=options.dtype)
    if any(part is not None for part in validation.simulations):
        _require_both("validation_", validation.simulations)
        if simulator is not None:
            options.fiducial.fix(
                "`validation_fiducial` must be left out to move the fiducial point, so that the "
                "`simulator` makes the validation set at the new one."
            )
        return fitted, open_like(options, validation, fitted, role="validation_")
    if any(part is not None for part in validation.external):
        raise ValueError("`validation_external_fiducial` must be given with `validation_fiducial`.")
    if simulator is None:
        return fitted, None
    return fitted, Simulations(layout, feed.held_out(), dtype=options.dtype)


def open_like(
    options: SimulationOptions,
    given: SetArguments,
    training: Simulations,
    *,
    role: str = "",
    at_once: int | None = None,
) -> Simulations:
    """Further simulations, of the shape of the training set's.

    Args:
        options: What holds for all simulations of the fit.
        given: The simulations.
        training: The training set.
        role: What stands before the names of the arguments, such as `"validation_"`.
        at_once: The most fiducial simulations in a batch; as in `options` by default.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If a shape is not that of the training set.
    """
    found = open_stored(options, given, role=role, at_once=at_once)
    for argument, kind, got, want in (
        ("fiducial", "simulations", found.input_shape, training.input_shape),
        ("external_fiducial", "summaries", (found.n_external,), (training.n_external,)),
    ):
        if got != want:
            raise ValueError(
                f"`{role}{argument}` must hold {kind} of the training set's shape, {want}, got "
                f"{got}."
            )
    if found.feed.held is not None:
        warn_of_exchanged(f"{role}derivative", found.feed.held[0][0], found.layout)
    if not isinstance(training.feed, SimulatorFeed):
        with reading_errors(found, training):
            warn_of_shared(role, found, training, "training set")
    return found


def open_stored(
    options: SimulationOptions,
    given: SetArguments,
    *,
    role: str = "",
    at_once: int | None = None,
    augmented: bool = False,
) -> Simulations:
    """Simulations in arrays, functions, files or data sets.

    Args:
        options: What holds for all simulations of the fit.
        given: The simulations.
        role: What stands before the names of the arguments, such as `"validation_"`.
        at_once: The most fiducial simulations in a batch; as in `options` by default.
        augmented: Whether the symmetries in `options` are applied to them.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If a shape is wrong, a number is not finite, or a simulation is missing or
            comes twice.
    """
    sources = _open_pair(options, role, given.simulations, options.input_shape)
    sizes = [int(np.prod(each.counts)) * int(np.prod(each.shape)) for each in sources]
    size = options.dtype.size * sum(sizes)
    n_s, n_d = (source.counts[0] for source in sources)
    streamed = not options.cache.holds(size)
    at_once = at_once or options.at_once
    if streamed and at_once is None:
        at_once = max(1, int(_STREAMED_BATCH * max(n_s, n_d) / size))
    layout = options.layout(n_s, n_d, at_once)
    augmentation = mapping = None
    if augmented and options.augment is not None:
        shape, count = sources[0].shape, max(n_s, n_d)
        augmentation = Augmentation(options.augment, shape, count, options.seed)
    if options.map_fn is not None:
        mapping = Mapping(options.map_fn, sources[0].shape, options.dtype, options.seed)
        if streamed and not mapping.repeatable:
            raise ValueError(
                "`map_fn` must give the same whenever it is given the same where simulations do "
                "not fit into memory, got one with a state; take a second argument, `seed`, for "
                "TensorFlow's stateless generators."
            )
    external = None
    if any(part is not None for part in given.external):
        _require_both(f"{role}external_", given.external)
        summaries = _open_pair(options, f"{role}external_", given.external, None)
        _check_external(role, summaries, sources)
        external = _hold(options, f"{role}external_", summaries, layout)
    feed: Feed
    if streamed:
        named = zip((f"{role}fiducial", f"{role}derivative"), sources, strict=True)
        fiducial, derivative = (
            options.cache.reader(name, source, options.dtype) for name, source in named
        )
        feed = StreamFeed(
            layout, fiducial, derivative, options.dtype, parallel_reads=options.parallel_reads
        )
    else:
        feed = _hold(options, role, sources, layout)
    return Simulations(
        layout,
        feed,
        dtype=options.dtype,
        augmentation=augmentation,
        mapping=mapping,
        external=external,
    )


def _open_pair(
    options: SimulationOptions, role: str, values: tuple[Any, Any], shape: Any
) -> tuple[Source, Source]:
    return open_pair(
        (f"{role}fiducial", f"{role}derivative"),
        values,
        (options.n_s, options.n_d),
        options.fiducial.n_params,
        exact=options.fiducial.exact,
        shape=shape,
        threads=options.parallel_reads or 1,
        verbose=options.verbose,
    )


def _hold(
    options: SimulationOptions, role: str, sources: tuple[Source, Source], layout: Layout
) -> MemoryFeed:
    named = zip((f"{role}fiducial", f"{role}derivative"), sources, strict=True)
    fiducial, derivative = (
        in_memory(name, source, options.dtype, verbose=options.verbose) for name, source in named
    )
    return MemoryFeed.read(layout, fiducial, derivative, options.dtype)


def _require_both(kind: str, pair: tuple[Any, Any]) -> None:
    if any(part is None for part in pair):
        raise ValueError(
            f"`{kind}fiducial` and `{kind}derivative` must be given together, got only one of them."
        )


def _check_external(
    role: str, external: tuple[Source, Source], simulations: tuple[Source, Source]
) -> None:
    if len(external[0].shape) != 1:
        raise ValueError(
            f"`{role}external_fiducial` must have shape (n_s, n_external), got "
            f"{(*external[0].counts, *external[0].shape)}."
        )
    for kind, ours, theirs in zip(("fiducial", "derivative"), external, simulations, strict=True):
        if ours.counts != theirs.counts:
            raise ValueError(
                f"`{role}external_{kind}` must hold the summaries of the simulations in "
                f"`{role}{kind}`, {theirs.counts} of them, got {ours.counts}."
            )
