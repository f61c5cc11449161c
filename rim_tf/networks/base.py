"""What the networks of this package share: arguments, checks, and the layers made from them."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from imnn_tf.utils import checks
from imnn_tf.utils.types import KerasLayer
from rim_tf.networks.cells import GRUBlock
from rim_tf.networks.layers import PADDINGS, ConfiguredLayer, Convolution, check_rank


class Network(ConfiguredLayer):
    """A network on a grid; the arguments are those that all networks here have in common."""

    def __init__(
        self,
        channels: int,
        dimensions: int,
        *,
        kernel_size: int = 3,
        activation: Any = "tanh",
        padding: str = "zero",
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.channels = checks.integer("channels", channels, minimum=1)
        self.dimensions = check_rank("dimensions", dimensions)
        self.kernel_size = checks.integer("kernel_size", kernel_size, minimum=1)
        self.activation = keras.activations.get(activation)
        self.padding = checks.choice("padding", padding, PADDINGS)
        self.seed = None if seed is None else checks.integer("seed", seed, minimum=0)

    def _shared(self) -> dict[str, Any]:
        """The arguments that every layer of the network has in common."""
        return {"rank": self.dimensions, "padding": self.padding, "dtype": self.dtype_policy}

    def _convolution(
        self,
        filters: int,
        seed: int | None,
        size: int | None = None,
        kind: Any = Convolution,
        **options: Any,
    ) -> KerasLayer:
        """A convolution, by default as wide and with the same activation as the network's."""
        return kind(
            filters,
            size or self.kernel_size,
            kernel_initializer=keras.initializers.GlorotUniform(seed),
            **{"activation": self.activation, **self._shared(), **options},
        )

    def _read_out(self, size: int | None = None) -> Convolution:
        """The last layer, which starts at zero: an untrained RIM stays where it starts.

        It has no activation, because a step may have either sign and any size.
        """
        return Convolution(
            self.channels,
            size or self.kernel_size,
            kernel_initializer="zeros",
            **self._shared(),
        )


class PyramidNetwork(Network):
    """A network that halves the grid level by level and has its memory on the coarsest."""

    def __init__(
        self,
        channels: int,
        dimensions: int,
        *,
        nf: int = 32,
        ch_mult: Sequence[int] = (2, 2),
        hidden_units: int = 32,
        num_layers: int = 1,
        conv_kernel_size: int | None = None,
        input_kernel_size: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(channels, dimensions, **kwargs)
        if self.dimensions == 0:
            raise ValueError("`dimensions` must be 1 to 3, got 0: there is nothing to resample.")
        self.nf = checks.integer("nf", nf, minimum=1)
        self.ch_mult = checks.sizes("ch_mult", ch_mult)
        self.hidden_units = checks.integer("hidden_units", hidden_units, minimum=2)
        if self.hidden_units % 2:
            raise ValueError(f"`hidden_units` must be even, got {self.hidden_units}.")
        self.num_layers = checks.integer("num_layers", num_layers, minimum=0)
        self.conv_kernel_size = _optional_size("conv_kernel_size", conv_kernel_size)
        self.input_kernel_size = _optional_size("input_kernel_size", input_kernel_size)

    def _widths(self) -> list[int]:
        """The number of channels of each level, the finest first."""
        widths = [self.nf]
        for factor in self.ch_mult:
            widths.append(widths[-1] * factor)
        return widths

    def _stack(self, filters: int, seeds: Iterator[int | None]) -> list[KerasLayer]:
        """The convolutions of one level of the encoder or the decoder."""
        return [self._convolution(filters, next(seeds)) for _ in range(self.num_layers)]

    def _gru_block(self, filters: int, seed: int | None) -> GRUBlock:
        """The memory on the coarsest level."""
        return GRUBlock(
            self.hidden_units,
            filters,
            self.kernel_size,
            conv_kernel_size=self.conv_kernel_size,
            seed=seed,
            **self._shared(),
        )

    def _grids(self, sizes: Sequence[int]) -> list[list[int]]:
        """The spatial sizes of each level, the finest first, for parameters of `sizes`."""
        grids = [list(sizes)]
        for _ in self.ch_mult:
            # Rounded up, as the convolutions with a stride of two do.
            grids.append([-(-size // 2) for size in grids[-1]])
        return grids


def _optional_size(name: str, value: int | None) -> int | None:
    return None if value is None else checks.integer(name, value, minimum=1)
