"""Makes priors of any origin take and return float64 arrays, and finds their bounds."""

import inspect
import logging
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.utils import checks
from imnn_tf.utils.seeds import Seed, child, seed_sequence, stateless_seed

logger = logging.getLogger(__name__)


class Prior:
    """A prior distribution of `n_params` parameters.

    Wraps anything with `event_shape`, `sample` and `log_prob`, usually a TensorFlow Probability
    distribution of any float type. The methods take and return float64 arrays, and convert to
    the type of the distribution for its own methods. Attributes not found here are looked up on
    the distribution, which is never changed.

    The support is where `log_prob` is finite, and need not be a box. `low` and `high` enclose it.
    They are read from attributes of the distribution with these names, from the components of a
    `Blockwise`, `Independent` or `Sample` distribution, or from the support of a component. They
    are infinite if none of these tells.

    Args:
        distribution: The prior, of `event_shape` `(n_params,)`, or a `Prior`.

    Attributes:
        n_params: The number of parameters.
        low: Lower ends of the support, `(n_params,)`.
        high: Upper ends of the support, `(n_params,)`.

    Raises:
        TypeError: If `distribution` lacks one of the three, or has several events.
        ValueError: If its event is not a vector, the bounds do not fit it, or it has no density:
            `log_prob` fails at draws of its own, gives another shape, or is nowhere finite.
    """

    distribution: Any

    def __init__(self, distribution: Any) -> None:
        known = isinstance(distribution, Prior)
        if known:
            distribution = distribution.distribution
        for needed in ("event_shape", "sample", "log_prob"):
            if not hasattr(distribution, needed):
                got = type(distribution).__name__
                raise TypeError(f"`prior` must have `{needed}`, got {got} without it.")
        self.distribution = distribution
        self.n_params = _event_size(distribution.event_shape)
        self.dtype = _numpy_dtype(getattr(distribution, "dtype", None))
        low, high = _bounds(distribution, self.n_params)
        if not (low < high).all():
            raise ValueError(f"`prior` must have low below high, got {low} and {high}.")
        self.low, self.high = low, high
        # A half-open support excludes its upper end, but a grid has points there. They are moved
        # down by one rounding step before the distribution sees them.
        self._clip_low, top = low.astype(self.dtype), high.astype(self.dtype)
        self._clip_high = np.where(np.isfinite(top), np.nextafter(top, self._clip_low), top)
        if not known:
            self._require_density()

    def _require_density(self) -> None:
        """Evaluates the density at a few draws, so that nothing fails after simulations.

        Raises:
            ValueError: If that fails, gives another shape, or is nowhere finite.
        """
        # As many as there are parameters could not tell a sum over the wrong axis.
        draws = self.sample(self.n_params + 1, seed=0)
        try:
            values = self._density(draws.astype(self.dtype))
        except Exception as error:  # whatever a user's function raises
            raise ValueError(
                "`prior` must have a density, got a `log_prob` that raises "
                f"{type(error).__name__} at a draw of its `sample`: {error}"
            ) from error
        if values.shape != draws.shape[:1]:
            raise _wrong_shape(draws.shape, values.shape)
        if not self.supports(draws).any():
            raise ValueError(
                "`prior` must have a density that is finite at draws of its `sample`, got a "
                f"`log_prob` of {values.tolist()}."
            )

    @property
    def event_shape(self) -> tuple[int]:
        """`(n_params,)`."""
        return (self.n_params,)

    def __getattr__(self, name: str) -> Any:
        if name == "distribution":  # not set yet while the object is copied or unpickled
            raise AttributeError(name)
        return getattr(self.distribution, name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickles the prior.

        Raises:
            TypeError: If it is a distribution of TensorFlow Probability, which cannot be pickled.
        """
        if _is_tfp(self.distribution):
            raise TypeError(
                "`prior` must be picklable, got a distribution of TensorFlow Probability, "
                f"{type(self.distribution).__name__}, which is not. What `result()` returns can be "
                "pickled."
            )
        return super().__reduce_ex__(protocol)

    def __copy__(self) -> "Prior":
        """The prior itself: it never changes, and not every distribution can be copied."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Prior":
        """The prior itself: it never changes, and not every distribution can be copied."""
        return self

    def sample(self, n: int, seed: Seed = None) -> np.ndarray:
        """Draws from the prior.

        Args:
            n: The number of draws.
            seed: An integer or a `numpy.random.SeedSequence`; the same seed gives the same draws.
                `None` for fresh entropy. The seed has no effect if the `sample` of the wrapped
                distribution takes none.

        Returns:
            Parameters, `(n, n_params)`, float64.

        Raises:
            ValueError: If the wrapped distribution returns another shape.
        """
        n = checks.integer("n", n, minimum=0)
        sequence = seed_sequence(seed)
        if _is_tfp(self.distribution):
            draws = self.distribution.sample(n, seed=stateless_seed(sequence))
        elif _takes_seed(self.distribution.sample):
            draws = self.distribution.sample(n, seed=int(sequence.generate_state(1)[0]))
        else:
            draws = self.distribution.sample(n)
        return checks.array("prior.sample(n)", draws, shape=(n, self.n_params), dtype=float)

    def log_prob(self, parameters: ArrayLike) -> np.ndarray:
        """Log density, minus infinity outside the support.

        Both ends of the support count as inside, because grids have points there.

        Args:
            parameters: Points, `(..., n_params)`.

        Returns:
            Log densities, `(...)`, float64.

        Raises:
            ValueError: If the wrapped distribution returns another shape.
        """
        # Rounded before it is compared: 0.1 in float64 is less than 0.1 in float32.
        points = np.asarray(parameters).astype(self.dtype)
        outside = ((points < self.low) | (points > self.high)).any(axis=-1)
        within = np.clip(points, self._clip_low, self._clip_high)
        values = self._density(within)
        if values.shape != outside.shape:
            raise _wrong_shape(points.shape, values.shape)
        return np.where(outside | np.isnan(values), -np.inf, values)

    def _density(self, points: np.ndarray) -> np.ndarray:
        return np.asarray(self.distribution.log_prob(points), dtype=float)

    def prob(self, parameters: ArrayLike) -> np.ndarray:
        """Density, zero outside the support.

        Args:
            parameters: Points, `(..., n_params)`.

        Returns:
            Densities, `(...)`, float64.
        """
        return np.exp(self.log_prob(parameters))

    def supports(self, parameters: ArrayLike) -> np.ndarray:
        """Whether the prior is positive.

        Args:
            parameters: Points, `(..., n_params)`.

        Returns:
            Booleans, `(...)`.
        """
        return self.log_prob(parameters) > -np.inf

    @cached_property
    def normalisation(self) -> float:
        """The integral of `prob`: one, or an estimate if that is off by more than 10 %.

        With a density `g` on the support, `1 / integral` is the mean of `g / prob` over draws from
        the prior. A Gaussian that is cut off where the prior becomes small serves as `g`.
        """
        n, sequence = 20_000, child(seed_sequence(0), 1)
        draws = self.sample(n, seed=sequence)
        shares = [0.025, 0.16, 0.5, 0.84, 0.975]
        first, low, centre, high, last = np.quantile(draws, shares, axis=0)
        scale = np.where(high > low, 0.35 * (high - low), 1.0)

        def held(points: np.ndarray) -> np.ndarray:
            return ((points >= first) & (points <= last)).all(axis=1) & self.supports(points)

        rng = np.random.default_rng(sequence)
        inside = held(centre + scale * rng.normal(size=draws.shape)).mean()
        if inside < 0.01:
            return 1.0  # the draws do not lie about one centre: nothing can be said
        squares = (((draws - centre) / scale) ** 2).sum(axis=1)
        log_g = -squares / 2 - np.log(scale * np.sqrt(2 * np.pi)).sum() - np.log(inside)
        with np.errstate(over="ignore"):
            ratios = np.where(held(draws), np.exp(log_g - self.log_prob(draws)), 0.0)
        ratios = ratios[np.isfinite(ratios)]
        mean, error = ratios.mean(), ratios.std() / np.sqrt(n)
        if not mean > 0 or abs(np.log(mean)) < max(0.1, 5 * error / mean):
            return 1.0
        logger.warning(
            "`prior.log_prob` is not normalised: the density integrates to %.3g by an estimate "
            "from its draws. Results that need the constant are divided by it.",
            1 / mean,
        )
        return float(1 / mean)

    def finite_range(self, seed: Seed = 0) -> tuple[np.ndarray, np.ndarray]:
        """A finite box for plots: the bounds, with quantiles instead of infinite ones.

        Args:
            seed: Seed of the 10,000 draws whose 0.1 % and 99.9 % quantiles replace infinite
                bounds: an integer or a `numpy.random.SeedSequence`. The default gives the same box
                at every call.

        Returns:
            Lower and upper corner, `(n_params,)` each.
        """
        low, high = self.low, self.high
        if np.isfinite(low).all() and np.isfinite(high).all():
            return low.copy(), high.copy()
        draws = self.sample(10_000, seed=child(seed_sequence(seed), 0))
        lower, upper = np.quantile(draws, [0.001, 0.999], axis=0)
        return np.where(np.isfinite(low), low, lower), np.where(np.isfinite(high), high, upper)


def _wrong_shape(points: tuple[int, ...], got: tuple[int, ...]) -> ValueError:
    return ValueError(
        f"`prior.log_prob` must give one number for each point, of shape {points[:-1]} for points "
        f"of shape {points}, got {got}."
    )


def _event_size(event_shape: Any) -> int:
    try:
        sizes = tuple(int(size) for size in event_shape)
    except TypeError:
        raise TypeError(
            f"`prior` must have one event, a vector, got event_shape {event_shape}; "
            "`tfp.distributions.Blockwise` joins distributions into one."
        ) from None
    if len(sizes) != 1 or sizes[0] < 1:
        raise ValueError(f"`prior` must have event_shape (n_params,), got {sizes}.")
    return sizes[0]


def _numpy_dtype(dtype: Any) -> np.dtype:
    kind = np.dtype(getattr(dtype, "as_numpy_dtype", dtype) or float)
    return kind if kind.kind == "f" else np.dtype(float)


def _is_tfp(distribution: Any) -> bool:
    modules = (base.__module__ for base in type(distribution).__mro__)
    return any(module.startswith("tensorflow_probability") for module in modules)


def _takes_seed(sample: Any) -> bool:
    parameters = inspect.signature(sample).parameters
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return "seed" in parameters or anything


def _bounds(distribution: Any, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The box that encloses the support of a distribution of `size` numbers."""
    low, high = getattr(distribution, "low", None), getattr(distribution, "high", None)
    if low is None and high is None:
        return _component_bounds(distribution, size)
    ends = []
    for name, value, unknown in (("low", low, -np.inf), ("high", high, np.inf)):
        end = np.asarray(unknown if value is None else value, dtype=float)
        if end.ndim > 1 or end.size not in (1, size):
            raise ValueError(f"`prior.{name}` must have shape ({size},), got {end.shape}.")
        ends.append(np.broadcast_to(end, (size,)).copy())
    return ends[0], ends[1]


def _component_bounds(distribution: Any, size: int) -> tuple[np.ndarray, np.ndarray]:
    components = getattr(distribution, "distributions", None)
    if components is not None:
        sizes = [int(np.prod(part.event_shape.as_list())) for part in components]
        parts = [_bounds(part, n) for part, n in zip(components, sizes, strict=True)]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    if type(distribution).__name__ in ("Independent", "Sample"):
        return _bounds(distribution.distribution, size)
    if _is_tfp(distribution) and distribution.event_shape.rank == 0:
        return _support(distribution, size)
    return np.full(size, -np.inf), np.full(size, np.inf)


def _support(distribution: Any, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the support of a scalar distribution."""
    bijector = distribution.experimental_default_event_space_bijector()
    if bijector is None:  # a discrete distribution
        return np.full(size, -np.inf), np.full(size, np.inf)
    # The bijector maps the real line onto the support, so it maps ends to ends.
    line = np.array([-np.inf, np.inf], dtype=_numpy_dtype(distribution.dtype))
    image = [np.asarray(bijector.forward(end), dtype=float) for end in line]
    low, high = (np.broadcast_to(end, (size,)).copy() for end in image)
    return np.fmin(low, high), np.fmax(low, high)
