"""The fitted compression: from data to estimates of the parameters."""

import json
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Only this part of Keras loads a model from bytes and enforces that no code is executed.
from keras.src.saving import saving_lib
from keras.src.saving.serialization_lib import (
    ObjectSharingScope,
    SafeModeScope,
    deserialize_keras_object,
    serialize_keras_object,
)

# Registers the layers of `imnn_tf.networks` with Keras, so that their models load without more.
import imnn_tf.networks.layers  # noqa: F401
from imnn_tf import information
from imnn_tf.utils import checkpoint, checks, display
from imnn_tf.utils.types import Json, KerasModel, Numbers

MODEL_FILE = "model.keras"
STATISTICS_FILE = "estimator.npz"

# The names of the papers for arguments of `Estimator`, in the order in the file. Those of imnn-tf
# 0.2 are the same.
STATISTICS = {
    "Finv": "inverse_fisher",
    "θ_fid": "theta_fid",
    "dμ_dθ": "slope",
    "Cinv": "inverse_covariance",
    "μ": "mean",
}

# The most numbers of data that are summarised at once; more data are summarised in parts.
_NUMBERS_AT_ONCE = 2**25


class Estimator(display.Shown):
    """Quasi-maximum-likelihood estimates `θ̂ = θ_fid + F⁻¹ ∂μ C⁻¹ (f(d) − μ)` of parameters.

    Args:
        model: Keras model `f` from `[batch, *input_shape]` to `[batch, n_network_summaries]`.
        theta_fid: Fiducial parameters `θ_fid`, `[n_params]`.
        mean: Mean summary `μ` at the fiducial parameters, `[n_summaries]`. The model's summaries
            stand first and external summaries, if there are any, follow them.
        slope: Slope of the mean, `∂μ/∂θ`, `[n_params, n_summaries]`.
        inverse_covariance: `C⁻¹`, `[n_summaries, n_summaries]`.
        inverse_fisher: `F⁻¹`, `[n_params, n_params]`, the covariance of the estimates.
        input_shape: Shape of one simulation, to check data against, in which `None` is an axis of
            any length; by default that of the model's input.

    Attributes:
        model: As passed.
        dtype: Floating type of the estimates: that of `slope`.
        theta_fid: Fiducial parameters, `[n_params]`, in `dtype`.
        mean: Mean summary, `[n_summaries]`, in `dtype`.
        slope: Slope of the mean, `[n_params, n_summaries]`, in `dtype`.
        inverse_covariance: `C⁻¹`, `[n_summaries, n_summaries]`, in `dtype`.
        inverse_fisher: `F⁻¹`, `[n_params, n_params]`, in `dtype`.
        input_shape: Shape of one simulation, if it is known.

    References:
        Charnock, Lavaux & Wandelt (2018), arXiv:1802.03537.
    """

    def __init__(
        self,
        model: KerasModel,
        *,
        theta_fid: Numbers,
        mean: Numbers,
        slope: Numbers,
        inverse_covariance: Numbers,
        inverse_fisher: Numbers,
        input_shape: Sequence[int | None] | None = None,
    ) -> None:
        self.model = model
        self.slope = tf.convert_to_tensor(slope)
        self.dtype = self.slope.dtype
        self.theta_fid, self.mean, self.inverse_covariance, self.inverse_fisher = (
            tf.cast(part, self.dtype)
            for part in (theta_fid, mean, inverse_covariance, inverse_fisher)
        )
        if input_shape is None and hasattr(model, "input_shape"):
            input_shape = model.input_shape[1:]
        self.input_shape = None if input_shape is None else tuple(input_shape)
        self._compiled = tf.function(self._estimate, autograph=False, reduce_retracing=True)

    def __call__(self, data: Numbers, external: Numbers | None = None) -> tf.Tensor:
        """Estimates parameters from data.

        Args:
            data: Data, `[batch, *input_shape]`, of any real type. Where `input_shape` has two or
                more axes, a last one of length one may be left out or added.
            external: External summaries of the data, `[batch, n_external]`, if the estimator uses
                any.

        Returns:
            Estimates, `[batch, n_params]`.

        Raises:
            TypeError: If the data are not real numbers.
            ValueError: If the data do not have the shape of the model's input, or `external` is
                not what the estimator uses.
        """
        data = _real_tensor("data", data)
        external = None if external is None else _real_tensor("external", external)
        got, want = tuple(data.shape), self.input_shape
        # Keras takes maps without an axis of channels, so a fit may have had either.
        if want and _fits(got, want[:-1]) and len(want) > 1 and want[-1] == 1:
            data = data[..., tf.newaxis]
        elif want and _fits(got[:-1], want) and len(want) > 1 and got[-1] == 1:
            data = data[..., 0]
        elif want is not None and not _fits(got, want):
            raise ValueError(
                f"`data` must have shape (batch, {', '.join(map(str, want))}), got {got}; a single "
                "simulation needs a first axis of length one."
            )
        data = tf.cast(data, self.dtype)
        given = (data,) if external is None else (data, tf.cast(external, self.dtype))
        if not tf.executing_eagerly() or tf.size(data) <= _NUMBERS_AT_ONCE:
            return self._compiled(*given)
        rows = max(1, _NUMBERS_AT_ONCE // int(np.prod(data.shape[1:])))
        parts = [
            self._compiled(*(part[at : at + rows] for part in given))
            for at in range(0, len(data), rows)
        ]
        return tf.concat(parts, axis=0)

    def _estimate(self, data: tf.Tensor, external: tf.Tensor | None = None) -> tf.Tensor:
        summaries = tf.cast(self.model(data, training=False), self.dtype)
        n_external = self.mean.shape[0] - summaries.shape[1]
        if (external is None) != (n_external == 0) or (
            external is not None and external.shape[-1] != n_external
        ):
            expected = f"have shape (batch, {n_external})" if n_external else "be left out"
            got = None if external is None else tuple(external.shape)
            raise ValueError(f"`external` must {expected}, got {got}.")
        if external is not None:
            summaries = tf.concat([summaries, external], axis=1)
        return information.estimate(
            summaries,
            self.theta_fid,
            self.mean,
            self.slope,
            self.inverse_covariance,
            self.inverse_fisher,
        )

    def _facts(self) -> dict[str, str]:
        errors = np.sqrt(np.diag(self.inverse_fisher.numpy()))
        return {
            "parameters": f"{len(errors)} at {display.numbers(self.theta_fid)}",
            "data": f"(batch, {', '.join(map(str, self.input_shape or ['...']))})",
            "summaries": str(self.mean.shape[0]),
            "forecast errors": display.numbers(errors),
        }

    def save_statistics(self, path: str | Path) -> None:
        """Writes everything but the model to an `.npz` file, under the names of the papers."""
        arrays = {name: getattr(self, stored).numpy() for name, stored in STATISTICS.items()}
        checkpoint.write_arrays(Path(path), arrays)

    def save(self, path: str | Path, *, also: Sequence[str] = ()) -> None:
        """Writes the folder that `load` reads.

        Args:
            path: The folder, made if it does not exist.
            also: Names of further files in the folder whose SHA-256 the manifest records.
        """
        checkpoint.write_together(Path(path), self.files, also=also)

    @property
    def files(self) -> dict[str, Callable[[Path], None]]:
        """What writes each of the files that `load` reads, by its name."""
        return {MODEL_FILE: self.model.save, STATISTICS_FILE: self.save_statistics}

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        model: KerasModel | None = None,
        custom_objects: dict[str, Any] | None = None,
    ) -> "Estimator":
        """Reads a saved estimator. It needs neither training data nor an `IMNN`.

        No code in the files is executed. A model with a `Lambda` layer is refused, and so is one
        with a class that is neither part of Keras, nor registered with it, nor passed.

        Args:
            path: The folder: `directory/filename` of the `IMNN` that was saved.
            model: A model that has the weights, used in place of the saved one.
            custom_objects: Classes and functions that the saved model uses, by name.

        Raises:
            FileNotFoundError: If a file is missing.
            CorruptFileError: If a file is damaged.
            TypeError: If the model uses an unknown class.
            ValueError: If the model has a `Lambda` layer.
        """
        folder = Path(path)
        files = checkpoint.read_together(folder, [MODEL_FILE, STATISTICS_FILE])
        if model is None:
            model = _parse_model(folder / MODEL_FILE, files[MODEL_FILE], custom_objects)
        place = folder / STATISTICS_FILE
        stored: dict[str, Any] = checkpoint.parse_arrays(place, files[STATISTICS_FILE])
        missing = [name for name in STATISTICS if name not in stored]
        if missing:
            raise checkpoint.CorruptFileError(f"{place} is damaged: it has no {missing[0]}.")
        return cls(model, **{argument: stored[name] for name, argument in STATISTICS.items()})


