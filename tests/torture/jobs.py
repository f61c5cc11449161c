"""Scripts that a user would start again after a kill. Each goes on in the folder that it is given.

TensorFlow is imported inside, because the worker processes of a script import this module too.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Results = dict[str, Any]

TARGET = np.random.default_rng(37).normal(3.0, 1.4, size=(1, 10))
FISHER = np.diag([10.0, 5.0])


def imnn_of(folder: Path, width: int = 8, **changes: Any) -> Any:
    """The IMNN of a folder, loaded if there is a state of it."""
    import keras
    import reference

    from imnn_tf import IMNN

    given: dict[str, Any] = {
        "θ_fid": reference.THETA_FID,
        "δθ": reference.DELTA_THETA,
        "directory": folder,
        "filename": "fit",
        "save": True,
        "load": (folder / "fit" / "fit.npz").exists(),
        "verbose": False,
        **changes,
    }
    if not given["load"]:
        dropout = [keras.layers.Dropout(0.1, seed=1)]
        given["model"] = reference.dense_model(width=width, extra=dropout)
        given["optimiser"] = keras.optimizers.Adam(0.03)
    return IMNN(**given)


def arrays() -> Results:
    """Training and validation simulations."""
    import reference

    given = {}
    for seed, prefix in enumerate(("", "validation_")):
        given[f"{prefix}fiducial"], given[f"{prefix}derivative"] = reference.simulations(seed, 100)
    return given


def results_of(imnn: Any, folder: Path) -> Results:
    """All that a fit found, by the IMNN and by what it saved."""
    from imnn_tf import Estimator

    history = {name: np.array(values) for name, values in imnn.history.items()}
    saved = np.array(Estimator.load(folder / "fit")(TARGET))
    return {**history, "weights": imnn.model.get_weights(), "F": np.array(imnn.F), "saved": saved}


def fit(folder: Path) -> Results:
    """A fit that patience ends, with checkpoints."""
    imnn = imnn_of(folder, **arrays())
    if imnn.unfinished or not imnn.history["loss"]:
        imnn.fit(patience=8, min_iterations=12, checkpoint=3)
    return results_of(imnn, folder)


def simulator(parameters: Any, seed: Any) -> Any:
    """Ten Gaussian draws for each row of parameters."""
    import tensorflow as tf

    noise = tf.random.stateless_normal([tf.shape(parameters)[0], 10], seed, dtype=parameters.dtype)
    return parameters[:, :1] + tf.sqrt(parameters[:, 1:]) * noise


def refinement(folder: Path) -> Results:
    """Fits at three fiducial points, with checkpoints."""
    from imnn_tf import refine

    imnn = imnn_of(folder, n_s=100, simulator=simulator)
    options = {"n_iterations": 12, "checkpoint": 5}
    steps = 3 - len(imnn.history["θ_fid"])
    found = refine(imnn, TARGET, tolerance=1e-9, max_steps=steps, **options)
    return {**results_of(imnn, folder), "estimate": found.estimate, "fisher": found.fisher}


def rim(folder: Path, data: Callable[[], Any], **options: Any) -> Results:
    """A fit of a recurrent inference machine, with a checkpoint after every epoch."""
    import problems

    machine = problems.small_rim(score_preprocessing_method="adam")
    machine.compile(jit_compile=False)
    given = {"batch_size": 8, "learning_rate": 1e-2, "ema_decay": 0.9, "patience": 50, **options}
    history = machine.fit(
        data(),
        epochs=6,
        checkpoints_directory=folder / "rim",
        checkpoints=1,
        seed=5,
        verbose=0,
        **given,
    )
    variables = [np.array(variable) for variable in machine.variables]
    return {"variables": variables, "loss": np.array(history.history["loss"])}


def examples() -> Any:
    """The examples of the RIM as a data set."""
    import problems
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(problems.draw(40, 0))


def rim_arrays(folder: Path) -> Results:
    """A RIM from arrays, in an order of its own in each epoch."""
    import problems

    return rim(folder, lambda: problems.draw(40, 0), shuffle=True)


def rim_examples(folder: Path) -> Results:
    """A RIM from a data set of examples."""
    return rim(folder, examples, shuffle=True)


def rim_stream(folder: Path) -> Results:
    """A RIM from a stream of batches without end, four to an epoch."""
    stream = lambda: examples().batch(8).repeat()  # noqa: E731
    return rim(folder, stream, batch_size=None, n_iterations_in_epoch=4)


def records(folder: Path) -> Results:
    """TFRecord files."""
    from imnn_tf.utils import TFRecords

    def simulation(seed: int) -> np.ndarray:
        return np.random.default_rng(seed).normal(size=(30, 10))

    files = TFRecords(record_size=0.012, verbose=False).write_record(
        60, simulation, directory=folder
    )
    return {path.name: np.frombuffer(path.read_bytes(), np.uint8) for path in files}


def inference(kind: str, folder: Path, workers: int | None, **more: Any) -> Any:
    """An inference from ten Gaussian draws, with a store."""
    import time

    import tensorflow_probability as tfp

    from imnn_tf import lfi

    def draws(parameters: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if workers is not None:
            time.sleep(0.004)
        mean, variance = parameters[:, :1], parameters[:, 1:]
        return rng.normal(mean, np.sqrt(variance), (len(parameters), 10))

    low, high = np.array([-10.0, 0.1]), np.array([10.0, 10.0])
    return getattr(lfi, kind)(
        target_data=TARGET,
        prior=tfp.distributions.Blockwise(
            [tfp.distributions.Uniform(*ends) for ends in zip(low, high, strict=True)]
        ),
        get_estimate=lambda data: np.stack([data.mean(1), data.var(1)], axis=1),
        simulator=draws,
        seed=1,
        progress=False,
        executor=workers,
        batch_size=1,
        store=folder / "store",
        **more,
    )


def rejection(folder: Path, workers: int | None = 2) -> Results:
    """Rejection with two workers."""
    abc = inference("ApproximateBayesianComputation", folder, workers, Fisher=FISHER)
    abc(150)
    return {"parameters": abc.parameters, "estimates": abc.estimates}


def monte_carlo(folder: Path, workers: int | None = 2) -> Results:
    """Population Monte Carlo with two workers."""
    pmc = inference("PopulationMonteCarlo", folder, workers, Fisher=FISHER)
    pmc(draws=30, initial_draws=60, criterion=0.5, percentile=None)
    return {"parameters": pmc.parameters, "weights": pmc.result().weights}


def neural(folder: Path, workers: int | None = 2) -> Results:
    """A neural posterior with two workers."""
    from imnn_tf.lfi.density import Architecture, SplineFlows, TrainingOptions

    flows = SplineFlows(
        architecture=Architecture(transforms=1, width=8),
        training=TrainingOptions(members=2, epochs=20),
    )
    npe = inference("NeuralPosterior", folder, workers, density_estimator=flows)
    npe(150)
    return {"parameters": npe.parameters, "samples": npe.result().samples}


JOBS: dict[str, Callable[[Path], Results]] = {
    "fit": fit,
    "refine": refinement,
    "RIM, arrays": rim_arrays,
    "RIM, examples": rim_examples,
    "RIM, stream": rim_stream,
    "TFRecords": records,
    "rejection": rejection,
    "PMC": monte_carlo,
    "NPE": neural,
}
