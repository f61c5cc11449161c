"""Weighted samples of a posterior: what every method of inference ends in."""

import json
import os
from collections.abc import Sequence
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.lfi.density import Marginals
from imnn_tf.utils import checks
from imnn_tf.utils.checkpoint import write_atomically
from imnn_tf.utils.seeds import Seed, seed_sequence

Bins = int | Sequence[int]
Ranges = Sequence[tuple[float, float]]


class Posterior:
    """Weighted samples of the parameters, given one target.

    Args:
        samples: Parameters, `(n, n_params)`.
        weights: Their weights, `(n,)`, not negative; `None` for equal ones.
        parameter_names: One plain name for each parameter; `None` for `p1`, `p2` and so on.
        labels: One label for each parameter, in LaTeX or not; `None` for the names.
        low: Lower bounds of the prior, `(n_params,)`, infinite where there are none.
        high: Upper bounds of the prior.

    Attributes:
        samples: Parameters, `(n, n_params)`, float64.
        weights: Weights, `(n,)`, which sum to one.
        parameter_names: Names of the parameters.
        labels: Labels of the parameters.
        low: Lower bounds.
        high: Upper bounds.

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
        self.samples = checks.array("samples", samples, shape=(None, None), dtype=float)
        n, p = self.samples.shape
        mass = np.ones(n) if weights is None else weights
        mass = checks.array("weights", mass, shape=(n,), dtype=float)
        if (mass < 0).any() or not mass.sum() > 0:
            raise ValueError(
                f"`weights` must not be negative and not all zero, got {n} of them between "
                f"{mass.min(initial=0)} and {mass.max(initial=0)}."
            )
        self.weights = mass / mass.sum()
        names = checks.strings("parameter_names", parameter_names, p)
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

    def __repr__(self) -> str:
        n, p = self.samples.shape
        return f"Posterior({n} samples of {p} parameters, {self.ess:.0f} effective)"

    @property
    def ess(self) -> float:
        """Effective sample size by the weights, `1 / sum w^2` (Kish 1965)."""
        return float(1 / (self.weights**2).sum())

    def mean(self) -> np.ndarray:
        """Mean of each parameter, `(n_params,)`."""
        return self.weights @ self.samples

    def mean_error(self) -> np.ndarray:
        """Monte Carlo standard error of each mean, `(n_params,)`.

        For weighted samples, `sqrt(sum w^2 (x - mean)^2)` (Owen 2013, "Monte Carlo theory,
        methods and examples", equation 9.9). Larger than `std() / sqrt(ess)` where the
        weights are large far from the mean.
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
        """Quantiles of each parameter, `(len(q), n_params)`, or `(n_params,)` for one `q`.

        Between samples by linear interpolation, each standing in the middle of its weight.

        Raises:
            ValueError: If a share is not between 0 and 1.
        """
        shares = checks.array("q", q, dtype=float)
        if ((shares < 0) | (shares > 1)).any():
            raise ValueError(f"`q` must lie between 0 and 1, got {shares.tolist()}.")
        columns = []
        for column in self.samples.T:
            order = np.argsort(column)
            weights = self.weights[order]
            columns.append(np.interp(shares, np.cumsum(weights) - weights / 2, column[order]))
        return np.stack(columns, axis=-1)

    def credible_interval(self, level: float = 0.68) -> np.ndarray:
        """Equal-tailed interval of each parameter that holds `level`, `(2, n_params)`."""
        level = checks.real("level", level, above=0, below=1)
        return self.quantile([(1 - level) / 2, (1 + level) / 2])

    def summary(self, level: float = 0.68) -> dict[str, dict[str, float]]:
        """Mean, standard deviation and credible interval by parameter name."""
        rows = zip(self.mean(), self.std(), *self.credible_interval(level), strict=True)
        keys = ("mean", "std", "low", "high")
        return {
            name: dict(zip(keys, map(float, row), strict=True))
            for name, row in zip(self.parameter_names, rows, strict=True)
        }

    def sample(self, n: int, seed: Seed = None) -> np.ndarray:
        """Draws with replacement by weight: `n` unweighted samples, `(n, n_params)`.

        Args:
            n: How many.
            seed: An integer or a `SeedSequence`; `None` for fresh draws.
        """
        rng = np.random.default_rng(seed_sequence(seed))
        chosen = rng.choice(len(self), size=checks.integer("n", n, minimum=0), p=self.weights)
        return self.samples[chosen]

    def ranges(self) -> list[tuple[float, float]]:
        """A range for histograms: the prior's bounds, or the samples' where infinite."""
        return bounded_ranges(self.low, self.high, [self.samples])

    def histogram(
        self, bins: Bins = 25, ranges: Ranges | None = None
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Weighted density of all parameters together.

        Args:
            bins: Bins for each parameter, one number or several.
            ranges: `(low, high)` for each parameter, by default `ranges()`.

        Returns:
            Density, `(bins_1, ..., bins_p)`, which integrates to one, and the bins' centres.

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
            density = density / width.reshape([-1 if i == axis else 1 for i in range(len(edges))])
        return density / _positive(counts.sum()), [_centres(edge) for edge in edges]

    def marginals(self, bins: Bins = 25, ranges: Ranges | None = None) -> Marginals:
        """Weighted histograms of single parameters and pairs, whatever the number of them.

        Args:
            bins: Bins for each parameter, one number or several.
            ranges: `(low, high)` for each parameter, by default `ranges()`.

        Raises:
            ValueError: If no sample is in range.
        """
        edges = bin_edges(bins, self.ranges() if ranges is None else ranges)
        widths = [np.diff(edge) for edge in edges]
        columns = self.samples.T
        single = []
        for column, edge, width in zip(columns, edges, widths, strict=True):
            counts = np.histogram(column, edge, weights=self.weights)[0]
            single.append(counts / width / _positive(counts.sum()))
        pairs = {}
        for i, j in combinations(range(len(edges)), 2):
            counts = np.histogram2d(
                columns[i], columns[j], bins=[edges[i], edges[j]], weights=self.weights
            )[0]
            pairs[i, j] = counts / np.outer(widths[i], widths[j]) / _positive(counts.sum())
        return Marginals([_centres(edge) for edge in edges], widths, single, pairs)

    def plot(
        self,
        bins: Bins = 25,
        ranges: Ranges | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Draws the marginals as a triangle; see `imnn_tf.lfi.plotting.triangle`."""
        from imnn_tf.lfi import plotting

        return plotting.triangle([self.marginals(bins, ranges)], labels=self.labels, **kwargs)

    def to_getdist(self) -> Any:
        """The samples as `getdist.MCSamples`, independent, with weights, bounds and labels.

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
        """The samples for ArviZ, which knows no weights: drawn by weight, in one chain.

        Args:
            n: How many draws, by default as many as there are effective samples.
            seed: For the drawing.

        Returns:
            `InferenceData` from ArviZ before 1.0, a `DataTree` from later ones.

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
        """Writes everything to a file, in NumPy's npz format and without pickling.

        Args:
            filename: Where to; the name is not changed.
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
    def load(cls, filename: str | os.PathLike[str]) -> "Posterior":
        """Reads what `save` wrote."""
        with np.load(filename, allow_pickle=False) as file:
            text = json.loads(file["text"].tobytes())
            arrays = {name: file[name] for name in ("samples", "weights", "low", "high")}
        return cls(**arrays, **text)


def weighted_covariance(samples: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Covariance `(p, p)` of samples `(n, p)` with weights `(n,)` that sum to one.

    Raises:
        ValueError: If one sample has all the weight.
    """
    spread = 1 - (weights**2).sum()
    if spread < 1e-12:
        raise ValueError("`weights` must spread over several samples, got all in one.")
    centred = samples - weights @ samples
    return (centred * weights[:, np.newaxis]).T @ centred / spread


def bounded_ranges(
    low: np.ndarray, high: np.ndarray, samples: Sequence[np.ndarray]
) -> list[tuple[float, float]]:
    """Bounds, with the ends of the samples where they are infinite, for each parameter."""
    least = np.min([each.min(axis=0) for each in samples if len(each)], axis=0)
    most = np.max([each.max(axis=0) for each in samples if len(each)], axis=0)
    pad = np.where(most > least, 0.02 * (most - least), 0.5)
    starts = np.where(np.isfinite(low), low, least - pad)
    stops = np.where(np.isfinite(high), high, most + pad)
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def sample_ranges(posterior: Posterior) -> list[tuple[float, float]]:
    """Where the samples of a posterior are, with a margin, within the bounds."""
    low, high = posterior.low, posterior.high
    anywhere = np.full(len(low), np.inf)
    spans = bounded_ranges(-anywhere, anywhere, [posterior.samples])
    return [
        (max(least, start - 0.05 * (stop - start)), min(most, stop + 0.05 * (stop - start)))
        for (start, stop), least, most in zip(spans, low, high, strict=True)
    ]


def bin_edges(bins: Bins, ranges: Ranges) -> list[np.ndarray]:
    """Edges of equal bins for each parameter.

    Raises:
        TypeError: If `bins` is no integer or several.
        ValueError: If there are not as many as parameters, or a range is empty.
    """
    p = len(ranges)
    numbers = list(bins) if isinstance(bins, Sequence | np.ndarray) else [bins] * p
    if len(numbers) != p:
        raise ValueError(f"`bins` must have {p} entries, got {len(numbers)}: {numbers}.")
    edges = []
    for number, (start, stop) in zip(numbers, ranges, strict=True):
        if not start < stop:
            raise ValueError(f"`ranges` must go from low to high, got ({start}, {stop}).")
        edges.append(np.linspace(start, stop, checks.integer("bins", number, minimum=1) + 1))
    return edges


def _centres(edges: np.ndarray) -> np.ndarray:
    return (edges[:-1] + edges[1:]) / 2


def _positive(total: float) -> float:
    if not total > 0:
        raise ValueError("`ranges` must contain samples, got none inside.")
    return total
