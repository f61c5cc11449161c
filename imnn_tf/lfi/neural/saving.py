"""A `NeuralPosterior` in a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from imnn_tf.lfi.methods.simulated import Simulated
from imnn_tf.lfi.neural.amortised import State
from imnn_tf.lfi.neural.trained import Trained
from imnn_tf.utils import checkpoint

if TYPE_CHECKING:
    from imnn_tf.lfi.neural_posterior import NeuralPosterior

    Neural = TypeVar("Neural", bound=NeuralPosterior)

_STATE, _DENSITY = "posterior.npz", "density.npz"
_SETTINGS = ("labels", "parameter_names", "seed", "calls", "focus", "trained")

# The number of simulations at which a prior is compared with the one that was saved.
_COMPARED = 100


def save(npe: NeuralPosterior, folder: str | os.PathLike[str]) -> None:
    """Writes what `NeuralPosterior.save` documents."""
    state, trained, files = npe._state, npe._state.trained, {}
    arrays = {
        "data": np.asarray(npe.data),
        "estimate": npe.estimate,
        "parameters": npe.parameters,
        "estimates": npe.estimates,
        "prior": npe.prior.log_prob(npe.parameters[:_COMPARED]),
    }
    settings: dict[str, Any] = {
        "labels": npe.labels,
        "parameter_names": npe.parameter_names,
        "seed": _seed_settings(npe.seed),
        "calls": state.calls,
        "focus": state.focus,
        "trained": None,
    }
    if trained is not None:
        if not hasattr(trained.estimator, "save"):
            raise TypeError(
                "`density_estimator` must have `save` for the posterior to be saved, got a "
                f"{type(trained.estimator).__name__} without it."
            )
        files[_DENSITY] = trained.estimator.save
        settings["trained"] = {"size": trained.size, "seed": _seed_settings(trained.seed)}
        if hasattr(trained.history, "items"):
            arrays |= {f"history/{name}": np.asarray(v) for name, v in trained.history.items()}
    files[_STATE] = lambda path: checkpoint.write_fit(path, arrays, settings)
    checkpoint.write_together(Path(folder), files)


def load(
    cls: type[Neural],
    folder: str | os.PathLike[str],
    prior: Any,
    *,
    density_estimator: Any,
    **arguments: Any,
) -> Neural:
    """Reads what `NeuralPosterior.load` documents."""
    folder = Path(folder)
    checkpoint.read_together(folder, [_STATE])
    arrays, settings = checkpoint.read_fit(folder / _STATE, _SETTINGS)
    npe = cls(
        arrays["data"],
        prior,
        labels=settings["labels"],
        parameter_names=settings["parameter_names"],
        seed=_seed(settings["seed"]),
        density_estimator=density_estimator,
        **arguments,
    )
    _require_alike("get_estimate", npe.estimate, arrays["estimate"])
    simulated = Simulated(arrays["parameters"], arrays["estimates"])
    if (
        simulated.estimates.shape[1] != npe.n_summaries
        or not npe.prior.n_params == (simulated.parameters.shape[1])
    ):
        raise ValueError("`prior` must have as many parameters as the saved one.")
    known = npe.prior.log_prob(simulated.parameters[:_COMPARED])
    _require_alike("prior", known, arrays["prior"])
    npe._state = State(simulated, settings["calls"], focus=settings["focus"])
    if settings["trained"] is not None:
        npe._state.trained = _trained(npe, folder, arrays, settings["trained"])
    return npe


def _trained(
    npe: NeuralPosterior, folder: Path, arrays: dict[str, np.ndarray], settings: dict[str, Any]
) -> Trained:
    """The density of a folder, with the coordinates that its simulations give."""
    checkpoint.read_together(folder, [_DENSITY])
    kind = type(npe._make_estimator())
    if not hasattr(kind, "load"):
        raise TypeError(
            "`density_estimator` must have `load` for the posterior to be read, got a "
            f"{kind.__name__} without it."
        )
    size, prefix = settings["size"], "history/"
    history = {name.removeprefix(prefix): array for name, array in arrays.items() if prefix in name}
    return Trained(
        kind.load(folder / _DENSITY),
        npe.prior,
        Simulated(npe.parameters[:size], npe.estimates[:size]),
        _seed(settings["seed"]),
        history,
    )


def _require_alike(name: str, now: np.ndarray, before: np.ndarray) -> None:
    """Refuses a function whose answers are not those that were saved, up to rounding."""
    scale = np.abs(before[np.isfinite(before)]).max(initial=0.0)
    if now.shape != before.shape or not np.allclose(now, before, rtol=1e-4, atol=1e-5 * scale):
        raise ValueError(
            f"`{name}` must be the one that the posterior was saved with, got other answers: "
            f"{np.ravel(now)[:4].tolist()}, not {np.ravel(before)[:4].tolist()}."
        )


def _seed_settings(seed: np.random.SeedSequence) -> dict[str, Any]:
    return {"entropy": seed.entropy, "spawn_key": list(seed.spawn_key)}


def _seed(settings: dict[str, Any]) -> np.random.SeedSequence:
    return np.random.SeedSequence(settings["entropy"], spawn_key=tuple(settings["spawn_key"]))
