"""Descriptions of arguments that several classes and functions take, each written once."""

import inspect
import sys
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

Documented = TypeVar("Documented", bound=Callable[..., Any])


def described(**own: str) -> Callable[[Documented], Documented]:
    """Writes the `Args:` section of a docstring, for `help()` to show.

    The section has an entry for every parameter of the signature, in their order. It is placed
    before the sections `Attributes:`, `Returns:` and `Raises:`.

    Args:
        **own: Descriptions of this function's or class's own, by the name of the parameter. They
            take the place of those in `SHARED`.
    """

    def write(documented: Documented) -> Documented:
        if sys.flags.optimize > 1:  # Python has dropped the docstrings
            return documented
        entries = ["Args:"]
        for name, parameter in inspect.signature(documented).parameters.items():
            if name not in ("self", "cls"):
                stars = "**" if parameter.kind is inspect.Parameter.VAR_KEYWORD else ""
                text = f"{stars}{name}: {own.get(name) or SHARED[name]}"
                entries += textwrap.wrap(
                    text, 92, initial_indent=" " * 4, subsequent_indent=" " * 8
                )
        paragraphs = inspect.cleandoc(documented.__doc__ or "").split("\n\n")
        later = [i for i, p in enumerate(paragraphs) if p.startswith(("Attr", "Returns", "Raises"))]
        paragraphs.insert(min(later, default=len(paragraphs)), "\n".join(entries))
        documented.__doc__ = "\n\n".join(paragraphs)
        return documented

    return write


SHARED = {
    # What there is to infer from.
    "target_data": "The data to infer from, all targets at once: `(targets,) + input shape`.",
    "prior": "The prior: anything with `event_shape` `(n_params,)`, `sample` and `log_prob`, such "
    "as a TensorFlow Probability distribution. It is never changed.",
    "get_estimate": "Takes data, `(n,) + input shape`, and returns estimates of the parameters, "
    "`(n, n_params)`.",
    "Fisher": "Fisher information of the estimates, `(n_params, n_params)`, or one for each "
    "target, `(targets, n_params, n_params)`: the metric of the distances "
    "`sqrt((x - t)^T F (x - t))`. It may be `None` if there is a `distance`.",
    "labels": "One label for each parameter, for plots. `None` for `parameter_names`.",
    "parameter_names": "One plain name for each parameter, for exports. `None` for `p1`, `p2` and "
    "so on.",
    "simulator": "Takes parameters, `(n, n_params)`, and returns data, `(n,) + input shape`. If "
    "its second positional argument has no default, it also gets random seeds; see "
    "`imnn_tf.lfi.simulate`.",
    "distance": "Takes estimates, `(n, n_params)`, and the estimate of a target, `(n_params,)`; "
    "returns distances, `(n,)`. `None` for the distance in the metric `Fisher`.",
    "seed": "Seed of everything random, the simulator included: an integer or a "
    "`numpy.random.SeedSequence`. `None` for fresh entropy, which the attribute `seed` then holds.",
    # How simulations run.
    "executor": "Where simulations run. `None` for this process; an integer for that many worker "
    "processes; any `concurrent.futures.Executor`; or a function without arguments that returns "
    'one. Scripts that start processes need `if __name__ == "__main__":`.',
    "batch_size": "The number of simulations in one call of the simulator. `None` for 1, or for "
    "what the argument `at_once` of a method says.",
    "timeout": "Seconds that one call of the simulator may take; needs an `executor`. Workers that "
    "were started here are killed when they take longer. Others are no longer waited for, and stay "
    "busy. `None` for no limit.",
    "on_error": 'What happens when a call of the simulator fails. "raise" stops. "skip" halves the '
    "batch until the simulations that fail are found, and goes on without them. "
    '"retry" repeats these with other seeds, up to `retries` times, and then skips them.',
    "retries": 'How often a failed simulation is repeated if `on_error` is "retry".',
    "store": "A folder that keeps finished simulations; needs a `seed`. The same calls with the "
    "same seed read them from there and simulate only what is missing, so a script that was "
    "stopped or killed goes on where it was. Another simulator or estimator is refused: one "
    "simulation is run again to find out. `None` keeps nothing.",
    "progress": "Whether to show a progress bar that counts simulations; or a bar to use, with "
    "tqdm's methods `update` and `set_postfix`.",
    "max_pending": "The number of calls that wait in or run on the executor at a time. `None` for "
    "twice the number of workers, or for that number if there is a `timeout`.",
    "execution": "All settings of how simulations run as one value, an `imnn_tf.lfi.Execution`, "
    "instead of the separate keywords `executor`, `batch_size`, `timeout`, `on_error`, `retries`, "
    "`store` and `progress`. `None` for the separate keywords.",
    # What runs a method.
    "at_once": "Whether all parameters go to the simulator in one call, or one by one. An integer "
    "passes that many at a time, which bounds the memory needed. With an `executor`, `True` means "
    "one by one too. A `batch_size` overrides it.",
    "save_sims": "Name of a file for the simulations, in NumPy's npy format. Every call of the "
    "simulator writes one file: `name.npy`, then `name_1.npy` and so on. `None` saves nothing.",
    "tqdm_notebook": "Ignored: the bar finds out where it is shown.",
    # Results and how they are drawn.
    "bins": "`None` for smooth densities, whose contours hold what they claim. For histograms "
    "instead, the number of bins for each parameter: one number, or one for each.",
    "ranges": "The range of the densities, `(low, high)` for each parameter. `None` for ranges "
    "that hold the samples of each target.",
    "adjust": "Whether to correct for the tolerance by local-linear regression (Beaumont, Zhang & "
    "Balding 2002).",
    "target": "The number of a target, counted from zero, or several. `None` for all.",
    "smoothing": "Width, in bins or grid cells, of a Gaussian by which densities are smoothed "
    "further. It widens a posterior and its contours. `None` for no such smoothing.",
    "label": "A name in the legend, or one for each target drawn. If several are drawn under one "
    "name or none, they are numbered.",
    "ax": "Axes to draw into, `(n_params, n_params)`, such as an earlier call returned. `None` for "
    "a new figure.",
    "figsize": "Size of a new figure in inches. `None` for 2.5 for each parameter, at least 5.",
    "color": "A colour, or one for each target. `None` continues the colour cycle.",
    "levels": "Shares of the probability that the contours enclose, between 0 and 1: one number, "
    "or several, `(n_levels,)`.",
    "known": "True parameters, `(n_params,)`, to mark by lines. `None` for none.",
    "kwargs": "Passed on to `imnn_tf.lfi.triangle`: `wspace`, `hspace`, and what Matplotlib's "
    "`plot` and `contour` take, such as `alpha` and `linewidth`.",
    "axes": 'What to draw: "parameter_estimate" for estimates against parameters, '
    '"parameter_parameter" or "estimate_estimate" for pairs of one kind.',
    "rejected": "The share of the rejected simulations to draw. `None` or 0 for none.",
    "wspace": "Space between the columns of a new figure, as a share of their width.",
    "hspace": "Space between the rows of a new figure, as a share of their height.",
}

