"""Converts what imnn-tf 0.2 saved of a fit into what this version loads.

    python -m imnn_tf.convert OLD_FOLDER NEW_FOLDER

The old folder has a model of Keras 2, which this version cannot load, its weights and the
statistics of the estimator. The new one is read by `imnn_tf.Estimator.load`, whose `model` can be
fitted on.
"""

import argparse
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imnn_tf.utils.backend import quiet_start
from imnn_tf.utils.types import KerasModel

if TYPE_CHECKING:
    from imnn_tf.estimator import Estimator

# How far the summaries of the two models may differ, relative to the largest. Float32 gives 1e-6.
_TOLERANCE = 1e-4


def convert(
    old: str | Path,
    new: str | Path,
    *,
    weight_file: str = "weights",
) -> "Estimator":
    """Converts a saved fit of imnn-tf 0.2, and checks that its network gives the same summaries.

    Version 0.2 saved the model before the fit and its weights after it, so the weights are taken
    from their own file. Keras 2 reads the old folder, which may execute code that a model holds:
    convert only files that you trust.

    Args:
        old: The folder `directory/filename` of version 0.2, with `saved_model.pb`, the weights and
            `estimator.npz`.
        new: The folder to write, made if it does not exist. It must be another one.
        weight_file: What `weight_file` of the old `fit` was, without `.h5`.

    Returns:
        The estimator as `Estimator.load(new)` reads it.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the folders are the same, a statistic is missing, or the model cannot be
            converted. One with layers of your own cannot.
    """
    from imnn_tf.estimator import STATISTICS, STATISTICS_FILE, Estimator

    source, target = Path(old), Path(new)
    if source.resolve() == target.resolve():
        raise ValueError(f"`new` must be another folder than `old`, got {target} twice.")
    weights = source / f"{weight_file}.h5"
    for path in (source / "saved_model.pb", weights, source / STATISTICS_FILE):
        if not path.exists():
            raise FileNotFoundError(f"There is no {path.name} in `old`, {source}.")
    model = _converted(source, weights)
    with np.load(source / STATISTICS_FILE) as stored:
        missing = [name for name in STATISTICS if name not in stored]
        if missing:
            raise ValueError(
                f"`old` must have {missing[0]} in {STATISTICS_FILE}, got {list(stored)}."
            )
        statistics = {argument: stored[name] for name, argument in STATISTICS.items()}
    for name in ("theta_fid", "mean"):
        statistics[name] = statistics[name].ravel()
    Estimator(model, **statistics).save(target)
    return Estimator.load(target)


def _converted(folder: Path, weights: Path) -> KerasModel:
    """The old model with its trained weights, in Keras 3."""
    import keras
    import tf_keras  # Keras 2, which TensorFlow Probability needs too

    model = tf_keras.models.load_model(folder, compile=False)
    model.load_weights(weights)
    with tempfile.TemporaryDirectory() as aside:
        file = Path(aside) / "model.h5"  # the format that both versions of Keras know
        try:
            with warnings.catch_warnings():
                # The format and some arguments of layers are old, which is what this is for.
                warnings.simplefilter("ignore", UserWarning)
                model.save(file, save_format="h5")
                made = keras.models.load_model(file, compile=False)
        except (TypeError, ValueError, NotImplementedError) as error:
            raise ValueError(
                f"`old` has a model that Keras 3 cannot read: {error} Write its layers in Keras 3, "
                "and give them the weights by `set_weights`."
            ) from error
    if not isinstance(made, keras.Sequential):  # Keras 2 wrote a list of one input
        made = keras.Model(made.inputs[0], made.outputs[0], name=made.name)
    shape = [4, *(size or 8 for size in model.input_shape[1:])]
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    before, after = (np.asarray(each(data, training=False)) for each in (model, made))
    difference = np.abs(after - before).max() / (np.abs(before).max() or 1.0)
    if not difference < _TOLERANCE:
        raise ValueError(
            "`old` has a model that Keras 3 reads otherwise: its summaries differ by "
            f"{difference:.1g} of themselves."
        )
    return made


def main() -> None:
    """Converts the folder named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m imnn_tf.convert", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("old", type=Path, help="folder of imnn-tf 0.2: directory/filename")
    parser.add_argument("new", type=Path, help="folder to write")
    parser.add_argument("--weight-file", default="weights", help="name of the weights, without .h5")
    arguments = parser.parse_args()
    with quiet_start():
        import tensorflow  # noqa: F401 - what `convert` imports
    convert(arguments.old, arguments.new, weight_file=arguments.weight_file)


if __name__ == "__main__":
    main()
