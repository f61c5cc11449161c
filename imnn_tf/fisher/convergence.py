"""How the Fisher information depends on the number of simulations.

The plain estimate from `n` simulations is `floor + c n^(−α)`: the noise of the slope adds a term in
`1/n_d` to it, and the inverse of the covariance one in `1/n_s`. Groups of simulations are taken
together to subsets of every size, so one pass over the simulations gives the whole curve. The
subsets of one size have no simulation in common, and together they hold all simulations; points of
a curve therefore share most of their error, and differ by little more than what is asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import least_squares

from imnn_tf.fisher.correction import Correction, correct
from imnn_tf.fisher.sample import Sample
from imnn_tf.utils import checks, display

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The largest number of disjoint subsets that all simulations are divided into.
_MOST_SUBSETS = 8

# How far the exponent may be from the one of its leading term, one standard deviation.
_EXPONENT, _EXPONENT_STD = 1.0, 0.1


@dataclass(frozen=True)
class Curve:
    """A quantity from different numbers of simulations, with the power law through it.

    Attributes:
        n: The numbers of simulations, `[n_sizes]`.
        values: The mean over the subsets of each size, `[n_sizes]`.
        errors: The error that each has apart from the error of all, `[n_sizes]`.
        floor, amplitude, exponent: The power law `floor + amplitude n^(−exponent)`.
    """

    n: np.ndarray
    values: np.ndarray
    errors: np.ndarray
    floor: float
    amplitude: float
    exponent: float

    def predict(self, n: float | np.ndarray) -> np.ndarray:
        """The quantity from `n` simulations, by the power law, of the shape of `n`."""
        return self.floor + self.amplitude * np.asarray(n, np.float64) ** -self.exponent


@dataclass(frozen=True)
class Curves:
    """Plain estimates from different numbers of simulations, and their corrections.

    Attributes:
        det_fisher: The curve of the plain det F.
        parameter_std: The curves of the forecast errors from the plain F, one a parameter.
        corrected: Corrected forecast errors of each size, the mean over its subsets,
            `[n_sizes, n_params]`.
        corrected_error: The error that one subset of each size has, `[n_sizes, n_params]`.
    """

    det_fisher: Curve
    parameter_std: list[Curve]
    corrected: np.ndarray
    corrected_error: np.ndarray


@dataclass(frozen=True)
class Prediction:
    """What more simulations would give.

    Attributes:
        det_fisher: det F without a correction.
        parameter_std: The forecast errors from `F` without a correction, `[n_params]`.
        parameter_std_error: The errors that corrected forecasts would have, `[n_params]`.
    """

    det_fisher: float
    parameter_std: np.ndarray
    parameter_std_error: np.ndarray


@dataclass(frozen=True, repr=False)
class Convergence(display.Shown):
    """How det F and the forecast errors depend on the number of simulations.

    Attributes:
        n_s, n_d: The numbers of fiducial and of derivative simulations that there are.
        fiducial: Estimates from fewer fiducial and from all derivative simulations.
        derivative: Estimates from all fiducial and from fewer derivative simulations.
        both: Estimates from the same share of both, against the number of fiducial ones.
        correction: The corrected information from all of them.
    """

    n_s: int
    n_d: int
    fiducial: Curves
    derivative: Curves
    both: Curves
    correction: Correction

    def _facts(self) -> dict[str, str]:
        curve, more = self.both.det_fisher, self.predict(4.0)
        return {
            "simulations": f"{self.n_s} fiducial, {self.n_d} for the slope",
            "plain det F": display.number(curve.predict(self.n_s)),
            "with four times as many": display.number(more.det_fisher),
            "forecast errors": display.numbers(
                self.correction.parameter_std, self.correction.parameter_std_error
            ),
        }

    def predict(self, factor: float = 4.0, *, vary: str = "both") -> Prediction:
        """What `factor` times the simulations would give.

        Args:
            factor: How many times the simulations; four by default.
            vary: Of which there are more: `"fiducial"`, `"derivative"` or `"both"`.

        Raises:
            TypeError: If `factor` is not a number.
            ValueError: If it is not positive, or `vary` is unknown.
        """
        factor = checks.real("factor", factor, above=0)
        checks.choice("vary", vary, ("fiducial", "derivative", "both"))
        curves: Curves = getattr(self, vary)
        n = factor * (self.n_d if vary == "derivative" else self.n_s)
        error = self.correction.parameter_std_error
        if vary != "both":
            # The part of the variance that is due to the other simulations stays.
            share = self._share_of_slope()
            share = share if vary == "derivative" else 1 - share
            error = error * np.sqrt(1 - share + share / factor)
        else:
            error = error / np.sqrt(factor)
        return Prediction(
            float(curves.det_fisher.predict(n)),
            np.array([float(curve.predict(n)) for curve in curves.parameter_std]),
            error,
        )

    def _share_of_slope(self) -> float:
        variance = self.correction.determinant.variance
        slope = float(variance.linear + variance.quadratic)
        return slope / (slope + float(variance.covariance))

    def sentences(self, factor: float = 4.0) -> str:
        """Says what `factor` times the simulations would change, a sentence a parameter."""
        found, now = self.predict(factor), self.predict(1.0)
        times = {2.0: "twice", 4.0: "four times"}.get(float(factor), f"{factor:g} times")
        said = []
        for index, (after, before) in enumerate(
            zip(found.parameter_std, now.parameter_std, strict=True)
        ):
            change = 100 * (after / before - 1)
            std, error = self.correction.parameter_std[index], now.parameter_std_error[index]
            corrected = "Corrected, it is not known, as the noise outweighs the slope."
            if np.isfinite(std):
                corrected = (
                    f"Corrected, it is {std:.4g} ± {error:.2g} and would be known to ± "
                    f"{found.parameter_std_error[index]:.2g}."
                )
            said.append(
                f"With {times} the simulations the error of θ{_subscript(index + 1)} would "
                f"{'shrink' if change < 0 else 'grow'} by {abs(change):.2g} %. {corrected}"
            )
        return "\n".join(said)

    def plot(self, *, figsize: tuple[float, float] | None = None) -> np.ndarray:
        """Plots det F and the forecast errors against the numbers of simulations.

        Args:
            figsize: Size of the figure in inches; by default 5 for each column and 3 for each row.

        Returns:
            The axes, `[1 + n_params, 2]`: against the fiducial and the derivative simulations.
        """
        import matplotlib.pyplot as plt

        rows = 1 + len(self.both.parameter_std)
        _, axes = plt.subplots(
            rows, 2, sharex="col", figsize=figsize or (10, 3 * rows), layout="constrained"
        )
        for column, curves in zip(axes.T, (self.fiducial, self.derivative), strict=True):
            _draw(column[0], curves.det_fisher, "plain")
            low, high = np.exp(self.correction.determinant.log_interval(0.68))
            if np.isfinite([low, high]).all():
                column[0].axhspan(low, high, color="C2", alpha=0.2, label="corrected, 68 %")
            for index, (axis, curve) in enumerate(
                zip(column[1:], curves.parameter_std, strict=True)
            ):
                _draw(axis, curve, "plain")
                axis.errorbar(
                    curve.n,
                    curves.corrected[:, index],
                    curves.corrected_error[:, index],
                    fmt="s",
                    color="C2",
                    capsize=3,
                    label="corrected",
                )
        for row, axis in enumerate(axes[:, 0]):
            axis.set_ylabel(rf"error of $\theta_{row}$" if row else r"$\det F$")
        axes[-1, 0].set_xlabel("fiducial simulations")
        axes[-1, 1].set_xlabel("derivative simulations")
        axes[0, 0].legend(fontsize="small")
        axes[1, 0].legend(fontsize="small")
        return axes


def convergence_of(sample: Sample) -> Convergence:
    """How the information of a sample depends on the number of simulations.

    Raises:
        ValueError: If there are too few simulations to take subsets of.
    """
    correction = correct(sample)
    n_s, n_d = int(sample.n_s.sum()), int(sample.n_d.sum())
    all_of, one = slice(None), float(correction.log_det_fisher_std)
    return Convergence(
        n_s,
        n_d,
        fiducial=_curves(sample, lambda part: (part, all_of), "n_s", one),
        derivative=_curves(sample, lambda part: (all_of, part), "n_d", one),
        both=_curves(sample, lambda part: (part, part), "n_s", one),
        correction=correction,
    )


def _curves(
    sample: Sample, groups: Callable[[slice], tuple[slice, slice]], counted: str, error: float
) -> Curves:
    """The curves over subsets of some of the groups.

    Args:
        sample: The sample.
        groups: Takes a slice of the groups that vary; returns that of the fiducial and of the
            derivative groups.
        counted: Which simulations are counted, `"n_s"` or `"n_d"`.
        error: The error of ln det F from all simulations.
    """
    sizes, plain, corrected, errors = [], [], [], []
    m, s = 1, sample.mean.shape[-1]
    while m <= _MOST_SUBSETS:
        subsets = [sample.subset(*groups(slice(first, None, m))) for first in range(m)]
        if any(
            each.n_s.sum() < s + 3 or min(map(len, (each.n_s, each.n_d))) < 2 for each in subsets
        ):
            break
        found = [correct(each) for each in subsets]
        # The bias falls with the inverse of the number, whose mean is therefore taken.
        sizes.append(1 / np.mean([1 / getattr(each, counted).sum() for each in subsets]))
        plain.append([_plain_of(each) for each in found])
        corrected.append(np.mean([each.parameter_std for each in found], axis=0))
        errors.append(np.mean([each.parameter_std_error for each in found], axis=0))
        m *= 2
    if len(sizes) < 2:
        raise ValueError(
            f"`{counted}` must be larger, for the simulations to be divided into halves from which "
            f"F follows, got {int(getattr(sample, counted).sum())}."
        )
    n = np.array(sizes)[::-1]
    columns = list(zip(*(np.array(each).T for each in plain[::-1]), strict=True))
    curves = [_fitted(n, list(column), error) for column in columns]
    return Curves(curves[0], curves[1:], np.array(corrected)[::-1], np.array(errors)[::-1])


def _plain_of(correction: Correction) -> list[float]:
    """Det F and the forecast errors without a correction."""
    stds = np.sqrt(np.diag(np.linalg.inv(correction.plain)))
    return [float(np.exp(correction.determinant.log_det_plain)), *stds.tolist()]


def _fitted(n: np.ndarray, subsets: list[np.ndarray], error: float) -> Curve:
    """Fits a power law to the means over subsets.

    What differs from size to size beside the power law is of second order in the errors of single
    subsets: to first order the subsets of every size have the mean of all simulations.
    """
    values = np.array([each.mean() for each in subsets])
    scale = abs(values[-1])
    spread = [each.std(ddof=1) / abs(each.mean()) if each.size > 1 else error for each in subsets]
    counts = np.sqrt([each.size for each in subsets])
    errors = scale * np.maximum(spread, 1e-6) ** 2 / counts

    def residuals(trial: np.ndarray) -> np.ndarray:
        floor, amplitude, exponent = trial
        model = floor + amplitude * (n / n[-1]) ** -exponent
        prior = (exponent - _EXPONENT) / _EXPONENT_STD
        return np.append((model - values / scale) * scale / errors, prior)

    slope = (values[-2] - values[-1]) / scale / (n[-1] / n[-2] - 1)
    start = np.array([values[-1] / scale - slope, slope, _EXPONENT])
    floor, amplitude, exponent = least_squares(residuals, start, x_scale=[1.0, 0.1, 0.1]).x
    return Curve(
        n,
        values,
        errors,
        float(floor * scale),
        float(amplitude * scale * n[-1] ** exponent),
        float(exponent),
    )


def _draw(axis: "Axes", curve: Curve, label: str) -> None:
    """Draws the points of a curve and its power law, up to four times the simulations."""
    axis.errorbar(curve.n, curve.values, curve.errors, fmt="o", color="C0", capsize=3, label=label)
    fine = np.geomspace(curve.n[0], 4 * curve.n[-1], 100)
    axis.plot(fine, curve.predict(fine), color="C0", label=r"$a + c\,N^{-\alpha}$")
    axis.set_xscale("log")
    axis.xaxis.set_minor_formatter("")


def _subscript(number: int) -> str:
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