# Descriptions that some of the functions with these arguments need instead.
POSTERIOR = {
    "bins": "The number of bins for each parameter: one number, or one for each.",
    "ranges": "The range of the bins, `(low, high)` for each parameter. `None` for the bounds of "
    "the prior, or the ends of the samples where those are infinite.",
}
SCATTER = {
    "kwargs": "Passed on to Matplotlib's `scatter`, except for `wspace` and `hspace`: the space "
    "between the columns and rows of a new figure, as a share of their size.",
}
GRID = {
    "grid": "The points to evaluate at: one point, `(n_params,)`; a list of points, "
    "`(n_params, n)`, or `(n,)` if there is one parameter; or a full grid, "
    '`(n_params, n_1, ..., n_p)`, as `np.meshgrid(..., indexing="ij")` makes it. `None` for a full '
    "grid that spans the box of `ranges()`, with its ends.",
    "gridsize": "Points along each axis of that grid: one number, or one for each parameter.",
}
MARGINALS = {
    "grid": "A full grid to evaluate the posterior on, `(n_params, n_1, ..., n_p)`.",
    "gridsize": "Points along each axis of a grid that spans the box of `ranges()`. With neither "
    "`grid` nor `gridsize` a grid closes in on each posterior. With more than three parameters, "
    "strong correlations or a narrow prior, they are densities of 100,000 samples instead.",
}

# Arguments of neural posterior estimation: of what is trained, of trainings, and of their results.
ESTIMATOR = {
    "get_estimate": "Takes data, `(n,) + input shape`, and returns summaries of any length, "
    "`(n, n_summaries)`, for example estimates of the parameters. `None` to take the data as they "
    "are, with all numbers of a simulation in one row.",
    "simulator": "Takes parameters, `(n, n_params)`, and returns data, `(n,) + input shape`. If "
    "its second positional argument has no default, it also gets random seeds; see "
    "`imnn_tf.lfi.simulate`. `None` if all simulations are made elsewhere; see `add`.",
    "density_estimator": "What learns the density of the parameters given summaries. `None` or "
    '"spline_flows" for an `imnn_tf.lfi.density.SplineFlows`, an ensemble of five flows; '
    '"bayesflow" for an `imnn_tf.lfi.density.BayesFlowEstimator`, one flow of the extra `neural`; '
    "an object with the methods of an `imnn_tf.lfi.density.DensityEstimator`, of which each "
    "training uses a copy; or a function without arguments that makes one.",
}
TRAINING = {
    "callbacks": "Keras callbacks for the training, to which a pass over the simulations is an "
    "epoch. `None` for none.",
    "progress": "Whether to show progress bars. `None` for what the constructor was told.",
}
SAMPLES = {
    "n_samples": "The number of samples of each posterior.",
    "seed": "Seed of the samples: an integer or a `numpy.random.SeedSequence`. `None` for one made "
    "from the seed of the object, so that the same call gives the same samples.",
}
