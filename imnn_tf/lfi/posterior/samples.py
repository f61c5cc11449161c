"""Weighted samples of a posterior, which every method of inference results in."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.lfi.plots.layout import AxesLike, Color, FigureSize, Label
from imnn_tf.lfi.plots.triangle import LEVELS, triangle
from imnn_tf.lfi.posterior.histograms import (
    Bins,
    Ranges,
    bin_edges,
    bounded_ranges,
    centres,
    check_ranges,
    histogram_marginals,
    mass_ranges,
    total_weight,
)
from imnn_tf.lfi.posterior.kernel_density import kernel_marginals
from imnn_tf.lfi.posterior.marginals import Marginals, along
from imnn_tf.running.arguments import described
from imnn_tf.utils import checks, display
from imnn_tf.utils.checkpoint import write_atomically
from imnn_tf.utils.seeds import Seed, seed_sequence


class Posterior(display.Shown):
    """Weighted samples of the parameters, given one target.

    Args:
        samples: Parameters, `(n, n_params)`.
        weights: Their weights, `(n,)`, not negative. `None` for equal ones.
        parameter_names: One plain name for each parameter. `None` for `p1`, `p2` and so on.
        labels: One label for each parameter, in LaTeX or not. `None` for the names.
        low: Lower bounds of the prior, `(n_params,)`, minus infinity where it has none. `None`
            for no bounds.
        high: Upper bounds of the prior, `(n_params,)`, infinity where it has none. `None` for no
            bounds.

    Attributes:
        samples: Parameters, `(n, n_params)`, float64.
        weights: Weights, `(n,)`, which sum to one.
        parameter_names: Names of the parameters.
        labels: Labels of the parameters.
        low: Lower bounds, `(n_params,)`.
        high: Upper bounds, `(n_params,)`.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If shapes do not fit, or there is no positive weight.
    """

    def __init__(
        self,
        samples: ArrayLike,
        weights: ArrayLike | None = None,
        *,
        parameter_names: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        low: ArrayLike | None = None,
        high: ArrayLike | None = None,
    ) -> None:
        self.samples = checks.array("samples", samples, shape=(None, None), dtype=float).copy()
        n, p = self.samples.shape
        mass = np.ones(n) if weights is None else weights
        mass = checks.array("weights", mass, shape=(n,), dtype=float)
        if (mass < 0).any() or not (mass > 0).any():
            raise ValueError(
                f"`weights` must not be negative and not all zero, got {n} of them between "
                f"{mass.min(initial=0)} and {mass.max(initial=0)}."
            )
        mass = mass / mass.max()  # the sum of enormous ones is infinite, that of tiny ones inexact
        self.weights = mass / mass.sum()
        names = checks.names("parameter_names", parameter_names, p)
        self.parameter_names = names or [f"p{i + 1}" for i in range(p)]
        self.labels = checks.strings("labels", labels, p) or list(self.parameter_names)
        ends = [np.full(p, -np.inf) if low is None else low]
        ends += [np.full(p, np.inf) if high is None else high]
        self.low, self.high = (
            checks.array(name, end, shape=(p,), dtype=float, finite=False)
            for name, end in zip(("low", "high"), ends, strict=True)
        )

    def __len__(self) -> int:
        return len(self.samples)

    def _facts(self) -> dict[str, str]:
        samples = f"{len(self)} ({self.ess:.0f} effective)"
        spread = np.sqrt(self.weights @ (self.samples - self.mean()) ** 2)
        found = zip(self.parameter_names, self.mean(), spread, strict=True)
        return {"samples": samples} | {name: display.number(*pair) for name, *pair in found}

    @property
    def ess(self) -> float:
        """Effective sample size by the weights, `1 / sum w^2` (Kish 1965)."""
        return float(1 / (self.weights**2).sum())

    def mean(self) -> np.ndarray:
        """Mean of each parameter, `(n_params,)`."""
        return self.weights @ self.samples

    def mean_error(self) -> np.ndarray:
        """Monte Carlo standard error of each mean, `(n_params,)`.

        It is `sqrt(sum w^2 (x - mean)^2)` (Owen 2013, "Monte Carlo theory, methods and
        examples", equation 9.9), which is larger than `std() / sqrt(ess)` if samples far from
        the mean have large weights.
        """
        return np.sqrt(self.weights**2 @ (self.samples - self.mean()) ** 2)

    def covariance(self) -> np.ndarray:
        """Covariance of the parameters, `(n_params, n_params)`, unbiased for equal weights.

        Raises:
            ValueError: If one sample has all the weight.
        """
        return weighted_covariance(self.samples, self.weights)

    def std(self) -> np.ndarray:
        """Standard deviation of each parameter, `(n_params,)`."""
        return np.sqrt(np.diag(self.covariance()))

    def quantile(self, q: ArrayLike) -> np.ndarray:
        """Quantiles of each parameter, interpolated linearly between samples.

        Args:
            q: Shares of the probability, between 0 and 1: one number, or several, `(n_shares,)`.

        Returns:
            Quantiles, `(n_params,)` for one number, `(n_shares, n_params)` for several.

        Raises:
            ValueError: If a share is not between 0 and 1.
        """
        shares = checks.array("q", q, dtype=float)
        if ((shares < 0) | (shares > 1)).any():
            raise ValueError(f"`q` must lie between 0 and 1, got {shares.tolist()}.")
        columns, heavy = [], self.weights > 0  # a sample of no weight is no place to stand on
        for column in self.samples[heavy].T:
            order = np.argsort(column)
            weights = self.weights[heavy][order]
            # Each sample stands in the middle of its own weight.
            columns.append(np.interp(shares, np.cumsum(weights) - weights / 2, column[order]))
        return np.stack(columns, axis=-1)

    def credible_interval(self, level: float = 0.68) -> np.ndarray:
        """Equal-tailed interval of each parameter that holds `level`, `(2, n_params)`."""
        level = checks.real("level", level, above=0, below=1)
        return self.quantile([(1 - level) / 2, (1 + level) / 2])

    def summary(self, level: float = 0.68) -> dict[str, dict[str, float]]:
        """Mean, standard deviation and credible interval of each parameter, by its name."""
        rows = zip(self.mean(), self.std(), *self.credible_interval(level), strict=True)
        keys = ("mean", "std", "low", "high")
        return {
            name: dict(zip(keys, map(float, row), strict=True))
            for name, row in zip(self.parameter_names, rows, strict=True)
        }

    def sample(self, n: int, seed: Seed = None) -> np.ndarray:
        """Draws unweighted samples, by weight and with replacement.

        Args:
            n: The number of draws.
            seed: An integer or a `numpy.random.SeedSequence`. `None` for fresh entropy.

        Returns:
            Samples, `(n, n_params)`.
        """
        rng = np.random.default_rng(seed_sequence(seed))
        chosen = rng.choice(len(self), size=checks.integer("n", n, minimum=0), p=self.weights)
        return self.samples[chosen]

    def ranges(self) -> list[tuple[float, float]]:
        """A range for histograms: the bounds, or the ends of the samples where those are infinite.

        Returns:
            `(low, high)` for each parameter.
        """
        return bounded_ranges(self.low, self.high, [self.samples])

    def histogram(
        self, bins: Bins = 25, ranges: Ranges | None = None
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Weighted histogram of all parameters together.

        Args:
            bins: The number of bins for each parameter: one number, or one for each.
            ranges: The range of the bins, `(low, high)` for each parameter. `None` for `ranges()`.

        Returns:
            The density, `(bins_1, ..., bins_p)`, which integrates to one, and the centres of the
            bins, an array `(bins_i,)` for each parameter.

        Raises:
            ValueError: If there are more than 10^8 bins, or no sample is in range.
        """
        edges = bin_edges(bins, self.ranges() if ranges is None else ranges)
        cells = int(np.prod([len(edge) - 1 for edge in edges]))
        if cells > 10**8:
            raise ValueError(f"`bins` must make at most 10^8 cells, got {cells}.")
        counts, _ = np.histogramdd(self.samples, bins=edges, weights=self.weights)
        widths = [np.diff(edge) for edge in edges]
        density = counts
        for axis, width in enumerate(widths):
            density = density / along(width, axis, len(edges))
        return density / total_weight(counts), [centres(edge) for edge in edges]

    def marginals(self, bins: Bins | None = None, ranges: Ranges | None = None) -> Marginals:
        """Densities of single parameters and of pairs, for any number of parameters.

        They are sums of kernels, as wide as the effective sample size asks for, and their contours
        hold the share of the true probability that they claim; see
        `imnn_tf.lfi.posterior.kernel_density`. Bounds of the prior are hard edges.

        Args:
            bins: `None` for kernels. For histograms instead, the number of bins for each parameter:
                one number, or one for each. The contours of a histogram with few samples in a bin
                hold much less than they claim.
            ranges: The range of the densities, `(low, high)` for each parameter. `None` for the
                ranges that hold the samples.

        Returns:
            The densities, `(bins_i,)` of single parameters and `(bins_i, bins_j)` of pairs.

        Raises:
            ValueError: If no sample is in range.
        """
        check_ranges(ranges, self.samples.shape[1])
        if bins is None:
            return kernel_marginals(self.samples, self.weights, self.low, self.high, ranges)
        if ranges is None:
            ranges = mass_ranges(self.low, self.high, self.samples, self.weights)
        return histogram_marginals(self.samples, self.weights, bin_edges(bins, ranges))

    @described()
    def plot(
        self,
        bins: Bins | None = None,
        ranges: Ranges | None = None,
        *,
        smoothing: float | None = None,
        label: Label = None,
        ax: AxesLike = None,
        figsize: FigureSize = None,
        color: Color | Sequence[Color] | None = None,
        levels: float | Sequence[float] = LEVELS,
        known: ArrayLike | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Draws the marginals as a triangle.

        Returns:
            The axes, `(n_params, n_params)`.
        """
        return triangle(
            [self.marginals(bins, ranges)],
            labels=self.labels,
            smoothing=smoothing,
            label=label,
            ax=ax,
            figsize=figsize,
            color=color,
            levels=levels,
            known=known,
            **kwargs,
        )

    def to_getdist(self) -> Any:
        """The samples as `getdist.MCSamples`, with weights, bounds and labels.

        Raises:
            ImportError: If GetDist is not installed.
        """
        try:
            from getdist import MCSamples
        except ImportError:
            raise ImportError("to_getdist needs GetDist: pip install imnn-tf[getdist].") from None
        bounds = zip(self.low, self.high, strict=True)
        return MCSamples(
            samples=self.samples,
            weights=self.weights * len(self),
            names=self.parameter_names,
            labels=[label.strip("$") for label in self.labels],
            ranges={
                name: [end if np.isfinite(end) else None for end in ends]
                for name, ends in zip(self.parameter_names, bounds, strict=True)
            },
            sampler="uncorrelated",
            ignore_rows=0,
        )

    def to_arviz(self, n: int | None = None, seed: Seed = 0) -> Any:
        """Samples for ArviZ, which knows no weights: draws by weight, in one chain.

        Args:
            n: The number of draws. `None` for the effective sample size, rounded.
            seed: Seed of the draws: an integer or a `numpy.random.SeedSequence`. `None` for fresh
                entropy.

        Returns:
            `InferenceData` from ArviZ before 1.0, a `DataTree` from later ones, with draws
            `(1, n)` of each parameter.

        Raises:
            ImportError: If ArviZ is not installed.
        """
        try:
            import arviz
        except ImportError:
            raise ImportError("to_arviz needs ArviZ: pip install imnn-tf[arviz].") from None
        draws = self.sample(max(1, round(self.ess)) if n is None else n, seed)
        chain = {name: draws[np.newaxis, :, i] for i, name in enumerate(self.parameter_names)}
        if int(arviz.__version__.split(".")[0]) < 1:
            return arviz.from_dict(posterior=chain)
        return arviz.from_dict({"posterior": chain})

    def save(self, filename: str | os.PathLike[str]) -> None:
        """Writes everything to a file in NumPy's npz format, without pickling.

        Args:
            filename: Name of the file; nothing is added to it.
        """
        text = {"parameter_names": self.parameter_names, "labels": self.labels}
        buffer = BytesIO()
        np.savez(
            buffer,
            samples=self.samples,
            weights=self.weights,
            low=self.low,
            high=self.high,
            text=np.frombuffer(json.dumps(text).encode(), dtype=np.uint8),
        )
        write_atomically(Path(filename), lambda aside: aside.write_bytes(buffer.getvalue()))

    @classmethod
    def load(cls, filename: str | os.PathLike[str]) -> Posterior:
        """Reads a file that `save` wrote."""
        with np.load(filename, allow_pickle=False) as file:
            text = json.loads(file["text"].tobytes())
            arrays = {name: file[name] for name in ("samples", "weights", "low", "high")}
        return cls(**arrays, **text)


def weighted_covariance(samples: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Covariance of weighted samples, unbiased for equal weights.

    Args:
        samples: Samples, `(n, p)`.
        weights: Their weights, `(n,)`, which sum to one.

    Returns:
        The covariance, `(p, p)`.

    Raises:
        ValueError: If one sample has all the weight.
    """
    spread = 1 - (weights**2).sum()
    if spread < 1e-12:
        raise ValueError("`weights` must spread over several samples, got all in one.")
    centred = samples - weights @ samples
    return (centred * weights[:, np.newaxis]).T @ centred / spread
