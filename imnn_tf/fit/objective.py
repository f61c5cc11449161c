"""The loss of a model on simulations, and its gradient, whole or a batch at a time."""

from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from imnn_tf import degeneracy, information
from imnn_tf.fit.passes import (
    Summariser,
    batch_statistics,
    stateful_variables,
    sum_over_batches,
    summarise,
)
from imnn_tf.information import Information, Statistics
from imnn_tf.regularisation import Loss, Regularisation
from imnn_tf.simulations import Simulations
from imnn_tf.simulations.batch import Part


class Gradient(NamedTuple):
    """The loss of a model at its present weights, and its gradient by the weights."""

    loss: Loss
    information: Information
    gradients: list[tf.Tensor]  # one of the shape of each trainable variable


class Objective:
    """The loss that a fit minimises.

    Args:
        summariser: The model, with the external summaries beside it.
        regularisation: What holds the covariance of the network's summaries near the identity.

    Attributes:
        summariser, regularisation: As passed.
    """

    def __init__(self, summariser: Summariser, regularisation: Regularisation) -> None:
        self.summariser, self.regularisation = summariser, regularisation

    def assess(self, total: Statistics) -> tuple[Loss, Information]:
        """The loss of summaries with the given statistics, and their information.

        The Fisher information is that of all summaries. The covariances in the record are of the
        network's own, which are those that the regularisation is about.

        Args:
            total: The statistics of all summaries, in the shapes that `Statistics` lists.

        Returns:
            The loss and the information, in the shapes that `Loss` and `Information` list.
        """
        info = information.fisher_information(total)
        if self.summariser.n_external:
            network = information.fisher_information(self.summariser.network_alone(total))
            info = info._replace(
                covariance=network.covariance,
                inverse_covariance=network.inverse_covariance,
                log_det_covariance=network.log_det_covariance,
            )
        return self.regularisation.loss(info), info

    def gradient(self, simulations: Simulations, update: tf.Tensor | int = 0) -> Gradient:
        """The loss on the simulations of an update, and its gradient by the weights.

        Args:
            simulations: The simulations.
            update: The number of the update, `[]`; 0 by default.

        Returns:
            The loss, `[]`, the information, and the gradient, one tensor for each trainable
            weight, in its shape.
        """
        if simulations.n_batches > 1:
            return self.streamed_gradient(simulations, update)
        batch = simulations.batches(update).at(0)
        with tf.GradientTape() as tape:
            total = batch_statistics(self.summariser.model, batch, simulations, training=True)
            loss, info = self.assess(total)
        return Gradient(loss, info, self._by_weights(tape, loss.total))

    def streamed_gradient(self, simulations: Simulations, update: tf.Tensor | int = 0) -> Gradient:
        """The loss and its gradient a batch at a time, in two passes and the memory of one batch.

        The loss is a function of the scatter and the slope, to which every simulation adds on
        its own. The first pass adds them up. With the gradient by them held fixed, the second
        pass differentiates the share of each batch. The terms through the mean cancel in the sum.

        Args:
            simulations: The simulations.
            update: The number of the update, `[]`; 0 by default.

        Returns:
            The loss, `[]`, the information, and the gradient, one tensor for each trainable
            weight, in its shape.
        """
        model, replicas = self.summariser.model, self.summariser.replicas
        simulations = simulations.fixed(update)
        # The second pass must draw the same noise, and running averages change once.
        statistics_of = self.summariser.partial_statistics
        total = replicas.statistics(
            partial(statistics_of, simulations, training=True, update=update, restore=True)
        )
        with tf.GradientTape() as tape:
            tape.watch([total.moments.scatter, total.slope])
            loss, info = self.assess(total)
        by_scatter, by_slope = tape.gradient(loss.total, [total.moments.scatter, total.slope])

        def gradient_of(
            part: Part, mean: tf.Tensor, by_scatter: tf.Tensor, by_slope: tf.Tensor
        ) -> list[tf.Tensor]:
            batches = simulations.batches(update, part)

            def add(index: tf.Tensor, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
                batch = batches.at(index)
                with tf.GradientTape() as tape:
                    x, varied = summarise(model, batch, simulations, training=True)
                    residuals, weighted = information.centre(x, mean, batch.fiducial_weights)
                    share = tf.reduce_sum(tf.matmul(weighted, by_scatter) * residuals)
                    slope = information.slope(varied, batch.slope_weights)
                    share += tf.reduce_sum(by_slope * slope)
                more = self._by_weights(tape, share)
                return [a + b for a, b in zip(gradients, more, strict=True)]

            zero = [tf.zeros_like(v.value) for v in model.trainable_variables]
            return sum_over_batches(model, simulations, add, zero, part)

        gradients = replicas.sum(gradient_of, total.moments.mean, by_scatter, by_slope)
        replicas.average(stateful_variables(model))
        return Gradient(loss, info, gradients)

    def _by_weights(self, tape: tf.GradientTape, target: tf.Tensor) -> list[tf.Tensor]:
        gradients = tape.gradient(
            target,
            [variable.value for variable in self.summariser.model.trainable_variables],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        # The gradient of a lookup comes as the rows that were looked up.
        return [tf.convert_to_tensor(gradient) for gradient in gradients]

    def why_not_finite(
        self, training: Simulations, validation: Simulations | None, update: int
    ) -> str:
        """Says in words which part of the loss at the present weights is not finite."""
        for source, simulations in (("training", training), ("validation", validation)):
            if simulations is None:
                continue
            total = self.summariser.statistics(
                simulations, training=source == "training", update=update
            )
            loss, info = self.assess(total)
            if not np.isfinite(info.log_det_fisher):
                return f"on the {source} set {degeneracy.explain(total)}"
            if not np.isfinite(loss.total):
                return f"its regularisation on the {source} set is not finite"
        return "its gradient is not finite"
