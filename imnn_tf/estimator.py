"""The fitted compression: from data to estimates of the parameters."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from imnn_tf import information
from imnn_tf.utils import checkpoint

MODEL_FILE = "model.keras"
STATISTICS_FILE = "estimator.npz"

# What a pass may hold of the data at once, in numbers; estimates of more come in several.
_NUMBERS_AT_ONCE = 2**25


class Estimator:
    """Quasi-maximum-likelihood estimates `θ̂ = θ_fid + F⁻¹ ∂μ C⁻¹ (f(d) − μ)` of parameters.

    Args:
        model: Keras model `f` from `[batch, *input_shape]` to `[batch, n_summaries]`.
        theta_fid: Fiducial parameters, `[n_params]`.
        mean: Mean summary `μ` at the fiducial parameters, `[n_summaries]`.
        slope: Slope of the mean, `∂μ/∂θ`, `[n_params, n_summaries]`.
        inverse_covariance: `C⁻¹`, `[n_summaries, n_summaries]`.
        inverse_fisher: `F⁻¹`, `[n_params, n_params]`, the covariance of the estimates.
        input_shape: Shape of one simulation, to check data against; what the model says of it if
            left out.

    References:
        Charnock, Lavaux & Wandelt (2018), arXiv:1802.03537.
    """

    def __init__(
        self,
        model: Any,
        *,
        theta_fid: ArrayLike,
        mean: ArrayLike,
        slope: ArrayLike,
        inverse_covariance: ArrayLike,
        inverse_fisher: ArrayLike,
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

    def __call__(self, data: Any, external: Any = None) -> tf.Tensor:
        """Estimates from data.

        Args:
            data: `[batch, *input_shape]`, of any real type.
            external: External summaries of the data, `[batch, n_external]`, if the statistics
                have some behind the model's.

        Returns:
            `[batch, n_params]`.

        Raises:
            ValueError: If the data do not have the shape of the model's input.
        """
        data = tf.convert_to_tensor(data)
        self._check_shape(tuple(data.shape))
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

    def _check_shape(self, got: tuple[int | None, ...]) -> None:
        expected = self.input_shape
        if expected is None or (
            len(got) == 1 + len(expected)
            and all(
                want is None or size in (None, want)
                for want, size in zip(expected, got[1:], strict=True)
            )
        ):
            return
        raise ValueError(
            f"`data` must have shape (batch, {', '.join(map(str, expected))}), got {got}; a single "
            "simulation needs a first axis of length one."
        )

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

    def save_statistics(self, path: str | Path) -> None:
        """Writes all but the model to an `.npz` file, under the names the papers use."""
        checkpoint.write_arrays(
            Path(path),
            {
                "Finv": self.inverse_fisher.numpy(),
                "θ_fid": self.theta_fid.numpy(),
                "dμ_dθ": self.slope.numpy(),
                "Cinv": self.inverse_covariance.numpy(),
                "μ": self.mean.numpy(),
            },
        )

    def save(self, path: str | Path, *, also: Sequence[str] = ()) -> None:
        """Writes the folder that `load` reads: the model as a Keras archive and the statistics.

        Args:
            path: The folder, made if need be.
            also: Names of files already there that the manifest is to cover as well.
        """
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.write_atomically(folder / MODEL_FILE, self.model.save)
        self.save_statistics(folder / STATISTICS_FILE)
        checkpoint.write_manifest(folder, [MODEL_FILE, STATISTICS_FILE, *also])

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        model: Any = None,
        custom_objects: dict[str, Any] | None = None,
    ) -> "Estimator":
        """Reads an estimator back; neither training data nor an `IMNN` are needed.

        Nothing in the files is executed: an archive that holds a `Lambda` layer, or a class that
        is neither Keras's nor registered with it, is refused unless that class is passed.

        Args:
            path: The folder, `directory/filename` of the `IMNN` that was saved.
            model: A model that already has the weights, used in place of the archive.
            custom_objects: Classes and functions of the model, by name.

        Raises:
            FileNotFoundError: If a file is missing.
            CorruptFileError: If a file is not what was written.
        """
        folder = Path(path)
        checkpoint.verify(folder, [MODEL_FILE, STATISTICS_FILE])
        if model is None:
            model = load_model(folder, custom_objects)
        stored = checkpoint.read_arrays(folder / STATISTICS_FILE)
        return cls(
            model,
            theta_fid=stored["θ_fid"],
            mean=stored["μ"],
            slope=stored["dμ_dθ"],
            inverse_covariance=stored["Cinv"],
            inverse_fisher=stored["Finv"],
        )


def load_model(folder: Path, custom_objects: dict[str, Any] | None = None) -> Any:
    """Loads the model's archive in a folder without executing anything that it holds.

    Raises:
        FileNotFoundError: If there is none.
    """
    path = folder / MODEL_FILE
    if not path.exists():
        raise FileNotFoundError(f"There is no saved model at {path}.")
    return keras.saving.load_model(
        path, custom_objects=custom_objects, compile=False, safe_mode=True
    )
