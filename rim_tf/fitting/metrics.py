"""What training logs besides the loss: error, chi-squared, and the metrics of a user."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from imnn_tf.utils.types import Numbers
from rim_tf.fitting.losses import is_of_keras, weighted_mean
from rim_tf.problem.likelihoods import Likelihood
from rim_tf.problem.parameters import Parameters, Values


class TrajectoryMetrics:
    """The error of the last iterate, or of every iterate, and chi-squared with a likelihood.

    `error` is the mean squared error of the parameters, and `chi2` the mean over the examples of
    their chi-squared. Those of every iterate are called `error_1`, `chi2_1` and so on.

    The means are kept on this object, not on the model: Keras tracks every metric that a model
    holds and never lets go of it, so those of an earlier `compile` would still be logged.

    Args:
        parameters: Links the iterates.
        likelihood: The likelihood whose chi-squared is measured, or `None`.
    """

    def __init__(self, parameters: Parameters, likelihood: Likelihood | None):
        self._parameters = parameters
        self._likelihood = likelihood
        self._names = ["error"] if likelihood is None else ["error", "chi2"]
        self._of_last = {name: keras.metrics.Mean(name=name) for name in self._names}
        self._of_steps: list[dict[str, keras.metrics.Mean]] = []

    @property
    def has_steps(self) -> bool:
        """Whether every iterate is measured, and not the last alone."""
        return bool(self._of_steps)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The Keras metrics: those of the last iterate, then those of each."""
        return [mean for means in (self._of_last, *self._of_steps) for mean in means.values()]

    def measure_steps(self, steps: int) -> None:
        """Measures each of the first `steps` iterates from now on, or the last alone with zero."""
        self._of_steps = [
            {name: keras.metrics.Mean(name=f"{name}_{step + 1}") for name in self._names}
            for step in range(steps)
        ]

    def update(
        self,
        trajectory: tf.Tensor,
        inputs: Sequence[Values],
        truth: Values,
        sample_weight: Numbers = None,
    ) -> None:
        """Adds a batch.

        Args:
            trajectory: The iterates, unlinked, `[batch, T, *sizes, channels]`.
            inputs: The observation and the other arguments of the score, `[batch, ...]` each.
            truth: The true parameters, `[batch, *sizes, channels]` or a dictionary by field.
            sample_weight: The weights of the errors, `[batch]`, `[batch, *sizes]` or
                `[batch, *sizes, channels]`. Defaults to `None`, equal weights.
        """
        examples, steps = tf.shape(trajectory)[0], trajectory.shape[1]
        assert steps is not None  # the loop is unrolled
        for step in range(steps) if self._of_steps else [steps - 1]:
            estimate = self._parameters.link(trajectory[:, step])
            errors = [
                tf.square(ours - tf.cast(true, ours.dtype))
                for ours, true in zip(
                    tf.nest.flatten(estimate), tf.nest.flatten(truth), strict=True
                )
            ]
            measured = {"error": weighted_mean(tf.concat(errors, -1), sample_weight)}
            if self._likelihood is not None:
                measured["chi2"] = weighted_mean(self._likelihood.chi2(estimate, *inputs))
            targets = [self._of_steps[step]] if self._of_steps else []
            if step == steps - 1:
                targets.append(self._of_last)
            for means in targets:
                for name, value in measured.items():
                    # Weighted, because the last batch of an epoch may be smaller.
                    means[name].update_state(value, sample_weight=examples)


@keras.saving.register_keras_serializable("rim_tf")
class OfLastStep(keras.metrics.Metric):
    """A metric of Keras's own, which compares arrays of one shape, of the last step.

    Args:
        metric: The metric.
        name: Its name. Defaults to `None`, that of the metric.
        **kwargs: Arguments of `keras.metrics.Metric`, such as `dtype`.
    """

    def __init__(
        self, metric: keras.metrics.Metric, name: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name=name or metric.name, **kwargs)
        self.metric = metric

    def update_state(
        self, y_true: tf.Tensor, y_pred: tf.Tensor, sample_weight: Numbers = None
    ) -> None:
        """Adds a batch.

        Args:
            y_true: The targets, `[batch, *sizes, channels]`.
            y_pred: The trajectory, `[batch, T, *sizes, channels]`.
            sample_weight: Weights as the metric takes them. Defaults to `None`, ones.
        """
        self.metric.update_state(y_true, y_pred[:, -1], sample_weight)

    def result(self) -> Any:
        """The value of the metric."""
        return self.metric.result()

    def reset_state(self) -> None:
        """Forgets all batches."""
        self.metric.reset_state()

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        metric = keras.saving.serialize_keras_object(self.metric)
        return {**super().get_config(), "metric": metric}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "OfLastStep":
        """Makes the metric from its configuration."""
        arguments = dict(config)
        return cls(keras.saving.deserialize_keras_object(arguments.pop("metric")), **arguments)


def as_trajectory_metrics(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `compile` with the metrics of Keras's own replaced by those of the last step.

    Args:
        arguments: Arguments of Keras's `compile` by name, of which `metrics` and
            `weighted_metrics` are looked at.
    """

    def convert(each: Any) -> Any:
        found = keras.metrics.get(each)
        # Keras's wrapper of a function hands on what it gets.
        if not is_of_keras(getattr(found, "_fn", found)):
            return each
        if not isinstance(found, keras.metrics.Metric):
            found = keras.metrics.MeanMetricWrapper(found, name=found.__name__)
        return OfLastStep(found, name=each if isinstance(each, str) else None)

    names = [name for name in ("metrics", "weighted_metrics") if arguments.get(name) is not None]
    return {
        **arguments,
        **{name: keras.tree.map_structure(convert, arguments[name]) for name in names},
    }
