"""A model applied to batches of simulations, and the statistics of its summaries."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import keras
import tensorflow as tf

from imnn_tf import information
from imnn_tf.fit.precision import warn_of_rounding
from imnn_tf.fit.replicas import Replicas
from imnn_tf.information import Moments, Statistics, merge
from imnn_tf.simulations.batch import WHOLE, Batch, Part
from imnn_tf.simulations.exchanged import warn_of_exchanged
from imnn_tf.simulations.feeds.stream import reading_errors
from imnn_tf.simulations.simulations import Simulations
from imnn_tf.utils.autodiff import pushforward
from imnn_tf.utils.tensors import known_shape
from imnn_tf.utils.types import KerasModel, KerasVariable, Numbers

logger = logging.getLogger(__name__)

# More random numbers than the layers of any model draw for one batch.
_DRAWS = 2**16

Total = TypeVar("Total")


class Summariser:
    """A Keras model with the external summaries beside it, on one device or on replicas.

    Args:
        model: Keras model from `[batch, *input_shape]` to `[batch, n_network]`.
        n_network: Number of summaries that the model makes.
        n_external: Number of external summaries.
        replicas: Where batches are worked on; here by default.

    Attributes:
        model, n_network, n_external, replicas: As passed.
    """

    def __init__(
        self,
        model: KerasModel,
        n_network: int,
        n_external: int = 0,
        replicas: Replicas | None = None,
    ) -> None:
        self.model, self.n_network, self.n_external = model, n_network, n_external
        self.replicas = replicas or Replicas()

    @classmethod
    def checked(
        cls, model: KerasModel, simulations: Simulations, replicas: Replicas
    ) -> "Summariser":
        """A model as a user passed it, checked to go with the simulations.

        Raises:
            TypeError: If it is not a Keras model.
            ValueError: If it does not take the simulations or does not summarise them, has
                BatchNormalization with exact derivatives, or was made outside the scope of the
                replicas.
        """
        if not isinstance(model, keras.Model):
            kind = f"{type(model).__module__.partition('.')[0]}.{type(model).__name__}"
            got = None if model is None else kind  # tf_keras.Sequential, say, which is Keras 2
            raise TypeError(
                f"`model` must be a keras.Model of Keras 3 (or `load` be True), got {got}."
            )
        if simulations.layout.exact and normalises_by_batch(model):
            raise ValueError(
                "`model` must not have BatchNormalization with exact derivatives, which its mean "
                "over the batch would take away; use LayerNormalization, or `δθ`."
            )
        replicas.require_scope(model)
        with reading_errors(simulations):
            first = simulations.batches().at(0).data
            n_network = count_summaries(model, first)
            warn_of_rounding(model, first, simulations)
        warn_of_exchanged("derivative", first, simulations.layout)
        if model.losses:
            logger.warning(
                "`model` has losses of its own, by `kernel_regularizer` or `add_loss`, which a fit "
                "leaves out. `optimiser=keras.optimizers.AdamW(weight_decay=...)` keeps weights "
                "small."
            )
        return cls(model, n_network, simulations.n_external, replicas)

    @property
    def n_summaries(self) -> int:
        """Number of all summaries: the network's, then the external ones."""
        return self.n_network + self.n_external

    def statistics(
        self, simulations: Simulations, *, training: bool = False, update: tf.Tensor | int = 0
    ) -> Statistics:
        """Statistics of the summaries of all simulations, in the memory of a batch.

        Args:
            simulations: The simulations.
            training: Whether layers act as in training; not by default.
            update: The number of the update whose simulations to take, `[]`; 0 by default.

        Returns:
            The statistics, in the shapes that `Statistics` lists.
        """
        fixed = simulations.fixed(update)
        return self.replicas.statistics(
            partial(self.partial_statistics, fixed, training=training, update=update)
        )

    def partial_statistics(
        self,
        simulations: Simulations,
        part: Part,
        *,
        training: bool,
        update: tf.Tensor | int,
        restore: bool = False,
    ) -> Statistics:
        """Statistics of the summaries of a part of the batches.

        Args:
            simulations: The simulations.
            part: The part of the batches.
            training: Whether layers act as in training.
            update: The number of the update whose simulations to take, `[]`.
            restore: Whether to put back what layers change in training, so that another pass draws
                the same noise, and running averages change once; not by default.

        Returns:
            The statistics, in the shapes that `Statistics` lists.
        """
        batches = simulations.batches(update, part)
        stateful = stateful_variables(self.model) if restore else []
        before = [tf.identity(variable) for variable in stateful]

        def add(index: tf.Tensor, total: Statistics) -> Statistics:
            more = batch_statistics(self.model, batches.at(index), simulations, training=training)
            return Statistics(merge(total.moments, more.moments), total.slope + more.slope)

        n, dtype = self.n_summaries, simulations.dtype
        empty = Moments(tf.zeros([], dtype), tf.zeros([n], dtype), tf.zeros([n, n], dtype))
        zero = Statistics(empty, tf.zeros([simulations.n_params, n], dtype))
        total = sum_over_batches(self.model if training else None, simulations, add, zero, part)
        assign_all(stateful, before)
        return total

    def network_alone(self, total: Statistics) -> Statistics:
        """The statistics of the network's own summaries, `n_network` of them."""
        return information.block(total, slice(self.n_network))

    def external_alone(self, total: Statistics) -> Statistics:
        """The statistics of the external summaries, `n_external` of them."""
        return information.block(total, slice(self.n_network, None))