def _real_tensor(name: str, value: Numbers) -> tf.Tensor:
    """A tensor of what a user passed; a cast would drop an imaginary part or a mask."""
    if not tf.is_tensor(value):
        return tf.convert_to_tensor(checks.array(name, value, finite=False))
    if not (value.dtype.is_floating or value.dtype.is_integer or value.dtype.is_bool):
        raise TypeError(f"`{name}` must hold real numbers, got a tensor of {value.dtype.name}.")
    return tf.convert_to_tensor(value)


def load_model(
    folder: Path,
    custom_objects: dict[str, Any] | None = None,
    configuration: dict[str, Json] | None = None,
) -> KerasModel:
    """Loads the Keras archive in a folder without executing any code that it holds.

    Args:
        folder: The folder.
        custom_objects: Classes and functions that the model uses, by name.
        configuration: What the model must be. If the archive has another model, the one that is
            returned is made from the configuration, with new weights; by default any.

    Raises:
        FileNotFoundError: If there is no archive.
        CorruptFileError: If it is damaged.
        TypeError: If the model uses an unknown class.
        ValueError: If the model has a `Lambda` layer.
    """
    path = folder / MODEL_FILE
    if not path.exists():
        raise FileNotFoundError(f"There is no saved model at {path}.")
    return _parse_model(path, path.read_bytes(), custom_objects, configuration)


