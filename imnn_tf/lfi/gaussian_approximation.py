"""The posterior as a Gaussian at the estimate, as wide as the Fisher information says."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.lfi import plotting
from imnn_tf.lfi.base import LikelihoodFreeInference
from imnn_tf.lfi.density import Marginals, axes_of_grid
from imnn_tf.lfi.gridded import POINTS, Gridded, product
from imnn_tf.lfi.normal import Normal
from imnn_tf.lfi.posterior import Posterior, sample_ranges
from imnn_tf.utils import checks
from imnn_tf.utils.seeds import Seed, child, seed_sequence

GridSize = int | Sequence[int]

# Points along each axis of a grid that is drawn, by the number of parameters.
_PLOT_POINTS = {1: 512, 2: 192, 3: 80}
# Samples that marginals are made of where a grid would be too large.
_PLOT_SAMPLES = 1_000_000


class GaussianApproximation(LikelihoodFreeInference):
    """Gaussian approximation of likelihood and posterior.

    The likelihood is `N(parameters | estimate, F^-1)`, which the Cramér-Rao bound suggests
    for an efficient estimator (Charnock et al. 2018, arXiv:1802.03537, section II); the
    posterior is its product with the prior.

    A subclass with another likelihood sets or overrides `log_gaussian(grid, shape)`, which
    takes points, `(n, n_params)`, and returns log likelihoods, `(targets,) + shape`; it may
    pass `Fisher=None` and do so before calling this constructor.

    Every method takes the points to evaluate at as `grid`: one point, `(n_params,)`; a list
    of points, `(n_params, n)`; or a full grid as `np.meshgrid(..., indexing="ij")` makes it,
    `(n_params, n_1, ..., n_p)`. With one parameter `(n,)` is a list of points. Without `grid`
    a full grid of `gridsize` points along each axis (an integer, or one for each parameter)
    spans the prior, from end to end; see `ranges`. Results are `(targets,)` followed by the
    shape of the points.

    Args:
        target_data: The data to infer from, all targets at once: `(targets,) + input shape`.
        prior: The prior, of `event_shape` `(n_params,)`; see `imnn_tf.lfi.prior.Prior`.
        Fisher: Fisher information, `(n_params, n_params)`, or one for each target,
            `(targets, n_params, n_params)`; `None` in such a subclass.
        get_estimate: Takes data and returns estimates, `(n, n_params)`.
        labels: One label for each parameter, for plots.
        parameter_names: One plain name for each parameter.

    Attributes:
        log_like: Log likelihoods of the last call, `(targets,) + shape`, or `None`.
        log_prior: Log prior density of the last call, `(1,) + shape`.
        log_post: Their sum, `(targets,) + shape`.
        grid: The points of the last call, `(n_params,) + shape`.
        shape: Their shape.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If the shapes do not fit each other or `Fisher` is no Fisher information.
    """

    def __init__(
        self,
        target_data: Any,
        prior: Any,
        Fisher: Any,
        get_estimate: Any,
        labels: Sequence[str] | None = None,
        *,
        parameter_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(
            target_data, prior, Fisher, get_estimate, labels, parameter_names=parameter_names
        )
        self.log_like: np.ndarray | None = None
        self.log_prior: np.ndarray | None = None
        self.log_post: np.ndarray | None = None
        self.grid: np.ndarray | None = None
        self.shape: tuple[int, ...] | None = None

    def __call__(
        self, grid: ArrayLike | None = None, gridsize: GridSize = 20, prior: bool = True
    ) -> None:
        """Evaluates the likelihood, and with `prior` the posterior, into the attributes."""
        points, shape = self._points(grid, gridsize)
        self.log_like = self._log_like(points, shape)
        self.log_prior = self.log_post = None
        if prior:
            self.log_prior = self.prior.log_prob(points).reshape((1, *shape))
            self.log_post = product(self.log_like, self.log_prior)
        self.grid, self.shape = points.T.reshape((-1, *shape)), shape

    def log_gaussian(self, grid: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Log of the Gaussian likelihood, normalised over the parameters.

        Args:
            grid: Points, `(n, n_params)`.
            shape: What to make of the `n`.

        Returns:
            Log likelihoods, `(targets,) + shape`.

        Raises:
            ValueError: If there is no Fisher information or no estimate.
        """
        if self.F is None or self.estimate is None:
            raise ValueError(
                "`Fisher` and `get_estimate` must be passed for the Gaussian likelihood, "
                "got None; a subclass may set `log_gaussian` instead."
            )
        each = [self._about(target).log_prob(grid) for target in range(self.targets)]
        return np.stack(each).reshape((-1, *shape))

    def log_prob(self, grid: ArrayLike | None = None, gridsize: GridSize = 20) -> np.ndarray:
        """Log likelihood; see the class for the arguments."""
        self(grid, gridsize, prior=False)
        assert self.log_like is not None
        return self.log_like

    def prob(self, grid: ArrayLike | None = None, gridsize: GridSize = 20) -> np.ndarray:
        """Likelihood; see the class for the arguments."""
        return np.exp(self.log_prob(grid, gridsize))

    def log_posterior(self, grid: ArrayLike | None = None, gridsize: GridSize = 20) -> np.ndarray:
        """Log likelihood plus log prior density: the posterior up to its evidence.

        See the class for the arguments. Subtract `log_evidence()` to normalise it.
        """
        self(grid, gridsize)
        assert self.log_post is not None
        return self.log_post

    def posterior(self, grid: ArrayLike | None = None, gridsize: GridSize = 20) -> np.ndarray:
        """Posterior density: it integrates to one over the prior's support.

        See the class for the arguments. The normalisation does not depend on them.

        Raises:
            ValueError: As `log_evidence`.
        """
        log_post = self.log_posterior(grid, gridsize)
        evidence = self.log_evidence().reshape((-1,) + (1,) * (log_post.ndim - 1))
        return np.exp(log_post - evidence)

    def log_evidence(self) -> np.ndarray:
        """Log of the integral of likelihood times prior, `(targets,)`.

        By the trapezium rule on a grid that closes in on where the product is not negligible,
        for up to three parameters. For more, the mean of the prior density under the Gaussian
        likelihood, over 65,536 points of a Sobol sequence with a fixed seed.

        Raises:
            ValueError: If the product vanishes everywhere on the grid, or a subclass with its
                own likelihood has more than three parameters.
        """
        evidence = []
        for target in range(self.targets):
            if self.n_params in POINTS:
                evidence.append(self._gridded(target).log_evidence())
            else:
                self._need_gaussian()
                evidence.append(self._about(target).log_evidence(self.prior))
        return np.array(evidence)

    def result(self, target: int = 0, *, n: int = 10_000, seed: Seed = 0) -> Posterior:
        """The posterior of one target, as weighted samples.

        They are draws from the Gaussian, weighed by the prior; or, of a subclass's own
        likelihood, from the cells of a grid.

        Args:
            target: Which one.
            n: How many.
            seed: An integer or a `SeedSequence`; `None` for fresh ones.

        Raises:
            IndexError: If there is no such target.
            ValueError: If the prior supports none, or a subclass with its own likelihood has
                more than three parameters.
        """
        target = self._target(target)
        n = checks.integer("n", n, minimum=1)
        rng = np.random.default_rng(seed_sequence(seed))
        if self._is_gaussian:
            samples = self._about(target).draws(rng.normal(size=(n, self.n_params)))
            weights = self.prior.prob(samples)
        else:
            if self.n_params not in POINTS:
                self._need_gaussian()
            samples, weights = self._gridded(target).draws(n, rng), None
        return Posterior(
            samples,
            weights,
            parameter_names=self.parameter_names,
            labels=self.axis_labels,
            low=self.prior.low,
            high=self.prior.high,
        )

    def results(self, *, n: int = 10_000, seed: Seed = 0) -> list[Posterior]:
        """The posteriors of all targets."""
        sequence = seed_sequence(seed)
        return [self.result(i, n=n, seed=child(sequence, i)) for i in range(self.targets)]

    def ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """The box that grids span when none is passed: two arrays, `(n_params,)`.

        It is the prior's box. An infinite end gives way to five standard deviations about the
        estimates, or the prior's own 0.1 % or 99.9 % quantile where that is closer in.
        """
        low, high = self.prior.finite_range()
        if self.F is None or self.estimate is None:
            return low, high
        boxes = [self._about(target).box(5) for target in range(self.targets)]
        near_low = np.min([box[0] for box in boxes], axis=0)
        near_high = np.max([box[1] for box in boxes], axis=0)
        # An estimate far outside the prior's draws must still be seen.
        apart = (near_low > high) | (near_high < low)
        tight_low = np.where(apart, np.minimum(low, near_low), np.maximum(low, near_low))
        tight_high = np.where(apart, np.maximum(high, near_high), np.minimum(high, near_high))
        return (
            np.where(np.isfinite(self.prior.low), low, tight_low),
            np.where(np.isfinite(self.prior.high), high, tight_high),
        )

    def marginals(
        self,
        grid: ArrayLike | None = None,
        gridsize: GridSize | None = None,
        *,
        target: int | Sequence[int] | None = None,
    ) -> list[Marginals]:
        """Marginal densities of single parameters and of pairs, one `Marginals` for each target.

        Args:
            grid: A full grid to evaluate the posterior on, `(n_params, n_1, ..., n_p)`.
            gridsize: Points along each axis of a grid that spans the prior. With neither, a
                grid closes in on each posterior; with more than three parameters they are
                histograms of 1,000,000 samples.
            target: Which target, or which ones; `None` for all.

        Raises:
            IndexError: If there is no such target.
            ValueError: If `grid` is not a full grid.
        """
        chosen = self._targets(target)
        if grid is None and gridsize is None:
            return [self._close_marginals(each) for each in chosen]
        log_post = self.log_posterior(grid, 20 if gridsize is None else gridsize)
        if self.grid is None or log_post.ndim != self.n_params + 1:
            raise ValueError(
                f"`grid` must be a full grid, of shape ({self.n_params}, "
                f"n_1, ..., n_{self.n_params}), got {log_post.shape[1:]} points."
            )
        axes = axes_of_grid(self.grid)
        top = log_post.max(axis=tuple(range(1, log_post.ndim)), keepdims=True)
        density = np.exp(log_post - np.where(np.isfinite(top), top, 0.0))
        return [Marginals.of_grid(density[each], axes) for each in chosen]

    def plot(
        self,
        grid: ArrayLike | None = None,
        gridsize: GridSize | None = None,
        *,
        target: int | Sequence[int] | None = None,
        label: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Draws the posterior's marginals as a triangle.

        Args:
            grid: As in `marginals`.
            gridsize: As there. With neither, the figure shows where the posteriors are.
            target: Which target to draw, or which ones; `None` for all.
            label: A name in the legend, or one for each target drawn.
            **kwargs: See `imnn_tf.lfi.plotting.triangle`: `ax`, `figsize`, `color`, `known`,
                `levels`, `smoothing` and Matplotlib's own.

        Returns:
            The axes, `(n_params, n_params)`.

        Raises:
            IndexError: If there is no such target.
            ValueError: If `grid` is not a full grid.
        """
        chosen = self._targets(target)
        return plotting.triangle(
            self.marginals(grid, gridsize, target=chosen),
            labels=self.axis_labels,
            label=self._target_labels(chosen, label),
            **kwargs,
        )

    def _close_marginals(self, target: int) -> Marginals:
        """On a grid where the posterior is, or with many parameters from samples."""
        if self.n_params not in POINTS:
            seed = child(seed_sequence(0), target)
            result = self.result(target, n=_PLOT_SAMPLES, seed=seed)
            return result.marginals(40, sample_ranges(result))
        posterior = self._gridded(target)
        size = _PLOT_POINTS[self.n_params]
        axes = [np.linspace(axis[0], axis[-1], size) for axis in posterior.axes(depth=10)]
        joint = posterior.log_joint(axes)
        return Marginals.of_grid(np.exp(joint - joint.max()), axes)

    def _points(
        self, grid: ArrayLike | None, gridsize: GridSize
    ) -> tuple[np.ndarray, tuple[int, ...]]:
        """Points to evaluate at, `(n, n_params)`, and the shape that they came in."""
        if grid is None:
            sizes = _sizes(gridsize, self.n_params)
            low, high = self.ranges()
            axes = [np.linspace(*ends) for ends in zip(low, high, sizes, strict=True)]
            values = np.stack(np.meshgrid(*axes, indexing="ij"))
        else:
            values = checks.array("grid", grid, dtype=float)
            if self.n_params == 1 and values.ndim == 1 and len(values) != 1:
                values = values[np.newaxis]
        if values.ndim == 0 or values.shape[0] != self.n_params:
            raise ValueError(f"`grid` must have shape ({self.n_params}, ...), got {values.shape}.")
        return values.reshape((self.n_params, -1)).T, values.shape[1:]

    def _log_like(self, points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        values = np.asarray(self.log_gaussian(points, shape), dtype=float)
        expected = (self.targets, *shape)
        if values.shape != expected:
            raise ValueError(
                f"`log_gaussian(grid, shape)` must return shape {expected}, got {values.shape}."
            )
        return values

    @property
    def _is_gaussian(self) -> bool:
        """Whether the likelihood is the Gaussian one, and all that it needs is there."""
        own = GaussianApproximation.log_gaussian
        same = getattr(self.log_gaussian, "__func__", None) is own
        return same and self.F is not None and self.estimate is not None

    def _need_gaussian(self) -> None:
        if not self._is_gaussian:
            raise ValueError(
                f"`log_gaussian` must be the Gaussian likelihood with more than "
                f"{max(POINTS)} parameters, got another one and {self.n_params}."
            )

    def _about(self, target: int) -> Normal:
        """The Gaussian likelihood of a target."""
        assert self.F is not None
        assert self.estimate is not None
        return Normal(self.estimate[target], self._of_target(self.F, target))

    def _gridded(self, target: int) -> Gridded:
        """A target's likelihood times prior, on grids."""

        def log_like(points: np.ndarray) -> np.ndarray:
            if self._is_gaussian:
                return self._about(target).log_prob(points)
            return self._log_like(points, (len(points),))[target]

        low, high = self._box(target)
        return Gridded(log_like, self.prior, low, high, target)

    def _box(self, target: int) -> tuple[np.ndarray, np.ndarray]:
        """A finite box that holds a target's posterior."""
        low, high = self.prior.finite_range()
        # Quantiles stand for infinite ends, and some of the posterior may be beyond them.
        low = np.where(np.isfinite(self.prior.low), low, low - (high - low))
        high = np.where(np.isfinite(self.prior.high), high, high + (high - low))
        if self._is_gaussian:
            near_low, near_high = self._about(target).box(8)
            low = np.where(np.isfinite(self.prior.low), low, np.minimum(low, near_low))
            high = np.where(np.isfinite(self.prior.high), high, np.maximum(high, near_high))
            if ((near_low < high) & (near_high > low)).all():
                return np.maximum(low, near_low), np.minimum(high, near_high)
        return low, high


def _sizes(gridsize: GridSize, n_params: int) -> list[int]:
    if isinstance(gridsize, Sequence | np.ndarray):
        if len(gridsize) != n_params:
            raise ValueError(
                f"`gridsize` must have {n_params} entries, got {len(gridsize)}: {gridsize}."
            )
        return [checks.integer("gridsize", size, minimum=1) for size in gridsize]
    return [checks.integer("gridsize", gridsize, minimum=1)] * n_params