def batch_statistics(
    model: KerasModel, batch: Batch, simulations: Simulations, *, training: bool
) -> Statistics:
    """What one batch adds to the statistics of the whole.

    Args:
        model: Keras model from `[batch, *input_shape]` to `[batch, n_network]`.
        batch: The simulations, `[batch, *input_shape]`, with their weights.
        simulations: The set of simulations that the batch belongs to.
        training: Whether layers act as in training.

    Returns:
        The moments of the fiducial summaries, with a mean `[n_summaries]`, and what the batch adds
        to their slope, `[n_params, n_summaries]`.
    """
    summaries, varied = summarise(model, batch, simulations, training=training)
    return Statistics(
        information.moments(summaries, batch.fiducial_weights),
        information.slope(varied, batch.slope_weights),
    )


def summarise(
    model: KerasModel, batch: Batch, simulations: Simulations, *, training: bool
) -> tuple[tf.Tensor, tf.Tensor | list[tf.Tensor]]:
    """Summaries of one batch, and what the slope of their mean is made of.

    In training, blocks of simulations that differ in a parameter alone see the same noise of the
    random layers. The noise then cancels in the slope of the mean, where it would otherwise be
    magnified by the inverse of a small parameter difference.

    Args:
        model: Keras model from `[batch, *input_shape]` to `[batch, n_network]`.
        batch: The batch.
        simulations: The simulations that it belongs to, in whose type the summaries are, whatever
            type the model computes in.
        training: Whether layers act as in training.

    Returns:
        The network's summaries of the fiducial simulations followed by the external ones,
        `[n_fiducial, n_summaries]`; and the summaries of the derivative simulations,
        `[batch − n_fiducial, n_summaries]`, or, where derivatives are exact, a list with those of
        the summaries by each parameter, `[batch, n_summaries]` each.
    """
    dtype = simulations.dtype
    if batch.tangents is not None:
        return _by_tangents(model, batch, training=training, dtype=dtype)
    drawing = _drawing_alike(model) if training else []
    if drawing:
        before = [tf.identity(variable) for variable in drawing]
        summaries = []
        for block in tf.split(batch.data, simulations.blocks):
            assign_all(drawing, before)
            summaries.append(tf.cast(model(block, training=training), dtype))
        x = tf.concat(summaries, axis=0)
    else:
        x = tf.cast(model(batch.data, training=training), dtype)
    if batch.external is not None:
        x = tf.concat([x, batch.external], axis=1)
    sizes = [known_shape(each)[0] for each in (batch.fiducial_weights, batch.slope_weights)]
    fiducial, varied = tf.split(x, sizes)
    return fiducial, varied


def _drawing_alike(model: KerasModel) -> list[KerasVariable]:
    """The variables that are put back so that random layers draw the same for every block.

    There are none if no layer draws, or if one may normalise by the batch: that must see the whole
    batch, or it would remove the difference between the blocks. The noise is then drawn for the
    whole batch.
    """
    if model.non_trainable_weights or not seed_variables(model):
        return []
    return stateful_variables(model)