def load_weights(model: KerasModel, path: Path) -> None:
    """Gives a model the weights in a file that Keras wrote, checked against the manifest beside it.

    Raises:
        FileNotFoundError: If there is no such file.
        CorruptFileError: If it is damaged.
        ValueError: If it is of another model.
    """
    content = checkpoint.read_beside(path)
    with tempfile.TemporaryDirectory() as folder:  # Keras reads weights from files alone
        copy = Path(folder) / path.name
        copy.write_bytes(content)
        try:
            model.load_weights(copy)
        except (OSError, KeyError) as error:
            raise checkpoint.CorruptFileError(f"{path} is damaged: {error}.") from error


def require_loadable(model: KerasModel) -> None:
    """Checks that what is saved of a model can be loaded without executing code from a file.

    Raises:
        ValueError: If the model has a `Lambda` layer.
    """
    for layer in getattr(model, "layers", ()):
        if isinstance(layer, keras.layers.Lambda):
            raise ValueError(
                "`model` must not have a `Lambda` layer where it is saved, since no code is loaded "
                f"from files, got the layer {layer.name!r}. Write a subclass of "
                "`keras.layers.Layer`, under `@keras.saving.register_keras_serializable()`."
            )
        require_loadable(layer)


def configuration_of(model: KerasModel) -> dict[str, Json]:
    """The configuration that Keras writes into the archive of a model."""
    with ObjectSharingScope():
        return json.loads(json.dumps(serialize_keras_object(model)))


def _parse_model(
    path: Path,
    content: bytes,
    custom_objects: dict[str, Any] | None,
    configuration: dict[str, Json] | None = None,
) -> KerasModel:
    """Makes the model of a Keras archive, whose path is for the message; see `load_model`."""
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("a part does not have its CRC-32")
            archived = json.loads(archive.read("config.json"))
    except Exception as error:  # zipfile raises errors of a dozen types for damage
        raise checkpoint.CorruptFileError(f"{path} is damaged: {error}.") from error
    # Unlike its argument `safe_mode`, Keras's scope holds after `enable_unsafe_deserialization`.
    with SafeModeScope(True):
        if configuration not in (None, archived):
            with ObjectSharingScope():
                return deserialize_keras_object(configuration, custom_objects, safe_mode=True)
        return saving_lib.load_model(
            BytesIO(content), custom_objects=custom_objects, compile=False, safe_mode=True
        )


def _fits(shape: tuple[int | None, ...], wanted: tuple[int | None, ...]) -> bool:
    """Whether data of a shape are a batch of simulations of the wanted shape.

    Args:
        shape: The shape of the data, in which `None` is a length that is not known yet.
        wanted: The shape of one simulation, in which `None` is an axis of any length.
    """
    return len(shape) == 1 + len(wanted) and all(
        size is None or expected in (None, size)
        for size, expected in zip(shape[1:], wanted, strict=True)
    )
