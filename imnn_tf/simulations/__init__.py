"""Where simulations come from; every source gives the same batches."""

from imnn_tf.simulations.open import SetArguments, open_like, open_sets
from imnn_tf.simulations.options import SimulationOptions
from imnn_tf.simulations.overlap import warn_of_shared
from imnn_tf.simulations.simulations import Simulations

__all__ = [
    "SetArguments",
    "SimulationOptions",
    "Simulations",
    "open_like",
    "open_sets",
    "warn_of_shared",
]