def _by_tangents(
    model: KerasModel, batch: Batch, *, training: bool, dtype: tf.DType
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Summaries, `[batch, n_summaries]`, and their derivatives by each parameter.

    Each parameter takes one Jacobian-vector product. The model runs once for all of them, and the
    Jacobian itself is never formed.
    """
    assert batch.tangents is not None
    summaries, derivatives = pushforward(
        lambda data: tf.cast(model(data, training=training), dtype),
        batch.data,
        tf.unstack(batch.tangents, axis=-1),
    )
    if derivatives is None:
        derivatives = [tf.zeros_like(summaries)] * known_shape(batch.tangents)[-1]
    if batch.external is None or batch.external_tangents is None:
        return summaries, derivatives
    external = tf.unstack(batch.external_tangents, axis=-1)
    return tf.concat([summaries, batch.external], axis=1), [
        tf.concat(pair, axis=1) for pair in zip(derivatives, external, strict=True)
    ]


def sum_over_batches(
    model: KerasModel | None,
    simulations: Simulations,
    add: Callable[[tf.Tensor, Total], Total],
    zero: Total,
    part: Part = WHOLE,
) -> Total:
    """Adds up something of each batch.

    Args:
        model: The model, if its random layers draw numbers in `add`.
        simulations: The simulations.
        add: Takes the index of a batch, `[]`, and the sum so far; returns the sum with that batch.
        zero: The sum of no batches, a nest of tensors of any shapes.
        part: The part of the batches to go through; all by default.

    Returns:
        The sum, of the structure and the shapes of `zero`.
    """
    if simulations.n_batches == 1:
        return add(tf.constant(0), zero)
    draw_for = noise_of_batches(model)

    def body(index: tf.Tensor, total: Total) -> tuple[tf.Tensor, Total]:
        draw_for(index)
        return index + part.step, add(index, total)

    _, total = tf.while_loop(
        lambda index, _: index < simulations.n_batches,
        body,
        (tf.convert_to_tensor(part.first), zero),
        parallel_iterations=1,
    )
    draw_for(tf.constant(simulations.n_batches))
    return total


def noise_of_batches(model: KerasModel | None) -> Callable[[tf.Tensor], None]:
    """A function that makes the random layers of a model draw for the batch of an index.

    What they draw then depends on the index alone, so it does not matter where and in which order
    batches are worked on.

    Args:
        model: The model; `None` for no random layers.

    Returns:
        A function of the index of a batch, `[]`.
    """
    states = [] if model is None else seed_variables(model)
    before = [tf.identity(state) for state in states]

    def draw_for(index: tf.Tensor) -> None:
        for state, value in zip(states, before, strict=True):
            # The state of a Keras generator is a seed and a count of draws.
            state.assign(value + tf.cast([0, _DRAWS * index], value.dtype))

    return draw_for


def assign_all(variables: Sequence[KerasVariable], values: Sequence[Numbers]) -> None:
    """Assigns a value to each variable.

    Args:
        variables: The variables, of any shape.
        values: One value for each variable, in the variable's shape.
    """
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def stateful_variables(model: KerasModel) -> list[KerasVariable]:
    """The variables, of any shape, that a pass over data changes.

    They are running averages and states of random layers. The metrics of Keras are not among them.
    """
    metrics = {id(variable) for variable in model.metrics_variables}
    return [v for v in model.non_trainable_variables if id(v) not in metrics]


def seed_variables(model: KerasModel) -> list[KerasVariable]:
    """The variables, `[2]` each, that the random layers of a Keras model draw numbers from."""
    known = {id(variable) for variable in (*model.weights, *model.metrics_variables)}
    states = [variable for variable in model.variables if id(variable) not in known]
    return [state for state in states if tuple(state.shape) == (2,)]


def normalises_by_batch(model: KerasModel) -> bool:
    """Whether a Keras model has a layer that normalises by the batch."""
    if isinstance(model, keras.layers.BatchNormalization):
        return True
    return any(normalises_by_batch(layer) for layer in getattr(model, "layers", ()))


def count_summaries(model: KerasModel, data: tf.Tensor) -> int:
    """Number of summaries that a model makes of simulations.

    Args:
        model: The model.
        data: Some simulations, `[batch, *input_shape]`, of which it gets two.

    Raises:
        ValueError: If the model does not take them, or does not give `[batch, n_summaries]`.
    """
    first = data[:2]
    try:
        summaries = model(first, training=False)
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(
            f"`model` must take batches of simulations of shape {tuple(first.shape[1:])}, but "
            f"failed on one: {error}"
        ) from error
    if not tf.is_tensor(summaries):
        raise ValueError(
            "`model` must have one output, a batch of summaries (batch, n_summaries), got a "
            f"{type(summaries).__name__} of {len(tf.nest.flatten(summaries))}."
        )
    if not summaries.dtype.is_floating:
        raise ValueError(
            f"`model` must have summaries of a floating type, got {summaries.dtype.name}."
        )
    shape = known_shape(summaries)
    if len(shape) != 2 or shape[0] != len(first):
        raise ValueError(
            "`model` must map a batch of simulations to (batch, n_summaries), got "
            f"{shape} from a batch of {len(first)}."
        )
    return shape[1]
