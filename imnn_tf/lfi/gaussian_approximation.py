"""The posterior as a Gaussian at the estimate, as wide as the Fisher information says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.lfi.methods.base import LikelihoodFreeInference
from imnn_tf.lfi.plots.layout import AxesLike, Color, FigureSize, Label
from imnn_tf.lfi.plots.triangle import LEVELS, triangle
from imnn_tf.lfi.posterior import gridded
from imnn_tf.lfi.posterior.gridded import POINTS, Evaluation, Gridded, axes_of_grid, full_grid
from imnn_tf.lfi.posterior.marginals import Marginals
from imnn_tf.lfi.posterior.normal import Normal, degrees_of
from imnn_tf.lfi.posterior.samples import Posterior
from imnn_tf.running.arguments import GRID, MARGINALS, described
from imnn_tf.utils import checks
from imnn_tf.utils.seeds import Seed, child, seed_sequence
from imnn_tf.utils.types import Numbers

GridSize: TypeAlias = int | Sequence[int]

# Points along each axis of a grid that is drawn, by the number of parameters.
_PLOT_POINTS = {1: 512, 2: 192, 3: 80}
# The number of samples that marginals are made of if there are too many parameters for a grid.
_PLOT_SAMPLES = 100_000


@described(
    Fisher="The Fisher information, `(n_params, n_params)`, or one for each target, "
    "`(targets, n_params, n_params)`; or what `IMNN.evaluate` returns, whose error widens the "
    "likelihood. `None` if a subclass has its own likelihood.",
    get_estimate="Takes data, `(n,) + input shape`, and returns estimates of the parameters, "
    "`(n, n_params)`. `None` if a subclass has its own likelihood.",
    widen="Whether the error of `Fisher` widens the likelihood. `None` to do so where `Fisher` has "
    "an error, as the result of `IMNN.evaluate` does.",
)
class GaussianApproximation(LikelihoodFreeInference):
    """Gaussian approximation of likelihood and posterior.

    The likelihood is `N(parameters | estimate, F^-1)`, which the Cramér-Rao bound suggests for
    an efficient estimator (Charnock et al. 2018, arXiv:1802.03537, section II). The posterior is
    its product with the prior.

    Where the Fisher information has an error, the likelihood is the Student distribution that a
    covariance from a finite number of simulations gives (Sellentin & Heavens 2016,
    arXiv:1511.05969), of as many as make the error of `ln det F`.

    A subclass with another likelihood overrides `log_gaussian(grid, shape)`, or sets an attribute
    of that name, even before it calls this constructor. It may pass `Fisher=None`.

    Calling the object evaluates the likelihood, and with `prior` the posterior, into attributes.

    Attributes:
        log_like: Log likelihoods of the last evaluation, `(targets,) + shape`, or `None`.
        log_prior: Log densities of the prior, `(1,) + shape`, or `None`.
        log_post: Their sum, `(targets,) + shape`, or `None`.
        grid: The points of the last evaluation, `(n_params,) + shape`, or `None`.
        shape: Their shape, or `None`.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If the shapes do not fit each other or `Fisher` is no Fisher information.
    """

    # Kept for scripts that were written for the predecessor; no method here reads them.
    log_like: np.ndarray | None = None
    log_prior: np.ndarray | None = None
    log_post: np.ndarray | None = None
    grid: np.ndarray | None = None
    shape: tuple[int, ...] | None = None

    def __init__(
        self,
        target_data: Numbers,
        prior: Any,
        Fisher: Any,
        get_estimate: Callable[..., Any] | None,
        labels: Sequence[str] | None = None,
        *,
        parameter_names: Sequence[str] | None = None,
        widen: bool | None = None,
    ) -> None:
        super().__init__(
            target_data, prior, Fisher, get_estimate, labels, parameter_names=parameter_names
        )
        error = getattr(Fisher, "log_det_fisher_std", None)
        widen = error is not None if widen is None else checks.flag("widen", widen)
        self._degrees = degrees_of(error, self.n_params) if widen else np.inf

    @described(**GRID, prior="Whether to evaluate the prior and the posterior too.")
    def __call__(
        self, grid: ArrayLike | None = None, gridsize: GridSize = 20, prior: bool = True
    ) -> None:
        """Evaluates the likelihood, and with `prior` the posterior, into the attributes."""
        if prior:
            self._evaluate_posterior(grid, gridsize)
        else:
            self._evaluate_likelihood(grid, gridsize)

    def log_gaussian(self, grid: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Log of the Gaussian likelihood, normalised over the parameters.

        Args:
            grid: Points, `(n, n_params)`.
            shape: The shape that the points stand for, of size `n`.

        Returns:
            Log likelihoods, `(targets,) + shape`.

        Raises:
            ValueError: If there is no Fisher information or no estimate.
        """
        each = [self._normal(target).log_prob(grid) for target in range(self.targets)]
        return np.stack(each).reshape((-1, *shape))

    @described(**GRID)
    def log_prob(self, grid: ArrayLike | None = None, gridsize: GridSize = 20) -> np.ndarray:
        """Log likelihood.

        Returns:
            Log likelihoods, `(targets,)` followed by the shape of the points.
        """
        return self._evaluate_likelihood(grid, gridsize).log_density

    @described(**GRID)
    def prob(self, grid: ArrayLike | None = None, gridsize: GridSize = 20) -> np.ndarray:
        """Likelihood.

        Returns:
            Likelihoods, `(targets,)` followed by the shape of the points.
        """
        return np.exp(self.log_prob(grid, gridsize))

    @described(**GRID)
    def log_posterior(self, grid: ArrayLike | None = None, gridsize: GridSize = 20) -> np.ndarray:
        """Log likelihood plus log prior density; minus `log_evidence()` it is the log posterior.

        Returns:
            Log densities, `(targets,)` followed by the shape of the points.
        """
        return self._evaluate_posterior(grid, gridsize).log_density

    @described(**GRID)
    def posterior(self, grid: ArrayLike | None = None, gridsize: GridSize = 20) -> np.ndarray:
        """Posterior density, normalised over the support of the prior whatever the points are.

        Returns:
            Densities, `(targets,)` followed by the shape of the points.

        Raises:
            ValueError: If `log_evidence` raises it.
        """
        log_post = self.log_posterior(grid, gridsize)
        evidence = self.log_evidence().reshape((-1,) + (1,) * (log_post.ndim - 1))
        return np.exp(log_post - evidence)

    def log_evidence(self) -> np.ndarray:
        """Log of the integral of likelihood times prior, `(targets,)`.

        With up to three parameters it is computed by the trapezium rule, on a grid that closes in
        on the product. With more, or if parameters are correlated or the prior is narrow, it is a
        mean of weights over 65,536 points of a Sobol sequence with a fixed seed. It contains the
        constant of a `prior.log_prob` that is not normalised.

        Raises:
            ValueError: If the product vanishes everywhere on the grid, or a subclass with its
                own likelihood has more than three parameters.
        """
        return np.array([self._log_evidence(target) for target in range(self.targets)])

    def _log_evidence(self, target: int) -> float:
        if self._is_gaussian:
            likelihood = self._normal(target)
            if self.n_params not in POINTS or not likelihood.fits_axes(self.prior):
                return likelihood.log_evidence(self.prior)
        return self._gridded(target).log_evidence()

    def result(self, target: int = 0, *, n: int = 10_000, seed: Seed = 0) -> Posterior:
        """The posterior of one target, as weighted samples.

        The samples are draws from a Gaussian about the likelihood or about the posterior, whichever
        is closer to the posterior. It is cut off at the bounds of the prior. Their weights are the
        posterior over that density. If a subclass has its own likelihood, they are drawn from the
        cells of a grid instead.

        Args:
            target: The number of the target, counted from zero.
            n: The number of samples.
            seed: An integer or a `numpy.random.SeedSequence`. `None` for fresh entropy.

        Raises:
            IndexError: If there is no such target.
            ValueError: If likelihood times prior is zero at all samples, or a subclass with its own
                likelihood has more than three parameters.
        """
        target = self._target_number(target)
        n = checks.integer("n", n, minimum=1)
        rng = np.random.default_rng(seed_sequence(seed))
        if self._is_gaussian:
            uniform = rng.uniform(1e-300, 1, size=(n, self.n_params))
            samples, weights = self._normal(target).posterior_draws(self.prior, uniform)
        else:
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
        """The posteriors of all targets, as weighted samples.

        Args:
            n: The number of samples of each.
            seed: An integer or a `numpy.random.SeedSequence`. `None` for fresh entropy.
        """
        sequence = seed_sequence(seed)
        return [self.result(i, n=n, seed=child(sequence, i)) for i in range(self.targets)]

    def ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """The box that grids span when none is passed: its corners, `(n_params,)` each.

        It is the box of the prior. An infinite end is replaced by five standard deviations about
        the estimates, or by the 0.1 % or 99.9 % quantile of the prior if that is closer in.
        """
        low, high = self.prior.finite_range()
        if self.F is None or self.estimate is None:
            return low, high
        boxes = [self._normal(target).box(5) for target in range(self.targets)]
        near_low = np.min([box[0] for box in boxes], axis=0)
        near_high = np.max([box[1] for box in boxes], axis=0)
        # An estimate far from all draws from the prior must still be in the box.
        apart = (near_low > high) | (near_high < low)
        tight_low = np.where(apart, np.minimum(low, near_low), np.maximum(low, near_low))
        tight_high = np.where(apart, np.maximum(high, near_high), np.minimum(high, near_high))
        return (
            np.where(np.isfinite(self.prior.low), low, tight_low),
            np.where(np.isfinite(self.prior.high), high, tight_high),
        )

    @described(**MARGINALS)
    def marginals(
        self,
        grid: ArrayLike | None = None,
        gridsize: GridSize | None = None,
        *,
        target: int | Sequence[int] | None = None,
    ) -> list[Marginals]:
        """Marginal densities of single parameters and of pairs.

        Returns:
            One `Marginals` for each target chosen.

        Raises:
            IndexError: If there is no such target.
            ValueError: If `grid` is not a full grid.
        """
        chosen = self._target_numbers(target)
        if grid is None and gridsize is None:
            return [self._close_marginals(each) for each in chosen]
        points, log_post = self._evaluate_posterior(grid, 20 if gridsize is None else gridsize)
        if points.ndim != self.n_params + 1:
            raise ValueError(
                f"`grid` must be a full grid, of shape ({self.n_params}, "
                f"n_1, ..., n_{self.n_params}), got {points.shape[1:]} points."
            )
        axes = axes_of_grid(points)
        top = log_post.max(axis=tuple(range(1, log_post.ndim)), keepdims=True)
        density = np.exp(log_post - np.where(np.isfinite(top), top, 0.0))
        return [Marginals.of_grid(density[each], axes) for each in chosen]

    @described(**MARGINALS)
    def plot(
        self,
        grid: ArrayLike | None = None,
        gridsize: GridSize | None = None,
        *,
        target: int | Sequence[int] | None = None,
        label: Label = None,
        smoothing: float | None = None,
        ax: AxesLike = None,
        figsize: FigureSize = None,
        color: Color | Sequence[Color] | None = None,
        levels: float | Sequence[float] = LEVELS,
        known: ArrayLike | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Draws the marginals of the posteriors as a triangle.

        Returns:
            The axes, `(n_params, n_params)`.

        Raises:
            IndexError: If there is no such target.
            ValueError: If `grid` is not a full grid.
        """
        chosen = self._target_numbers(target)
        kwargs.update(ax=ax, figsize=figsize, color=color, levels=levels, known=known)
        kwargs.update(smoothing=smoothing, label=self._target_labels(chosen, label))
        marginals = self.marginals(grid, gridsize, target=chosen)
        return triangle(marginals, labels=self.axis_labels, **kwargs)

    def _close_marginals(self, target: int) -> Marginals:
        """Marginals on a grid about the posterior, or of samples where a grid is too coarse."""
        close = not self._is_gaussian or self._normal(target).fits_axes(self.prior)
        if self.n_params not in POINTS or not close:
            seed = child(seed_sequence(0), target)
            result = self.result(target, n=_PLOT_SAMPLES, seed=seed)
            return result.marginals()
        posterior = self._gridded(target)
        size = _PLOT_POINTS[self.n_params]
        axes = [np.linspace(axis[0], axis[-1], size) for axis in posterior.axes(depth=10)]
        joint = posterior.log_joint(axes)
        return Marginals.of_grid(np.exp(joint - joint.max()), axes)

    def _evaluate_likelihood(self, grid: ArrayLike | None, gridsize: GridSize) -> Evaluation:
        """Evaluates the likelihood; sets the attributes that show the last evaluation."""
        if grid is None:
            values = full_grid(*self.ranges(), gridsize)
        else:
            values = checks.array("grid", grid, dtype=float)
            if self.n_params == 1 and values.ndim == 1 and len(values) != 1:
                values = values[np.newaxis]
        if values.ndim == 0 or values.shape[0] != self.n_params:
            raise ValueError(f"`grid` must have shape ({self.n_params}, ...), got {values.shape}.")
        log_like = self._log_like(values.reshape((self.n_params, -1)).T, values.shape[1:])
        self.grid, self.shape = values, values.shape[1:]
        self.log_like, self.log_prior, self.log_post = log_like, None, None
        return Evaluation(values, log_like)

    def _evaluate_posterior(self, grid: ArrayLike | None, gridsize: GridSize) -> Evaluation:
        """Evaluates likelihood times prior; sets the attributes of the last evaluation."""
        values, log_like = self._evaluate_likelihood(grid, gridsize)
        points = values.reshape((self.n_params, -1)).T
        self.log_prior = self.prior.log_prob(points).reshape((1, *values.shape[1:]))
        self.log_post = gridded.add_log_prior(log_like, self.log_prior)
        return Evaluation(values, self.log_post)

    def _log_like(self, points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The likelihood, which may be a subclass's own, checked: `(targets,) + shape`."""
        values = np.asarray(self.log_gaussian(points, shape), dtype=float)
        expected = (self.targets, *shape)
        if values.shape != expected:
            raise ValueError(
                f"`log_gaussian(grid, shape)` must return shape {expected}, got {values.shape}."
            )
        return values

    @property
    def _is_gaussian(self) -> bool:
        """Whether the likelihood is the Gaussian one, and has an estimate and a Fisher matrix."""
        own = GaussianApproximation.log_gaussian
        same = getattr(self.log_gaussian, "__func__", None) is own
        return same and self.F is not None and self.estimate is not None

    def _normal(self, target: int) -> Normal:
        """The Gaussian likelihood of a target."""
        if self.F is None or self.estimate is None:
            raise ValueError(
                "`Fisher` and `get_estimate` must be passed for the Gaussian likelihood, "
                "got None; a subclass may set `log_gaussian` instead."
            )
        return Normal(self.estimate[target], self._matrix_of(self.F, target), self._degrees)

    def _gridded(self, target: int) -> Gridded:
        """Likelihood times prior of a target, on grids; with few parameters only."""
        if self.n_params not in POINTS:
            raise ValueError(
                f"`log_gaussian` must be the Gaussian likelihood with more than "
                f"{max(POINTS)} parameters, got another one and {self.n_params}."
            )

        def log_like(points: np.ndarray) -> np.ndarray:
            if self._is_gaussian:
                return self._normal(target).log_prob(points)
            return self._log_like(points, (len(points),))[target]

        low, high = self._box(target)
        return Gridded(log_like, self.prior, low, high, target)

    def _box(self, target: int) -> tuple[np.ndarray, np.ndarray]:
        """Corners, `(n_params,)` each, of a finite box that holds the posterior of a target."""
        low, high = self.prior.finite_range()
        # Where quantiles stand for infinite ends, some of the posterior may lie beyond them.
        low = np.where(np.isfinite(self.prior.low), low, low - (high - low))
        high = np.where(np.isfinite(self.prior.high), high, high + (high - low))
        if self._is_gaussian:
            near_low, near_high = self._normal(target).box(8)
            low = np.where(np.isfinite(self.prior.low), low, np.minimum(low, near_low))
            high = np.where(np.isfinite(self.prior.high), high, np.maximum(high, near_high))
            if ((near_low < high) & (near_high > low)).all():
                return np.maximum(low, near_low), np.minimum(high, near_high)
        return low, high
