"""Whether the shapes of noise and masks fit the data, so that nothing broadcasts by accident."""

import tensorflow as tf


def check_alignment(
    name: str, value: tf.Tensor, data: tf.Tensor, given: bool, *, leading: bool = True
) -> None:
    """Checks that a noise level or a mask lines up with the data, as far as shapes are known.

    Any axis may have length one, and a single number fits everything.

    Args:
        name: The name of the argument.
        value: A constant `[*data]`; or, if it comes with each example, `[batch, *data]`.
        data: `[batch, *data]`.
        given: Whether it comes with each example.
        leading: Whether the last axes of a value that comes with each example may be missing.
            Defaults to True.

    Raises:
        ValueError: If it does not line up.
    """
    if value.shape.num_elements() == 1 and len(value.shape) <= len(data.shape):
        return
    axes = list(data.shape)
    if given:
        want = axes[: len(value.shape)] if leading else axes
        words = f"have {'leading' if leading else 'all'} axes of the data, {tuple(axes)}"
    else:
        # A constant may also have an axis of length one in the place of the batch.
        want = [1, *axes[1:]] if len(value.shape) == len(axes) else axes[1:]
        words = f"be a number or have shape {tuple(axes[1:])}"
    fits = len(want) == len(value.shape) and all(
        got in (1, None, size) or size is None for got, size in zip(value.shape, want, strict=True)
    )
    if not fits:
        raise ValueError(f"`{name}` must {words}, got {tuple(value.shape)}.")


def check_covariance(covariance: tf.Tensor, data: tf.Tensor, given: bool) -> None:
    """Checks that a covariance has a row for each datum, as far as shapes are known.

    Args:
        covariance: `[n, n]`, or `[batch, n, n]` if it comes with each example.
        data: `[batch, *data]`.
        given: Whether it comes with each example.

    Raises:
        ValueError: If it has another shape.
    """
    count = data.shape[1:].num_elements()
    ranks = (2, 3) if given else (2,)
    square = tf.TensorShape([count, count])
    if len(covariance.shape) not in ranks or not square.is_compatible_with(covariance.shape[-2:]):
        words = ", ".join((["batch"] if given else []) + 2 * [str(count or "any")])
        raise ValueError(
            f"`covariance` must have shape ({words}) for data of shape {tuple(data.shape)}, "
            f"got {tuple(covariance.shape)}."
        )
