"""The options of simulations: declared, checked and documented once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tensorflow as tf

from imnn_tf.simulations.augmentation import NamedAxes, Symmetries, checked_symmetries
from imnn_tf.simulations.fiducial import FiducialPoint
from imnn_tf.simulations.layout import Layout
from imnn_tf.simulations.mapping import MapFunction
from imnn_tf.simulations.sources.cache import Cache
from imnn_tf.utils import checks
from imnn_tf.utils.types import Numbers


@dataclass(frozen=True)
class SimulationOptions:
    """What holds for all simulations of a fit.

    Attributes:
        fiducial: The fiducial point and the widths of the derivatives.
        dtype: Floating type of the batches.
        n_s: Number of fiducial simulations, if given.
        n_d: Number of derivative simulations, if given.
        input_shape: Shape of one simulation, if given.
        at_once: The most fiducial simulations in a batch; `None` for a choice by size.
        map_fn: A function applied to each simulation, `[*input_shape]`, or `None`.
        augment: Symmetries of the training simulations, each with its axes, or with `None` for all
            axes of space; `None` for no symmetry.
        seed: From which the seeds of a simulator, of `augment` and of `map_fn` are derived.
        cache: Where simulations are kept between two passes.
        parallel_reads: Number of batches read from files at once, and of threads that call a
            function; `None` for one for each processor, and one.
        n_replicas: Number of replicas that share the batches.
        verbose: Whether to show progress bars.
    """

    fiducial: FiducialPoint
    dtype: tf.DType = tf.float32
    n_s: int | None = None
    n_d: int | None = None
    input_shape: tuple[int, ...] | None = None
    at_once: int | None = None
    map_fn: MapFunction | None = None
    augment: NamedAxes | None = None
    seed: int = 0
    cache: Cache = field(default_factory=lambda: Cache("memory"))
    parallel_reads: int | None = None
    n_replicas: int = 1
    verbose: bool = False

    @classmethod
    def checked(
        cls,
        θ_fid: Numbers,
        δθ: Numbers,
        *,
        dtype: tf.DType,
        n_s: int | None,
        n_d: int | None,
        input_shape: Sequence[int] | None,
        at_once: int | None,
        map_fn: MapFunction | None,
        augment: Symmetries | None,
        seed: int,
        cache: str | Path | bool,
        memory_limit: float | None,
        parallel_reads: int | None,
        n_replicas: int,
        verbose: bool,
    ) -> "SimulationOptions":
        """The options from the arguments of `IMNN`, where each is explained.

        `θ_fid` and `δθ` have the shape `[n_params]`; `δθ` is `None` where derivatives are exact.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If an argument has the wrong value.
        """

        def count(name: str, value: int | None) -> int | None:
            return None if value is None else checks.integer(name, value, minimum=1)

        return cls(
            fiducial=FiducialPoint(θ_fid, δθ, dtype),
            dtype=dtype,
            n_s=n_s if n_s is None else checks.integer("n_s", n_s, minimum=1),
            n_d=count("n_d", n_d),
            input_shape=None if input_shape is None else tuple(input_shape),
            at_once=count("at_once", at_once),
            map_fn=None if map_fn is None else checks.function("map_fn", map_fn),
            augment=checked_symmetries(augment),
            seed=checks.integer("seed", seed, minimum=0),
            cache=Cache.checked(cache, memory_limit),
            parallel_reads=count("parallel_reads", parallel_reads),
            n_replicas=n_replicas,
            verbose=verbose,
        )

    def layout(self, n_s: int, n_d: int, at_once: int | None) -> Layout:
        """Where each of so many simulations stands in batches of `at_once`."""
        return Layout(
            n_s,
            n_d,
            self.fiducial.n_params,
            self.fiducial.delta,
            at_once=at_once,
            min_batches=self.n_replicas,
        )
